//! `stepwell validate`: checks everything that can be checked before an event comes.

use std::path::Path;

use crate::base::Severity;
use crate::project::{Mode, Project};
use crate::script::Host;

use super::exit::{Exit, Trouble};
use super::out::{DIM, Out, paint};
use super::place::{self, ConfigArgument};
use super::problems::{Format, List};
use super::watch::Watch;

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
pub struct Validate {
    #[command(flatten)]
    config: ConfigArgument,
    /// Exit with 78 on warnings too
    #[arg(long)]
    deny_warnings: bool,
    /// How problems are written
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Check again whenever a file of the project has changed, until ctrl-c
    #[arg(long)]
    watch: bool,
}

impl Validate {
    /// Checks the project and prints all its problems.
    ///
    /// # Errors
    /// Exit 78 is the result of a check that failed; a `Trouble` is returned where nothing could be checked at all, and with
    /// `--watch` where nothing can be watched.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let path = place::config(self.config.config.as_deref())?;
        if !self.watch {
            return self.once(out, &path);
        }
        // From before the first check on, so that no change is missed.
        let mut watch = Watch::needed(place::root(&path))?;
        let runtime = super::runtime()?;
        loop {
            self.once(out, &path)?;
            out.say(paint(DIM, "a change of a file checks again, ctrl-c ends"));
            if runtime.block_on(watch.next()).is_none() {
                return Ok(Exit::Done);
            }
            out.say("");
        }
    }

    /// Checks it once.
    fn once(&self, out: &Out, path: &Path) -> Result<Exit, Trouble> {
        let (problems, files) = match Project::load(path, &Host::new(), &place::environment, Mode::Check) {
            Ok((project, problems)) => (problems, files_of(&project)),
            Err(problems) => (problems, 0),
        };
        if path.is_file() {
            // Whoever mends the file wants their editor to help. A checkout that nobody may write to can be checked all the same.
            let _ = place::write_editor_schema(place::root(path));
        }
        let list = List { problems: &problems, root: place::root(path), files };
        let text = list.text(self.format);
        if !text.is_empty() {
            out.line(text)?;
        }
        let denied = list.of(Severity::Error) + if self.deny_warnings { list.of(Severity::Warning) } else { 0 };
        Ok(if denied == 0 { Exit::Done } else { Exit::Config })
    }
}

/// How many files the project is made of: the config with what it includes, schemas, handlers and their imports.
fn files_of(project: &Project) -> usize {
    use std::collections::BTreeSet;
    let mut files = BTreeSet::new();
    for program in project.programs() {
        files.extend(program.files().iter().map(|file| file.name.clone()));
    }
    for (_, event) in project.config.events.iter() {
        if let Some(crate::config::EventSchema::File(path)) = event.schema.as_ref().map(|schema| &schema.value) {
            files.insert(path.clone());
        }
    }
    1 + files.len()
}
