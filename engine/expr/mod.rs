//! Expressions: CEL texts of `events.yaml`, parsed once, checked, and evaluated on an event.
//!
//! A missing field is null here, also where its owner is missing, so that a key or an `if` never fails for a field that a
//! sender left out. A bare path such as `event.data.userId` is looked up directly, without the interpreter.
//! Nothing here knows of functions, limits or schemas: `paths` hands out what an expression reads, and others check it.

mod check;
mod pin;
mod scope;
mod value;

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use cel::context::VariableResolver;
use cel::parser::{Expression, Parser};
use cel::{Context, Env, ExecutionError};
use serde_json::Value;

pub use pin::{Field, Pin};
pub use scope::{EventView, Scope, Segment};
pub use value::{canonical, is_inexact};

use scope::{Found, Path};

/// Longest expression, in bytes: the parser recurses over it, and nobody reads a longer one.
pub const TEXT_BYTES: usize = 2_000;

/// The variables of a trigger's `if`, of keys, `idempotency` and `priority`.
pub const EVENT_VARIABLES: &[&str] = &["event"];
/// The variables of an `if` that compares a run's event with one that just came.
pub const MATCH_VARIABLES: &[&str] = &["event", "async"];

/// Built-in names, once for all: a context of its own for each evaluation would cost twenty times as much.
static ROOT: LazyLock<Context<'static, 'static>> = LazyLock::new(|| {
    let mut env = Env::default().with_optional_support(false).with_stdlib();
    check::declare(&mut env);
    Context::with_env(Arc::new(env))
});

/// The variables of the expressions that make an event of a webhook's request.
pub const WEBHOOK_VARIABLES: &[&str] = &["body", "headers"];

/// An expression that was parsed and checked. Cheap to share, evaluated any number of times.
#[derive(Debug)]
pub struct Expr {
    text: Arc<str>,
    form: Form,
    uses: Vec<PathUse>,
}

#[derive(Debug)]
enum Form {
    /// A bare path, looked up without the interpreter.
    Path(Path),
    /// Anything else: every path in it is the variable `@n`, resolved from the n-th of `paths`.
    Program { tree: Expression, paths: Vec<Arc<Path>> },
}

/// A path that an expression reads, for checks against an event's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathUse {
    /// The variable it starts from: `event`, `async`.
    pub root: String,
    /// What follows it.
    pub segments: Vec<Segment>,
    /// Where it stands, in bytes of the expression's text.
    pub range: Range<usize>,
}

/// What is wrong with an expression's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExprError {
    /// One sentence, lower case, no full stop.
    pub message: String,
    /// Where, in bytes of the expression's text.
    pub range: Range<usize>,
    /// What to do about it.
    pub help: Option<String>,
}

/// Why an expression gives no value on an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    /// One sentence, lower case, no full stop; it names the paths that were null.
    pub message: String,
}

impl Expr {
    /// Parses `text` and checks that it uses no variable but `variables` and no function that is not there.
    ///
    /// # Errors
    /// Every name that is not known, with its place in `text`; or the one problem for which it does not parse.
    pub fn parse(text: &str, variables: &[&str]) -> Result<Expr, Vec<ExprError>> {
        let whole = 0..text.len();
        if text.trim().is_empty() {
            return Err(vec![ExprError { message: "an empty expression".into(), range: whole, help: None }]);
        }
        if text.len() > TEXT_BYTES {
            let message = format!("an expression of {} bytes; at most {TEXT_BYTES} are allowed", text.len());
            return Err(vec![ExprError { message, range: whole, help: None }]);
        }
        check::depth(text).map_err(|deep| vec![deep])?;
        let parsed = Parser::new().max_recursion_depth(check::NESTING as u16).parse_with_source_info(text);
        let (tree, info) = parsed.map_err(|errors| vec![check::syntax_error(text, &errors)])?;
        let checked = check::check(text, tree, &info, variables)?;
        let form = match checked.only_path {
            Some(path) => Form::Path(path),
            None => Form::Program { tree: checked.tree, paths: checked.paths.into_iter().map(Arc::new).collect() },
        };
        Ok(Expr { text: Arc::from(text), form, uses: checked.uses })
    }

    /// The text it was parsed from.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Every path that it reads, in order of appearance.
    pub fn paths(&self) -> &[PathUse] {
        &self.uses
    }

    /// Every path that it reads, with the value that it finds there: each once, in order of appearance.
    pub fn seen(&self, scope: &Scope<'_>) -> Vec<(String, Value)> {
        let paths: Vec<&Path> = match &self.form {
            Form::Path(path) => vec![path],
            Form::Program { paths, .. } => paths.iter().map(|path| &**path).collect(),
        };
        let mut seen: Vec<(String, Value)> = Vec::new();
        for path in paths {
            let name = path.to_string();
            if !seen.iter().any(|(known, _)| *known == name) {
                seen.push((name, scope.find(path).to_json()));
            }
        }
        seen
    }

    /// Its value. A missing field is null.
    ///
    /// # Errors
    /// Where an operator or function does not take what it is given, such as `null > 0`.
    pub fn eval(&self, scope: &Scope<'_>) -> Result<Value, EvalError> {
        match &self.form {
            Form::Path(path) => Ok(scope.find(path).to_json()),
            Form::Program { tree, paths } => self.eval_tree(tree, paths, scope),
        }
    }

    fn eval_tree(&self, tree: &Expression, paths: &[Arc<Path>], scope: &Scope<'_>) -> Result<Value, EvalError> {
        let resolver = Resolver { scope, paths };
        let mut context = ROOT.new_inner_scope();
        context.set_variable_resolver(&resolver);
        let result = cel::Value::resolve_val(tree, &context).and_then(|found| value::to_json(found.as_ref()));
        result.map_err(|error| self.explain(&error, scope))
    }

    /// Its value as a key: canonical JSON text, so that `1` and `1.0` are one key, and maps are compared by content.
    /// `null` where the value is missing or the expression fails; `eval` says why.
    pub fn key(&self, scope: &Scope<'_>) -> Arc<str> {
        if let Form::Path(path) = &self.form
            && let Found::Json(found) = scope.find(path)
        {
            return canonical(found).into();
        }
        self.eval(scope).map_or_else(|_| Arc::from("null"), |found| canonical(&found).into())
    }

    /// Whether it is true.
    ///
    /// # Errors
    /// Where it fails, or gives anything but true or false.
    pub fn holds(&self, scope: &Scope<'_>) -> Result<bool, EvalError> {
        match self.eval(scope)? {
            Value::Bool(holds) => Ok(holds),
            Value::Null => Err(EvalError { message: format!("`{}` is null, neither true nor false", self.text) }),
            other => Err(EvalError { message: format!("`{}` gives {other}, neither true nor false", self.text) }),
        }
    }

    /// Its value as a number; integers are converted.
    ///
    /// # Errors
    /// Where it fails, or gives anything but a number.
    pub fn number(&self, scope: &Scope<'_>) -> Result<f64, EvalError> {
        let found = self.eval(scope)?;
        found.as_f64().ok_or_else(|| EvalError { message: format!("`{}` gives {found}, not a number", self.text) })
    }

    fn explain(&self, error: &ExecutionError, scope: &Scope<'_>) -> EvalError {
        let mut message = value::sentence(error);
        let Form::Program { paths, .. } = &self.form else { return EvalError { message } };
        let mut named: Vec<String> = Vec::new();
        for path in paths.iter().filter(|path| scope.find(path).is_null()) {
            let name = path.to_string();
            if !named.contains(&name) {
                message.push_str(if named.is_empty() { "; " } else { ", " });
                message.push_str(&format!("`{name}` is null"));
                named.push(name);
            }
        }
        EvalError { message }
    }
}

/// Gives the interpreter the value of each path when it asks for it, so that only what is read is converted.
struct Resolver<'a> {
    scope: &'a Scope<'a>,
    paths: &'a [Arc<Path>],
}

impl VariableResolver for Resolver<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<cel::common::value::CowVal<'b, 'b>> {
        let path = self.paths.get(variable.strip_prefix('@')?.parse::<usize>().ok()?)?;
        Some(cel::common::value::CowVal::Owned(self.scope.find(path).to_cel()))
    }
}

#[cfg(test)]
mod tests;
