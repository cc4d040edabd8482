//! `stepwell top`: what an engine is doing, live on a terminal: rates, queues by function, runs that somebody should look at.

mod board;
mod draw;
mod scrape;

use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::Value;

use crate::base::{Diagnostic, Millis, RunId, Span};
use crate::clock;
use crate::rules::RunState;
use crate::server::view::RunView;
use crate::server::{Filter, Word};

use super::exit::{Exit, Trouble, plain};
use super::out::Out;
use super::reading::{EngineOption, Reader, RunFilter};
use super::remote::Remote;
use super::tree;

use board::{Board, RunLine};
use draw::View;
use scrape::Scrape;

/// The most runs of each kind that are listed.
const LISTED: usize = 50;
/// How long ago a failed run that still wants a look may have been made.
const FAILED_SINCE: Span = Span::seconds(3_600);
/// How long a look may take on a terminal, whose keys wait for it.
const LOOK_MOST: Duration = Duration::from_secs(2);
/// The columns of a look that is printed where no terminal says how many it has.
const COLUMNS: u16 = 160;

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
pub struct Top {
    /// Print one look as text, and end; also where stdout is no terminal
    #[arg(long)]
    once: bool,
    /// Print one look as a JSON document, and end
    #[arg(long)]
    json: bool,
    /// How often the engine is asked; rates are over this time
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Span,
    #[command(flatten)]
    engine: EngineOption,
}

/// Reads a length of time from a tenth of a second to an hour.
fn interval(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error: crate::base::time::BadSpan| error.to_string())?;
    if (100..=3_600_000).contains(&span.0) { Ok(span) } else { Err("between 100ms and 1h".to_owned()) }
}

impl Top {
    /// Shows what the engine does until a key ends it.
    ///
    /// # Errors
    /// Exit 69 where no engine answers, 77 without the right token.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let runtime = super::runtime()?;
        let remote = self.engine.engine()?;
        let mut engine = Watched::new(remote);
        // The first look shows that somebody is there, and what is later compared with.
        engine.before = runtime.block_on(engine.scrape())?;
        if self.once || self.json || !out.terminal {
            let board = runtime.block_on(async {
                tokio::time::sleep(self.interval.std()).await;
                engine.look().await
            })?;
            if self.json {
                out.json(&serde_json::to_value(&board).unwrap_or_default())?;
            } else {
                out.line(draw::text(&board, COLUMNS))?;
            }
            return Ok(Exit::Done);
        }
        let mut terminal = ratatui::try_init().map_err(|error| cannot_draw(&error))?;
        let shown = self.show(&runtime, &mut engine, &mut terminal);
        ratatui::restore();
        shown
    }

    fn show(
        &self,
        runtime: &tokio::runtime::Runtime,
        engine: &mut Watched,
        terminal: &mut ratatui::DefaultTerminal,
    ) -> Result<Exit, Trouble> {
        let mut view = View::default();
        let mut board = runtime.block_on(engine.look())?;
        let mut looked = clock::micros();
        loop {
            terminal.draw(|frame| draw::draw(frame, &board, &view)).map_err(|error| cannot_draw(&error))?;
            let due = looked + self.interval.0.unsigned_abs() * 1_000;
            let left = Duration::from_micros(due.saturating_sub(clock::micros()));
            if event::poll(left).map_err(|error| cannot_draw(&error))? {
                let Event::Key(key) = event::read().map_err(|error| cannot_draw(&error))? else { continue };
                match press(key, &board, &mut view) {
                    Pressed::Nothing => {}
                    Pressed::Quit => return Ok(Exit::Done),
                    Pressed::Show(run) => {
                        let shown = runtime.block_on(soon(engine.show(&run, &mut view)));
                        view.said = shown.and_then(|shown| shown.map_err(|trouble| words(&trouble))).err().unwrap_or_default();
                    }
                    // What was asked for may still be done.
                    Pressed::Retry(run) => view.said = runtime.block_on(soon(engine.retry(&run))).unwrap_or_else(|late| late),
                }
                continue;
            }
            looked = clock::micros();
            if view.is_held {
                continue;
            }
            match runtime.block_on(soon(engine.look())) {
                Ok(Ok(next)) => board = next,
                // It may be back at the next look.
                Ok(Err(trouble)) => board.reasons = vec![words(&trouble)],
                Err(late) => board.reasons = vec![late],
            }
            if let Some((run, ..)) = view.run.clone() {
                // What was shown of it stays where it cannot be read.
                let _ = runtime.block_on(soon(engine.show(&run, &mut view)));
            }
        }
    }
}

/// What a key asks for.
#[derive(Debug, PartialEq)]
enum Pressed {
    Nothing,
    Quit,
    Show(String),
    Retry(String),
}

/// What a key does.
fn press(key: KeyEvent, board: &Board, view: &mut View) -> Pressed {
    if key.kind == KeyEventKind::Release {
        return Pressed::Nothing;
    }
    let last = board.attention.len().saturating_sub(1);
    view.marked = view.marked.min(last);
    let marked = || board.attention.get(view.marked).map(|run| run.run.clone());
    view.said.clear();
    match (key.code, &mut view.run) {
        (KeyCode::Char('c'), _) if key.modifiers.contains(KeyModifiers::CONTROL) => return Pressed::Quit,
        (KeyCode::Char('q'), _) => return Pressed::Quit,
        (KeyCode::Esc | KeyCode::Backspace, run @ Some(_)) => *run = None,
        (KeyCode::Esc, None) => return Pressed::Quit,
        (KeyCode::Char('p'), _) => view.is_held = !view.is_held,
        (KeyCode::Up | KeyCode::Char('k'), Some((.., scrolled))) => *scrolled = scrolled.saturating_sub(1),
        (KeyCode::Down | KeyCode::Char('j'), Some((_, lines, scrolled))) => {
            *scrolled = scrolled.saturating_add(1).min(u16::try_from(lines.len().saturating_sub(1)).unwrap_or(u16::MAX));
        }
        (KeyCode::Up | KeyCode::Char('k'), None) => view.marked = view.marked.saturating_sub(1),
        (KeyCode::Down | KeyCode::Char('j'), None) => view.marked = (view.marked + 1).min(last),
        (KeyCode::Enter, None) => return marked().map_or(Pressed::Nothing, Pressed::Show),
        (KeyCode::Char('r'), Some((run, ..))) => return Pressed::Retry(run.clone()),
        (KeyCode::Char('r'), None) => return marked().map_or(Pressed::Nothing, Pressed::Retry),
        _ => {}
    }
    Pressed::Nothing
}

/// The engine that is looked at.
struct Watched {
    remote: Remote,
    reader: Reader,
    before: Scrape,
    /// How many runs had failed when they were last asked for, and those of them that the hour before had made.
    failed: Option<(f64, Vec<RunView>)>,
}

impl Watched {
    fn new(remote: Remote) -> Watched {
        Watched { reader: Reader::Engine(remote.clone()), remote, before: Scrape::default(), failed: None }
    }

    async fn scrape(&self) -> Result<Scrape, Trouble> {
        let text = self.remote.text("/metrics").await?;
        Ok(Scrape::read(&text, clock::micros()))
    }

    async fn look(&mut self) -> Result<Board, Trouble> {
        let scrape = self.scrape().await?;
        let health: Value = serde_json::from_str(&self.remote.get("/health", &[]).await?).unwrap_or_default();
        let reasons = health["reasons"].as_array().map_or(&[][..], Vec::as_slice);
        let reasons = reasons.iter().filter_map(|reason| reason.as_str().map(str::to_owned)).collect();
        let now = self.reader.now();
        let since = Millis(now.0 - FAILED_SINCE.0);
        let parked = self.unfinished(&scrape, RunState::Parked).await?;
        let backing_off = self.unfinished(&scrape, RunState::BackingOff).await?;
        self.ask_for_failed(&scrape, since).await?;
        let known = self.failed.iter().flat_map(|(_, runs)| runs);
        let failed = known.filter(|run| run.created_at.0 >= since);
        let attention = parked.iter().chain(failed).chain(&backing_off).map(|run| RunLine::of(run, now)).collect();
        let board = Board::of(self.remote.url(), &self.before, &scrape, reasons, attention);
        self.before = scrape;
        Ok(board)
    }

    /// The runs in a state that is not the end, where the figures say that there are any.
    async fn unfinished(&self, scrape: &Scrape, state: RunState) -> Result<Vec<RunView>, Trouble> {
        if scrape.sum("stepwell_runs", &[("state", state.word())]) == 0.0 {
            return Ok(Vec::new());
        }
        self.reader.runs(&RunFilter { status: Filter(vec![Word::State(state)]), limit: LISTED, ..RunFilter::default() }).await
    }

    /// Asks for the failed runs that were made since then, unless none has failed since that was asked: an engine may have many of
    /// them to look through.
    async fn ask_for_failed(&mut self, scrape: &Scrape, since: Millis) -> Result<(), Trouble> {
        let counted = scrape.sum("stepwell_runs_ended_total", &[("state", RunState::Failed.word())]);
        if self.failed.as_ref().is_none_or(|(before, _)| *before != counted) {
            let filter = RunFilter {
                status: Filter(vec![Word::State(RunState::Failed)]),
                since: Some(since),
                limit: LISTED,
                ..RunFilter::default()
            };
            self.failed = Some((counted, self.reader.runs(&filter).await?));
        }
        Ok(())
    }

    /// Puts a run's steps into the view, as `runs trace` draws them.
    async fn show(&self, run: &str, view: &mut View) -> Result<(), Trouble> {
        let id: RunId = run.parse().map_err(|_| Trouble::usage(format!("`{run}` is no run")))?;
        let trace = self.reader.trace(id).await?;
        let mut text = tree::lines(&trace, &[], self.reader.now()).join("\n");
        if let Some(error) = &trace.run.error {
            text.push_str("\n\n");
            text.push_str(&tree::problem(error, &tree::files(&trace.sources)).render(true));
        }
        let plain = anstream::adapter::strip_str(&text).to_string();
        let scrolled = view.run.as_ref().filter(|(shown, ..)| shown == run).map_or(0, |(.., scrolled)| *scrolled);
        view.run = Some((run.to_owned(), plain.lines().map(str::to_owned).collect(), scrolled));
        Ok(())
    }

    /// Has a run go on at once; what came of it, in words.
    async fn retry(&self, run: &str) -> String {
        match self.remote.post(&format!("/v1/runs/{run}/retry-now"), String::new()).await {
            Ok(_) => format!("{run} goes on"),
            Err(trouble) => words(&trouble),
        }
    }
}

/// What an engine answers, or that it has not done so for as long as keys can wait.
async fn soon<T>(answer: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(LOOK_MOST, answer).await.map_err(|_| format!("no answer within {} s", LOOK_MOST.as_secs()))
}

/// A trouble on one line.
fn words(trouble: &Trouble) -> String {
    trouble.problems.first().map(|problem| super::out::cut(&problem.message, 200)).unwrap_or_default()
}

fn cannot_draw(error: &std::io::Error) -> Trouble {
    Trouble::new(
        Exit::Io,
        Diagnostic::error("E0540", format!("cannot draw on this terminal: {}", plain(error))).help("`--once` prints text"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        let line = |run: &str| RunLine {
            run: run.to_owned(),
            function: "pay".to_owned(),
            state: "failed".to_owned(),
            age: "3s".to_owned(),
            why: "no luck".to_owned(),
        };
        Board { attention: vec![line("0000000000001"), line("0000000000002")], ..Board::default() }
    }

    fn key(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    #[test]
    fn keys_move_show_and_end() {
        let (board, mut view) = (board(), View::default());
        for _ in 0..3 {
            assert_eq!(press(key(KeyCode::Down), &board, &mut view), Pressed::Nothing);
        }
        assert_eq!(view.marked, 1);
        assert_eq!(press(key(KeyCode::Enter), &board, &mut view), Pressed::Show("0000000000002".to_owned()));
        assert_eq!(press(key(KeyCode::Char('r')), &board, &mut view), Pressed::Retry("0000000000002".to_owned()));
        view.run = Some(("0000000000002".to_owned(), vec!["a".to_owned(), "b".to_owned()], 0));
        for code in [KeyCode::Down, KeyCode::Down, KeyCode::Down] {
            press(key(code), &board, &mut view);
        }
        assert_eq!(view.run.as_ref().map(|(.., scrolled)| *scrolled), Some(1));
        assert_eq!(press(key(KeyCode::Esc), &board, &mut view), Pressed::Nothing);
        assert!(view.run.is_none());
        press(key(KeyCode::Char('p')), &board, &mut view);
        assert!(view.is_held);
        assert_eq!(press(key(KeyCode::Esc), &board, &mut view), Pressed::Quit);
        assert_eq!(press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), &board, &mut view), Pressed::Quit);
        assert_eq!(press(key(KeyCode::Enter), &Board::default(), &mut view), Pressed::Nothing);
    }

    #[test]
    fn failed_runs_are_asked_for_again_only_where_another_one_has_failed() {
        use std::io::{BufRead as _, BufReader, Write as _};
        use std::sync::Arc;
        use std::sync::atomic::{AtomicU64, Ordering};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (failed, asked) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(0)));
        let (says, counts) = (Arc::clone(&failed), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream);
                let (mut first, mut line) = (String::new(), String::new());
                reader.read_line(&mut first).unwrap();
                while reader.read_line(&mut line).unwrap() > 2 {}
                let body = match first.split(' ').nth(1).unwrap() {
                    "/metrics" => format!("stepwell_runs_ended_total{{state=\"failed\"}} {}\n", says.load(Ordering::SeqCst)),
                    "/health" => "{}".to_owned(),
                    _ => {
                        counts.fetch_add(1, Ordering::SeqCst);
                        let at = "2026-01-31T12:00:00Z";
                        format!(r#"{{"data":[],"metadata":{{"fetched_at":"{at}","cached_until":"{at}"}}}}"#)
                    }
                };
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
                write!(reader.get_mut(), "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
            }
        });
        let runtime = super::super::runtime().unwrap();
        let mut engine = Watched::new(Remote::new(&url).unwrap());
        // After a restart the engine counts from zero.
        for (count, expected) in [(1, 1), (1, 1), (2, 2), (2, 2), (0, 3)] {
            failed.store(count, Ordering::SeqCst);
            runtime.block_on(engine.look()).unwrap();
            assert_eq!(asked.load(Ordering::SeqCst), expected, "{count} have failed");
        }
    }

    #[test]
    fn a_look_is_text_with_all_runs_and_no_escapes() {
        let text = draw::text(&board(), 100);
        assert!(text.contains("2 runs need attention") && text.contains("0000000000002") && text.contains("no luck"), "{text}");
        assert!(!text.contains('\u{1b}') && text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}
