//! `stepwell run`: the engine in production.

use std::sync::Arc;

use crate::clock::SystemClock;
use crate::project::{Loader, Mode};
use crate::script::Host;

use super::exit::{Exit, Trouble};
use super::out::{Out, count};
use super::place::{self, ConfigArgument};
use super::serve::{Service, all_cores, log_to_stderr, options};
use super::settings::{Keys, Overrides, Settings};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    over: Overrides,
}

impl Run {
    /// Runs the engine until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// Exit 78 for a config that is not valid or an address that needs keys, 75 where another engine has the database, 74
    /// for the address and the disk.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let path = place::config(self.config.config.as_deref())?;
        let loader = Loader::new(&path, Host::new(), place::environment, Mode::Run);
        let (project, notes) = loader.load().map_err(Trouble::invalid)?;
        out.problems(&notes);
        log_to_stderr();
        let settings = Settings::new(&project.config, place::root(&path), &self.over);
        let options = options(&project, Keys::from_environment());
        let declared = format!("{}, {}", count(project.config.events.len(), "event"), count(project.functions.len(), "function"));
        let service = Service {
            project: Arc::new(project),
            loader,
            settings: settings.clone(),
            clock: Arc::new(SystemClock::default()),
            threads: all_cores(),
            options,
            watch: None,
            goes_with_terminal: false,
        };
        super::runtime()?.block_on(service.run(out, |_, address, _| {
            out.say(format!("stepwell {}: {declared}, {}", env!("CARGO_PKG_VERSION"), settings.database.display()));
            out.say(format!("listening on http://{address}"));
        }))
    }
}
