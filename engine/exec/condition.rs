//! A condition that people ask for runs by: CEL over `run`, as the API shows it, and `event`, the one that started it.

use serde_json::Value;

use crate::base::json;
use crate::expr::{EventView, Expr, Scope, Segment};
use crate::rules::EventRow;

/// What a condition may read.
const VARIABLES: &[&str] = &["run", "event"];

/// A condition, parsed once and held against many runs.
#[derive(Debug)]
pub struct Condition {
    expr: Expr,
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence with its place.
    pub fn parse(text: &str) -> Result<Condition, String> {
        Condition::over(text, VARIABLES)
    }

    /// Reads a condition that people ask for events by: over `event` alone.
    ///
    /// # Errors
    /// As `parse`.
    pub fn parse_of_event(text: &str) -> Result<Condition, String> {
        Condition::over(text, &["event"])
    }

    fn over(text: &str, variables: &[&str]) -> Result<Condition, String> {
        let told = |error: crate::expr::ExprError| {
            let column = text.get(..error.range.start).map_or(1, |before| before.chars().count() + 1);
            let help = error.help.map(|help| format!(" ({help})")).unwrap_or_default();
            format!("at character {column}: {}{help}", error.message)
        };
        match Expr::parse(text, variables) {
            Ok(expr) => Ok(Condition { expr }),
            Err(errors) => Err(errors.into_iter().map(told).collect::<Vec<_>>().join("; ")),
        }
    }

    /// Whether it reads a field of `run`, or the run as a whole.
    pub fn reads_of_run(&self, field: &str) -> bool {
        self.expr.paths().iter().any(|path| {
            path.root == "run" && path.segments.first().is_none_or(|first| matches!(first, Segment::Field(name) if name == field))
        })
    }

    /// Whether it reads anything of `event`.
    pub fn reads_event(&self) -> bool {
        self.expr.paths().iter().any(|path| path.root == "event")
    }

    /// Whether it holds. Where it fails, as `null > 0` does, it does not.
    pub fn holds(&self, run: &Value, event: Option<&EventRow>) -> bool {
        let values = [("run", run)];
        let scope = Scope { values: &values, ..Scope::default() };
        let Some(row) = event else { return self.expr.holds(&scope).unwrap_or(false) };
        let (id, data) = (row.id.to_string(), json::value(&row.data).unwrap_or_default());
        let event = EventView { id: &id, name: &row.name, data: &data, ts: row.ts.0 };
        self.expr.holds(&Scope { event: Some(event), ..scope }).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Id, Millis};

    #[test]
    fn a_condition_sees_the_run_and_its_event() {
        let run = serde_json::json!({"state": "failed", "attempt": 3, "error": {"message": "no money left"}});
        let event = EventRow {
            id: Id(1),
            name: "order/placed".into(),
            data: r#"{"amount": 12}"#.into(),
            sender_id: None,
            ts: Millis(0),
            accepted: Millis(0),
            extra: None,
        };
        let holds = |text: &str| Condition::parse(text).unwrap().holds(&run, Some(&event));
        assert!(holds("run.state == 'failed' && event.data.amount > 10"));
        assert!(holds("run.error.message.contains('money')"));
        assert!(!holds("event.data.amount > 12"));
        assert!(!holds("event.data.other > 12"), "what fails does not hold");
        let condition = Condition::parse("run.why.contains('slot')").unwrap();
        assert!(condition.reads_of_run("why") && !condition.reads_of_run("state") && !condition.reads_event());
    }

    #[test]
    fn a_condition_over_events_knows_no_run() {
        assert!(Condition::parse_of_event("event.data.amount > 10").is_ok());
        assert!(Condition::parse_of_event("run.state == 'failed'").unwrap_err().contains("run"));
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let error = Condition::parse("run.state == 'x' && evnt.data.a == 1").unwrap_err();
        assert!(error.contains("character 21") && error.contains("event"), "{error}");
    }
}
