//! The members of an archive as its manifest lists them.

use serde::{Deserialize, Serialize};

use super::files::{LARGEST, LARGEST_SUM};
use super::{Checksum, Member, MemberKind};
use crate::error::{Failure, Result};
use crate::model::quote;
use crate::model::volume::LARGEST_NVRAM;

/// Largest disk that a guest sees, in bytes: what `var_size` takes.
pub(super) const LARGEST_DISK: u64 = 64 << 40;

/// Largest file of a disk, in bytes: twice that, so that no sum of sizes overflows.
pub(super) const LARGEST_VOLUME: u64 = 2 * LARGEST_DISK;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ListedMember {
    path: String,
    mode: String,
    size: u64,
    sha256: Checksum,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_size: Option<u64>,
}

impl From<&Member> for ListedMember {
    fn from(member: &Member) -> Self {
        ListedMember {
            path: member.path(),
            mode: mode(member),
            size: member.size,
            sha256: member.sha256,
            virtual_size: match member.role {
                MemberKind::Data { virtual_size } => Some(virtual_size),
                _ => None,
            },
        }
    }
}

impl TryFrom<ListedMember> for Member {
    type Error = anyhow::Error;

    fn try_from(file: ListedMember) -> Result<Self> {
        let path = &file.path;
        let role = match (path.strip_prefix("machine/"), path.as_str(), file.virtual_size) {
            (Some(name), _, None) => {
                MemberKind::File { name: name.parse()?, executable: file.mode == "0700" }
            }
            (_, "data.qcow2", Some(virtual_size)) => MemberKind::Data { virtual_size },
            (_, "nvram.fd", None) => MemberKind::Nvram,
            (None, "data.qcow2", None) => return refuse("`data.qcow2` has no `virtualSize`".to_owned()),
            (Some(_), _, Some(_)) | (_, "nvram.fd", Some(_)) => {
                return refuse(format!("{} has a `virtualSize`", quote(path)));
            }
            _ => return refuse(format!("{} cannot be a member of an archive", quote(path))),
        };
        let member = Member { role, size: file.size, sha256: file.sha256 };
        if mode(&member) != file.mode {
            return refuse(format!("`{member}` has the mode {}", quote(&file.mode)));
        }
        let (most, shown) = match member.role {
            MemberKind::File { .. } => (LARGEST, "1 MiB"),
            MemberKind::Data { .. } => (LARGEST_VOLUME, "128 TiB"),
            MemberKind::Nvram => (LARGEST_NVRAM, "64 MiB"),
        };
        if file.virtual_size.is_some_and(|size| size > LARGEST_DISK) {
            return refuse(format!("`{member}` is a disk of more than 64 TiB"));
        }
        if member.size > most {
            return refuse(format!("`{member}` has more than {shown}"));
        }
        Ok(member)
    }
}

fn mode(member: &Member) -> String {
    format!("{:04o}", member.mode())
}

pub(super) fn check(members: &[Member]) -> Result<()> {
    for pair in members.windows(2) {
        let [before, member] = pair else { continue };
        if before.path() == member.path() {
            return refuse(format!("`{member}` is listed twice"));
        }
        if before.role > member.role {
            return refuse(format!("`{member}` is out of order"));
        }
    }
    let files = members.iter().filter(|member| matches!(member.role, MemberKind::File { .. }));
    if files.map(|member| member.size).sum::<u64>() > LARGEST_SUM {
        return refuse("the machine's files have more than 4 MiB".to_owned());
    }
    if !members.iter().any(|member| matches!(member.role, MemberKind::Data { .. })) {
        return refuse("there is no `data.qcow2`".to_owned());
    }
    Ok(())
}

fn refuse<T>(why: String) -> Result<T> {
    Err(Failure::user(why).into())
}
