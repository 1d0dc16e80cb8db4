//! Nix's `internal-json` log: what is being built and fetched, as it happens.
//!
//! Each line is `@nix ` and a JSON object. Source of the numbers:
//! `ActivityType` and `ResultType` in Nix's `src/libutil/logging.hh`.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

pub const MARK: &str = "@nix ";

const COPY_PATH: u64 = 100;
const FILE_TRANSFER: u64 = 101;
const BUILDS: u64 = 104;
const BUILD: u64 = 105;

const BUILD_LOG_LINE: u64 = 101;
const PROGRESS: u64 = 105;

/// Nix's verbosity level up to which messages are shown: errors and warnings.
const WARNING: u64 = 1;

/// Something that Nix reports; `id` is Nix's number of an activity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Start {
        id: u64,
        activity: Activity,
    },
    Stop {
        id: u64,
    },
    Done {
        id: u64,
        /// Units done: derivations or bytes.
        done: u64,
        /// Units in all, as far as Nix knows by now.
        expected: u64,
    },
    BuildLine(String),
    Message {
        /// 0 is an error, 1 a warning, more is talk.
        level: u64,
        /// The text, without colours.
        text: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activity {
    /// One derivation, named without its hash.
    Build(String),
    /// The whole build; its progress counts derivations.
    Builds,
    /// A download or copy; its progress counts bytes.
    Fetch,
    Other,
}

impl Event {
    /// Returns a message to the user from nixvm's own builders and modules: a line of a builder that begins with `nixvm: `, or a
    /// warning that does.
    pub fn told(&self) -> Option<&str> {
        let text = match self {
            Event::BuildLine(text) => text,
            // `builtins.warn`, and what older versions of Nix have in its place.
            Event::Message { text, .. } => ["evaluation warning: ", "trace: warning: "]
                .iter()
                .find_map(|mark| text.strip_prefix(mark))?,
            _ => return None,
        };
        text.strip_prefix("nixvm: ")
    }

    /// Returns the text of this event that could explain a failure.
    pub fn worth_keeping(&self) -> Option<String> {
        match self {
            Event::Message { level: 0..=WARNING, text } | Event::BuildLine(text) => Some(text.clone()),
            _ => None,
        }
    }
}

/// Parses a line of Nix's standard error; `None` for lines not in the format, and for events that nixvm does not use.
pub fn parse(line: &str) -> Option<Event> {
    let object: Value = serde_json::from_str(line.strip_prefix(MARK)?).ok()?;
    let number = |key: &str| object[key].as_u64();
    let field = |i: usize| &object["fields"][i];
    match object["action"].as_str()? {
        "start" => {
            Some(Event::Start { id: number("id")?, activity: activity(number("type")?, field(0).as_str()) })
        }
        "stop" => Some(Event::Stop { id: number("id")? }),
        "result" => match number("type")? {
            BUILD_LOG_LINE => Some(Event::BuildLine(plain(field(0).as_str()?))),
            PROGRESS => Some(Event::Done {
                id: number("id")?,
                done: field(0).as_u64()?,
                expected: field(1).as_u64()?,
            }),
            _ => None,
        },
        "msg" => {
            let text = plain(object["msg"].as_str()?);
            // nixvm overrides inputs and keeps the lock as it is, so this warning would come with every build.
            (!text.contains("not writing modified lock file"))
                .then_some(Event::Message { level: number("level")?, text })
        }
        _ => None,
    }
}

fn activity(kind: u64, subject: Option<&str>) -> Activity {
    match kind {
        BUILD => Activity::Build(derivation_name(subject.unwrap_or("a derivation"))),
        BUILDS => Activity::Builds,
        COPY_PATH | FILE_TRANSFER => Activity::Fetch,
        _ => Activity::Other,
    }
}

/// Returns `nixvm-web` for `/nix/store/c2r7dddj70cs2sd27776cspkn6h62xid-nixvm-web.drv`.
fn derivation_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let name = file.split_once('-').map_or(file, |(_, name)| name);
    name.strip_suffix(".drv").unwrap_or(name).to_owned()
}

fn plain(text: &str) -> String {
    console::strip_ansi_codes(text).into_owned()
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildProgress {
    pub built: u64,
    pub to_build: u64,
    /// In bytes.
    pub fetched: u64,
    pub building: Vec<String>,
    activities: HashMap<u64, Activity>,
    transfers: BTreeMap<u64, u64>,
}

impl BuildProgress {
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Start { id, activity } => {
                if let Activity::Build(name) = activity {
                    self.building.push(name.clone());
                }
                self.activities.insert(*id, activity.clone());
            }
            Event::Stop { id } => {
                if let Some(Activity::Build(name)) = self.activities.remove(id)
                    && let Some(at) = self.building.iter().position(|b| *b == name)
                {
                    self.building.remove(at);
                }
            }
            Event::Done { id, done, expected } => match self.activities.get(id) {
                Some(Activity::Builds) => (self.built, self.to_build) = (*done, *expected),
                Some(Activity::Fetch) => {
                    self.transfers.insert(*id, *done);
                    self.fetched = self.transfers.values().sum();
                }
                _ => {}
            },
            Event::BuildLine(_) | Event::Message { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of Nix 2.26.3 building one derivation that fails.
    const LOG: &str = r#"@nix {"action":"start","id":1,"level":6,"parent":0,"text":"querying info about missing paths","type":0}
@nix {"action":"stop","id":1}
@nix {"action":"msg","level":3,"msg":"this derivation will be built:"}
@nix {"action":"start","id":3,"level":0,"parent":0,"text":"","type":104}
@nix {"action":"start","fields":["/nix/store/c2r7dddj70cs2sd27776cspkn6h62xid-nixvm-web.drv","",1,1],"id":5,"level":3,"parent":0,"text":"building","type":105}
@nix {"action":"result","fields":[0,1,1,0],"id":3,"type":105}
@nix {"action":"result","fields":["hi"],"id":5,"type":101}"#;

    #[test]
    fn only_what_begins_with_nixvms_name_is_for_whoever_waits() {
        let line = |text: &str| Event::BuildLine(text.to_owned());
        assert_eq!(line("nixvm: no root").told(), Some("no root"));
        assert_eq!((line("warning: nixvm: x").told(), line("nixvm-base> x").told()), (None, None));
        let message = |text: &str| Event::Message { level: 0, text: text.to_owned() };
        for warning in ["evaluation warning: nixvm: core reads x", "trace: warning: nixvm: core reads x"] {
            assert_eq!(message(warning).told(), Some("core reads x"));
        }
        assert_eq!((message("nixvm: x").told(), message("evaluation warning: x").told()), (None, None));
    }

    #[test]
    fn a_real_log_gives_what_is_built_and_how_far_it_is() {
        let mut progress = BuildProgress::default();
        let events: Vec<Event> = LOG.lines().filter_map(parse).collect();
        events.iter().for_each(|event| progress.take(event));
        assert_eq!(
            (progress.built, progress.to_build, progress.building.as_slice()),
            (0, 1, ["nixvm-web".to_string()].as_slice())
        );
        assert_eq!(events.last(), Some(&Event::BuildLine("hi".into())));
        progress.take(&Event::Stop { id: 5 });
        assert!(progress.building.is_empty());
    }

    #[test]
    fn an_error_is_kept_without_its_colours_and_talk_is_not() {
        let error = parse(
            "@nix {\"action\":\"msg\",\"level\":0,\"msg\":\"\\u001b[31;1merror:\\u001b[0m builder failed\"}",
        )
        .unwrap();
        assert_eq!(error.worth_keeping().as_deref(), Some("error: builder failed"));
        let talk =
            parse(r#"@nix {"action":"msg","level":3,"msg":"this derivation will be built:"}"#).unwrap();
        assert_eq!(talk.worth_keeping(), None);
    }

    #[test]
    fn foreign_and_broken_lines_are_no_events() {
        for line in ["warning: Git tree is dirty", "@nix {", "@nix []", "@nix {\"action\":\"start\"}", ""] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn bytes_of_several_transfers_add_up() {
        let mut progress = BuildProgress::default();
        for id in [1, 2] {
            progress.take(&Event::Start { id, activity: Activity::Fetch });
            progress.take(&Event::Done { id, done: 10, expected: 20 });
            progress.take(&Event::Stop { id });
        }
        assert_eq!(progress.fetched, 20);
    }
}
