//! Fields and methods of the API's own values.

use super::Where::Anywhere;
use super::{Entry, entry};

const fn field(name: &'static str, form: &'static [&'static str], doc: &'static str, example: &'static str, gives: &'static str) -> Entry {
    entry(name, form, Anywhere, doc, example, gives)
}

#[rustfmt::skip]
pub(super) const ENTRIES: &[Entry] = &[
    field("time.ms", &["-> whole"], "Milliseconds since 1970.", r#"date("1970-01-01T00:00:01Z").ms"#, "1000"),
    field("time.unix", &["-> whole"], "Whole seconds since 1970.", r#"date("1970-01-01T00:00:01Z").unix"#, "1"),
    field("duration.ms", &["-> whole"], "Its milliseconds.", r#"duration("1s500ms").ms"#, "1500"),
    field("duration.seconds", &["-> number"], "Its seconds, with a fraction.", "duration(90).seconds", "90.0"),
    field("duration.minutes", &["-> number"], "Its minutes, with a fraction.", "duration(90).minutes", "1.5"),
    field("duration.hours", &["-> number"], "Its hours, with a fraction.", "duration(\"90m\").hours", "1.5"),
    field("duration.days", &["-> number"], "Its days of 24 hours, with a fraction.", "duration(\"36h\").days", "1.5"),
    field("run.id", &["-> text"], "The run's id.", "run.id", ""),
    field("run.function", &["-> text"], "The function that it is a run of.", "run.function", ""),
    field("run.attempt", &["-> whole"], "The attempt from 1: of the step, in one; else of the code between steps.", "run.attempt", "1"),
    field("run.max_attempts", &["-> whole"], "How often it is tried at most.", "run.max_attempts", ""),
    field("run.key", &["-> any"], "The value of its first concurrency key, or ().", "run.key", ""),
    field("run.idempotency_key", &["-> text"], "A text that is the same in every attempt: of the step, in one; else of the run.", "run.idempotency_key", ""),
    field("run.started_at", &["-> time"], "When it first began.", "run.started_at", ""),
    field("run.replay_of", &["-> text | nothing"], "The run that it is a replay of, or ().", "run.replay_of", "null"),
    field("StepError.step", &["-> text"], "The key of the step whose attempts are used up, in `catch (e)`.", "e.step", ""),
    field("StepError.message", &["-> text"], "What the last attempt threw.", "e.message", ""),
    field("StepError.attempts", &["-> whole"], "How many attempts there were.", "e.attempts", ""),
    field("StepError.code", &["-> text"], "The code of the error, such as E0419, or an empty text.", "e.code", ""),
    field("StepError.data", &["-> any"], "More about it, or ().", "e.data", ""),
    field("Error.message", &["-> text"], "What is wrong: the error of a function of the API that is caught where it is thrown.", "e.message", ""),
    field("Error.code", &["-> text"], "Its code.", "e.code", ""),
    field("Error.data", &["-> any"], "More about it, or ().", "e.data", ""),
];
