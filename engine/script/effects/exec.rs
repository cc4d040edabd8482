//! `exec::run`: a command that events.yaml allows by name, without a shell, without the engine's environment.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use rhai::{Array, Blob, Dynamic, Engine, Map, Module};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::apart::{self, Outcome};
use super::mocked;
use crate::base::diagnostic::nearest;
use crate::base::{Span, alloc};
use crate::script::api::demand_step;
use crate::script::attempt::current;
use crate::script::error::{Fault, Thrown};
use crate::script::outside::{Answer, Errand};
use crate::script::time;
use crate::script::value::Secret;

/// Largest output of a command, of each of its two streams, in bytes.
const OUTPUT_BYTES: usize = 4 * 1024 * 1024;
/// Most arguments, and the largest of all together, in bytes.
const ARGUMENTS_MOST: (usize, usize) = (1_000, 100_000);
/// What an error shows of what the command said, in bytes.
const SHOWN_BYTES: usize = 2_000;
/// Variables of the engine's own environment that a command gets; its secrets are in others.
const ENVIRONMENT: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];
/// The options of a command.
pub(in crate::script) const OPTIONS: [&str; 4] = ["stdin", "timeout", "env", "allow_status"];

/// The commands that handlers may run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commands {
    /// Their names or paths, as handlers write them.
    pub allow: Vec<String>,
    /// The folder that they run in.
    pub folder: PathBuf,
}

pub(in crate::script) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("run", |command: &str| run(command, &Array::new(), &Map::new()));
    module.set_native_fn("run", |command: &str, arguments: Array| run(command, &arguments, &Map::new()));
    module.set_native_fn("run", |command: &str, arguments: Array, options: Map| run(command, &arguments, &options));
    engine.register_static_module("exec", module.into());
}

fn bad(message: impl Into<String>) -> Fault {
    Thrown::last("E0407", message).fault()
}

/// A text, a number, a flag or a secret, as it is handed over.
fn plain(value: &Dynamic, what: &str) -> Result<String, Fault> {
    let text = if let Ok(text) = value.as_immutable_string_ref() {
        text.to_string()
    } else if let Some(secret) = value.read_lock::<Secret>() {
        secret.value.to_string()
    } else if value.is_int() || value.is_float() || value.is_bool() {
        value.to_string()
    } else {
        return Err(bad(format!("{what} is a text or a number, not {}", value.type_name())));
    };
    if text.contains('\0') {
        return Err(bad(format!("{what} has a NUL byte in it")));
    }
    Ok(text)
}

struct Wanted {
    command: Command,
    /// The arguments that are no secrets.
    shown: Vec<String>,
    stdin: Option<Vec<u8>>,
    timeout: Option<Span>,
    allowed: Vec<i64>,
}

/// What came of it.
struct Ended {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

fn wanted(commands: &Commands, name: &str, arguments: &Array, options: &Map) -> Result<Wanted, Fault> {
    if !commands.allow.iter().any(|known| known == name) {
        let thrown = Thrown::last("E0432", format!("exec::run: events.yaml does not allow the command `{name}`"));
        return Err(match nearest(name, commands.allow.iter().map(String::as_str)) {
            Some(near) => thrown.help(format!("did you mean `{near}`?")),
            None => thrown.help(format!("if handlers may run it, add to events.yaml: exec: {{ allow: [\"{name}\"] }}")),
        }
        .fault());
    }
    if let Some(other) = options.keys().find(|name| !OPTIONS.contains(&name.as_str())) {
        let help = nearest(other, OPTIONS).map_or_else(|| OPTIONS.join(", "), |near| format!("did you mean `{near}`?"));
        return Err(Thrown::last("E0407", format!("exec::run has no option `{other}`")).help(help).fault());
    }
    let texts: Result<Vec<String>, Fault> =
        arguments.iter().enumerate().map(|(at, value)| plain(value, &format!("argument {} of `{name}`", at + 1))).collect();
    let texts = texts?;
    if texts.len() > ARGUMENTS_MOST.0 || texts.iter().map(String::len).sum::<usize>() > ARGUMENTS_MOST.1 {
        return Err(bad(format!("a command takes at most {} arguments of {} bytes together", ARGUMENTS_MOST.0, ARGUMENTS_MOST.1)));
    }
    let is_shown = |value: &&Dynamic| !value.is::<Secret>();
    let shown = arguments.iter().zip(&texts).filter(|(value, _)| is_shown(value)).map(|(_, text)| text.clone()).collect();
    let mut command = Command::new(name);
    command.args(texts).current_dir(&commands.folder).env_clear();
    command.envs(ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    if let Some(given) = options.get("env") {
        let map = given.read_lock::<Map>().ok_or_else(|| bad("env is a map"))?;
        for (name, value) in map.iter() {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(bad(format!("`{name}` is not the name of a variable")));
            }
            // By these a command that is allowed would become any other.
            if name == "PATH" || ["LD_", "DYLD_"].iter().any(|stem| name.starts_with(stem)) {
                return Err(bad(format!("`{name}` decides which code runs, so a handler may not set it")));
            }
            command.env(name.as_str(), plain(value, &format!("env.{name}"))?);
        }
    }
    let stdin = match options.get("stdin").filter(|value| !value.is_unit()) {
        None => None,
        Some(value) => Some(match value.read_lock::<Blob>() {
            Some(bytes) => bytes.to_vec(),
            None => plain(value, "stdin")?.into_bytes(),
        }),
    };
    let allowed = match options.get("allow_status") {
        None => vec![0],
        Some(value) => {
            let list = value.read_lock::<Array>().ok_or_else(|| bad("allow_status is a list of numbers"))?;
            let numbers: Result<Vec<i64>, _> = list.iter().map(Dynamic::as_int).collect();
            let mut numbers = numbers.map_err(|_| bad("allow_status is a list of numbers"))?;
            numbers.push(0);
            numbers
        }
    };
    let timeout = options.get("timeout").map(time::period).transpose()?.map(|period| period.0);
    Ok(Wanted { command, shown, stdin, timeout, allowed })
}

fn run(name: &str, arguments: &Array, options: &Map) -> Result<Map, Fault> {
    let attempt = current()?;
    let inside = demand_step(&attempt, "exec::run")?;
    let wanted = alloc::uncounted(|| wanted(&attempt.call.surroundings.commands, name, arguments, options))?;
    let Wanted { command, shown, stdin, timeout, allowed } = wanted;
    let began = attempt.now();
    let failed = |why: String| Thrown::new("E0432", format!("`{name}`: {why}")).fault();
    let late = || {
        let limit = timeout.unwrap_or_default();
        Thrown::new("E0432", format!("`{name}` was ended: it took longer than {limit}")).fault()
    };
    let (status, stdout, stderr) = if let Some(outside) = attempt.call.surroundings.outside.as_deref() {
        let errand = Errand::Exec { command: name, arguments: &shown, stdin: stdin.as_deref() };
        let answer = mocked::ask(outside, &attempt, &inside, errand, timeout);
        alloc::uncounted(|| drop((command, shown, stdin)));
        match answer? {
            Some(Answer::Ended { status, stdout, stderr }) => (Some(i64::from(status)), stdout, stderr),
            Some(Answer::Broken(why)) => return Err(failed(why)),
            None => return Err(late()),
            Some(_) => return Err(mocked::unfit()),
        }
    } else {
        alloc::uncounted(|| drop(shown));
        let ended = match apart::task(&attempt, "exec::run", timeout, perform(command, stdin))? {
            Outcome::Done(Ok(ended)) => ended,
            Outcome::Done(Err(why)) | Outcome::Broken(why) => return Err(failed(why)),
            Outcome::Late => return Err(late()),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let told = (ended.status.code().map(i64::from), text(&ended.stdout), text(&ended.stderr));
        alloc::uncounted(|| drop(ended));
        told
    };
    if status.is_none_or(|status| !allowed.contains(&status)) {
        let how = status.map_or_else(|| "was ended by a signal".to_owned(), |status| format!("ended with status {status}"));
        let said = stderr.trim();
        let mut end = said.len().min(SHOWN_BYTES);
        while !said.is_char_boundary(end) {
            end -= 1;
        }
        let message = if end == 0 { format!("`{name}` {how}") } else { format!("`{name}` {how}: {}", &said[..end]) };
        return Err(Thrown::new("E0432", message).data(serde_json::json!({ "status": status, "stderr": &said[..end] })).fault());
    }
    let mut map = Map::new();
    map.insert("status".into(), status.unwrap_or_default().into());
    map.insert("stdout".into(), stdout.into());
    map.insert("stderr".into(), stderr.into());
    map.insert("ms".into(), attempt.now().since(began).0.into());
    Ok(map)
}

/// A command with all that it starts; they are ended where nobody waits for them any more.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // It has an id until it has been waited for, and until then no other process has that id.
        let id = self.0.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(id) = id {
            // It may have ended by itself this moment.
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }
}

async fn perform(mut command: Command, stdin: Option<Vec<u8>>) -> Result<Ended, String> {
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such command".to_owned(),
        _ => error.to_string(),
    })?;
    let mut group = Group(child);
    let (input, out, err) = (group.0.stdin.take(), group.0.stdout.take(), group.0.stderr.take());
    let feed = async {
        if let (Some(mut input), Some(bytes)) = (input, stdin) {
            // A command that does not read to the end has its reasons.
            let _ = input.write_all(&bytes).await;
        }
        Ok(())
    };
    let ((), stdout, stderr) = tokio::try_join!(feed, read(out, "output"), read(err, "standard error"))?;
    let status = group.0.wait().await.map_err(|error| error.to_string())?;
    Ok(Ended { status, stdout, stderr })
}

async fn read(stream: Option<impl AsyncRead + Unpin>, what: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(OUTPUT_BYTES as u64 + 1).read_to_end(&mut bytes).await.map_err(|error| error.to_string())?;
    }
    if bytes.len() > OUTPUT_BYTES {
        return Err(format!("its {what} is larger than {} MB", OUTPUT_BYTES / (1024 * 1024)));
    }
    Ok(bytes)
}
