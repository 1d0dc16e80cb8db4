//! Journals of older nixvms, in which each step is the sentence that was shown to people.
//!
//! The sentences here are those of that time: never adapt them to today's messages.

use serde::Deserialize;

use super::command::Command;
use super::entry::{Entry, Intent, Recorded};
use super::lock::Holder;
use crate::model::{Connection, PoolName};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Before {
    format: u32,
    holder: HolderBefore,
    #[serde(default)]
    pool: Option<PoolName>,
    #[serde(default)]
    connection: Option<Connection>,
    is_birth: bool,
    only_onward: bool,
    steps: Vec<String>,
    done: usize,
    volumes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HolderBefore {
    pid: u32,
    command: String,
    since: u64,
}

/// Returns `None` where the text is no such journal.
pub(super) fn read(text: &str) -> Option<Entry> {
    let before: Before = serde_json::from_str(text).ok().filter(|before: &Before| before.format == 1)?;
    let HolderBefore { pid, command, since } = before.holder;
    let holder = Holder { pid, command: Command::of_line(&command), since };
    let steps = before.steps.into_iter().map(|title| Recorded { intent: intent(&title), title });
    let mut entry = Entry::new(holder, steps.collect(), before.volumes);
    entry.pool = before.pool;
    entry.connection = before.connection;
    entry.is_birth = before.is_birth;
    entry.only_onward = before.only_onward;
    entry.done = before.done;
    Some(entry)
}

fn intent(title: &str) -> Option<Intent> {
    let number = |text: &str| text.parse().ok();
    if let "start the machine" | "start that generation" = title {
        return Some(Intent::Restart);
    }
    if let Some(generation) = title.strip_prefix("define the domain on generation ") {
        return Some(Intent::Generation(number(generation)?));
    }
    let (top, base) = title.strip_prefix("merge layer ")?.split_once(" into layer ")?;
    Some(Intent::Merge { base: number(base)?, top: number(top)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_of_before_is_read_with_all_that_a_later_command_needs() {
        // As the release before wrote it, line for line.
        let text = r#"{"format":1,"holder":{"pid":7,"command":"delete-snapshot web one","since":12},"pool":"nixvm",
            "connection":"qemu:///system","is_birth":false,"only_onward":true,"steps":["forget the snapshot",
            "merge layer 3 into layer 2","start the machine","start that generation","define the domain on generation 4",
            "define the domain on the new disks"],"done":1,"volumes":["web.data-3.qcow2"]}"#;
        let entry = read(text).unwrap();
        assert_eq!(entry.holder.command, Command::new("delete-snapshot", ["web", "one"]));
        assert_eq!((entry.holder.pid, entry.holder.since, entry.done), (7, 12, 1));
        assert_eq!((entry.is_birth, entry.only_onward), (false, true));
        assert_eq!(entry.pool.unwrap().as_str(), "nixvm");
        assert_eq!(entry.volumes, ["web.data-3.qcow2"]);
        let intents: Vec<_> = entry.steps.iter().map(|step| step.intent).collect();
        assert_eq!(
            intents,
            [
                None,
                Some(Intent::Merge { base: 2, top: 3 }),
                Some(Intent::Restart),
                Some(Intent::Restart),
                Some(Intent::Generation(4)),
                None
            ]
        );
        assert_eq!(entry.steps[0].title, "forget the snapshot");
    }

    #[test]
    fn the_oldest_journals_name_neither_pool_nor_connection() {
        let text = r#"{"format":1,"holder":{"pid":7,"command":"create web","since":1},"is_birth":true,
            "only_onward":false,"steps":["define the domain"],"done":0,"volumes":[]}"#;
        let entry = read(text).unwrap();
        assert!(entry.is_birth && entry.pool.is_none() && entry.connection.is_none());
    }
}
