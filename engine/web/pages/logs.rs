//! What handlers and the engine have said of late, live.

use maud::{Markup, html};

use crate::base::{Millis, RunId};
use crate::exec::{LOGGED_KEPT, Logged};
use crate::rules::row::LogLevel;
use crate::web::told;
use crate::web::widgets::{self, Tone};
use crate::web::{Ask, Content, Web, WebError};

/// Lines that are shown.
const LINES_SHOWN: usize = 300;
/// Characters of a line's message, and of what stands beside it, that are shown.
const LINE_CHARACTERS: usize = 2_000;
/// Bytes of all lines that are shown.
const BYTES_SHOWN: usize = 64 * 1024;
/// The levels, the loudest first. The engine's notes of calls are the quietest, so that what handlers write can be read without them.
const LEVELS: [LogLevel; 5] = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Call];

/// A line of either log.
struct Shown {
    at: Millis,
    level: LogLevel,
    run: Option<RunId>,
    step: String,
    message: String,
    beside: String,
    /// It is the engine's own.
    is_own: bool,
}

/// The page.
pub async fn page(web: Web, ask: Ask) -> Result<Content, WebError> {
    let least = ask.one("level").and_then(|word| LEVELS.into_iter().find(|level| level.word() == word)).unwrap_or(LogLevel::Call);
    let lines = lines(&web, &ask, least);
    let rows = rows(&lines);
    if ask.part() == Some("lines") {
        return Ok(Content::new(rows));
    }
    let chosen = |name: &str, word: &str| ask.one(name) == Some(word);
    let body = html! {
        form.filters method="get" action="/logs" role="search" {
            div.field {
                label for="level" { "At least" }
                select id="level" name="level" {
                    @for level in LEVELS.iter().rev() { option value=(level.word()) selected[*level == least] { (level.word()) } }
                }
            }
            div.field {
                label for="of" { "Of" }
                select id="of" name="of" {
                    option value="" { "all" }
                    option value="handlers" selected[chosen("of", "handlers")] { "handlers" }
                    option value="engine" selected[chosen("of", "engine")] { "the engine" }
                }
            }
            div.field {
                label for="run" { "Run" }
                input.mono id="run" name="run" value=[ask.one("run")] size="14" autocomplete="off" spellcheck="false";
            }
            div.field.grow {
                label for="text" { "Contains" }
                input id="text" name="text" value=[ask.one("text")] autocomplete="off" spellcheck="false" data-search;
            }
            button type="submit" { "Filter" }
        }
        (widgets::live("lines", "tick", &ask.with(&[("part", Some("lines"))]), rows))
        p.muted {
            "The last " (LOGGED_KEPT) " lines of handlers and the last " (told::LINES_KEPT) " of the engine's own since it started, in memory. "
            "Long lines are cut here. The log of each run is kept with it; what the engine says goes to its error output as well."
        }
    };
    let command = ask.one("run").map_or_else(|| "stepwell runs tail".to_owned(), |run| format!("stepwell runs logs {run}"));
    Ok(Content::new(body).command(command))
}

fn lines(web: &Web, ask: &Ask, least: LogLevel) -> Vec<Shown> {
    let project = web.project();
    let secrets = &project.surroundings.secrets;
    let of = ask.one("of");
    let mut all: Vec<Shown> = Vec::new();
    if of != Some("engine") {
        // A secret that was set since the line was written is hidden here.
        all.extend(web.engine().logged().into_iter().map(|Logged { run, line }| Shown {
            at: line.at,
            level: line.level,
            run: Some(run),
            step: line.step.to_string(),
            message: secrets.hide(&line.message).into_owned(),
            beside: line.data.as_deref().map(|data| secrets.hide(data).into_owned()).unwrap_or_default(),
            is_own: false,
        }));
    }
    if of != Some("handlers") {
        all.extend(told::lines().into_iter().map(|line| {
            let others = line.fields.iter().filter(|(key, _)| key != "run" && key != "step");
            let beside = others.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
            Shown {
                at: line.at,
                level: line.level,
                run: line.field("run").and_then(|run| run.parse().ok()),
                step: line.field("step").unwrap_or_default().to_owned(),
                message: line.message,
                beside,
                is_own: true,
            }
        }));
    }
    let (run, text) = (ask.one("run"), ask.one("text").map(str::to_lowercase));
    let loudness = |level: LogLevel| LEVELS.iter().rev().position(|known| *known == level);
    all.retain(|line| {
        loudness(line.level) >= loudness(least)
            && run.is_none_or(|run| line.run.is_some_and(|own| own.to_string().starts_with(run)))
            && text.as_ref().is_none_or(|text| line.message.to_lowercase().contains(text) || line.beside.to_lowercase().contains(text))
    });
    all.sort_by_key(|line| std::cmp::Reverse(line.at));
    all.truncate(LINES_SHOWN);
    let mut bytes = 0;
    let has_room = |line: &Shown| {
        bytes += line.message.len() + line.beside.len();
        bytes <= BYTES_SHOWN
    };
    let cut = |line: Shown| Shown {
        message: widgets::cut(&line.message, LINE_CHARACTERS),
        beside: widgets::cut(&line.beside, LINE_CHARACTERS),
        ..line
    };
    all.into_iter().map(cut).take_while(has_room).collect()
}

fn level(level: LogLevel) -> Markup {
    match level {
        LogLevel::Error => widgets::tag("✗ error", Tone::Bad),
        LogLevel::Warn => widgets::tag("! warn", Tone::Warn),
        LogLevel::Info => widgets::tag("info", Tone::Info),
        LogLevel::Debug | LogLevel::Call => widgets::tag(level.word(), Tone::Quiet),
    }
}

fn rows(lines: &[Shown]) -> Markup {
    html! {
        @if lines.is_empty() { (widgets::empty("No lines", html! { "Nothing was said that fits since the engine started." })) } @else {
            div.table { table.rows.logs {
                thead { tr { th scope="col" { "Time" } th scope="col" { "Level" } th scope="col" { "Run" } th.wide scope="col" { "Step" } th scope="col" { "Line" } } }
                tbody { @for line in lines {
                    tr data-row {
                        td { (widgets::clock(line.at)) }
                        td { (level(line.level)) }
                        td {
                            @match line.run {
                                Some(run) => a.main.mono href={ "/runs/" (run) } { (run) },
                                None => span.muted { (if line.is_own { "engine" } else { "" }) },
                            }
                        }
                        td.wide { (line.step) }
                        td.message { span.pre { (line.message) } @if !line.beside.is_empty() { " " span.muted.mono { (line.beside) } } }
                    }
                } }
            } }
        }
    }
}
