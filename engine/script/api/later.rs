//! The functions of later versions: calling one is an error that says so, also where it was reached by a computed name.

use std::collections::BTreeMap;

use rhai::{Dynamic, Engine, Module};

use super::super::error::{Fault, Thrown};
use super::{ENTRIES, Where};

pub(super) fn register(engine: &mut Engine) {
    let mut modules: BTreeMap<&str, Module> = BTreeMap::new();
    for entry in ENTRIES.iter().filter(|entry| entry.place == Where::Later) {
        let name = entry.name;
        let error = move || -> Result<Dynamic, Fault> {
            Err(Thrown::last("E0390", format!("{name} is not supported yet")).help("a later version of the engine has it").fault())
        };
        match name.split_once("::") {
            Some((module, function)) => {
                let module = modules.entry(module).or_default();
                module.set_native_fn(function, error);
                module.set_native_fn(function, move |_: Dynamic| error());
                module.set_native_fn(function, move |_: Dynamic, _: Dynamic| error());
                module.set_native_fn(function, move |_: Dynamic, _: Dynamic, _: Dynamic| error());
            }
            None => {
                engine.register_fn(name, error);
                engine.register_fn(name, move |_: Dynamic| error());
                engine.register_fn(name, move |_: Dynamic, _: Dynamic| error());
                engine.register_fn(name, move |_: Dynamic, _: Dynamic, _: Dynamic| error());
            }
        }
    }
    for (name, module) in modules {
        engine.register_static_module(name, module.into());
    }
}
