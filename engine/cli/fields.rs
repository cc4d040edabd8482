//! The data of an event, put together from a command line: `--example`, `--data`, and `name=value` over both.

use std::io::Read as _;
use std::path::Path;

use serde_json::{Map, Value};

use super::exit::{Exit, Trouble, plain};
use crate::base::Diagnostic;

/// Where an event's data come from.
#[derive(Debug, Clone, clap::Args)]
pub struct Fields {
    /// Begin with the example that events.yaml has for this event
    #[arg(long)]
    pub example: bool,
    /// The data: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub data: Option<String>,
    /// Single fields: typed by the event's schema, else JSON if it parses, else text
    #[arg(value_name = "NAME=VALUE")]
    pub fields: Vec<String>,
}

/// The data of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// As a value.
    pub value: Value,
    /// As the text that is sent: the one that was given, so that no number in it changes.
    pub text: String,
}

impl Fields {
    /// The data: an object. `typed` gives a field's value for its name and text; `example` is the event's, where it is known.
    ///
    /// # Errors
    /// Exit 2 for text that is not what it should be, 74 for a file that cannot be read.
    pub fn data(&self, typed: &dyn Fn(&str, &str) -> Value, example: Option<&Value>) -> Result<Data, Trouble> {
        let mut data = Map::new();
        let mut text = None;
        if self.example {
            match example {
                Some(Value::Object(fields)) => data.extend(fields.clone()),
                _ => {
                    let trouble = Trouble::usage("this event has no example in events.yaml");
                    return Err(trouble.help("add `example: { … }` below the event, or give the data: `--data '{…}'` or name=value"));
                }
            }
        }
        if let Some(given) = &self.data {
            let (fields, json) = read(given)?;
            data.extend(fields);
            text = Some(json).filter(|_| !self.example && self.fields.is_empty());
        }
        for field in &self.fields {
            let Some((name, value)) = field.split_once('=').filter(|(name, _)| !name.is_empty()) else {
                return Err(Trouble::usage(format!("`{field}` is not a field")).help("write name=value, such as userId=u1"));
            };
            data.insert(name.to_owned(), typed(name, value));
        }
        let value = Value::Object(data);
        let text = text.unwrap_or_else(|| value.to_string());
        Ok(Data { value, text })
    }
}

/// The object behind `--data`, and its text.
fn read(text: &str) -> Result<(Map<String, Value>, String), Trouble> {
    let (json, origin) = if text == "-" {
        let mut read = String::new();
        std::io::stdin()
            .read_to_string(&mut read)
            .map_err(|error| Trouble::new(Exit::Io, Diagnostic::error("E0540", format!("cannot read stdin: {}", plain(&error)))))?;
        (read, "stdin".to_owned())
    } else if let Some(path) = text.strip_prefix('@') {
        (std::fs::read_to_string(path).map_err(|error| Trouble::file(Path::new(path), "read", &error))?, path.to_owned())
    } else {
        (text.to_owned(), "--data".to_owned())
    };
    match serde_json::from_str(&json) {
        Ok(Value::Object(fields)) => Ok((fields, json)),
        Ok(_) => {
            Err(Trouble::usage(format!("{origin} holds JSON that is not an object"))
                .help("an event's data is an object: {\"name\": \"…\"}"))
        }
        Err(error) => {
            Err(Trouble::usage(format!("{origin} is not JSON: {error}")).help("quote it for your shell: --data '{\"name\": \"…\"}'"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(data: Option<&str>, fields: &[&str]) -> Fields {
        Fields { example: false, data: data.map(str::to_owned), fields: fields.iter().map(|field| (*field).to_owned()).collect() }
    }

    fn plainly(name: &str, text: &str) -> Value {
        crate::project::typed_value(None, name, text)
    }

    #[test]
    fn fields_stand_over_data_over_the_example() {
        let mut given = fields(Some(r#"{"a": 2, "b": 2}"#), &["b=3"]);
        given.example = true;
        let data = given.data(&plainly, Some(&json!({"a": 1, "b": 1, "c": 1}))).unwrap();
        assert_eq!(data.value, json!({"a": 2, "b": 3, "c": 1}));
    }

    #[test]
    fn data_given_whole_are_sent_as_they_are() {
        let text = r#"{"n": 12345678901234567890123, "f": 1.0}"#;
        assert_eq!(fields(Some(text), &[]).data(&plainly, None).unwrap().text, text);
    }

    #[test]
    fn what_is_no_data_is_a_usage_error() {
        for given in [fields(Some("[1]"), &[]), fields(Some("{"), &[]), fields(None, &["novalue"]), fields(None, &["=x"])] {
            assert_eq!(given.data(&plainly, None).unwrap_err().exit, Exit::Usage, "{given:?}");
        }
    }
}
