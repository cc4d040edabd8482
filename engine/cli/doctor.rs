//! `stepwell doctor`: is everything sound? Each line is a check; what is wrong says what to do.

use crate::base::{Clock as _, Diagnostic, Severity};
use crate::clock::SystemClock;
use crate::exec::doctor::{self, Check, Finding};
use crate::project::{Mode, Project};
use crate::script::Host;
use crate::store::sqlite::{OpenError, Options, Sqlite};

use super::exit::{Exit, Trouble};
use super::out::{BOLD, DIM, GREEN, Out, RED, YELLOW, count, paint, shown};
use super::place::{self, ConfigArgument};
use super::remote::Remote;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    #[command(flatten)]
    config: ConfigArgument,
    /// The database [default: the config's]
    #[arg(long, value_name = "FILE")]
    database: Option<std::path::PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Only ask the running engine whether it takes events: exit 0, or 69
    #[arg(long)]
    ready: bool,
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Report<'a> {
    /// Whether nothing is wrong; what is only noted does not count.
    ok: bool,
    checks: &'a [Check],
}

impl Doctor {
    /// Makes the checks and prints a line each.
    ///
    /// # Errors
    /// Exit 78 for an invalid config, 74 for a database that is not sound; both are said in the lines already.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let path = place::config(self.config.config.as_deref())?;
        if self.ready {
            return super::runtime()?.block_on(ready(out, &path));
        }
        let model = crate::config::load(&path).model.unwrap_or_default();
        let loaded = Project::load(&path, &Host::new(), &place::environment, Mode::Check);
        let mut checks = config(&path, &loaded);
        let config_is_ill = checks.iter().any(|check| check.finding == Finding::Ill);
        let project = loaded.as_ref().ok().map(|(project, _)| project);
        let database = self.database.clone().unwrap_or_else(|| place::database(&model, place::root(&path)));
        let before = checks.len();
        match Sqlite::open(&database, Options { read_only: true, ..Options::default() }) {
            Ok(store) => {
                checks.extend(engine(&database, &path)?);
                checks.extend(doctor::examine(&store, project, SystemClock::default().now(), true));
            }
            Err(OpenError::Missing) => {
                checks.push(Check::note("database", format!("none yet at {}", database.display()), "`stepwell dev` makes it"));
            }
            Err(error) => checks.push(Check::ill("database", format!("{}: {error}", database.display()), advice(&error))),
        }
        let rest_is_ill = checks[before..].iter().any(|check| check.finding == Finding::Ill);
        if self.json {
            let report = Report { ok: !config_is_ill && !rest_is_ill, checks: &checks };
            out.json(&serde_json::to_value(&report).unwrap_or_default())?;
        } else {
            checks.iter().try_for_each(|check| say(out, check))?;
        }
        Ok(match (config_is_ill, rest_is_ill) {
            (_, true) => Exit::Io,
            (true, false) => Exit::Config,
            (false, false) => Exit::Done,
        })
    }
}

/// The code of the note about a secret that the environment does not have.
const NO_SECRET: &str = "N0213";

/// Whether the config can be put in force, and with the secrets of this environment.
fn config(path: &std::path::Path, loaded: &Result<(Project, Vec<Diagnostic>), Vec<Diagnostic>>) -> Vec<Check> {
    const SEE: &str = "see them with `stepwell validate`";
    let of = |problems: &[Diagnostic], severity: Severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let (project, problems) = match loaded {
        Ok((project, problems)) => (project, problems),
        Err(problems) => {
            let errors = count(of(problems, Severity::Error), "error");
            return vec![Check::ill("config", format!("{}: {errors}", path.display()), SEE)];
        }
    };
    let (events, functions) = (count(project.config.events.len(), "event"), count(project.functions.len(), "function"));
    let text = format!("{}: {events}, {functions}", path.display());
    let mut checks = vec![match of(problems, Severity::Warning) {
        0 => Check::well("config", text),
        warnings => Check::note("config", format!("{text}, {}", count(warnings, "warning")), SEE),
    }];
    let missing: Vec<&str> = problems.iter().filter(|problem| problem.code == NO_SECRET).map(|problem| problem.message.as_str()).collect();
    if !missing.is_empty() {
        let advice = "an engine that is started in this environment does not begin: set it, or start from where it is set";
        checks.push(Check::note("secrets", missing.join("; "), advice));
    }
    checks
}

/// The engine that a config starts, unless another one is named.
fn remote(config: &std::path::Path) -> Result<Remote, Trouble> {
    let named = super::remote::variable("STEPWELL_URL");
    Remote::new(&named.map_or_else(|| place::engine_url(Some(config)), Ok)?)
}

/// Asks the engine that a config starts whether it takes events.
async fn ready(out: &Out, config: &std::path::Path) -> Result<Exit, Trouble> {
    let answer = remote(config)?.get("/ready", &[]).await?;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
    out.line(answer["message"].as_str().unwrap_or("ready"))?;
    Ok(Exit::Done)
}

/// Who holds the database, and how that one is: what is wrong with it is told beside the lock, which is as it should be.
fn engine(database: &std::path::Path, config: &std::path::Path) -> Result<Vec<Check>, Trouble> {
    let Some(pid) = Sqlite::owner(database) else { return Ok(vec![Check::well("lock", "free: no engine is running")]) };
    let mut checks = vec![Check::well("lock", format!("an engine is running (process {pid})"))];
    match remote(config) {
        Ok(remote) => checks.extend(super::runtime()?.block_on(told(&remote))),
        Err(_) => checks.push(Check::note("engine", "where it listens is not known, so it was not asked how it is", NAME_IT)),
    }
    Ok(checks)
}

/// What helps where an engine listens elsewhere than its config says.
const NAME_IT: &str = "if it listens elsewhere, name its address in STEPWELL_URL; `doctor --ready` asks it alone";

/// This program's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a running engine says of itself: whether it is well, and whether it is this program.
async fn told(remote: &Remote) -> Vec<Check> {
    // A process that stands still takes connections all the same, and a minute is too long for finding that out.
    let answer = if remote.answers().await { remote.get("/health", &[]).await.ok() } else { None };
    let health: serde_json::Value = answer.and_then(|answer| serde_json::from_str(&answer).ok()).unwrap_or_default();
    let reasons = health["reasons"].as_array().map_or(&[][..], Vec::as_slice);
    let reasons: Vec<&str> = reasons.iter().filter_map(serde_json::Value::as_str).collect();
    let how = match health["message"].as_str() {
        Some("OK") => Check::well("engine", format!("the one at {} is well", remote.url())),
        Some("degraded") => {
            let text = format!("the one at {} is not well: {}", remote.url(), shown(&reasons.join("; ")));
            Check::ill("engine", text, "its log has more; `stepwell reload` tries a mended config")
        }
        // Whether it stands still or listens elsewhere cannot be told from here, so this alone is no failure.
        _ => return vec![Check::note("engine", format!("no engine answers at {}, so it was not asked how it is", remote.url()), NAME_IT)],
    };
    let version = health["version"].as_str().map_or_else(|| "of a version that it does not say".to_owned(), shown);
    let other = (version != VERSION).then(|| {
        let text = format!("the one at {} is stepwell {version}, this program is {VERSION}", remote.url());
        Check::note("version", text, "restart the engine with this program, or ask it with the program that it runs")
    });
    std::iter::once(how).chain(other).collect()
}

/// What to do about a database that does not open.
pub fn advice(error: &OpenError) -> &'static str {
    match error {
        OpenError::Locked { .. } => "stop that engine first, or give this one another --database",
        OpenError::Newer { .. } => "use the newer stepwell that wrote it",
        OpenError::Older { .. } => {
            "make a backup with the program that wrote it, then start the engine once with this one, which brings it there"
        }
        OpenError::NotOurs => "name the engine's own file with --database",
        OpenError::Missing => "`stepwell dev` or `stepwell run` makes it",
        OpenError::Corrupt(_) => "restore a backup, or move the file away and start anew; the engine never does that by itself",
        OpenError::TooOldSqlite => "build stepwell with the SQLite that it brings along",
        OpenError::Io(_) => "look at the path, its permissions and the disk",
    }
}

/// A database that does not open, as a command's error.
pub fn cannot_open(path: &std::path::Path, error: &OpenError) -> Trouble {
    let exit = match error {
        OpenError::Locked { .. } => Exit::Locked,
        OpenError::Missing => Exit::NotFound,
        _ => Exit::Io,
    };
    let code = match error {
        OpenError::Locked { .. } => "E0543",
        OpenError::Missing => "E0537",
        _ => "E0544",
    };
    Trouble::new(exit, Diagnostic::error(code, format!("{}: {error}", path.display())).help(advice(error)))
}

fn say(out: &Out, check: &Check) -> Result<(), Trouble> {
    let name = paint(BOLD, format!("{:<10}", check.name));
    let sign = match check.finding {
        Finding::Well => paint(GREEN, "✓"),
        Finding::Note => paint(YELLOW, "-"),
        Finding::Ill => paint(RED, "✗"),
    };
    out.line(format!("{sign} {name} {}", check.text))?;
    if let Some(advice) = &check.advice {
        out.line(format!("{}  {}", " ".repeat(11), paint(DIM, advice)))?;
    }
    Ok(())
}
