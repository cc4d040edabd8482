//! What a function declares, in sentences.

use crate::base::Span;
use crate::project::Function;
use crate::rules::gates::{Collect, Singleton};
use crate::rules::{Backoff, Hold};

/// A number and its word: `1 run`, `2 runs`.
pub fn count(number: u64, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// How many runs of a function are active at once, a sentence for each limit; one where it has none.
pub fn concurrency(function: &Function) -> Vec<String> {
    let sentence = |(limit, key): (&crate::rules::policy::Limit, Option<&std::sync::Arc<str>>)| {
        let per = key.map(|key| format!(" per {key}")).unwrap_or_default();
        let with = limit.shared.as_ref().map(|name| format!(", shared with every function under `{name}`")).unwrap_or_default();
        let kept = match limit.hold {
            Hold::Run => "a waiting run keeps its slot",
            Hold::Active => "a waiting run gives its slot back",
        };
        format!("{} at a time{per}{with}; {kept}", count(u64::from(limit.limit), "run"))
    };
    let all: Vec<String> = function.limits.iter().zip(function.key_texts()).map(sentence).collect();
    if all.is_empty() { vec!["any number of runs at a time".to_owned()] } else { all }
}

fn per(key: Option<&std::sync::Arc<str>>) -> String {
    key.map(|key| format!(" per {key}")).unwrap_or_default()
}

/// The gates between an event and a run, and what else it declares: the option's key and a sentence.
pub fn options(function: &Function) -> Vec<(&'static str, String)> {
    let mut all: Vec<(&'static str, String)> = Vec::new();
    if let Some(key) = function.idempotency_text() {
        all.push(("idempotency", format!("one run for each value of {key} in 24 hours")));
    }
    if let Some((rule, key)) = function.rate_limit() {
        let events = count(u64::from(rule.limit), "event");
        all.push(("rate_limit", format!("{events} in any {}{}; further ones start nothing", rule.period, per(key))));
    }
    if let Some(rule) = function.throttle {
        let burst = if rule.burst > 0 { format!(", {} more at once after a quiet time", rule.burst) } else { String::new() };
        let starts = count(u64::from(rule.limit), "start");
        all.push(("throttle", format!("{starts} in {}{}{burst}; further runs wait", rule.period, per(function.throttle_key_text()))));
    }
    match function.collect {
        Some(Collect::Debounce { period, timeout }) => {
            let most = timeout.map(|most| format!(", {most} after the first at the latest")).unwrap_or_default();
            let key = per(function.collect_key_text());
            all.push(("debounce", format!("one run with the last event, once none has come for {period}{key}{most}")));
        }
        Some(Collect::Batch { size, timeout }) => {
            let key = per(function.collect_key_text());
            let taken = function.collect_if_text().map(|text| format!("; events without `{text}` start their own")).unwrap_or_default();
            all.push(("batch", format!("one run for {} or what has come in {timeout}{key}{taken}", count(u64::from(size), "event"))));
        }
        None => {}
    }
    if let Some((mode, key)) = function.singleton() {
        let then = if mode == Singleton::Skip { "a further event is skipped" } else { "a further event cancels it and starts another" };
        all.push(("singleton", format!("one unfinished run{}; {then}", per(key))));
    }
    if let Some(text) = function.priority_text() {
        all.push(("priority", format!("a head start of {text} seconds")));
    }
    all.push(("retries", retries(function)));
    all.push(("timeouts", timeouts(function)));
    for cancel in &function.cancels {
        let condition = cancel.condition_text().map(|text| format!(" if {text}")).unwrap_or_default();
        let within = cancel.timeout.map(|span| format!(", within {span} of its creation")).unwrap_or_default();
        all.push(("cancel_on", format!("a run is cancelled by {}{condition}{within}", cancel.event)));
    }
    all.push((
        "versions",
        match function.versions.word() {
            "pin" => "runs in flight stay on the handler that they began with".to_owned(),
            "latest" => "runs in flight go on with the newest handler, or are parked where it does not fit".to_owned(),
            _ => "runs in flight go on with the newest handler where it fits, else with the one that they have".to_owned(),
        },
    ));
    all
}

fn retries(function: &Function) -> String {
    let times = count(u64::from(function.retry.attempts), "attempt");
    if function.retry.attempts <= 1 {
        return format!("{times}, no retries");
    }
    let waits = match function.retry.backoff {
        Backoff::Table => "waits of 15s, 30s, 1m, 2m, 5m and so on up to 2h".to_owned(),
        Backoff::Exponential { initial, max, .. } => format!("waits from {initial} on, doubled up to {max}"),
        Backoff::Linear { initial, max, .. } => format!("waits from {initial} on, {initial} longer each time up to {max}"),
        Backoff::Fixed { initial, .. } => format!("waits of {initial}"),
    };
    format!("{times}, {waits}")
}

fn timeouts(function: &Function) -> String {
    let mut parts = Vec::new();
    let mut add = |span: Option<Span>, words: &str| parts.extend(span.map(|span| format!("{span} {words}")));
    add(function.timeouts.start, "in line at most");
    add(function.timeouts.finish, "from start to end at most");
    add(Some(function.timeouts.step), "for an attempt of a step");
    parts.join(", ")
}

/// A text as a word of a shell's command line.
pub fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | ':' | '=' | '@' | '%' | '+' | ',');
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_a_shell_is_quoted_where_it_has_to_be() {
        assert_eq!(quoted("payment/initiate"), "payment/initiate");
        assert_eq!(quoted(r#"{"a": "it's"}"#), r#"'{"a": "it'\''s"}'"#);
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("$(rm)"), "'$(rm)'");
        assert_eq!(quoted("failed,parked"), "failed,parked");
        assert_eq!(quoted("run.output.n > 1"), "'run.output.n > 1'");
    }
}
