//! Lists of problems in the forms that people, scripts and code hosts read.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::base::{Diagnostic, Location, Severity, codes};

use super::out::{DIM, GREEN, RED, YELLOW, count, paint};

/// How a list of problems is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Pictures with carets, and a line that counts
    #[value(alias = "text")]
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
            let (end_line, end_column) = place.source.position(place.range.end);
            // Columns are shown for places within one line alone.
            let end = if line == end_line { format!(",endColumn={end_column}") } else { String::new() };
            format!("file={},line={line},col={column},endLine={end_line}{end},", property(&self.path(place)))
        });
        let message = std::iter::once(&problem.message).chain(&problem.helps).cloned().collect::<Vec<_>>().join("\n");
        let data = message.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        format!("::{level} {}title={}::{data}", place.unwrap_or_default(), problem.code)
    }

    /// A log of SARIF 2.1.0: the codes that came up as rules, with what `explain` says of them, and the problems as results.
    fn sarif(&self) -> Value {
        let used: BTreeSet<&str> = self.problems.iter().map(|problem| problem.code).collect();
        let used: Vec<&str> = used.into_iter().collect();
        let rules: Vec<Value> = used.iter().map(|code| rule(code)).collect();
        let results: Vec<Value> = self.problems.iter().map(|problem| self.result(problem, &used)).collect();
        let driver = json!({"name": "stepwell", "version": VERSION, "semanticVersion": VERSION, "rules": rules});
        json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "invocations": [{"executionSuccessful": true}],
                "results": results,
            }],
        })
    }

    fn result(&self, problem: &Diagnostic, rules: &[&str]) -> Value {
        let text = std::iter::once(&problem.message).chain(&problem.helps).cloned().collect::<Vec<_>>().join("\n");
        let mut result = json!({
            "ruleId": problem.code,
            "ruleIndex": rules.iter().position(|code| *code == problem.code),
            "level": word(problem.severity),
            "message": {"text": text},
        });
        // The file of results goes to others, and keeps what it is given: what looks like a secret is not in it.
        let is_shown = !["W0136", "W0315"].contains(&problem.code);
        let mut places = problem.places.iter().map(|place| self.physical(place, is_shown));
        if let Some(first) = places.next() {
            result["locations"] = json!([first]);
        }
        let related: Vec<Value> = places.collect();
        if !related.is_empty() {
            result["relatedLocations"] = related.into();
        }
        result
    }

    fn physical(&self, place: &Location, is_shown: bool) -> Value {
        let (line, column) = place.source.position(place.range.start);
        let (end_line, end_column) = place.source.position(place.range.end);
        let mut region = json!({"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column});
        let snippet = place.source.text.get(place.range.clone()).unwrap_or_default();
        if is_shown && !snippet.is_empty() {
            region["snippet"] = json!({"text": snippet});
        }
        let mut location = json!({"physicalLocation": {"artifactLocation": {"uri": uri(&self.path(place))}, "region": region}});
        if !place.label.is_empty() {
            location["message"] = json!({"text": place.label});
        }
        location
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A code as a rule of SARIF.
fn rule(code: &str) -> Value {
    let level = match code.get(..1) {
        Some("W") => "warning",
        Some("N") => "note",
        _ => "error",
    };
    let mut rule = json!({"id": code, "defaultConfiguration": {"level": level}});
    if let Some(entry) = codes::find(code) {
        rule["shortDescription"] = json!({"text": entry.title});
        rule["fullDescription"] = json!({"text": entry.text.split("\n\n").next().unwrap_or_default().replace('\n', " ")});
        rule["help"] = json!({"text": entry.text});
    }
    rule
}

/// A path as a URI that is relative to the folder in which the check runs.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.replace('\\', "/").trim_start_matches("./").bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
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
            github.starts_with(
                "::error file=shop/events.yaml,line=2,col=1,endLine=2,endColumn=10,title=E0102::unknown key `funktions`%0A50%25 sure\n"
            ),
            "{github}"
        );
        let json: Value = serde_json::from_str(&list.text(Format::Json)).unwrap();
        assert_eq!(json["problems"][0]["places"][0]["end_column"], 10);
    }

    /// The parts of the schema of SARIF 2.1.0 that concern what is written here.
    fn essentials() -> Value {
        let text = json!({"type": "object", "required": ["text"], "additionalProperties": false, "properties": {"text": {"type": "string", "minLength": 1}}});
        let level = json!({"enum": ["none", "note", "warning", "error"]});
        let number = json!({"type": "integer", "minimum": 1});
        let closed = |required: Value, properties: Value| json!({"type": "object", "additionalProperties": false, "required": required, "properties": properties});
        let region = closed(
            json!(["startLine"]),
            json!({"startLine": number, "startColumn": number, "endLine": number, "endColumn": number, "snippet": text}),
        );
        let artifact = closed(json!(["uri"]), json!({"uri": {"type": "string", "format": "uri-reference"}}));
        let physical = closed(json!(["artifactLocation"]), json!({"artifactLocation": artifact, "region": region}));
        let location = closed(json!([]), json!({"physicalLocation": physical, "message": text}));
        let rule = closed(
            json!(["id"]),
            json!({"id": {"type": "string", "minLength": 1}, "shortDescription": text, "fullDescription": text, "help": text,
                "defaultConfiguration": closed(json!([]), json!({"level": level}))}),
        );
        let driver = closed(
            json!(["name"]),
            json!({"name": {"type": "string"}, "version": {"type": "string"}, "rules": {"type": "array", "uniqueItems": true, "items": rule},
                "semanticVersion": {"type": "string", "pattern": "^[0-9]+\\.[0-9]+\\.[0-9]+"}}),
        );
        let locations = json!({"type": "array", "items": location});
        let result = closed(
            json!(["message"]),
            json!({"ruleId": {"type": "string"}, "ruleIndex": {"type": "integer", "minimum": -1}, "level": level, "message": text,
                "locations": locations, "relatedLocations": locations}),
        );
        let run = closed(
            json!(["tool"]),
            json!({"tool": closed(json!(["driver"]), json!({"driver": driver})), "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                "results": {"type": "array", "items": result},
                "invocations": {"type": "array", "items": closed(json!(["executionSuccessful"]), json!({"executionSuccessful": {"type": "boolean"}}))}}),
        );
        closed(
            json!(["version", "runs"]),
            json!({"$schema": {"type": "string", "format": "uri"}, "version": {"const": "2.1.0"}, "runs": {"type": "array", "items": run}}),
        )
    }

    #[test]
    fn sarif_is_what_its_schema_asks_for() {
        let schema = jsonschema::options().should_validate_formats(true).build(&essentials()).unwrap();
        let source = Source::new("a folder/ä.rhai", "let x = 1;\nlet y = 2;\n");
        let two =
            Diagnostic::error("E0304", "two places").at(Location::new(&source, 4..5)).labelled(Location::new(&source, 11..20), "here");
        let mut problems = problems();
        problems[2].code = "N0311";
        problems.extend([two, Diagnostic::error("E0102", "without a place")]);
        let sarif: Value = serde_json::from_str(&list(&problems).text(Format::Sarif)).unwrap();
        let wrong: Vec<String> = schema.iter_errors(&sarif).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{wrong:#?}\n{sarif:#}");
        let run = &sarif["runs"][0];
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        for result in run["results"].as_array().unwrap() {
            let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
            assert_eq!(rule["id"], result["ruleId"]);
            assert!(rule["help"]["text"].as_str().unwrap().len() > 80 && rule["shortDescription"]["text"].is_string(), "{rule}");
        }
        assert_eq!(rules.len(), 4);
        let result = &run["results"][3];
        assert_eq!(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "shop/a%20folder/%C3%A4.rhai");
        assert_eq!(result["locations"][0]["physicalLocation"]["region"]["snippet"]["text"], "x");
        assert_eq!(result["relatedLocations"][0]["message"]["text"], "here");
        assert_eq!((&run["results"][0]["level"], &run["results"][2]["level"]), (&json!("error"), &json!("note")));
        let secret = [Diagnostic::warning("W0315", "a secret").at(Location::new(&source, 4..5))];
        let region = serde_json::from_str::<Value>(&list(&secret).text(Format::Sarif)).unwrap();
        let region = &region["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"];
        assert!(region["startColumn"] == 5 && region["snippet"].is_null(), "{region}");
        let empty: Value = serde_json::from_str(&list(&[]).text(Format::Sarif)).unwrap();
        assert!(schema.is_valid(&empty), "{empty:#}");
    }
}
