//! When a schedule is due, and what becomes of times that were missed. Pure: the present is given, and the time zones
//! are those of this release, so that all nodes of one version agree.
//!
//! A time of day that a zone's clock skips (the gap in spring) counts as the first moment after the gap; one that the
//! clock shows twice (autumn) counts once, the first time. A cron line whose hour is `*` names no time of day: it goes
//! by elapsed time, so that every quarter of an hour stays so through both.

use std::collections::VecDeque;
use std::sync::LazyLock;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use crate::contract::{CatchUp, ScheduleSpec};

/// Most missed times that get a run each.
pub const MOST_CAUGHT_UP: usize = 24;
/// A time this long ago is not missed yet: a restart fits in.
pub const ON_TIME_WITHIN: SignedDuration = SignedDuration::from_secs(60);
/// The smallest step of time here, which is PostgreSQL's.
const TICK: SignedDuration = SignedDuration::from_micros(1);

/// Why a schedule has no times. `Display` is for whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimetableError {
    /// The cron line does not parse, or has not five fields.
    #[error("{0}")]
    Cron(String),
    /// There is no such zone.
    #[error("there is no time zone of this name; use one such as Europe/Berlin, Asia/Taipei or UTC")]
    Zone,
}

/// The times of a cron line in a zone.
#[derive(Debug, Clone)]
pub struct Timetable {
    cron: Cron,
    zone: TimeZone,
    is_every_hour: bool,
}

/// What is to be done about a schedule whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The times that get a run each, oldest first.
    pub fire: Vec<Timestamp>,
    /// Were there times that get none?
    pub is_missed: bool,
    /// The first time that is still to come.
    pub next_at: Timestamp,
}

impl Timetable {
    /// Reads a schedule's cron line and zone.
    ///
    /// # Errors
    /// [`TimetableError`] for what was not validated.
    pub fn of(spec: &ScheduleSpec) -> Result<Self, TimetableError> {
        Self::parse(&spec.cron, &spec.time_zone)
    }

    /// Reads a cron line of five fields, and the name of a zone.
    ///
    /// # Errors
    /// [`TimetableError`]; also for a line that fits no day there is, such as 30 February.
    pub fn parse(cron: &str, zone: &str) -> Result<Self, TimetableError> {
        static PARSER: LazyLock<CronParser> = LazyLock::new(|| {
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build()
        });
        static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
        let fields: Vec<&str> = cron.split_ascii_whitespace().collect();
        let &[_, hour, ..] = fields.as_slice() else { return Err(five_fields(fields.len())) };
        if fields.len() != 5 {
            return Err(five_fields(fields.len()));
        }
        let is_every_hour = hour == "*";
        let cron = PARSER.parse(cron).map_err(|e| TimetableError::Cron(e.to_string()))?;
        let any_day = jiff::civil::date(2000, 1, 1).at(0, 0, 0, 0);
        if cron.find_next_occurrence(&any_day, true).is_err() {
            return Err(TimetableError::Cron("there is no such day".to_owned()));
        }
        let zone = ZONES.get(zone).map_err(|_| TimetableError::Zone)?;
        Ok(Self { cron, zone, is_every_hour })
    }

    /// The first time after this one; none where the calendar ends.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        if self.is_every_hour { self.next_by_elapsed_time(after) } else { self.next_by_the_clock(after) }
    }

    /// What is to be done at `now` about a schedule that was due at `due_at`; none while it is not due. Counts times
    /// backwards from now, so that a year without a server costs no more than a day.
    pub fn due(&self, due_at: Timestamp, now: Timestamp, catch_up: CatchUp) -> Option<Due> {
        if due_at > now {
            return None;
        }
        let next_at = self.next_after(now)?;
        let (mut fire, mut is_missed) = self.last_times(due_at, now);
        let wanted = match catch_up {
            CatchUp::Skip => {
                let is_on_time = fire.last().is_some_and(|at| now.duration_since(*at) <= ON_TIME_WITHIN);
                usize::from(is_on_time)
            }
            CatchUp::Last => 1,
            CatchUp::All => MOST_CAUGHT_UP,
        };
        let left_out = fire.len().saturating_sub(wanted);
        is_missed |= left_out > 0;
        fire.drain(..left_out);
        Some(Due { fire, is_missed, next_at })
    }

    /// The last times from `first` to `until`, both included, at most as many as are caught up; and whether there are
    /// more.
    fn last_times(&self, first: Timestamp, until: Timestamp) -> (Vec<Timestamp>, bool) {
        let mut window = SignedDuration::from_hours(1);
        loop {
            let start = until.saturating_sub(window).unwrap_or(Timestamp::MIN).max(first);
            let mut found = VecDeque::new();
            let mut count = 0;
            let mut at = self.next_after(start.saturating_sub(TICK).unwrap_or(start));
            while let Some(time) = at.filter(|time| *time <= until) {
                count += 1;
                found.push_back(time);
                if found.len() > MOST_CAUGHT_UP {
                    found.pop_front();
                }
                at = self.next_after(time);
            }
            if start == first || count > MOST_CAUGHT_UP {
                return (found.into(), count > MOST_CAUGHT_UP);
            }
            window = window.saturating_mul(4);
        }
    }

    fn next_by_the_clock(&self, after: Timestamp) -> Option<Timestamp> {
        let mut civil = self.zone.to_datetime(after);
        loop {
            civil = self.cron.find_next_occurrence(&civil, false).ok()?;
            // the hour that comes twice is behind us the second time
            if let Some(at) = self.first_moment(civil).filter(|at| *at > after) {
                return Some(at);
            }
        }
    }

    /// The moment at which the zone's clock first shows this time, or has skipped it.
    fn first_moment(&self, civil: DateTime) -> Option<Timestamp> {
        let found = self.zone.to_ambiguous_timestamp(civil);
        match found.offset() {
            AmbiguousOffset::Gap { .. } => {
                let before = found.earlier().ok()?;
                self.zone.following(before).next().map(|change| change.timestamp())
            }
            AmbiguousOffset::Fold { .. } | AmbiguousOffset::Unambiguous { .. } => found.earlier().ok(),
        }
    }

    fn next_by_elapsed_time(&self, after: Timestamp) -> Option<Timestamp> {
        let (mut from, mut is_included) = (after, false);
        loop {
            let offset = self.zone.to_offset(from);
            let found = self.cron.find_next_occurrence(&offset.to_datetime(from), is_included).ok()?;
            let at = offset.to_timestamp(found).ok()?;
            let change = self.zone.following(from).map(|c| c.timestamp()).find(|c| *c > from);
            match change.filter(|change| *change <= at) {
                Some(change) => (from, is_included) = (change, true),
                None => return Some(at),
            }
        }
    }
}

fn five_fields(given: usize) -> TimetableError {
    TimetableError::Cron(format!(
        "a cron line has five fields, minute hour day-of-month month day-of-week, and this has {given}"
    ))
}

#[cfg(test)]
mod tests;
