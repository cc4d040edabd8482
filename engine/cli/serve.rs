//! An engine with its server, from start to the last commit: what `run` and `dev` have in common.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::Receiver;
use tokio::sync::oneshot;

use crate::base::{Clock, Diagnostic, Span};
use crate::clock::SystemEntropy;
use crate::crash;
use crate::exec::{Engine, Export, Notice, Setup};
use crate::project::{Loader, Project};
use crate::resident;
use crate::server::{ServerOptions, serve};
use crate::store::Store;
use crate::store::sqlite::{Options, Sqlite};
use crate::web;

use super::backup::store_trouble;
use super::doctor::cannot_open;
use super::exit::{Exit, Trouble, plain};
use super::log::{Hidden, LogOptions};
use super::out::Out;
use super::settings::{Keys, Settings};
use super::watch::Watch;

/// When what only the start needed leaves memory.
const START_IS_OVER: Span = Span::seconds(1);

/// How long an engine that stops waits for the collector of traces.
const LAST_TRACES: Span = Span::seconds(3);

/// What is to be served.
pub struct Service {
    /// The snapshot in force.
    pub project: Arc<Project>,
    /// What it was loaded from.
    pub loader: Loader,
    /// Where it listens, what it keeps its rows in, how long it drains.
    pub settings: Settings,
    /// What tells the time.
    pub clock: Arc<dyn Clock>,
    /// How many threads carry runs.
    pub threads: usize,
    /// Who may do what.
    pub options: ServerOptions,
    /// Tells of changes to the files, each of which is put in force.
    pub watch: Option<Watch>,
    /// Whether SIGHUP, by which a terminal says that it is gone, stops it: else that has it read its files again. An engine that
    /// stayed behind would be in the way of the next one.
    pub goes_with_terminal: bool,
    /// How the log is written, and how what is said to people.
    pub log: LogOptions,
    /// What no line of it shows.
    pub hidden: Arc<Hidden>,
    /// The collector that is told what runs did.
    pub export: Option<Export>,
}

/// A thread for each core.
pub fn all_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The server's options, from the config and the keys of the environment.
pub fn options(project: &Project, keys: Keys) -> ServerOptions {
    ServerOptions {
        any_key: keys.event.is_empty(),
        event_keys: keys.event,
        admin_token: keys.admin,
        read_token: keys.read,
        ..ServerOptions::default()
    }
    .of(project)
}

impl Service {
    /// Runs the engine until it is told to stop. `started` is called once it accepts events, with its notices from the start.
    ///
    /// # Errors
    /// Exit 78 where the address needs keys, 75 where another engine has the database, 74 for the address and the disk.
    pub async fn run(self, out: &Out, started: impl FnOnce(&Engine, SocketAddr, Receiver<Notice>)) -> Result<Exit, Trouble> {
        let Service { project, loader, settings, clock, threads, options, mut watch, goes_with_terminal, log, hidden, export } = self;
        options.check(settings.listen).map_err(|missing| {
            let problem = Diagnostic::error("E0538", missing);
            Trouble::new(Exit::Config, problem.help("`stepwell keys new` makes them; or listen on 127.0.0.1"))
        })?;
        more_descriptors();
        let mut hangups = hangups()?;
        let mut stops = Stops::new()?;
        let listener = tokio::net::TcpListener::bind(settings.listen).await.map_err(|error| cannot_listen(settings.listen, &error))?;
        let address = listener.local_addr().map_err(|error| cannot_listen(settings.listen, &error))?;
        let store = open(&settings)?;
        crash::note_in(&store.note());
        let setup = Setup {
            project,
            host: Arc::clone(loader.host()),
            store: Arc::clone(&store) as Arc<dyn Store>,
            clock,
            entropy: Arc::new(SystemEntropy),
            threads,
        };
        let engine = Engine::start_with(setup, export).map_err(|error| store_trouble(&error))?;
        hidden.follow(&engine);
        let notices = engine.subscribe();
        engine.until_ready().await;
        let (stop, stopped) = oneshot::channel::<()>();
        let options = ServerOptions { loader: Some(loader.clone()), pages: Some(web::pages()), ..options };
        let server = tokio::spawn(serve(listener, engine.clone(), options, stopped));
        started(&engine, address, notices);
        let clock = Arc::clone(engine.clock());
        tokio::spawn(async move {
            clock.sleep_until(clock.now().after(START_IS_OVER), false).await;
            resident::drop_code();
        });

        let fault = loop {
            tokio::select! {
                name = stops.next() => {
                    // Whatever ends the process from here on, no run is to blame.
                    store.note_told();
                    let grace = engine.project().config.engine.shutdown_grace();
                    log.say(out, format!("{name}: no new events; running steps have {grace} to finish"));
                    break None;
                }
                error = engine.until_fault() => break Some(error),
                _ = hangups.recv() => {
                    if goes_with_terminal {
                        store.note_told();
                        break None;
                    }
                    reload(&engine, &loader);
                }
                () = changed(&mut watch) => reload(&engine, &loader),
            }
        };
        if let Some(error) = fault {
            store.note_told();
            return Err(store_trouble(&error));
        }
        let grace = engine.project().config.engine.shutdown_grace();
        tokio::select! {
            drained = tokio::time::timeout(grace.std(), engine.drain()) => {
                if drained.is_err() {
                    log.say(out, format!("some steps have not finished within {grace}; they run again at the next start"));
                }
            }
            name = stops.next() => {
                log.say(out, format!("{name} again: stopping at once"));
                // Nothing is lost: what was acknowledged is on the disk, and the next start takes the rest up.
                std::process::exit(i32::from(Exit::Failed as u8));
            }
        }
        // A collector that does not answer is no reason to stay.
        let _ = tokio::time::timeout(LAST_TRACES.std(), engine.flush_traces()).await;
        // A server that is gone needs no word.
        let _ = stop.send(());
        match server.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(cannot_listen(address, &error)),
            Err(error) => return Err(Trouble::new(Exit::Io, Diagnostic::error("E0540", format!("the server ended: {error}")))),
        }
        store.close().map_err(|error| store_trouble(&error))?;
        Ok(Exit::Done)
    }
}

/// Has the config read again beside what the server does.
fn reload(engine: &Engine, loader: &Loader) {
    let (engine, loader) = (engine.clone(), loader.clone());
    // What comes of it stands in the log, and in what /health says.
    tokio::spawn(async move { drop(engine.reload(&loader).await) });
}

/// Is done once a file has changed; never where none is watched.
async fn changed(watch: &mut Option<Watch>) {
    let is_watched = match watch {
        Some(watch) => watch.next().await.is_some(),
        None => std::future::pending().await,
    };
    if !is_watched {
        *watch = None;
    }
}

fn open(settings: &Settings) -> Result<Arc<Sqlite>, Trouble> {
    let options = Options {
        durability: settings.durability,
        flush_delay: settings.flush_delay,
        timer: Some(crate::clock::micros),
        ..Options::default()
    };
    Sqlite::open(&settings.database, options).map(Arc::new).map_err(|error| cannot_open(&settings.database, &error))
}

/// Takes as many descriptors as the system allows, for this process and those that it starts: each connection and each call of
/// a handler needs one.
pub fn more_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it may not, fewer calls are under way at once.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Trouble {
    let problem = Diagnostic::error("E0547", format!("cannot listen on {address}: {}", plain(error)));
    Trouble::new(Exit::Io, problem.help("is another engine running? choose another port, or stop what has this one"))
}

/// SIGHUP: a terminal is gone, or somebody wants an engine to read its config again.
fn hangups() -> Result<Signal, Trouble> {
    signal(SignalKind::hangup()).map_err(no_signals)
}

fn no_signals(error: std::io::Error) -> Trouble {
    Trouble::new(Exit::Io, Diagnostic::error("E0540", format!("cannot wait for signals: {}", plain(&error))))
}

/// The signals that stop an engine.
struct Stops {
    term: Signal,
    interrupt: Signal,
}

impl Stops {
    fn new() -> Result<Stops, Trouble> {
        Ok(Stops {
            term: signal(SignalKind::terminate()).map_err(no_signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(no_signals)?,
        })
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
