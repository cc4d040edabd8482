//! Watching the runs of events: a tree that is drawn anew on a terminal, plain lines elsewhere; then their results.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::base::{EventId, Millis, RunId};
use crate::exec::Notice;
use crate::rules::{Kind, RunState};
use crate::server::view::{LogView, NoticeView, StepStatus, Trace};

use super::exit::{Exit, Trouble};
use super::out::{DIM, GREEN, Out, RED, YELLOW, cut, paint, short, shown};
use super::reading::Reader;
use super::remote::Notices;
use super::tree::{self, Active};

/// How often the tree is drawn anew while nothing happens, so that its times move.
const REDRAW: Duration = Duration::from_millis(100);
/// How often runs that go on are looked at while no notice of them comes.
const LOOK: Duration = Duration::from_secs(2);
/// How often a run is looked at that is followed by itself.
const RUN_LOOK: Duration = Duration::from_millis(250);
/// The most notices that are taken in before runs are looked at again.
const TOGETHER: usize = 1_000;
/// How long the next notice may take to be taken in together with the last one.
const BREATH: Duration = Duration::from_millis(5);
/// The longest JSON beside a line of the log, in characters.
const LOG_DATA_MOST: usize = 120;

/// What tells that something has happened.
pub enum Watcher {
    /// An engine in this process.
    Here(broadcast::Receiver<Notice>),
    /// An engine elsewhere.
    There(Box<Notices>),
}

impl Watcher {
    /// Waits for the next notice; never comes back where there will be none.
    async fn next(&mut self) -> Option<NoticeView> {
        match self {
            Watcher::Here(notices) => match notices.recv().await {
                Ok(notice) => Some(NoticeView::of(&notice)),
                Err(RecvError::Lagged(_)) => None,
                Err(RecvError::Closed) => std::future::pending().await,
            },
            Watcher::There(notices) => match notices.next().await {
                Some(sent) => serde_json::from_str(&sent.data).ok(),
                None => std::future::pending().await,
            },
        }
    }
}

/// The steps whose attempt is under way.
#[derive(Debug, Default)]
struct Steps(BTreeMap<(RunId, String), Millis>);

impl Steps {
    fn note(&mut self, notice: &NoticeView) {
        match notice {
            NoticeView::StepBegun { run, key, at, .. } => {
                self.0.insert((*run, key.clone()), at.0);
            }
            NoticeView::Recorded { run, key, .. } | NoticeView::AttemptFailed { run, key, .. } => {
                self.0.remove(&(*run, key.clone()));
            }
            NoticeView::Run { run, .. } => self.0.retain(|(of, _), _| of != run),
            NoticeView::Log { .. } | NoticeView::Missed { .. } => {}
        }
    }

    fn of(&self, run: RunId) -> Vec<Active> {
        let of = self.0.iter().filter(|((of, _), _)| *of == run);
        of.map(|((_, key), since)| Active { key: key.clone(), since: *since }).collect()
    }
}

/// Shows the runs of events while they go on.
pub struct Show<'a> {
    out: &'a Out,
    reader: &'a Reader,
    bar: ProgressBar,
    steps: Steps,
    logs: HashMap<RunId, u64>,
    /// Lines of the log that are newer than what has been seen of their run.
    held: HashMap<RunId, Vec<LogView>>,
    said: HashSet<(RunId, String)>,
    hints: bool,
}

/// What happens to what is watched.
#[derive(Debug)]
pub enum Later {
    /// An event is about to be sent: all that has happened before is told, then this line; then the answer is given.
    Coming(String, oneshot::Sender<()>),
    /// It was sent: its runs are watched as well.
    Sent(EventId),
}

impl<'a> Show<'a> {
    /// A show of what `reader` knows.
    pub fn new(out: &'a Out, reader: &'a Reader) -> Show<'a> {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Show { out, reader, bar, steps: Steps::default(), logs: HashMap::new(), held: HashMap::new(), said: HashSet::new(), hints: false }
    }

    /// Says how `try` lets a run that waits for an event go on, once there is one.
    pub fn with_hints(mut self) -> Show<'a> {
        self.hints = true;
        self
    }

    /// Shows what happens until every run of the events has ended or is parked. Gives their traces; none for events that
    /// started nothing.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn until_ended(&mut self, events: &[EventId], watcher: Watcher) -> Result<Vec<Trace>, Trouble> {
        let (_, none) = mpsc::unbounded_channel();
        self.until_all_ended(events, none, watcher).await
    }

    /// As `until_ended`, with the runs of events that are yet to be sent, until `more` is closed.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn until_all_ended(
        &mut self,
        events: &[EventId],
        mut more: mpsc::UnboundedReceiver<Later>,
        mut watcher: Watcher,
    ) -> Result<Vec<Trace>, Trouble> {
        let mut is_open = !more.is_closed();
        let mut coming: Option<(String, oneshot::Sender<()>)> = None;
        let mut redraw = tokio::time::interval(REDRAW);
        redraw.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(LOOK);
        let mut known: BTreeMap<EventId, Vec<Trace>> = BTreeMap::new();
        let mut changed: BTreeSet<EventId> = events.iter().copied().collect();
        loop {
            for event in std::mem::take(&mut changed) {
                let traces = self.reader.traces(event).await?;
                for trace in &traces {
                    self.tell(trace).await?;
                }
                known.insert(event, traces);
            }
            if let Some((line, told)) = coming.take() {
                self.line(&line);
                // Whoever broke off does not wait for it.
                let _ = told.send(());
            }
            let traces: Vec<&Trace> = known.values().flatten().collect();
            if !is_open && traces.iter().all(|trace| trace.run.state.rests()) {
                self.clear();
                return Ok(known.into_values().flatten().collect());
            }
            if !self.bar.is_hidden() {
                self.bar.set_message(coloured(&self.lines(&traces).join("\n")));
            }
            tokio::select! {
                _ = redraw.tick(), if !self.bar.is_hidden() => {}
                later = more.recv(), if is_open => {
                    changed.extend(going_on(&known));
                    match later {
                        Some(Later::Coming(line, told)) => coming = Some((line, told)),
                        Some(Later::Sent(event)) => drop(changed.insert(event)),
                        None => is_open = false,
                    }
                }
                // A notice may have been missed; runs that go on are looked at again, if seldom.
                _ = look.tick() => changed.extend(going_on(&known)),
                notice = watcher.next() => {
                    self.note(notice, &known, &mut changed);
                    // What comes with it is taken along, so that many notices make few reads.
                    for _ in 0..TOGETHER {
                        let Ok(notice) = tokio::time::timeout(BREATH, watcher.next()).await else { break };
                        self.note(notice, &known, &mut changed);
                    }
                }
            }
        }
    }

    /// Shows what happens in one run until it has ended or is parked; gives its trace then.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn until_run_ended(&mut self, run: RunId) -> Result<Trace, Trouble> {
        loop {
            let trace = self.reader.trace(run).await?;
            self.tell(&trace).await?;
            if trace.run.state.rests() {
                self.clear();
                return Ok(trace);
            }
            if !self.bar.is_hidden() {
                self.bar.set_message(coloured(&self.lines(&[&trace]).join("\n")));
            }
            tokio::time::sleep(RUN_LOOK).await;
        }
    }

    /// Takes a notice in: whose runs have to be looked at again.
    fn note(&mut self, notice: Option<NoticeView>, known: &BTreeMap<EventId, Vec<Trace>>, changed: &mut BTreeSet<EventId>) {
        let Some(run) = notice.as_ref().and_then(run_of) else { return changed.extend(going_on(known)) };
        if let Some(notice) = &notice {
            self.steps.note(notice);
        }
        let of = known.iter().find(|(_, traces)| traces.iter().any(|trace| trace.run.run_id == run));
        changed.extend(of.map(|(event, _)| *event));
    }

    fn lines(&self, traces: &[&Trace]) -> Vec<String> {
        let now = self.reader.now();
        traces.iter().flat_map(|trace| tree::lines(trace, &self.steps.of(trace.run.run_id), now)).collect()
    }

    /// Says what is new in a run, in order of time: its log; and where no tree is drawn, its steps and its end, a line each.
    async fn tell(&mut self, trace: &Trace) -> Result<(), Trouble> {
        let run = trace.run.run_id;
        let from = self.logs.get(&run).copied().unwrap_or_default();
        let (lines, next) = self.reader.logs(run, from).await?;
        self.logs.insert(run, next);
        if !self.bar.is_hidden() {
            lines.iter().for_each(|line| self.line(&format!("  {}", log_line(line))));
            self.hint(trace);
            return Ok(());
        }
        if self.said.insert((run, String::new())) {
            self.out.say(format!("run {run} {}", shown(&trace.run.function_id)));
        }
        let now = self.reader.now();
        let happened = happened(trace, now);
        // The log is read after the trace: a line that is newer waits for the look that shows its step.
        let last = happened.iter().map(|(_, (at, _), _)| *at).max().unwrap_or(Millis(i64::MIN));
        let seen = if trace.run.state.rests() { Millis(i64::MAX) } else { last };
        let mut held = self.held.remove(&run).unwrap_or_default();
        held.extend(lines);
        let (told, held): (Vec<_>, Vec<_>) = held.into_iter().partition(|line| line.at.0 <= seen);
        self.held.insert(run, held);
        let mut news: Vec<(Order, String)> =
            told.iter().map(|line| ((line.at.0, place_of(trace, line)), format!("  {}", log_line(line)))).collect();
        let fresh = happened.into_iter().filter(|(key, _, _)| self.said.insert((run, key.clone())));
        news.extend(fresh.map(|(_, order, line)| (order, line)));
        news.sort_by_key(|(order, _)| *order);
        news.iter().for_each(|(_, line)| self.out.say(line));
        self.hint(trace);
        if trace.run.state.rests() && self.said.insert((run, "end".to_owned())) {
            self.out.say(tree::lines(trace, &[], now).into_iter().next().unwrap_or_default());
        }
        Ok(())
    }

    /// Says a line above what is drawn.
    fn line(&self, line: &str) {
        if self.bar.is_hidden() { self.out.say(line) } else { self.bar.println(coloured(line)) }
    }

    /// Says once how a run that waits for an event goes on.
    fn hint(&mut self, trace: &Trace) {
        let waits = trace.steps.iter().find(|step| step.status == StepStatus::Waiting && step.kind == Kind::Wait);
        let name = waits.and_then(|step| step.waits_for.as_deref()?.strip_prefix("event `")?.split('`').next());
        if let Some(name) = name.filter(|_| std::mem::take(&mut self.hints)) {
            let hint = format!("to go on: --then {}@1m sends the event after a minute, --fast-forward lets no time pass", shown(name));
            self.line(&paint(DIM, hint));
        }
    }

    /// Says how the runs ended: on a terminal the whole trees, then every error with its picture, then the results on
    /// stdout. Gives the exit code that this makes.
    ///
    /// # Errors
    /// Those of stdout.
    pub fn conclude(&self, traces: &[Trace], json: bool) -> Result<Exit, Trouble> {
        if !self.bar.is_hidden() {
            for line in self.lines(&traces.iter().collect::<Vec<_>>()) {
                self.out.say(line);
            }
        }
        for trace in traces {
            if let Some(error) = trace.run.error.as_ref().filter(|_| trace.run.state == RunState::Failed) {
                self.out.say("");
                self.out.problems(&[tree::problem(error, &tree::files(&trace.sources))]);
            }
        }
        if json {
            self.out.line(serde_json::to_string(traces).unwrap_or_default())?;
        } else {
            outputs(self.out, traces)?;
        }
        let well = traces.iter().all(|trace| trace.run.state == RunState::Completed);
        Ok(if well { Exit::Done } else { Exit::Failed })
    }

    /// Takes what is drawn off the terminal.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// When something happened, and its place among what happened in the same millisecond.
type Order = (Millis, usize);

/// The place of a line of the log: right before the line of its step; after all steps where it was written between them.
fn place_of(trace: &Trace, line: &LogView) -> usize {
    trace.steps.iter().position(|step| step.key == line.step).map_or(usize::MAX, |at| 2 * at)
}

/// What has happened in a run so far: a key that tells one thing from another, when, and the line that says it.
fn happened(trace: &Trace, now: Millis) -> Vec<(String, Order, String)> {
    let mut news = Vec::new();
    for (at, step) in trace.steps.iter().enumerate() {
        let place = 2 * at + 1;
        let name = shown(&step.key);
        for attempt in step.attempts.iter().filter(|attempt| attempt.error.is_some()) {
            let line = format!("  {} {name}: {}", paint(RED, "✗"), tree::failed(attempt, now));
            news.push((format!("attempt {} {}", attempt.attempt, step.key), (attempt.ended_at.0, place), line));
        }
        let started = step.started_at.0;
        let ended = step.ended_at.map_or(started, |ended| ended.0);
        let (at, line) = match (step.status, step.until) {
            (StepStatus::Completed, Some(until)) => (until.0, format!("  {} {name} slept", paint(GREEN, "✓"))),
            (StepStatus::Completed, None) if step.kind == Kind::Wait => {
                (ended, format!("  {} {name} {}  {}", paint(GREEN, "✓"), short(ended.since(started)), tree::came(step)))
            }
            (StepStatus::Completed, None) if step.kind == Kind::Race => {
                (ended, format!("  {} {name} {}  {}", paint(GREEN, "✓"), short(ended.since(started)), tree::won(step)))
            }
            (StepStatus::Waiting, _) => (started, format!("  {} {name} {}", paint(YELLOW, "◷"), tree::waits(step, None))),
            (StepStatus::Completed, None) => (ended, format!("  {} {name} {}", paint(GREEN, "✓"), short(ended.since(started)))),
            (StepStatus::Sleeping, _) => (started, format!("  {} {name} sleeps", paint(YELLOW, "◷"))),
            (StepStatus::Failed | StepStatus::BackingOff | StepStatus::Retrying | StepStatus::Abandoned | StepStatus::Left, _) => continue,
        };
        news.push((format!("{:?} {}", step.status, step.key), (at, place), line));
    }
    for attempt in &trace.attempts {
        let line = format!("  {} between steps: {}", paint(RED, "✗"), tree::failed(attempt, now));
        news.push((format!("between {} {}", attempt.attempt, attempt.started_at), (attempt.ended_at.0, usize::MAX), line));
    }
    news
}

/// The events whose runs have not all stopped.
fn going_on(known: &BTreeMap<EventId, Vec<Trace>>) -> Vec<EventId> {
    known.iter().filter(|(_, traces)| !traces.iter().all(|trace| trace.run.state.rests())).map(|(event, _)| *event).collect()
}

/// The run that a notice is about; none where some were missed.
pub fn run_of(notice: &NoticeView) -> Option<RunId> {
    match notice {
        NoticeView::Run { run, .. }
        | NoticeView::StepBegun { run, .. }
        | NoticeView::Recorded { run, .. }
        | NoticeView::AttemptFailed { run, .. }
        | NoticeView::Log { run, .. } => Some(*run),
        NoticeView::Missed { .. } => None,
    }
}

/// Prints the results to stdout: of one run its result, of several a line each.
fn outputs(out: &Out, traces: &[Trace]) -> Result<(), Trouble> {
    for json in traces.iter().filter_map(|trace| trace.run.output.as_ref()) {
        match serde_json::from_str::<Value>(json.get()) {
            // A number that would change on its way keeps the whole untouched.
            Ok(value) if out.terminal && traces.len() == 1 && is_written(&value, json.get()) => out.line(shown(&format!("{value:#}")))?,
            _ => out.line(json.get())?,
        }
    }
    Ok(())
}

/// Whether a value is written as `json` is, number by number.
fn is_written(value: &Value, json: &str) -> bool {
    let text = value.to_string();
    text == json
}

/// A line of a run's log, for people.
pub fn log_line(line: &LogView) -> String {
    use crate::rules::row::LogLevel;
    let level = match line.level {
        LogLevel::Debug => paint(DIM, "debug"),
        LogLevel::Info => paint(GREEN, "info "),
        LogLevel::Warn => paint(YELLOW, "warn "),
        LogLevel::Error => paint(RED, "error"),
        LogLevel::Call => paint(DIM, "call "),
    };
    // What the engine notes of an HTTP call beside its line is for the dashboard.
    let data = line.data.as_ref().filter(|_| line.level != LogLevel::Call);
    let data = data.map(|data| paint(DIM, format!("  {}", cut(data.get(), LOG_DATA_MOST)))).unwrap_or_default();
    format!("{level} {}{data}", shown(&line.message))
}

/// The text with colours only where stderr takes them: indicatif writes past anstream.
fn coloured(text: &str) -> String {
    match anstream::AutoStream::choice(&std::io::stderr()) {
        anstream::ColorChoice::Never => anstream::adapter::strip_str(text).to_string(),
        _ => text.to_owned(),
    }
}
