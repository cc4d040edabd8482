//! `retries`: how often something that failed is tried again, and how long the engine waits in between.

use schemars::JsonSchema;

use crate::base::limits::RETRIES_MOST;
use crate::base::{Diagnostic, Location, Span};
use crate::rules::policy::{Backoff, Retry};

use super::super::reader::{Fields, MapShape, Reader, Value, choose, out_of_range, wrong};
use super::super::spanned::{Spanned, or};
use super::super::tree::{Node, Shape};

/// Attempts where nothing is said: the first one and three retries.
pub const ATTEMPTS_DEFAULT: u32 = 4;
const INITIAL_DEFAULT: Span = Span::seconds(15);
const MAX_DEFAULT: Span = Span::seconds(2 * 60 * 60);
const JITTER_DEFAULT: f64 = 0.2;

/// The long form of `retries`, with the back-off between the attempts.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Retries {
    /// Tries in all, the first one included: 1 to 21; default 4.
    pub attempts: Option<Spanned<u32>>,
    /// How the waits between the attempts grow. Default: the table 15 s, 30 s, 1, 2, 5, 10, 20, 40 min, 1 h, 2 h, plus
    /// up to 30 s; `exponential` as soon as `initial`, `max` or `jitter` is given.
    pub backoff: Option<Spanned<Growth>>,
    /// The first wait; default `15s`.
    pub initial: Option<Spanned<Span>>,
    /// The longest wait; default `2h`.
    pub max: Option<Spanned<Span>>,
    /// The share of a wait that is added or taken away at random, at most; 0 to 1, default 0.2.
    pub jitter: Option<Spanned<f64>>,
}

/// How the waits between attempts grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Growth {
    /// The default table.
    Table,
    /// Twice as long each time.
    Exponential,
    /// Longer by `initial` each time.
    Linear,
    /// Always `initial`.
    Fixed,
}

impl Growth {
    const WORDS: [(&'static str, Growth); 4] =
        [("table", Growth::Table), ("exponential", Growth::Exponential), ("linear", Growth::Linear), ("fixed", Growth::Fixed)];
}

impl Retries {
    /// The policy in force.
    pub fn policy(&self) -> Retry {
        let shaped = self.initial.is_some() || self.max.is_some() || self.jitter.is_some();
        let growth = or(&self.backoff, if shaped { Growth::Exponential } else { Growth::Table });
        let (initial, max, jitter) = (or(&self.initial, INITIAL_DEFAULT), or(&self.max, MAX_DEFAULT), or(&self.jitter, JITTER_DEFAULT));
        // A first wait that is longer than the default maximum stands by itself.
        let max = if self.max.is_none() { max.max(initial) } else { max };
        let backoff = match growth {
            Growth::Table => Backoff::Table,
            Growth::Exponential => Backoff::Exponential { initial, max, jitter },
            Growth::Linear => Backoff::Linear { initial, max, jitter },
            Growth::Fixed => Backoff::Fixed { initial, jitter },
        };
        Retry { attempts: or(&self.attempts, ATTEMPTS_DEFAULT), backoff }
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
        let idle: Vec<(&str, &Location)> = match growth.value {
            Growth::Table => [initial, max, jitter].into_iter().flatten().collect(),
            Growth::Fixed => max.into_iter().collect(),
            Growth::Exponential | Growth::Linear => Vec::new(),
        };
        for (key, place) in idle {
            let problem = Diagnostic::error("E0122", format!("`{key}` has no effect on the back-off `{}`", growth.place_text()));
            reader.note(problem.at(place.clone()).help(format!("remove `{key}`, or choose `exponential` or `linear`")));
        }
    }
}

impl Spanned<Growth> {
    fn place_text(&self) -> &'static str {
        Growth::WORDS.iter().find(|(_, growth)| *growth == self.value).map_or("", |(word, _)| word)
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
