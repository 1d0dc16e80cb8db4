//! Moments, as snapshots and archives are named after them.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment in whole seconds since 1970-01-01 00:00:00 UTC, up to the end of the year 9999.
///
/// Its text is that of a name, `YYYYmmdd-HHMMSS` in UTC: always as long, so that it sorts as time does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

const DAY: u64 = 24 * 60 * 60;

/// The first second of the year 10000.
const END: u64 = 253_402_300_800;

impl Moment {
    /// Returns what the host's clock says; its beginning or end where the clock is wrong by centuries.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment(since.as_secs().min(END - 1))
    }

    /// Returns the moment so many seconds after 1970-01-01 00:00:00 UTC, `None` from the year 10000 on.
    pub fn from_unix(seconds: u64) -> Option<Self> {
        (seconds < END).then_some(Moment(seconds))
    }

    /// Returns the seconds since 1970-01-01 00:00:00 UTC.
    pub fn unix(self) -> u64 {
        self.0
    }

    /// Returns the moment for people: `2026-01-21 17:11:47 UTC`.
    pub fn in_words(self) -> String {
        let (year, month, day) = civil(self.0 / DAY);
        let second = self.0 % DAY;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }

    /// Returns the moment one second later, `None` at the end of the year 9999.
    pub fn next(self) -> Option<Self> {
        Self::from_unix(self.0 + 1)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0 / DAY);
        let second = self.0 % DAY;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
    }
}

/// Not written `YYYYmmdd-HHMMSS`, or no moment from 1970 to 9999.
#[derive(Debug, PartialEq, Eq)]
pub struct NoMoment;

impl FromStr for Moment {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        let number = |from: usize, to: usize| {
            let digits = text.get(from..to).filter(|part| part.bytes().all(|b| b.is_ascii_digit()));
            digits.and_then(|digits| digits.parse::<u64>().ok()).ok_or(NoMoment)
        };
        let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
        let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
        if year < 1970 || !(1..=12).contains(&month) || day < 1 {
            return Err(NoMoment);
        }
        let moment = Moment(days(year, month, day) * DAY + hour * 3600 + minute * 60 + second);
        // A 30th of February or a minute 60 has come out as another moment.
        if moment.to_string() == text { Ok(moment) } else { Err(NoMoment) }
    }
}

// The Gregorian calendar repeats every 400 years of 146,097 days. Years are counted from 1 March, so that the day that
// may be missing is the last; 719,468 days lie between 0000-03-01 and 1970-01-01. After Howard Hinnant,
// <https://howardhinnant.github.io/date_algorithms.html>.

/// Returns year, month and day of the day so many days after 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// Returns how many days after 1970-01-01 that date is.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, of_era) = (year / 400, year % 400);
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            assert_eq!(Moment(seconds).to_string(), text);
            assert_eq!(text.parse(), Ok(Moment(seconds)));
        }
        assert_eq!(Moment(1_769_015_507).in_words(), "2026-01-21 17:11:47 UTC");
        assert_eq!(Moment::from_unix(END), None);
        assert_eq!(Moment(END - 1).next(), None);
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
            assert_eq!(bad.parse::<Moment>(), Err(NoMoment), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_round_trips(seconds in 0..END) {
            prop_assert_eq!(Moment(seconds).to_string().parse(), Ok(Moment(seconds)));
        }

        #[test]
        fn texts_sort_as_moments_do(a in 0..END, b in 0..END) {
            prop_assert_eq!(Moment(a).to_string().cmp(&Moment(b).to_string()), a.cmp(&b));
        }

        #[test]
        fn a_next_day_is_the_next_date(day in 0..END / DAY - 1) {
            let (year, month, of_month) = civil(day);
            let next = civil(day + 1);
            prop_assert!(
                next == (year, month, of_month + 1) || next == (year, month + 1, 1) || next == (year + 1, 1, 1)
            );
        }
    }
}
