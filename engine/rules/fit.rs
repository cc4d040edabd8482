//! Whether a handler fits what a run has recorded: it has to ask for every record, of the same kind, before it asks for
//! anything new.
//!
//! Records are told apart by key and kind, not by their places alone: so a step that is added behind the recorded ones is no
//! difference, and neither are two that have changed places. A branch that asks for something new stops there until the others have
//! asked for theirs. The record of a race stands for all that its branches have recorded before it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::row::{Kind, Record};

/// What stands between the names of branches, and before the name of a record.
pub const BELOW: &str = " › ";

/// A call of a handler that makes a record: what it is, its key, and where it stands as `file:line`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What it makes.
    pub kind: Kind,
    /// The key of that.
    pub key: Arc<str>,
    /// Where it stands.
    pub line: Option<Arc<str>>,
    /// The line itself, where it is known.
    pub text: Option<Arc<str>>,
}

impl Call {
    /// The call that made a record.
    pub fn of(record: &Record) -> Call {
        Call { kind: record.kind, key: Arc::clone(&record.key), line: record.line.clone(), text: None }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind.word(), self.key)?;
        match (&self.line, &self.text) {
            (Some(line), Some(text)) => write!(f, " ({line}: {})", text.trim()),
            (Some(line), None) => write!(f, " ({line})"),
            (None, _) => Ok(()),
        }
    }
}

/// What a handler did where it should have asked for a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instead {
    /// It asks for something else.
    Asks(Call),
    /// It has come to its end.
    Ends,
    /// It has thrown.
    Throws,
}

/// The first difference between what a run has recorded and its handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What is recorded.
    pub recorded: Call,
    /// What the handler does.
    pub instead: Instead,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the journal has {} where the handler ", self.recorded)?;
        match &self.instead {
            Instead::Asks(call) => write!(f, "asks for {call}"),
            Instead::Ends => f.write_str("asks for nothing more"),
            Instead::Throws => f.write_str("asks for an error"),
        }
    }
}

/// Why a handler cannot go on with what a run has recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It does not ask for all of it.
    Differs(Box<Difference>),
    /// Something else: a record that is none of its kind, a handler that is not there any more.
    Other(Arc<str>),
}

impl Unfit {
    /// The difference, with the line of the handler where it is not known yet.
    #[must_use]
    pub fn at(mut self, line: impl FnOnce() -> Option<Arc<str>>) -> Unfit {
        if let Unfit::Differs(difference) = &mut self
            && let Instead::Asks(call) = &mut difference.instead
            && call.line.is_none()
        {
            call.line = line();
        }
        self
    }

    /// The same with the lines themselves, which these read from `file:line` in the version that made the record, and in the
    /// handler.
    #[must_use]
    pub fn with_texts(mut self, before: impl Fn(&str) -> Option<Arc<str>>, now: impl Fn(&str) -> Option<Arc<str>>) -> Unfit {
        if let Unfit::Differs(difference) = &mut self {
            difference.recorded.text = difference.recorded.line.as_deref().and_then(before);
            if let Instead::Asks(call) = &mut difference.instead {
                call.text = call.line.as_deref().and_then(now);
            }
        }
        self
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Differs(difference) => difference.fmt(f),
            Unfit::Other(why) => f.write_str(why),
        }
    }
}

impl From<&str> for Unfit {
    fn from(why: &str) -> Unfit {
        Unfit::Other(why.into())
    }
}

/// What follows for a call of the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is recorded, there.
    Recorded(usize),
    /// It is new, and everything that is recorded was asked for.
    New,
    /// It is new to its branch, and other branches have yet to ask for what they have recorded.
    Later,
    /// It is new, and this record should have been asked for before.
    Unfit(usize),
}

/// How far a handler has asked for what a run has recorded.
#[derive(Debug, Clone, Default)]
pub struct Fit {
    /// Where the next record is expected to be.
    cursor: usize,
    asked: Vec<bool>,
    count: usize,
    /// Made at the first record that is not where it is expected.
    index: Option<HashMap<(Arc<str>, Kind), usize>>,
    /// Every record before this one was asked for.
    whole: usize,
}

/// Whether a record is one of this branch itself.
pub fn is_own(key: &str, branch: &str) -> bool {
    key.rsplit_once(BELOW).is_some_and(|(above, _)| above == branch)
}

/// Whether a key stands below a branch or a race, however deep.
pub fn is_under(key: &str, above: &str) -> bool {
    key.strip_prefix(above).is_some_and(|rest| rest.starts_with(BELOW))
}

impl Fit {
    /// A handler that has asked for none of these yet.
    pub fn new(records: &[Record]) -> Fit {
        Fit { cursor: 0, asked: vec![false; records.len()], count: 0, index: None, whole: 0 }
    }

    /// Whether every record was asked for.
    pub fn is_whole(&self) -> bool {
        self.count == self.asked.len()
    }

    /// The first record that was not asked for.
    pub fn missed(&self) -> Option<usize> {
        if self.is_whole() { None } else { self.asked.iter().position(|asked| !asked) }
    }

    /// The handler asks for this, in this branch where it is in one. `records` are those that it began with.
    pub fn ask(&mut self, records: &[Record], branch: Option<&str>, kind: Kind, key: &Arc<str>) -> Answer {
        if let Some(at) = self.find(records, branch.is_some(), kind, key) {
            self.cursor = at + 1;
            self.tick(at);
            return Answer::Recorded(at);
        }
        if self.is_whole() {
            return Answer::New;
        }
        let missed = match branch {
            None => self.missed(),
            Some(branch) => {
                let own = |(record, asked): (&Record, &bool)| !asked && is_own(&record.key, branch);
                records.iter().zip(&self.asked).position(own)
            }
        };
        missed.map_or(Answer::Later, Answer::Unfit)
    }

    /// The handler comes to a race, in a branch where it is in one: where what it came to is recorded. Nothing is asked of its branches then,
    /// so what they have recorded before counts as asked for. None where it is not decided, which is no difference yet: its branches ask
    /// for theirs.
    pub fn race(&mut self, records: &[Record], branch: Option<&str>, key: &Arc<str>) -> Option<usize> {
        let at = self.find(records, branch.is_some(), Kind::Race, key)?;
        self.cursor = at + 1;
        self.tick(at);
        self.pass_over(&records[..at], key);
        Some(at)
    }

    /// Of a race that is decided, nothing that is recorded below it is needed any more.
    pub fn pass_over(&mut self, records: &[Record], race: &str) {
        while self.asked.get(self.whole) == Some(&true) {
            self.whole += 1;
        }
        for (at, record) in records.iter().enumerate().skip(self.whole) {
            if is_under(&record.key, race) {
                self.tick(at);
            }
        }
    }

    fn tick(&mut self, at: usize) {
        if !std::mem::replace(&mut self.asked[at], true) {
            self.count += 1;
        }
    }

    fn find(&mut self, records: &[Record], may_ask_again: bool, kind: Kind, key: &Arc<str>) -> Option<usize> {
        if records.get(self.cursor).is_some_and(|record| record.kind == kind && record.key == *key) {
            return Some(self.cursor);
        }
        // A branch that is started again asks for its records once more.
        if self.is_whole() && !may_ask_again {
            return None;
        }
        let index = self
            .index
            .get_or_insert_with(|| records.iter().enumerate().map(|(at, record)| ((Arc::clone(&record.key), record.kind), at)).collect());
        index.get(&(Arc::clone(key), kind)).copied()
    }
}

#[cfg(test)]
mod tests;
