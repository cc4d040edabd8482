//! A value between a script and a database.

use rhai::{Array, Blob, Dynamic, Map};
use serde_json::Value;

use crate::script::error::{Fault, Thrown};
use crate::script::time::{Moment, Period};
use crate::script::value::{self, Number, Secret};

/// Largest parameter that is sent as JSON, in bytes.
const JSON_BYTES: usize = 4 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Flag(bool),
    Whole(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// JSON text: an array or a map of a script, or a column of that type.
    Json(String),
    /// A number of any size, as it is written.
    Number(String),
    /// The elements of an array of the database.
    List(Vec<Cell>),
}

impl Cell {
    /// A parameter, by its number from 1.
    pub(super) fn of(value: &Dynamic, number: usize) -> Result<Cell, Fault> {
        if value.is_unit() {
            return Ok(Cell::Null);
        }
        if let Ok(flag) = value.as_bool() {
            return Ok(Cell::Flag(flag));
        }
        if let Ok(whole) = value.as_int() {
            return Ok(Cell::Whole(whole));
        }
        if let Ok(float) = value.as_float() {
            return Ok(Cell::Float(float));
        }
        if let Ok(text) = value.as_immutable_string_ref() {
            return Ok(Cell::Text(text.to_string()));
        }
        if let Ok(letter) = value.as_char() {
            return Ok(Cell::Text(letter.to_string()));
        }
        if let Some(bytes) = value.read_lock::<Blob>() {
            return Ok(Cell::Bytes(bytes.to_vec()));
        }
        if let Some(number) = value.read_lock::<Number>() {
            return Ok(Cell::Number(number.0.to_string()));
        }
        if let Some(moment) = value.read_lock::<Moment>() {
            return Ok(Cell::Text(moment.to_string()));
        }
        if let Some(period) = value.read_lock::<Period>() {
            return Ok(Cell::Text(period.to_string()));
        }
        if value.is::<Secret>() {
            let thrown = Thrown::last("E0406", format!("parameter {number} is a secret, and a secret is never stored"));
            return Err(thrown.help("store hash::sha256(…) of it, if it is to be recognised").fault());
        }
        if value.read_lock::<Array>().is_some() || value.read_lock::<Map>().is_some() {
            return Ok(Cell::Json(value::write(value, format_args!("parameter {number}"), JSON_BYTES)?));
        }
        Err(Thrown::last("E0407", format!("parameter {number} is of type {}, which no database takes", value.type_name())).fault())
    }

    /// As a script sees it.
    pub(super) fn dynamic(&self) -> Dynamic {
        match self {
            Cell::Null => Dynamic::UNIT,
            Cell::Flag(flag) => (*flag).into(),
            Cell::Whole(whole) => (*whole).into(),
            Cell::Float(float) => (*float).into(),
            Cell::Text(text) => text.as_str().into(),
            Cell::Bytes(bytes) => Dynamic::from_blob(bytes.clone()),
            // What is not JSON by our reader is text all the same.
            Cell::Json(text) | Cell::Number(text) => value::read(text).unwrap_or_else(|_| text.as_str().into()),
            Cell::List(cells) => Dynamic::from_array(cells.iter().map(Cell::dynamic).collect()),
        }
    }

    /// As a test sees it.
    pub(super) fn json(&self) -> Value {
        match self {
            Cell::Null => Value::Null,
            Cell::Flag(flag) => (*flag).into(),
            Cell::Whole(whole) => (*whole).into(),
            Cell::Float(float) => (*float).into(),
            Cell::Text(text) => text.as_str().into(),
            Cell::Bytes(bytes) => String::from_utf8_lossy(bytes).into(),
            Cell::Json(text) | Cell::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
            Cell::List(cells) => cells.iter().map(Cell::json).collect(),
        }
    }

    /// What it takes.
    pub(super) fn bytes(&self) -> usize {
        let inner = match self {
            Cell::Text(text) | Cell::Json(text) | Cell::Number(text) => text.len(),
            Cell::Bytes(bytes) => bytes.len(),
            Cell::List(cells) => cells.iter().map(Cell::bytes).sum(),
            _ => 0,
        };
        inner + size_of::<Cell>()
    }
}
