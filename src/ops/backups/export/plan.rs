//! The steps of an export.

use crate::work::Plan;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Copy the data of a running machine, as it is at one instant, into that volume.
    Copy(String),
    /// Write the image of the data disk, from that volume.
    Data(String),
    Delete(String),
    /// Write the image of the system, from that volume.
    System(String),
    /// Write the identity and the script, and give the folder its name.
    Finish,
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::Copy(_) => "copy the data",
            Step::Data(_) => "write the image of the data disk",
            Step::Delete(_) => "delete the copy",
            Step::System(_) => "write the image of the system",
            Step::Finish => "complete the folder",
        }
        .into()
    }

    fn volumes(&self) -> Vec<String> {
        match self {
            Step::Copy(volume) => vec![volume.clone()],
            // The machine's own volumes must never be listed here: these are deleted after an interruption.
            Step::Data(_) | Step::Delete(_) | Step::System(_) | Step::Finish => Vec::new(),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The machine's volumes: its system, and what it writes its data to.
    pub(super) boot: String,
    pub(super) data: String,
    /// The volume for a copy of the data, if the machine runs.
    pub(super) copy: Option<String>,
}

pub(super) fn plan(facts: &Facts) -> Vec<Step> {
    let Facts { boot, data, copy } = facts.clone();
    let data = match copy {
        None => vec![Step::Data(data)],
        Some(copy) => vec![Step::Copy(copy.clone()), Step::Data(copy.clone()), Step::Delete(copy)],
    };
    data.into_iter().chain([Step::System(boot), Step::Finish]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_copy_is_ever_deleted() {
        let off = Facts { boot: "web.boot-1.qcow2".into(), data: "web.data-1.qcow2".into(), copy: None };
        let end = || [Step::System("web.boot-1.qcow2".into()), Step::Finish];
        let steps = plan(&off);
        assert_eq!(steps[..1], [Step::Data("web.data-1.qcow2".into())]);
        assert_eq!(steps[1..], end());
        assert_eq!(steps.iter().flat_map(Step::volumes).count(), 0);
        let copy = || "web.backup.qcow2".to_owned();
        let steps = plan(&Facts { copy: Some(copy()), ..off });
        assert_eq!(steps[..3], [Step::Copy(copy()), Step::Data(copy()), Step::Delete(copy())]);
        assert_eq!(steps[3..], end());
        assert_eq!(steps.iter().flat_map(Step::volumes).collect::<Vec<_>>(), [copy()]);
    }
}
