//! Checks a parsed expression and rewrites it, so that a missing field is null instead of an error.
//!
//! Every path of constants (`event.data.items[0].id`) becomes one variable `@n`; any other select or index becomes a
//! call of ours (`@get`, `@at`), and a `has()` becomes `@has`. All of them take a missing owner for null.

use std::ops::Range;

use cel::Env;
use cel::ExecutionError;
use cel::common::ast::{CallExpr, EntryExpr, Expr as Node, IdedExpr, LiteralValue, SelectExpr, SourceInfo, operators};
use cel::common::types::{CelBool, CelNull, CelString, DYN_TYPE};
use cel::common::value::CowVal;
use cel::parser::ParseErrors;

use crate::base::diagnostic::nearest;

use super::scope::{Path, Segment};
use super::{ExprError, PathUse};

/// Brackets within brackets, and nodes of the tree below one another, that an expression may have: parser and interpreter recurse.
pub(super) const NESTING: usize = 32;
const TREE_DEPTH: usize = 128;

const TYPES: &[&str] = &["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];
const FUNCTIONS: &[&str] = &["bool", "bytes", "double", "dyn", "has", "int", "matches", "size", "string", "type", "uint"];
const METHODS: &[&str] = &[
    "all",
    "charAt",
    "contains",
    "endsWith",
    "exists",
    "exists_one",
    "filter",
    "format",
    "indexOf",
    "join",
    "lastIndexOf",
    "lowerAscii",
    "map",
    "matches",
    "replace",
    "reverse",
    "size",
    "split",
    "startsWith",
    "substring",
    "trim",
    "upperAscii",
];

/// An expression that is ready to be evaluated.
pub(super) struct Checked {
    pub tree: IdedExpr,
    pub paths: Vec<Path>,
    /// Set where the whole expression is a path.
    pub only_path: Option<Path>,
    pub uses: Vec<PathUse>,
}

/// Adds the functions of ours and the crate's string functions to the built-in ones.
pub(super) fn declare(env: &mut Env) {
    let added = env
        .add_extension(cel::extensions::strings)
        .and_then(|()| env.add_overload("@get", "@get", vec![DYN_TYPE, DYN_TYPE], get))
        .and_then(|()| env.add_overload("@at", "@at", vec![DYN_TYPE, DYN_TYPE], at))
        .and_then(|()| env.add_overload("@has", "@has", vec![DYN_TYPE, DYN_TYPE], has));
    added.expect("nothing here hangs on input: no name is declared twice with the same types");
}

fn two<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Result<(CowVal<'b, 'v>, CowVal<'b, 'v>), ExecutionError> {
    match (args.pop(), args.pop()) {
        (Some(second), Some(first)) => Ok((first, second)),
        _ => Err(ExecutionError::missing_argument_or_target()),
    }
}

fn look_up<'b, 'v>(owner: CowVal<'b, 'v>, key: &CowVal<'b, 'v>) -> Option<Result<CowVal<'b, 'v>, ExecutionError>> {
    match owner {
        CowVal::Borrowed(owner) => owner.as_indexer().map(|indexer| indexer.get(key.as_ref())),
        CowVal::Owned(owner) => owner.as_indexer().map(|indexer| indexer.get(key.as_ref()).map(|found| CowVal::Owned(found.into_owned()))),
    }
}

/// `owner.field`: null where there is no such field, or the owner has no fields at all.
fn get<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (owner, key) = two(args)?;
    Ok(look_up(owner, &key).and_then(Result::ok).unwrap_or_else(|| CowVal::owned(CelNull)))
}

/// `owner[key]`: null where there is nothing, as for a field; a key that is neither a text nor an integer stays an error.
fn at<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (owner, key) = two(args)?;
    let types = [owner.get_type().name().to_owned(), key.get_type().name().to_owned()];
    match look_up(owner, &key) {
        Some(Ok(found)) => Ok(found),
        _ if ["string", "int", "uint"].contains(&types[1].as_str()) => Ok(CowVal::owned(CelNull)),
        _ => Err(ExecutionError::no_such_overload("@at", types.to_vec())),
    }
}

/// `has(owner.field)`: whether the field is there, be it null or not.
fn has<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (owner, key) = two(args)?;
    Ok(CowVal::owned(CelBool::from(matches!(look_up(owner, &key), Some(Ok(_))))))
}

/// Refuses brackets that are nested too deep, before the parser recurses into them.
pub(super) fn depth(text: &str) -> Result<(), ExprError> {
    let mut deep = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => deep += 1,
            ')' | ']' | '}' => deep = deep.saturating_sub(1),
            _ => {}
        }
        if deep > NESTING {
            return Err(too_deep(at..at + 1));
        }
    }
    Ok(())
}

fn too_deep(range: Range<usize>) -> ExprError {
    ExprError { message: "the expression is nested too deep".into(), range, help: Some("split it into several conditions".into()) }
}

/// The parser's first error, in words that name no internals.
pub(super) fn syntax_error(text: &str, errors: &ParseErrors) -> ExprError {
    let Some(first) = errors.errors.first() else {
        return ExprError { message: "not a CEL expression".into(), range: 0..text.len(), help: None };
    };
    let (line, column) = first.pos;
    let start = offset(text, line, column);
    let rest = &text[start..];
    let word = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let length = if word > 0 { word } else { rest.chars().next().map_or(0, char::len_utf8) };
    let raw = first.msg.trim_start_matches("Syntax error: ").split(" expecting ").next().unwrap_or_default();
    let message = if rest.is_empty() {
        "the expression ends too early".to_owned()
    } else if raw.starts_with("token recognition error") {
        format!("`{}` begins no word of an expression", rest.chars().next().unwrap_or(' '))
    } else if let Some(token) = raw.split('\'').nth(1).filter(|_| raw.contains("input")) {
        format!("`{token}` cannot stand here")
    } else {
        let mut words = raw.to_owned();
        if let Some(initial) = words.get_mut(..1) {
            initial.make_ascii_lowercase();
        }
        words
    };
    let help = if message.contains("has()") {
        Some("has() takes a field: has(event.data.field)".to_owned())
    } else if rest.starts_with(|c: char| !c.is_ascii()) {
        Some("write such a field in brackets: event.data['name']".to_owned())
    } else if text.contains('=') && !text.contains("==") && !text.contains("!=") && !text.contains("<=") && !text.contains(">=") {
        Some("write `==` to compare".to_owned())
    } else if text.contains(" and ") || text.contains(" or ") || text.starts_with("not ") {
        Some("write `&&`, `||` and `!`".to_owned())
    } else {
        None
    };
    ExprError { message, range: start..start + length, help }
}

/// The byte offset of a 1-based line and column (in characters); the end of the text where there is no such place.
fn offset(text: &str, line: isize, column: isize) -> usize {
    let mut start = 0;
    for _ in 1..line {
        match text[start..].find('\n') {
            Some(at) => start += at + 1,
            None => return text.len(),
        }
    }
    let skip = usize::try_from(column - 1).unwrap_or(0);
    text[start..].char_indices().nth(skip).map_or(text.len(), |(at, _)| start + at)
}

/// Checks the names of `tree` and rewrites it.
pub(super) fn check(text: &str, tree: IdedExpr, info: &SourceInfo, variables: &[&str]) -> Result<Checked, Vec<ExprError>> {
    let mut walk = Walk { text, info, variables, bound: Vec::new(), paths: Vec::new(), uses: Vec::new(), errors: Vec::new() };
    let only_path = walk.path(&tree).map(|(path, _)| path);
    match walk.rewrite(tree, 0) {
        Ok(tree) if walk.errors.is_empty() => Ok(Checked { tree, paths: walk.paths, only_path, uses: walk.uses }),
        deep => {
            let mut errors = walk.errors;
            errors.extend(deep.err());
            errors.sort_by_key(|error| error.range.start);
            Err(errors)
        }
    }
}

struct Walk<'a> {
    text: &'a str,
    info: &'a SourceInfo,
    variables: &'a [&'a str],
    /// The variables of the comprehensions around the present node.
    bound: Vec<String>,
    paths: Vec<Path>,
    uses: Vec<PathUse>,
    /// What is wrong so far; the tree is of no use once there is anything.
    errors: Vec<ExprError>,
}

impl Walk<'_> {
    /// The bytes of the token that the node was made at.
    fn token(&self, id: u64) -> Range<usize> {
        let Some((start, stop)) = self.info.offset_for(id) else { return 0..self.text.len() };
        // The crate counts in bytes; the last byte of a token may lie within a character.
        let start = self.text.floor_char_boundary(start as usize);
        start..self.text.ceil_char_boundary(stop as usize + 1).max(start)
    }

    /// The path that a node spells, with its place; none where it is anything else.
    fn path(&self, node: &IdedExpr) -> Option<(Path, Range<usize>)> {
        match &node.expr {
            Node::Ident(name) => {
                let name = name.trim_start_matches('.');
                let known = self.variables.contains(&name) && !self.bound.iter().any(|bound| bound == name);
                known.then(|| (Path { root: name.to_owned(), segments: Vec::new() }, self.token(node.id)))
            }
            Node::Select(select) if !select.test => {
                let (mut path, place) = self.path(&select.operand)?;
                path.segments.push(Segment::Field(select.field.clone()));
                let dot = self.token(node.id).end;
                let spaces = self.text[dot..].len() - self.text[dot..].trim_start().len();
                let end = (dot + spaces + select.field.len()).min(self.text.len());
                Some((path, place.start..end))
            }
            Node::Call(call) if call.func_name == operators::INDEX && call.target.is_none() => {
                let [owner, key] = call.args.as_slice() else { return None };
                let (mut path, place) = self.path(owner)?;
                path.segments.push(match &key.expr {
                    Node::Literal(LiteralValue::String(name)) => Segment::Field(name.inner().to_owned()),
                    Node::Literal(LiteralValue::Int(at)) => Segment::Index(*at.inner()),
                    _ => return None,
                });
                let after = self.token(key.id).end;
                let end = self.text[after..].find(']').map_or(after, |at| after + at + 1);
                Some((path, place.start..end))
            }
            _ => None,
        }
    }

    fn rewrite(&mut self, node: IdedExpr, deep: usize) -> Result<IdedExpr, ExprError> {
        if deep > TREE_DEPTH {
            return Err(too_deep(self.token(node.id)));
        }
        if let Some((path, range)) = self.path(&node) {
            self.uses.push(PathUse { root: path.root.clone(), segments: path.segments.clone(), range });
            self.paths.push(path);
            return Ok(IdedExpr { id: node.id, expr: Node::Ident(format!("@{}", self.paths.len() - 1)) });
        }
        let id = node.id;
        let expr = match node.expr {
            Node::Ident(name) => self.ident(id, name),
            Node::Select(select) => self.select(id, select, deep)?,
            Node::Call(call) => self.call(id, call, deep)?,
            Node::List(mut list) => {
                list.elements = self.all(list.elements, deep)?;
                Node::List(list)
            }
            Node::Map(mut map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        entry.key = self.rewrite(std::mem::take(&mut entry.key), deep + 1)?;
                        entry.value = self.rewrite(std::mem::take(&mut entry.value), deep + 1)?;
                    }
                }
                Node::Map(map)
            }
            Node::Comprehension(mut inner) => {
                inner.iter_range = self.rewrite(inner.iter_range, deep + 1)?;
                inner.accu_init = self.rewrite(inner.accu_init, deep + 1)?;
                let before = self.bound.len();
                self.bound.extend([inner.iter_var.clone(), inner.accu_var.clone()]);
                self.bound.extend(inner.iter_var2.clone());
                inner.loop_cond = self.rewrite(inner.loop_cond, deep + 1)?;
                inner.loop_step = self.rewrite(inner.loop_step, deep + 1)?;
                inner.result = self.rewrite(inner.result, deep + 1)?;
                self.bound.truncate(before);
                Node::Comprehension(inner)
            }
            Node::Struct(found) => {
                let message = format!("there is no type `{}`", found.type_name);
                self.errors.push(ExprError { message, range: self.token(id), help: Some("write a map: {\"key\": value}".into()) });
                Node::Unspecified
            }
            Node::Unspecified => {
                self.errors.push(ExprError { message: "not a CEL expression".into(), range: self.token(id), help: None });
                Node::Unspecified
            }
            literal @ Node::Literal(_) => literal,
        };
        Ok(IdedExpr { id, expr })
    }

    fn all(&mut self, nodes: Vec<IdedExpr>, deep: usize) -> Result<Vec<IdedExpr>, ExprError> {
        nodes.into_iter().map(|node| self.rewrite(node, deep + 1)).collect()
    }

    fn ident(&mut self, id: u64, name: String) -> Node {
        let plain = name.trim_start_matches('.');
        if self.bound.iter().any(|bound| bound == plain) || TYPES.contains(&plain) {
            return Node::Ident(name);
        }
        let known = self.variables.iter().copied().chain(self.bound.iter().map(String::as_str).filter(|name| !name.starts_with('@')));
        let help = match nearest(plain, known) {
            Some(right) => format!("did you mean `{right}`?"),
            None => {
                let names: Vec<_> = self.variables.iter().map(|name| format!("`{name}`")).collect();
                format!("known here: {}; a text stands in quotes: '{plain}'", names.join(", "))
            }
        };
        self.errors.push(ExprError { message: format!("unknown variable `{plain}`"), range: self.token(id), help: Some(help) });
        Node::Unspecified
    }

    fn select(&mut self, id: u64, select: SelectExpr, deep: usize) -> Result<Node, ExprError> {
        let function = if select.test { "@has" } else { "@get" };
        if select.test
            && let Some((mut path, range)) = self.path(&select.operand)
        {
            // What has() asks for is read as well, so it is checked against the schema like any other path.
            path.segments.push(Segment::Field(select.field.clone()));
            let end = self.text[range.end..].find(&select.field).map_or(range.end, |at| range.end + at + select.field.len());
            let (root, segments) = (path.root, path.segments);
            let operand = self.rewrite(*select.operand, deep + 1)?;
            self.uses.pop();
            self.uses.push(PathUse { root, segments, range: range.start..end });
            return Ok(call(function, operand, id, select.field));
        }
        let operand = self.rewrite(*select.operand, deep + 1)?;
        Ok(call(function, operand, id, select.field))
    }

    fn call(&mut self, id: u64, mut found: CallExpr, deep: usize) -> Result<Node, ExprError> {
        let name = found.func_name.as_str();
        let is_operator = name.starts_with(['_', '!', '-', '@']);
        let known = if found.target.is_some() { METHODS } else { FUNCTIONS };
        if !is_operator && !known.contains(&name) {
            let elsewhere = if found.target.is_some() { FUNCTIONS } else { METHODS };
            let help = match (nearest(name, known.iter().copied()), elsewhere.contains(&name)) {
                (_, true) if found.target.is_some() => Some(format!("write it around its argument: `{name}(…)`")),
                (_, true) => Some(format!("write it behind its owner: `event.data.field.{name}(…)`")),
                (Some(right), _) => Some(format!("did you mean `{right}`?")),
                _ => known.iter().find(|right| name.len() > 2 && right.starts_with(name)).map(|right| format!("did you mean `{right}`?")),
            };
            // A method's token is the opening bracket behind its name.
            let token = self.token(id);
            let start = self.text[..token.start].rfind(name).unwrap_or(token.start);
            let range = if self.text[token.clone()].starts_with('(') { start..start + name.len() } else { token };
            self.errors.push(ExprError { message: format!("unknown function `{name}`"), range, help });
        }
        // Behind its owner, the pattern is its only argument.
        if name == "matches"
            && let Some(pattern) = found.args.get(usize::from(found.target.is_none()))
        {
            self.pattern(pattern);
        }
        if name == operators::INDEX {
            found.func_name = "@at".into();
        }
        if let Some(target) = found.target.take() {
            found.target = Some(Box::new(self.rewrite(*target, deep + 1)?));
        }
        found.args = self.all(found.args, deep)?;
        Ok(Node::Call(found))
    }

    /// Refuses a pattern that is spelled out and is none: with it the expression would fail on every event.
    fn pattern(&mut self, node: &IdedExpr) {
        let Node::Literal(LiteralValue::String(pattern)) = &node.expr else { return };
        let Err(error) = regex::Regex::new(pattern.inner()) else { return };
        let said = error.to_string();
        // The lines above this one draw the pattern.
        let reason = said.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or(&said);
        self.errors.push(ExprError { message: format!("not a regular expression: {reason}"), range: self.token(node.id), help: None });
    }
}

fn call(function: &str, operand: IdedExpr, id: u64, field: String) -> Node {
    let key = IdedExpr { id, expr: Node::Literal(LiteralValue::String(CelString::from(field))) };
    Node::Call(CallExpr { func_name: function.into(), target: None, args: vec![operand, key] })
}

/// Every function that a help line may name, and whether it is a method.
#[cfg(test)]
pub(super) fn all_functions() -> impl Iterator<Item = (&'static str, bool)> {
    FUNCTIONS.iter().map(|name| (*name, false)).chain(METHODS.iter().map(|name| (*name, true)))
}
