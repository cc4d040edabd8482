//! What a step's closure captured: it works on copies, and a change of one is an error, since a replay would not see it.

use std::collections::HashMap;

use rhai::{Array, Blob, Dynamic, FnPtr, ImmutableString, Map, NativeCallContext};

use super::error::{Fault, Thrown};
use super::time::{Moment, Period};
use super::value::{Number, Secret};

/// How deep captured values may lie in each other.
const DEPTH_MOST: usize = 256;

/// A closure that works on copies of the captured values.
pub(super) struct Captured {
    body: FnPtr,
}

impl Captured {
    /// Copies everything that `body` captured, also what the closures in it captured. Constants are shared, not copied.
    pub(super) fn copy(body: &FnPtr) -> Result<Captured, Fault> {
        let mut copier = Copier { copies: HashMap::new() };
        Ok(Captured { body: copier.closure(body, 0)? })
    }

    /// The closure to call.
    pub(super) fn body(&self) -> &FnPtr {
        &self.body
    }

    /// Refuses a step's closure whose copies have become other than what they were copied from.
    pub(super) fn check(&self, context: &NativeCallContext<'_>, original: &FnPtr) -> Result<(), Fault> {
        let Some(name) = self.changed(context, original) else { return Ok(()) };
        let help = match &name {
            Some(name) => format!("return the new value from the step, and assign it outside: {name} = step(…)"),
            None => "return the new value from the step, and assign it outside".to_owned(),
        };
        let message = format!("the step changes {}; the change would be lost at the next replay", shown(name.as_deref()));
        Err(Thrown::last("E0410", message).help(help).fault())
    }

    /// The same of a closure that is a branch of `function`.
    pub(super) fn check_branch(&self, context: &NativeCallContext<'_>, original: &FnPtr, function: &str) -> Result<(), Fault> {
        let Some(name) = self.changed(context, original) else { return Ok(()) };
        let message = format!("a branch of {function} changes {}; each branch works on a copy of its own", shown(name.as_deref()));
        Err(Thrown::last("E0411", message).help(instead_of_change(function)).fault())
    }

    /// The name of a captured variable that the closure has changed, if it has changed any and the name is known.
    fn changed(&self, context: &NativeCallContext<'_>, original: &FnPtr) -> Option<Option<String>> {
        let mut seen = Vec::new();
        let pairs = original.curry().iter().zip(self.body.curry()).enumerate();
        let mut changed = pairs.filter(|(_, (before, after))| !same(before, after, &mut seen, 0)).map(|(at, _)| at);
        changed.next().map(|at| variable(context, original, at))
    }
}

/// What a branch does instead of changing what it captured.
pub(super) fn instead_of_change(function: &str) -> &'static str {
    match function {
        "race" => "return the new value from the branch: race gives it as `value`",
        _ => "return the new value from the branch, and put the results together after parallel",
    }
}

fn shown(name: Option<&str>) -> String {
    name.map_or("a captured variable".to_owned(), |name| format!("the captured variable `{name}`"))
}

/// A value that shares nothing with another one.
pub(super) fn copied(value: &Dynamic) -> Result<Dynamic, Fault> {
    Copier { copies: HashMap::new() }.value(value, 0)
}

/// The name of the captured variable at a place among the curried values: a closure's first parameters are named after them.
fn variable(context: &NativeCallContext<'_>, body: &FnPtr, at: usize) -> Option<String> {
    let modules = context.iter_namespaces();
    let mut definitions = modules
        .filter_map(|module| (body.curry().len()..body.curry().len() + 8).find_map(|count| module.get_script_fn(body.fn_name(), count)));
    definitions.next()?.params.get(at).map(ToString::to_string)
}

struct Copier {
    /// Copies of shared values by the address of the original, so that what was one variable stays one.
    copies: HashMap<usize, Dynamic>,
}

impl Copier {
    fn closure(&mut self, body: &FnPtr, depth: usize) -> Result<FnPtr, Fault> {
        let mut copy = body.clone();
        for value in copy.iter_curry_mut() {
            *value = self.value(value, depth + 1)?;
        }
        Ok(copy)
    }

    fn value(&mut self, value: &Dynamic, depth: usize) -> Result<Dynamic, Fault> {
        if depth > DEPTH_MOST {
            return Err(Thrown::last("E0404", format!("captured values lie more than {DEPTH_MOST} deep in each other")).fault());
        }
        if value.is_shared() {
            return self.shared(value, depth);
        }
        if let Some(body) = value.read_lock::<FnPtr>() {
            return Ok(Dynamic::from(self.closure(&body, depth)?));
        }
        if let Some(array) = value.read_lock::<Array>() {
            let copy: Result<Array, Fault> = array.iter().map(|item| self.value(item, depth + 1)).collect();
            return Ok(Dynamic::from_array(copy?));
        }
        if let Some(map) = value.read_lock::<Map>() {
            let copy: Result<Map, Fault> = map.iter().map(|(name, item)| Ok((name.clone(), self.value(item, depth + 1)?))).collect();
            return Ok(Dynamic::from_map(copy?));
        }
        Ok(value.clone())
    }

    fn shared(&mut self, value: &Dynamic, depth: usize) -> Result<Dynamic, Fault> {
        if value.is_read_only() {
            return Ok(value.clone());
        }
        let Some(inner) = value.read_lock::<Dynamic>() else { return Ok(value.clone()) };
        let address = std::ptr::from_ref::<Dynamic>(&inner) as usize;
        if let Some(copy) = self.copies.get(&address) {
            return Ok(copy.clone());
        }
        // The copy is known before what lies in it is copied: a closure may capture the variable that holds it.
        let mut copy = Dynamic::UNIT.into_shared();
        self.copies.insert(address, copy.clone());
        let content = self.value(&inner, depth + 1)?;
        if let Some(mut slot) = copy.write_lock::<Dynamic>() {
            *slot = content;
        }
        Ok(copy)
    }
}

/// Whether a copy still is what it was copied from.
fn same(before: &Dynamic, after: &Dynamic, seen: &mut Vec<usize>, depth: usize) -> bool {
    if depth > DEPTH_MOST + 1 {
        return false;
    }
    if before.is_shared() {
        if before.is_read_only() {
            return true;
        }
        let (Some(before), Some(after)) = (before.read_lock::<Dynamic>(), after.read_lock::<Dynamic>()) else { return true };
        let address = std::ptr::from_ref::<Dynamic>(&before) as usize;
        if seen.contains(&address) {
            return true;
        }
        seen.push(address);
        return same_value(&before, &after, seen, depth + 1);
    }
    same_value(before, after, seen, depth)
}

fn same_value(before: &Dynamic, after: &Dynamic, seen: &mut Vec<usize>, depth: usize) -> bool {
    if before.type_id() != after.type_id() {
        return false;
    }
    if let (Ok(a), Ok(b)) = (before.as_int(), after.as_int()) {
        return a == b;
    }
    if let (Ok(a), Ok(b)) = (before.as_float(), after.as_float()) {
        return a.to_bits() == b.to_bits();
    }
    if let (Ok(a), Ok(b)) = (before.as_bool(), after.as_bool()) {
        return a == b;
    }
    if let (Ok(a), Ok(b)) = (before.as_char(), after.as_char()) {
        return a == b;
    }
    if let (Some(a), Some(b)) = (before.read_lock::<Array>(), after.read_lock::<Array>()) {
        return a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(a, b, seen, depth + 1));
    }
    if let (Some(a), Some(b)) = (before.read_lock::<Map>(), after.read_lock::<Map>()) {
        return a.len() == b.len() && a.iter().zip(b.iter()).all(|((name, a), (other, b))| name == other && same(a, b, seen, depth + 1));
    }
    if let (Some(a), Some(b)) = (before.read_lock::<FnPtr>(), after.read_lock::<FnPtr>()) {
        return a.fn_name() == b.fn_name()
            && a.curry().len() == b.curry().len()
            && a.curry().iter().zip(b.curry()).all(|(a, b)| same(a, b, seen, depth + 1));
    }
    // A type that a host of a test adds, and the unit, have nothing to change.
    equal::<ImmutableString>(before, after)
        .or_else(|| equal::<Blob>(before, after))
        .or_else(|| equal::<Moment>(before, after))
        .or_else(|| equal::<Period>(before, after))
        .or_else(|| equal::<Number>(before, after))
        .or_else(|| equal::<Secret>(before, after))
        .unwrap_or(true)
}

fn equal<T: PartialEq + Clone + 'static>(before: &Dynamic, after: &Dynamic) -> Option<bool> {
    Some(*before.read_lock::<T>()? == *after.read_lock::<T>()?)
}
