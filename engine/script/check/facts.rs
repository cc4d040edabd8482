//! What the checks find out of a script that others have to judge: what it reads of events, and what it hands to them.

use std::collections::BTreeSet;
use std::fmt;

use crate::base::Location;

/// An event that a script looks into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// The run's own, as `event` or one of `events`.
    Own,
    /// The one that a wait gives.
    Awaited {
        /// The names that it may have.
        names: Vec<String>,
        /// Where the wait stands, in bytes of its file.
        site: usize,
        /// Whether it has a time-out, and so may give `()`.
        times_out: bool,
    },
}

/// A step from a value to one in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// `.name` or `["name"]`
    Field(String),
    /// `[0]`
    Index(i64),
    /// Some item of a list.
    Each,
}

/// A step, and how it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Where it leads.
    pub at: At,
    /// Where it stands.
    pub place: Location,
    /// Whether it is written with `?.` or `?[`, so that a missing owner does no harm.
    pub is_safe: bool,
}

/// What becomes of a value that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Nothing that could fail.
    Value,
    /// A method is called on it.
    Method {
        /// Its name.
        name: String,
        /// Where that stands.
        place: Location,
        /// Whether it is called with `?.`.
        is_safe: bool,
    },
    /// It is calculated with.
    Operator(String),
    /// A loop goes over it.
    Loop,
}

/// A value of an event that a script reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The event.
    pub root: Root,
    /// The way into it; the first step is one of the event's own fields.
    pub hops: Vec<Hop>,
    /// What becomes of it.
    pub end: End,
    /// Whether it stands in a `try`.
    pub is_shielded: bool,
}

impl Read {
    /// The way of the first `hops` steps, as text; the same for each way to write it.
    pub fn path(&self, hops: usize) -> String {
        let mut text = match &self.root {
            Root::Own => "event".to_owned(),
            Root::Awaited { site, .. } => format!("wait {site}"),
        };
        for hop in self.hops.iter().take(hops) {
            match &hop.at {
                At::Field(name) => text.push_str(&format!(".{name}")),
                At::Index(_) | At::Each => text.push_str("[]"),
            }
        }
        text
    }

    /// The way of the first `hops` steps for people; what leads to an item of a list is left open.
    pub fn shown(&self, hops: usize) -> String {
        let start = match &self.root {
            Root::Own => "event".to_owned(),
            Root::Awaited { names, .. } => match names.as_slice() {
                [name] => format!("({name})"),
                _ => "(the event)".to_owned(),
            },
        };
        self.hops.iter().take(hops).fold(start, |text, hop| match &hop.at {
            At::Field(name) => format!("{text}.{name}"),
            At::Index(index) => format!("{text}[{index}]"),
            At::Each => format!("{text}[…]"),
        })
    }
}

/// What is known of a value without running the script.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// Nothing.
    Anything,
    /// A text; which one, if it stands there.
    Text(Option<String>),
    /// A whole number.
    Whole(Option<i64>),
    /// A number with a fraction.
    Number(Option<f64>),
    /// True or false.
    Flag(Option<bool>),
    /// `()`
    Nothing,
    /// A list that stands there.
    List(Vec<Datum>),
    /// A map that stands there: keys, their places, values.
    Map(Vec<(String, Location, Datum)>),
    /// A value of an event.
    Read(Read),
    /// The events of a batch.
    Events,
    /// A closure, with the variables of the loops around it that it captures.
    Closure(Vec<LoopVariable>),
    /// Nothing, but that these closures are in it, which capture variables of loops.
    Keeps(Vec<Datum>),
    /// One of these types of the handler API's table.
    Of(Vec<&'static str>),
}

/// A variable that a loop gives its items to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopVariable {
    /// Its name.
    pub name: String,
    /// How many variables were there before it.
    pub slot: usize,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Datum {
    /// The value.
    pub what: What,
    /// Where it stands.
    pub place: Location,
}

/// Data that a script gives to others under a literal name.
#[derive(Debug, Clone, PartialEq)]
pub struct Handed {
    /// The event's name, or the function's id.
    pub to: String,
    /// Whether it is a function that is invoked.
    pub is_call: bool,
    /// The data.
    pub data: Datum,
}

/// What a script reads and hands out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// What it reads of events, each place once.
    pub reads: Vec<Read>,
    /// The values that it compares, asks for or has a default for, as `Read::path` writes them: they may be missing.
    pub tested: BTreeSet<String>,
    /// What it sends and invokes with.
    pub handed: Vec<Handed>,
}

impl Facts {
    /// Adds those of another file.
    pub(in crate::script) fn extend(&mut self, more: Facts) {
        self.reads.extend(more.reads);
        self.tested.extend(more.tested);
        self.handed.extend(more.handed);
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Field(name) => write!(f, "{name}"),
            At::Index(index) => write!(f, "[{index}]"),
            At::Each => write!(f, "[…]"),
        }
    }
}
