//! When a function that is started by the clock starts next, and what becomes of starts that were missed.
//!
//! A schedule names times of day in a zone. A zone's clock is set twice a year, so a time of day may come twice or never;
//! a start comes once all the same: a time that comes twice counts the first time, one that is left out counts at the
//! moment after the gap. Where the hour is `*` the start is not bound to a time of day: it goes by the time that has passed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use croner::Cron as Pattern;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, Zoned};

use crate::base::{Millis, Span};

use super::Write;

/// The name of the event that a start by the clock has.
pub const SCHEDULED: &str = "stepwell/scheduled.timer";
/// Starts that one decision makes up for, at most; the next decision goes on from there.
const STARTS_AT_ONCE: usize = 500;
/// Missed starts that are counted one by one.
const COUNTED: u32 = 10_000;
/// The beginning of 2024, from which the times between the starts of a schedule are looked at, and how many of them are.
const GAPS_FROM: Millis = Millis(1_704_067_200_000);
const GAPS: usize = 100;
/// How late the engine may notice a start that `missed: skip` does not count as missed: it was up all the time.
const LATE: Span = Span::seconds(60);
/// The fields of a schedule, with what each may hold.
const FIELDS: [(&str, &str); 6] = [
    ("second", "0 to 59"),
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31"),
    ("month", "1 to 12 or JAN to DEC"),
    ("day of the week", "0 to 7 (0 and 7 are Sunday) or SUN to SAT"),
];
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
/// Short names of schedules, as Vixie cron has them.
pub const NICKNAMES: [(&str, &str); 6] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * SUN"),
    ("@daily", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// What becomes of starts that were missed while the engine did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missed {
    /// They are left out.
    Skip,
    /// One start makes up for all of them.
    #[default]
    RunOnce,
    /// Each is made up for.
    RunAll,
}

impl Missed {
    /// The words that a config writes.
    pub const WORDS: [(&'static str, Missed); 3] = [("skip", Missed::Skip), ("run-once", Missed::RunOnce), ("run-all", Missed::RunAll)];

    /// The word for it.
    pub fn word(self) -> &'static str {
        Missed::WORDS.iter().find(|(_, missed)| *missed == self).map_or("", |(word, _)| word)
    }
}

/// Starts a function by the clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Cron {
    /// When.
    pub schedule: Schedule,
    /// The most time that a start is delayed at random.
    pub jitter: Span,
    /// What becomes of missed starts.
    pub missed: Missed,
}

/// Times of day in a zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    text: Arc<str>,
    zone: TimeZone,
    pattern: Pattern,
    /// The hour is `*`: it goes by the time that has passed.
    every_hour: bool,
}

/// What is wrong with the text of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadSchedule {
    /// The bytes of the text that are wrong.
    pub range: Range<usize>,
    /// What is wrong with them.
    pub message: String,
    /// What would be right there.
    pub expected: String,
    /// A line of advice.
    pub help: Option<String>,
}

/// A schedule of a function. It is told by what it says: where it stands among others, which may come and go, is of no account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CronKey {
    /// The function's id.
    pub function: Arc<str>,
    /// The schedule and its zone.
    pub schedule: Arc<str>,
}

/// Where a function stands in one of its schedules, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronRow {
    /// The function's id.
    pub function: Arc<str>,
    /// The schedule and its zone; another one starts anew.
    pub schedule: Arc<str>,
    /// The last time of the schedule that was decided on; the beginning where none was.
    pub last: Millis,
    /// When the next start is due, with its jitter; none where there will be none.
    pub due: Option<Millis>,
}

/// A decision on one or more times of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// The time that a run is to start for; none where there is nothing to start.
    pub start: Option<Millis>,
    /// Starts before it that it makes up for.
    pub missed: u32,
    /// Where the function stands afterwards.
    pub row: CronRow,
}

/// Where functions stand in their schedules, once these are in force.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stand {
    /// Positions that are as they were known.
    pub kept: Vec<CronRow>,
    /// Positions that are to be stored before anything is decided on them.
    pub put: Vec<CronRow>,
    /// Schedules that are there no longer.
    pub gone: Vec<CronKey>,
}

impl Stand {
    /// What is to be stored.
    pub fn writes(&self) -> Vec<Write> {
        let put = self.put.iter().cloned().map(Write::PutCron);
        put.chain(self.gone.iter().cloned().map(Write::DropCron)).collect()
    }
}

/// Where functions stand in these schedules of theirs at `now`: one of which the position is `known` goes on from there, whatever
/// becomes of others, and one that is new begins. `unit` gives a random number from 0 to 1.
pub fn stand<'c>(
    crons: impl IntoIterator<Item = (&'c Arc<str>, &'c Cron)>,
    known: impl IntoIterator<Item = CronRow>,
    now: Millis,
    unit: &mut dyn FnMut() -> f64,
) -> Stand {
    let mut known: BTreeMap<CronKey, CronRow> = known.into_iter().map(|row| (row.key(), row)).collect();
    let mut stand = Stand::default();
    for (function, cron) in crons {
        let before = known.remove(&cron.key(function));
        let row = before.as_ref().and_then(|row| cron.go_on(row, unit)).unwrap_or_else(|| cron.begin(function, now, unit));
        let rows = if before.as_ref() == Some(&row) { &mut stand.kept } else { &mut stand.put };
        rows.push(row);
    }
    stand.gone = known.into_keys().collect();
    stand
}

impl CronRow {
    /// The schedule that it is about.
    pub fn key(&self) -> CronKey {
        CronKey { function: Arc::clone(&self.function), schedule: Arc::clone(&self.schedule) }
    }
}

impl Schedule {
    /// Reads a schedule: five fields, six with the second before them, or a nickname such as `@daily`.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn new(text: &str, zone: TimeZone) -> Result<Schedule, BadSchedule> {
        let spelled = match text.trim() {
            nickname if nickname.starts_with('@') => spelled_out(nickname, text.len())?,
            _ => text,
        };
        let fields = fields(spelled);
        if let Some(prefix) =
            fields.first().filter(|range| spelled[range.start..].starts_with("TZ=") || spelled[range.start..].starts_with("CRON_TZ="))
        {
            return Err(zone_in_front(spelled, prefix));
        }
        if !(5..=6).contains(&fields.len()) {
            return Err(wrong_number(text, &fields));
        }
        let first = FIELDS.len() - fields.len();
        for (range, (name, expected)) in fields.iter().zip(&FIELDS[first..]) {
            if let Some((message, help)) = field_problem(&spelled[range.clone()], name) {
                return Err(BadSchedule { range: range.clone(), message, expected: format!("expected {expected}"), help });
            }
        }
        let hour = &spelled[fields[2 - first].clone()];
        let every_hour = matches!(hour, "*" | "?");
        let bad = |message: String| BadSchedule { range: 0..text.len(), message, expected: String::new(), help: None };
        let pattern = parser().parse(spelled).map_err(|error| bad(error.to_string()))?;
        let schedule = Schedule { text: Arc::from(text.trim()), zone, pattern, every_hour };
        // From a year in which every date comes within the search's bounds, whatever year it is.
        if schedule.civil_after(DateTime::constant(2024, 1, 1, 0, 0, 0, 0)).is_none() {
            let help = Some("no month has such a day".to_owned());
            return Err(BadSchedule { help, ..bad(format!("`{text}` never comes")) });
        }
        Ok(schedule)
    }

    /// The schedule as it was written.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The zone's name.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// Schedule and zone in one text: another one is another schedule.
    pub fn identity(&self) -> Arc<str> {
        Arc::from(format!("{} {}", self.text, self.zone_name()))
    }

    /// Whether it has the same fields in the same zone as another one, however the two are written: `@daily` and `0 0 * * *`.
    pub fn is_same(&self, other: &Schedule) -> bool {
        (&self.pattern, self.every_hour, self.zone_name()) == (&other.pattern, other.every_hour, other.zone_name())
    }

    /// The first time of the schedule after `after`; none at the end of time.
    pub fn next(&self, after: Millis) -> Option<Millis> {
        let after = Timestamp::from_millisecond(after.0).ok()?;
        let next = if self.every_hour {
            let from: Zoned = after.to_zoned(self.zone.clone());
            self.pattern.find_next_occurrence(&from, false).ok()?.timestamp()
        } else {
            self.time_of_day_after(after)?
        };
        Some(Millis(next.as_millisecond()))
    }

    /// The shortest time between two starts, among the first hundred from the beginning of 2024 on; none where there is one alone.
    pub fn shortest_gap(&self) -> Option<Span> {
        let first = self.next(Millis(GAPS_FROM.0 - 1));
        let starts: Vec<Millis> = std::iter::successors(first, |at| self.next(*at)).take(GAPS + 1).collect();
        starts.windows(2).map(|pair| pair[1].since(pair[0])).min()
    }

    /// A moment as it is written in the schedule's zone, with its distance from UTC.
    pub fn local(&self, at: Millis) -> String {
        match Timestamp::from_millisecond(at.0) {
            Ok(stamp) => stamp.to_zoned(self.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            Err(_) => at.rfc3339(),
        }
    }

    fn time_of_day_after(&self, after: Timestamp) -> Option<Timestamp> {
        let mut civil = self.zone.to_datetime(after);
        loop {
            civil = self.civil_after(civil)?;
            let ambiguous = self.zone.to_ambiguous_timestamp(civil);
            let at = match ambiguous.offset() {
                AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil).ok()?,
                AmbiguousOffset::Fold { before, .. } => before.to_timestamp(civil).ok()?,
                AmbiguousOffset::Gap { after, .. } => {
                    // Read with the later offset it lies before the clock is set, which is what comes next.
                    let before = after.to_timestamp(civil).ok()?;
                    self.zone.following(before).next()?.timestamp()
                }
            };
            if at > after {
                return Some(at);
            }
        }
    }

    fn civil_after(&self, civil: DateTime) -> Option<DateTime> {
        self.pattern.find_next_occurrence(&civil, false).ok()
    }

    /// The last time of the schedule up to `now`, where it is known that `known` is one that lies before it.
    fn latest(&self, known: Millis, now: Millis) -> Millis {
        const HOUR: i64 = 3_600_000;
        let mut latest = known;
        for hours in [1, 24, 24 * 32, 24 * 367] {
            let from = Millis(now.0 - hours * HOUR).max(known);
            if self.next(from).is_some_and(|next| next <= now) {
                latest = from;
                break;
            }
        }
        while let Some(next) = self.next(latest).filter(|next| *next <= now) {
            latest = next;
        }
        latest
    }
}

impl Cron {
    /// The schedule as one of this function.
    pub fn key(&self, function: &Arc<str>) -> CronKey {
        CronKey { function: Arc::clone(function), schedule: self.schedule.identity() }
    }

    /// Whether this is the schedule of a position.
    pub fn is_of(&self, row: &CronRow) -> bool {
        row.schedule == self.schedule.identity()
    }

    /// Whether it is written so, or so with its zone behind it: `0 7 * * *`, or `0 7 * * * Europe/Berlin`.
    pub fn is_named(&self, text: &str) -> bool {
        let text = text.trim();
        *text == **self.schedule.text() || *text == *self.schedule.identity()
    }

    /// Where a function stands that begins with its schedule at `now`. `unit` gives a random number from 0 to 1.
    pub fn begin(&self, function: &Arc<str>, now: Millis, unit: &mut dyn FnMut() -> f64) -> CronRow {
        self.row(function, now, unit)
    }

    /// Where a function stands that was found in the store; none where that was by another schedule.
    pub fn go_on(&self, row: &CronRow, unit: &mut dyn FnMut() -> f64) -> Option<CronRow> {
        if !self.is_of(row) {
            return None;
        }
        let slot = self.schedule.next(row.last);
        let fits = match (slot, row.due) {
            (Some(slot), Some(due)) => due >= slot && due <= slot.after(self.jitter),
            (None, None) => true,
            _ => false,
        };
        // The jitter may have been changed, or the zone's rules.
        Some(if fits { row.clone() } else { self.row(&row.function, row.last, unit) })
    }

    /// What is to be done at `now`, in order; nothing where nothing is due. `up_since` is when the engine began to watch:
    /// what was due before that was missed.
    pub fn ticks(&self, row: &CronRow, now: Millis, up_since: Millis, unit: &mut dyn FnMut() -> f64) -> Vec<Tick> {
        let Some(due) = row.due.filter(|due| *due <= now) else { return Vec::new() };
        let Some(first) = self.schedule.next(row.last) else { return Vec::new() };
        // A later time counts as come once it is due whatever its jitter would be.
        let come = Millis(now.0.saturating_sub(self.jitter.0));
        let after = |slot: Millis| self.schedule.next(slot).filter(|next| *next <= come);
        if self.missed == Missed::RunAll {
            let slots = std::iter::successors(Some(first), |slot| after(*slot)).take(STARTS_AT_ONCE);
            let tick = |slot| Tick { start: Some(slot), missed: 0, row: self.row(&row.function, slot, unit) };
            return slots.map(tick).collect();
        }
        let (mut last, mut missed) = (first, 0);
        while let Some(next) = after(last) {
            (last, missed) = (next, missed + 1);
            if missed == COUNTED {
                last = self.schedule.latest(last, come);
                break;
            }
        }
        let due = if missed == 0 { due } else { last.after(self.jitter) };
        let in_time = due >= up_since && now.since(due) <= LATE;
        let start = (self.missed == Missed::RunOnce || in_time).then_some(last);
        vec![Tick { start, missed, row: self.row(&row.function, last, unit) }]
    }

    fn row(&self, function: &Arc<str>, last: Millis, unit: &mut dyn FnMut() -> f64) -> CronRow {
        let delay = if self.jitter.0 > 0 { (unit() * (self.jitter.0 + 1) as f64) as i64 } else { 0 };
        let due = self.schedule.next(last).map(|slot| slot.after(Span(delay.clamp(0, self.jitter.0))));
        CronRow { function: Arc::clone(function), schedule: self.schedule.identity(), last, due }
    }
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build()
}

/// The bytes of each field of a schedule.
fn fields(text: &str) -> Vec<Range<usize>> {
    let start = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    text.split_whitespace().map(|word| start(word)..start(word) + word.len()).collect()
}

fn spelled_out(nickname: &str, length: usize) -> Result<&'static str, BadSchedule> {
    if let Some((_, spelled)) = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(nickname)) {
        return Ok(spelled);
    }
    let names = NICKNAMES.iter().map(|(name, _)| *name);
    let help = match crate::base::diagnostic::nearest(nickname, names) {
        Some(right) => format!("did you mean `{right}`?"),
        None => "the short names are @yearly, @monthly, @weekly, @daily and @hourly".to_owned(),
    };
    let message = format!("`{nickname}` is no schedule");
    Err(BadSchedule { range: 0..length, message, expected: "expected five fields or a short name".to_owned(), help: Some(help) })
}

fn wrong_number(text: &str, fields: &[Range<usize>]) -> BadSchedule {
    let help = "minute, hour, day of the month, month, day of the week: `0 7 * * MON-FRI` is 7:00 from Monday to Friday";
    let message = match fields.len() {
        0 => "the schedule is empty".to_owned(),
        1 => format!("`{text}` has one field"),
        number => format!("`{text}` has {number} fields"),
    };
    let expected = "expected five, or six with the second before them".to_owned();
    BadSchedule { range: 0..text.len(), message, expected, help: Some(help.to_owned()) }
}

/// A zone in front of the schedule, as other engines write it.
fn zone_in_front(text: &str, prefix: &Range<usize>) -> BadSchedule {
    let zone = text[prefix.clone()].split('=').nth(1).unwrap_or_default();
    BadSchedule {
        range: prefix.clone(),
        message: "the zone is not part of the schedule".to_owned(),
        expected: "expected five fields".to_owned(),
        help: Some(format!("it has a key of its own: {{ schedule: \"{}\", tz: {zone} }}", text[prefix.end..].trim())),
    }
}

/// What is wrong with one field, and advice.
fn field_problem(field: &str, name: &str) -> Option<(String, Option<String>)> {
    let no = |part: &str| format!("`{part}` is no {name}");
    let words: &[&str] = match name {
        "month" => &MONTHS,
        "day of the week" => &DAYS,
        _ => &[],
    };
    let letters: &[&str] = match name {
        "day of the month" => &["L", "W", "LW"],
        "day of the week" => &["L"],
        _ => &[],
    };
    for part in field.split(',') {
        if part.is_empty() {
            return Some((format!("the list `{field}` has an empty entry"), None));
        }
        for word in part.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()) {
            let upper = word.to_uppercase();
            if words.contains(&upper.as_str()) || letters.contains(&upper.as_str()) {
                continue;
            }
            let near = words.iter().find(|known| upper.starts_with(**known));
            let near = near.copied().or_else(|| crate::base::diagnostic::nearest(&upper, words.iter().copied()));
            return Some((no(part), near.map(|near| format!("did you mean `{near}`?"))));
        }
        let alone = FIELDS.iter().map(|(other, _)| if *other == name { part } else { "*" }).collect::<Vec<_>>().join(" ");
        if parser().parse(&alone).is_err() {
            let step = part.split_once('/').filter(|(from, _)| !from.contains(['*', '-']));
            let help = step.map(|(from, step)| match from {
                "" => format!("every {step}th is `*/{step}`"),
                from => format!("every {step}th from {from} on is a range with a step: `{from}-{}/{step}`", last_of(name)),
            });
            return Some((
                no(part),
                help.or_else(|| Some("a field is `*`, a number, a list `1,15`, a range `1-5` or a step `*/15`".to_owned())),
            ));
        }
    }
    None
}

/// The largest number of a field.
fn last_of(name: &str) -> &'static str {
    match name {
        "hour" => "23",
        "day of the month" => "31",
        "month" => "12",
        "day of the week" => "6",
        _ => "59",
    }
}

#[cfg(test)]
mod tests;
