//! The commands: a file each. They wire the other rooms together and speak with people; no rule of the engine lives here.
//!
//! Every flag has a `STEPWELL_*` variable (`command` adds them), every `--help` ends with an example that works.

mod backup;
mod bench;
mod completions;
mod config;
mod dev;
mod doctor;
mod eval;
mod events;
mod exit;
mod explain;
mod fields;
mod functions;
mod graph;
mod init;
mod invoke;
mod keys;
mod live;
mod log;
mod many;
mod out;
mod place;
mod plan;
mod problems;
mod reading;
mod reload;
mod remote;
mod repl;
mod replay;
mod run;
mod runs;
mod schema;
mod send;
mod serve;
mod settings;
mod signal;
mod sql;
mod tail;
mod test;
mod then;
mod top;
mod traces;
mod tree;
mod try_event;
mod types;
mod validate;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::base::Diagnostic;
use crate::base::alloc;
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
    /// Run the engine while you write handlers: any key, a line for everything that happens
    #[command(after_help = "Example:\n  stepwell dev --port 8288")]
    Dev(dev::Dev),
    /// Run the engine in production
    #[command(after_help = "Example:\n  stepwell run --listen 127.0.0.1:8288")]
    Run(run::Run),
    /// Send one event to an engine in this process, on a database that is thrown away, and show its runs
    #[command(after_help = "Example:\n  stepwell try hello/said --example name=You")]
    Try(try_event::Try),
    /// Check YAML, schemas, expressions and scripts, all problems in one go
    #[command(after_help = "Example:\n  stepwell validate --deny-warnings")]
    Validate(validate::Validate),
    /// Run the tests of handlers, tests/*.test.yaml: real engine, virtual clock, no network
    #[command(after_help = "Example:\n  stepwell test")]
    Test(test::Test),
    /// Send an event to a running engine
    #[command(after_help = "Example:\n  stepwell send hello/said name=You --wait --timeout 30s")]
    Send(send::Send),
    /// Send a signal to the runs that wait for it
    #[command(after_help = "Example:\n  stepwell signal approval by=ada")]
    Signal(signal::Signal),
    /// Look at accepted events
    #[command(after_help = "Example:\n  stepwell events ls --since 1h")]
    Events(events::Events),
    /// Look at what is declared
    #[command(after_help = "Example:\n  stepwell functions ls")]
    Functions(functions::Functions),
    /// Look at runs, follow them, cancel them, try them again
    #[command(after_help = "Example:\n  stepwell runs ls --status failed")]
    Runs(runs::Runs),
    /// Do runs again, as new ones; their effects happen again, but for the steps that are kept
    #[command(after_help = "Example:\n  stepwell replay --status failed --since 1d --dry-run")]
    Replay(replay::Replay),
    /// Show what a reload of a running engine would change, and for how many runs in flight
    #[command(after_help = "Example:\n  stepwell plan")]
    Plan(plan::Plan),
    /// Have a running engine read its config again: all of it comes into force, or nothing
    #[command(after_help = "Example:\n  stepwell reload")]
    Reload(reload::Reload),
    /// Watch what a running engine does: rates, queues, runs that need attention
    #[command(after_help = "Example:\n  stepwell top --once")]
    Top(top::Top),
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
    /// Draw which events start which functions, and what those send, wait for and invoke
    #[command(after_help = "Example:\n  stepwell graph --format svg > graph.svg")]
    Graph(graph::Graph),
    /// Print types of the events for those who send them, with a function that sends them and is checked by them
    #[command(after_help = "Example:\n  stepwell types --lang ts > events.ts")]
    Types(types::Types),
    /// Evaluate an expression on an event: CEL, or Rhai as a handler has it
    #[command(after_help = "Example:\n  stepwell eval 'event.data.name.size() > 3'")]
    Eval(eval::Eval),
    /// Try lines of a handler, one after the other: the whole handler API, with mocks instead of the world
    #[command(after_help = "Example:\n  echo 'step(\"double\", || event.data.name + event.data.name)' | stepwell repl")]
    Repl(repl::Repl),
    /// Make event keys and tokens
    #[command(after_help = "Example:\n  stepwell keys new > keys.env")]
    Keys(keys::Keys),
    /// Print the completions of a shell
    #[command(after_help = "Example:\n  stepwell completions bash > stepwell.bash && source stepwell.bash")]
    Completions(completions::Completions),
    /// Say at length what a diagnostic's code means
    #[command(after_help = "Example:\n  stepwell explain E0304")]
    Explain(explain::Explain),
    /// Measure what this machine gives, each figure beside its raw limit
    #[command(after_help = "Example:\n  stepwell bench --quick --markdown BENCHMARKS.md")]
    Bench(bench::Bench),
}

impl Command {
    fn run(self, out: &Out) -> Result<Exit, Trouble> {
        match self {
            Command::Init(command) => command.run(out),
            Command::Dev(command) => command.run(out),
            Command::Run(command) => command.run(out),
            Command::Try(command) => command.run(out),
            Command::Validate(command) => command.run(out),
            Command::Test(command) => command.run(out),
            Command::Send(command) => command.run(out),
            Command::Signal(command) => command.run(out),
            Command::Events(command) => command.run(out),
            Command::Functions(command) => command.run(out),
            Command::Runs(command) => command.run(out),
            Command::Replay(command) => command.run(out),
            Command::Plan(command) => command.run(out),
            Command::Reload(command) => command.run(out),
            Command::Top(command) => command.run(out),
            Command::Config(command) => command.run(out),
            Command::Doctor(command) => command.run(out),
            Command::Backup(command) => command.run(out),
            Command::Sql(command) => command.run(out),
            Command::Schema(command) => command.run(out),
            Command::Bench(command) => command.run(out),
            Command::Graph(command) => command.run(out),
            Command::Types(command) => command.run(out),
            Command::Eval(command) => command.run(out),
            Command::Repl(command) => command.run(out),
            Command::Keys(command) => command.run(out),
            Command::Completions(command) => command.run(out),
            Command::Explain(command) => command.run(out),
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
        let argument = argument.hide_env_values(true);
        let Some(long) = argument.get_long().filter(|long| !matches!(*long, "help" | "version")) else { return argument };
        // The parser wants names that outlive it; there are some dozens, made once or twice in a process.
        let variable: &'static str = format!("STEPWELL_{}", long.to_uppercase().replace('-', "_")).leak();
        if !is_meant(variable) {
            return argument;
        }
        let switch = !argument.get_action().takes_values();
        let argument = argument.env(variable);
        // `STEPWELL_JSON=1` and `STEPWELL_JSON=no` are said as people say them.
        if switch { argument.value_parser(clap::builder::FalseyValueParser::new()) } else { argument }
    });
    command.mut_subcommands(with_variables)
}

/// Whether a variable is for us: of a service called `stepwell`, Kubernetes tells every container `STEPWELL_PORT=tcp://…`.
fn is_meant(variable: &str) -> bool {
    let text = remote::variable(variable).unwrap_or_default();
    !["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme))
}

/// A runtime for a command that waits for something: on this thread alone, since the engine brings its own threads.
fn runtime() -> Result<tokio::runtime::Runtime, Trouble> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Trouble::new(Exit::Io, Diagnostic::error("E0540", format!("cannot start: {error}"))))
}

/// Does something to its end on a runtime of its own. What blocks a thread of it for long, such as a read of a whole database, is left
/// to the end of the process: a runtime that goes out of scope would wait for it.
fn to_its_end<F: Future>(work: F) -> Result<F::Output, Trouble> {
    let runtime = runtime()?;
    let output = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(output)
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    alloc::keep_freed();
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

    #[test]
    fn what_blocks_a_thread_holds_nobody_up_at_the_end() {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let done = to_its_end(async move {
            tokio::task::spawn_blocking(move || held.recv());
            7
        });
        assert_eq!(done.ok(), Some(7));
        drop(hold);
    }

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
