//! Change windows: the times of the week in which a customer's vendors may be changed.

use std::collections::BTreeSet;
use std::fmt;

use jiff::civil::{Time, Weekday};
use serde::{Deserialize, Serialize};

/// A time that comes every week, in which something may be changed at a vendor.
///
/// It is open whenever a clock on a wall in its zone shows such a time: where clocks are set back it may be open twice,
/// and what a clock never shows, where it is set forward, does not belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The IANA time zone of the times and days.
    pub zone: String,
    /// The days on which it opens; every day when it does not say.
    #[serde(default = "every_day", skip_serializing_if = "is_every_day")]
    pub days: BTreeSet<Day>,
    /// The local time at which it opens.
    pub from: LocalTime,
    /// The first local time that does not belong to it any more: of the next day, unless it is later than `from`. The same
    /// time again makes it a whole day.
    pub to: LocalTime,
    /// What it is about; everything when it does not say.
    #[serde(default = "everything", skip_serializing_if = "is_everything")]
    pub kinds: BTreeSet<WindowKind>,
}

/// What a window is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum WindowKind {
    /// Sites with the tunnels that start there: they are one stack.
    Site,
    /// Devices.
    Device,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    /// All of them, from Monday on.
    pub const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    /// The day of a calendar.
    pub fn of(day: Weekday) -> Self {
        match day {
            Weekday::Monday => Self::Mon,
            Weekday::Tuesday => Self::Tue,
            Weekday::Wednesday => Self::Wed,
            Weekday::Thursday => Self::Thu,
            Weekday::Friday => Self::Fri,
            Weekday::Saturday => Self::Sat,
            Weekday::Sunday => Self::Sun,
        }
    }
}

fn every_day() -> BTreeSet<Day> {
    Day::ALL.into()
}

fn is_every_day(days: &BTreeSet<Day>) -> bool {
    days.len() == Day::ALL.len()
}

fn everything() -> BTreeSet<WindowKind> {
    [WindowKind::Site, WindowKind::Device].into()
}

fn is_everything(kinds: &BTreeSet<WindowKind>) -> bool {
    *kinds == everything()
}

/// A time of day as a clock shows it: `22:00`, or `22:00:30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LocalTime(Time);

impl LocalTime {
    /// The time of a calendar.
    pub fn time(self) -> Time {
        self.0
    }
}

impl TryFrom<String> for LocalTime {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = "a local time is written as 22:00 or 22:00:30";
        let mut parts = text.split(':').map(|part| {
            let is_number = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| part.parse::<i8>().ok()).flatten()
        });
        let (hour, minute, second) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(hour)), Some(Some(minute)), None, None) => (hour, minute, 0),
            (Some(Some(hour)), Some(Some(minute)), Some(Some(second)), None) => (hour, minute, second),
            _ => return Err(wrong),
        };
        Time::new(hour, minute, second, 0).map(Self).map_err(|_| wrong)
    }
}

impl From<LocalTime> for String {
    fn from(time: LocalTime) -> String {
        time.to_string()
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pattern = if self.0.second() == 0 { "%H:%M" } else { "%H:%M:%S" };
        write!(f, "{}", self.0.strftime(pattern))
    }
}

/// Why something is to be done outside of its change windows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReleaseBody {
    /// Why it cannot wait, in a sentence of 1 to 500 characters.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_time_is_written_in_one_way() {
        for (typed, written) in [("00:00", "00:00"), ("22:05:00", "22:05"), ("23:59:59", "23:59:59")] {
            let time = LocalTime::try_from(typed.to_owned()).expect(typed);
            assert_eq!(String::from(time), written);
        }
        for wrong in
            ["", "24:00", "22", "22:60", "2:00", "22:00:60", "22:00:00.5", "22:00:00:00", "22.00", "+2:00"]
        {
            assert!(LocalTime::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_window_does_not_say_is_everything() {
        let all = r#"{"zone":"Europe/Oslo","from":"22:00","to":"04:00"}"#;
        let window: Window = serde_json::from_str(all).expect("a window");
        assert_eq!((window.days.len(), window.kinds.len()), (7, 2));
        assert_eq!(serde_json::to_string(&window).expect("JSON"), all);
        for wrong in [r#"{"zone":"UTC","from":"22:00"}"#, r#"{"zone":"UTC","from":"1:00","to":"2:00"}"#] {
            assert!(serde_json::from_str::<Window>(wrong).is_err(), "{wrong}");
        }
    }
}
