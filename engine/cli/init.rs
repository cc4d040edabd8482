//! `stepwell init`: a project that runs, to begin from. The templates are whole projects: one beside this file, one the
//! repository's own.

use std::path::{Path, PathBuf};

use crate::base::Diagnostic;

use super::exit::{Exit, Trouble};
use super::out::{BOLD, Out, paint};
use super::place::{self, STATE_FOLDER};

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// The folder; it is made where it is missing
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// What to begin from
    #[arg(long, value_enum, default_value_t = Template::Hello)]
    template: Template,
    /// Overwrite files that are there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Template {
    /// One event, one function of two steps and a sleep
    Hello,
    /// Signed requests of Stripe and GitHub that become events
    Webhook,
    /// A report that the clock starts
    Cron,
    /// Payments that wait for a one-time code, one of a customer at a time
    Payments,
}

/// What editors go by, wherever it is not there yet: which extensions they want, and where the schemas and the definitions of the handler
/// API are that `.stepwell/` holds.
const EDITORS: [Page; 3] = [
    (".vscode/extensions.json", "{\n  \"recommendations\": [\"redhat.vscode-yaml\", \"rhaiscript.vscode-rhai\"]\n}\n"),
    (
        ".vscode/settings.json",
        "{\n  \"yaml.schemas\": {\n    \".stepwell/events.schema.json\": \"events.yaml\",\n    \
         \".stepwell/tests.schema.json\": [\"tests/**/*.test.yaml\", \"tests/**/*.test.yml\"]\n  }\n}\n",
    ),
    ("Rhai.toml", "# For Rhai's language server.\n[source]\ninclude = [\"handlers/**/*.rhai\", \".stepwell/*.d.rhai\"]\n"),
];

/// A file of a template: its path below the project's folder, and its text.
type Page = (&'static str, &'static str);

const HELLO: &[Page] = &[
    ("events.yaml", include_str!("templates/hello/events.yaml")),
    ("handlers/greet.rhai", include_str!("templates/hello/handlers/greet.rhai")),
    ("schemas/hello-said.json", include_str!("templates/hello/schemas/hello-said.json")),
    ("tests/greet.test.yaml", include_str!("templates/hello/tests/greet.test.yaml")),
];

/// Two of the repository's examples.
const WEBHOOK: &[Page] = &[
    ("events.yaml", include_str!("../../examples/webhooks/events.yaml")),
    ("handlers/book-charge.rhai", include_str!("../../examples/webhooks/handlers/book-charge.rhai")),
    ("handlers/announce-release.rhai", include_str!("../../examples/webhooks/handlers/announce-release.rhai")),
    ("tests/book-charge.test.yaml", include_str!("../../examples/webhooks/tests/book-charge.test.yaml")),
    ("tests/announce-release.test.yaml", include_str!("../../examples/webhooks/tests/announce-release.test.yaml")),
];
const CRON: &[Page] = &[
    ("events.yaml", include_str!("../../examples/cron/events.yaml")),
    ("handlers/weekday-report.rhai", include_str!("../../examples/cron/handlers/weekday-report.rhai")),
    ("handlers/bill-day.rhai", include_str!("../../examples/cron/handlers/bill-day.rhai")),
    ("handlers/check-doors.rhai", include_str!("../../examples/cron/handlers/check-doors.rhai")),
    ("handlers/open-shop.rhai", include_str!("../../examples/cron/handlers/open-shop.rhai")),
    ("tests/bill-day.test.yaml", include_str!("../../examples/cron/tests/bill-day.test.yaml")),
    ("tests/check-doors.test.yaml", include_str!("../../examples/cron/tests/check-doors.test.yaml")),
    ("tests/open-shop.test.yaml", include_str!("../../examples/cron/tests/open-shop.test.yaml")),
    ("tests/weekday-report.test.yaml", include_str!("../../examples/cron/tests/weekday-report.test.yaml")),
];

/// The project that the repository itself ships.
const PAYMENTS: &[Page] = &[
    ("events.yaml", include_str!("../../events.yaml")),
    ("handlers/payment-initiated.rhai", include_str!("../../handlers/payment-initiated.rhai")),
    ("schemas/payment-initiate.json", include_str!("../../schemas/payment-initiate.json")),
    ("schemas/otp-received.json", include_str!("../../schemas/otp-received.json")),
    ("schemas/user-id.json", include_str!("../../schemas/user-id.json")),
    ("tests/payment-initiated.test.yaml", include_str!("../../tests/payment-initiated.test.yaml")),
];

impl Template {
    fn pages(self) -> &'static [Page] {
        match self {
            Template::Hello => HELLO,
            Template::Payments => PAYMENTS,
            Template::Webhook => WEBHOOK,
            Template::Cron => CRON,
        }
    }

    /// What starts the engine: one does not start without its secrets.
    fn dev(self) -> &'static str {
        match self {
            Template::Webhook => "env STRIPE_WEBHOOK=whsec_… GITHUB_WEBHOOK=… stepwell dev",
            Template::Hello | Template::Cron | Template::Payments => "stepwell dev",
        }
    }

    /// What to try first.
    fn first(self) -> &'static str {
        match self {
            Template::Hello => "stepwell try hello/said --example",
            Template::Webhook => "stepwell try stripe/charge.succeeded --example",
            Template::Cron => "stepwell try --cron weekday-report",
            Template::Payments => "stepwell try payment/initiate --example --then otp/received@5m --fast-forward",
        }
    }
}

impl Init {
    /// Writes the project.
    ///
    /// # Errors
    /// Exit 73 where a file is there and `--force` is not given: then nothing is written. Exit 74 for the disk.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let pages = self.template.pages();
        let there: Vec<&str> = pages.iter().map(|(path, _)| *path).filter(|path| self.folder.join(path).exists()).collect();
        if !there.is_empty() && !self.force {
            let shown: Vec<String> = there.iter().map(|path| self.folder.join(path).display().to_string()).collect();
            let problem = Diagnostic::error("E0533", format!("already there: {}", shown.join(", ")));
            return Err(Trouble::new(Exit::Exists, problem.help("choose another folder, or overwrite with --force; nothing was written")));
        }
        for (path, text) in pages {
            write(&self.folder.join(path), text)?;
        }
        // What somebody has set for an editor is not ours to change.
        let missing = EDITORS.iter().filter(|(path, _)| !self.folder.join(path).exists()).collect::<Vec<_>>();
        for (path, text) in &missing {
            write(&self.folder.join(path), text)?;
        }
        ignore(&self.folder)?;
        place::write_editor_schema(&self.folder)?;

        out.say(format!("Wrote {}:", self.folder.display()));
        for (path, _) in pages {
            out.say(format!("  {path}"));
        }
        for (path, _) in missing {
            out.say(format!("  {path}"));
        }
        out.say("  .gitignore");
        out.say("\nNext:");
        if self.folder != Path::new(".") {
            out.say(format!("  {}", paint(BOLD, format!("cd {}", self.folder.display()))));
        }
        out.say(format!("  {}   runs it once, here and now", paint(BOLD, self.template.first())));
        out.say(format!("  {}   runs the handlers' tests", paint(BOLD, "stepwell test")));
        out.say(format!("  {}   starts the engine", paint(BOLD, self.template.dev())));
        Ok(Exit::Done)
    }
}

fn write(path: &Path, text: &str) -> Result<(), Trouble> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Trouble::file(folder, "make the folder", &error))?;
    }
    std::fs::write(path, text).map_err(|error| Trouble::file(path, "write", &error))
}

/// Adds the state folder to `.gitignore`, which may be there already with lines of its own.
fn ignore(folder: &Path) -> Result<(), Trouble> {
    let path = folder.join(".gitignore");
    let line = format!("{STATE_FOLDER}/");
    let mut text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Trouble::file(&path, "read", &error)),
    };
    if text.lines().any(|there| there.trim() == line) {
        return Ok(());
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&line);
    text.push('\n');
    write(&path, &text)
}
