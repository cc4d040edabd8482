//! `stepwell dev`: the engine while one writes handlers. It shows what runs do, watches the files, takes any key, and reaches
//! private addresses.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::base::Clock;
use crate::clock::{SystemClock, VirtualClock};
use crate::exec::{Engine, Notice};
use crate::project::{Loader, Mode, Project};
use crate::script::Host;
use crate::server::view::NoticeView;

use super::exit::{Exit, Trouble};
use super::log::{Format, Hidden, LogOptions};
use super::out::{BOLD, DIM, Out, YELLOW, count, paint};
use super::place::{self, ConfigArgument, Throwaway};
use super::serve::{Service, all_cores, options};
use super::settings::{Keys, Overrides, Settings};
use super::tail;
use super::traces::TraceOptions;
use super::watch::Watch;

/// Arguments of `dev`.
#[derive(Debug, clap::Args)]
pub struct Dev {
    #[command(flatten)]
    config: ConfigArgument,
    /// The port on 127.0.0.1; 0 for any that is free [default: the config's, usually 8288]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The database [default: the config's]
    #[arg(long, value_name = "FILE", conflicts_with = "ephemeral")]
    database: Option<PathBuf>,
    /// Keep nothing: use a database that is thrown away at the end
    #[arg(long)]
    ephemeral: bool,
    /// Do not watch the files: what is changed comes into force by `stepwell reload` only
    #[arg(long)]
    no_watch: bool,
    /// Run on a virtual clock: sleeps, back-offs and time-outs take no time while nothing else is to be done. Keeps nothing, and
    /// starts nothing by a schedule
    #[arg(long, conflicts_with = "database")]
    fast_forward: bool,
    #[command(flatten)]
    log: LogOptions,
    #[command(flatten)]
    traces: TraceOptions,
}

impl Dev {
    /// Runs the engine until SIGTERM, SIGINT, or SIGHUP, by which its terminal says that it is gone.
    ///
    /// # Errors
    /// As `run`.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let keys = Keys::from_environment();
        let hidden = Hidden::new(&keys);
        self.log.start(&hidden, true);
        self.log.ended(out, self.serve(out, keys, hidden))
    }

    fn serve(&self, out: &Out, keys: Keys, hidden: Arc<Hidden>) -> Result<Exit, Trouble> {
        let log = self.log;
        let path = place::config(self.config.config.as_deref())?;
        let loader = Loader::new(&path, Host::new(), place::environment, Mode::Dev);
        let loader = if self.fast_forward { loader.without_clock() } else { loader };
        let (project, notes) = loader.load().map_err(Trouble::invalid)?;
        hidden.know(&project);
        log.problems(out, &notes);
        place::write_editor_schema(place::root(&path))?;
        let throwaway = if self.is_ephemeral() { Some(Throwaway::new("dev")?) } else { None };
        let database = throwaway.as_ref().map(|folder| folder.path.join("stepwell.db")).or_else(|| self.database.clone());
        let port = self.port.unwrap_or_else(|| project.config.engine.listen().port());
        let over = Overrides { listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))), database, durability: None, flush_delay: 0 };
        let export = self.traces.export(project.config.app.as_ref().map(|app| app.value.as_str()))?;
        let settings = Settings::new(&project.config, place::root(&path), &over);
        let mut options = options(&project, keys);
        options.any_key = true;
        options.is_dev = true;
        let watch = self.watch(place::root(&path), out);
        let greeting = self.greeting(watch.is_some(), &project, &settings, place::engine_url(Some(&path))?);
        // Idleness is told by one thread about itself.
        let (clock, threads): (Arc<dyn Clock>, usize) =
            if self.fast_forward { (Arc::new(VirtualClock::running()), 1) } else { (Arc::new(SystemClock::default()), all_cores()) };
        let project = Arc::new(project);
        let service = Service { project, loader, settings, clock, threads, options, watch, goes_with_terminal: true, log, hidden, export };
        super::to_its_end(service.run(out, |engine, address, notices| {
            match log.log_format {
                Format::Text => {
                    out.say(greeting(address));
                    tokio::spawn(show(engine.clone(), notices, *out));
                }
                // The lines of the log say what runs do.
                Format::Json => log.say(out, format!("listening on http://{address}")),
            }
        }))?
    }

    /// Times that have not come yet do not belong into a database that is kept.
    fn is_ephemeral(&self) -> bool {
        self.ephemeral || self.fast_forward
    }

    /// Begins to watch the files, unless that is not wanted. An engine that cannot watch is worth more than none.
    fn watch(&self, root: &Path, out: &Out) -> Option<Watch> {
        if self.no_watch {
            return None;
        }
        Watch::new(root).map_err(|error| out.say(paint(YELLOW, format!("the files cannot be watched: {error}")))).ok()
    }

    /// What is said once the engine accepts events.
    fn greeting(
        &self,
        is_watched: bool,
        project: &Project,
        settings: &Settings,
        default: String,
    ) -> impl FnOnce(SocketAddr) -> String + use<> {
        let name = project.config.app.as_ref().map_or("stepwell", |app| app.value.as_str()).to_owned();
        let declared = format!("{}, {}", count(project.config.events.len(), "event"), count(project.functions.len(), "function"));
        let kept = if self.is_ephemeral() { "thrown away at the end".to_owned() } else { settings.database.display().to_string() };
        let names = || project.config.events.names().filter(|name| !name.ends_with('*'));
        let with_example = names().find(|name| project.example(name).is_some());
        let (event, fill) = match (with_example, names().next()) {
            (Some(event), _) => (event.to_owned(), " --example"),
            (None, Some(event)) => (event.to_owned(), ""),
            (None, None) => ("my/event".to_owned(), ""),
        };
        let example = project.example(&event).map_or_else(|| "{}".to_owned(), ToString::to_string);
        let watched = if is_watched {
            "  watching     a change of a file is in force as soon as all of them are right"
        } else {
            "  not watching: `stepwell reload` puts changes in force"
        };
        let clock = if self.fast_forward { "\n  clock        jumps over sleeps, back-offs and time-outs" } else { "" };
        move |address| {
            let url = format!("http://{address}");
            let flag = if url == default { String::new() } else { format!(" --url {url}") };
            let command = |text: String| format!("  {}\n", paint(BOLD, text));
            format!(
                "{} {declared}\n  listening on {}\n  database     {kept}{clock}\n{}\n\nIn another terminal:\n{}{}{}",
                paint(BOLD, format!("{name}:")),
                paint(BOLD, &url),
                paint(DIM, watched),
                command(format!("stepwell send {event}{fill} --wait{flag}")),
                command(format!("stepwell runs ls{flag}")),
                command(format!("curl {url}/e/dev --json '{{\"name\": \"{event}\", \"data\": {}}}'", example.replace('\'', "'\\''"))),
            )
        }
    }
}

/// Shows what runs do, a line each.
async fn show(engine: Engine, mut notices: Receiver<Notice>, out: Out) {
    loop {
        match notices.recv().await {
            Ok(notice) => out.say(tail::told(&NoticeView::of(&notice), engine.clock().now(), true)),
            Err(RecvError::Lagged(missed)) => out.say(tail::told(&NoticeView::Missed { missed }, engine.clock().now(), true)),
            Err(RecvError::Closed) => return,
        }
    }
}
