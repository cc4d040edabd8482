//! Which functions, methods and fields there are for values of which types: what the table of the handler API and Rhai's own
//! modules have registered.

use std::any::TypeId;
use std::collections::{BTreeSet, HashMap};

use rhai::{Array, Blob, Dynamic, Engine, FnPtr, ImmutableString, Map};

use crate::base::diagnostic::nearest;

use super::super::api::{Entry, type_words};
use super::super::time::{Moment, Period};
use super::super::value::{Number, RunHandle, Secret};
use super::facts::What;

/// The types that a value may have; none where that is not known.
pub(super) type Kinds = Option<Vec<TypeId>>;

/// A type in words: `a text`.
fn word(id: TypeId) -> &'static str {
    let shown = [
        (TypeId::of::<i64>(), "a whole number"),
        (TypeId::of::<f64>(), "a number with a fraction"),
        (TypeId::of::<ImmutableString>(), "a text"),
        (TypeId::of::<bool>(), "true or false"),
        (TypeId::of::<Array>(), "an array"),
        (TypeId::of::<Map>(), "a map"),
        (TypeId::of::<Blob>(), "bytes"),
        (TypeId::of::<FnPtr>(), "a closure"),
        (TypeId::of::<Moment>(), "a time"),
        (TypeId::of::<Period>(), "a duration"),
        (TypeId::of::<Secret>(), "a secret"),
        (TypeId::of::<RunHandle>(), "the run"),
        (TypeId::of::<()>(), "()"),
        (TypeId::of::<Number>(), "a number beyond 64 bits"),
    ];
    shown.into_iter().find(|(known, _)| *known == id).map_or("a value", |(_, word)| word)
}

/// Types in words: `a text or a map`.
pub(super) fn shown(kinds: &[TypeId]) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in kinds.iter().map(|id| word(*id)) {
        if word != "a value" && !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(" or ")
}

/// The types of the table's words.
fn of_words(all: &[&str]) -> Kinds {
    let mut kinds = Vec::new();
    for word in all {
        let before = kinds.len();
        kinds.extend(
            type_words().into_iter().filter(|(known, _)| known == word || (*known == "map" && word.starts_with("#{"))).map(|(_, id)| id),
        );
        if kinds.len() == before {
            return None;
        }
    }
    Some(kinds)
}

/// The types that a value may have. What comes out of an event is anything that JSON has.
pub(super) fn kinds(what: &What) -> Kinds {
    match what {
        What::Anything | What::Keeps(_) => None,
        What::Text(_) => Some(vec![TypeId::of::<ImmutableString>()]),
        What::Whole(_) => Some(vec![TypeId::of::<i64>()]),
        What::Number(_) => Some(vec![TypeId::of::<f64>()]),
        What::Flag(_) => Some(vec![TypeId::of::<bool>()]),
        What::Nothing => Some(vec![TypeId::of::<()>()]),
        What::List(_) | What::Events => Some(vec![TypeId::of::<Array>()]),
        What::Map(_) => Some(vec![TypeId::of::<Map>()]),
        What::Closure(_) => Some(vec![TypeId::of::<FnPtr>()]),
        What::Of(words) => of_words(words),
        What::Read(_) => Some(plain().into_iter().chain([TypeId::of::<Map>(), TypeId::of::<()>()]).collect()),
    }
}

/// The types that JSON's values have in a script, but maps and null.
pub(super) fn plain() -> Vec<TypeId> {
    vec![
        TypeId::of::<ImmutableString>(),
        TypeId::of::<i64>(),
        TypeId::of::<f64>(),
        TypeId::of::<bool>(),
        TypeId::of::<Array>(),
        TypeId::of::<Number>(),
    ]
}

/// Whether a value is for certain no map: a map may have closures and any fields.
pub(super) fn is_no_map(kinds: &[TypeId]) -> bool {
    !kinds.contains(&TypeId::of::<Map>())
}

/// Everything that is registered, by name; a function of a module with it, a field as `get$name`.
pub(super) struct Natives(HashMap<String, Vec<Vec<TypeId>>>);

/// What is wrong with a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// There is nothing of this name for such a value.
    Name,
    /// It takes other numbers of arguments.
    Count(BTreeSet<usize>),
    /// The argument of this number, from 0, has a type that it does not take; these it takes.
    Kind(usize, Vec<TypeId>),
}

fn takes(parameter: TypeId, given: &Kinds) -> bool {
    parameter == TypeId::of::<Dynamic>() || given.as_ref().is_none_or(|kinds| kinds.contains(&parameter))
}

impl Natives {
    pub(super) fn of(engine: &Engine) -> Natives {
        let all = engine.collect_fn_metadata(
            None,
            |info| {
                let space = if info.namespace.is_empty() { String::new() } else { format!("{}::", info.namespace) };
                Some((format!("{space}{}", info.metadata.name), info.metadata.param_types.to_vec(), info.metadata.num_params))
            },
            true,
        );
        let mut natives: HashMap<String, Vec<Vec<TypeId>>> = HashMap::new();
        for (name, mut types, count) in all {
            // A function without types takes any.
            types.resize(count, TypeId::of::<Dynamic>());
            natives.entry(name).or_default().push(types);
        }
        Natives(natives)
    }

    /// The numbers of arguments that the functions of a name take; none where there is no such function.
    pub(super) fn counts(&self, name: &str) -> Option<BTreeSet<usize>> {
        Some(self.0.get(name)?.iter().map(Vec::len).collect())
    }

    /// The names of all functions that stand in no module.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(|name| !name.contains("::"))
    }

    /// What is wrong with a call of a function that is registered; none where it may be right.
    pub(super) fn call(&self, name: &str, given: &[Kinds]) -> Option<Wrong> {
        let all = self.0.get(name)?;
        judge(all.iter().map(Vec::as_slice), given)
    }

    /// What is wrong with a call of a method of a value of these types.
    pub(super) fn method(&self, receiver: &[TypeId], name: &str, given: &[Kinds]) -> Option<Wrong> {
        let receiver = Some(receiver.to_vec());
        let own = |types: &&Vec<TypeId>| types.first().is_some_and(|first| takes(*first, &receiver));
        let all: Vec<&[TypeId]> = self.0.get(name).into_iter().flatten().filter(own).map(|types| &types[1..]).collect();
        if all.is_empty() { Some(Wrong::Name) } else { judge(all.into_iter(), given) }
    }

    /// Whether values of one of these types have a field.
    pub(super) fn has_field(&self, receiver: &[TypeId], name: &str) -> bool {
        let own = |types: &Vec<TypeId>| types.first().is_some_and(|first| takes(*first, &Some(receiver.to_vec())));
        self.0.get(&format!("get${name}")).is_some_and(|all| all.iter().any(own))
    }

    /// The method, or with `prefix` the field, of such values that has almost this name.
    pub(super) fn nearest(&self, receiver: &[TypeId], name: &str, prefix: &str) -> Option<&str> {
        let receiver = Some(receiver.to_vec());
        let own = |types: &Vec<TypeId>| types.first().is_some_and(|first| *first != TypeId::of::<Dynamic>() && takes(*first, &receiver));
        let known = self.0.iter().filter(|(_, all)| all.iter().any(own)).filter_map(|(known, _)| known.strip_prefix(prefix));
        let mut known: Vec<&str> = known.filter(|known| known.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).collect();
        known.sort_unstable();
        nearest(name, known)
    }
}

/// What is wrong with a call, by the forms of the table.
pub(super) fn by_table(entry: &Entry, given: &[Kinds]) -> Option<Wrong> {
    let mut forms = entry.calls();
    forms.retain(|form| form.parameters.len() == given.len());
    for (at, kinds) in given.iter().enumerate() {
        let wanted: Vec<Kinds> = forms.iter().map(|form| of_words(&form.parameters[at].types)).collect();
        let Some(kinds) = kinds else { continue };
        let fits = |wanted: &Kinds| wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|id| kinds.contains(id)));
        let mut all = wanted.iter();
        forms.retain(|_| all.next().is_some_and(fits));
        if forms.is_empty() && !wanted.is_empty() {
            return Some(Wrong::Kind(at, wanted.into_iter().flatten().flatten().collect()));
        }
    }
    None
}

fn judge<'a>(all: impl Iterator<Item = &'a [TypeId]> + Clone, given: &[Kinds]) -> Option<Wrong> {
    let counts: BTreeSet<usize> = all.clone().map(<[TypeId]>::len).collect();
    if !counts.contains(&given.len()) {
        return Some(Wrong::Count(counts));
    }
    let mut left: Vec<&[TypeId]> = all.filter(|types| types.len() == given.len()).collect();
    for (at, kinds) in given.iter().enumerate() {
        let wanted: Vec<TypeId> = left.iter().map(|types| types[at]).collect();
        left.retain(|types| takes(types[at], kinds));
        if left.is_empty() {
            return Some(Wrong::Kind(at, wanted));
        }
    }
    None
}
