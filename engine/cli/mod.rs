//! The commands: a file each. They wire the other rooms together and speak with people; no rule of the engine lives here.
//!
//! Every flag has a `STEPWELL_*` variable (`command` adds them), every `--help` ends with an example that works.

mod backup;
mod bench;
mod completions;
mod config;
mod doctor;
#[expect(dead_code, reason = "partly for the commands on runs, which come with the server")]
mod exit;
mod explain;
mod init;
mod keys;
#[expect(dead_code, reason = "partly for the commands on runs, which come with the server")]
mod out;
mod place;
mod schema;
mod sql;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use exit::{Exit, Trouble};
use out::Out;

/// A durable event engine: events in YAML, handlers in Rhai, every step checkpointed in SQLite
#[derive(Debug, Parser)]
#[command(name = "stepwell", version, disable_help_subcommand = true, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = "Start here:\n  stepwell init hello && cd hello\n  stepwell try hello/said --example")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Every command, in the order that `--help` shows.
#[derive(Debug, Subcommand)]
enum Command {
    /// Write a project that runs, to begin from
    #[command(after_help = "Example:\n  stepwell init hello && cd hello && stepwell try hello/said --example")]
    Init(init::Init),
    /// Show the settings in force, and where each comes from
    #[command(after_help = "Example:\n  stepwell config")]
    Config(config::Config),
    /// Check config, database, lock and integrity
    #[command(after_help = "Example:\n  stepwell doctor")]
    Doctor(doctor::Doctor),
    /// Copy the database, also while an engine is at work on it
    #[command(after_help = "Example:\n  stepwell backup stepwell-backup.db")]
    Backup(backup::Backup),
    /// Look into the database with SQL, read-only
    #[command(after_help = "Example:\n  stepwell sql \"select name from sqlite_schema\"")]
    Sql(sql::Sql),
    /// Print the JSON Schema of events.yaml
    #[command(after_help = "Example:\n  stepwell schema > events.schema.json")]
    Schema(schema::Schema),
    /// Say at length what a diagnostic's code means
    #[command(after_help = "Example:\n  stepwell explain E0304")]
    Explain(explain::Explain),
    /// Measure what this machine gives, each figure beside its raw limit
    #[command(after_help = "Example:\n  stepwell bench --quick --markdown BENCHMARKS.md")]
    Bench(bench::Bench),
    #[command(after_help = "Example:\n  stepwell keys new > keys.env")]
    /// Make event keys and tokens
    Keys(keys::Keys),
    #[command(after_help = "Example:\n  stepwell completions bash > stepwell.bash && source stepwell.bash")]
    /// Print the completions of a shell
    Completions(completions::Completions),
}

impl Command {
    fn run(self, out: &Out) -> Result<Exit, Trouble> {
        match self {
            Command::Init(command) => command.run(out),
            Command::Config(command) => command.run(out),
            Command::Doctor(command) => command.run(out),
            Command::Backup(command) => command.run(out),
            Command::Sql(command) => command.run(out),
            Command::Schema(command) => command.run(out),
            Command::Explain(command) => command.run(out),
            Command::Bench(command) => command.run(out),
            Command::Keys(command) => command.run(out),
            Command::Completions(command) => command.run(out),
        }
    }
}

/// The whole command line, each flag with its variable.
fn command() -> clap::Command {
    with_variables(Cli::command())
}

/// Gives each flag of a command and of those below it the variable `STEPWELL_<NAME>`, so that none is forgotten.
fn with_variables(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|argument| {
        let Some(long) = argument.get_long().filter(|long| !matches!(*long, "help" | "version")) else { return argument };
        let variable: &'static str = format!("STEPWELL_{}", long.to_uppercase().replace('-', "_")).leak();
        let switch = !argument.get_action().takes_values();
        let argument = argument.env(variable).hide_env_values(true);
        // `STEPWELL_JSON=1` and `STEPWELL_JSON=no` are said as people say them.
        if switch { argument.value_parser(clap::builder::FalseyValueParser::new()) } else { argument }
    });
    command.mut_subcommands(with_variables)
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let out = Out::new();
    let cli = match command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Printing help to a closed pipe is nobody's problem.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    match cli.command.run(&out) {
        Ok(exit) => exit.into(),
        Err(trouble) => {
            out.problems(&trouble.problems);
            trouble.exit.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `each` with every command that can be called, and its path.
    fn walk(command: &clap::Command, path: &str, each: &mut dyn FnMut(&str, &clap::Command)) {
        let path = format!("{path} {}", command.get_name()).trim().to_owned();
        each(&path, command);
        for below in command.get_subcommands() {
            walk(below, &path, each);
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_flag_has_a_variable_and_every_help_an_example() {
        walk(&command(), "", &mut |path, command| {
            let end = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let last = end.lines().last().unwrap_or_default().trim();
            assert!(last.starts_with("stepwell ") || last.contains("| stepwell "), "`{path} --help` ends with `{last}`");
            assert!(command.get_about().is_some(), "{path} says what it does");
            for argument in command.get_arguments() {
                let Some(long) = argument.get_long().filter(|long| !matches!(*long, "help" | "version")) else { continue };
                let variable = argument.get_env().and_then(|name| name.to_str()).unwrap_or_default();
                assert!(variable.starts_with("STEPWELL_"), "{path} --{long} has the variable `{variable}`");
                assert!(argument.get_help().is_some(), "{path} --{long} says what it does");
            }
        });
    }
}
