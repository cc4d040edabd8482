//! `stepwell config`: the settings in force, and where each comes from.

use serde_json::{Value, json};

use crate::config::{self, Model};
use crate::script::Secrets;

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
        let loaded = config::load(&path);
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

/// The settings of the file, with the variables that stand over them, and which secrets and keys are set.
fn settings(model: &Model) -> Vec<Setting> {
    let secrets = model.secrets.iter().map(|name| (name.value.clone(), place::environment(&name.value)));
    let secrets = Secrets::new(secrets.collect());
    let hidden = |setting: Setting| Setting { value: secrets.hidden(setting.value), ..setting };
    let mut all: Vec<Setting> = config::effective(model).into_iter().map(in_force).map(hidden).collect();
    for variable in ["STEPWELL_EVENT_KEYS", "STEPWELL_ADMIN_TOKEN", "STEPWELL_READ_TOKEN"] {
        let word = if is_set(variable) { "set" } else { "not set" };
        all.push(Setting { key: variable.to_owned(), value: json!(word), origin: "environment".to_owned() });
    }
    all
}

fn in_force(written: config::Setting) -> Setting {
    let config::Setting { path: key, value, origin } = written;
    let origin = origin.to_string();
    if let Some(name) = key.strip_prefix("secrets.") {
        let (word, origin) = if is_set(name) { ("set", "environment".to_owned()) } else { ("missing", origin) };
        return Setting { value: json!(word), origin, key };
    }
    let variable = match key.as_str() {
        "engine.listen" => Some("STEPWELL_LISTEN"),
        "engine.database" => Some("STEPWELL_DATABASE"),
        "engine.durability" => Some("STEPWELL_DURABILITY"),
        _ => key.strip_prefix("env."),
    };
    match variable.and_then(|variable| Some((variable, place::environment(variable).filter(|text| !text.is_empty())?))) {
        Some((variable, text)) if key.starts_with("engine.") => Setting { value: json!(text), origin: variable.to_owned(), key },
        Some((_, text)) => Setting { value: json!(text), origin: "environment".to_owned(), key },
        None => Setting { key, value, origin },
    }
}

fn is_set(variable: &str) -> bool {
    place::environment(variable).is_some_and(|value| !value.is_empty())
}
