//! `concurrency`: how many runs of a function may be active at once.

use schemars::JsonSchema;

use crate::base::Diagnostic;
use crate::rules::policy::{Hold, Limit};

use super::super::reader::{Fields, MapShape, Reader, Value, choose, out_of_range, wrong};
use super::super::spanned::{Spanned, or};
use super::super::tree::{Node, Shape};
use super::names::id_problem;

/// Most limits of one function, as Inngest's.
const LIMITS_MOST: usize = 2;

/// How many runs may be active at once, for each value of `key`. They begin in the order of acceptance.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Concurrency {
    /// The most runs at once, at least 1.
    #[schemars(required, range(min = 1))]
    pub limit: Option<Spanned<u32>>,
    /// An expression over the event, such as `event.data.userId`: each of its values has a limit of its own. Without it,
    /// all runs of the function count together.
    pub key: Option<Spanned<String>>,
    /// `run` (default): a run holds its slot from its first start to its end, so runs of one key never overlap. `active`:
    /// it lets the slot go while it sleeps, waits or backs off.
    pub hold: Option<Spanned<Hold>>,
    /// A name: all functions that give it share one limit. They must state the same `limit` and `hold`.
    pub shared: Option<Spanned<String>>,
}

impl Concurrency {
    /// The limit as the rules take it; the key's expression stays behind.
    pub fn policy(&self) -> Limit {
        Limit {
            limit: or(&self.limit, 1).max(1),
            hold: or(&self.hold, Hold::Run),
            shared: self.shared.as_ref().map(|name| name.value.clone()),
        }
    }
}

impl MapShape for Concurrency {
    const NAME: &'static str = "Concurrency";
}

impl Value for Concurrency {
    fn read(node: &Node, reader: &mut Reader) -> Option<Concurrency> {
        let concurrency = match &node.shape {
            Shape::Integer(_) => Concurrency { limit: Value::read(node, reader), ..Concurrency::default() },
            Shape::Map(_) => {
                let mut fields = Fields::of::<Concurrency>(node, "`concurrency`", reader)?;
                let concurrency = Concurrency {
                    limit: fields.required("limit"),
                    key: fields.optional("key"),
                    hold: fields.optional("hold"),
                    shared: fields.optional("shared"),
                };
                fields.done();
                concurrency
            }
            _ => {
                reader.note(wrong(node, "a number of runs, a map, or a list of maps").help("for example `concurrency: 5`"));
                return None;
            }
        };
        if let Some(limit) = &concurrency.limit
            && limit.value == 0
        {
            reader.note(out_of_range(&limit.place, "`0`", "at least 1").help("a function that must not run is paused, or removed"));
        }
        if let Some(problem) = concurrency.shared.as_ref().and_then(|name| id_problem("the shared limit", &name.value, &name.place)) {
            reader.note(problem);
        }
        Some(concurrency)
    }
}

/// Reads the short form, the long form, or a list of long forms.
pub(in crate::config) fn read_all(node: &Node, reader: &mut Reader) -> Vec<Concurrency> {
    let Shape::List(items) = &node.shape else {
        return Concurrency::read(node, reader).into_iter().collect();
    };
    reader.refuse_empty(node, "`concurrency` names no limit");
    if items.len() > LIMITS_MOST {
        let place = items[LIMITS_MOST].place.clone();
        let problem = Diagnostic::error("E0111", format!("a function has at most {LIMITS_MOST} concurrency limits"));
        reader.note(problem.labelled(place, "one too many"));
    }
    items.iter().filter_map(|item| Concurrency::read(item, reader)).collect()
}

/// The word that is written for a hold.
pub(in crate::config) fn hold_word(hold: Hold) -> &'static str {
    match hold {
        Hold::Run => "run",
        Hold::Active => "active",
    }
}

impl Value for Hold {
    fn read(node: &Node, reader: &mut Reader) -> Option<Hold> {
        choose(node, &[("run", Hold::Run), ("active", Hold::Active)], reader)
    }
}
