//! The last lines that handlers have written, of all runs, so that whoever comes to look sees what was said before. They are kept in memory
//! alone, and are gone with the engine: each run's own log is stored with it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::RunId;
use crate::rules::LogRow;

use super::Engine;

/// Lines that are kept, at most.
pub const LOGGED_KEPT: usize = 1_000;
/// Bytes of their texts that are kept, at most.
const BYTES_KEPT: usize = 2 * 1024 * 1024;
/// Bytes of a text that are kept, at most.
const TEXT_BYTES: usize = 8 * 1024;

/// A line of a run's log.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// The run.
    pub run: RunId,
    /// The line; its secrets are hidden, and what is longer than 8 KiB is cut.
    pub line: LogRow,
}

#[derive(Debug, Default)]
pub(super) struct Ring {
    lines: VecDeque<Logged>,
    bytes: usize,
}

impl Ring {
    /// Keeps a line, and lets go of the oldest ones that are too many by then.
    pub(super) fn keep(&mut self, run: RunId, line: &LogRow) {
        let line = LogRow { message: cut(&line.message), data: line.data.as_ref().map(cut), ..line.clone() };
        self.bytes += weight(&line);
        self.lines.push_back(Logged { run, line });
        while self.lines.len() > LOGGED_KEPT || self.bytes > BYTES_KEPT {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= weight(&oldest.line);
        }
    }

    /// The lines, the newest first.
    pub(super) fn newest_first(&self) -> Vec<Logged> {
        self.lines.iter().rev().cloned().collect()
    }
}

fn weight(line: &LogRow) -> usize {
    line.message.len() + line.data.as_ref().map_or(0, |data| data.len())
}

fn cut(text: &Arc<str>) -> Arc<str> {
    if text.len() <= TEXT_BYTES {
        return Arc::clone(text);
    }
    let end = (0..=TEXT_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Arc::from(format!("{}…", &text[..end]))
}

impl Engine {
    /// The last lines that handlers have written since the engine started, the newest first.
    pub fn logged(&self) -> Vec<Logged> {
        self.inner.watch.logged_lately()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Id, Millis};
    use crate::rules::row::LogLevel;

    fn line(message: &str) -> LogRow {
        LogRow { at: Millis(1), level: LogLevel::Info, message: Arc::from(message), data: None, step: Arc::from("") }
    }

    #[test]
    fn the_last_lines_are_kept_however_many_and_long_they_are() {
        let mut ring = Ring::default();
        (0..LOGGED_KEPT + 5).for_each(|number| ring.keep(Id(1), &line(&number.to_string())));
        let kept = ring.newest_first();
        assert_eq!((kept.len(), &*kept[0].line.message, &*kept.last().unwrap().line.message), (LOGGED_KEPT, "1004", "5"));
        assert_eq!(ring.bytes, kept.iter().map(|logged| weight(&logged.line)).sum::<usize>());

        let long = "ü".repeat(1024 * 1024);
        (0..LOGGED_KEPT).for_each(|_| ring.keep(Id(2), &LogRow { data: Some(Arc::from(long.as_str())), ..line(&long) }));
        let kept = ring.newest_first();
        assert!(ring.bytes <= BYTES_KEPT && kept.len() > 100, "{} lines of {} bytes", kept.len(), ring.bytes);
        assert!(kept.iter().all(|logged| logged.line.message.len() <= TEXT_BYTES + '…'.len_utf8()));
    }
}
