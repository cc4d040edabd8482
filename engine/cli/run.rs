//! `stepwell run`: the engine in production.

use std::sync::Arc;

use crate::clock::SystemClock;
use crate::project::{Loader, Mode};
use crate::script::Host;

use super::exit::{Exit, Trouble};
use super::log::{Hidden, LogOptions};
use super::out::{Out, count};
use super::place::{self, ConfigArgument};
use super::serve::{Service, all_cores, options};
use super::settings::{Keys, Overrides, Settings};
use super::traces::TraceOptions;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    over: Overrides,
    #[command(flatten)]
    log: LogOptions,
    #[command(flatten)]
    traces: TraceOptions,
}

impl Run {
    /// Runs the engine until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// Exit 78 for a config that is not valid or an address that needs keys, 75 where another engine has the database, 74
    /// for the address and the disk.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let keys = Keys::from_environment();
        let hidden = Hidden::new(&keys);
        self.log.start(&hidden, false);
        self.log.ended(out, self.serve(out, keys, hidden))
    }

    fn serve(&self, out: &Out, keys: Keys, hidden: Arc<Hidden>) -> Result<Exit, Trouble> {
        let log = self.log;
        let path = place::config(self.config.config.as_deref())?;
        let loader = Loader::new(&path, Host::new(), place::environment, Mode::Run);
        let (project, notes) = loader.load().map_err(Trouble::invalid)?;
        hidden.know(&project);
        log.problems(out, &notes);
        let export = self.traces.export(project.config.app.as_ref().map(|app| app.value.as_str()))?;
        let settings = Settings::new(&project.config, place::root(&path), &self.over);
        let options = options(&project, keys);
        let declared = format!("{}, {}", count(project.config.events.len(), "event"), count(project.functions.len(), "function"));
        let settings_shown = settings.clone();
        let service = Service {
            project: Arc::new(project),
            loader,
            settings,
            clock: Arc::new(SystemClock::default()),
            threads: all_cores(),
            options,
            watch: None,
            goes_with_terminal: false,
            log,
            hidden,
            export,
        };
        super::to_its_end(service.run(out, |_, address, _| {
            log.say(out, format!("stepwell {}: {declared}, {}", env!("CARGO_PKG_VERSION"), settings_shown.database.display()));
            log.say(out, format!("listening on http://{address}"));
        }))?
    }
}
