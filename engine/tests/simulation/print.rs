//! A program as a Rhai script.

use std::fmt::{self, Write};

use stepwell::base::Span;

use super::program::{
    Break, CAUGHT, Caught, Data, Expr, Helper, Invoke, MODULUS, Match, NOTHING, On, Parallel, Program, Race, SETTLED, Shape, Step, Stmt,
    Target, TinyKind, Wait,
};

/// What a step says when it breaks.
pub fn complaint(step: &str) -> String {
    format!("{step} breaks")
}

/// What the engine says when a step takes too long.
pub fn overrun(seconds: i64) -> String {
    format!("the step took longer than {}", Span::seconds(seconds))
}

/// The handler's text.
pub fn script(program: &Program) -> String {
    let mut page = Page { program, text: String::new(), indent: 0, seen: Vec::new() };
    page.program(program).expect("writing to a string cannot fail");
    page.text
}

struct Page<'a> {
    program: &'a Program,
    text: String,
    indent: usize,
    /// The tiny records that stand before, in the blocks that are open: a step shows them to its effect.
    seen: Vec<u32>,
}

impl Page<'_> {
    fn program(&mut self, program: &Program) -> fmt::Result {
        if program.edition > 0 {
            self.line(&format!("// edition {}", program.edition))?;
        }
        for (number, helper) in program.helpers.iter().enumerate() {
            self.helper(number, helper)?;
        }
        self.block(&program.body)?;
        let result: Vec<String> = program.result.iter().map(|variable| format!("v{variable}")).collect();
        self.line(&format!("#{{ values: [{}], text: \"done\" }}", result.join(", ")))
    }

    fn helper(&mut self, number: usize, helper: &Helper) -> fmt::Result {
        self.line(&format!("fn help{number}(v{}) {{", helper.parameter))?;
        self.indent += 1;
        self.block(&helper.body)?;
        let result = expr(&helper.result);
        self.line(&result)?;
        self.indent -= 1;
        self.line("}")
    }

    fn block(&mut self, stmts: &[Stmt]) -> fmt::Result {
        let seen = self.seen.len();
        for stmt in stmts {
            self.stmt(stmt)?;
        }
        self.seen.truncate(seen);
        Ok(())
    }

    fn nested(&mut self, stmts: &[Stmt]) -> fmt::Result {
        self.indent += 1;
        self.block(stmts)?;
        self.indent -= 1;
        Ok(())
    }

    fn line(&mut self, line: &str) -> fmt::Result {
        writeln!(self.text, "{:1$}{line}", "", self.indent * 4)
    }

    fn stmt(&mut self, stmt: &Stmt) -> fmt::Result {
        match stmt {
            Stmt::Let { to, value } => self.line(&format!("{} = {};", target(*to), expr(value))),
            Stmt::Step(step) => self.step(step),
            Stmt::Sleep { name: None, seconds } => self.line(&format!("sleep({seconds});")),
            Stmt::Sleep { name: Some(name), seconds } => self.line(&format!("sleep(\"{name}\", \"{}\");", Span::seconds(*seconds))),
            Stmt::If { test, then, other } => {
                self.line(&format!("if {} % 2 == 0 {{", expr(test)))?;
                self.nested(then)?;
                if !other.is_empty() {
                    self.line("} else {")?;
                    self.nested(other)?;
                }
                self.line("}")
            }
            Stmt::For { times, body } => {
                self.line(&format!("for turn in 0..{times} {{"))?;
                self.nested(body)?;
                self.line("}")
            }
            Stmt::Call { to, helper, argument } => self.line(&format!("{} = help{helper}({});", target(*to), expr(argument))),
            Stmt::Tiny { variable, kind } => {
                self.seen.push(*variable);
                let call = match kind {
                    TinyKind::Now => "now()",
                    TinyKind::Uuid => "uuid()",
                    TinyKind::Random => "random(0, 1000000)",
                };
                self.line(&format!("let t{variable} = `${{{call}}}`;"))
            }
            Stmt::Flaky { site, .. } => self.line(&format!("if flaky(run.id, \"{site}\") {{ throw \"{}\"; }}", complaint(site))),
            Stmt::Fail { message } => self.line(&format!("fail(\"{message}\");")),
            Stmt::Wait(wait) => self.wait(wait),
            Stmt::Invoke(invoke) => self.invoke(invoke),
            Stmt::Send { events } => match events.as_slice() {
                [(event, one)] => self.line(&format!("send_event(\"thing/{event}\", {});", data(one))),
                all => {
                    let all: Vec<String> =
                        all.iter().map(|(event, one)| format!("#{{ name: \"thing/{event}\", data: {} }}", data(one))).collect();
                    self.line(&format!("send_event([{}]);", all.join(", ")))
                }
            },
            Stmt::Signal { number, value } => self.line(&format!("send_signal(\"signal{number}\", {});", expr(value))),
            Stmt::Parallel(parallel) => self.parallel(parallel),
            Stmt::Race(race) => self.race(race),
        }
    }

    fn wait(&mut self, wait: &Wait) -> fmt::Result {
        let id = wait.id.as_ref().map(|id| format!("id: \"{id}\""));
        let timeout = wait.seconds.map(|seconds| format!("timeout: \"{seconds}s\""));
        let condition = |how: Match| how.cel().map(|cel| format!("\"if\": \"{cel}\""));
        let (call, first, own) = match &wait.on {
            On::Signal(number) => ("wait_for_signal", format!("\"signal{number}\""), None),
            On::Events(events) => match events.as_slice() {
                [(event, how)] => ("wait_for_event", format!("\"thing/{event}\""), condition(*how)),
                all => {
                    let one = |(event, how): &(usize, Match)| {
                        let parts: Vec<String> =
                            [Some(format!("event: \"thing/{event}\"")), condition(*how)].into_iter().flatten().collect();
                        format!("#{{ {} }}", parts.join(", "))
                    };
                    ("wait_for_any", format!("[{}]", all.iter().map(one).collect::<Vec<_>>().join(", ")), None)
                }
            },
        };
        let options: Vec<String> = [id, own, timeout].into_iter().flatten().collect();
        let options = if options.is_empty() { String::new() } else { format!(", #{{ {} }}", options.join(", ")) };
        let number = variable(wait.to);
        self.line(&format!("let w{number} = {call}({first}{options});"))?;
        let value = if matches!(wait.on, On::Signal(_)) { "" } else { ".data.n" };
        self.line(&format!("{} = if w{number} == () {{ {NOTHING} }} else {{ w{number}{value} }};", target(wait.to)))
    }

    fn invoke(&mut self, invoke: &Invoke) -> fmt::Result {
        let id = invoke.id.as_ref().map(|id| format!("id: \"{id}\""));
        let timeout = invoke.seconds.map(|seconds| format!("timeout: \"{seconds}s\""));
        let options: Vec<String> = [id, timeout].into_iter().flatten().collect();
        let options = if options.is_empty() { String::new() } else { format!(", #{{ {} }}", options.join(", ")) };
        let number = variable(invoke.to);
        if let Target::New(_) = invoke.to {
            self.line(&format!("let v{number} = 0;"))?;
        }
        if invoke.caught {
            self.line("try {")?;
            self.indent += 1;
        }
        self.line(&format!("let i{number} = invoke(\"{}\", {}{options});", invoke.function, data(&invoke.data)))?;
        self.line(&format!("v{number} = if i{number}.values.len() == 0 {{ 0 }} else {{ i{number}.values[0] }};"))?;
        if invoke.caught {
            self.indent -= 1;
            self.line(&format!("}} catch (e) {{ v{number} = {CAUGHT}; }}"))?;
        }
        Ok(())
    }

    fn parallel(&mut self, parallel: &Parallel) -> fmt::Result {
        let Some(first) = parallel.branches.first() else { return Ok(()) };
        let name = format!("p{}", variable(first.to));
        self.line(&format!("let {name} = parallel({}", if parallel.named { "#{" } else { "[" }))?;
        for (at, branch) in parallel.branches.iter().enumerate() {
            self.indent += 1;
            self.line(&if parallel.named { format!("{}: || {{", parallel.name(at)) } else { "|| {".to_owned() })?;
            self.indent += 1;
            self.block(&branch.body)?;
            let result = expr(&branch.result);
            self.line(&result)?;
            self.indent -= 1;
            self.line("},")?;
            self.indent -= 1;
        }
        let limit = parallel.limit.map(|limit| format!("limit: {limit}"));
        let settle = parallel.settle.then(|| "settle: true".to_owned());
        let options: Vec<String> = [limit, settle].into_iter().flatten().collect();
        let options = if options.is_empty() { String::new() } else { format!(", #{{ {} }}", options.join(", ")) };
        self.line(&format!("{}{options});", if parallel.named { "}" } else { "]" }))?;
        for (at, branch) in parallel.branches.iter().enumerate() {
            let part = if parallel.named { format!("{name}.{}", parallel.name(at)) } else { format!("{name}[{at}]") };
            let value = if parallel.settle { format!("if \"ok\" in {part} {{ {part}.ok }} else {{ {SETTLED} }}") } else { part };
            self.line(&format!("{} = {value};", target(branch.to)))?;
        }
        Ok(())
    }

    fn race(&mut self, race: &Race) -> fmt::Result {
        let name = format!("r{}", variable(race.to));
        let to = |to: Target| if race.caught { format!("v{}", variable(to)) } else { target(to) };
        if race.caught {
            for to in [race.to, race.first] {
                if let Target::New(variable) = to {
                    self.line(&format!("let v{variable} = 0;"))?;
                }
            }
            self.line("try {")?;
            self.indent += 1;
        }
        self.line(&format!("let {name} = race({}", if race.named { "#{" } else { "[" }))?;
        for (at, lane) in race.lanes.iter().enumerate() {
            self.indent += 1;
            self.line(&if race.named { format!("{}: || {{", race.lane(at)) } else { "|| {".to_owned() })?;
            self.indent += 1;
            self.block(&lane.body)?;
            let result = expr(&lane.result);
            self.line(&result)?;
            self.indent -= 1;
            self.line("},")?;
            self.indent -= 1;
        }
        let id = race.id.as_ref().map(|id| format!(", #{{ id: \"{id}\" }}")).unwrap_or_default();
        self.line(&format!("{}{id});", if race.named { "}" } else { "]" }))?;
        self.line(&format!("{} = {name}.value;", to(race.to)))?;
        let number = if race.named { format!("parse_int({name}.name.sub_string(1))") } else { format!("{name}.index") };
        self.line(&format!("{} = {number};", to(race.first)))?;
        if race.caught {
            self.indent -= 1;
            let (value, first) = (to(race.to), to(race.first));
            self.line(&format!("}} catch (e) {{ {value} = {CAUGHT}; {first} = {}; }}", race.lanes.len()))?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> fmt::Result {
        if self.program.lines {
            self.line(&format!("log::info(\"{} comes\");", step.name))?;
        }
        let caught = step.caught != Caught::No;
        if caught {
            // `try` is a statement, so the variable stands before it.
            if let Target::New(variable) = step.to {
                self.line(&format!("let v{variable} = 0;"))?;
            }
            self.line("try {")?;
            self.indent += 1;
        }
        let to = match step.to {
            Target::New(variable) if !caught => format!("let v{variable}"),
            Target::New(variable) | Target::Old(variable) => format!("v{variable}"),
        };
        let retries = step.retries.map(|retries| format!("retries: {retries}"));
        let timeout = step.timeout.map(|timeout| format!("timeout: \"{timeout}s\""));
        let options: Vec<String> = retries.into_iter().chain(timeout).collect();
        let options = if options.is_empty() { String::new() } else { format!("#{{ {} }}, ", options.join(", ")) };
        self.line(&format!("{to} = step(\"{}\", {options}|| {{", step.name))?;
        self.indent += 1;
        let seen: Vec<String> = self.seen.iter().map(|tiny| format!("t{tiny}")).collect();
        let breaks = match step.how {
            Break::Throw => format!("throw \"{}\";", complaint(&step.name)),
            Break::ThrowMap => format!("throw #{{ message: \"{}\", n: 7 }};", complaint(&step.name)),
            Break::RetryAfter { seconds } => format!("retry_after({seconds}, \"{}\");", complaint(&step.name)),
            Break::Fail => format!("fail(\"{}\");", complaint(&step.name)),
        };
        self.line(&format!("if effect([{}]) {{ {breaks} }}", seen.join(", ")))?;
        if self.program.has_counting(step) {
            // Last, so that the others wait no longer than its commit takes.
            self.line("kv::incr(\"count\");")?;
        }
        let value = expr(&step.value);
        self.line(&match step.shape {
            Shape::Number => value,
            Shape::Map => format!("#{{ n: {value}, text: \"{} ✓\" }}", step.name),
            Shape::List => format!("[{value}, ()]"),
        })?;
        self.indent -= 1;
        let take = match step.shape {
            Shape::Number => "",
            Shape::Map => ".n",
            Shape::List => "[0]",
        };
        self.line(&format!("}}){take};"))?;
        if caught {
            self.indent -= 1;
            let variable = match step.to {
                Target::New(variable) | Target::Old(variable) => variable,
            };
            let answer = match step.caught {
                Caught::Again => "throw e;".to_owned(),
                _ => format!("v{variable} = e.attempts * 10 + if e.message == \"{}\" {{ 1 }} else {{ 0 }};", complaint(&step.name)),
            };
            self.line(&format!("}} catch (e) {{ {answer} }}"))?;
        }
        Ok(())
    }
}

fn variable(to: Target) -> u32 {
    let (Target::New(variable) | Target::Old(variable)) = to;
    variable
}

/// The data of an event as a map of the script.
fn data(data: &Data) -> String {
    let a = data.a.map(|a| format!("a: {a}, ")).unwrap_or_default();
    format!("#{{ {a}b: {}, n: {} }}", data.b, expr(&data.n))
}

fn target(to: Target) -> String {
    match to {
        Target::New(variable) => format!("let v{variable}"),
        Target::Old(variable) => format!("v{variable}"),
    }
}

fn expr(value: &Expr) -> String {
    match value {
        Expr::Number(number) => number.to_string(),
        Expr::Variable(variable) => format!("v{variable}"),
        // The clock sends none.
        Expr::Input => "(event.data.n ?? 3)".to_owned(),
        Expr::Mix(left, right) => format!("(({} * 31 + {} + 1) % {MODULUS})", expr(left), expr(right)),
    }
}
