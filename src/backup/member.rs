//! The members of an archive, and how tar(5) announces them.

use std::fmt;

use super::Checksum;
use crate::error::{Explain, Failure, Result};
use crate::model::text::checked_text;
use crate::model::{Timestamp, quote};

/// Bytes of a tar block: a header is one, and contents are padded to whole ones.
pub(super) const BLOCK: u64 = 512;

/// Zeros at the end of a tar archive.
pub(super) const TRAILER: u64 = 2 * BLOCK;

pub(super) const MANIFEST: &str = "manifest.json";

/// Longest name of a machine's file; a tar header has 100 bytes for the path.
const LONGEST: usize = 64;

/// The name of a file of a machine: 1 to 64 of the characters A-Z, a-z, 0-9, `.`, `_` and `-`, not beginning with `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

checked_text!(FileName);

impl FileName {
    fn check(text: &str) -> Result<(), Failure> {
        let why = if text.is_empty() {
            "it is empty".to_owned()
        } else if text.len() > LONGEST {
            format!("it is {} bytes long", text.len())
        } else if text.starts_with('.') {
            "it begins with `.`".to_owned()
        } else if let Some(c) = text.chars().find(|&c| !c.is_ascii_alphanumeric() && !"._-".contains(c)) {
            format!("it holds {}", quote(c.to_string()))
        } else {
            return Ok(());
        };
        Err(Failure::user(format!("{} cannot be the name of a machine's file: {why}", quote(text))).hint(format!(
            "such a name has 1 to {LONGEST} of the characters A-Z, a-z, 0-9, `.`, `_` and `-`, and does not begin with `.`"
        )))
    }
}

/// Members stand in this order; a machine's files are sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberKind {
    File {
        name: FileName,
        executable: bool,
    },
    Data {
        /// Bytes of the disk as its guest sees it.
        virtual_size: u64,
    },
    /// The variables of the UEFI firmware.
    Nvram,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub role: MemberKind,
    /// In bytes.
    pub size: u64,
    pub sha256: Checksum,
}

impl Member {
    pub fn path(&self) -> String {
        self.to_string()
    }

    /// Only the owner ever has any right.
    pub(super) fn mode(&self) -> u32 {
        match self.role {
            MemberKind::File { executable: true, .. } => 0o700,
            _ => 0o600,
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.role {
            MemberKind::File { name, .. } => write!(f, "machine/{}", name.as_str()),
            MemberKind::Data { .. } => f.write_str("data.qcow2"),
            MemberKind::Nvram => f.write_str("nvram.fd"),
        }
    }
}

/// Returns the zeros that fill the last block of `size` bytes.
pub(super) fn padding(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}

/// Returns the header of a member: a regular file of root's, in GNU tar's format, which does not limit sizes.
///
/// A member has exactly one possible header, so a reader that knows the manifest need not parse any.
pub(super) fn header(path: &str, size: u64, mode: u32, time: Timestamp) -> Result<[u8; 512]> {
    let mut header = tar::Header::new_gnu();
    header
        .set_path(path)
        .explain(|| Failure::bug(format!("{} cannot be a path in an archive", quote(path))))?;
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(time.unix());
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(*header.as_bytes())
}

/// Compares two headers; the error says what differs, as far as it can be told.
pub(super) fn compare(found: &[u8; 512], expected: &[u8; 512]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (tar::Header::from_byte_slice(found), tar::Header::from_byte_slice(expected));
    let path = |header: &tar::Header| quote(header.path_bytes());
    let wanted = path(expected);
    let why = if found.as_bytes().iter().all(|&byte| byte == 0) {
        format!("{wanted} is missing")
    } else if !found.entry_type().is_file() {
        format!("{} is a {}, where the file {wanted} must be", path(found), kind(found.entry_type()))
    } else if found.path_bytes() != expected.path_bytes() {
        format!("{} is where {wanted} must be", path(found))
    } else {
        match (found.entry_size(), expected.entry_size()) {
            (Ok(size), Ok(stated)) if size != stated => {
                format!("{wanted} has {size} bytes, and the manifest says {stated}")
            }
            _ => format!("the header of {wanted} is not as nixvm writes it"),
        }
    };
    Err(Failure::user(why).into())
}

fn kind(kind: tar::EntryType) -> &'static str {
    match kind {
        tar::EntryType::Directory => "folder",
        tar::EntryType::Symlink | tar::EntryType::Link => "link",
        tar::EntryType::Block | tar::EntryType::Char | tar::EntryType::Fifo => "device",
        _ => "member of another kind",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    fn of(path: &str, size: u64) -> [u8; 512] {
        header(path, size, 0o600, Timestamp::from_unix(1_769_015_507).unwrap()).unwrap()
    }

    fn changed(change: impl FnOnce(&mut tar::Header)) -> String {
        let expected = of("data.qcow2", 1 << 40);
        let mut header = tar::Header::from_byte_slice(&expected).clone();
        change(&mut header);
        header.set_cksum();
        compare(header.as_bytes(), &expected).map_or_else(|e| e.to_string(), |()| "equal".to_owned())
    }

    #[test]
    fn a_header_that_is_not_the_expected_one_is_described() {
        use tar::EntryType;
        assert_eq!(changed(|_| {}), "equal");
        for (kind, name) in [
            (EntryType::Directory, "folder"),
            (EntryType::Symlink, "link"),
            (EntryType::Link, "link"),
            (EntryType::Block, "device"),
            (EntryType::Char, "device"),
            (EntryType::Fifo, "device"),
            (EntryType::GNULongName, "member of another kind"),
            (EntryType::XHeader, "member of another kind"),
        ] {
            let expected = format!("`data.qcow2` is a {name}, where the file `data.qcow2` must be");
            assert_eq!(changed(|header| header.set_entry_type(kind)), expected);
        }
        assert_eq!(
            changed(|header| header.as_mut_bytes()[..12].copy_from_slice(b"../etc/cron\0")),
            "`../etc/cron` is where `data.qcow2` must be"
        );
        assert_eq!(
            changed(|header| header.as_mut_bytes()[..12].copy_from_slice(b"/etc/passwd\0")),
            "`/etc/passwd` is where `data.qcow2` must be"
        );
        assert_eq!(
            changed(|header| header.set_size((1 << 40) + 1)),
            "`data.qcow2` has 1099511627777 bytes, and the manifest says 1099511627776"
        );
        for change in [
            |header: &mut tar::Header| header.set_mode(0o4755),
            |header: &mut tar::Header| header.set_mtime(0),
            |header: &mut tar::Header| header.as_mut_bytes()[511] = 1,
        ] {
            assert_eq!(changed(change), "the header of `data.qcow2` is not as nixvm writes it");
        }
        let error = compare(&[0; 512], &of("nvram.fd", 1)).unwrap_err().to_string();
        assert_eq!(error, "`nvram.fd` is missing");
    }

    #[test]
    fn names_of_files_stay_in_their_folder() {
        for good in ["profile", "resolv.conf", "ssh_host_ed25519_key.pub", "health-check", "a..b", "A_1"] {
            assert_eq!(good.parse::<FileName>().unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", "`` cannot be the name of a machine's file: it is empty"),
            (".", "`.` cannot be the name of a machine's file: it begins with `.`"),
            ("..", "`..` cannot be the name of a machine's file: it begins with `.`"),
            (".hidden", "`.hidden` cannot be the name of a machine's file: it begins with `.`"),
            ("../x", "`../x` cannot be the name of a machine's file: it begins with `.`"),
            ("a/b", "`a/b` cannot be the name of a machine's file: it holds `/`"),
            ("/etc", "`/etc` cannot be the name of a machine's file: it holds `/`"),
            ("a\nb", r"`a\nb` cannot be the name of a machine's file: it holds `\n`"),
            ("é", "`é` cannot be the name of a machine's file: it holds `é`"),
        ] {
            let report = Report::of(&bad.parse::<FileName>().unwrap_err().into());
            assert_eq!(report.error, why);
            assert_eq!(report.hints.len(), 1);
        }
        let long = "x".repeat(65).parse::<FileName>().unwrap_err().to_string();
        assert!(long.ends_with("…` cannot be the name of a machine's file: it is 65 bytes long"), "{long}");
    }

    #[test]
    fn contents_are_filled_up_to_whole_blocks() {
        for (size, zeros) in [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)] {
            assert_eq!(padding(size), zeros);
        }
    }
}
