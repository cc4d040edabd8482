//! The pieces that pages are made of.

mod figures;
mod text;

use std::fmt::Display;

use maud::{Markup, html};

use crate::base::{EventId, Millis, RunId, Span};
use crate::rules::RunState;
use crate::rules::ended::failing_function;
use crate::server::view::StepStatus;

pub use figures::{Line, meter, plot, sparkline};
pub use text::{code, code_around, cut, is_large, json, json_at, json_whole, load_all, picture, text_at, yaml};

/// How a thing is meant. Each comes with a sign or a word: the colour alone says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As everything else.
    Plain,
    /// It went well.
    Good,
    /// It went wrong.
    Bad,
    /// Somebody should look.
    Warn,
    /// It is under way.
    Info,
    /// Of less interest.
    Quiet,
}

impl Tone {
    /// The class that the stylesheet knows it by.
    pub fn class(self) -> &'static str {
        match self {
            Tone::Plain => "plain",
            Tone::Good => "good",
            Tone::Bad => "bad",
            Tone::Warn => "warn",
            Tone::Info => "info",
            Tone::Quiet => "quiet",
        }
    }
}

/// The sign of a state. Some carry a mark that asks for a letter instead of a coloured picture.
pub fn sign(state: RunState) -> &'static str {
    match state {
        RunState::Queued => "⋯",
        RunState::Running => "▶\u{fe0e}",
        RunState::Sleeping => "☾",
        RunState::Waiting => "⏳\u{fe0e}",
        RunState::BackingOff => "↻",
        RunState::Parked => "■",
        RunState::Completed => "✓",
        RunState::Failed => "✗",
        RunState::Cancelled => "⊘",
        RunState::Paused => "⏸\u{fe0e}",
    }
}

/// How a state is meant.
pub fn tone(state: RunState) -> Tone {
    match state {
        RunState::Completed => Tone::Good,
        RunState::Failed => Tone::Bad,
        RunState::Parked | RunState::BackingOff | RunState::Paused => Tone::Warn,
        RunState::Running => Tone::Info,
        RunState::Queued | RunState::Sleeping | RunState::Waiting => Tone::Plain,
        RunState::Cancelled => Tone::Quiet,
    }
}

/// A state in people's words.
pub fn state_word(state: RunState) -> String {
    state.word().replace('_', " ")
}

/// The badge of a state: its sign and its word.
pub fn state(state: RunState) -> Markup {
    html! { span class={ "state " (tone(state).class()) } { span.sign aria-hidden="true" { (sign(state)) } (state_word(state)) } }
}

/// The sign, the word and the meaning of where a step stands.
pub fn step_status(status: StepStatus) -> (&'static str, &'static str, Tone) {
    match status {
        StepStatus::Completed => ("✓", "completed", Tone::Good),
        StepStatus::Failed => ("✗", "failed", Tone::Bad),
        StepStatus::Sleeping => ("☾", "sleeping", Tone::Plain),
        StepStatus::Waiting => ("⏳\u{fe0e}", "waiting", Tone::Plain),
        StepStatus::BackingOff => ("↻", "backing off", Tone::Warn),
        StepStatus::Retrying => ("↻", "retrying", Tone::Warn),
        StepStatus::Abandoned => ("⊘", "abandoned", Tone::Quiet),
        StepStatus::Left => ("⊘", "left", Tone::Quiet),
    }
}

/// A small label.
pub fn tag(text: &str, tone: Tone) -> Markup {
    html! { span class={ "tag " (tone.class()) } { (text) } }
}

/// A length of time in at most two units: `84 ms`, `1.2 s`, `2m14s`, `5h`, `12d`.
pub fn took(span: Span) -> String {
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{large}{large_unit}") } else { format!("{large}{large_unit}{small}{small_unit}") }
    };
    match span.0 {
        ..1 => "<1 ms".to_owned(),
        ms @ 1..1_000 => format!("{ms} ms"),
        ms @ 1_000..10_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        ms @ 10_000..60_000 => format!("{} s", ms / 1_000),
        ms @ 60_000..3_600_000 => two(ms / 60_000, "m", ms % 60_000 / 1_000, "s"),
        ms @ 3_600_000..86_400_000 => two(ms / 3_600_000, "h", ms % 3_600_000 / 60_000, "m"),
        ms => two(ms / 86_400_000, "d", ms % 86_400_000 / 3_600_000, "h"),
    }
}

/// How long ago, or in what time; the browser keeps it fresh. The exact time shows when it is pointed at.
pub fn ago(at: Millis, now: Millis) -> Markup {
    let text = match at.0 - now.0 {
        1.. => format!("in {}", took(at.since(now))),
        -999..=0 => "just now".to_owned(),
        _ => format!("{} ago", took(now.since(at))),
    };
    html! { time datetime=(at.rfc3339()) title=(at.rfc3339()) data-ago=(at.0) { (text) } }
}

/// The time of the day, in UTC.
pub fn clock(at: Millis) -> Markup {
    let whole = at.rfc3339();
    let time = whole.split_once('T').map_or(whole.as_str(), |(_, time)| time.trim_end_matches('Z')).to_owned();
    html! { time.mono datetime=(whole) title=(whole) { (time) } }
}

/// The way to a run.
pub fn run_link(run: RunId) -> Markup {
    html! { a.mono href={ "/runs/" (run) } { (run) } }
}

/// The way to an event.
pub fn event_link(event: EventId) -> Markup {
    html! { a.mono href={ "/events/" (event) } { (event) } }
}

/// A sentence of the engine's, whose names in backticks are set apart, and whose ids of runs lead to them.
pub fn sentence(text: &str) -> Markup {
    html! {
        @for (at, part) in text.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (with_runs(part)) }
        }
    }
}

fn with_runs(text: &str) -> Markup {
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    html! {
        @for (at, word) in words.iter().enumerate() {
            @let bare = word.trim_end_matches([' ', ',', ';', '.']);
            @if at > 0 && words[at - 1].trim() == "run" && bare.len() == 13 && bare.parse::<RunId>().is_ok() {
                a.mono href={ "/runs/" (bare) } { (bare) } (&word[bare.len()..])
            } @else { (word) }
        }
    }
}

/// The page of a function; an `on_failure` script stands on that of the function that it belongs to.
pub fn function_path(id: &str) -> String {
    format!("/functions/{}", escaped(failing_function(id).unwrap_or(id)))
}

/// The way to a function.
pub fn function_link(id: &str) -> Markup {
    html! { a href=(function_path(id)) { (id) } }
}

/// A text as a part of a path.
pub fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// An id for narrow places: `01JD8…K3`.
pub fn short_id(id: impl Display) -> String {
    let id = id.to_string();
    match id.char_indices().nth(5).zip(id.char_indices().rev().nth(1)) {
        Some(((head, _), (tail, _))) if head < tail => format!("{}…{}", &id[..head], &id[tail..]),
        _ => id,
    }
}

/// A command with a button that copies it.
pub fn command(text: &str) -> Markup {
    html! { span.command { code { (text) } (copy("⧉", text)) } }
}

/// A button that copies a text.
pub fn copy(label: &str, text: &str) -> Markup {
    html! { button.copy type="button" data-copy=(text) title="Copy" aria-label=[(label == "⧉").then_some("Copy")] { (label) } }
}

/// A button that copies what `url` answers; `title` says what that is.
pub fn copy_from(label: &str, url: &str, title: &str) -> Markup {
    html! { button.copy type="button" data-copy-url=(url) title=(title) { (label) } }
}

/// A part of a page with its heading.
pub fn panel(title: &str, body: Markup) -> Markup {
    html! { section.panel { h2 { (title) } (body) } }
}

/// Names with their values.
pub fn facts(facts: &[(&str, Markup)]) -> Markup {
    html! { dl.facts { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } } }
}

/// What to say where there is nothing, and what to do about it.
pub fn empty(what: &str, hint: Markup) -> Markup {
    html! { div.empty { p { (what) } div.muted { (hint) } } }
}

/// The way to the next page of a list.
pub fn more(url: Option<String>) -> Markup {
    html! { @if let Some(url) = url { p.more { a href=(url) rel="next" { "Older ▸" } } } }
}

/// A message in a box.
pub fn remark(tone: Tone, body: Markup) -> Markup {
    let sign = match tone {
        Tone::Good => "✓",
        Tone::Bad => "✗",
        Tone::Warn => "⚠",
        Tone::Info | Tone::Plain | Tone::Quiet => "ℹ",
    };
    let role = if tone == Tone::Bad { "alert" } else { "note" };
    html! { div class={ "remark " (tone.class()) } role=(role) { span.sign aria-hidden="true" { (sign) } div.grow { (body) } } }
}

/// A part of a page that is fetched anew whenever its topic ticks: `runs`, `run`, `logs` or `tick`.
pub fn live(id: &str, topic: &str, url: &str, body: Markup) -> Markup {
    html! { div id=(id) data-live=(topic) data-url=(url) { (body) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_at_most_two_units() {
        let shown: Vec<String> = [0, 84, 1_240, 31_400, 134_000, 7_200_000, 90_061_000].map(|ms| took(Span(ms))).to_vec();
        assert_eq!(shown, ["<1 ms", "84 ms", "1.2 s", "31 s", "2m14s", "2h", "1d1h"]);
    }

    #[test]
    fn every_state_has_a_sign_of_its_own() {
        let signs: std::collections::HashSet<&str> = RunState::ALL.iter().map(|state| sign(*state)).collect();
        assert_eq!(signs.len(), RunState::ALL.len());
    }

    #[test]
    fn names_in_paths_and_texts_on_pages_are_escaped() {
        let hostile = "<script>alert(1)</script>\"'/../?#";
        let link = function_link(hostile).into_string();
        assert!(!link.contains("<script>") && link.contains("/functions/%3Cscript%3E"), "{link}");
        for shown in [
            tag(hostile, Tone::Bad),
            command(hostile),
            copy(hostile, hostile),
            json(&format!("{:?}", hostile)),
            code(hostile, None),
            picture(hostile),
        ] {
            assert!(!shown.into_string().contains("<script>"));
        }
    }

    #[test]
    fn the_script_of_a_failure_is_on_the_page_of_its_function() {
        let link = function_link("pay.on_failure").into_string();
        assert_eq!(link, "<a href=\"/functions/pay\">pay.on_failure</a>");
        assert_eq!(function_path("send-receipt"), "/functions/send-receipt");
    }

    #[test]
    fn runs_that_a_sentence_names_are_links() {
        let shown = sentence("waits for run 0000000000101 of `pay`; <b>").into_string();
        assert!(shown.contains("<a class=\"mono\" href=\"/runs/0000000000101\">"), "{shown}");
        assert!(shown.contains("<code>pay</code>") && shown.contains("&lt;b&gt;"), "{shown}");
    }

    #[test]
    fn ids_are_shortened_in_the_middle() {
        assert_eq!(short_id("01JD8ABCDEFK3"), "01JD8…K3");
        assert_eq!(short_id("abc"), "abc");
    }
}
