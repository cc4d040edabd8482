//! What the engine itself has said of late, for the page of logs: a ring in memory beside what goes to stderr.
//!
//! The subscriber of a process's log is one for all of it, and so is this ring.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::base::{Clock, Millis};
use crate::rules::row::LogLevel;

use super::widgets;

/// Lines that are kept.
pub const LINES_KEPT: usize = 1_000;
/// Characters of a line that are kept.
const TEXT_MOST: usize = 8_192;

static RING: OnceLock<Mutex<Ring>> = OnceLock::new();

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Told>,
    counted: u64,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Counts them from 1.
    pub number: u64,
    /// When.
    pub at: Millis,
    /// How loud.
    pub level: LogLevel,
    /// The text.
    pub message: String,
    /// What stands beside it, also by what it was said in: `run`, `step`, `function` and others.
    pub fields: Vec<(String, String)>,
}

impl Told {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The last lines, the newest first.
pub fn lines() -> Vec<Told> {
    let Some(ring) = RING.get() else { return Vec::new() };
    ring.lock().unwrap_or_else(PoisonError::into_inner).lines.iter().rev().cloned().collect()
}

/// A text as it may be kept: without secrets.
pub type Hide = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// Keeps what is said; to be added to the process's subscriber, behind the filter of what is said at all.
pub struct Keep {
    clock: Arc<dyn Clock>,
    hide: Hide,
}

impl Keep {
    /// A layer that keeps lines with the time of this clock, and of their texts what `hide` leaves.
    pub fn new(clock: Arc<dyn Clock>, hide: Hide) -> Keep {
        RING.get_or_init(Mutex::default);
        Keep { clock, hide }
    }

    fn reader(&self) -> Reader<'_> {
        Reader { hide: &self.hide, message: String::new(), fields: Vec::new() }
    }
}

/// The fields of a span, kept with it.
struct Fields(Vec<(String, String)>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keep {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut read = self.reader();
        attributes.record(&mut read);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Fields(read.fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut read = self.reader();
        values.record(&mut read);
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            fields.0.extend(read.fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut read = self.reader();
        event.record(&mut read);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                let new: Vec<_> = fields.0.iter().filter(|(key, _)| !read.fields.iter().any(|(known, _)| known == key)).cloned().collect();
                read.fields.extend(new);
            }
        }
        let level = match *event.metadata().level() {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warn,
            Level::INFO => LogLevel::Info,
            Level::DEBUG | Level::TRACE => LogLevel::Debug,
        };
        keep(self.clock.now(), level, read);
    }
}

fn keep(at: Millis, level: LogLevel, read: Reader<'_>) {
    let Some(ring) = RING.get() else { return };
    let mut ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
    ring.counted += 1;
    let number = ring.counted;
    if ring.lines.len() >= LINES_KEPT {
        ring.lines.pop_front();
    }
    ring.lines.push_back(Told { number, at, level, message: read.message, fields: read.fields });
}

/// Reads the fields of a line or a span.
struct Reader<'a> {
    hide: &'a Hide,
    message: String,
    fields: Vec<(String, String)>,
}

impl Reader<'_> {
    fn put(&mut self, field: &Field, text: &str) {
        // In this order: nobody finds a secret of which the cut has left a part.
        let text = widgets::cut(&(self.hide)(text), TEXT_MOST);
        if field.name() == "message" {
            self.message = text;
        } else {
            self.fields.push((field.name().to_owned(), text));
        }
    }
}

impl Visit for Reader<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = write!(text, "{value:?}");
        self.put(field, &text);
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Millis {
            Millis(7)
        }

        fn sleep_until(&self, _: Millis, _: bool) -> crate::base::time::Waiting {
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn a_line_is_kept_with_what_it_was_said_in() {
        let subscriber = tracing_subscriber::registry().with(Keep::new(Arc::new(Still), Arc::new(str::to_owned)));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("run", run = "01abc", step = "charge");
            let _in = span.enter();
            tracing::warn!(attempt = 2, "the <shop> is busy");
        });
        let kept = lines();
        let line = kept.iter().find(|line| line.message == "the <shop> is busy").expect("it is kept");
        assert_eq!((line.level, line.at, line.field("run"), line.field("attempt")), (LogLevel::Warn, Millis(7), Some("01abc"), Some("2")));
        assert_eq!(line.field("step"), Some("charge"));
    }

    #[test]
    fn a_secret_is_hidden_before_a_line_is_cut() {
        let hide = |text: &str| text.replace("sk_live_1234", "«secret»");
        let subscriber = tracing_subscriber::registry().with(Keep::new(Arc::new(Still), Arc::new(hide)));
        let long = format!("{}sk_live_1234", " ".repeat(TEXT_MOST - 4));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("run", given = "sk_live_1234");
            let _in = span.enter();
            tracing::warn!(long = %long, "the key is sk_live_1234");
        });
        let kept = lines();
        let line = kept.iter().find(|line| line.message == "the key is «secret»").expect("it is kept");
        assert_eq!(line.field("given"), Some("«secret»"));
        let long = line.field("long").expect("it is kept");
        assert!(long.ends_with("«sec…") && !long.contains("sk_"), "{:?}", long.trim_start());
    }
}
