//! Makes a snapshot: reads the config, compiles schemas, expressions and scripts, and tells the problems of all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::base::limits::SECRET_LEAST_BYTES;
use crate::base::{Diagnostic, Location, Severity, Source, hex};
use crate::config::{self, Database, DatabaseKind, Event, EventSchema, Model, Spanned, StartTls, UnknownEvents};
use crate::expr::Expr;
use crate::rules::ended;
use crate::rules::policy::{Hold, Timeouts};
use crate::script::{
    Address, Commands, Databases, Facts, Host, HttpRules, MailServer, Program, Protection, Read, Refused, RunLimits, Secrets, Surroundings,
    Use, UseKind,
};

use super::documents::Documents;
use super::expressions::{self, Seen};
use super::function::{Cancel, Function, Trigger, Warned, in_family};
use super::handed;
use super::reads::{self, Given};
use super::schema::{self, Schema};
use super::violation::EventProblem;
use super::{Index, Mode, Project, webhook};

impl Project {
    /// Loads the config at `path` and everything that it names. `env` reads the environment. Also gives warnings and notes.
    ///
    /// # Errors
    /// All problems of all files, in the order of files and positions, if any of them is an error.
    pub fn load(
        path: &Path,
        host: &Arc<Host>,
        env: &dyn Fn(&str) -> Option<String>,
        mode: Mode,
    ) -> Result<(Project, Vec<Diagnostic>), Vec<Diagnostic>> {
        let loaded = config::load(path);
        let config_problems = loaded.problems;
        let Some(model) = loaded.model else { return Err(sorted(config_problems)) };
        let root = loaded.root;
        let mut problems = Vec::new();
        let mut documents = Documents::below(&root);
        let schemas = load_schemas(&model, &mut documents, &mut problems);
        check_examples(&model, &schemas, &mut problems);
        let (env, secrets) = read_environment(&model, env, mode, &mut problems);
        let is_whole = loaded.is_whole;
        let mut scripts =
            Scripts { host, root: &root, model: &model, schemas: &schemas, is_whole, done: HashMap::new(), given: HashMap::new() };
        let functions: Vec<Arc<Function>> = model
            .functions
            .iter()
            .filter_map(|(id, declared)| function(id, declared, &model, &schemas, &mut scripts, &mut problems))
            .collect();
        let webhooks = webhook::all(&model, &secrets, &mut problems);
        scripts.check(&mut problems);
        // What the config told of a place, such as a file that is not there, is not told twice.
        let place = |problem: &Diagnostic| problem.places.first().map(|place| (place.source.name.clone(), place.range.clone()));
        let told: Vec<_> = config_problems.iter().filter_map(place).collect();
        problems.retain(|problem| place(problem).is_none_or(|place| !told.contains(&place)));
        problems.extend(config_problems);
        if problems.iter().any(|problem| problem.severity == Severity::Error) {
            return Err(sorted(problems));
        }
        let surroundings = Arc::new(Surroundings {
            databases: databases(&model, &root, &secrets),
            mail: mail_server(&model, &secrets).map(Arc::new),
            commands: Commands {
                allow: model.exec.iter().flat_map(|exec| &exec.allow).map(|command| command.value.clone()).collect(),
                folder: root.clone(),
            },
            env,
            secrets: Secrets::new(secrets),
            http: HttpRules {
                timeout: model.http.timeout(),
                allow: model.http.allow.iter().map(|network| network.value).collect(),
                private_allowed: mode != Mode::Run,
            },
            limits: RunLimits {
                memory_bytes: model.limits.memory_bytes(),
                steps: model.limits.steps(),
                journal_bytes: model.limits.journal_bytes(),
                ..RunLimits::default()
            },
            outside: None,
        });
        let hash = hash(&model, loaded.source.as_ref(), &documents, &functions);
        let index = index(&model, schemas, &functions);
        let project = Project {
            config: model,
            root,
            functions,
            webhooks,
            surroundings,
            has_clock: true,
            hash,
            started_alone: None,
            index: Arc::new(index),
        };
        Ok((project, sorted(problems)))
    }
}

/// The commands that scripts may run.
fn commands(model: &Model) -> impl Iterator<Item = &str> {
    model.exec.iter().flat_map(|exec| &exec.allow).map(|command| command.value.as_str())
}

pub(super) type SecretValues = BTreeMap<String, Option<String>>;

fn secret(secrets: &SecretValues, name: Option<&Spanned<String>>) -> Option<String> {
    secrets.get(&name?.value).cloned().flatten()
}

fn databases(model: &Model, root: &Path, secrets: &SecretValues) -> Databases {
    let address = |database: &Database| {
        Some(match database.kind()? {
            DatabaseKind::File(path) => Address::Sqlite(root.join(path)),
            DatabaseKind::Server(url) => Address::Postgres { url: url.to_owned(), password: secret(secrets, database.password.as_ref()) },
        })
    };
    let all = model.databases.iter().filter_map(|(name, database)| Some((name.value.clone(), address(database)?)));
    Databases::new(all.collect())
}

fn mail_server(model: &Model, secrets: &SecretValues) -> Option<MailServer> {
    let email = model.email.as_ref()?;
    let server = email.server()?;
    let protection = match (server.is_wrapped, email.starttls()) {
        (true, _) => Protection::Whole,
        (false, StartTls::Required) => Protection::Required,
        (false, StartTls::Offered) => Protection::Offered,
        (false, StartTls::Never) => Protection::Absent,
    };
    let login = server.user.zip(secret(secrets, email.password.as_ref()));
    let from = email.from.as_ref().map(|from| from.value.clone());
    Some(MailServer { host: server.host, port: server.port, protection, login, from })
}

/// In the order of files and positions; what has no place comes first. What two handlers tell of a file that both import is told
/// once.
fn sorted(mut problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    fn order(problem: &Diagnostic) -> (Option<(&str, usize)>, &str, &str) {
        let place = problem.places.first().map(|place| (place.source.name.as_str(), place.range.start));
        (place, problem.code, problem.message.as_str())
    }
    problems.sort_by(|one, other| order(one).cmp(&order(other)));
    problems.dedup();
    problems
}

fn load_schemas(model: &Model, documents: &mut Documents, problems: &mut Vec<Diagnostic>) -> HashMap<String, Schema> {
    let mut addresses: Vec<(&str, String)> = Vec::new();
    for (name, event) in model.events.iter() {
        let Some(declared) = &event.schema else { continue };
        let address = match &declared.value {
            EventSchema::File(path) => documents.file(path, &declared.place),
            EventSchema::Inline(inline) => Some(documents.inline(&name.value, inline)),
        };
        addresses.extend(address.map(|address| (name.value.as_str(), address)));
    }
    let read: Vec<String> = documents.addresses().map(str::to_owned).collect();
    let mut found = std::mem::take(&mut documents.problems);
    found.extend(read.iter().flat_map(|address| schema::inspect(documents, address)));
    let sound = !found.iter().any(|problem| problem.severity == Severity::Error);
    problems.extend(found);
    let shelf = schema::shelf(documents);
    let mut schemas = HashMap::new();
    for (name, address) in addresses {
        match schema::compile(documents, &shelf, &address) {
            Ok(schema) => {
                schemas.insert(name.to_owned(), schema);
            }
            Err(broken) if sound => problems.extend(broken),
            // A broken document that is part of it has been told of already.
            Err(_) => {}
        }
    }
    schemas
}

/// An example has to be an event that the engine would accept.
fn check_examples(model: &Model, schemas: &HashMap<String, Schema>, problems: &mut Vec<Diagnostic>) {
    for (name, event) in model.events.iter() {
        let Some(example) = &event.example else { continue };
        let value = &example.value.value;
        let place = |pointer: &str| example.value.place(pointer).cloned().unwrap_or_else(|| example.place.clone());
        let wrong: Vec<EventProblem> = match schemas.get(&name.value) {
            _ if !value.is_object() => vec![EventProblem::new("E0208", "", "an event's data are an object")],
            Some(schema) => schema.violations(value, ""),
            None => Vec::new(),
        };
        for problem in wrong {
            let at = if problem.pointer.is_empty() { String::new() } else { format!(" at {}", problem.pointer) };
            let message = format!("the example of {} does not fit its schema{at}: {}", name.value, problem.message);
            let told = Diagnostic::error("E0208", message).at(place(&problem.pointer));
            problems.push(match problem.help {
                Some(help) => told.help(help),
                None => told,
            });
        }
    }
}

type Environment = (BTreeMap<String, String>, BTreeMap<String, Option<String>>);

fn read_environment(model: &Model, env: &dyn Fn(&str) -> Option<String>, mode: Mode, problems: &mut Vec<Diagnostic>) -> Environment {
    let values =
        model.env.iter().map(|(name, default)| (name.value.clone(), env(&name.value).unwrap_or_else(|| default.value.0.clone()))).collect();
    let mut secrets = BTreeMap::new();
    for name in &model.secrets {
        let value = env(&name.value).filter(|value| !value.is_empty());
        let place = name.place.clone();
        match &value {
            Some(value) if value.len() < SECRET_LEAST_BYTES => {
                let message = format!("the secret `{}` has {} bytes; at least {SECRET_LEAST_BYTES} are needed", name.value, value.len());
                let help = "a short secret cannot be told from ordinary text, so the engine could not keep it out of logs and results";
                problems.push(Diagnostic::error("E0214", message).at(place).help(help));
            }
            None => problems.extend(missing_secret(name, mode)),
            Some(_) => {}
        }
        secrets.insert(name.value.clone(), value);
    }
    (values, secrets)
}

fn missing_secret(name: &Spanned<String>, mode: Mode) -> Option<Diagnostic> {
    let message = format!("the secret `{}` is not in the environment", name.value);
    let problem = match mode {
        Mode::Run | Mode::Dev => Diagnostic::error("E0213", message),
        Mode::Check | Mode::Plan => Diagnostic::note("N0213", message),
        Mode::Try | Mode::Test => return None,
    };
    Some(problem.at(name.place.clone()).help(format!("set it where the engine is started: {}=…", name.value)))
}

/// Compiles each script once, however many functions use it, so that its problems are told once.
struct Scripts<'a> {
    host: &'a Arc<Host>,
    root: &'a Path,
    model: &'a Model,
    schemas: &'a HashMap<String, Schema>,
    /// Whether every file of the config could be read.
    is_whole: bool,
    /// By path, and whether it is compiled as a script for failures.
    done: HashMap<(String, bool), Result<Arc<Program>, Box<Refused>>>,
    /// What each of them may be given, over all functions that it serves.
    given: HashMap<(String, bool), Given<'a>>,
}

/// What a script names, reads and hands out, whether it is a program or not.
fn known_of(script: &Result<Arc<Program>, Box<Refused>>) -> (&[Use], &Facts) {
    match script {
        Ok(program) => (program.uses(), program.facts()),
        Err(refused) => (refused.uses.as_slice(), &refused.facts),
    }
}

impl<'a> Scripts<'a> {
    /// A name in a script that the config does not list.
    fn unlisted(&self, used: &Use) -> Option<Diagnostic> {
        let name = used.name.as_str();
        let model = self.model;
        let (env, secrets) = (&self.model.env, &self.model.secrets);
        let is_secret = secrets.iter().any(|secret| secret.value == name);
        let problem = match &used.kind {
            UseKind::Event | UseKind::Awaited if name.ends_with('*') => {
                let problem = Diagnostic::error("E0218", format!("`{name}` is a family, and an event is named whole here"));
                problem.help("wait_for_any waits for one of several events")
            }
            UseKind::Event | UseKind::Awaited if model.event(name).is_some() || model.unknown_events() == UnknownEvents::Accept => {
                return None;
            }
            UseKind::Event | UseKind::Awaited => {
                Diagnostic::error("E0218", format!("no event `{name}` is declared")).nearest(name, model.events.names())
            }
            UseKind::Function if model.functions.names().any(|id| id == name) => return None,
            UseKind::Function => {
                Diagnostic::error("E0219", format!("there is no function `{name}`")).nearest(name, model.functions.names())
            }
            UseKind::Env if env.get(name).is_some() => return None,
            UseKind::Env => {
                let problem = Diagnostic::error("E0215", format!("`{name}` is not listed under `env`"));
                if is_secret { problem.help(format!("it is a secret: `secret(\"{name}\")`")) } else { problem.nearest(name, env.names()) }
            }
            UseKind::Secret if is_secret => return None,
            UseKind::Secret => {
                let problem = Diagnostic::error("E0216", format!("`{name}` is not listed under `secrets`"));
                problem.nearest(name, secrets.iter().map(|secret| secret.value.as_str()))
            }
            UseKind::Database if model.databases.get(name).is_some() => return None,
            UseKind::Database => Diagnostic::error("E0430", format!("no database `{name}` is named under `databases`"))
                .nearest(name, model.databases.names()),
            UseKind::Command if commands(model).any(|command| command == name) => return None,
            UseKind::Command => {
                let problem = Diagnostic::error("E0432", format!("the command `{name}` is not allowed")).nearest(name, commands(model));
                if problem.helps.is_empty() {
                    problem.help(format!("if handlers may run it: exec: {{ allow: [\"{name}\"] }}"))
                } else {
                    problem
                }
            }
            UseKind::Mail if model.email.is_some() => return None,
            UseKind::Mail => {
                let problem = Diagnostic::error("E0431", "no mail server is named under `email`").at(used.place.clone());
                return Some(problem.help("email: { smtp: \"smtp://mail.example.com:587\", from: … }"));
            }
            UseKind::Sleep | UseKind::Condition { .. } => return None,
        };
        // The script gives the place where the text begins; the caret underlines all of it, with its quotes.
        let problem = problem.at(used.place.clone().quoted(name));
        Some(if problem.helps.is_empty() { problem.help("a script reads only what events.yaml names") } else { problem })
    }

    /// Checks what scripts read of events and what they hand to others, once it is known which events start them.
    fn check(&mut self, problems: &mut Vec<Diagnostic>) {
        self.open_what_is_invoked();
        // Where a file of the config could not be read, an event may be declared there.
        let scripts = self.done.iter().filter(|_| self.is_whole).map(|(key, script)| (key, known_of(script)));
        let (model, schemas) = (self.model, self.schemas);
        let declared = move |name: &str| seen_by(name, model, schemas);
        for (key, (uses, facts)) in scripts {
            let none = Given::default();
            let given = self.given.get(key).unwrap_or(&none);
            reads::check(facts, given, &declared, &|name| self.host.has_field(name), problems);
            let own = if given.is_open { &[] } else { given.events.as_slice() };
            for handed in &facts.handed {
                let to = match handed.is_call {
                    false => self.model.event(&handed.to).map(|(name, _)| name.value.as_str()),
                    true => self.model.functions.get(&handed.to).and_then(|function| match function.on.as_slice() {
                        [only] => Some(only.event.value.as_str()),
                        _ => None,
                    }),
                };
                let look_up = |read: &Read| reads::types(read, given, &declared);
                handed::check(handed, to.and_then(|to| self.schemas.get(to)), &look_up, problems);
            }
            for used in uses {
                if let UseKind::Condition { event } = &used.kind {
                    let text = Spanned::new(used.name.clone(), used.place.clone());
                    expressions::compile_match(&text, "condition", own, &declared(event), problems);
                }
            }
        }
    }

    /// Counts a script as open where another one may invoke its function with data that nobody checks. An invocation whose name is
    /// worked out may be of any function; so may one in a script that could not be read.
    fn open_what_is_invoked(&mut self) {
        let (mut invoked, mut calls, mut named) = (BTreeSet::new(), 0, 0);
        for used in self.done.values().flat_map(|script| known_of(script).0) {
            match used.kind {
                UseKind::Function => {
                    invoked.insert(used.name.as_str());
                    named += 1;
                }
                UseKind::Sleep if used.name == "invoke" => calls += 1,
                _ => {}
            }
        }
        let is_any = calls > named || self.done.values().any(Result::is_err);
        for given in self.given.values_mut() {
            given.is_open |= given.unchecked.iter().any(|id| is_any || invoked.contains(id));
        }
    }

    /// Notes the events that a function is started by, for its scripts; `unchecked` is its id where nobody checks what it is invoked
    /// with.
    fn give(&mut self, declared: &config::Function, events: &[Seen<'a>], is_open: bool, unchecked: Option<&'a str>, conditions: &[&Expr]) {
        let scripts = std::iter::once((&declared.handler, false)).chain(declared.on_failure.as_ref().map(|script| (script, true)));
        for (script, for_failures) in scripts {
            let given = self.given.entry((script.value.clone(), for_failures)).or_default();
            for event in
                events.iter().filter(|event| !given.events.iter().any(|known| known.name == event.name)).copied().collect::<Vec<_>>()
            {
                given.events.push(event);
            }
            given.is_open |= is_open;
            given.unchecked.extend(unchecked);
            conditions.iter().for_each(|condition| given.test(condition));
        }
    }

    /// Compiles a script; one for failures sees `error` too.
    fn program(&mut self, handler: &Spanned<String>, for_failures: bool, problems: &mut Vec<Diagnostic>) -> Option<Arc<Program>> {
        let key = (handler.value.clone(), for_failures);
        if let Some(done) = self.done.get(&key) {
            return done.as_ref().ok().cloned();
        }
        let script = self.host.inspect(self.root, &handler.value, for_failures).map(Arc::new);
        let found = match &script {
            Ok(program) => program.warnings(),
            Err(refused) => refused.problems.as_slice(),
        };
        // A file that cannot be read has no place of its own: the config names it.
        let placed = |problem: Diagnostic| if problem.places.is_empty() { problem.at(handler.place.clone()) } else { problem };
        problems.extend(found.iter().cloned().map(placed));
        if self.is_whole {
            problems.extend(known_of(&script).0.iter().filter_map(|used| self.unlisted(used)));
        }
        let program = script.as_ref().ok().cloned();
        self.done.insert(key, script);
        program
    }
}

fn function<'a>(
    id: &'a Spanned<String>,
    declared: &'a config::Function,
    model: &'a Model,
    schemas: &'a HashMap<String, Schema>,
    scripts: &mut Scripts<'a>,
    problems: &mut Vec<Diagnostic>,
) -> Option<Arc<Function>> {
    let mut all: Vec<Seen<'a>> = Vec::new();
    let mut triggers = Vec::new();
    // A start by the clock or by another function brings data of which no event is declared.
    let mut is_open = declared.on.is_empty() || !declared.cron.is_empty();
    // What it is invoked with is held against the schema of its event, if it has exactly one.
    let mut is_checked = declared.on.len() == 1;
    for trigger in &declared.on {
        let seen = seen_by(&trigger.event.value, model, schemas);
        let condition = trigger.condition.as_ref().and_then(|text| expressions::compile(text, "condition", &seen, problems));
        triggers.push(Trigger { event: Arc::from(trigger.event.value.as_str()), condition });
        let is_declared = model.event(&trigger.event.value).is_some();
        // Of a family that is not declared itself, events come that are not declared at all.
        is_open |= seen.is_empty() || (!is_declared && model.unknown_events() == UnknownEvents::Accept);
        is_checked &= is_declared;
        all.extend(seen);
    }
    let unchecked = (!is_checked).then_some(id.value.as_str());
    let conditions: Vec<&Expr> = triggers.iter().filter_map(|trigger| trigger.condition.as_ref()).collect();
    scripts.give(declared, &all, is_open, unchecked, &conditions);
    let by_clock_alone = declared.on.is_empty() && !declared.cron.is_empty();
    let mut compile = |text: &Option<Spanned<String>>, what: &str| {
        let text = text.as_ref()?;
        let expr = expressions::compile(text, what, &all, problems)?;
        if by_clock_alone {
            expressions::check_by_clock(&expr, text, what, problems);
        }
        Some(expr)
    };
    let keys = declared.concurrency.iter().map(|limit| compile(&limit.key, "key")).collect();
    let idempotency = compile(&declared.idempotency, "idempotency key");
    let priority = compile(&declared.priority, "priority");
    let throttle = declared.throttle.as_ref().map(|throttle| &throttle.value);
    let throttle_key = throttle.and_then(|throttle| compile(&throttle.key, "throttle's key"));
    let rate_limit = declared.rate_limit.as_ref().map(|rate| (rate.value.policy(), compile(&rate.value.key, "rate limit's key")));
    let singleton =
        declared.singleton.as_ref().map(|singleton| (singleton.value.policy(), compile(&singleton.value.key, "singleton's key")));
    let debounce = declared.debounce.as_ref().map(|debounce| &debounce.value);
    let batch = declared.batch.as_ref().map(|batch| &batch.value);
    let collect = debounce.map(config::Debounce::policy).or(batch.map(config::Batch::policy));
    let collect_key = debounce
        .and_then(|debounce| compile(&debounce.key, "debounce's key"))
        .or_else(|| batch.and_then(|batch| compile(&batch.key, "batch's key")));
    let collect_if = batch.and_then(|batch| compile(&batch.condition, "condition"));
    if let (Some(priority), Some(text)) = (&priority, &declared.priority) {
        problems.extend(expressions::constant_priority(priority, text));
    }
    let program = scripts.program(&declared.handler, false, problems);
    let failures = declared.on_failure.as_ref().map(|script| scripts.program(script, true, problems));
    let mut cancels = Vec::new();
    for cancel in &declared.cancel_on {
        let Some(event) = &cancel.event else { continue };
        let other = seen_by(&event.value, model, schemas);
        let compile = |text| expressions::compile_match(text, "condition", &all, &other, problems);
        let condition = cancel.condition.as_ref().and_then(compile);
        let timeout = cancel.timeout.as_ref().map(|timeout| timeout.value);
        cancels.push(Cancel { event: Arc::from(event.value.as_str()), timeout, condition });
    }
    let program = program?;
    problems.extend(holds_while_it_sleeps(id, declared, &program));
    let on_failure = match failures {
        Some(program) => Some(Arc::new(failure_function(id, declared, model, program?))),
        None => None,
    };
    Some(Arc::new(Function {
        id: Arc::from(id.value.as_str()),
        place: id.place.clone(),
        triggers,
        crons: declared.cron.iter().filter_map(|cron| cron.policy()).collect(),
        retry: declared.retry(&model.defaults),
        timeouts: declared.timeouts(&model.defaults),
        limits: declared.concurrency.iter().map(config::Concurrency::policy).collect(),
        versions: declared.versions(&model.versions),
        program,
        cancels,
        on_failure,
        keys,
        idempotency,
        priority,
        throttle: throttle.map(config::Throttle::policy),
        throttle_key,
        collect,
        collect_key,
        collect_if,
        rate_limit,
        singleton,
        warned: Warned::default(),
    }))
}

/// The function that an `on_failure` script is: it has the attempts of its function, and no limits.
fn failure_function(id: &Spanned<String>, declared: &config::Function, model: &Model, program: Arc<Program>) -> Function {
    let step = declared.timeouts(&model.defaults).step;
    Function {
        id: Arc::from(ended::on_failure_of(&id.value)),
        place: id.place.clone(),
        triggers: Vec::new(),
        retry: declared.retry(&model.defaults),
        timeouts: Timeouts { start: None, finish: None, step },
        limits: Vec::new(),
        versions: declared.versions(&model.versions),
        program,
        cancels: Vec::new(),
        on_failure: None,
        crons: Vec::new(),
        keys: Vec::new(),
        idempotency: None,
        priority: None,
        throttle: None,
        throttle_key: None,
        rate_limit: None,
        singleton: None,
        collect: None,
        collect_key: None,
        collect_if: None,
        warned: Warned::default(),
    }
}

/// A note on a script that sleeps while it holds its slot: the runs of its key queue up behind the sleep.
fn holds_while_it_sleeps(id: &Spanned<String>, declared: &config::Function, program: &Program) -> Option<Diagnostic> {
    // Who writes `hold: run` knows what it means.
    let holds = declared.concurrency.iter().any(|limit| limit.hold.is_none() && limit.policy().hold == Hold::Run);
    let sleep = program.uses().iter().find(|used| used.kind == UseKind::Sleep).filter(|_| holds)?;
    let (does, during) = if sleep.name.starts_with("sleep") { ("sleeps", "a sleep") } else { ("waits", "a wait") };
    let message = format!("`{}` keeps its concurrency slot while it {does}, and the other runs of its key wait", id.value);
    let note = Diagnostic::note("N0217", message).at(sleep.place.clone());
    Some(note.help(format!("that keeps the runs of a key from overlapping; with `hold: active` the slot is free during {during}; `hold: run` says that this is meant")))
}

/// The declared events that a trigger may be given: the one of that name, or those of the family.
fn seen_by<'a>(trigger: &str, model: &'a Model, schemas: &'a HashMap<String, Schema>) -> Vec<Seen<'a>> {
    let seen = |(name, _): (&'a Spanned<String>, &'a Event)| Seen { name: &name.value, schema: schemas.get(&name.value) };
    let of_family: Vec<_> = model.events.iter().filter(|(name, _)| in_family(&name.value, trigger)).map(seen).collect();
    if of_family.is_empty() { model.event(trigger).into_iter().map(seen).collect() } else { of_family }
}

fn index(model: &Model, mut schemas: HashMap<String, Schema>, functions: &[Arc<Function>]) -> Index {
    let mut families: Vec<(String, String)> =
        model.events.names().filter_map(|name| Some((name.strip_suffix('*')?.to_owned(), name.to_owned()))).collect();
    families.sort_by_key(|(stem, _)| std::cmp::Reverse(stem.len()));
    let (mut started, mut started_by_family) = (HashMap::<Arc<str>, Vec<usize>>::new(), Vec::new());
    for (at, function) in functions.iter().enumerate() {
        for event in function.events() {
            match event.strip_suffix('*') {
                Some(stem) => started_by_family.push((stem.to_owned(), at)),
                None => started.entry(Arc::clone(event)).or_default().push(at),
            }
        }
    }
    Index {
        events: Arc::new(model.events.names().map(|name| (name.to_owned(), schemas.remove(name))).collect()),
        families,
        functions: functions.iter().enumerate().map(|(at, function)| (Arc::clone(&function.id), at)).collect(),
        started,
        started_by_family,
    }
}

/// A hash over the texts of the config's files, the schema files, and the scripts.
fn hash(model: &Model, main: Option<&Arc<Source>>, documents: &Documents, functions: &[Arc<Function>]) -> String {
    let mut texts: BTreeMap<&str, &str> = BTreeMap::new();
    texts.extend(main.map(|source| (source.name.as_str(), source.text.as_str())));
    // Included files show in the places of what they declare.
    let places = model.events.iter().map(|(name, _)| &name.place).chain(model.functions.iter().map(|(id, _)| &id.place));
    let places = places.chain(model.env.iter().map(|(name, _)| &name.place)).chain(model.secrets.iter().map(|name| &name.place));
    let places = places.chain(model.webhooks.iter().map(|(name, _)| &name.place));
    texts.extend(places.map(|place: &Location| (place.source.name.as_str(), place.source.text.as_str())));
    texts.extend(documents.files());
    let mut digest = Sha256::new();
    let mut part = |text: &str| {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text.as_bytes());
    };
    for (name, text) in texts {
        part(name);
        part(text);
    }
    for function in functions {
        part(&function.id);
        part(function.program.hash());
        if let Some(failures) = &function.on_failure {
            part(failures.program.hash());
        }
    }
    hex::encode(&digest.finalize())
}
