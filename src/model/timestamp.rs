//! Times in the names of snapshots and archives.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::SignedDuration;
use jiff::civil::DateTime;

/// A time in whole seconds of UTC, from 1970 to the end of the year 9999.
///
/// Its text is part of names, `YYYYmmdd-HHMMSS` in UTC. It has a fixed length, so that it sorts by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime);

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
const LAST: DateTime = DateTime::constant(9999, 12, 31, 23, 59, 59, 0);
const NAME: &str = "%Y%m%d-%H%M%S";

impl Timestamp {
    /// The host's clock; the first or the last second where the clock is wrong by centuries.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_unix(since.as_secs()).unwrap_or(Timestamp(LAST))
    }

    /// Takes seconds since 1970-01-01 00:00:00 UTC; `None` from the year 10000 on.
    pub fn from_unix(seconds: u64) -> Option<Self> {
        let since = SignedDuration::from_secs(seconds.try_into().ok()?);
        EPOCH.checked_add(since).ok().map(Timestamp)
    }

    /// Seconds since 1970-01-01 00:00:00 UTC.
    pub fn unix(self) -> u64 {
        self.0.duration_since(EPOCH).unsigned_abs().as_secs()
    }

    /// For people: `2026-01-21 17:11:47 UTC`.
    pub fn in_words(self) -> String {
        self.0.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
    }

    /// One second later; `None` at the end of the year 9999.
    pub fn next(self) -> Option<Self> {
        Self::from_unix(self.unix() + 1)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime(NAME))
    }
}

/// Not written `YYYYmmdd-HHMMSS`, or outside the years 1970 to 9999.
#[derive(Debug, PartialEq, Eq)]
pub struct NotATimestamp;

impl FromStr for Timestamp {
    type Err = NotATimestamp;

    fn from_str(text: &str) -> Result<Self, NotATimestamp> {
        let moment = DateTime::strptime(NAME, text).map(Timestamp).map_err(|_| NotATimestamp)?;
        // strptime also takes signs, missing digits and the leap second 60.
        if moment.0 >= EPOCH && moment.to_string() == text { Ok(moment) } else { Err(NotATimestamp) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: u64 = 24 * 60 * 60;

    /// The first second of the year 10000.
    const END: u64 = 253_402_300_800;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix(seconds).unwrap()
    }

    #[test]
    fn known_moments() {
        // As `date -u -d @N +%Y%m%d-%H%M%S` says.
        for (seconds, text) in [
            (0, "19700101-000000"),
            (951_782_400, "20000229-000000"),
            (1_769_015_507, "20260121-171147"),
            (4_107_542_399, "21000228-235959"),
            (4_107_542_400, "21000301-000000"),
            (END - 1, "99991231-235959"),
        ] {
            assert_eq!(at(seconds).to_string(), text);
            assert_eq!(text.parse(), Ok(at(seconds)));
        }
        assert_eq!(at(1_769_015_507).in_words(), "2026-01-21 17:11:47 UTC");
        assert_eq!(Timestamp::from_unix(END), None);
        assert_eq!(at(END - 1).next(), None);
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for bad in [
            "",
            "20260121171147",
            "20260121 171147",
            "20260230-000000",
            "20260431-000000",
            "21000229-000000",
            "20260001-000000",
            "20261301-000000",
            "20260100-000000",
            "20260121-240000",
            "20260121-176000",
            "20260121-171160",
            "19691231-235959",
            "+0260121-171147",
            "20260121-171147 ",
            "2026012\u{e9}-17114",
        ] {
            assert_eq!(bad.parse::<Timestamp>(), Err(NotATimestamp), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_round_trips(seconds in 0..END) {
            prop_assert_eq!(at(seconds).to_string().parse(), Ok(at(seconds)));
        }

        #[test]
        fn texts_sort_as_moments_do(a in 0..END, b in 0..END) {
            prop_assert_eq!(at(a).to_string().cmp(&at(b).to_string()), a.cmp(&b));
        }

        #[test]
        fn a_next_day_is_the_next_date(day in 0..END / DAY - 1) {
            let date = |day: u64| -> (u64, u64, u64) {
                let text = at(day * DAY).to_string();
                let part = |range: std::ops::Range<usize>| text[range].parse().unwrap();
                (part(0..4), part(4..6), part(6..8))
            };
            let (year, month, of_month) = date(day);
            let next = date(day + 1);
            prop_assert!(
                next == (year, month, of_month + 1) || next == (year, month + 1, 1) || next == (year + 1, 1, 1)
            );
        }
    }
}
