//! Volumes in a pool, and their names.
//!
//! A name is a machine's stem, a `.` and the volume's role. No stem contains a `.`, so the names of `web`'s volumes never
//! collide with those of `web-prod`.

use super::{MachineName, quote};
use crate::error::Failure;
use crate::model::text::public_text;

/// The beginning of the names of a machine's volumes: the name under which the machine was created.
///
/// libvirt cannot rename a volume, so a renamed machine keeps its volumes' names; a new machine of the old name gets a stem
/// with a number, `web_2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeStem(String);

public_text!(VolumeStem);

impl VolumeStem {
    fn check(text: &str) -> Result<(), Failure> {
        let (name, number) = text.split_once('_').map_or((text, None), |(name, number)| (name, Some(number)));
        let counted =
            number.is_none_or(|n| n.parse::<u32>().is_ok_and(|n| n > 1) && !n.starts_with(['0', '+']));
        match name.parse::<MachineName>() {
            Ok(_) if counted => Ok(()),
            _ => Err(Failure::user(format!("{} is not how a machine's volumes are called", quote(text)))),
        }
    }

    /// Returns the stem for a new machine of that name: the first that is not in `taken`.
    pub fn free(name: &MachineName, taken: &[VolumeStem]) -> Self {
        let numbered = (2_u32..).map(|n| VolumeStem(format!("{name}_{n}")));
        let mut all = std::iter::once(VolumeStem::from(name)).chain(numbered);
        all.find(|stem| !taken.contains(stem)).unwrap_or_else(|| VolumeStem::from(name))
    }
}

impl From<&MachineName> for VolumeStem {
    fn from(name: &MachineName) -> Self {
        VolumeStem(name.to_string())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The system of that generation: a thin disk over its profile's base image.
    Boot(u32),
    /// A layer of the machine's data, counted from 1 in the order they were made; the layers below it are frozen.
    Data(u32),
    /// The machine's secrets.
    Identity,
    Nvram,
    /// The firmware's variables as they were when that layer of data was frozen.
    FrozenNvram(u32),
    /// The firmware's variables to be put in force before the machine is started on that layer of data.
    NextNvram(u32),
    /// The output of the guest's serial port. libvirt rotates it; older parts have a number.
    SerialLog(Option<u32>),
    /// The target of a running or interrupted backup.
    Backup,
    /// An upload that runs or was interrupted.
    Part,
}

impl Role {
    /// Returns the volume's name.
    pub fn of(&self, stem: &VolumeStem) -> String {
        match self {
            Role::Boot(generation) => format!("{stem}.boot-{generation}.qcow2"),
            Role::Data(layer) => format!("{stem}.data-{layer}.qcow2"),
            Role::Identity => format!("{stem}.identity.img"),
            Role::Nvram => format!("{stem}.nvram.fd"),
            Role::FrozenNvram(layer) => format!("{stem}.nvram-{layer}.fd"),
            Role::NextNvram(layer) => format!("{stem}.nvram-next-{layer}.fd"),
            Role::SerialLog(None) => format!("{stem}.serial.log"),
            Role::SerialLog(Some(old)) => format!("{stem}.serial.log.{old}"),
            Role::Backup => format!("{stem}.backup.qcow2"),
            Role::Part => format!("{stem}.part"),
        }
    }

    /// Returns whether nixvm makes it as a qcow2 file. All others are raw, whatever their first bytes are.
    fn is_qcow2(&self) -> bool {
        match self {
            Role::Boot(_) | Role::Data(_) | Role::Backup => true,
            Role::Identity | Role::Nvram | Role::FrozenNvram(_) | Role::NextNvram(_) | Role::SerialLog(_) => {
                false
            }
            // A copy gets its header last, under its final name, so a copy in progress has no backing file.
            Role::Part => false,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text.ends_with(".part") {
            return Some(Role::Part);
        }
        let number =
            |start: &str, end: &str| text.strip_prefix(start)?.strip_suffix(end)?.parse::<u32>().ok();
        match text {
            "identity.img" => return Some(Role::Identity),
            "nvram.fd" => return Some(Role::Nvram),
            "serial.log" => return Some(Role::SerialLog(None)),
            "backup.qcow2" => return Some(Role::Backup),
            _ => {}
        }
        (number("boot-", ".qcow2").map(Role::Boot))
            .or_else(|| number("data-", ".qcow2").map(Role::Data))
            .or_else(|| number("nvram-", ".fd").map(Role::FrozenNvram))
            .or_else(|| number("nvram-next-", ".fd").map(Role::NextNvram))
            .or_else(|| number("serial.log.", "").map(|old| Role::SerialLog(Some(old))))
    }
}

/// Largest file of a firmware's variables, in bytes: a flash bank of QEMU's machine `virt` (`VIRT_FLASH` in its
/// hw/arm/virt.c, half of which is for variables), and the length of AAVMF's file in Debian. OVMF's files have 128 or 528
/// KiB.
pub const LARGEST_NVRAM: u64 = 64 << 20;

/// Returns whether a volume of that name may be a qcow2 file, and so may have a backing file.
///
/// The name decides, not the first bytes: a guest writes those of its serial log and of its firmware's variables, and could
/// put a header there that names any file of the host. A volume that is not nixvm's may be anything.
pub fn may_be_qcow2(volume: &str) -> bool {
    parse(volume).is_none_or(|(_, role)| role.is_qcow2())
}

/// Returns a volume's machine and role; `None` for a base image, and for a volume that is not nixvm's.
pub fn parse(volume: &str) -> Option<(VolumeStem, Role)> {
    let (stem, role) = volume.split_once('.')?;
    Some((stem.parse().ok()?, Role::parse(role)?))
}

/// Returns whether `name` is that of a base in a pool: `nixvm-base-`, a store path's hash, `.qcow2`.
pub fn is_base_volume(name: &str) -> bool {
    let hash = name.strip_prefix("nixvm-base-").and_then(|rest| rest.strip_suffix(".qcow2"));
    hash.is_some_and(|hash| {
        hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stem(text: &str) -> VolumeStem {
        text.parse().unwrap()
    }

    #[test]
    fn names_of_different_machines_never_meet() {
        let roles = [
            Role::Boot(3),
            Role::Data(1),
            Role::Identity,
            Role::Nvram,
            Role::FrozenNvram(12),
            Role::NextNvram(12),
            Role::SerialLog(None),
            Role::SerialLog(Some(0)),
            Role::Backup,
        ];
        for owner in ["web", "web-prod", "web-boot-1", "web_2"] {
            for role in &roles {
                assert_eq!(parse(&role.of(&stem(owner))), Some((stem(owner), role.clone())));
            }
        }
        assert_eq!(Role::Boot(3).of(&stem("web")), "web.boot-3.qcow2");
        assert_eq!(parse("web.data-1.qcow2.0123.part"), Some((stem("web"), Role::Part)));
        for other in [
            "nixvm-base-0123.qcow2",
            "web.qcow2",
            "web",
            "web.data.qcow2",
            "web.data-x.qcow2",
            ".data-1.qcow2",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn what_a_guest_writes_byte_for_byte_is_raw_by_its_name() {
        for qcow2 in [
            "web.boot-1.qcow2",
            "web_2.data-7.qcow2",
            "web.backup.qcow2",
            "nixvm-base-0123.qcow2",
            "notes.img",
        ] {
            assert!(may_be_qcow2(qcow2), "{qcow2}");
        }
        for raw in [
            "web.nvram.fd",
            "web.nvram-1.fd",
            "web.nvram-next-2.fd",
            "web.serial.log",
            "web_2.serial.log.0",
            "web.identity.img",
            "web.data-1.qcow2.0123.part",
        ] {
            assert!(!may_be_qcow2(raw), "{raw}");
        }
    }

    #[test]
    fn a_name_that_was_left_behind_is_not_taken_again() {
        let web: MachineName = "web".parse().unwrap();
        assert_eq!(VolumeStem::free(&web, &[stem("web-2")]), stem("web"));
        assert_eq!(VolumeStem::free(&web, &[stem("web"), stem("web_2")]), stem("web_3"));
        for bad in ["", "web_", "web_1", "web_02", "web_x", "web_2_3", "Web", "a/b_2"] {
            assert!(bad.parse::<VolumeStem>().is_err(), "{bad}");
        }
    }
}
