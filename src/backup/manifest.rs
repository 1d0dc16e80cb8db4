//! The first member of an archive, `manifest.json`.

use serde::{Deserialize, Serialize};

use super::listed::{self, ListedMember};
use super::{About, ArchiveName, Checksum, Manifest, Member, Parent, State};
use crate::error::{Explain, Failure, Result};
use crate::model::{Generation, MachineName, ProfileName, Timestamp, quote};

/// The version of the manifest, and of the archive around it, that this nixvm reads and writes.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ManifestFile {
    format: u32,
    machine: MachineName,
    profile: ProfileName,
    machine_id: String,
    created: u64,
    nixvm: String,
    generation: Generation,
    nixpkgs_revision: String,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<FileParent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
    members: Vec<ListedMember>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileParent {
    archive: String,
    manifest: Checksum,
}

/// The part that every version of `manifest.json` has.
#[derive(Deserialize)]
struct AnyManifest {
    format: u32,
}

impl Manifest {
    pub fn parse(text: &[u8]) -> Result<Self> {
        let wrong = || Failure::user("`manifest.json` is not as nixvm writes it");
        let AnyManifest { format } = serde_json::from_slice(text).explain(wrong)?;
        if format != FORMAT {
            return Err(Failure::user(format!(
                "the archive has the format {format}, and this nixvm reads {FORMAT}"
            ))
            .hint("use the nixvm that wrote it, or a newer one")
            .into());
        }
        let file: ManifestFile = serde_json::from_slice(text).explain(wrong)?;
        file.try_into().explain(wrong)
    }

    /// Returns JSON that people can read too. Its length does not depend on the digests. Fails where [`Manifest::parse`]
    /// would refuse it.
    pub fn text(&self) -> Result<String> {
        let bug = || Failure::bug("a manifest would not be read again");
        let mut text = serde_json::to_string_pretty(&ManifestFile::from(self)).explain(bug)?;
        text.push('\n');
        if Self::parse(text.as_bytes()).explain(bug)? == *self { Ok(text) } else { Err(bug().into()) }
    }
}

impl From<&Manifest> for ManifestFile {
    fn from(manifest: &Manifest) -> Self {
        let about = manifest.about.clone();
        ManifestFile {
            format: FORMAT,
            machine: about.machine,
            profile: about.profile,
            machine_id: about.machine_id.to_string(),
            created: about.created.unix(),
            nixvm: about.nixvm,
            generation: about.generation,
            nixpkgs_revision: about.nixpkgs_revision,
            state: about.state,
            parent: about
                .parent
                .map(|parent| FileParent { archive: parent.archive.to_string(), manifest: parent.manifest }),
            checkpoint: about.checkpoint,
            members: manifest.members.iter().map(ListedMember::from).collect(),
        }
    }
}

impl TryFrom<ManifestFile> for Manifest {
    type Error = anyhow::Error;

    fn try_from(file: ManifestFile) -> Result<Self> {
        let parent = file.parent.map(|parent| {
            let archive: ArchiveName = parent.archive.parse()?;
            if archive.machine == file.machine {
                Ok(Parent { archive, manifest: parent.manifest })
            } else {
                Err(Failure::user(format!("its parent `{archive}` is of another machine")))
            }
        });
        let created = Timestamp::from_unix(file.created)
            .ok_or_else(|| Failure::user(format!("`created` is {}, after the year 9999", file.created)))?;
        if file.generation.number == 0 {
            return Err(Failure::user("generations are counted from 1").into());
        }
        file.generation.digest.parse::<Checksum>()?;
        plain("nixvm", &file.nixvm)?;
        plain("nixpkgsRevision", &file.nixpkgs_revision)?;
        file.checkpoint.as_deref().map(|name| plain("checkpoint", name)).transpose()?;
        let members: Vec<Member> = file.members.into_iter().map(Member::try_from).collect::<Result<_>>()?;
        listed::check(&members)?;
        Ok(Manifest {
            about: About {
                machine: file.machine,
                profile: file.profile,
                machine_id: file.machine_id.parse()?,
                created,
                nixvm: file.nixvm,
                generation: file.generation,
                nixpkgs_revision: file.nixpkgs_revision,
                state: file.state,
                parent: parent.transpose()?,
                checkpoint: file.checkpoint,
            },
            members,
        })
    }
}

/// Refuses a word that could not be shown on one line of a terminal.
fn plain(key: &str, text: &str) -> Result<(), Failure> {
    if (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(Failure::user(format!(
            "`{key}` is {}, and must be 1 to 128 visible ASCII characters",
            quote(text)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::files::LARGEST;
    use crate::backup::listed::{LARGEST_DISK, LARGEST_VOLUME};
    use crate::backup::{MemberKind, sample};
    use crate::error::Report;
    use crate::model::volume::LARGEST_NVRAM;
    use serde_json::{Value, json};

    #[test]
    fn a_manifest_is_written_for_people_and_read_again() {
        let manifest = sample::manifest();
        let text = manifest.text().unwrap();
        assert_eq!(text, sample::MANIFEST);
        assert_eq!(Manifest::parse(text.as_bytes()).unwrap(), manifest);
    }

    #[test]
    fn only_nixvms_own_manifests_are_written() {
        let mut manifest = sample::manifest();
        manifest.about.checkpoint = Some("a b".to_owned());
        let report = Report::of(&manifest.text().unwrap_err());
        assert_eq!((report.error.as_str(), report.exit_code), ("a manifest would not be read again", 255));
    }

    #[test]
    fn a_newer_format_is_named_whatever_else_it_says() {
        let report = Report::of(&Manifest::parse(br#"{"format": 2, "new": []}"#).unwrap_err());
        assert_eq!(report.error, "the archive has the format 2, and this nixvm reads 1");
        assert_eq!(report.hints, ["use the nixvm that wrote it, or a newer one"]);
        assert_eq!(report.exit_code, 1);
    }

    /// Returns why a manifest is refused in which the value at a JSON pointer is another, or is missing.
    fn refusal(pointer: &str, value: &Value) -> String {
        let mut manifest: Value = serde_json::from_str(sample::MANIFEST).unwrap();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match manifest.pointer_mut(parent).unwrap() {
            Value::Object(map) => drop(map.insert(key.to_owned(), value.clone())),
            Value::Array(list) if value.is_null() => drop(list.remove(key.parse().unwrap())),
            Value::Array(list) => list.insert(key.parse().unwrap(), value.clone()),
            other => panic!("{other}"),
        }
        let report = Report::of(&Manifest::parse(manifest.to_string().as_bytes()).unwrap_err());
        assert_eq!(report.error, "`manifest.json` is not as nixvm writes it");
        assert_eq!(report.causes.len(), 1, "{report:?}");
        report.causes[0].split(" at line ").next().unwrap().to_owned()
    }

    #[test]
    fn values_that_do_not_belong_are_refused() {
        let first = |key: &str, value: Value| {
            let mut member =
                json!({"path": "machine/a", "mode": "0600", "size": 1, "sha256": Checksum::UNKNOWN});
            member[key] = value;
            refusal("/members/0", &member)
        };
        let mib = "`machine/a` has more than 1 MiB";
        for (seen, expected) in [
            (
                refusal("/colour", &json!("red")),
                "unknown field `colour`, expected one of `format`, `machine`, `profile`, `machineId`, `created`, `nixvm`, `generation`, `nixpkgsRevision`, `state`, `parent`, `checkpoint`, `members`",
            ),
            (refusal("/generation/time", &json!(1)), "unknown field `time`, expected `number` or `digest`"),
            (refusal("/parent/time", &json!(1)), "unknown field `time`, expected `archive` or `manifest`"),
            (
                first("time", json!(1)),
                "unknown field `time`, expected one of `path`, `mode`, `size`, `sha256`, `virtualSize`",
            ),
            (refusal("/machine", &json!("../web")), "`../web` cannot be a machine's name: it holds `.`"),
            (refusal("/profile", &json!("a/b")), "`a/b` cannot be a profile's name: it holds `/`"),
            (refusal("/machineId", &json!("0")), "`0` is not a machine id"),
            (refusal("/created", &json!(-1)), "invalid value: integer `-1`, expected u64"),
            (
                refusal("/created", &json!(253_402_300_800u64)),
                "`created` is 253402300800, after the year 9999",
            ),
            (
                refusal("/nixvm", &json!("\u{1b}[2J")),
                r"`nixvm` is `\u{1b}[2J`, and must be 1 to 128 visible ASCII characters",
            ),
            (
                refusal("/nixpkgsRevision", &json!("")),
                "`nixpkgsRevision` is ``, and must be 1 to 128 visible ASCII characters",
            ),
            (
                refusal("/checkpoint", &json!("a b")),
                "`checkpoint` is `a b`, and must be 1 to 128 visible ASCII characters",
            ),
            (refusal("/generation/number", &json!(0)), "generations are counted from 1"),
            (refusal("/generation/digest", &json!("x")), "`x` is not a SHA-256 digest"),
            (
                refusal("/state", &json!("asleep")),
                "unknown variant `asleep`, expected one of `off`, `frozen`, `running`",
            ),
            (refusal("/parent/archive", &json!("x")), "`x` is not the name of an archive"),
            (
                refusal("/parent/archive", &json!("web-prod-20260120-171147.tar.zst")),
                "its parent `web-prod-20260120-171147.tar.zst` is of another machine",
            ),
            (refusal("/parent/manifest", &json!("x")), "`x` is not a SHA-256 digest"),
            (
                first("path", json!("machine/../../etc/passwd")),
                "`../../etc/passwd` cannot be the name of a machine's file: it begins with `.`",
            ),
            (
                first("path", json!("machine/.ssh")),
                "`.ssh` cannot be the name of a machine's file: it begins with `.`",
            ),
            (
                first("path", json!("machine//etc/passwd")),
                "`/etc/passwd` cannot be the name of a machine's file: it holds `/`",
            ),
            (first("path", json!("machine/")), "`` cannot be the name of a machine's file: it is empty"),
            (first("path", json!("/etc/passwd")), "`/etc/passwd` cannot be a member of an archive"),
            (first("path", json!("manifest.json")), "`manifest.json` cannot be a member of an archive"),
            (first("path", json!("./data.qcow2")), "`./data.qcow2` cannot be a member of an archive"),
            (first("path", json!("data.qcow2")), "`data.qcow2` has no `virtualSize`"),
            (first("virtualSize", json!(1)), "`machine/a` has a `virtualSize`"),
            (first("mode", json!("4755")), "`machine/a` has the mode `4755`"),
            (first("sha256", json!("x")), "`x` is not a SHA-256 digest"),
            (first("size", json!(LARGEST + 1)), mib),
            (first("size", json!(u64::MAX)), mib),
            (
                refusal(
                    "/members/1",
                    &json!({"path": "machine/profile", "mode": "0600", "size": 1, "sha256": Checksum::UNKNOWN}),
                ),
                "`machine/profile` is listed twice",
            ),
            (first("path", json!("machine/z")), "`machine/health-check` is out of order"),
            (refusal("/members/2", &Value::Null), "there is no `data.qcow2`"),
            (
                refusal(
                    "/members/4",
                    &json!({"path": "nvram.fd", "mode": "0600", "size": 1, "sha256": Checksum::UNKNOWN}),
                ),
                "`nvram.fd` is listed twice",
            ),
            (
                refusal(
                    "/members/2",
                    &json!({"path": "nvram.fd", "mode": "0600", "size": 1, "sha256": Checksum::UNKNOWN}),
                ),
                "`data.qcow2` is out of order",
            ),
            (
                refusal(
                    "/members/3",
                    &json!({"path": "nvram.fd", "mode": "0600", "size": LARGEST_NVRAM + 1, "sha256": Checksum::UNKNOWN}),
                ),
                "`nvram.fd` has more than 64 MiB",
            ),
            (refusal("/members/2/size", &json!(LARGEST_VOLUME + 1)), "`data.qcow2` has more than 128 TiB"),
            (
                refusal("/members/2/virtualSize", &json!(LARGEST_DISK + 1)),
                "`data.qcow2` is a disk of more than 64 TiB",
            ),
            (
                refusal(
                    "/members/3",
                    &json!({"path": "nvram.fd", "mode": "0700", "size": 1, "sha256": Checksum::UNKNOWN}),
                ),
                "`nvram.fd` has the mode `0700`",
            ),
        ] {
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn files_are_bounded_together_too() {
        let mut manifest = sample::manifest();
        manifest.members = (0..5)
            .map(|i| Member {
                role: MemberKind::File { name: format!("f{i}").parse().unwrap(), executable: false },
                size: LARGEST,
                sha256: Checksum::UNKNOWN,
            })
            .collect();
        let report = Report::of(&manifest.text().unwrap_err());
        assert_eq!(report.causes[1], "the machine's files have more than 4 MiB");
    }
}
