//! Whether libvirt starts a machine together with its host: as the machine's files say, whatever happens to its domain.

use crate::config::{self, Workspace};
use crate::error::Result;
use crate::host::Watch;
use crate::hypervisor::{Hypervisor, Owned};
use crate::model::MachineName;

#[derive(Debug, PartialEq, Eq)]
enum Settlement {
    Nothing,
    /// Somebody told libvirt, and the files do not say: theirs is the machine's value from now on.
    Record,
    Tell(bool),
}

/// Returns what brings the files and the domain together.
fn settlement(declared: Option<bool>, domain: bool) -> Settlement {
    match declared {
        None if domain => Settlement::Record,
        Some(wanted) if wanted != domain => Settlement::Tell(wanted),
        _ => Settlement::Nothing,
    }
}

/// Brings a domain's autostart to what the machine's files say; where they say nothing, writes down what `virsh autostart` set.
pub(super) fn settle(workspace: &Workspace, domain: &Owned, watch: &dyn Watch) -> Result<()> {
    let name = domain.name();
    match settlement(config::autostart(workspace, name)?, domain.autostart()?) {
        Settlement::Nothing => {}
        Settlement::Record => {
            if config::record_autostart(workspace, name)? {
                watch.note(&format!(
                    "libvirt was told by hand to start {name} with its host; machines/{name}/autostart says so from now on"
                ));
            }
        }
        Settlement::Tell(wanted) => {
            domain.set_autostart(wanted)?;
            let (now, says) = if wanted { ("starts", "yes") } else { ("no longer starts", "no") };
            watch.note(&format!("{name} {now} with its host, as machines/{name}/autostart says `{says}`"));
        }
    }
    Ok(())
}

/// Tells what starting with the host means where libvirt is a user's own.
pub fn note_session(host: &Hypervisor, name: &MachineName, watch: &dyn Watch) {
    if host.is_session() {
        watch.note(&format!(
            "`{}` runs only for you: {name} starts with it, at your first command after a login, and not with the host",
            host.uri()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_decides_and_what_was_set_by_hand_before_is_kept() {
        let settled = |declared, domain| settlement(declared, domain);
        assert_eq!(settled(None, false), Settlement::Nothing);
        assert_eq!(settled(None, true), Settlement::Record);
        for (wanted, domain) in [(true, true), (false, false)] {
            assert_eq!(settled(Some(wanted), domain), Settlement::Nothing);
        }
        for wanted in [true, false] {
            assert_eq!(settled(Some(wanted), !wanted), Settlement::Tell(wanted));
        }
    }
}
