//! A request's body becomes events: every field is checked, and every problem is told at once.

mod body;
mod event;
mod scan;
mod seed;

pub(super) use body::{discard, form, json, raw, read};
pub(super) use event::{Incoming, parse};
pub(super) use seed::Seed;

use super::view::Detail;

/// The text is not JSON.
const NOT_JSON: &str = "E0510";
/// The body is neither an event nor an array of events.
const NOT_EVENTS: &str = "E0511";
/// Too many events in one request.
const TOO_MANY: &str = "E0512";
/// A field of an event is missing, or is not of its kind.
const FIELD: &str = "E0513";
/// A time is out of range.
const TIME: &str = "E0514";
/// A key stands twice in one object.
const TWICE: &str = "E0515";
/// Arrays and objects are nested too deep.
const DEEP: &str = "E0516";
/// A text is not Unicode.
const UNICODE: &str = "E0517";

fn detail(index: Option<usize>, code: &str, pointer: impl Into<String>, message: impl Into<String>) -> Detail {
    let (pointer, message) = (pointer.into(), message.into());
    Detail { index, code: code.to_owned(), pointer, message, help: None, seen: None }
}

trait Helped {
    fn help(self, help: impl Into<String>) -> Self;
}

impl Helped for Detail {
    fn help(mut self, help: impl Into<String>) -> Detail {
        self.help = Some(help.into());
        self
    }
}
