//! What commands print on a terminal: tables with heads, a tree that is drawn anew, colours.

use super::support::{Engine, Place};

/// Calls the program on a terminal of its own (`script` makes one); gives what it drew, and its exit code.
fn on_terminal(place: &Place, url: &str, line: &str) -> (String, i32) {
    let program = place.command();
    let mut script = std::process::Command::new("script");
    script.arg("-qec").arg(format!("{} {line}", program.get_program().display())).arg("/dev/null");
    script.current_dir(place.path("")).env_clear().env("PATH", std::env::var("PATH").unwrap()).env("TERM", "xterm");
    let output = script.env("STEPWELL_URL", url).stdin(std::process::Stdio::null()).output().unwrap();
    (String::from_utf8(output.stdout).unwrap().replace('\r', ""), output.status.code().unwrap())
}

/// Without the codes that colour and move.
fn plain(drawn: &str) -> String {
    let mut text = String::new();
    let mut rest = drawn;
    while let Some((before, code)) = rest.split_once('\u{1b}') {
        text.push_str(before);
        rest = code.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest);
    }
    text + rest
}

#[test]
fn on_a_terminal_lists_are_tables_and_runs_are_trees() {
    let place = Place::hello();
    place.write("handlers/greet.rhai", "log::info(\"hi\");\nstep(\"one\", || 1);\nstep(\"two\", || 2);\n#{ a: 1 }\n");
    let engine = Engine::dev(&place, &["--ephemeral"]);
    let (sent, exit) = on_terminal(&place, &engine.url, "send hello/said --example --wait");
    assert_eq!(exit, 0, "{sent}");
    assert!(sent.contains("\u{1b}["), "it is coloured: {sent}");
    let text = plain(&sent);
    assert!(text.contains("info  hi"), "{text}");
    assert!(text.contains("├─ ✓ one") && text.contains("└─ ✓ two") && text.ends_with("{\n  \"a\": 1\n}\n"), "{text}");
    let (listed, exit) = on_terminal(&place, &engine.url, "runs ls");
    let lines: Vec<String> = plain(&listed).lines().map(str::to_owned).collect();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((exit, words(&lines[0])), (0, ["run", "function", "state", "created", "key", "note"].map(str::to_owned).to_vec()));
    let row = words(&lines[1]);
    assert_eq!((row[1].as_str(), row[2].as_str(), row.last().unwrap().as_str()), ("greet", "completed", "ago"), "{listed}");
    let (tree, _) = on_terminal(&place, &engine.url, &format!("runs trace {}", row[0]));
    assert!(plain(&tree).contains("└─ ✓ two"), "{tree}");
    let (none, exit) = on_terminal(&place, &engine.url, "runs ls --status failed");
    assert_eq!((plain(&none).as_str(), exit), ("no runs\n", 0));
    let (problem, exit) = on_terminal(&place, &engine.url, "runs get zzz");
    assert_eq!(exit, 3, "{problem}");
    assert!(plain(&problem).starts_with("error[E0534]: ") && problem.contains("\u{1b}["), "{problem}");
}

#[test]
fn no_color_is_followed_on_a_terminal() {
    let place = Place::hello();
    let (drawn, exit) = on_terminal(&place, "", "validate");
    assert!(exit == 0 && drawn.contains("\u{1b}["), "{drawn}");
    let program = place.command();
    let line = format!("NO_COLOR=1 {} validate", program.get_program().display());
    let output = std::process::Command::new("script").args(["-qec", &line, "/dev/null"]).current_dir(place.path("")).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "3 files, no problems\r\n");
}

/// As `on_terminal`, with what is typed.
fn typed(place: &Place, url: &str, line: &str, keys: &str) -> (String, i32) {
    use std::io::Write as _;
    use std::process::Stdio;
    let program = place.command();
    let mut script = std::process::Command::new("script");
    script.arg("-qec").arg(format!("{} {line}", program.get_program().display())).arg("/dev/null");
    script.current_dir(place.path("")).env_clear().env("PATH", std::env::var("PATH").unwrap()).env("TERM", "xterm");
    let mut child = script.env("STEPWELL_URL", url).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(keys.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (String::from_utf8(output.stdout).unwrap().replace('\r', ""), output.status.code().unwrap())
}

#[test]
fn many_runs_are_migrated_once_somebody_agrees_and_a_check_shows_how_far_it_is() {
    let place = Place::hello();
    let config = place.read("events.yaml").replace("retries: 3", "versions: pin");
    place.write("events.yaml", &config);
    place.write("handlers/greet.rhai", "step(\"one\", || 1);\nsleep(\"1h\");\n1\n");
    let engine = Engine::dev(&place, &["--no-watch"]);
    let url = engine.url.clone();
    for _ in 0..2 {
        place.ask(&engine, &["send", "hello/said", "name=x"]).exits(0);
    }
    let asleep = || place.ask(&engine, &["runs", "ls", "--status", "sleeping"]).exits(0).out.lines().count();
    while asleep() < 2 {
        std::thread::yield_now();
    }
    place.write("handlers/greet.rhai", "step(\"one\", || 1);\nsleep(\"1h\");\n2\n");
    place.ask(&engine, &["reload"]).exits(0);
    let (asked, exit) = typed(&place, &url, "runs migrate --function greet", "n\n");
    assert!(exit == 1 && asked.contains("take 2 runs to the newest version") && !asked.contains("goes on with"), "{asked}");
    let (done, exit) = typed(&place, &url, "runs migrate --function greet", "y\n");
    assert!(exit == 0 && done.matches("goes on with").count() == 2, "{done}");
    let (left, exit) = typed(&place, &url, "runs cancel --function greet", "n\n");
    assert!(exit == 1 && left.contains("2 runs match") && left.contains("cancel 2 runs; what they have invoked"), "{left}");
    assert_eq!(asleep(), 2, "nobody agreed: {left}");
    let (checked, exit) = on_terminal(&place, &url, "replay --check");
    assert!(exit == 0 && checked.contains("checking: 1 run, 0 would go otherwise"), "{checked}");
    let piped = place.run(&["replay", "--check"]).exits(0);
    assert!(!piped.err.contains("checking"), "{}", piped.err);
    let (done, exit) = typed(&place, &url, "runs cancel --function greet", "y\n");
    assert!(exit == 0 && done.contains("cancel 2 runs"), "{done}");
    assert_eq!(asleep(), 0, "{done}");
}
