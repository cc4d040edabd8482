//! Checks over the whole model: names, references between keys, files, and options that exclude each other.

use std::path::Path;

use crate::base::{Diagnostic, Location};

use super::file::file_problem;
use super::keys::events::EventSchema;
use super::keys::functions::Function;
use super::keys::names::{event_problem, id_problem, in_family};
use super::keys::unknown_events::UnknownEvents;
use super::keys::{databases, email, env, exec, secrets, webhooks};
use super::model::Model;
use super::reader::Reader;
use super::spanned::{Spanned, or};
use crate::rules::ended;

/// Notes everything that is wrong with the model. Where it is not whole, since a file of it could not be read, names that
/// are not declared are left alone.
pub(super) fn check(model: &Model, root: &Path, is_whole: bool, reader: &mut Reader) {
    if let Some(version) = &model.version
        && version.value != 1
    {
        let problem = Diagnostic::error("E0126", format!("version {} of the format is not known", version.value));
        reader.note(problem.labelled(version.place.clone(), "must be 1"));
    }
    if let Some(problem) = model.app.as_ref().and_then(|app| id_problem("the app's name", &app.value, &app.place)) {
        reader.note(problem);
    }
    env::check(&model.env, reader);
    secrets::check(&model.secrets, &model.env, reader);
    events(model, root, reader);
    for (id, function) in model.functions.iter() {
        triggers(model, id, function, is_whole, reader);
        files(root, id, function, reader);
        gates(function, reader);
        limits(function, reader);
    }
    shared(model, reader);
    outside(model, is_whole, reader);
    all_webhooks(model, is_whole, reader);
}

fn events(model: &Model, root: &Path, reader: &mut Reader) {
    for (name, event) in model.events.iter() {
        if let Some(problem) = event_problem(&name.value, true, &name.place) {
            reader.note(problem);
        }
        if let Some(Spanned { value: EventSchema::File(path), place }) = &event.schema
            && let Some(problem) = file_problem(root, path, "the schema", place)
        {
            reader.note(problem);
        }
    }
}

fn triggers(model: &Model, id: &Spanned<String>, function: &Function, is_whole: bool, reader: &mut Reader) {
    for (at, trigger) in function.on.iter().enumerate() {
        if trigger.event.value.starts_with("stepwell/") {
            engine_event(function, &trigger.event, reader);
        } else {
            known_event(model, &trigger.event, &format!("the function `{}`", id.value), is_whole, reader);
        }
        let same = |other: &&super::Trigger| {
            let condition = |trigger: &super::Trigger| trigger.condition.as_ref().map(|text| text.value.clone());
            other.event.value == trigger.event.value && condition(other) == condition(trigger)
        };
        if let Some(first) = function.on[..at].iter().find(same) {
            reader.note(
                Diagnostic::error("E0104", format!("`{}` is listed twice", trigger.event.value))
                    .labelled(trigger.event.place.clone(), "again here")
                    .labelled(first.event.place.clone(), "first here"),
            );
        }
    }
    for event in function.cancel_on.iter().filter_map(|cancel| cancel.event.as_ref()) {
        if event.value.ends_with("/*") {
            let problem = Diagnostic::error("E0132", format!("`{}` is a family, and `cancel_on` names an event whole", event.value));
            reader.note(problem.at(event.place.clone()).help("list each of its events: `cancel_on: [a/b, a/c]`"));
            continue;
        }
        known_event(model, event, &format!("`cancel_on` of the function `{}`", id.value), is_whole, reader);
    }
}

/// An event of the engine's own that starts a function: it is written with the end of a run, which passes no gate but the
/// queue's.
fn engine_event(function: &Function, event: &Spanned<String>, reader: &mut Reader) {
    if !ended::TOLD.contains(&event.value.as_str()) {
        let problem = Diagnostic::error("E0115", format!("`{}` is reserved: names under `stepwell/` are the engine's own", event.value));
        let problem = problem.at(event.place.clone());
        return reader.note(match crate::base::diagnostic::nearest(&event.value, ended::TOLD) {
            Some(right) => problem.help(format!("did you mean `{right}`?")),
            None => problem.help(format!("a function can be started by {}", ended::TOLD.map(|name| format!("`{name}`")).join(", "))),
        });
    }
    let gates = [
        ("idempotency", function.idempotency.as_ref().map(|key| &key.place)),
        ("rate_limit", function.rate_limit.as_ref().map(|gate| &gate.place)),
        ("debounce", function.debounce.as_ref().map(|gate| &gate.place)),
        ("batch", function.batch.as_ref().map(|gate| &gate.place)),
        ("singleton", function.singleton.as_ref().map(|gate| &gate.place)),
    ];
    for (gate, place) in gates.into_iter().filter_map(|(gate, place)| Some((gate, place?))) {
        let problem = Diagnostic::error("E0122", format!("`{gate}` does not go with `on: {}`", event.value));
        reader.note(problem.at(place.clone()).help("`stepwell explain E0122` says which options go together"));
    }
}

/// Notes an event that is not declared, where `who` listens to it.
fn known_event(model: &Model, event: &Spanned<String>, who: &str, is_whole: bool, reader: &mut Reader) {
    if let Some(problem) = event_problem(&event.value, true, &event.place) {
        return reader.note(problem);
    }
    if !is_whole || model.event(&event.value).is_some() || model.events.names().any(|name| in_family(name, &event.value)) {
        return;
    }
    let near = crate::base::diagnostic::nearest(&event.value, model.events.names());
    let problem = match (model.unknown_events(), near) {
        (UnknownEvents::Refuse, _) => {
            Diagnostic::error("E0116", format!("{who} listens to `{}`, and no such event is declared", event.value))
        }
        (UnknownEvents::Accept, Some(_)) => {
            Diagnostic::warning("W0116", format!("{who} listens to `{}`, which is not declared", event.value))
        }
        (UnknownEvents::Accept, None) => return,
    };
    let problem = problem.at(event.place.clone());
    reader.note(match near {
        Some(right) => problem.help(format!("did you mean `{right}`?")),
        None => problem.help(format!("declare it under `events:`, for example `{}: {{}}`", event.value)),
    });
}

fn files(root: &Path, id: &Spanned<String>, function: &Function, reader: &mut Reader) {
    let mut script = |path: &Spanned<String>, what: &str| {
        if let Some(problem) = file_problem(root, &path.value, what, &path.place) {
            let by_default = path.place == id.place && problem.code == "E0118";
            let help = "a function runs `handlers/ID.rhai` unless `handler:` names another script";
            reader.note(if by_default { problem.help(help) } else { problem });
        } else if !path.value.ends_with(".rhai") {
            let problem = Diagnostic::error("E0117", format!("{what} `{}` does not end in `.rhai`", path.value));
            reader.note(problem.at(path.place.clone()));
        }
    };
    script(&function.handler, "the handler");
    if let Some(path) = &function.on_failure {
        script(path, "the script for failures");
    }
}

/// Options that exclude each other, also while one of them is not supported yet.
fn gates(function: &Function, reader: &mut Reader) {
    let mut exclude = |option: &str, with: &str, place: Option<&Location>| {
        if let Some(place) = place {
            let problem = Diagnostic::error("E0122", format!("`{option}` does not go with `{with}`"));
            reader.note(problem.at(place.clone()).help("`stepwell explain E0122` says which options go together"));
        }
    };
    let debounce = function.debounce.as_ref().map(|debounce| &debounce.place);
    let singleton = function.singleton.as_ref().map(|singleton| &singleton.place);
    if function.debounce.is_some() {
        exclude("singleton", "debounce", singleton);
    }
    let Some(batch) = &function.batch else { return };
    exclude("debounce", "batch", debounce);
    exclude("singleton", "batch", singleton);
    exclude("idempotency", "batch", function.idempotency.as_ref().map(|key| &key.place));
    exclude("priority", "batch", function.priority.as_ref().map(|key| &key.place));
    // It is wrong as a whole, so it is told once, however many events it lists.
    exclude("cancel_on", "batch", function.cancel_on.iter().find_map(|cancel| cancel.event.as_ref()).map(|event| &event.place));
    let batch_key = batch.value.key.as_ref().map(|key| key.value.trim());
    let throttle = function.throttle.as_ref().and_then(|throttle| throttle.value.key.as_ref());
    let keys = function.concurrency.iter().filter_map(|limit| limit.key.as_ref()).chain(throttle);
    for key in keys.filter(|key| Some(key.value.trim()) != batch_key) {
        let problem = Diagnostic::error("E0122", "with `batch`, the keys of `concurrency` and `throttle` are the batch's key");
        let problem = problem.at(key.place.clone());
        reader.note(match batch_key {
            Some(right) => problem.help(format!("the batch's key is `{right}`")),
            None => problem.help("the batch has no key: a batch holds events of all values, so a run has no single one"),
        });
    }
}

/// Two limits of one function that count the same runs: one of them has no effect.
fn limits(function: &Function, reader: &mut Reader) {
    let [one, other] = function.concurrency.as_slice() else { return };
    if let (Some(first), Some(again)) = (&one.shared, &other.shared)
        && first.value == again.value
    {
        let problem = Diagnostic::error("E0122", format!("one function names the shared limit `{}` twice", again.value));
        let problem = problem.labelled(again.place.clone(), "again here").labelled(first.place.clone(), "first here");
        return reader.note(problem.help("a run takes one slot of a shared limit: remove one of them, or give it another name"));
    }
    let key = |limit: &super::Concurrency| limit.key.as_ref().map(|key| key.value.trim().to_owned());
    let is_same = key(one) == key(other) && one.policy().hold == other.policy().hold;
    let (Some(first), Some(second)) = (&one.limit, &other.limit) else { return };
    if !is_same || one.shared.is_some() || other.shared.is_some() {
        return;
    }
    let (idle, counts) = if first.value > second.value { (first, second) } else { (second, first) };
    let problem = Diagnostic::error("E0122", "two limits count the same runs, so only the smaller one has an effect");
    let problem = problem.labelled(idle.place.clone(), "has no effect").labelled(counts.place.clone(), "this one counts");
    reader.note(problem.help("two limits of a function differ in `key`, `hold` or `shared`"));
}

/// All users of one shared name state the same limit and hold.
fn shared(model: &Model, reader: &mut Reader) {
    let limits: Vec<_> = model.functions.iter().flat_map(|(_, function)| &function.concurrency).collect();
    for (at, limit) in limits.iter().enumerate() {
        let Some(name) = &limit.shared else { continue };
        let same_name = |other: &&&super::Concurrency| other.shared.as_ref().is_some_and(|other| other.value == name.value);
        let Some(first) = limits[..at].iter().find(same_name) else { continue };
        let Some(first_name) = &first.shared else { continue };
        let (own, other) = (limit.policy(), first.policy());
        if own == other {
            continue;
        }
        let say = |limit: &super::Concurrency| {
            let policy = limit.policy();
            format!("limit {}, hold {}", policy.limit, super::keys::concurrency::hold_word(or(&limit.hold, policy.hold)))
        };
        reader.note(
            Diagnostic::error("E0121", format!("the shared limit `{}` is stated in two ways", name.value))
                .labelled(name.place.clone(), say(limit))
                .labelled(first_name.place.clone(), say(first))
                .help("all functions that share a limit state the same `limit` and `hold`"),
        );
    }
}

/// What scripts reach outside: databases, the mail server, commands.
fn outside(model: &Model, is_whole: bool, reader: &mut Reader) {
    databases::check(&model.databases, &model.engine, reader);
    let mut passwords: Vec<&Spanned<String>> = model.databases.iter().filter_map(|(_, database)| database.password.as_ref()).collect();
    if let Some(email) = &model.email {
        email::check(email, reader);
        passwords.extend(&email.password);
    }
    if let Some(exec) = &model.exec {
        exec::check(exec, reader);
    }
    for password in passwords {
        listed(model, password, is_whole, reader);
    }
}

/// Notes a secret that is named and not listed.
fn listed(model: &Model, secret: &Spanned<String>, is_whole: bool, reader: &mut Reader) {
    if !is_whole || model.secrets.iter().any(|listed| listed.value == secret.value) {
        return;
    }
    let problem = Diagnostic::error("E0125", format!("`{}` is not listed in `secrets`", secret.value)).at(secret.place.clone());
    let known: Vec<&str> = model.secrets.iter().map(|listed| listed.value.as_str()).collect();
    reader.note(match crate::base::diagnostic::nearest(&secret.value, known) {
        Some(right) => problem.help(format!("did you mean `{right}`?")),
        None => problem.help("write the name of a secret here, never its value, and list it: `secrets: [NAME]`"),
    });
}

fn all_webhooks(model: &Model, is_whole: bool, reader: &mut Reader) {
    for (name, webhook) in model.webhooks.iter() {
        if let Some(problem) = id_problem("the webhook's name", &name.value, &name.place) {
            reader.note(problem);
        }
        for secret in &webhook.secret {
            listed(model, secret, is_whole, reader);
        }
        webhooks::check(name, webhook, reader);
    }
}
