//! Sizes of memory and disks.

use std::fmt;

use super::quote;
use crate::error::Failure;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// A number of bytes.
///
/// Text that a person wrote goes through [`Size::parse_memory`] or [`Size::parse_disk`], which know the unit of a bare
/// number and the sensible limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Size(u64);

/// The limits of one kind of size.
struct Rule {
    what: &'static str,
    bare: u64,
    bare_unit: &'static str,
    least: Size,
    most: Size,
}

const MEMORY: Rule = Rule {
    what: "memory",
    bare: MIB,
    bare_unit: "MiB",
    // With less, a stock kernel and its initrd do not boot.
    least: Size(128 * MIB),
    most: Size(64 * TIB),
};

const DISK: Rule = Rule {
    what: "a disk",
    bare: GIB,
    bare_unit: "GiB",
    // With less, ext4's journal leaves no space.
    least: Size(64 * MIB),
    // With more, Debian 12's mkfs.ext4 takes minutes and gigabytes of metadata.
    most: Size(64 * TIB),
};

impl Size {
    pub const DEFAULT_MEMORY: Size = Size(2048 * MIB);
    pub const DEFAULT_DISK: Size = Size(20 * GIB);

    pub const fn from_bytes(bytes: u64) -> Self {
        Size(bytes)
    }

    /// Parses a size of memory: a number with `K`, `M`, `G` or `T` (powers of 1024), or of MiB. It must be a whole number of
    /// MiB, from 128 MiB to 64 TiB.
    pub fn parse_memory(text: &str) -> Result<Self, Failure> {
        MEMORY.parse(text)
    }

    /// Parses the size of a disk: a number with `K`, `M`, `G` or `T` (powers of 1024), or of GiB. It must be a whole number
    /// of MiB, from 64 MiB to 64 TiB.
    pub fn parse_disk(text: &str) -> Result<Self, Failure> {
        DISK.parse(text)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Rounds down to whole MiB.
    pub const fn mib(self) -> u64 {
        self.0 / MIB
    }

    /// Returns the size for files, such as `20G`: exact, and both parsers read it alike.
    ///
    /// A size that is not a whole number of KiB comes out in bytes, which neither parser reads.
    pub fn exact(self) -> String {
        for (unit, letter) in [(TIB, "T"), (GIB, "G"), (MIB, "M"), (KIB, "K")] {
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return format!("{}{letter}", self.0 / unit);
            }
        }
        format!("{} bytes", self.0)
    }
}

/// Writes the size for people, in at most four digits: `20 GiB`, `8.1 GiB`, `0 B`.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            TIB.. => (TIB, "TiB"),
            GIB.. => (GIB, "GiB"),
            MIB.. => (MIB, "MiB"),
            KIB.. => (KIB, "KiB"),
            _ => (1, "B"),
        };
        let tenths = u128::from(self.0) * 10 / u128::from(unit);
        f.pad(&match (tenths / 10, tenths % 10) {
            (whole, 0) => format!("{whole} {name}"),
            (whole, _) if whole >= 100 => format!("{whole} {name}"),
            (whole, tenth) => format!("{whole}.{tenth} {name}"),
        })
    }
}

impl Rule {
    fn parse(&self, text: &str) -> Result<Size, Failure> {
        let refuse = |why: &str| {
            Failure::user(format!("{} is not a size of {}{why}", quote(text), self.what)).hint(format!(
                "give a whole number with K, M, G or T (powers of 1024), from {} to {}; a bare number is in {}",
                self.least.exact(),
                self.most.exact(),
                self.bare_unit
            ))
        };
        let trimmed = text.trim_matches(' ');
        let end = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(end);
        let unit = match unit.trim_start_matches(' ').to_ascii_lowercase().as_str() {
            "" => self.bare,
            "k" | "kib" => KIB,
            "m" | "mib" => MIB,
            "g" | "gib" => GIB,
            "t" | "tib" => TIB,
            _ => return Err(refuse("")),
        };
        if number.is_empty() {
            return Err(refuse(""));
        }
        let size = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).map_or(Size(u64::MAX), Size);
        match size {
            _ if size < self.least => Err(refuse(": it is too small")),
            _ if size > self.most => Err(refuse(": it is too large")),
            Size(bytes) if !bytes.is_multiple_of(MIB) => Err(refuse(": it is not a whole number of MiB")),
            _ => Ok(size),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;
    use proptest::prelude::*;

    #[test]
    fn units_are_powers_of_1024_and_bare_numbers_have_one() {
        for (text, bytes) in [
            ("2048", 2 * GIB),
            ("2G", 2 * GIB),
            ("512M", 512 * MIB),
            ("512 MiB", 512 * MIB),
            ("1048576k", GIB),
            ("1t", TIB),
            ("00128", 128 * MIB),
        ] {
            assert_eq!(Size::parse_memory(text).unwrap().bytes(), bytes, "{text}");
        }
        assert_eq!(Size::parse_disk("20").unwrap(), Size::DEFAULT_DISK);
        assert_eq!(Size::parse_disk("20G").unwrap(), Size::DEFAULT_DISK);
        assert_eq!(Size::parse_memory("2048").unwrap(), Size::DEFAULT_MEMORY);
        assert_eq!(Size::DEFAULT_MEMORY.mib(), 2048);
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for bad in
            ["", "-1", "+1G", "4Q", "4GB", "1.5G", "G", "1e9", "0x10", "twenty", "20G20G", "20,5G", "２０"]
        {
            let report = Report::of(&Size::parse_disk(bad).unwrap_err().into());
            assert_eq!(report.error, format!("`{bad}` is not a size of a disk"));
            assert!(report.hints[0].contains("K, M, G or T"), "{bad}");
            assert!(Size::parse_memory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn so_is_what_is_out_of_bounds() {
        let error = |text| Size::parse_memory(text).unwrap_err().to_string();
        assert_eq!(error("0"), "`0` is not a size of memory: it is too small");
        assert_eq!(error("127M"), "`127M` is not a size of memory: it is too small");
        for huge in ["65T", "18446744073709551615T", "99999999999999999999999999"] {
            assert!(error(huge).ends_with("it is too large"), "{huge}");
        }
        assert_eq!(error("131073K"), "`131073K` is not a size of memory: it is not a whole number of MiB");
        assert!(Size::parse_disk("63M").is_err());
        assert!(Size::parse_disk("64M").is_ok());
    }

    #[test]
    fn people_see_a_few_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (20 * GIB, "20 GiB"),
            (8_745_189_376, "8.1 GiB"),
            (700 * MIB + 300 * KIB, "700 MiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(Size::from_bytes(bytes).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn files_keep_every_size(mib in 128_u64..=64 << 20) {
            let size = Size::from_bytes(mib * MIB);
            prop_assert_eq!(Size::parse_memory(&size.exact()).unwrap(), size);
            prop_assert_eq!(Size::parse_disk(&size.exact()).unwrap(), size);
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = Size::parse_disk(&text);
        }
    }
}
