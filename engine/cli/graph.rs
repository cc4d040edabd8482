//! `stepwell graph`: events, the functions that they start, and what those send, wait for and invoke.
//!
//! What a script names as a literal is drawn; a name that it works out is not known before it runs.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::project::{Mode, Project};
use crate::rules::ended;
use crate::script::{Host, UseKind};

use super::exit::{Exit, Trouble};
use super::out::{Out, cut, xml};
use super::place::{self, ConfigArgument};

/// The longest condition on an edge, in characters.
const LABEL_MOST: usize = 40;
/// Sizes of the picture, in pixels.
const ROW: usize = 56;
const COLUMN: usize = 110;
const HEIGHT: usize = 32;
const MARGIN: usize = 24;
const LETTER: usize = 8;

/// Arguments of `graph`.
#[derive(Debug, clap::Args)]
pub struct Graph {
    #[command(flatten)]
    config: ConfigArgument,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Mermaid)]
    format: Format,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// A flowchart as Markdown pages show it
    Mermaid,
    /// The language of Graphviz
    Dot,
    /// A picture
    Svg,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Event,
    Function,
    Clock,
}

/// What an edge says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Says {
    Starts,
    Sends,
    WaitsFor,
    Cancels,
    Invokes,
    Fails,
    Is,
}

impl Says {
    fn word(self) -> &'static str {
        match self {
            Says::Starts => "",
            Says::Sends => "sends",
            Says::WaitsFor => "waits for",
            Says::Cancels => "cancels",
            Says::Invokes => "invokes",
            Says::Fails => "on failure",
            Says::Is => "is a",
        }
    }

    /// Whether it only touches runs that are there already.
    fn is_weak(self) -> bool {
        matches!(self, Says::WaitsFor | Says::Cancels)
    }
}

/// Nodes and edges, each once.
#[derive(Debug, Default)]
struct Drawing {
    nodes: Vec<(Kind, String)>,
    edges: Vec<(usize, usize, Says, String)>,
}

impl Drawing {
    fn of(project: &Project) -> Drawing {
        let mut drawing = Drawing::default();
        for name in project.config.events.names() {
            drawing.node(Kind::Event, name);
        }
        for function in project.functions.iter().flat_map(|function| std::iter::once(function).chain(&function.on_failure)) {
            let own = drawing.node(Kind::Function, &function.id);
            for trigger in &function.triggers {
                let event = drawing.node(Kind::Event, &trigger.event);
                let label = trigger.condition_text().map(|text| format!("if {text}")).unwrap_or_default();
                drawing.edge(event, own, Says::Starts, &label);
            }
            if let Some(cron) = &function.cron {
                let clock = drawing.node(Kind::Clock, &format!("{} {}", cron.schedule.text(), cron.schedule.zone_name()));
                drawing.edge(clock, own, Says::Starts, "");
            }
            for cancel in &function.cancels {
                let event = drawing.node(Kind::Event, &cancel.event);
                drawing.edge(event, own, Says::Cancels, "");
            }
            for used in function.program.uses() {
                match used.kind {
                    UseKind::Event => {
                        let event = drawing.node(Kind::Event, &used.name);
                        drawing.edge(own, event, Says::Sends, "");
                    }
                    UseKind::Awaited => {
                        let event = drawing.node(Kind::Event, &used.name);
                        drawing.edge(event, own, Says::WaitsFor, "");
                    }
                    UseKind::Function => {
                        let other = drawing.node(Kind::Function, &used.name);
                        drawing.edge(own, other, Says::Invokes, "");
                    }
                    _ => {}
                }
            }
            if let Some(of) = ended::failing_function(&function.id) {
                let failing = drawing.node(Kind::Function, of);
                drawing.edge(failing, own, Says::Fails, "");
            }
        }
        drawing.join_families();
        drawing
    }

    /// Leads from each event to the families that it is one of.
    fn join_families(&mut self) {
        let events = self.nodes.iter().enumerate().filter(|(_, (kind, _))| *kind == Kind::Event);
        let named: Vec<(usize, String)> = events.map(|(at, (_, name))| (at, name.clone())).collect();
        for (family, stem) in named.iter().filter_map(|(at, name)| Some((*at, name.strip_suffix('*')?))) {
            for (event, _) in named.iter().filter(|(at, name)| *at != family && name.starts_with(stem)) {
                self.edge(*event, family, Says::Is, "");
            }
        }
    }

    fn node(&mut self, kind: Kind, name: &str) -> usize {
        let found = self.nodes.iter().position(|(known, other)| *known == kind && other == name);
        found.unwrap_or_else(|| {
            self.nodes.push((kind, name.to_owned()));
            self.nodes.len() - 1
        })
    }

    fn edge(&mut self, from: usize, to: usize, says: Says, label: &str) {
        let label = match (says.word(), label) {
            ("", label) => cut(label, LABEL_MOST),
            (word, _) => word.to_owned(),
        };
        let edge = (from, to, says, label);
        if !self.edges.contains(&edge) {
            self.edges.push(edge);
        }
    }

    fn mermaid(&self) -> String {
        let quoted = |text: &str| text.replace('"', "#quot;");
        let mut text = "flowchart LR\n".to_owned();
        for (at, (kind, name)) in self.nodes.iter().enumerate() {
            let name = quoted(name);
            // Writing into a String cannot fail.
            let _ = match kind {
                Kind::Event => writeln!(text, "  n{at}([\"{name}\"])"),
                Kind::Function => writeln!(text, "  n{at}[\"{name}\"]"),
                Kind::Clock => writeln!(text, "  n{at}{{{{\"{name}\"}}}}"),
            };
        }
        for (from, to, says, label) in &self.edges {
            let arrow = if says.is_weak() { "-.->" } else { "-->" };
            let label = if label.is_empty() { String::new() } else { format!("|\"{}\"|", quoted(label)) };
            let _ = writeln!(text, "  n{from} {arrow}{label} n{to}");
        }
        text
    }

    fn dot(&self) -> String {
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let mut text = "digraph stepwell {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n".to_owned();
        for (at, (kind, name)) in self.nodes.iter().enumerate() {
            let shape = match kind {
                Kind::Event => "ellipse",
                Kind::Function => "box",
                Kind::Clock => "hexagon",
            };
            let _ = writeln!(text, "  n{at} [label={}, shape={shape}];", quoted(name));
        }
        for (from, to, says, label) in &self.edges {
            let style = if says.is_weak() { ", style=dashed" } else { "" };
            let _ = writeln!(text, "  n{from} -> n{to} [label={}{style}];", quoted(label));
        }
        text.push_str("}\n");
        text
    }

    /// The column of each node: one behind whatever leads to it, edges back to an earlier column left aside.
    fn columns(&self) -> Vec<usize> {
        let mut columns = vec![0_usize; self.nodes.len()];
        // Each round moves what leads on by one column at least; in a circle that ends with the number of nodes.
        for _ in 0..self.nodes.len() {
            let mut moved = false;
            for (from, to, says, _) in &self.edges {
                let wanted = columns[*from] + 1;
                if !says.is_weak() && from != to && columns[*to] < wanted && wanted < self.nodes.len() && !self.leads_back(*from, *to) {
                    columns[*to] = wanted;
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        columns
    }

    /// Whether one can get from `to` back to `from`.
    fn leads_back(&self, from: usize, to: usize) -> bool {
        let (mut seen, mut open) = (BTreeSet::from([to]), vec![to]);
        while let Some(at) = open.pop() {
            for (start, end, says, _) in &self.edges {
                if *start == at && !says.is_weak() && seen.insert(*end) {
                    open.push(*end);
                }
            }
        }
        // The edges of a circle are told apart by the order of their nodes.
        seen.contains(&from) && to < from
    }

    fn svg(&self) -> String {
        let columns = self.columns();
        let count = columns.iter().max().map_or(0, |most| most + 1);
        let width_of = |name: &str| name.chars().count() * LETTER + 24;
        let widths: Vec<usize> = (0..count)
            .map(|column| {
                let names = self.nodes.iter().zip(&columns).filter(|(_, at)| **at == column).map(|((_, name), _)| width_of(name));
                names.max().unwrap_or(0)
            })
            .collect();
        let left: Vec<usize> =
            (0..count).map(|column| MARGIN + widths[..column].iter().map(|width| width + COLUMN).sum::<usize>()).collect();
        let mut rows = vec![0_usize; count];
        let places: Vec<(usize, usize)> = columns
            .iter()
            .map(|column| {
                rows[*column] += 1;
                (left[*column], MARGIN + (rows[*column] - 1) * ROW)
            })
            .collect();
        let width = left.last().zip(widths.last()).map_or(0, |(left, width)| left + width) + MARGIN;
        let height = rows.iter().max().copied().unwrap_or(0) * ROW + MARGIN;
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
             <path d=\"M0 0 8 4 0 8z\" fill=\"#555\"/></marker>\n"
        );
        for (from, to, says, label) in &self.edges {
            let ((x, y), (to_x, to_y)) = (places[*from], places[*to]);
            let (x, y, to_y) = (x + width_of(&self.nodes[*from].1), y + HEIGHT / 2, to_y + HEIGHT / 2);
            let dash = if says.is_weak() { " stroke-dasharray=\"4 3\"" } else { "" };
            let (out, into) = (x + COLUMN / 2, to_x.saturating_sub(COLUMN / 2));
            let _ = writeln!(
                text,
                "<path d=\"M{x} {y}C{out} {y} {into} {to_y} {to_x} {to_y}\" fill=\"none\" stroke=\"#555\"{dash} marker-end=\"url(#tip)\"/>"
            );
            if !label.is_empty() {
                let (x, y) = ((x + to_x) / 2, (y + to_y) / 2 - 4);
                let _ =
                    writeln!(text, "<text x=\"{x}\" y=\"{y}\" font-size=\"10\" text-anchor=\"middle\" fill=\"#555\">{}</text>", xml(label));
            }
        }
        for ((kind, name), (x, y)) in self.nodes.iter().zip(&places) {
            let (width, middle, base) = (width_of(name), x + width_of(name) / 2, y + HEIGHT / 2 + 5);
            let (round, fill) = match kind {
                Kind::Event => (HEIGHT / 2, "#e3f2fd"),
                Kind::Function => (4, "#e8f5e9"),
                Kind::Clock => (0, "#fff8e1"),
            };
            let _ = writeln!(
                text,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{HEIGHT}\" rx=\"{round}\" fill=\"{fill}\" stroke=\"#555\"/>\n\
                 <text x=\"{middle}\" y=\"{base}\" text-anchor=\"middle\">{}</text>",
                xml(name)
            );
        }
        text.push_str("</svg>\n");
        text
    }
}

impl Graph {
    /// Prints the drawing.
    ///
    /// # Errors
    /// Exit 78 for a project that is not valid; those of stdout.
    pub fn run(&self, out: &Out) -> Result<Exit, Trouble> {
        let path = place::config(self.config.config.as_deref())?;
        let (project, _) = Project::load(&path, &Host::new(), &place::environment, Mode::Check).map_err(Trouble::invalid)?;
        let drawing = Drawing::of(&project);
        let text = match self.format {
            Format::Mermaid => drawing.mermaid(),
            Format::Dot => drawing.dot(),
            Format::Svg => drawing.svg(),
        };
        out.raw(text.as_bytes())?;
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_lead_round_in_a_circle_are_drawn_all_the_same() {
        let mut drawing = Drawing::default();
        let (a, f, b) = (drawing.node(Kind::Event, "a/\"b"), drawing.node(Kind::Function, "f"), drawing.node(Kind::Event, "b"));
        drawing.edge(a, f, Says::Starts, "if event.data.n < 1");
        drawing.edge(f, b, Says::Sends, "");
        drawing.edge(b, f, Says::WaitsFor, "");
        drawing.edge(f, a, Says::Sends, "");
        assert_eq!(drawing.columns(), [0, 1, 2]);
        let svg = drawing.svg();
        assert!(svg.contains(">a/&quot;b</text>") && svg.contains("if event.data.n &lt; 1") && svg.contains("stroke-dasharray"), "{svg}");
        assert!(drawing.mermaid().contains("n0([\"a/#quot;b\"])\n"), "{}", drawing.mermaid());
        assert!(drawing.dot().contains("n0 [label=\"a/\\\"b\", shape=ellipse];"), "{}", drawing.dot());
    }
}
