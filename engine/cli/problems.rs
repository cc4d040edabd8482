//! Lists of problems in the forms that people, scripts and code hosts read.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::base::{Diagnostic, Location, Severity};

use super::out::{DIM, GREEN, RED, YELLOW, count, paint};

/// How a list of problems is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Pictures with carets, and a line that counts
    Human,
    /// One JSON document
    Json,
    /// Workflow commands, which GitHub shows beside the lines
    Github,
    /// SARIF 2.1.0, which code hosts and editors import
    Sarif,
}

/// Problems and the number of files that were read.
#[derive(Debug)]
pub struct List<'a> {
    /// In the order in which they are shown.
    pub problems: &'a [Diagnostic],
    /// The folder that the problems' paths are relative to, as it is reached from the working folder.
    pub root: &'a Path,
    /// How many files the project has, where that is known.
    pub files: usize,
}

impl List<'_> {
    /// How many are of this severity.
    pub fn of(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }

    /// The whole text, without a line break at its end.
    pub fn text(&self, format: Format) -> String {
        match format {
            Format::Human => self.human(),
            Format::Json => self.json().to_string(),
            Format::Github => self.problems.iter().map(|problem| self.github(problem)).collect::<Vec<_>>().join("\n"),
            Format::Sarif => self.sarif().to_string(),
        }
    }

    fn human(&self) -> String {
        let mut text = String::new();
        for problem in self.problems {
            text.push_str(&problem.render(true));
            text.push_str("\n\n");
        }
        text.push_str(&self.summary());
        text
    }

    /// `2 files, 2 errors, 1 warning`: the files with problems, or all files where there is none. Notes are not counted.
    pub fn summary(&self) -> String {
        let (errors, warnings) = (self.of(Severity::Error), self.of(Severity::Warning));
        if errors + warnings == 0 {
            return format!("{}, {}", count(self.files, "file"), paint(GREEN, "no problems"));
        }
        let mut parts = vec![count(self.named(), "file")];
        if errors > 0 {
            parts.push(paint(RED, count(errors, "error")));
        }
        if warnings > 0 {
            parts.push(paint(YELLOW, count(warnings, "warning")));
        }
        let code = self.problems.iter().map(|problem| problem.code).find(|code| !code.is_empty());
        let more = code.map(|code| paint(DIM, format!("   more: stepwell explain {code}"))).unwrap_or_default();
        format!("{}{more}", parts.join(", "))
    }

    /// How many files have errors or warnings; a problem without a place is the config's.
    fn named(&self) -> usize {
        let counted = self.problems.iter().filter(|problem| problem.severity != Severity::Note);
        counted.filter_map(|problem| problem.position()).map(|(file, _, _)| file).collect::<BTreeSet<_>>().len().max(1)
    }

    fn json(&self) -> Value {
        let problems: Vec<Value> = self.problems.iter().map(|problem| self.entry(problem)).collect();
        json!({"files": self.files.max(self.named()), "errors": self.of(Severity::Error), "warnings": self.of(Severity::Warning), "problems": problems})
    }

    fn entry(&self, problem: &Diagnostic) -> Value {
        let places: Vec<Value> = problem.places.iter().map(|place| self.place(place)).collect();
        json!({
            "severity": word(problem.severity),
            "code": problem.code,
            "message": problem.message,
            "places": places,
            "help": problem.helps,
        })
    }

    fn place(&self, place: &Location) -> Value {
        let (line, column) = place.source.position(place.range.start);
        let (end_line, end_column) = place.source.position(place.range.end);
        json!({"file": self.path(place), "line": line, "column": column, "end_line": end_line, "end_column": end_column, "label": place.label})
    }

    /// The file of a place, as it is reached from the working folder.
    fn path(&self, place: &Location) -> String {
        let path = if self.root == Path::new(".") { place.source.name.clone().into() } else { self.root.join(&place.source.name) };
        path.display().to_string()
    }

    fn github(&self, problem: &Diagnostic) -> String {
        let level = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "notice",
        };
        let place = problem.places.first().map(|place| {
            let (line, column) = place.source.position(place.range.start);
            format!("file={},line={line},col={column},", property(&self.path(place)))
        });
        let message = std::iter::once(&problem.message).chain(&problem.helps).cloned().collect::<Vec<_>>().join("\n");
        let data = message.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        format!("::{level} {}title={}::{data}", place.unwrap_or_default(), problem.code)
    }

    fn sarif(&self) -> Value {
        let rules: BTreeSet<&str> = self.problems.iter().map(|problem| problem.code).collect();
        let rules: Vec<Value> = rules.into_iter().map(|code| json!({"id": code})).collect();
        let results: Vec<Value> = self.problems.iter().map(|problem| self.result(problem)).collect();
        let driver = json!({"name": "stepwell", "version": env!("CARGO_PKG_VERSION"), "rules": rules});
        json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
        })
    }

    fn result(&self, problem: &Diagnostic) -> Value {
        let text = std::iter::once(&problem.message).chain(&problem.helps).cloned().collect::<Vec<_>>().join("\n");
        let location = |place: &Location| {
            let (line, column) = place.source.position(place.range.start);
            let (end_line, end_column) = place.source.position(place.range.end);
            let region = json!({"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column});
            json!({"physicalLocation": {"artifactLocation": {"uri": self.path(place)}, "region": region}})
        };
        let locations: Vec<Value> = problem.places.iter().take(1).map(location).collect();
        json!({"ruleId": problem.code, "level": word(problem.severity), "message": {"text": text}, "locations": locations})
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// A value within a workflow command's properties, where comma and colon end it.
fn property(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A").replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Source;

    fn problems() -> Vec<Diagnostic> {
        let source = Source::new("events.yaml", "version: 1\nfunktions: {}\n");
        let error = Diagnostic::error("E0102", "unknown key `funktions`").at(Location::word_at(&source, 2, 1)).help("50% sure");
        vec![error, Diagnostic::warning("W0410", "b"), Diagnostic::note("N0001", "c")]
    }

    fn list(problems: &[Diagnostic]) -> List<'_> {
        List { problems, root: Path::new("shop"), files: 4 }
    }

    #[test]
    fn the_summary_counts_errors_and_warnings() {
        let plain = |problems: &[Diagnostic]| anstream::adapter::strip_str(&list(problems).summary()).to_string();
        assert_eq!(plain(&problems()), "1 file, 1 error, 1 warning   more: stepwell explain E0102");
        assert_eq!(plain(&[]), "4 files, no problems");
    }

    #[test]
    fn machines_get_the_place_as_seen_from_here() {
        let problems = problems();
        let list = list(&problems);
        let github = list.text(Format::Github);
        assert!(
            github.starts_with("::error file=shop/events.yaml,line=2,col=1,title=E0102::unknown key `funktions`%0A50%25 sure\n"),
            "{github}"
        );
        let json: Value = serde_json::from_str(&list.text(Format::Json)).unwrap();
        assert_eq!(json["problems"][0]["places"][0]["end_column"], 10);
        let sarif: Value = serde_json::from_str(&list.text(Format::Sarif)).unwrap();
        assert_eq!(sarif["runs"][0]["results"][0]["level"], "error");
    }
}
