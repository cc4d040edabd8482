//! `stepwell replay --check`: what the handlers at hand would do with stored runs, without any effect.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use indicatif::ProgressBar;
use serde_json::json;

use crate::base::{Clock, Entropy};
use crate::clock::{SystemClock, SystemEntropy};
use crate::exec::check;
use crate::project::{Loader, Mode, Project};
use crate::rules::{RunRow, RunState};
use crate::script::{Held, Host};
use crate::server::Filter;
use crate::server::view::When;
use crate::store::sqlite::{Options, Sqlite};
use crate::store::{RunQuery, Store, StoreError};

use super::super::backup::store_trouble;
use super::super::doctor::cannot_open;
use super::super::exit::{Exit, Trouble};
use super::super::out::{Cell, Out, count};
use super::super::place;
use super::super::reading::Reader;

/// Runs that are read at once.
const PAGE: usize = 500;

/// Which runs are checked.
pub struct Wanted<'a> {
    /// These; all that the rest means where there are none.
    pub runs: &'a [String],
    /// Of this function.
    pub function: Option<&'a str>,
    /// In one of these states or statuses; any where there are none.
    pub status: Filter,
    /// Created then or later.
    pub since: Option<When>,
    /// Created before then.
    pub until: Option<When>,
}

/// A run that the handlers at hand would do otherwise.
struct Differs {
    run: RunRow,
    why: String,
}

/// Checks the runs of the database, which an engine may be at work on.
///
/// # Errors
/// Exit 1 is the result where a run differs; 78 for a config that is broken, 74 for the database, 3 for a run that is not there.
pub fn run(out: &Out, config: Option<&Path>, database: Option<&Path>, wanted: &Wanted<'_>, as_json: bool) -> Result<Exit, Trouble> {
    let path = place::existing_config(config)?;
    let (project, _) = Loader::new(&path, Host::new(), place::environment, Mode::Check).load().map_err(Trouble::invalid)?;
    let file = database.map_or_else(|| place::database(&project.config, place::root(&path)), Path::to_path_buf);
    let store = Sqlite::open(&file, Options { read_only: true, ..Options::default() }).map_err(|error| cannot_open(&file, &error))?;
    let store: Arc<dyn Store> = Arc::new(store);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let (checked, differing) = super::super::runtime()?.block_on(async {
        let mut ids = Vec::new();
        if !wanted.runs.is_empty() {
            let reader = Reader::Store { store: Arc::clone(&store), clock: Arc::clone(&clock) };
            for run in wanted.runs {
                ids.push(reader.run_id(run).await?);
            }
        }
        all(&*store, &project, &clock, wanted, &ids).await.map_err(|error| store_trouble(&error))
    })?;
    if as_json {
        let one = |one: &Differs| json!({"run_id": one.run.id, "function_id": &*one.run.function, "state": one.run.state.word(), "difference": one.why});
        out.json(&json!({"checked": checked, "differ": differing.iter().map(one).collect::<Vec<_>>()}))?;
    } else {
        let row = |one: &Differs| -> Vec<Cell> {
            vec![
                one.run.id.to_string().into(),
                one.run.function.to_string().into(),
                Cell::state(one.run.state.word()),
                one.why.clone().into(),
            ]
        };
        out.table(&["run", "function", "state", "difference"], differing.iter().map(row).collect())?;
        out.say(format!("{} checked, {} would go otherwise", count(checked, "run"), differing.len()));
    }
    Ok(if differing.is_empty() { Exit::Done } else { Exit::Failed })
}

async fn all(
    store: &dyn Store,
    project: &Project,
    clock: &Arc<dyn Clock>,
    wanted: &Wanted<'_>,
    ids: &[crate::base::RunId],
) -> Result<(usize, Vec<Differs>), StoreError> {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let now = clock.now();
    // It shows itself on a terminal alone.
    let bar = ProgressBar::new_spinner();
    let mut query = RunQuery {
        states: wanted.status.stored(),
        function: wanted.function.map(Arc::from),
        since: wanted.since.map(|since| since.seen_from(now)),
        limit: PAGE,
        ..RunQuery::default()
    };
    let (mut checked, mut differing) = (0, Vec::new());
    loop {
        let page = if ids.is_empty() {
            store.runs(&query)?
        } else {
            let mut rows = Vec::new();
            for id in ids {
                rows.extend(store.run(*id)?);
            }
            rows
        };
        let last = page.last().map(|run| run.id);
        for run in &page {
            // One of a paused function that is held has not begun.
            let is_meant =
                wanted.until.is_none_or(|until| run.created < until.seen_from(now)) && wanted.status.passes(run, now, &HashSet::default());
            // One that has not begun begins with what is there then.
            if !is_meant || run.started.is_none() {
                continue;
            }
            checked += 1;
            bar.set_message(format!("checking: {}, {} would go otherwise", count(checked, "run"), differing.len()));
            bar.tick();
            let held = check(store, project, clock, &entropy, run).await?;
            differing.extend(difference(project, run, held).map(|why| Differs { run: run.clone(), why }));
        }
        match last {
            Some(last) if ids.is_empty() && page.len() == PAGE && last.0 > 0 => query.to = Some(crate::base::Id(last.0 - 1)),
            _ => {
                bar.finish_and_clear();
                return Ok((checked, differing));
            }
        }
    }
}

/// What a handler would do otherwise than the run has done; none where nothing.
fn difference(project: &Project, run: &RunRow, held: Option<Held>) -> Option<String> {
    let has_ended = run.state == RunState::Completed;
    match held {
        None if project.function(&run.function).is_none() => Some("its function is not declared any more".to_owned()),
        // It was deleted meanwhile.
        None => None,
        Some(Held::Unfit(why)) => Some(why.to_string()),
        Some(Held::GoesOn(call)) => has_ended.then(|| format!("it goes on with {call}, where the run had ended")),
        Some(Held::Ends(Some(output))) if has_ended && run.output.as_deref() != Some(&*output) => {
            Some("it ends with another result".to_owned())
        }
        Some(Held::Ends(None)) if has_ended => Some("it does not end".to_owned()),
        Some(Held::Ends(_)) => None,
    }
}
