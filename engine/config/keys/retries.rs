//! `retries`: how often something that failed is tried again, and how long the engine waits in between.

use schemars::JsonSchema;

use crate::base::limits::RETRIES_MOST;
use crate::base::{Diagnostic, Span};
use crate::rules::policy::{Growth, Retry, Waits};

use super::super::reader::{Fields, MapShape, Reader, Value, choose, out_of_range, wrong};
use super::super::spanned::{Spanned, or};
use super::super::tree::{Node, Shape};

/// Attempts where nothing is said: the first one and three retries.
pub const ATTEMPTS_DEFAULT: u32 = 4;

/// The long form of `retries`, with the back-off between the attempts.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Retries {
    /// Tries in all, the first one included: 1 to 21; default 4. `retries: 3` is `attempts: 4`.
    pub attempts: Option<Spanned<u32>>,
    /// How the waits between the attempts grow: `exponential` doubles them, `linear` adds `initial` each time, `fixed` leaves
    /// them as they are. Default: the table 15 s, 30 s, 1, 2, 5, 10, 20, 40 min, 1 h, 2 h, plus
    /// up to 30 s; `exponential` as soon as `initial`, `max` or `jitter` is given.
    pub backoff: Option<Spanned<Growth>>,
    /// The first wait; default `15s`.
    pub initial: Option<Spanned<Span>>,
    /// The longest wait; default `2h`.
    pub max: Option<Spanned<Span>>,
    /// The share of a wait that is added or taken away at random, at most; 0 to 1, default 0.2.
    pub jitter: Option<Spanned<f64>>,
}

impl Retries {
    /// The policy in force.
    pub fn policy(&self) -> Retry {
        let value = |span: &Option<Spanned<Span>>| span.as_ref().map(|span| span.value);
        let waits = Waits {
            growth: self.backoff.as_ref().map(|growth| growth.value),
            initial: value(&self.initial),
            max: value(&self.max),
            jitter: self.jitter.as_ref().map(|jitter| jitter.value),
        };
        Retry { attempts: or(&self.attempts, ATTEMPTS_DEFAULT), backoff: waits.backoff() }
    }

    fn check(&self, reader: &mut Reader) {
        if let Some(attempts) = &self.attempts
            && !(1..=RETRIES_MOST + 1).contains(&attempts.value)
        {
            let problem = out_of_range(&attempts.place, &format!("`{}`", attempts.value), "1 to 21");
            reader.note(problem.help("`attempts` counts the first try too"));
        }
        if let Some(jitter) = &self.jitter
            && !(0.0..=1.0).contains(&jitter.value)
        {
            reader.note(out_of_range(&jitter.place, &format!("`{}`", jitter.value), "0 to 1"));
        }
        if let (Some(initial), Some(max)) = (&self.initial, &self.max)
            && initial.value > max.value
        {
            reader.note(
                Diagnostic::error("E0111", "the first wait is longer than the longest")
                    .labelled(initial.place.clone(), "the first wait")
                    .labelled(max.place.clone(), "the longest wait"),
            );
        }
        let Some(growth) = &self.backoff else { return };
        let initial = self.initial.as_ref().map(|initial| ("initial", &initial.place));
        let max = self.max.as_ref().map(|max| ("max", &max.place));
        let jitter = self.jitter.as_ref().map(|jitter| ("jitter", &jitter.place));
        for (key, place) in [initial, max, jitter].into_iter().flatten().filter(|(key, _)| growth.value.idle().contains(key)) {
            let problem = Diagnostic::error("E0122", format!("`{key}` has no effect on the back-off `{}`", growth.value.word()));
            reader.note(problem.at(place.clone()).help(format!("remove `{key}`, or choose `exponential` or `linear`")));
        }
    }
}

impl MapShape for Retries {
    const NAME: &'static str = "Retries";
}

impl Value for Retries {
    fn read(node: &Node, reader: &mut Reader) -> Option<Retries> {
        match &node.shape {
            Shape::Integer(retries) => match u32::try_from(*retries) {
                Ok(retries) if retries <= RETRIES_MOST => {
                    let attempts = Some(Spanned::new(retries + 1, node.place.clone()));
                    Some(Retries { attempts, ..Retries::default() })
                }
                _ => {
                    reader.note(out_of_range(&node.place, &format!("`{retries}`"), "0 to 20"));
                    None
                }
            },
            Shape::Map(_) => {
                let mut fields = Fields::of::<Retries>(node, "`retries`", reader)?;
                let retries = Retries {
                    attempts: fields.optional("attempts"),
                    backoff: fields.optional("backoff"),
                    initial: fields.optional("initial"),
                    max: fields.optional("max"),
                    jitter: fields.optional("jitter"),
                };
                fields.done();
                retries.check(reader);
                Some(retries)
            }
            _ => {
                reader.note(wrong(node, "a number of retries or a map").help("for example `retries: 3`"));
                None
            }
        }
    }
}

impl Value for Growth {
    fn read(node: &Node, reader: &mut Reader) -> Option<Growth> {
        choose(node, &Growth::WORDS, reader)
    }
}

impl Value for f64 {
    fn read(node: &Node, reader: &mut Reader) -> Option<f64> {
        match &node.shape {
            Shape::Float(value) => Some(*value),
            Shape::Integer(value) => Some(*value as f64),
            _ => {
                reader.wrong(node, "a number");
                None
            }
        }
    }
}
