//! Which machines a command works on: named ones, those that match a glob, those of a profile, or all.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::str::FromStr;

use glob::Pattern;

use crate::config;
use crate::error::{Failure, Result};
use crate::model::{MachineName, ProfileName, quote};
use crate::ops::{self, Call};

use super::input::typed;

/// How many names a hint lists.
const LISTED: usize = 20;

#[derive(Debug, clap::Args)]
pub struct Machines {
    /// Machines: names, globs ('web-*'), or @PROFILE for those of a profile
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    several: Several,
}

// No doc comment, as for every flattened group.
#[derive(Debug, clap::Args)]
pub struct Several {
    /// All machines that this workspace declares
    #[arg(long)]
    all: bool,
    /// Work on N machines at the same time [default: by the cores, and by what the work costs]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

/// As [`Machines`], but without any all are meant.
#[derive(Debug, clap::Args)]
pub struct MachinesOrAll {
    /// Machines: names, globs ('web-*'), or @PROFILE for those of a profile [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Work on N machines at the same time [default: by the cores, and by what the work costs]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

impl MachinesOrAll {
    pub fn all(&self) -> bool {
        self.names.is_empty()
    }

    pub fn select(&self, call: &Call) -> Result<Selection> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let selection = if self.all() { Selection::all(call)? } else { Selection::of(call, &names)? };
        Ok(Selection { jobs: self.jobs, ..selection })
    }
}

impl Machines {
    pub fn select(&self, call: &Call) -> Result<Selection> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        self.several.or_named(call, &names)
    }
}

impl Several {
    pub fn all(&self) -> bool {
        self.all
    }

    /// Returns the machines that the words name, or all.
    pub fn or_named(&self, call: &Call, words: &[&str]) -> Result<Selection> {
        let selection = match (self.all, words) {
            (true, []) => Selection::all(call)?,
            (true, [word, ..]) => {
                return Err(Failure::usage(format!("both `--all` and {} are given", quote(word)))
                    .hint("leave out one of the two")
                    .into());
            }
            (false, []) => {
                return Err(Failure::usage("no machine is named")
                    .hint("give a name, a glob ('web-*'), @PROFILE, or `--all`")
                    .into());
            }
            (false, words) => Selection::of(call, words)?,
        };
        Ok(Selection { jobs: self.jobs, ..selection })
    }

    /// Returns the machines that the first of two words names, and the other word. With `--all`, the only word is the other.
    pub fn before<'a>(
        &self,
        call: &Call,
        name: Option<&'a str>,
        other: Option<&'a str>,
    ) -> Result<(Selection, Option<&'a str>)> {
        let (name, other) = if self.all && other.is_none() { (other, name) } else { (name, other) };
        Ok((self.or_named(call, name.as_slice())?, other))
    }
}

/// One word of the command line that names machines.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Name(MachineName),
    Glob(Pattern),
    Profile(ProfileName),
}

impl FromStr for Word {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        if let Some(profile) = text.strip_prefix('@') {
            return profile.parse().map(Word::Profile).map_err(Failure::typed);
        }
        if !text.contains(['*', '?', '[']) {
            return text.parse().map(Word::Name).map_err(Failure::typed);
        }
        Pattern::new(text).map(Word::Glob).map_err(|error| {
            Failure::usage(format!("{} is not a glob: {}", quote(text), error.msg))
                .hint("`*` stands for any letters, `?` for one, `[ab]` for one of them")
        })
    }
}

/// The machines that a command works on: at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those that were named: somebody expects each of them to exist.
    named: BTreeSet<MachineName>,
    /// Those that a glob, a profile or `--all` stands for.
    found: BTreeSet<MachineName>,
    /// How many are worked on at the same time, if somebody said so.
    jobs: Option<NonZeroUsize>,
}

impl Selection {
    /// Returns the machines that the words name.
    pub fn of(call: &Call, words: &[&str]) -> Result<Self> {
        let words: Vec<Word> = words.iter().map(|word| typed(word.parse())).collect::<Result<_>>()?;
        let mut selection = Selection::default();
        for word in words {
            match word {
                Word::Name(name) => {
                    selection.named.insert(name);
                }
                Word::Glob(pattern) => selection.found.extend(matching(&pattern, &declared(call)?)?),
                Word::Profile(profile) => {
                    selection.found.extend(of_profile(&profile, &with_profiles(call)?)?);
                }
            }
        }
        selection.found.retain(|name| !selection.named.contains(name));
        Ok(selection)
    }

    fn all(call: &Call) -> Result<Self> {
        let declared = declared(call)?;
        if declared.is_empty() {
            return Err(nothing("this workspace declares no machine", &declared).into());
        }
        Ok(Selection { found: declared.into_iter().collect(), ..Selection::default() })
    }

    /// Returns the only machine, if it was named: the result is that of one machine then, and no list.
    pub fn only(&self) -> Option<&MachineName> {
        self.named.first().filter(|_| self.named.len() == 1 && self.found.is_empty())
    }

    pub fn named(&self) -> &BTreeSet<MachineName> {
        &self.named
    }

    pub fn jobs(&self) -> Option<NonZeroUsize> {
        self.jobs
    }

    pub fn len(&self) -> usize {
        self.named.len() + self.found.len()
    }

    /// Leaves out those that a pattern stands for and that do not satisfy the condition.
    pub fn retain_found(&mut self, mut condition: impl FnMut(&MachineName) -> Result<bool>) -> Result<()> {
        for name in std::mem::take(&mut self.found) {
            if condition(&name)? {
                self.found.insert(name);
            }
        }
        Ok(())
    }

    /// Returns all of them, sorted.
    pub fn names(&self) -> BTreeSet<MachineName> {
        self.named.union(&self.found).cloned().collect()
    }
}

fn declared(call: &Call) -> Result<Vec<MachineName>> {
    ops::declared(call.host())
}

/// Returns every machine with its profile. One whose files are wrong is an error: it may be meant.
fn with_profiles(call: &Call) -> Result<Vec<(MachineName, ProfileName)>> {
    let profile = |name: MachineName| {
        let declared = config::declared(&call.host().workspace, &name)?;
        Ok((name, declared.profile.unwrap_or_default()))
    };
    declared(call)?.into_iter().map(profile).collect()
}

fn matching(pattern: &Pattern, declared: &[MachineName]) -> Result<Vec<MachineName>, Failure> {
    let found: Vec<MachineName> =
        declared.iter().filter(|name| pattern.matches(name.as_str())).cloned().collect();
    if found.is_empty() {
        return Err(nothing(&format!("no machine matches {}", quote(pattern.as_str())), declared));
    }
    Ok(found)
}

fn of_profile(
    wanted: &ProfileName,
    declared: &[(MachineName, ProfileName)],
) -> Result<Vec<MachineName>, Failure> {
    let found: Vec<MachineName> =
        declared.iter().filter(|(_, profile)| profile == wanted).map(|(name, _)| name.clone()).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let failure = Failure::usage(format!("no machine has the profile `{wanted}`; nothing was changed"));
    let profiles: BTreeSet<&str> = declared.iter().map(|(_, profile)| profile.as_str()).collect();
    Err(failure.hint(match profiles.len() {
        0 => NO_MACHINES.to_owned(),
        _ => format!("the machines' profiles are {}", listed(profiles)),
    }))
}

const NO_MACHINES: &str = "there are no machines yet; `nixvm create NAME` makes one";

fn nothing(message: &str, declared: &[MachineName]) -> Failure {
    let hint = match declared {
        [] => NO_MACHINES.to_owned(),
        some => format!("the machines are {}", listed(some.iter().map(MachineName::as_str))),
    };
    Failure::usage(format!("{message}; nothing was changed")).hint(hint)
}

/// Returns the names in one line, cut where there are many.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.len().saturating_sub(LISTED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..LISTED].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    fn names(names: &[&str]) -> Vec<MachineName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_word_is_a_name_unless_it_says_otherwise() {
        let word = |text: &str| text.parse::<Word>().unwrap();
        assert_eq!(word("web-1"), Word::Name("web-1".parse().unwrap()));
        assert_eq!(word("web-*"), Word::Glob(Pattern::new("web-*").unwrap()));
        assert_eq!(word("@core"), Word::Profile("core".parse().unwrap()));
        for wrong in ["", "Web", "@", "@Core", "web-[", "a b", "***"] {
            let report = Report::of(&wrong.parse::<Word>().unwrap_err().into());
            assert_eq!((report.exit_code, report.hints.len()), (2, 1), "{wrong:?}: {report:?}");
        }
    }

    #[test]
    fn a_glob_finds_whole_names_and_says_what_there_is() {
        let declared = names(&["db", "web-1", "web-10", "web-2"]);
        let found = |glob: &str| matching(&Pattern::new(glob).unwrap(), &declared);
        assert_eq!(found("web-?").unwrap(), names(&["web-1", "web-2"]));
        assert_eq!(found("*").unwrap(), declared);
        assert_eq!(found("[dw]*").unwrap(), declared);
        let report = Report::of(&found("we?").unwrap_err().into());
        assert_eq!(report.error, "no machine matches `we?`; nothing was changed");
        assert_eq!(report.hints, ["the machines are db, web-1, web-10, web-2"]);
        let none = Report::of(&matching(&Pattern::new("*").unwrap(), &[]).unwrap_err().into());
        assert!(none.hints[0].contains("nixvm create"), "{none:?}");
    }

    #[test]
    fn a_profile_finds_its_machines_and_says_which_profiles_there_are() {
        let core: ProfileName = "core".parse().unwrap();
        let docker: ProfileName = "docker".parse().unwrap();
        let declared: Vec<_> =
            names(&["db", "web"]).into_iter().zip([docker.clone(), core.clone()]).collect();
        assert_eq!(of_profile(&core, &declared).unwrap(), names(&["web"]));
        let report = Report::of(&of_profile(&"dev".parse().unwrap(), &declared).unwrap_err().into());
        assert_eq!(report.hints, ["the machines' profiles are core, docker"]);
    }

    #[test]
    fn a_long_list_is_cut() {
        let many: Vec<String> = (0..23).map(|number| format!("m{number}")).collect();
        let text = listed(many.iter().map(String::as_str));
        assert!(text.ends_with("m19 and 3 more"), "{text}");
        assert_eq!(listed(["a", "b"]), "a, b");
    }
}
