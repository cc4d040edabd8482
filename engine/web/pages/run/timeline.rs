//! The picture of a run: a row a step, an attempt a segment, on one scale of time.

use maud::{Markup, html};

use crate::base::{Millis, Span};
use crate::rules::{Failure, Kind};
use crate::server::view::{AttemptView, StepStatus, StepView, Trace};
use crate::web::Ask;
use crate::web::widgets;

use super::scale::{Mode, Scale, WIDTH, merged};
use super::{LINE_CHARACTERS, Shown};

/// Steps that are drawn at once; a run with more is shown in parts.
pub const STEPS_AT_ONCE: usize = 200;
/// How wide a sign at the end of a piece is at most, in units of the picture.
const MARK_WIDTH: f64 = 30.0;
/// Failed attempts that are named below a step.
const ATTEMPTS_NAMED: usize = 6;

/// What a piece of time was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Busy,
    Failed,
    Wait,
    Queue,
}

impl What {
    fn class(self) -> &'static str {
        match self {
            What::Busy => "busy",
            What::Failed => "failed",
            What::Wait => "wait",
            What::Queue => "queue",
        }
    }

    /// Whether it is drawn as a line: nothing was done.
    fn is_thin(self) -> bool {
        matches!(self, What::Wait | What::Queue)
    }
}

type Segment = (Millis, Millis, What);

/// The pieces of a step's time; `begun` is when the attempt began that is under way.
fn segments(step: &StepView, begun: Option<Millis>, now: Millis) -> Vec<Segment> {
    let waits = matches!(step.kind, Kind::Wait | Kind::Invoke | Kind::Race);
    let mut out: Vec<Segment> = Vec::new();
    // A sleep that was refused is one failed attempt.
    if step.kind == Kind::Sleep && step.error.is_none() {
        let until = step.until.map_or(now, |until| until.0);
        return vec![(step.started_at.0, until.min(now.max(step.started_at.0)), What::Wait)];
    }
    for attempt in &step.attempts {
        if let Some((_, end, _)) = out.last().copied() {
            out.push((end, attempt.started_at.0.max(end), What::Wait));
        }
        let what = match (&attempt.error, waits) {
            (Some(_), _) => What::Failed,
            (None, true) => What::Wait,
            (None, false) => What::Busy,
        };
        out.push((attempt.started_at.0, attempt.ended_at.0, what));
    }
    if step.ended_at.is_none() && !matches!(step.status, StepStatus::Abandoned | StepStatus::Left) {
        let from = out.last().map_or(step.started_at.0, |(_, end, _)| *end);
        let begun = begun.map(|begun| begun.max(from));
        let waited = begun.unwrap_or(now).max(from);
        if waited > from || begun.is_none() {
            out.push((from, waited, What::Wait));
        }
        out.extend(begun.map(|begun| (begun, now.max(begun), What::Busy)));
    }
    out
}

/// A step's name in addresses.
pub fn step_id(step: &StepView) -> String {
    format!("{}.{}", step.kind.word(), step.key)
}

/// The whole picture. `selected` is the number of the step that is shown beside it.
pub fn timeline(ask: &Ask, shown: &Shown, selected: Option<usize>) -> Markup {
    let (trace, now) = (&shown.trace, shown.now);
    let run = &trace.run;
    let mode = Mode::of(ask.one("scale"));
    let end = run.ended_at.map_or(now, |ended| ended.0);
    let all: Vec<Vec<Segment>> = trace.steps.iter().map(|step| segments(step, shown.under_way(step).map(|at| at.since), end)).collect();
    let between: Vec<Segment> = trace.attempts.iter().map(|attempt| (attempt.started_at.0, attempt.ended_at.0, What::Failed)).collect();
    let busy: Vec<(Millis, Millis)> = all
        .iter()
        .flatten()
        .chain(&between)
        .filter(|(_, _, what)| matches!(what, What::Busy | What::Failed))
        .map(|(from, to, _)| (*from, *to))
        .collect();
    let begin = run.created_at.0;
    let scale = Scale::new(mode, begin, end, &busy);
    let count = trace.steps.len();
    let first = window(ask, count, selected, run.state.is_terminal());
    let last = (first + STEPS_AT_ONCE).min(count);
    html! {
        div.timeline-head.row {
            span.muted.small { @if count == 1 { "1 step" } @else { (count) " steps" } }
            span.grow {}
            span.tabs.small role="group" aria-label="Scale" {
                @for (other, word) in [(Mode::Fit, "fit"), (Mode::Real, "1:1"), (Mode::Compress, "compress waits")] {
                    a href=(ask.with(&[("scale", (other != Mode::Compress).then_some(other.word()))])) aria-current=[(mode == other).then_some("true")] { (word) }
                }
            }
        }
        @if count > STEPS_AT_ONCE { (parts(ask, first, last, count)) }
        div.timeline-box {
            // Said once for all rows: a run may have many.
            ol.timeline hx-target="#run" hx-swap="outerHTML" {
                li.step.whole {
                    span.name { b { (run.function_id) } }
                    span.num { (whole_time(trace, now)) }
                    (bar(&whole(trace, &busy, end), widgets::sign(run.state), &scale))
                }
                @for part in folds(&trace.steps, first..last) {
                    @match part {
                        Part::Step(number) => (row(ask, shown, number, &all[number], &scale, selected == Some(number))),
                        Part::Branch(name, numbers) => {
                            li.branch {
                                details.fold open data-fold={ "branch " (name) } {
                                    summary { span.name { (name) } " " span.muted.small { (numbers.len()) " steps" } }
                                    ol.timeline { @for number in numbers { (row(ask, shown, number, &all[number], &scale, selected == Some(number))) } }
                                }
                            }
                        }
                    }
                }
                @for attempt in &trace.attempts { (between_row(attempt, &scale, now)) }
            }
        }
        @if count > STEPS_AT_ONCE { (parts(ask, first, last, count)) }
    }
}

/// What is folded as one.
#[derive(Debug, PartialEq)]
enum Part<'a> {
    /// The step of this number.
    Step(usize),
    /// The steps of a branch, with its name.
    Branch(&'a str, Vec<usize>),
}

/// Steps in their order, those of one branch together, where the first of them stands.
fn folds(steps: &[StepView], range: std::ops::Range<usize>) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    for number in range {
        let Some((branch, _)) = steps[number].key.split_once(" › ") else {
            parts.push(Part::Step(number));
            continue;
        };
        let known = parts.iter_mut().find_map(|part| match part {
            Part::Branch(name, numbers) if *name == branch => Some(numbers),
            _ => None,
        });
        match known {
            Some(numbers) => numbers.push(number),
            None => parts.push(Part::Branch(branch, vec![number])),
        }
    }
    for part in &mut parts {
        // One alone needs no fold.
        if let Part::Branch(_, numbers) = part
            && let [number] = numbers[..]
        {
            *part = Part::Step(number);
        }
    }
    parts
}

/// The first step of the part that is shown.
fn window(ask: &Ask, count: usize, selected: Option<usize>, has_ended: bool) -> usize {
    let asked = ask.one("from").and_then(|from| from.parse().ok());
    let of = |number: usize| number / STEPS_AT_ONCE * STEPS_AT_ONCE;
    match (asked, selected) {
        (Some(from), _) => of(std::cmp::min(from, count.saturating_sub(1))),
        (None, Some(number)) => of(number),
        // What is under way stands at the end.
        (None, None) if !has_ended => of(count.saturating_sub(1)),
        (None, None) => 0,
    }
}

fn parts(ask: &Ask, first: usize, last: usize, count: usize) -> Markup {
    let to = |from: usize| ask.with(&[("from", Some(from.to_string().as_str())), ("step", None)]);
    html! {
        p.row.small {
            span.muted { "Steps " (first + 1) " to " (last) " of " (count) }
            @if first > 0 { a href=(to(first - STEPS_AT_ONCE)) { "◂ earlier" } }
            @if last < count { a href=(to(last)) { "later ▸" } }
        }
    }
}

fn whole_time(trace: &Trace, now: Millis) -> String {
    let run = &trace.run;
    run.run_started_at.map_or_else(String::new, |started| widgets::took(run.ended_at.map_or(now, |ended| ended.0).since(started.0)))
}

/// The run's own row: in the queue, then waiting, with what was done upon it.
fn whole(trace: &Trace, busy: &[(Millis, Millis)], end: Millis) -> Vec<Segment> {
    let run = &trace.run;
    let started = run.run_started_at.map_or(end, |started| started.0);
    let mut out = vec![(run.created_at.0, started, What::Queue), (started, end, What::Wait)];
    out.extend(merged(busy, run.created_at.0.0, end.0).into_iter().map(|(from, to)| (Millis(from), Millis(to), What::Busy)));
    out
}

/// The pieces as they are drawn, each with where it begins and ends: those of one kind that touch are one, so that the row of a run
/// of a thousand steps does not hold a thousand.
fn drawn(segments: &[Segment], scale: &Scale) -> Vec<(What, f64, f64)> {
    let mut drawn: Vec<(What, f64, f64)> = Vec::new();
    for (from, to, what) in segments {
        // What was done is seen, however short it was, and where it was done last, too.
        let least = if what.is_thin() { 0.0 } else { 3.0 };
        let x = scale.x(*from).min(WIDTH - least);
        let end = scale.x(*to).max(x + least).min(WIDTH);
        match drawn.last_mut() {
            Some((kind, _, last)) if *kind == *what && x <= *last => *last = last.max(end),
            _ => drawn.push((*what, x, end)),
        }
    }
    drawn
}

/// The signs at the ends of what is drawn: each that failed has one, and the last what became of it, so that no colour is needed to tell them
/// apart. Of those that would stand upon each other, the later one is shown.
fn marks(drawn: &[(What, f64, f64)], last: &'static str) -> Vec<(f64, &'static str)> {
    let mut marks: Vec<(f64, &'static str)> = Vec::new();
    let most = drawn.iter().map(|(_, _, end)| *end).fold(0.0, f64::max);
    let failed = drawn.iter().filter(|(what, _, end)| *what == What::Failed && *end < most).map(|(_, _, end)| (*end, "✗"));
    for mark in failed.chain((!drawn.is_empty()).then_some((most, last))) {
        if marks.last().is_some_and(|(before, _)| mark.0 - before < MARK_WIDTH) {
            marks.pop();
        }
        marks.push(mark);
    }
    marks
}

/// Pieces with the sign that stands at the end of the last one. Places are shares of the width, so that letters keep their shape.
fn bar(segments: &[Segment], last: &'static str, scale: &Scale) -> Markup {
    let drawn = drawn(segments, scale);
    let share = |place: f64| format!("{:.2}%", place / WIDTH * 100.0);
    html! {
        svg.bar height="14" width=[scale.width] aria-hidden="true" {
            @for (what, x, end) in &drawn {
                rect class=(what.class()) x=(share(*x)) width=(share(end - x))
                    y=(if what.is_thin() { 5 } else { 1 }) height=(if what.is_thin() { 4 } else { 12 }) {}
            }
            // What stands at the very left would be cut off.
            @for (x, sign) in marks(&drawn, last) { text x=(share(x.max(MARK_WIDTH))) y="11" { (sign) } }
        }
    }
}

fn row(ask: &Ask, shown: &Shown, number: usize, segments: &[Segment], scale: &Scale, is_selected: bool) -> Markup {
    let (step, now) = (&shown.trace.steps[number], shown.now);
    let (sign, word, tone) = shown.stands(step);
    let depth = step.key.matches(" › ").count().min(4);
    // Of the branches, the outermost stands above.
    let name = step.key.split_once(" › ").map_or(step.key.as_str(), |(_, below)| below);
    let page = ask.with(&[("step", Some(&step_id(step))), ("tab", None), ("do", None), ("from", None)]);
    let part = ask.with(&[("step", Some(&step_id(step))), ("tab", None), ("do", None), ("from", None), ("part", Some("run"))]);
    let failed: Vec<&AttemptView> = step.attempts.iter().filter(|attempt| attempt.error.is_some()).collect();
    html! {
        li.step.selected[is_selected] data-row=(step_id(step)) {
            a.main.name #{ "step-" (number) } class={ "depth" (depth) } href=(page) aria-current=[is_selected.then_some("true")] title=(step.key)
                hx-get=(part) hx-push-url=(page)
            {
                span class={ "sign " (tone.class()) } role="img" aria-label=(word) { (sign) }
                " " (name)
                @if step.kind != Kind::Step { " " span.muted.small { (step.kind.word()) } }
                @if let Some(first) = &step.first { " " span.small { (first) " was first" } }
                @if !step.left.is_empty() { " " span.muted.small { "left: " (widgets::cut(&step.left.join(", "), LINE_CHARACTERS)) } }
                @if step.status == StepStatus::Left { " " span.muted.small { "left" } }
                @if has_timed_out(step) { " " span.warn.small { "timed out" } }
                @if step.attempts.len() > 1 { " " span.muted.small { "×" (step.attempts.len()) } }
            }
            span.num { (time(step, now)) }
            (bar(segments, sign, scale))
            @if !failed.is_empty() {
                details.fold.attempts open data-fold={ "attempts " (step_id(step)) } {
                    summary.muted { (failed.len()) @if failed.len() == 1 { " failed attempt" } @else { " failed attempts" } }
                    ul {
                        @for attempt in failed.iter().take(ATTEMPTS_NAMED) { (attempt_line(attempt, now)) }
                        @if failed.len() > ATTEMPTS_NAMED { li.muted { "and " (failed.len() - ATTEMPTS_NAMED) " more" } }
                    }
                }
            }
        }
    }
}

fn attempt_line(attempt: &AttemptView, now: Millis) -> Markup {
    let message = attempt.error.as_ref().and_then(|error| error.message.lines().next()).unwrap_or_default();
    let message = widgets::cut(message, LINE_CHARACTERS);
    let asked = attempt.error.as_ref().map_or("", Failure::asked_words);
    html! {
        li {
            span.bad { "#" (attempt.attempt) " " span title=(message) { (message) } }
            @if let Some(next) = attempt.next_at {
                span.muted {
                    @if next.0 > now { " · next " (widgets::ago(next.0, now)) } @else { " · retried after " (widgets::took(next.0.since(attempt.ended_at.0))) }
                    (asked)
                }
            }
        }
    }
}

fn between_row(attempt: &AttemptView, scale: &Scale, now: Millis) -> Markup {
    html! {
        li.step {
            span.name { span.sign.bad role="img" aria-label="failed" { "✗" } " " span.muted { "between steps" } }
            span.num { (widgets::took(attempt.ended_at.0.since(attempt.started_at.0))) }
            (bar(&[(attempt.started_at.0, attempt.ended_at.0, What::Failed)], "✗", scale))
            div.attempts { ul { (attempt_line(attempt, now)) } }
        }
    }
}

/// Whether a wait was given up: then it gave nothing.
fn has_timed_out(step: &StepView) -> bool {
    step.kind == Kind::Wait && step.status == StepStatus::Completed && step.output.as_ref().is_some_and(|output| output.get() == "null")
}

/// How long a step took, or what it has before it.
fn time(step: &StepView, now: Millis) -> String {
    match (step.status, step.until, step.ended_at) {
        (StepStatus::Sleeping | StepStatus::Waiting, Some(until), _) if until.0 > now => {
            format!("{} left", widgets::took(Span(until.0.since(now).0 / 1_000 * 1_000)))
        }
        (StepStatus::Completed | StepStatus::Left, Some(until), _) if step.kind == Kind::Sleep => {
            widgets::took(until.0.since(step.started_at.0))
        }
        (_, _, Some(ended)) => widgets::took(ended.0.since(step.started_at.0)),
        (StepStatus::Left, ..) => {
            step.attempts.last().map_or_else(String::new, |last| widgets::took(last.ended_at.0.since(step.started_at.0)))
        }
        _ => format!("{} …", widgets::took(now.since(step.started_at.0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_one_kind_that_touch_are_drawn_as_one() {
        let piece = |from: i64, to: i64, what| (Millis(from), Millis(to), what);
        let scale = Scale::new(Mode::Fit, Millis(0), Millis(1_000), &[]);
        let far = [piece(0, 10, What::Busy), piece(100, 110, What::Busy)];
        assert_eq!(drawn(&far, &scale), [(What::Busy, 0.0, 10.0), (What::Busy, 100.0, 110.0)]);
        let near = [piece(0, 1, What::Busy), piece(2, 3, What::Busy), piece(4, 9, What::Busy)];
        assert_eq!(drawn(&near, &scale), [(What::Busy, 0.0, 9.0)]);
        let others = [piece(0, 5, What::Failed), piece(5, 8, What::Wait), piece(8, 9, What::Failed)];
        assert_eq!(drawn(&others, &scale).len(), 3);
        assert_eq!(marks(&drawn(&others, &scale), "✗"), [(11.0, "✗")], "no sign stands upon another one");
        let apart = [piece(0, 100, What::Failed), piece(100, 500, What::Wait), piece(500, 600, What::Busy)];
        assert_eq!(marks(&drawn(&apart, &scale), "✓"), [(100.0, "✗"), (600.0, "✓")]);
        let many: Vec<Segment> = (0..1_000).map(|at| piece(at, at, What::Busy)).collect();
        assert_eq!(drawn(&many, &scale).len(), 1);
        assert_eq!(drawn(&[piece(1_000, 1_000, What::Failed)], &scale), [(What::Failed, 997.0, 1_000.0)], "within the picture");
        assert_eq!(drawn(&[piece(990, 2_000, What::Busy)], &scale), [(What::Busy, 990.0, 1_000.0)]);
    }
}
