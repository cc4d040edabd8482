//! The engine's log on stderr: text for people or JSON for programs, a line each, with every secret that the engine knows hidden.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::base::{Diagnostic, Severity};
use crate::clock::SystemClock;
use crate::exec::Engine;
use crate::project::Project;
use crate::script::{Secrets, Surroundings};
use crate::web::told::Keep;

use super::exit::{Exit, Trouble};
use super::out::Out;
use super::remote::variable;
use super::settings::Keys;

/// Snapshots whose secrets are hidden: after a reload, those of the one before may still be on their way into the log.
const SNAPSHOTS: usize = 8;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object a line, with the ids of the run, the event and the step that a line is about
    Json,
}

/// Arguments of the commands that run an engine for long.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct LogOptions {
    /// How the log on stderr is written; STEPWELL_LOG chooses what is logged, such as `warn` or `info,run=debug`
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: Format,
}

/// What no line of the log shows: the secrets of the config in force, and the keys and tokens.
pub struct Hidden {
    keys: Secrets,
    known: Mutex<Vec<Arc<Surroundings>>>,
    /// Has the config in force, once it is there.
    engine: OnceLock<Engine>,
}

impl Hidden {
    /// Hides these keys and tokens to begin with.
    pub fn new(keys: &Keys) -> Arc<Hidden> {
        let mut named = BTreeMap::new();
        for (number, key) in keys.event.iter().enumerate() {
            named.insert(format!("STEPWELL_EVENT_KEYS {}", number + 1), Some(key.clone()));
        }
        named.insert("STEPWELL_ADMIN_TOKEN".to_owned(), keys.admin.clone());
        named.insert("STEPWELL_READ_TOKEN".to_owned(), keys.read.clone());
        Arc::new(Hidden { keys: Secrets::new(named), known: Mutex::default(), engine: OnceLock::new() })
    }

    /// Hides the secrets of a config too.
    pub fn know(&self, project: &Project) {
        self.keep(&project.surroundings);
    }

    fn keep(&self, surroundings: &Arc<Surroundings>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Most reloads change no secret; those must not push out what is still to be hidden.
        if !known.iter().any(|known| known.secrets == surroundings.secrets) {
            known.insert(0, Arc::clone(surroundings));
            known.truncate(SNAPSHOTS);
        }
    }

    /// Hides from now on the secrets of whatever config the engine has in force.
    pub fn follow(&self, engine: &Engine) {
        // Another engine in one process would be followed by a value of its own.
        let _ = self.engine.set(engine.clone());
    }

    fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if let Some(engine) = self.engine.get() {
            self.know(&engine.project());
        }
        // The search takes its time, and other threads have lines of their own.
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let all = std::iter::once(&self.keys).chain(known.iter().map(|surroundings| &surroundings.secrets));
        all.fold(Cow::Borrowed(text), |text, secrets| match secrets.hide(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(hidden) => Cow::Owned(hidden),
        })
    }
}

/// The way of one line to stderr. The subscriber writes a line in one piece.
struct Line(Arc<Hidden>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(self.0.hide(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl LogOptions {
    /// Begins to write the log. `runs_are_shown` where somebody else tells the person what runs do, unless it is told otherwise.
    pub fn start(self, hidden: &Arc<Hidden>, runs_are_shown: bool) {
        let usual = if runs_are_shown && self.log_format == Format::Text { "info,run=off" } else { "info" };
        let filter = EnvFilter::try_from_env("STEPWELL_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
        let (hidden, kept) = (Arc::clone(hidden), Arc::clone(hidden));
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || Line(Arc::clone(&hidden)));
        let keep = Keep::new(Arc::new(SystemClock::default()), Arc::new(move |text: &str| kept.hide(text).into_owned()));
        let made = match self.log_format {
            Format::Text => {
                let colour = io::stderr().is_terminal() && variable("NO_COLOR").is_none();
                lines.with_ansi(colour).with_target(false).finish().with(keep).try_init()
            }
            Format::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).finish().with(keep).try_init(),
        };
        // A second subscriber cannot be set; the first one serves.
        let _ = made;
    }

    /// Says something that is no event of the engine's own: on a line of its own, or within the JSON.
    pub fn say(self, out: &Out, text: impl AsRef<str>) {
        match self.log_format {
            Format::Text => out.say(text),
            Format::Json => tracing::info!("{}", text.as_ref()),
        }
    }

    /// Shows problems that are no reason to stop.
    pub fn problems(self, out: &Out, problems: &[Diagnostic]) {
        match self.log_format {
            Format::Text => out.problems(problems),
            Format::Json => problems.iter().for_each(|problem| match problem.severity {
                Severity::Note => tracing::info!(code = problem.code, "{}", in_words(problem)),
                Severity::Warning => tracing::warn!(code = problem.code, "{}", in_words(problem)),
                Severity::Error => tracing::error!(code = problem.code, "{}", in_words(problem)),
            }),
        }
    }

    /// The end of the command: in JSON its problems have become lines of the log.
    pub fn ended(self, out: &Out, ended: Result<Exit, Trouble>) -> Result<Exit, Trouble> {
        match (self.log_format, ended) {
            (Format::Json, Err(trouble)) => {
                self.problems(out, &trouble.problems);
                Err(Trouble { problems: Vec::new(), ..trouble })
            }
            (_, ended) => ended,
        }
    }
}

/// A problem on one line, with its place and what helps.
fn in_words(problem: &Diagnostic) -> String {
    let place = problem.position().map(|(file, line, column)| format!("{file}:{line}:{column}: ")).unwrap_or_default();
    let help: String = problem.helps.iter().map(|help| format!(" ({help})")).collect();
    format!("{place}{}{help}", problem.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_tokens_are_hidden() {
        let keys = Keys { event: vec!["event-key-1".into()], admin: Some("admin-token-1".into()), read: None };
        let hidden = Hidden::new(&keys);
        let text = hidden.hide("of admin-token-1 and event-key-1 and event%2Dkey");
        assert!(!text.contains("admin-token-1") && !text.contains("event-key-1"), "{text}");
        assert!(text.contains("«secret STEPWELL_ADMIN_TOKEN»"), "{text}");
    }

    #[test]
    fn a_secret_is_hidden_after_any_number_of_reloads_that_change_none() {
        let with = |value: &str| {
            let secrets = Secrets::new(BTreeMap::from([("API_KEY".to_owned(), Some(value.to_owned()))]));
            Arc::new(Surroundings { secrets, ..Surroundings::default() })
        };
        let hidden = Hidden::new(&Keys { event: Vec::new(), admin: None, read: None });
        hidden.keep(&with("the-old-value"));
        (0..2 * SNAPSHOTS).for_each(|_| hidden.keep(&with("the-new-value")));
        assert_eq!(hidden.hide("the-old-value, the-new-value"), "«secret API_KEY», «secret API_KEY»");
    }
}
