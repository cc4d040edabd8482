//! A project with one function more, whose handler is in no file: what somebody types at a prompt.

use std::sync::Arc;

use crate::base::{Diagnostic, Location, Span};
use crate::config::Versions;
use crate::rules::policy::{Backoff, Retry, Timeouts};
use crate::script::Host;

use super::function::{Function, Trigger, Warned};
use super::{Index, Project};

/// The id of that function.
pub const SCRATCH: &str = "stepwell-prompt";

impl Project {
    /// This project with the function `SCRATCH`, which `event` starts, and whose handler is `text`, called `name`. It is tried once,
    /// and so is each of its steps that does not say otherwise.
    ///
    /// # Errors
    /// Everything that is wrong with the text.
    pub fn with_scratch(&self, host: &Host, event: &str, name: &str, text: &str) -> Result<Project, Vec<Diagnostic>> {
        let program = Arc::new(host.compile_text(&self.root, name, text)?);
        let place = program.files().first().map(|source| Location::new(source, 0..0)).ok_or_else(Vec::new)?;
        let id: Arc<str> = Arc::from(SCRATCH);
        let function = Function {
            id: Arc::clone(&id),
            place,
            triggers: vec![Trigger { event: Arc::from(event), condition: None }],
            crons: Vec::new(),
            retry: Retry { attempts: 1, backoff: Backoff::Table },
            timeouts: Timeouts { start: None, finish: None, step: Span::seconds(300) },
            limits: Vec::new(),
            versions: Versions::Auto,
            program,
            cancels: Vec::new(),
            on_failure: None,
            keys: Vec::new(),
            idempotency: None,
            priority: None,
            throttle: None,
            throttle_key: None,
            collect: None,
            collect_key: None,
            collect_if: None,
            rate_limit: None,
            singleton: None,
            warned: Warned::default(),
        };
        let mut project = self.clone();
        let mut index = Index::clone(&self.index);
        let at = project.functions.len();
        project.functions.push(Arc::new(function));
        index.functions.insert(id, at);
        index.started.entry(Arc::from(event)).or_default().push(at);
        project.index = Arc::new(index);
        Ok(project)
    }
}
