//! The calendar: times of a zone read and written, years and months added, differences in whole units.

use jiff::civil::{Date, DateTime};
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{Span as JiffSpan, Timestamp, ToSpan as _, Unit, Zoned};
use rhai::{Dynamic, Engine, Map};

use crate::base::Millis;
use crate::base::diagnostic::nearest;

use super::super::error::{Fault, Thrown};
use super::super::time::{self, Moment, Period};

/// Longest pattern, in bytes.
const PATTERN_BYTES: usize = 1_000;
const UNITS: [(&str, Unit); 7] = [
    ("years", Unit::Year),
    ("months", Unit::Month),
    ("weeks", Unit::Week),
    ("days", Unit::Day),
    ("hours", Unit::Hour),
    ("minutes", Unit::Minute),
    ("seconds", Unit::Second),
];

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("date", |text: &str| time::moment(text));
    engine.register_fn("date", |text: &str, zone: &str| civil(text, zone));
    engine.register_fn("date", |text: &str, pattern: &str, zone: &str| parsed(text, pattern, zone));
    engine.register_fn("duration", |length: Dynamic| time::period(&length));
    engine.register_fn("format", |moment: Moment, pattern: &str| format(moment, pattern, "UTC"));
    engine.register_fn("format", |moment: Moment, pattern: &str, zone: &str| format(moment, pattern, zone));
    engine.register_fn("parts", |moment: Moment| parts(moment, "UTC"));
    engine.register_fn("parts", |moment: Moment, zone: &str| parts(moment, zone));
    engine.register_fn("add", |moment: Moment, length: Dynamic| add(moment, &length, "UTC"));
    engine.register_fn("add", |moment: Moment, length: Dynamic, zone: &str| add(moment, &length, zone));
    engine.register_fn("start_of", |moment: Moment, unit: &str| start_of(moment, unit, "UTC"));
    engine.register_fn("start_of", |moment: Moment, unit: &str, zone: &str| start_of(moment, unit, zone));
    engine.register_fn("diff", |moment: Moment, other: Moment, unit: &str| diff(moment, other, unit, "UTC"));
    engine.register_fn("diff", |moment: Moment, other: Moment, unit: &str, zone: &str| diff(moment, other, unit, zone));
    engine.register_get("minutes", |period: &mut Period| period.0.0 as f64 / 60_000.0);
    engine.register_get("hours", |period: &mut Period| period.0.0 as f64 / 3_600_000.0);
    engine.register_get("days", |period: &mut Period| period.0.0 as f64 / 86_400_000.0);
    engine.register_fn("*", |period: Period, times: i64| scaled(period, times));
    engine.register_fn("*", |times: i64, period: Period| scaled(period, times));
    engine.register_fn("/", |period: Period, parts: i64| {
        if parts < 1 {
            return Err(bad(format!("a duration is divided by a number from 1, not by {parts}")));
        }
        Ok(Period(crate::base::Span(period.0.0 / parts)))
    });
    engine.register_fn("-", |first: Period, second: Period| {
        if second.0 > first.0 {
            return Err(bad(format!("{first} - {second} would be negative, and a duration is never negative")));
        }
        Ok(Period(crate::base::Span(first.0.0 - second.0.0)))
    });
}

fn bad(message: impl Into<String>) -> Fault {
    Thrown::last("E0407", message).fault()
}

fn scaled(period: Period, times: i64) -> Result<Period, Fault> {
    let ms = period.0.0.checked_mul(times).filter(|ms| *ms >= 0);
    ms.map(|ms| Period(crate::base::Span(ms))).ok_or_else(|| bad(format!("{period} * {times} is no duration")))
}

/// A time zone of the IANA database, which is part of the program.
fn zone(name: &str) -> Result<TimeZone, Fault> {
    TimeZone::get(name).map_err(|_| {
        let thrown = Thrown::last("E0407", format!("there is no time zone `{name}`"));
        let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => thrown.help(format!("did you mean `{near}`?")).fault(),
            None => thrown.help("a zone is named as in Europe/Berlin, or UTC").fault(),
        }
    })
}

/// What is wrong with a literal name of a zone, and what to do about it.
pub(in crate::script) fn wrong_zone(name: &str) -> Option<(String, String)> {
    told(*zone(name).err()?)
}

/// What is wrong with a literal unit of time.
pub(in crate::script) fn wrong_unit(name: &str) -> Option<(String, String)> {
    told(*unit(name).err()?)
}

/// What is wrong with a literal pattern of strftime.
pub(in crate::script) fn wrong_pattern(pattern: &str) -> Option<(String, String)> {
    let (message, _) = told(*format(Moment(Millis(0)), pattern, "UTC").err()?)?;
    Some((message, "the pattern is strftime's, such as %Y-%m-%d %H:%M".to_owned()))
}

/// A fault of these functions as a message and a line of advice.
fn told(fault: rhai::EvalAltResult) -> Option<(String, String)> {
    let rhai::EvalAltResult::ErrorRuntime(value, _) = fault else { return None };
    let thrown = value.try_cast::<Thrown>()?;
    Some((thrown.message, thrown.help.unwrap_or_default()))
}

fn zoned(moment: Moment, name: &str) -> Result<Zoned, Fault> {
    let stamp = Timestamp::from_millisecond(moment.0.0).map_err(|_| outside())?;
    Ok(stamp.to_zoned(zone(name)?))
}

fn outside() -> Fault {
    bad("the time lies outside of the calendar")
}

fn moment(zoned: &Zoned) -> Moment {
    Moment(Millis(zoned.timestamp().as_millisecond()))
}

/// A date, with or without a time of day, as clocks of a zone show it. A time that they leave out is the one after the gap;
/// one that they show twice is the first.
fn civil(text: &str, name: &str) -> Result<Moment, Fault> {
    let zone = zone(name)?;
    let trimmed = text.trim();
    if trimmed.parse::<Timestamp>().is_ok() {
        return time::moment(trimmed);
    }
    let date = if trimmed.len() <= 10 { trimmed.parse::<Date>().map(|date| date.at(0, 0, 0, 0)) } else { trimmed.parse::<DateTime>() };
    let date = date.map_err(|_| bad(format!("`{text}` is not a date; write 2026-03-29 or 2026-03-29 09:30")))?;
    date.to_zoned(zone).map(|zoned| moment(&zoned)).map_err(|_| outside())
}

/// A text by a pattern of strftime; the zone counts where the pattern has none.
fn parsed(text: &str, pattern: &str, name: &str) -> Result<Moment, Fault> {
    let zone = zone(name)?;
    pattern_fits(pattern)?;
    let wrong = |why: jiff::Error| bad(format!("`{text}` is no time by the pattern `{pattern}`: {why}"));
    let broken = strtime::parse(pattern, text).map_err(wrong)?;
    if broken.offset().is_some() {
        let stamp = broken.to_timestamp().map_err(wrong)?;
        return Ok(Moment(Millis(stamp.as_millisecond())));
    }
    let date = match broken.to_datetime() {
        Ok(date) => date,
        Err(_) => broken.to_date().map_err(wrong)?.at(0, 0, 0, 0),
    };
    date.to_zoned(zone).map(|zoned| moment(&zoned)).map_err(|_| outside())
}

fn pattern_fits(pattern: &str) -> Result<(), Fault> {
    if pattern.len() > PATTERN_BYTES {
        return Err(bad(format!("a pattern has at most {PATTERN_BYTES} bytes")));
    }
    Ok(())
}

fn format(moment: Moment, pattern: &str, name: &str) -> Result<String, Fault> {
    pattern_fits(pattern)?;
    let zoned = zoned(moment, name)?;
    let text = strtime::BrokenDownTime::from(&zoned).to_string(pattern);
    text.map_err(|why| bad(format!("`{pattern}` is not a pattern for times: {why}")))
}

fn parts(moment: Moment, name: &str) -> Result<Map, Fault> {
    let zoned = zoned(moment, name)?;
    let mut map = Map::new();
    let mut add = |name: &str, value: Dynamic| map.insert(name.into(), value);
    add("year", i64::from(zoned.year()).into());
    add("month", i64::from(zoned.month()).into());
    add("day", i64::from(zoned.day()).into());
    add("hour", i64::from(zoned.hour()).into());
    add("minute", i64::from(zoned.minute()).into());
    add("second", i64::from(zoned.second()).into());
    add("ms", i64::from(zoned.millisecond()).into());
    add("weekday", i64::from(zoned.weekday().to_monday_one_offset()).into());
    add("day_of_year", i64::from(zoned.day_of_year()).into());
    add("offset", i64::from(zoned.offset().seconds()).into());
    add("zone", name.into());
    Ok(map)
}

/// A unit by its name in singular or plural.
fn unit(name: &str) -> Result<Unit, Fault> {
    let found = UNITS.iter().find(|(known, _)| *known == name || known.strip_suffix('s') == Some(name));
    found.map(|(_, unit)| *unit).ok_or_else(|| {
        let names = UNITS.map(|(name, _)| name);
        let help = nearest(name, names).map_or_else(|| names.join(", "), |near| format!("did you mean `{near}`?"));
        Thrown::last("E0407", format!("there is no unit of time `{name}`")).help(help).fault()
    })
}

/// Adds a duration, or a map of units: a month later is the same day, or the last one of a shorter month; a day later is the same
/// time of day.
fn add(from: Moment, length: &Dynamic, name: &str) -> Result<Moment, Fault> {
    let Some(map) = length.read_lock::<Map>() else {
        let ms = time::period(length)?.0.0;
        let moved = from.0.0.checked_add(ms).filter(|ms| Timestamp::from_millisecond(*ms).is_ok());
        return moved.map(|ms| Moment(Millis(ms))).ok_or_else(outside);
    };
    let mut counts = Vec::new();
    for (name, value) in map.iter() {
        counts.push((unit(name)?, value.as_int().map_err(|kind| bad(format!("{name} is a whole number, not {kind}")))?));
    }
    // The larger units come first, also where some are added and others taken away.
    counts.sort_by_key(|(unit, _)| std::cmp::Reverse(*unit));
    let mut moved = zoned(from, name)?;
    for part in counts.chunk_by(|(_, one), (_, other)| (*one < 0) == (*other < 0)) {
        let mut span = JiffSpan::new();
        for (unit, count) in part {
            let count = *count;
            let set = match unit {
                Unit::Year => span.try_years(count),
                Unit::Month => span.try_months(count),
                Unit::Week => span.try_weeks(count),
                Unit::Day => span.try_days(count),
                Unit::Hour => span.try_hours(count),
                Unit::Minute => span.try_minutes(count),
                _ => span.try_seconds(count),
            };
            span = set.map_err(|_| outside())?;
        }
        moved = moved.checked_add(span).map_err(|_| outside())?;
    }
    Ok(moment(&moved))
}

fn start_of(from: Moment, name: &str, zone: &str) -> Result<Moment, Fault> {
    let zoned = zoned(from, zone)?;
    let first_of = |date: Date| date.to_zoned(zoned.time_zone().clone());
    let start = match unit(name)? {
        Unit::Year => first_of(zoned.date().first_of_year()),
        Unit::Month => first_of(zoned.date().first_of_month()),
        Unit::Week => {
            let back = i64::from(zoned.weekday().to_monday_zero_offset());
            return match zoned.date().checked_sub(back.days()).and_then(first_of) {
                Ok(start) => Ok(moment(&start)),
                Err(_) => Err(outside()),
            };
        }
        Unit::Day => zoned.start_of_day(),
        smaller => zoned.round(jiff::ZonedRound::new().smallest(smaller).mode(jiff::RoundMode::Floor)),
    };
    start.map(|start| moment(&start)).map_err(|_| outside())
}

/// How many whole units lie between two times: negative where the first is the earlier one.
fn diff(later: Moment, earlier: Moment, name: &str, zone: &str) -> Result<i64, Fault> {
    let unit = unit(name)?;
    let (later, earlier) = (zoned(later, zone)?, zoned(earlier, zone)?);
    let span = later.since(jiff::ZonedDifference::new(&earlier).largest(unit)).map_err(|_| outside())?;
    Ok(match unit {
        Unit::Year => i64::from(span.get_years()),
        Unit::Month => i64::from(span.get_months()),
        Unit::Week => i64::from(span.get_weeks()),
        Unit::Day => i64::from(span.get_days()),
        Unit::Hour => i64::from(span.get_hours()),
        Unit::Minute => span.get_minutes(),
        _ => span.get_seconds(),
    })
}
