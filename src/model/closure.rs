//! The contents of a system, and the difference to another one.
//!
//! Store paths are grouped into packages and versions as in `nix store diff-closures` (Nix's `src/nix/diff-closures.cc`), so
//! that both report the same difference.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::quote;
use super::text::public_text;
use crate::error::Failure;

const STORE: &str = "/nix/store/";

/// Length and alphabet of a store path's hash: Nix's own base 32.
const HASH: usize = 32;
const DIGITS: &[u8] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Between equal versions, smaller differences in size (in bytes) do not count: 8 KiB, as in Nix.
const NOTABLE: u64 = 8 * 1024;

/// A path in Nix's store, such as `/nix/store/…-bash-5.2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(String);

public_text!(StorePath);

impl StorePath {
    fn check(text: &str) -> Result<(), Failure> {
        let parts = text.strip_prefix(STORE).and_then(|base| base.split_once('-'));
        // The characters that Nix allows (`checkName` in its src/libstore/path.cc).
        let named = |b: u8| b.is_ascii_alphanumeric() || b"+-._?=".contains(&b);
        if parts.is_some_and(|(hash, name)| {
            hash.len() == HASH
                && hash.bytes().all(|b| DIGITS.contains(&b))
                && !name.is_empty()
                && name.bytes().all(named)
        }) {
            return Ok(());
        }
        Err(Failure::user(format!("{} is no store path", quote(text)))
            .hint("one is `/nix/store/`, 32 characters, a `-` and a name"))
    }

    /// Returns the package's name and its version, empty where it has none.
    ///
    /// An output's name is dropped: `openssl-3.0.15-dev` is `openssl` of version `3.0.15`. It cannot be told from the last
    /// word of a version.
    pub fn package(&self) -> (&str, &str) {
        let name = &self.0[STORE.len() + HASH + 1..];
        let name = match name.rsplit_once('-') {
            Some((rest, output)) if is_output(output) => rest,
            _ => name,
        };
        // `DrvName` in Nix's src/libstore/names.cc: the version begins after the first dash that no letter follows.
        let dash = name
            .bytes()
            .zip(name.bytes().skip(1))
            .position(|(dash, next)| dash == b'-' && !next.is_ascii_alphabetic());
        match dash {
            Some(dash) => (&name[..dash], &name[dash + 1..]),
            None => (name, ""),
        }
    }
}

fn is_output(word: &str) -> bool {
    matches!(word, "lib32" | "lib64") || !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase())
}

/// All store paths of a system, and its kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closure {
    pub kernel: String,
    /// Each path with the bytes of its archive (NAR).
    pub paths: BTreeMap<StorePath, u64>,
    /// The unit files below `/etc/systemd/system`, each with its SHA-256; `None` where they were not recorded.
    pub units: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    Added,
    Removed,
    /// In version or size.
    Changed,
}

/// A package that differs between two systems.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    pub package: String,
    pub kind: ChangeKind,
    /// Versions, sorted as text; one may be empty.
    pub before: Vec<String>,
    pub after: Vec<String>,
    /// The growth of all its paths together.
    pub bytes: i64,
}

#[derive(Default, PartialEq, Eq)]
struct Package<'a> {
    versions: BTreeSet<&'a str>,
    bytes: u64,
}

impl Closure {
    /// Returns the packages in which `other`, the later system, differs from this one, sorted by name.
    ///
    /// A rebuilt package counts if its size changed by 8 KiB or more: a new compiler or library changes the hashes of
    /// everything built with it.
    pub fn diff(&self, other: &Closure) -> Vec<PackageChange> {
        let (before, after) = (self.packages(), other.packages());
        let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
        let none = Package::default();
        let change = |name: &str| {
            let (old, new) = (before.get(name).unwrap_or(&none), after.get(name).unwrap_or(&none));
            if old.versions == new.versions && old.bytes.abs_diff(new.bytes) < NOTABLE {
                return None;
            }
            let kind = match (old.versions.is_empty(), new.versions.is_empty()) {
                (true, _) => ChangeKind::Added,
                (_, true) => ChangeKind::Removed,
                _ => ChangeKind::Changed,
            };
            let list = |package: &Package| package.versions.iter().map(ToString::to_string).collect();
            Some(PackageChange {
                package: name.to_owned(),
                kind,
                before: list(old),
                after: list(new),
                bytes: difference(old.bytes, new.bytes),
            })
        };
        names.into_iter().filter_map(change).collect()
    }

    fn packages(&self) -> BTreeMap<&str, Package<'_>> {
        let mut packages: BTreeMap<&str, Package> = BTreeMap::new();
        for (path, bytes) in &self.paths {
            let (name, version) = path.package();
            let package = packages.entry(name).or_default();
            package.versions.insert(version);
            package.bytes = package.bytes.saturating_add(*bytes);
        }
        packages
    }
}

fn difference(before: u64, after: u64) -> i64 {
    let size = i64::try_from(before.abs_diff(after)).unwrap_or(i64::MAX);
    if after < before { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::ChangeKind::{Added, Changed, Removed};
    use super::*;
    use crate::error::Report;

    fn path(digit: char, name: &str) -> StorePath {
        format!("{STORE}{}-{name}", digit.to_string().repeat(HASH)).parse().unwrap()
    }

    fn closure(paths: &[(char, &str, u64)]) -> Closure {
        let paths = paths.iter().map(|(digit, name, bytes)| (path(*digit, name), *bytes)).collect();
        Closure { kernel: "6.12.1".to_owned(), paths, units: None }
    }

    fn change(package: &str, kind: ChangeKind, before: &[&str], after: &[&str], bytes: i64) -> PackageChange {
        let list = |versions: &[&str]| versions.iter().map(ToString::to_string).collect();
        PackageChange { package: package.to_owned(), kind, before: list(before), after: list(after), bytes }
    }

    #[test]
    fn names_fall_apart_as_in_nix() {
        for (name, package, version) in [
            ("bash-5.2p37", "bash", "5.2p37"),
            ("bash-interactive-5.2p37", "bash-interactive", "5.2p37"),
            ("openssl-3.0.15-dev", "openssl", "3.0.15"),
            ("gcc-13.3.0-lib", "gcc", "13.3.0"),
            ("mesa-24.1-lib32", "mesa", "24.1"),
            ("mesa-24.1-lib2", "mesa", "24.1-lib2"),
            ("glibc-2.40-66", "glibc", "2.40-66"),
            ("hello-unstable-2024-01-01", "hello-unstable", "2024-01-01"),
            ("tool-0-unstable", "tool", "0"),
            ("perl5.40.0-Foo-1.2", "perl5.40.0-Foo", "1.2"),
            ("libfoo-_1", "libfoo", "_1"),
            ("unit-sshd.service", "unit-sshd.service", ""),
            ("system-path", "system", ""),
            ("etc", "etc", ""),
            ("trailing-", "trailing-", ""),
        ] {
            assert_eq!(path('0', name).package(), (package, version), "{name}");
        }
    }

    #[test]
    fn what_is_no_store_path_is_refused() {
        let good = format!("{STORE}{}-x", "0".repeat(32));
        assert_eq!(good.parse::<StorePath>().unwrap().as_str(), good);
        for bad in [
            "",
            "bash-5.2",
            STORE,
            &good.replace("/nix", "/gnu"),
            &good.replace('0', "e"),
            &good.replacen('0', "", 1),
            &good[..good.len() - 1],
            &format!("{good}/bin"),
            &format!("{good} "),
            &format!("{good}é"),
        ] {
            let report = Report::of(&bad.parse::<StorePath>().unwrap_err().into());
            assert!(report.error.ends_with("is no store path"), "{report:?}");
        }
    }

    #[test]
    fn a_change_is_a_package_with_its_versions_and_bytes() {
        let before = closure(&[
            ('0', "bash-5.2", 1000),
            ('1', "curl-8.9", 500),
            ('2', "curl-8.9-bin", 100),
            ('3', "python3-3.11.1", 10),
            ('4', "python3-3.12.1", 20),
            ('5', "same-1", 7),
        ]);
        let after = closure(&[
            ('0', "bash-5.3", 900),
            ('5', "same-1", 7),
            ('6', "python3-3.12.1", 20),
            ('7', "python3-3.13.0", 30),
            ('8', "vim-9.1", 4000),
        ]);
        assert_eq!(
            before.diff(&after),
            [
                change("bash", Changed, &["5.2"], &["5.3"], -100),
                change("curl", Removed, &["8.9"], &[], -600),
                change("python3", Changed, &["3.11.1", "3.12.1"], &["3.12.1", "3.13.0"], 20),
                change("vim", Added, &[], &["9.1"], 4000),
            ]
        );
        let back: Vec<(ChangeKind, i64)> = after.diff(&before).iter().map(|c| (c.kind, c.bytes)).collect();
        assert_eq!(back, [(Changed, 100), (Added, 600), (Changed, -20), (Removed, -4000)]);
        assert!(before.diff(&before).is_empty());
    }

    #[test]
    fn another_hash_alone_is_no_change_until_the_size_changes_by_8_kib() {
        let size = 1 << 20;
        for (now, seen) in [(size, false), (size + 8191, false), (size + 8192, true), (size - 8192, true)] {
            let changes = closure(&[('0', "etc", size)]).diff(&closure(&[('1', "etc", now)]));
            assert_eq!(changes.len(), usize::from(seen), "{now}");
        }
        let changes = closure(&[('0', "etc", 0)]).diff(&closure(&[('1', "etc", 8192)]));
        assert_eq!(changes, [change("etc", Changed, &[""], &[""], 8192)]);
    }

    #[test]
    fn a_package_without_a_version_can_come_and_go() {
        let changes = closure(&[('0', "etc", 1)]).diff(&closure(&[]));
        assert_eq!(changes, [change("etc", Removed, &[""], &[], -1)]);
        let json = serde_json::to_string(&changes).unwrap();
        assert_eq!(json, r#"[{"package":"etc","kind":"removed","before":[""],"after":[],"bytes":-1}]"#);
    }
}
