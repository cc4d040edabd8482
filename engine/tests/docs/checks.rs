//! The tables of docs/checks.md: each wrong line is told of with its code, and each right one beside it is silent.

use std::fs;
use std::path::Path;

use stepwell::base::Diagnostic;
use stepwell::project::{Mode, Project};
use stepwell::script::Host;

use super::page::{self, Mark};
use crate::program::repository;

const PAGE: &str = "docs/checks.md";

/// A row of a table: the code, the wrong line, the right one.
struct Row {
    code: String,
    wrong: String,
    right: String,
}

/// The code in a cell, without its backticks, and with `\|` as it is meant.
fn line(cell: &str) -> String {
    cell.trim().trim_matches('`').replace("\\|", "|")
}

fn rows(section: &str) -> Vec<Row> {
    let text = fs::read_to_string(repository().join(PAGE)).unwrap();
    let section = text.split_once(&format!("\n## {section}\n")).unwrap().1.split("\n## ").next().unwrap().replace("\\|", "\u{1}");
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| code"));
    let row = |row: &str| {
        let cells: Vec<String> = row.trim_matches('|').split('|').map(|cell| line(&cell.replace('\u{1}', "\\|"))).collect();
        let [code, _, wrong, right] = cells.as_slice() else { panic!("{row}") };
        Row { code: code.clone(), wrong: wrong.clone(), right: right.clone() }
    };
    rows.map(row).collect()
}

fn config() -> String {
    let block = page::blocks(repository(), PAGE).into_iter().find(|block| block.is(&Mark::File("events.yaml".to_owned())));
    block.unwrap().text
}

fn problems(config: &str, handler: &str) -> Vec<Diagnostic> {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("events.yaml", config);
    write("handlers/ship.rhai", handler);
    write("handlers/sleeps.rhai", "sleep(\"nap\", \"1h\");\n");
    write("handlers/lib/fees.rhai", "fn fee(amount) { amount * 2 / 100 }\n");
    let environment = |name: &str| (name == "API_KEY").then(|| "a-key-of-the-test".to_owned());
    let path: &Path = &folder.path().join("events.yaml");
    match Project::load(path, &Host::new(), &environment, Mode::Check) {
        Ok((_, problems)) | Err(problems) => problems,
    }
}

fn hold(rows: &[Row], problems: impl Fn(&str) -> Vec<Diagnostic>) {
    let mut broken = Vec::new();
    for Row { code, wrong, right } in rows {
        let (told, silent) = (problems(wrong), problems(right));
        if !told.iter().any(|problem| problem.code == code) {
            broken.push(format!("{code} is not told of: {wrong}\n{told:?}"));
        }
        if !silent.is_empty() {
            broken.push(format!("something is told of: {right}\n{}", silent[0]));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

#[test]
fn each_row_of_handlers_is_told_of_where_it_is_wrong_alone() {
    let (rows, config) = (rows("In a handler"), config());
    assert!(rows.len() > 35);
    hold(&rows, |line| problems(&config, line));
}

#[test]
fn each_row_of_the_config_is_told_of_where_it_is_wrong_alone() {
    let (rows, config) = (rows("In events.yaml"), config());
    assert!(rows.len() > 10);
    hold(&rows, |line| {
        let key = line.split(':').next().unwrap();
        let mut lines: Vec<String> = config.lines().map(str::to_owned).collect();
        let at = lines.iter().position(|old| old.trim_start().starts_with(&format!("{key}:"))).unwrap();
        let spaces = lines[at].len() - lines[at].trim_start().len();
        lines[at] = format!("{}{line}", " ".repeat(spaces));
        problems(&lines.join("\n"), "step(\"ship\", || 1)\n")
    });
}

#[test]
fn every_warning_and_error_of_scripts_has_a_row_or_a_sentence() {
    let text = fs::read_to_string(repository().join(PAGE)).unwrap();
    let codes = stepwell::base::codes::ALL.iter().map(|entry| entry.code).filter(|code| code[1..].starts_with("03"));
    let missing: Vec<&str> = codes.filter(|code| !text.contains(code)).collect();
    assert!(missing.is_empty(), "{PAGE} says nothing of {missing:?}");
}
