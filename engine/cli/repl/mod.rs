//! `stepwell repl`: lines of a handler, one after the other, with the whole handler API; effects are mocked or refused.
//!
//! What a line means is decided by `testing::Session`; here lines are read, at a terminal or from a pipe, and answers shown.

mod edit;
mod help;

use std::io::{BufRead as _, IsTerminal as _};

use serde_json::Value;

use crate::base::Diagnostic;
use crate::base::diagnostic::nearest;
use crate::project::Project;
use crate::script::Host;
use crate::server::view::LogView;
use crate::testing::Session;

use super::eval::{self, Given};
use super::exit::{Exit, Trouble};
use super::live::log_line;
use super::out::{BOLD, DIM, Out, paint, shown};
use super::place::{ConfigOption, STATE_FOLDER};

/// The commands of the prompt, with what follows them and what they do.
const COMMANDS: [(&str, &str, &str); 10] = [
    (":help", "[NAME]", "what a function does; without a name, what there is"),
    (":event", "[NAME [DATA]]", "the event that the lines see; with a name (its example), JSON or name=value, another one"),
    (":cel", "EXPR", "evaluates CEL over that event"),
    (":mock", "{ … }", "answers in the place of the world, as in tests: { http: \"GET *\", reply: { json: {} } }"),
    (":send", "{ … }", "sends something later, as in tests: { at: 5m, name: otp/received }"),
    (":mocks", "", "the mocks so far"),
    (":lines", "", "the lines so far, as a handler"),
    (":undo", "", "takes the last line back"),
    (":reset", "", "forgets the lines"),
    (":quit", "", "ends, as the end of the input does"),
];

/// Arguments of `repl`.
#[derive(Debug, clap::Args)]
pub struct Repl {
    #[command(flatten)]
    config: ConfigOption,
}

/// Where lines come from.
enum Lines {
    Terminal(Box<edit::Terminal>),
    Pipe(std::io::StdinLock<'static>),
}

impl Lines {
    /// The next input: one line, or several where brackets are open; none at the end.
    fn next(&mut self) -> Result<Option<String>, Trouble> {
        match self {
            Lines::Terminal(terminal) => terminal.next(),
            Lines::Pipe(pipe) => {
                let mut text = String::new();
                // What is open at the end is for the compiler to tell.
                while pipe.read_line(&mut text)? > 0 {
                    if !edit::is_open(&text) {
                        break;
                    }
                }
                Ok(Some(text).filter(|text| !text.is_empty()))
            }
        }
    }
}

/// Whether the prompt goes on.
enum Next {
    /// It goes on, and this went well.
    Well,
    /// It goes on; what went wrong has been shown.
    Wrong,
    /// It is over.
    Over,
}

impl Repl {
    /// Reads lines until their end.
    ///
    /// # Errors
    /// Exit 78 for a project that is not valid, 1 where a line from a pipe failed.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let host = Host::new();
        let project = eval::project(self.config.config.as_deref(), &host)?;
        let history = project.as_ref().map(|project| project.root.join(STATE_FOLDER).join("prompt_history"));
        let (_folder, project) = match project {
            Some(project) => (None, project),
            None => eval::bare(&host).map(|(folder, project)| (Some(folder), project))?,
        };
        let mut session = Session::new(&project, &host);
        // Keys are read from the one, and the line is drawn on the other: only where both are a terminal is there a prompt.
        let is_terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        let mut lines = match is_terminal {
            true => Lines::Terminal(Box::new(edit::Terminal::new(history, &project))),
            false => Lines::Pipe(std::io::stdin().lock()),
        };
        if is_terminal {
            let (name, _) = session.event();
            out.say(format!(
                "Lines of a handler; `event` is the example of {}. {} says more.",
                paint(BOLD, shown(name)),
                paint(BOLD, ":help")
            ));
        }
        let mut exit = Exit::Done;
        while let Some(line) = lines.next()? {
            match answer(line.trim(), &mut session, &project, out)? {
                Next::Well => {}
                Next::Wrong => exit = if is_terminal { Exit::Done } else { Exit::Failed },
                Next::Over => break,
            }
            if let Lines::Terminal(terminal) = &mut lines {
                terminal.learn(session.lines());
            }
        }
        Ok(exit)
    }
}

/// Answers one input.
fn answer(line: &str, session: &mut Session<'_>, project: &Project, out: &Out) -> Result<Next, Trouble> {
    if line.is_empty() {
        return Ok(Next::Well);
    }
    let Some(command) = line.strip_prefix(':') else { return said(line, session, out) };
    let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let rest = rest.trim();
    let wrong = |problems: Vec<Diagnostic>| {
        out.problems(&problems);
        Ok(Next::Wrong)
    };
    match word {
        "help" | "h" | "?" => return if help::show(rest, out)? { Ok(Next::Well) } else { Ok(Next::Wrong) },
        "event" => return event(rest, session, project, out),
        "cel" => {
            let (name, data) = session.event();
            let given = Given { id: "example".to_owned(), name: name.to_owned(), data, ts: 0 };
            match eval::cel(rest, Some(&given), None) {
                Ok((value, _)) => out.json(&value)?,
                Err(trouble) => return wrong(trouble.problems),
            }
        }
        "mock" => match session.add_mock(rest) {
            Ok(()) => {}
            Err(problems) => return wrong(problems),
        },
        "send" => match session.add_later(rest) {
            Ok(()) => {}
            Err(problems) => return wrong(problems),
        },
        "mocks" => session.mocks().iter().try_for_each(|mock| out.line(shown(mock)))?,
        "lines" => session.lines().iter().try_for_each(|line| out.line(shown(line)))?,
        "undo" => {
            if !session.undo() {
                return wrong(vec![Diagnostic::error("E0536", "there is no line to take back")]);
            }
        }
        "reset" => session.reset(),
        "quit" | "q" | "exit" => return Ok(Next::Over),
        other => {
            let other = format!(":{other}");
            let problem = Diagnostic::error("E0536", format!("there is no command `{other}`"));
            return wrong(vec![match nearest(&other, COMMANDS.map(|(name, _, _)| name)) {
                Some(right) => problem.help(format!("did you mean `{right}`?")),
                None => problem.help("`:help` lists them"),
            }]);
        }
    }
    Ok(Next::Well)
}

/// Does a line of the handler.
fn said(line: &str, session: &mut Session<'_>, out: &Out) -> Result<Next, Trouble> {
    let said = session.say(line);
    for line in &said.logs {
        out.say(log_line(&LogView::of(line)));
    }
    if !said.problems.is_empty() {
        out.problems(&said.problems);
        return Ok(Next::Wrong);
    }
    if !said.value.is_null() {
        out.json(&said.value)?;
    }
    Ok(Next::Well)
}

/// Shows the event, or takes another one.
fn event(rest: &str, session: &mut Session<'_>, project: &Project, out: &Out) -> Result<Next, Trouble> {
    let (name, data) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if !name.is_empty() {
        let data = match data.trim() {
            "" => None,
            text if text.starts_with('{') => match serde_json::from_str(text) {
                Ok(data) => Some(data),
                Err(error) => {
                    out.problems(&[Diagnostic::error("E0536", format!("the data are not JSON: {error}"))]);
                    return Ok(Next::Wrong);
                }
            },
            fields => {
                let mut data = project.example(name).and_then(Value::as_object).cloned().unwrap_or_default();
                for word in fields.split_whitespace() {
                    let Some((field, text)) = word.split_once('=').filter(|(field, _)| !field.is_empty()) else {
                        let problem = Diagnostic::error("E0536", format!("`{word}` is not a field"));
                        out.problems(&[problem.help("write name=value, such as userId=u1, or the data as JSON")]);
                        return Ok(Next::Wrong);
                    };
                    data.insert(field.to_owned(), project.typed_value(name, field, text));
                }
                Some(Value::Object(data))
            }
        };
        if let Err(problems) = session.set_event(name, data) {
            out.problems(&problems);
            return Ok(Next::Wrong);
        }
    }
    let (name, data) = session.event();
    out.line(format!("{} {}", paint(BOLD, shown(name)), paint(DIM, shown(&data.to_string()))))?;
    Ok(Next::Well)
}
