//! The words by which the table names types, and what those are to Rhai.

use std::any::TypeId;

use rhai::{Array, Blob, FnPtr, ImmutableString, Map};

use crate::script::error::{StepError, Thrown};
use crate::script::time::{Moment, Period};
use crate::script::value::{RunHandle, Secret};

/// Each word with its type; a number is of either of two. `any` and options in braces are not among them.
pub(in crate::script) fn type_words() -> [(&'static str, TypeId); 16] {
    [
        ("text", TypeId::of::<ImmutableString>()),
        ("whole", TypeId::of::<i64>()),
        ("number", TypeId::of::<i64>()),
        ("number", TypeId::of::<f64>()),
        ("flag", TypeId::of::<bool>()),
        ("array", TypeId::of::<Array>()),
        ("map", TypeId::of::<Map>()),
        ("bytes", TypeId::of::<Blob>()),
        ("closure", TypeId::of::<FnPtr>()),
        ("time", TypeId::of::<Moment>()),
        ("duration", TypeId::of::<Period>()),
        ("secret", TypeId::of::<Secret>()),
        ("run", TypeId::of::<RunHandle>()),
        ("StepError", TypeId::of::<StepError>()),
        ("Error", TypeId::of::<Thrown>()),
        ("nothing", TypeId::of::<()>()),
    ]
}
