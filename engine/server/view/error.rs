//! The one shape of an error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Diagnostic;

/// What every answer but a success looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorView {
    /// What is wrong, in one sentence.
    pub error: String,
    /// The HTTP status again, for clients that only see the body.
    pub status: u16,
    /// Every single problem, where there can be several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Detail>,
}

/// One problem of a request, or of the config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Detail {
    /// The event's number in the request, from 0; none where the body as a whole is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// The code that `stepwell explain` takes.
    pub code: String,
    /// A JSON pointer to the place within the event (within the body, where there is no index).
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// For a problem of the config: where it is seen.
    #[serde(flatten)]
    pub seen: Option<Box<Seen>>,
}

/// A problem of the config as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// `file:line:column`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// All of it, with the line and a caret.
    pub picture: String,
}

impl Detail {
    /// A problem of the config.
    pub fn of(problem: &Diagnostic) -> Detail {
        Detail {
            index: None,
            code: problem.code.to_owned(),
            pointer: String::new(),
            message: problem.message.clone(),
            help: if problem.helps.is_empty() { None } else { Some(problem.helps.join("\n")) },
            seen: Some(Box::new(Seen {
                place: problem.position().map(|(file, line, column)| format!("{file}:{line}:{column}")),
                picture: problem.render(false),
            })),
        }
    }
}
