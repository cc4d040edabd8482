//! `stepwell keys`: keys for senders and tokens for people.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::Diagnostic;

use super::exit::{Exit, Trouble};
use super::out::Out;

/// Arguments of `keys`.
#[derive(Debug, clap::Args)]
pub struct Keys {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make an event key, an admin token and a read-only token
    ///
    /// They are printed as lines of an environment file and stored nowhere: keep them where your secrets are.
    #[command(after_help = "Example:\n  stepwell keys new > keys.env")]
    New,
}

impl Keys {
    /// Prints three fresh secrets of 192 random bits each.
    ///
    /// # Errors
    /// Those of stdout, and exit 74 where the system has no randomness.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let What::New = self.what;
        for (variable, prefix) in [("STEPWELL_EVENT_KEYS", "evt"), ("STEPWELL_ADMIN_TOKEN", "adm"), ("STEPWELL_READ_TOKEN", "read")] {
            let bytes = crate::clock::secret_bytes().map_err(|error| {
                Trouble::new(Exit::Io, Diagnostic::error("E0540", format!("the system gives no random numbers: {error}")))
            })?;
            out.line(format!("{variable}={prefix}_{}", URL_SAFE_NO_PAD.encode(bytes)))?;
        }
        out.say("Set these in the environment of `stepwell run`. Senders get the event key alone; it can only send.");
        Ok(Exit::Done)
    }
}
