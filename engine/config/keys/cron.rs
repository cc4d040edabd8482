//! `cron`: starts by the clock. Read and checked for shape; not supported yet.

use schemars::JsonSchema;

use crate::base::Span;

use super::super::reader::{Fields, MapShape, Reader, Value, choose};
use super::super::spanned::Spanned;
use super::super::tree::{Node, Shape};

/// Starts a function by the clock.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Cron {
    /// Minute, hour, day of the month, month, day of the week: `0 7 * * MON-FRI`.
    #[schemars(required)]
    pub schedule: Option<Spanned<String>>,
    /// The time zone, such as `Europe/Berlin`; default UTC.
    pub tz: Option<Spanned<String>>,
    /// The most time that a start is delayed at random; default none.
    pub jitter: Option<Spanned<Span>>,
    /// What becomes of starts that were missed while the engine did not run; default `run-once`.
    pub missed: Option<Spanned<Missed>>,
}

/// What becomes of missed starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum Missed {
    /// They are left out.
    Skip,
    /// One start makes up for all of them.
    RunOnce,
    /// Each is made up for.
    RunAll,
}

impl MapShape for Cron {
    const NAME: &'static str = "Cron";
}

impl Value for Cron {
    fn read(node: &Node, reader: &mut Reader) -> Option<Cron> {
        if let Shape::Text(schedule) = &node.shape {
            return Some(Cron { schedule: Some(Spanned::new(schedule.clone(), node.place.clone())), ..Cron::default() });
        }
        let mut fields = Fields::of::<Cron>(node, "`cron`", reader)?;
        let cron = Cron {
            schedule: fields.required("schedule"),
            tz: fields.optional("tz"),
            jitter: fields.optional("jitter"),
            missed: fields.optional("missed"),
        };
        fields.done();
        Some(cron)
    }
}

impl Value for Missed {
    fn read(node: &Node, reader: &mut Reader) -> Option<Missed> {
        choose(node, &[("skip", Missed::Skip), ("run-once", Missed::RunOnce), ("run-all", Missed::RunAll)], reader)
    }
}
