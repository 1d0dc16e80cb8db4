//! How a machine gets back to its own volumes with everything that it has written since.

use crate::error::Failure;
use crate::exec::quoted;
use crate::model::domain::DomainState;
use crate::model::uri::is_session;

use super::stray::Stray;

impl Stray {
    pub(super) fn refusal(&self) -> Failure {
        let Stray { machine, target, image, snapshots, .. } = self;
        let because = match (snapshots.as_slice(), &self.base) {
            ([], None) => "somebody changed the machine's definition".to_owned(),
            ([], Some(_)) => {
                "another tool took a snapshot, and the machine has written to that file since".into()
            }
            (some, _) => format!(
                "another tool took {}, and the machine has written to that file since",
                each(some, |snapshot| format!("the snapshot {snapshot}"))
            ),
        };
        let failure = Failure::user(format!(
            "the disk {target} of {machine} is `{image}`, which is not nixvm's; nothing was changed"
        ));
        failure.hint(self.hint()).because(Failure::user(because))
    }

    /// Tried with libvirt 9.0: `snapshot-delete` of an external snapshot merges it into the layer below and no further, and so
    /// does `blockcommit` with `--base`. Without that, `blockcommit` goes down to the lowest layer, through all snapshots.
    fn hint(&self) -> String {
        let Stray { machine: name, target, image, base, gives_up, state, confined, snapshots, .. } = self;
        let (uri, file) = (quoted(&self.uri), quoted(image));
        let virsh = format!("virsh -c {uri}");
        let delete = |options: &str| {
            each(snapshots, |snapshot| format!("`{virsh} snapshot-delete {name} {snapshot}{options}`"))
        };
        let Some(base) = base.as_deref().map(quoted) else {
            return format!(
                "if `qemu-img info --backing-chain {file}` shows that it lies on a volume of {name}, merge it into that volume while \
                 the machine runs: `{virsh} blockcommit {name} {target} --active --pivot --shallow`. If it does not, and holds \
                 nothing that you need, give {target} its volume again: `{virsh} edit {name}`"
            );
        };
        if *state == DomainState::Saved {
            return format!(
                "the machine is saved, and its memory fits only this file: resume it with `{virsh} start {name}`, and run the command again"
            );
        }
        let into = match gives_up {
            None => "the volume below, which loses nothing".to_owned(),
            Some(snapshot) => format!(
                "the volume below, which keeps the machine's present data and gives up its snapshot {snapshot}"
            ),
        };
        let runs = state.is_active();
        // AppArmor forbids a newly started QEMU to write to the files that its disk lies on.
        if !snapshots.is_empty() && (runs || !confined) {
            let otherwise = if *confined {
                format!(" (if AppArmor forbids that: `nixvm stop {name}`, and run the command again)")
            } else {
                String::new()
            };
            return format!("merge it into {into}, and run the command again: {}{otherwise}", delete(""));
        }
        if runs {
            return format!(
                "merge it into {into}, and run the command again: \
                 `{virsh} blockcommit {name} {target} --active --pivot --base {base}`"
            );
        }
        let forget = if snapshots.is_empty() {
            String::new()
        } else {
            format!("; then delete libvirt's record: {}", delete(" --metadata"))
        };
        let root = if is_session(&self.uri) { "" } else { ", as root," };
        format!(
            "merge it on its host{root} into {into}: `qemu-img commit -b {base} {file}`; then replace {file} by {base} in the \
             definition: `{virsh} edit {name}`{forget}; and run the command again"
        )
    }
}

/// Returns the text that `say` makes of each name, quoted for a shell, in one sentence.
pub(super) fn each(names: &[String], say: impl Fn(&str) -> String) -> String {
    names.iter().map(|name| say(&quoted(name))).collect::<Vec<_>>().join(", then ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    fn hint(base: Option<&str>, snapshots: &[&str], state: DomainState, confined: bool) -> String {
        let stray = Stray {
            machine: "web".parse().unwrap(),
            uri: "qemu:///system".into(),
            state,
            confined,
            snapshots: snapshots.iter().map(|name| (*name).to_owned()).collect(),
            target: "vdb".into(),
            image: "/p/web.data-2.s".into(),
            base: base.map(str::to_owned),
            gives_up: None,
        };
        Report::of(&stray.refusal().into()).hints.concat()
    }

    #[test]
    fn the_way_back_to_the_layer_keeps_what_was_written_and_stops_at_that_layer() {
        const BASE: Option<&str> = Some("/p/web.data-2.qcow2");
        let (on, off) = (DomainState::Running, DomainState::Shutoff);
        let libvirt = "`virsh -c qemu:///system snapshot-delete web 'by hand'`, then `virsh -c qemu:///system snapshot-delete web s2`";
        for (state, confined) in [(on, false), (on, true), (off, false)] {
            let hint = hint(BASE, &["by hand", "s2"], state, confined);
            assert!(hint.contains(libvirt) && hint.contains("nixvm stop web") == confined, "{hint}");
        }
        let commit =
            "`virsh -c qemu:///system blockcommit web vdb --active --pivot --base /p/web.data-2.qcow2`";
        assert!(hint(BASE, &[], on, true).ends_with(commit));
        let qemu = "`qemu-img commit -b /p/web.data-2.qcow2 /p/web.data-2.s`";
        assert!(hint(BASE, &[], off, false).contains(qemu));
        let confined = hint(BASE, &["s"], off, true);
        assert!(
            confined.contains(qemu) && confined.contains("snapshot-delete web s --metadata"),
            "{confined}"
        );
        assert!(hint(None, &["s"], on, false).contains("--shallow"));
        assert!(
            hint(BASE, &["s"], DomainState::Saved, false).contains("`virsh -c qemu:///system start web`")
        );
    }
}
