//! How a project hangs together: events, the functions that they start, and what those send, wait for and invoke.
//!
//! What a script names as a literal is known; a name that it works out is not known before it runs.

use crate::rules::ended;
use crate::script::UseKind;

use super::Project;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// An event, or a family of events.
    Event,
    /// A function.
    Function,
    /// A schedule.
    Clock,
}

/// What an edge says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Says {
    /// The event, or the clock, starts the function.
    Starts,
    /// The function sends the event.
    Sends,
    /// A run of the function waits for the event.
    WaitsFor,
    /// The event cancels runs of the function.
    Cancels,
    /// The function invokes another one.
    Invokes,
    /// It is run when runs of the function fail.
    Fails,
    /// The event belongs to the family.
    Is,
}

impl Says {
    /// The word on the edge; none for a start.
    pub fn word(self) -> &'static str {
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
    pub fn is_weak(self) -> bool {
        matches!(self, Says::WaitsFor | Says::Cancels)
    }
}

/// What stands in a picture of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// The event's name, the function's id, or the schedule with its zone.
    pub name: String,
}

/// What leads from one node to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The node that it begins at.
    pub from: usize,
    /// The node that it leads to.
    pub to: usize,
    /// What it says.
    pub says: Says,
    /// The condition of a start; else empty.
    pub condition: String,
}

/// Nodes and edges, each once, in the order of the config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// Events, functions and schedules.
    pub nodes: Vec<Node>,
    /// What leads from one to another.
    pub edges: Vec<Edge>,
}

impl Topology {
    /// How a project hangs together.
    pub fn of(project: &Project) -> Topology {
        let mut topology = Topology::default();
        for name in project.config.events.names() {
            topology.node(NodeKind::Event, name);
        }
        for function in project.functions.iter().flat_map(|function| std::iter::once(function).chain(&function.on_failure)) {
            let own = topology.node(NodeKind::Function, &function.id);
            for trigger in &function.triggers {
                let event = topology.node(NodeKind::Event, &trigger.event);
                let condition = trigger.condition_text().map(|text| text.to_string()).unwrap_or_default();
                topology.edge(event, own, Says::Starts, &condition);
            }
            for cron in &function.crons {
                let clock = topology.node(NodeKind::Clock, &format!("{} {}", cron.schedule.text(), cron.schedule.zone_name()));
                topology.edge(clock, own, Says::Starts, "");
            }
            for cancel in &function.cancels {
                let event = topology.node(NodeKind::Event, &cancel.event);
                topology.edge(event, own, Says::Cancels, "");
            }
            for used in function.program.uses() {
                match used.kind {
                    UseKind::Event => {
                        let event = topology.node(NodeKind::Event, &used.name);
                        topology.edge(own, event, Says::Sends, "");
                    }
                    UseKind::Awaited => {
                        let event = topology.node(NodeKind::Event, &used.name);
                        topology.edge(event, own, Says::WaitsFor, "");
                    }
                    UseKind::Function => {
                        let other = topology.node(NodeKind::Function, &used.name);
                        topology.edge(own, other, Says::Invokes, "");
                    }
                    _ => {}
                }
            }
            if let Some(of) = ended::failing_function(&function.id) {
                let failing = topology.node(NodeKind::Function, of);
                topology.edge(failing, own, Says::Fails, "");
            }
        }
        topology.join_families();
        topology
    }

    /// Leads from each event to the families that it is one of.
    fn join_families(&mut self) {
        let events = self.nodes.iter().enumerate().filter(|(_, node)| node.kind == NodeKind::Event);
        let named: Vec<(usize, String)> = events.map(|(at, node)| (at, node.name.clone())).collect();
        for (family, stem) in named.iter().filter_map(|(at, name)| Some((*at, name.strip_suffix('*')?))) {
            for (event, _) in named.iter().filter(|(at, name)| *at != family && name.starts_with(stem)) {
                self.edge(*event, family, Says::Is, "");
            }
        }
    }

    /// The place of a node; it is added where it is not there yet.
    pub fn node(&mut self, kind: NodeKind, name: &str) -> usize {
        let found = self.nodes.iter().position(|known| known.kind == kind && known.name == name);
        found.unwrap_or_else(|| {
            self.nodes.push(Node { kind, name: name.to_owned() });
            self.nodes.len() - 1
        })
    }

    /// Adds an edge, unless it is there.
    pub fn edge(&mut self, from: usize, to: usize, says: Says, condition: &str) {
        let edge = Edge { from, to, says, condition: condition.to_owned() };
        if !self.edges.contains(&edge) {
            self.edges.push(edge);
        }
    }

    /// The column of each node in a picture: one behind whatever leads to it, edges back to an earlier column left aside.
    pub fn columns(&self) -> Vec<usize> {
        let strong = self.edges.iter().filter(|edge| !edge.says.is_weak() && edge.from != edge.to);
        let strong: Vec<(usize, usize)> = strong.map(|edge| (edge.from, edge.to)).collect();
        let mut next: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (from, to) in &strong {
            next[*from].push(*to);
        }
        // The edges of a circle are told apart by the order of their nodes.
        let ahead: Vec<(usize, usize)> = strong.into_iter().filter(|(from, to)| from < to || !leads_to(&next, *to, *from)).collect();
        let mut columns = vec![0_usize; self.nodes.len()];
        // Each round moves what leads on by one column at least; in a circle that ends with the number of nodes.
        for _ in 0..self.nodes.len() {
            let mut moved = false;
            for (from, to) in &ahead {
                let wanted = columns[*from] + 1;
                if columns[*to] < wanted && wanted < self.nodes.len() {
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
}

/// Whether one can get from a node to another; `next` has the nodes that each leads to.
fn leads_to(next: &[Vec<usize>], from: usize, to: usize) -> bool {
    let mut seen = vec![false; next.len()];
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        if at == to {
            return true;
        }
        if !std::mem::replace(&mut seen[at], true) {
            open.extend(&next[at]);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_stand_behind_what_leads_to_them_also_in_a_circle() {
        let mut topology = Topology::default();
        let node = |topology: &mut Topology, kind, name| topology.node(kind, name);
        let a = node(&mut topology, NodeKind::Event, "a");
        let f = node(&mut topology, NodeKind::Function, "f");
        let b = node(&mut topology, NodeKind::Event, "b");
        assert_eq!(node(&mut topology, NodeKind::Event, "a"), a, "each once");
        topology.edge(a, f, Says::Starts, "event.data.n < 1");
        topology.edge(f, b, Says::Sends, "");
        topology.edge(f, b, Says::Sends, "");
        topology.edge(b, f, Says::WaitsFor, "");
        topology.edge(f, a, Says::Sends, "");
        assert_eq!(topology.edges.len(), 4);
        assert_eq!(topology.columns(), [0, 1, 2]);
    }
}
