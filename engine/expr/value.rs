//! JSON to CEL and back, the canonical text of a key, and the interpreter's errors in plain words.

use std::collections::HashMap;

use cel::ExecutionError;
use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt};
use cel::common::value::Val;
use serde_json::{Map, Number, Value};

/// A JSON value for the interpreter. Integers that fit become Int, as the literals of an expression are: as UInt, the
/// form the crate's own conversion takes, `event.data.amount * 2` is an error. Texts are borrowed.
pub(super) fn to_cel<'a>(value: &'a Value) -> Box<dyn Val + 'a> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(flag) => Box::new(CelBool::from(*flag)),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Box::new(CelInt::from(integer)),
            (None, Some(large)) => Box::new(CelUInt::from(large)),
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(list) => Box::new(CelList::from(list.iter().map(to_cel).collect::<Vec<_>>())),
        Value::Object(map) => {
            let entries: HashMap<_, _> = map.iter().map(|(key, value)| (CelMapKey::from(key.as_str()), to_cel(value))).collect();
            Box::new(CelMap::from(entries))
        }
    }
}

/// The interpreter's value as JSON; the keys of a map in order, since the interpreter keeps none.
pub(super) fn to_json(found: &dyn Val) -> Result<Value, ExecutionError> {
    from_cel(&cel::Value::try_from(found)?)
}

fn from_cel(value: &cel::Value) -> Result<Value, ExecutionError> {
    Ok(match value {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(flag) => Value::Bool(*flag),
        cel::Value::Int(number) => Value::from(*number),
        cel::Value::UInt(number) => Value::from(*number),
        cel::Value::Float(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        cel::Value::String(text) => Value::from(text.as_str()),
        cel::Value::List(list) => Value::Array(list.iter().map(from_cel).collect::<Result<_, _>>()?),
        cel::Value::Map(map) => {
            let mut entries: Vec<_> =
                map.map.iter().map(|(key, value)| Ok((key.to_string(), from_cel(value)?))).collect::<Result<_, ExecutionError>>()?;
            entries.sort_by(|a: &(String, Value), b| a.0.cmp(&b.0));
            Value::Object(Map::from_iter(entries))
        }
        other => return Err(ExecutionError::function_error("result", format!("a value of type {} is not JSON", other.type_of()))),
    })
}

/// The one text of a value: keys of maps in order, no spaces, a whole number without a fraction.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

/// Whether a value holds an integer that JSON could say and a 64-bit number cannot: two different ones may look alike here.
pub fn is_inexact(value: &Value) -> bool {
    /// 2^64: the first double above every unsigned 64-bit integer.
    const ABOVE: f64 = 18_446_744_073_709_551_616.0;
    match value {
        Value::Number(number) => number.is_f64() && number.as_f64().is_some_and(|float| float.abs() >= ABOVE),
        Value::Array(list) => list.iter().any(is_inexact),
        Value::Object(map) => map.values().any(is_inexact),
        _ => false,
    }
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) => write_number(number, out),
        Value::Array(list) => {
            out.push('[');
            for (at, entry) in list.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_canonical(entry, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (at, (key, entry)) in entries.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(entry, out);
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

fn write_number(number: &Number, out: &mut String) {
    /// 2^63: the first double above every 64-bit integer.
    const ABOVE: f64 = 9_223_372_036_854_775_808.0;
    if !number.is_f64() {
        return out.push_str(&number.to_string());
    }
    let float = number.as_f64().unwrap_or(0.0);
    if float.fract() == 0.0 && (-ABOVE..ABOVE).contains(&float) {
        out.push_str(&(float as i64).to_string());
    } else {
        out.push_str(&number.to_string());
    }
}

/// The interpreter's error in words that name no internals.
pub(super) fn sentence(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchOverload(overload) => {
            let types: Vec<_> = overload.argument_types().iter().map(|name| plain_type(name)).collect();
            format!("`{}` does not take {}", operator(overload.function()), types.join(" and "))
        }
        ExecutionError::ValuesNotComparable(left, right) => {
            format!("cannot compare {} with {}", plain_type(&left.type_of().to_string()), plain_type(&right.type_of().to_string()))
        }
        ExecutionError::UnsupportedBinaryOperator(name, left, right) => {
            let sign = match *name {
                "add" => "+",
                "sub" => "-",
                "mul" => "*",
                "div" => "/",
                "rem" => "%",
                other => other,
            };
            let (left, right) = (left.type_of().to_string(), right.type_of().to_string());
            format!("`{sign}` does not take {} and {}", plain_type(&left), plain_type(&right))
        }
        ExecutionError::DivisionByZero(_) => "division by zero".into(),
        ExecutionError::RemainderByZero(_) => "remainder of a division by zero".into(),
        ExecutionError::Overflow(..) => "a number leaves the range of 64-bit integers".into(),
        ExecutionError::UnexpectedType { got, want } => format!("{} where {} is expected", plain_type(got), plain_type(want)),
        ExecutionError::FunctionError { function, message } => format!("`{}`: {message}", operator(function)),
        other => {
            let mut text = other.to_string();
            if let Some(first) = text.get_mut(..1) {
                first.make_ascii_lowercase();
            }
            text
        }
    }
}

fn plain_type(name: &str) -> &str {
    match name {
        "null_type" | "null" => "null",
        "int" | "uint" => "an integer",
        "double" | "float" => "a decimal number",
        "bool" => "true/false",
        "string" => "a text",
        "list" => "a list",
        "map" => "a map",
        "iterable" => "a list or a map",
        other => other,
    }
}

/// `_>_` as a person writes it: `>`.
fn operator(name: &str) -> &str {
    match name {
        "_?_:_" => "?:",
        "@in" => "in",
        "@at" | "_[_]" => "[]",
        other => other.trim_matches('_'),
    }
}
