//! How the project hangs together: events, the functions that they start, and what those send, with how often of late.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use maud::{Markup, html};

use crate::base::{EventId, Millis, RunId};
use crate::project::{Edge, NodeKind, Says, Topology};
use crate::rules::ended::CANCELLED_BY;
use crate::rules::{EventRow, RunState};
use crate::store::{EventQuery, RunQuery, Store, StoreError};
use crate::web::rows::{each_event, each_run};
use crate::web::widgets::{self, Tone};
use crate::web::words::count;
use crate::web::{Ask, Content, Web, WebError};

/// The newest events, and the newest runs, that are counted.
const COUNTED: usize = 2_000;
/// Sizes of the picture, in pixels.
const ROW: usize = 60;
const COLUMN: usize = 120;
const HEIGHT: usize = 38;
const MARGIN: usize = 16;
const LETTER: usize = 8;
/// An edge that is wider passes a node's column on its way.
const PASSES_A_COLUMN: usize = 300;
/// Characters of a name, or of a condition, in the picture, besides the sign that it goes on.
const NAME_MOST: usize = 32;
const LABEL_MOST: usize = 26;

/// Where something stands in the picture, from the left and from above.
type Place = (usize, usize);

/// How often things were seen of late.
#[derive(Default)]
struct Seen {
    events: HashMap<Arc<str>, usize>,
    /// Runs of each function, those that failed, and those that have not ended.
    functions: HashMap<Arc<str>, (usize, usize, usize)>,
    /// Runs of a function that events of a name started.
    starts: HashMap<(Arc<str>, Arc<str>), usize>,
    /// Events of a name that runs of a function sent.
    sends: HashMap<(Arc<str>, Arc<str>), usize>,
    /// Runs of a function that runs of another one invoked.
    invokes: HashMap<(Arc<str>, Arc<str>), usize>,
    /// Runs of a function that events of a name cancelled.
    cancels: HashMap<(Arc<str>, Arc<str>), usize>,
    since: Option<Millis>,
    all_events: usize,
    all_runs: usize,
}

fn look(store: &dyn Store) -> Result<Seen, StoreError> {
    let mut seen = Seen::default();
    let mut names: HashMap<EventId, Arc<str>> = HashMap::new();
    let mut sent: Vec<(RunId, Arc<str>)> = Vec::new();
    each_event(store, &EventQuery { limit: COUNTED, ..EventQuery::default() }, |event| {
        *seen.events.entry(Arc::clone(&event.name)).or_default() += 1;
        seen.since = Some(event.accepted);
        seen.all_events += 1;
        sent.extend(sender(&event).map(|run| (run, Arc::clone(&event.name))));
        names.insert(event.id, event.name);
        ControlFlow::Continue(())
    })?;
    let mut runs: HashMap<RunId, Arc<str>> = HashMap::new();
    let mut invoked: Vec<(RunId, Arc<str>)> = Vec::new();
    each_run(store, &RunQuery { limit: COUNTED, ..RunQuery::default() }, |run| {
        let function = seen.functions.entry(Arc::clone(&run.function)).or_default();
        function.0 += 1;
        function.1 += usize::from(run.state == RunState::Failed);
        function.2 += usize::from(!run.state.is_terminal());
        seen.all_runs += 1;
        if let Some(name) = names.get(&run.event) {
            *seen.starts.entry((Arc::clone(name), Arc::clone(&run.function))).or_default() += 1;
        }
        if let Some(name) = run.reason.as_deref().and_then(canceller) {
            *seen.cancels.entry((Arc::from(name), Arc::clone(&run.function))).or_default() += 1;
        }
        invoked.extend(run.invoked_by.map(|parent| (parent, Arc::clone(&run.function))));
        runs.insert(run.id, run.function);
        ControlFlow::Continue(())
    })?;
    // Of a run that is not among those that are counted, nothing is read: its row may be large.
    for (all, counts) in [(sent, &mut seen.sends), (invoked, &mut seen.invokes)] {
        for (by, what) in all {
            if let Some(function) = runs.get(&by) {
                *counts.entry((Arc::clone(function), what)).or_default() += 1;
            }
        }
    }
    Ok(seen)
}

/// The run that sent an event: it stands in the id that is derived for it. Of one that the script gave its id, the event does not tell.
fn sender(event: &EventRow) -> Option<RunId> {
    event.sender_id.as_deref()?.split_once('.')?.0.parse().ok()
}

/// The name of the event by which a run was cancelled, from its reason.
fn canceller(reason: &str) -> Option<&str> {
    reason.strip_prefix(CANCELLED_BY)?.split(' ').next()
}

impl Seen {
    /// How often an event of a name, or of a family, came.
    fn of_event(&self, name: &str) -> usize {
        match name.strip_suffix('*') {
            Some(stem) => self.events.iter().filter(|(name, _)| name.starts_with(stem)).map(|(_, count)| count).sum(),
            None => self.events.get(name).copied().unwrap_or(0),
        }
    }

    /// How often something went along an edge; none where that is not counted.
    fn passed(&self, edge: &Edge, topology: &Topology) -> Option<usize> {
        let (from, to) = (&topology.nodes[edge.from], &topology.nodes[edge.to]);
        let counted = match edge.says {
            Says::Starts if from.kind == NodeKind::Event => &self.starts,
            Says::Sends => &self.sends,
            Says::Invokes => &self.invokes,
            Says::Cancels => &self.cancels,
            Says::Fails => return Some(self.functions.get(&*to.name).map_or(0, |(runs, ..)| *runs)),
            Says::Starts | Says::WaitsFor | Says::Is => return None,
        };
        let is_it = |name: &str, wanted: &str| wanted.strip_suffix('*').map_or(name == wanted, |stem| name.starts_with(stem));
        let passed = counted.iter().filter(|((one, other), _)| is_it(one, &from.name) && is_it(other, &to.name));
        Some(passed.map(|(_, count)| count).sum())
    }
}

/// The page: a picture, and the same as a table.
pub async fn page(web: Web, ask: Ask) -> Result<Content, WebError> {
    let project = web.project();
    let topology = Topology::of(&project);
    let seen = web.read(look).await?;
    let body = html! {
        p.muted {
            "Counted: the newest " (count(seen.all_events as u64, "event")) " and " (count(seen.all_runs as u64, "run"))
            @if let Some(since) = seen.since { ", events since " (widgets::ago(since, web.now())) } ". "
            "What a run sent or invoked counts where the run is one of them; what ended waits is not counted."
        }
        @if topology.nodes.is_empty() {
            (widgets::empty("Nothing is declared", html! { "Declare " code { "events" } " and " code { "functions" } " in events.yaml." }))
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Picture of events and functions" { (picture(&topology, &seen)) }
            (legend())
            (table(&topology, &seen))
        }
    };
    if ask.part() == Some("body") {
        return Ok(Content::new(body));
    }
    Ok(Content::new(body).command("stepwell graph --format svg").command("stepwell graph --format mermaid"))
}

fn legend() -> Markup {
    html! {
        p.muted.row {
            span { (widgets::tag("event", Tone::Info)) } span { (widgets::tag("function", Tone::Good)) } span { (widgets::tag("clock", Tone::Warn)) }
            span { "dashed: it waits for the event, or is cancelled by it" }
        }
    }
}

fn words(edge: &Edge, topology: &Topology, seen: &Seen) -> String {
    let times = seen.passed(edge, topology).filter(|times| *times > 0).map(|times| format!("{times}×")).unwrap_or_default();
    let condition = if edge.condition.is_empty() { String::new() } else { format!("if {}", edge.condition) };
    let parts = [times, edge.says.word().to_owned(), widgets::cut(&condition, LABEL_MOST)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn link(kind: NodeKind, name: &str) -> Option<String> {
    let query = || url::form_urlencoded::Serializer::new(String::new()).append_pair("name", name).finish();
    match kind {
        NodeKind::Event => Some(format!("/events?{}", query())),
        NodeKind::Function => Some(widgets::function_path(name)),
        NodeKind::Clock => None,
    }
}

/// A count below a name.
fn told(kind: NodeKind, name: &str, seen: &Seen) -> String {
    match kind {
        NodeKind::Event => count(seen.of_event(name) as u64, "event"),
        NodeKind::Function => {
            let (runs, failed, open) = seen.functions.get(name).copied().unwrap_or_default();
            let mut text = count(runs as u64, "run");
            if failed > 0 {
                text.push_str(&format!(", ✗ {failed}"));
            }
            if open > 0 {
                text.push_str(&format!(", ⏳ {open}"));
            }
            text
        }
        NodeKind::Clock => String::new(),
    }
}

fn picture(topology: &Topology, seen: &Seen) -> Markup {
    let columns = topology.columns();
    let width_of = |at: usize| {
        let node = &topology.nodes[at];
        widgets::cut(&node.name, NAME_MOST).chars().count().max(told(node.kind, &node.name, seen).chars().count() * 6 / 8) * LETTER + 24
    };
    let all = columns.iter().max().map_or(0, |most| most + 1);
    let widths: Vec<usize> =
        (0..all).map(|column| (0..columns.len()).filter(|at| columns[*at] == column).map(width_of).max().unwrap_or(0)).collect();
    let left: Vec<usize> = (0..all).map(|column| MARGIN + widths[..column].iter().map(|width| width + COLUMN).sum::<usize>()).collect();
    let mut rows = vec![0_usize; all];
    let places: Vec<(usize, usize)> = columns
        .iter()
        .map(|column| {
            rows[*column] += 1;
            (left[*column], MARGIN + (rows[*column] - 1) * ROW)
        })
        .collect();
    let width = left.last().zip(widths.last()).map_or(0, |(left, width)| left + width) + MARGIN;
    let height = rows.iter().max().copied().unwrap_or(0) * ROW + MARGIN;
    let edges: Vec<(&Edge, Place, Place)> = topology
        .edges
        .iter()
        .map(|edge| {
            let ((x, y), (to_x, to_y)) = (places[edge.from], places[edge.to]);
            (edge, (x + width_of(edge.from), y + HEIGHT / 2), (to_x, to_y + HEIGHT / 2))
        })
        .collect();
    html! {
        svg.topology width=(width) height=(height) viewBox={ "0 0 " (width) " " (height) } {
            title { "Events, the functions that they start, and what those send" }
            defs { marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto" { path class="tip" d="M0 0 8 4 0 8z" {} } }
            @for (edge, (x, y), (to_x, to_y)) in &edges {
                @let (out, into) = (x + COLUMN / 2, to_x.saturating_sub(COLUMN / 2));
                path class={ "edge" @if edge.says.is_weak() { " weak" } } d={ "M" (x) " " (y) "C" (out) " " (y) " " (into) " " (to_y) " " (to_x) " " (to_y) } marker-end="url(#tip)" {}
            }
            @for (at, node) in topology.nodes.iter().enumerate() {
                @let (x, y) = places[at];
                @match link(node.kind, &node.name) {
                    Some(to) => a href=(to) { (shape(node.kind, &node.name, x, y, width_of(at), &told(node.kind, &node.name, seen))) },
                    None => (shape(node.kind, &node.name, x, y, width_of(at), "")),
                }
            }
            // Labels come last: an edge may pass behind a node, but what it says stands before it.
            @for (edge, from, to) in &edges {
                @let label = words(edge, topology, seen);
                @if !label.is_empty() {
                    @let (at, above) = label_place(*from, *to);
                    text.label x=(at) y=(above) text-anchor="middle" { (label) }
                }
            }
        }
    }
}

/// Where the label of an edge stands: above its middle, or, where it passes a whole column, above the gap behind its first node, since
/// its middle may be behind another one. An edge rises like 3t² - 2t³.
fn label_place((x, y): (usize, usize), (to_x, to_y): (usize, usize)) -> (usize, usize) {
    let wide = to_x.saturating_sub(x);
    let along = if wide > PASSES_A_COLUMN { PASSES_A_COLUMN / 3 } else { wide / 2 };
    let t = along as f64 / wide.max(1) as f64;
    let rise = (to_y as f64 - y as f64) * t * t * (3.0 - 2.0 * t);
    (x + along, ((y as f64 + rise) as usize).saturating_sub(4))
}

fn shape(kind: NodeKind, name: &str, x: usize, y: usize, width: usize, told: &str) -> Markup {
    let (class, round) = match kind {
        NodeKind::Event => ("event", HEIGHT / 2),
        NodeKind::Function => ("function", 4),
        NodeKind::Clock => ("clock", 0),
    };
    let middle = x + width / 2;
    let base = if told.is_empty() { y + HEIGHT / 2 + 5 } else { y + HEIGHT / 2 - 2 };
    html! {
        g class={ "node " (class) } {
            title { (name) }
            rect x=(x) y=(y) width=(width) height=(HEIGHT) rx=(round) {}
            text x=(middle) y=(base) text-anchor="middle" { (widgets::cut(name, NAME_MOST)) }
            @if !told.is_empty() { text.count x=(middle) y=(y + HEIGHT - 7) text-anchor="middle" { (told) } }
        }
    }
}

/// The same for those who see no picture: each edge as a row.
fn table(topology: &Topology, seen: &Seen) -> Markup {
    let name = |at: usize| {
        let node = &topology.nodes[at];
        html! { @match link(node.kind, &node.name) { Some(to) => a href=(to) { (node.name) }, None => span { (node.name) } } }
    };
    html! {
        details.panel {
            summary { "The same as a table" }
            div.table { table.rows {
                thead { tr { th scope="col" { "From" } th scope="col" { "Does" } th scope="col" { "To" } th.num scope="col" { "Of late" } } }
                tbody { @for edge in &topology.edges {
                    tr {
                        td { (name(edge.from)) }
                        td { (if edge.says == Says::Starts { "starts" } else { edge.says.word() }) @if !edge.condition.is_empty() { " " code { "if " (edge.condition) } } }
                        td { (name(edge.to)) }
                        td.num { @if let Some(times) = seen.passed(edge, topology) { (times) } }
                    }
                } }
            } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_of_an_edge_stands_in_the_middle_or_in_the_first_gap_where_it_passes_a_column() {
        assert_eq!(label_place((100, 20), (100 + COLUMN, 140)), (100 + COLUMN / 2, 76));
        for to_y in [20, 380] {
            let (at, _) = label_place((100, 20), (700, to_y));
            assert!((100..100 + COLUMN).contains(&at), "{at}");
        }
        // There, the edge has risen by little: the label goes with it.
        assert_eq!(label_place((100, 20), (700, 380)), (200, 42));
    }
}
