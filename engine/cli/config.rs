//! `stepwell config`: the settings in force, and where each comes from.

use serde_json::{Value, json};

use crate::base::Span;
use crate::config::{Durability, Model, Size, Spanned, UnknownEvents};

use super::exit::{Exit, Trouble};
use super::out::{Cell, Out};
use super::place::{self, ConfigArgument};

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub struct Config {
    #[command(flatten)]
    config: ConfigArgument,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// A setting: its path in the file, its value, and where that comes from.
struct Setting {
    key: String,
    value: Value,
    origin: String,
}

impl Config {
    /// Prints every setting; secrets only as set or missing.
    ///
    /// # Errors
    /// Exit 78 for a config that is not valid.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let path = place::config(self.config.config.as_deref())?;
        let loaded = crate::config::load(&path);
        if loaded.has_errors() {
            return Err(Trouble::invalid(loaded.problems));
        }
        let settings = settings(&loaded.model.unwrap_or_default());
        if self.json {
            let entry = |setting: &Setting| json!({"key": setting.key, "value": setting.value, "origin": setting.origin});
            out.json(&Value::Array(settings.iter().map(entry).collect()))?;
            return Ok(Exit::Done);
        }
        let text = |value: Value| if let Value::String(text) = value { text } else { value.to_string() };
        let rows = settings.into_iter().map(|setting| vec![Cell::from(setting.key), text(setting.value).into(), setting.origin.into()]);
        out.table(&["setting", "value", "from"], rows.collect())?;
        Ok(Exit::Done)
    }
}

/// Where a written value stands; `default` for one that is not written.
fn origin<T>(written: &Option<Spanned<T>>) -> String {
    written.as_ref().map_or_else(|| "default".to_owned(), stands)
}

fn stands<T>(written: &Spanned<T>) -> String {
    let (line, _) = written.place.source.position(written.place.range.start);
    format!("{}:{line}", written.place.source.name)
}

/// A variable that stands over the file's value.
fn over(variable: &str, value: Value, origin: String) -> (Value, String) {
    match std::env::var(variable).ok().filter(|text| !text.is_empty()) {
        Some(text) => (Value::String(text), variable.to_owned()),
        None => (value, origin),
    }
}

fn settings(model: &Model) -> Vec<Setting> {
    let mut all = Vec::new();
    let mut add = |key: &str, (value, origin): (Value, String)| all.push(Setting { key: key.to_owned(), value, origin });
    let span = |span: Span| Value::String(span.to_string());
    let size = |bytes: u64| Value::String(Size(bytes).to_string());
    let engine = &model.engine;
    let durability = match engine.durability() {
        Durability::Full => "full",
        Durability::Normal => "normal",
    };
    add("app", (json!(model.app.as_ref().map(|app| &app.value)), origin(&model.app)));
    add("engine.listen", over("STEPWELL_LISTEN", json!(engine.listen().to_string()), origin(&engine.listen)));
    add("engine.database", over("STEPWELL_DATABASE", json!(engine.database()), origin(&engine.database)));
    add("engine.durability", over("STEPWELL_DURABILITY", json!(durability), origin(&engine.durability)));
    add("engine.shutdown_grace", (span(engine.shutdown_grace()), origin(&engine.shutdown_grace)));
    add("engine.body", (size(engine.body_bytes()), origin(&engine.body)));
    let limits = &model.limits;
    add("limits.memory", (size(limits.memory_bytes()), origin(&limits.memory)));
    add("limits.steps", (json!(limits.steps()), origin(&limits.steps)));
    add("limits.journal", (size(limits.journal_bytes()), origin(&limits.journal)));
    let unknown = match model.unknown_events() {
        UnknownEvents::Refuse => "refuse",
        UnknownEvents::Accept => "accept",
    };
    add("unknown_events", (json!(unknown), origin(&model.unknown_events)));
    add("http.timeout", (span(model.http.timeout()), origin(&model.http.timeout)));
    for network in &model.http.allow {
        add("http.allow", (json!(network.value.to_string()), stands(network)));
    }
    let (kept, written) = (model.retention.policy(), &model.retention);
    add("retention.completed", (span(kept.completed), origin(&written.completed)));
    add("retention.failed", (span(kept.failed), origin(&written.failed)));
    add("retention.cancelled", (span(kept.cancelled), origin(&written.cancelled)));
    add("retention.events", (span(kept.events), origin(&written.events)));
    for (name, value) in model.env.iter() {
        let from = over(&name.value, json!(value.value.0), stands(name));
        let from = if from.1 == name.value { (from.0, "environment".to_owned()) } else { from };
        add(&format!("env.{}", name.value), from);
    }
    for name in &model.secrets {
        let set = place::environment(&name.value).is_some_and(|value| !value.is_empty());
        let (word, origin) = if set { ("set", "environment".to_owned()) } else { ("missing", stands(name)) };
        add(&format!("secrets.{}", name.value), (json!(word), origin));
    }
    for variable in ["STEPWELL_EVENT_KEYS", "STEPWELL_ADMIN_TOKEN", "STEPWELL_READ_TOKEN"] {
        let set = place::environment(variable).is_some_and(|value| !value.is_empty());
        add(variable, (json!(if set { "set" } else { "not set" }), "environment".to_owned()));
    }
    all
}
