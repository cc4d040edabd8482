//! `stepwell graph`: events, the functions that they start, and what those send, wait for and invoke.
//!
//! What a script names as a literal is drawn; a name that it works out is not known before it runs.

use std::fmt::Write as _;

use crate::project::{Edge, Mode, Node, NodeKind, Project, Topology};
use crate::script::Host;

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

/// The pictures of a project.
struct Drawing(Topology);

impl Drawing {
    /// The words on an edge.
    fn label(edge: &Edge) -> String {
        match edge.says.word() {
            "" if edge.condition.is_empty() => String::new(),
            "" => cut(&format!("if {}", edge.condition), LABEL_MOST),
            word => word.to_owned(),
        }
    }

    fn mermaid(&self) -> String {
        let quoted = |text: &str| text.replace('"', "#quot;");
        let mut text = "flowchart LR\n".to_owned();
        for (at, Node { kind, name }) in self.0.nodes.iter().enumerate() {
            let name = quoted(name);
            // Writing into a String cannot fail.
            let _ = match kind {
                NodeKind::Event => writeln!(text, "  n{at}([\"{name}\"])"),
                NodeKind::Function => writeln!(text, "  n{at}[\"{name}\"]"),
                NodeKind::Clock => writeln!(text, "  n{at}{{{{\"{name}\"}}}}"),
            };
        }
        for edge @ Edge { from, to, says, .. } in &self.0.edges {
            let label = Drawing::label(edge);
            let arrow = if says.is_weak() { "-.->" } else { "-->" };
            let label = if label.is_empty() { String::new() } else { format!("|\"{}\"|", quoted(&label)) };
            let _ = writeln!(text, "  n{from} {arrow}{label} n{to}");
        }
        text
    }

    fn dot(&self) -> String {
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let mut text = "digraph stepwell {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n".to_owned();
        for (at, Node { kind, name }) in self.0.nodes.iter().enumerate() {
            let shape = match kind {
                NodeKind::Event => "ellipse",
                NodeKind::Function => "box",
                NodeKind::Clock => "hexagon",
            };
            let _ = writeln!(text, "  n{at} [label={}, shape={shape}];", quoted(name));
        }
        for edge @ Edge { from, to, says, .. } in &self.0.edges {
            let label = Drawing::label(edge);
            let style = if says.is_weak() { ", style=dashed" } else { "" };
            let _ = writeln!(text, "  n{from} -> n{to} [label={}{style}];", quoted(&label));
        }
        text.push_str("}\n");
        text
    }

    fn svg(&self) -> String {
        let columns = self.0.columns();
        let count = columns.iter().max().map_or(0, |most| most + 1);
        let width_of = |name: &str| name.chars().count() * LETTER + 24;
        let widths: Vec<usize> = (0..count)
            .map(|column| {
                let names = self.0.nodes.iter().zip(&columns).filter(|(_, at)| **at == column).map(|(node, _)| width_of(&node.name));
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
        for edge @ Edge { from, to, says, .. } in &self.0.edges {
            let label = Drawing::label(edge);
            let ((x, y), (to_x, to_y)) = (places[*from], places[*to]);
            let (x, y, to_y) = (x + width_of(&self.0.nodes[*from].name), y + HEIGHT / 2, to_y + HEIGHT / 2);
            let dash = if says.is_weak() { " stroke-dasharray=\"4 3\"" } else { "" };
            let (out, into) = (x + COLUMN / 2, to_x.saturating_sub(COLUMN / 2));
            let _ = writeln!(
                text,
                "<path d=\"M{x} {y}C{out} {y} {into} {to_y} {to_x} {to_y}\" fill=\"none\" stroke=\"#555\"{dash} marker-end=\"url(#tip)\"/>"
            );
            if !label.is_empty() {
                let (x, y) = ((x + to_x) / 2, (y + to_y) / 2 - 4);
                let _ = writeln!(
                    text,
                    "<text x=\"{x}\" y=\"{y}\" font-size=\"10\" text-anchor=\"middle\" fill=\"#555\">{}</text>",
                    xml(&label)
                );
            }
        }
        for (Node { kind, name }, (x, y)) in self.0.nodes.iter().zip(&places) {
            let (width, middle, base) = (width_of(name), x + width_of(name) / 2, y + HEIGHT / 2 + 5);
            let (round, fill) = match kind {
                NodeKind::Event => (HEIGHT / 2, "#e3f2fd"),
                NodeKind::Function => (4, "#e8f5e9"),
                NodeKind::Clock => (0, "#fff8e1"),
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
        let drawing = Drawing(Topology::of(&project));
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
    use crate::project::Says;

    #[test]
    fn names_and_conditions_are_escaped_as_each_format_wants() {
        let mut topology = Topology::default();
        let (a, f, b) =
            (topology.node(NodeKind::Event, "a/\"b"), topology.node(NodeKind::Function, "f"), topology.node(NodeKind::Event, "b"));
        topology.edge(a, f, Says::Starts, "event.data.n < 1");
        topology.edge(f, b, Says::Sends, "");
        topology.edge(b, f, Says::WaitsFor, "");
        let drawing = Drawing(topology);
        let svg = drawing.svg();
        assert!(svg.contains(">a/&quot;b</text>") && svg.contains("if event.data.n &lt; 1") && svg.contains("stroke-dasharray"), "{svg}");
        assert!(drawing.mermaid().contains("n0([\"a/#quot;b\"])\n"), "{}", drawing.mermaid());
        assert!(drawing.dot().contains("n0 [label=\"a/\\\"b\", shape=ellipse];"), "{}", drawing.dot());
    }
}
