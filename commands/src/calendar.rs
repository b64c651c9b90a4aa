//! When change windows are open, and when they open or close next.

use std::sync::LazyLock;

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use wanwright_schemas::policy::{Freeze, Name};
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::window::{Day, Window, WindowKind};

use crate::customer::Own;

/// How far ahead is looked. Windows come every week; one may not come in a week in which a clock was set.
const AHEAD: SignedDuration = SignedDuration::from_hours(15 * 24);

/// The zones that this program carries.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The zone of this name: what it means must not depend on the machine that decides.
pub(crate) fn zone_of(name: &str) -> Result<TimeZone, Refusal> {
    ZONES.get(name).map_err(|_| {
        let name: String = name.chars().take(80).collect();
        let message = format!("`{name}` is no IANA time zone, such as Europe/Oslo");
        Refusal::new(Reason::InvalidValue, message).field("zone")
    })
}

/// The windows that a customer has for a kind of target, and the freezes that keep them shut.
pub(crate) struct Calendar<'a> {
    windows: Vec<Zoned<'a>>,
    freezes: Vec<&'a Freeze>,
}

struct Zoned<'a> {
    name: &'a Name,
    window: &'a Window,
    zone: TimeZone,
}

impl<'a> Calendar<'a> {
    /// None where the customer has no window for such targets: then they may be changed at any time.
    pub(crate) fn of(own: &'a Own, kind: WindowKind) -> Option<Self> {
        let mut windows =
            own.spec.windows.iter().filter(|(_, window)| window.kinds.contains(&kind)).peekable();
        windows.peek()?;
        // A window whose zone is unknown never opens. None gets in, but a program may carry fewer zones than an older one.
        let zoned = |(name, window): (&'a Name, &'a Window)| {
            Some(Zoned { name, window, zone: zone_of(&window.zone).ok()? })
        };
        Some(Self { windows: windows.filter_map(zoned).collect(), freezes: own.freezes.values().collect() })
    }

    /// Whether a window is open, and no freeze in force.
    pub(crate) fn is_open(&self, at: Timestamp) -> bool {
        self.window_at(at).is_some()
    }

    /// The window that is open.
    pub(crate) fn window_at(&self, at: Timestamp) -> Option<&'a Name> {
        if self.freezes.iter().any(|freeze| freeze.from <= at && at < freeze.to) {
            return None;
        }
        self.windows.iter().find(|zoned| zoned.is_open(at)).map(|zoned| zoned.name)
    }

    /// The first moment after this one at which a window is open, or none is. None where that is further ahead than can be
    /// told.
    pub(crate) fn next(&self, after: Timestamp, open: bool) -> Option<Timestamp> {
        let mut ends: Vec<Timestamp> =
            self.freezes.iter().map(|freeze| freeze.to).filter(|end| *end > after).collect();
        ends.sort();
        // Nothing opens in a freeze: where it is a long one, the search goes on at its end.
        std::iter::once(after).chain(ends).find_map(|start| self.next_from(start, after, open))
    }

    fn next_from(&self, start: Timestamp, after: Timestamp, open: bool) -> Option<Timestamp> {
        let end = start.checked_add(AHEAD).ok()?;
        let of_freezes = self.freezes.iter().flat_map(|freeze| [freeze.from, freeze.to]);
        let of_windows = self.windows.iter().flat_map(|zoned| zoned.turns(start, end));
        let turns =
            of_freezes.chain(of_windows).filter(|turn| after < *turn && start <= *turn && *turn <= end);
        turns.filter(|turn| self.is_open(*turn) == open).min()
    }
}

impl Zoned<'_> {
    fn is_open(&self, at: Timestamp) -> bool {
        let Window { days, from, to, .. } = self.window;
        let local = self.zone.to_datetime(at);
        let (from, to, time) = (from.time(), to.time(), local.time());
        let opens_on = |date: Date| days.contains(&Day::of(date.weekday()));
        let today = opens_on(local.date());
        if from < to {
            return today && from <= time && time < to;
        }
        let yesterday = local.date().yesterday().is_ok_and(opens_on);
        (today && from <= time) || (yesterday && time < to)
    }

    /// The moments between these two at which it may open or close: when a clock shows its times, and when one is set.
    fn turns(&self, start: Timestamp, end: Timestamp) -> Vec<Timestamp> {
        let mut turns: Vec<Timestamp> =
            self.zone.following(start).map(|set| set.timestamp()).take_while(|set| *set <= end).collect();
        let last = self.zone.to_datetime(end).date();
        let first = self.zone.to_datetime(start).date();
        for date in first.series(jiff::Span::new().days(1)).take_while(|date| *date <= last) {
            for time in [self.window.from, self.window.to] {
                turns.extend(self.moments(date.to_datetime(time.time())));
            }
        }
        turns
    }

    /// The moments at which a clock shows this: none where it is set forward over it, two where it is set back.
    fn moments(&self, local: DateTime) -> impl Iterator<Item = Timestamp> + use<> {
        let offsets = match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => [Some(offset), None],
            AmbiguousOffset::Gap { .. } => [None, None],
            AmbiguousOffset::Fold { before, after } => [Some(before), Some(after)],
        };
        offsets.into_iter().flatten().filter_map(move |offset| offset.to_timestamp(local).ok())
    }
}
