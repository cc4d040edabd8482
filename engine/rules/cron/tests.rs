use super::*;

fn schedule(text: &str, zone: &str) -> Schedule {
    Schedule::new(text, TimeZone::get(zone).unwrap()).unwrap()
}

fn at(text: &str) -> Millis {
    Millis(text.parse::<Timestamp>().unwrap().as_millisecond())
}

/// The times of a schedule between two moments, as its zone shows them.
fn between(schedule: &Schedule, from: &str, to: &str) -> Vec<String> {
    let times = std::iter::successors(schedule.next(at(from)), |last| schedule.next(*last));
    times.take_while(|time| *time < at(to)).map(|time| schedule.local(time)[5..].to_owned()).collect()
}

#[test]
fn a_schedule_names_times_of_day_in_its_zone() {
    let berlin = schedule("0 7 * * MON-FRI", "Europe/Berlin");
    let times = between(&berlin, "2026-11-26T12:00:00Z", "2026-12-02T00:00:00Z");
    assert_eq!(times, ["11-27T07:00:00+01:00", "11-30T07:00:00+01:00", "12-01T07:00:00+01:00"]);
    let seconds = schedule("*/20 30 12 24 12 *", "UTC");
    assert_eq!(between(&seconds, "2026-12-24T12:30:00Z", "2026-12-25T00:00:00Z"), ["12-24T12:30:20+00:00", "12-24T12:30:40+00:00"]);
    let daily = schedule("@daily", "Asia/Kolkata");
    assert_eq!(between(&daily, "2026-12-24T00:00:00Z", "2026-12-25T00:00:00Z"), ["12-25T00:00:00+05:30"]);
    assert_eq!(schedule("0 0 29 2 *", "UTC").next(at("2026-01-01T00:00:00Z")), Some(at("2028-02-29T00:00:00Z")));
}

#[test]
fn a_time_of_day_that_comes_twice_counts_once() {
    // On 2026-10-25 the clock of Berlin goes back from 3:00 to 2:00.
    let (from, to) = ("2026-10-24T22:00:00Z", "2026-10-25T12:00:00Z");
    assert_eq!(between(&schedule("30 2 * * *", "Europe/Berlin"), from, to), ["10-25T02:30:00+02:00"]);
    let twice = schedule("0,30 2,3 * * *", "Europe/Berlin");
    let expected = ["10-25T02:00:00+02:00", "10-25T02:30:00+02:00", "10-25T03:00:00+01:00", "10-25T03:30:00+01:00"];
    assert_eq!(between(&twice, from, to), expected);
    // Also where the engine starts between the first time and the second.
    let (from, to) = ("2026-10-25T01:10:00Z", "2026-10-25T12:00:00Z");
    assert_eq!(between(&schedule("30 2 * * *", "Europe/Berlin"), from, to), [] as [&str; 0]);
}

#[test]
fn a_time_of_day_that_is_left_out_counts_right_after_the_gap() {
    // On 2026-03-29 the clock of Berlin goes on from 2:00 to 3:00.
    let (from, to) = ("2026-03-28T22:00:00Z", "2026-03-29T12:00:00Z");
    assert_eq!(between(&schedule("30 2 * * *", "Europe/Berlin"), from, to), ["03-29T03:00:00+02:00"]);
    // Several of them are one start, and so is one together with the time that follows the gap.
    let several = schedule("0,15,30 2,3 * * *", "Europe/Berlin");
    assert_eq!(between(&several, from, to), ["03-29T03:00:00+02:00", "03-29T03:15:00+02:00", "03-29T03:30:00+02:00"]);
    // A clock that leaves out a whole day, and one that goes on by half an hour.
    let samoa = schedule("0 9 * * *", "Pacific/Apia");
    let times = between(&samoa, "2011-12-29T12:00:00Z", "2011-12-31T12:00:00Z");
    assert_eq!(times, ["12-29T09:00:00-10:00", "12-31T00:00:00+14:00", "12-31T09:00:00+14:00"]);
    let lord_howe = schedule("15 2 * * *", "Australia/Lord_Howe");
    assert_eq!(between(&lord_howe, "2026-10-03T15:00:00Z", "2026-10-04T12:00:00Z"), ["10-04T02:30:00+11:00"]);
}

#[test]
fn every_hour_goes_by_the_time_that_has_passed() {
    let hourly = schedule("30 * * * *", "Europe/Berlin");
    let autumn = between(&hourly, "2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z");
    assert_eq!(autumn, ["10-25T01:30:00+02:00", "10-25T02:30:00+02:00", "10-25T02:30:00+01:00", "10-25T03:30:00+01:00"]);
    let spring = between(&hourly, "2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z");
    assert_eq!(spring, ["03-29T01:30:00+01:00", "03-29T03:30:00+02:00", "03-29T04:30:00+02:00"]);
}

#[test]
fn a_year_of_days_has_each_day_once_in_every_zone() {
    for zone in ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Casablanca", "Asia/Tehran"]
    {
        for text in ["0 0 * * *", "30 2 * * *", "59 23 * * *"] {
            let times = between(&schedule(text, zone), "2026-01-01T12:00:00Z", "2027-01-01T12:00:00Z");
            let days: std::collections::BTreeSet<&str> = times.iter().map(|time| &time[..5]).collect();
            assert_eq!((times.len(), days.len()), (365, 365), "{text} {zone}");
        }
    }
}

#[test]
fn what_is_no_schedule_is_refused_where_it_is_wrong() {
    let told = |text: &str| {
        let error = Schedule::new(text, TimeZone::UTC).unwrap_err();
        (text[error.range.clone()].to_owned(), error.message, error.help.unwrap_or_default())
    };
    let table = [
        ("61 * * * *", "61", "`61` is no minute"),
        ("0 24 * * *", "24", "`24` is no hour"),
        ("0 0 * * MONDAY", "MONDAY", "`MONDAY` is no day of the week"),
        ("0 0 * FRI *", "FRI", "`FRI` is no month"),
        ("0 0 1,,2 * *", "1,,2", "the list `1,,2` has an empty entry"),
        ("0 0 5-1 * *", "5-1", "`5-1` is no day of the month"),
        ("0/15 * * * *", "0/15", "`0/15` is no minute"),
        ("*/0 * * * *", "*/0", "`*/0` is no minute"),
        ("0 7 * *", "0 7 * *", "`0 7 * *` has 4 fields"),
        ("", "", "the schedule is empty"),
        ("@dayly", "@dayly", "`@dayly` is no schedule"),
        ("0 0 30 2 *", "0 0 30 2 *", "`0 0 30 2 *` never comes"),
        ("TZ=Europe/Paris 0 7 * * *", "TZ=Europe/Paris", "the zone is not part of the schedule"),
    ];
    for (text, place, message) in table {
        let (found, told, _) = told(text);
        assert_eq!((found.as_str(), told.as_str()), (place, message));
    }
    assert_eq!(told("0 0 * * MONDAY").2, "did you mean `MON`?");
    assert_eq!(told("0/15 * * * *").2, "every 15th from 0 on is a range with a step: `0-59/15`");
}

fn cron(text: &str, jitter: Span, missed: Missed) -> Cron {
    Cron { schedule: schedule(text, "UTC"), jitter, missed }
}

const NOON: &str = "2026-11-27T12:00:00Z";

fn begun(cron: &Cron) -> CronRow {
    cron.begin(&"f".into(), at(NOON), &mut || 0.5)
}

#[test]
fn nothing_starts_before_it_is_due_and_each_time_starts_once() {
    let hourly = cron("0 * * * *", Span(0), Missed::RunOnce);
    let row = begun(&hourly);
    assert_eq!((row.last, row.due), (at(NOON), Some(at("2026-11-27T13:00:00Z"))));
    assert_eq!(hourly.ticks(&row, at("2026-11-27T12:59:59.999Z"), at(NOON), &mut || 0.0), []);
    let [tick] = &hourly.ticks(&row, at("2026-11-27T13:00:00Z"), at(NOON), &mut || 0.0)[..] else { panic!("one start") };
    assert_eq!((tick.start, tick.missed), (Some(at("2026-11-27T13:00:00Z")), 0));
    assert_eq!(hourly.ticks(&tick.row, at("2026-11-27T13:00:00Z"), at(NOON), &mut || 0.0), []);
    assert_eq!(tick.row.due, Some(at("2026-11-27T14:00:00Z")));
}

#[test]
fn missed_starts_are_made_up_for_as_the_function_says() {
    let (later, row) = (at("2026-11-27T16:30:00Z"), begun(&cron("0 * * * *", Span(0), Missed::RunOnce)));
    let starts = |missed: Missed| -> Vec<(Option<Millis>, u32)> {
        let ticks = cron("0 * * * *", Span(0), missed).ticks(&row, later, later, &mut || 0.0);
        assert_eq!(ticks.last().map(|tick| tick.row.due), Some(Some(at("2026-11-27T17:00:00Z"))));
        ticks.iter().map(|tick| (tick.start, tick.missed)).collect()
    };
    let hour = |hour: &str| Some(at(&format!("2026-11-27T{hour}:00:00Z")));
    assert_eq!(starts(Missed::Skip), [(None, 3)]);
    assert_eq!(starts(Missed::RunOnce), [(hour("16"), 3)]);
    assert_eq!(starts(Missed::RunAll), [(hour("13"), 0), (hour("14"), 0), (hour("15"), 0), (hour("16"), 0)]);
}

#[test]
fn a_start_that_an_engine_notices_late_was_not_missed() {
    let hourly = cron("0 * * * *", Span(0), Missed::Skip);
    let tick = |now: &str, up_since: &str| hourly.ticks(&begun(&hourly), at(now), at(up_since), &mut || 0.0)[0].start;
    assert_eq!(tick("2026-11-27T13:00:20Z", NOON), Some(at("2026-11-27T13:00:00Z")));
    assert_eq!(tick("2026-11-27T13:00:20Z", "2026-11-27T13:00:10Z"), None, "it was not up at the time");
    assert_eq!(tick("2026-11-27T13:30:00Z", NOON), None, "the machine was asleep");
}

#[test]
fn a_long_pause_is_made_up_for_in_parts_or_by_one_start() {
    let minutely = cron("* * * * *", Span(0), Missed::RunAll);
    let a_year_on = at("2027-11-27T12:00:30Z");
    let mut row = begun(&minutely);
    let first = minutely.ticks(&row, a_year_on, a_year_on, &mut || 0.0);
    assert_eq!(first.len(), STARTS_AT_ONCE);
    row = first.last().unwrap().row.clone();
    assert!(row.due.unwrap() < a_year_on, "the next part is due at once");
    let once = cron("* * * * *", Span(0), Missed::RunOnce);
    let [tick] = &once.ticks(&begun(&once), a_year_on, a_year_on, &mut || 0.0)[..] else { panic!("one start") };
    assert_eq!((tick.start, tick.missed), (Some(at("2027-11-27T12:00:00Z")), COUNTED));
}

#[test]
fn jitter_delays_a_start_and_keeps_its_time() {
    let spread = cron("0 * * * *", Span::seconds(120), Missed::RunOnce);
    for (unit, due) in [(0.0, "13:00:00Z"), (0.5, "13:01:00Z"), (0.999_999_9, "13:02:00Z")] {
        let row = spread.begin(&"f".into(), at(NOON), &mut || unit);
        assert_eq!(row.due, Some(at(&format!("2026-11-27T{due}"))));
        assert_eq!(spread.ticks(&row, Millis(row.due.unwrap().0 - 1), at(NOON), &mut || 0.0), []);
        assert_eq!(spread.ticks(&row, row.due.unwrap(), at(NOON), &mut || 0.0)[0].start, Some(at("2026-11-27T13:00:00Z")));
        // It is what it was after a restart too.
        assert_eq!(spread.go_on(&row, &mut || 0.25), Some(row));
    }
}

#[test]
fn another_schedule_begins_anew_and_another_jitter_goes_on() {
    let old = cron("0 * * * *", Span::seconds(3_000), Missed::RunOnce);
    let row = old.begin(&"f".into(), at(NOON), &mut || 0.9);
    assert_eq!(cron("5 * * * *", Span(0), Missed::RunOnce).go_on(&row, &mut || 0.0), None);
    let less = cron("0 * * * *", Span::seconds(60), Missed::RunAll).go_on(&row, &mut || 0.0).unwrap();
    assert_eq!((less.last, less.due), (row.last, Some(at("2026-11-27T13:00:00Z"))));
}

#[test]
fn a_schedule_is_the_same_however_it_is_written() {
    let utc = |text: &str| schedule(text, "UTC");
    assert!(utc("@daily").is_same(&utc("0 0 * * *")) && utc("0 7 * * MON").is_same(&utc("0 7 * * 1")));
    assert!(!utc("0 7 * * *").is_same(&utc("0 8 * * *")));
    assert!(!utc("0 7 * * *").is_same(&schedule("0 7 * * *", "Europe/Berlin")), "another zone has other times");
    let seven = cron("0 7 * * *", Span(0), Missed::Skip);
    assert!(seven.is_named(" 0 7 * * *") && seven.is_named("0 7 * * * UTC") && !seven.is_named("0 7 * * * Europe/Berlin"));
}

#[test]
fn each_schedule_of_a_function_stands_by_itself() {
    let [hourly, daily, weekly] = ["@hourly", "@daily", "@weekly"].map(|text| cron(text, Span(0), Missed::RunAll));
    let (f, g): (Arc<str>, Arc<str>) = ("f".into(), "g".into());
    let later = at("2026-11-29T15:30:00Z");
    let first = stand([(&f, &hourly), (&f, &daily), (&g, &daily)], Vec::new(), at(NOON), &mut || 0.5);
    assert_eq!((first.kept.len(), first.put.len(), first.gone.len()), (0, 3, 0));
    let [of_hourly, of_daily, of_g] = &first.put[..] else { panic!("{first:?}") };
    // One more in front, in another order: those that were there stay where they were, and the new one begins.
    let more = stand([(&f, &weekly), (&f, &daily), (&f, &hourly), (&g, &daily)], first.put.clone(), later, &mut || 0.5);
    assert_eq!(more.kept, [of_daily.clone(), of_hourly.clone(), of_g.clone()]);
    assert_eq!(more.put, [weekly.begin(&f, later, &mut || 0.5)]);
    assert_eq!(more.gone, []);
    // Two less, and another function that keeps one of them.
    let known = [more.kept, more.put].concat();
    let less = stand([(&f, &hourly), (&g, &daily)], known, later, &mut || 0.5);
    assert_eq!((&less.kept, &less.put), (&vec![of_hourly.clone(), of_g.clone()], &vec![]));
    assert_eq!(less.writes(), [daily.key(&f), weekly.key(&f)].map(Write::DropCron));
}
