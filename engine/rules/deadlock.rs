//! Runs that wait for each other in a circle: invoked ones stand in line for slots whose holders wait for runs that stand in line
//! as well. None of them ever moves, unless somebody outside ends one.

use std::collections::{BTreeMap, HashMap};

use crate::base::RunId;

use super::queue::SlotId;

/// Somebody that may move, or come free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// A run.
    Run(RunId),
    /// The slots of a limit, all of which are taken.
    Slot(SlotId),
}

/// What has to move first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stand {
    /// Nothing that is known here: it runs, its time comes, or something from outside may set it going.
    Free,
    /// A run in line: all of these slots.
    Behind(Vec<SlotId>),
    /// A run that waits for the ends of runs that it invoked, and for nothing else: any of them.
    WaitsFor(Vec<RunId>),
    /// Slots: any of the runs that have one.
    HeldBy(Vec<RunId>),
}

/// A run that has to be cancelled so that the others of its circle go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Victim {
    /// One that was invoked, and stands in line.
    pub run: RunId,
    /// What it stands in line for.
    pub slot: SlotId,
}

/// Those of `runs` that can never move, as far as `look` knows. Whoever knows fewer holders of a slot finds more of them, never
/// fewer: so a cheap look may come before a thorough one.
pub fn stuck(runs: &[RunId], look: impl FnMut(Node) -> Stand) -> Vec<RunId> {
    let graph = Graph::walk(runs, look);
    let found = graph.nodes.iter().zip(graph.stuck()).take(graph.starts);
    found.filter_map(|(node, is_stuck)| if let Node::Run(run) = node { is_stuck.then_some(*run) } else { None }).collect()
}

/// The runs by whose cancel each circle falls apart that is found from `runs`, in order of their ids. In a circle it is the youngest one
/// that was invoked by another of the same circle: one that only stands behind it would be lost for nothing. A circle that hangs on
/// another one is left for later, since it may go on by itself once that one is gone.
pub fn victims(runs: &[RunId], look: impl FnMut(Node) -> Stand) -> Vec<Victim> {
    let graph = Graph::walk(runs, look);
    let stuck = graph.stuck();
    let left = |at: usize, to: &[usize]| if stuck[at] { to.iter().copied().filter(|to| stuck[*to]).collect() } else { Vec::new() };
    let next: Vec<Vec<usize>> = graph.next.iter().enumerate().map(|(at, to)| left(at, to)).collect();
    let circle = circles(&next);
    let mut leads_out = vec![false; next.len()];
    for (at, to) in next.iter().enumerate() {
        leads_out[circle[at]] |= to.iter().any(|to| circle[*to] != circle[at]);
    }
    let mut youngest: BTreeMap<usize, usize> = BTreeMap::new();
    for (at, stand) in graph.stands.iter().enumerate() {
        if leads_out[circle[at]] || !matches!(stand, Stand::WaitsFor(_)) {
            continue;
        }
        for &child in next[at].iter().filter(|child| matches!(graph.stands[**child], Stand::Behind(_))) {
            let best = youngest.entry(circle[at]).or_insert(child);
            if graph.nodes[child] > graph.nodes[*best] {
                *best = child;
            }
        }
    }
    let victim = |at: usize| match (graph.nodes[at], graph.nodes[*next[at].first()?]) {
        (Node::Run(run), Node::Slot(slot)) => Some(Victim { run, slot }),
        _ => None,
    };
    let mut victims: Vec<Victim> = youngest.into_values().filter_map(victim).collect();
    victims.sort_by_key(|victim| victim.run);
    victims
}

/// Who waits for whom.
struct Graph {
    /// Those from which it was walked come first.
    nodes: Vec<Node>,
    starts: usize,
    stands: Vec<Stand>,
    /// What each has to wait for, by number.
    next: Vec<Vec<usize>>,
}

impl Graph {
    /// All that is reached from these runs, each looked at once.
    fn walk(runs: &[RunId], mut look: impl FnMut(Node) -> Stand) -> Graph {
        let mut numbers: HashMap<Node, usize> = HashMap::new();
        let mut number = |nodes: &mut Vec<Node>, node: Node| {
            *numbers.entry(node).or_insert_with(|| {
                nodes.push(node);
                nodes.len() - 1
            })
        };
        let (mut nodes, mut stands, mut next) = (Vec::new(), Vec::new(), Vec::new());
        for run in runs {
            number(&mut nodes, Node::Run(*run));
        }
        let starts = nodes.len();
        while stands.len() < nodes.len() {
            let stand = look(nodes[stands.len()]);
            let to: Vec<Node> = match &stand {
                Stand::Free => Vec::new(),
                Stand::Behind(slots) => slots.iter().map(|slot| Node::Slot(*slot)).collect(),
                Stand::WaitsFor(runs) | Stand::HeldBy(runs) => runs.iter().map(|run| Node::Run(*run)).collect(),
            };
            next.push(to.into_iter().map(|node| number(&mut nodes, node)).collect());
            stands.push(stand);
        }
        Graph { nodes, starts, stands, next }
    }

    /// Which can never move: all but those that are free, and those that what is free sets going, over however many others.
    fn stuck(&self) -> Vec<bool> {
        let needs = |stand: &Stand| match stand {
            Stand::Free => 0,
            Stand::Behind(slots) => slots.len(),
            Stand::WaitsFor(_) | Stand::HeldBy(_) => 1,
        };
        let mut needs: Vec<usize> = self.stands.iter().map(needs).collect();
        let mut before: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
        for (at, next) in self.next.iter().enumerate() {
            next.iter().for_each(|to| before[*to].push(at));
        }
        let mut moving: Vec<usize> = (0..needs.len()).filter(|at| needs[*at] == 0).collect();
        let mut stuck = vec![true; needs.len()];
        while let Some(at) = moving.pop() {
            stuck[at] = false;
            for &waits in &before[at] {
                if needs[waits] > 0 {
                    needs[waits] -= 1;
                    if needs[waits] == 0 {
                        moving.push(waits);
                    }
                }
            }
        }
        stuck
    }
}

/// The circle of each node by number: two are in one if each is reached from the other (Tarjan's strongly connected components). No
/// recursion: a chain may be longer than the stack.
fn circles(next: &[Vec<usize>]) -> Vec<usize> {
    const NEVER: usize = usize::MAX;
    let mut seen = vec![NEVER; next.len()];
    let mut reaches = vec![NEVER; next.len()];
    let mut circle = vec![NEVER; next.len()];
    let (mut open, mut count, mut found) = (Vec::new(), 0, 0);
    for start in 0..next.len() {
        if seen[start] != NEVER {
            continue;
        }
        let mut path = vec![(start, 0)];
        while let Some((at, done)) = path.last_mut() {
            let at = *at;
            if seen[at] == NEVER {
                (seen[at], reaches[at]) = (count, count);
                count += 1;
                open.push(at);
            }
            if let Some(&to) = next[at].get(*done) {
                *done += 1;
                if seen[to] == NEVER {
                    path.push((to, 0));
                } else if circle[to] == NEVER {
                    reaches[at] = reaches[at].min(seen[to]);
                }
                continue;
            }
            path.pop();
            if let Some((above, _)) = path.last() {
                reaches[*above] = reaches[*above].min(reaches[at]);
            }
            if reaches[at] == seen[at] {
                while let Some(member) = open.pop() {
                    circle[member] = found;
                    if member == at {
                        break;
                    }
                }
                found += 1;
            }
        }
    }
    circle
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Id;

    fn run(number: i64) -> Node {
        Node::Run(Id(number))
    }

    fn slot(number: u32, holders: &[i64]) -> (Node, Stand) {
        (Node::Slot(SlotId(number)), Stand::HeldBy(ids(holders)))
    }

    fn waits(number: i64, children: &[i64]) -> (Node, Stand) {
        (run(number), Stand::WaitsFor(ids(children)))
    }

    fn behind(number: i64, slots: &[u32]) -> (Node, Stand) {
        (run(number), Stand::Behind(slots.iter().map(|slot| SlotId(*slot)).collect()))
    }

    fn ids(numbers: &[i64]) -> Vec<RunId> {
        numbers.iter().map(|number| Id(*number)).collect()
    }

    /// Whoever does not stand there is free.
    fn look(stands: &[(Node, Stand)]) -> impl Fn(Node) -> Stand {
        move |node| stands.iter().find(|(of, _)| *of == node).map_or(Stand::Free, |(_, stand)| stand.clone())
    }

    #[test]
    fn a_circle_is_broken_at_its_youngest_child_and_nobody_else_is_lost() {
        let two = [slot(0, &[1, 2]), waits(1, &[3]), waits(2, &[4]), behind(3, &[0]), behind(4, &[0])];
        let and = |more: &[(Node, Stand)]| [&two[..], more].concat();
        let own = [slot(5, &[11]), waits(11, &[13]), behind(13, &[5])];
        type Case<'a> = (&'a str, Vec<(Node, Stand)>, &'a [i64], &'a [i64], &'a [(i64, u32)]);
        let cases: [Case<'_>; 13] = [
            ("two runs have both slots, and each waits for one behind them", two.to_vec(), &[3, 4], &[3, 4], &[(4, 0)]),
            (
                "three runs of two functions, one of them under a limit that is shared",
                vec![
                    slot(0, &[1]),
                    slot(1, &[2]),
                    slot(2, &[3]),
                    waits(1, &[11]),
                    waits(2, &[12]),
                    waits(3, &[13]),
                    behind(11, &[1]),
                    behind(12, &[2]),
                    behind(13, &[0]),
                ],
                &[11, 12, 13],
                &[11, 12, 13],
                &[(13, 0)],
            ),
            (
                "a child that waits for a child in line",
                vec![slot(0, &[1]), waits(1, &[2]), waits(2, &[3]), behind(3, &[0])],
                &[3],
                &[3],
                &[(3, 0)],
            ),
            (
                "one of the two waits for an event as well, or has a time-out",
                vec![slot(0, &[1, 2]), waits(1, &[3]), behind(3, &[0])],
                &[3],
                &[],
                &[],
            ),
            (
                "a third one has a slot, and runs",
                vec![slot(0, &[1, 2, 5]), waits(1, &[3]), waits(2, &[4]), behind(3, &[0]), behind(4, &[0])],
                &[3, 4],
                &[],
                &[],
            ),
            (
                "the last one of a chain is free",
                vec![slot(0, &[1]), waits(1, &[2]), behind(2, &[1]), slot(1, &[3]), waits(3, &[4])],
                &[2],
                &[],
                &[],
            ),
            ("one of two children is free", vec![slot(0, &[1]), waits(1, &[2, 3]), behind(2, &[0])], &[2], &[], &[]),
            (
                "all children stand in line",
                vec![slot(0, &[1]), waits(1, &[2, 3]), behind(2, &[0]), behind(3, &[0])],
                &[2, 3],
                &[2, 3],
                &[(3, 0)],
            ),
            ("its turn has come", vec![waits(1, &[2]), behind(2, &[])], &[2], &[], &[]),
            ("one slot of two comes free", and(&[behind(8, &[1, 0]), slot(1, &[9])]), &[3, 4, 8], &[3, 4, 8], &[(4, 0)]),
            ("a younger one stands behind the circle alone", and(&[waits(7, &[8]), behind(8, &[0])]), &[3, 4, 8], &[3, 4, 8], &[(4, 0)]),
            ("two circles that have nothing to do with each other", and(&own), &[3, 4, 13], &[3, 4, 13], &[(4, 0), (13, 5)]),
            (
                "a circle that hangs on another one is left for later",
                vec![slot(0, &[1]), waits(1, &[2]), behind(2, &[0]), slot(1, &[3]), waits(3, &[4, 5]), behind(4, &[1]), behind(5, &[0])],
                &[2, 4, 5],
                &[2, 4, 5],
                &[(2, 0)],
            ),
        ];
        for (what, stands, runs, are_stuck, broken) in cases {
            assert_eq!(stuck(&ids(runs), look(&stands)), ids(are_stuck), "{what}");
            let found: Vec<(i64, u32)> = victims(&ids(runs), look(&stands)).iter().map(|victim| (victim.run.0, victim.slot.0)).collect();
            assert_eq!(found, broken, "{what}");
        }
    }

    #[test]
    fn who_knows_fewer_holders_finds_more_that_cannot_move() {
        let all = [slot(0, &[1, 2]), waits(1, &[3]), behind(3, &[0])];
        assert_eq!(stuck(&ids(&[3]), look(&all)), [], "the second one is free");
        let last = [slot(0, &[1]), waits(1, &[3]), behind(3, &[0])];
        assert_eq!(stuck(&ids(&[3]), look(&last)), ids(&[3]));
        let nobody = [slot(0, &[]), behind(3, &[0])];
        assert_eq!(stuck(&ids(&[3]), look(&nobody)), ids(&[3]));
        assert_eq!(victims(&ids(&[3]), look(&nobody)), [], "there is no circle");
    }

    #[test]
    fn a_long_chain_is_walked_without_the_stack() {
        // Each holds a slot and waits for one that stands in line for the next slot; the last one for the first.
        let length = 100_000;
        let next = |node: Node| match node {
            Node::Slot(slot) => Stand::HeldBy(ids(&[i64::from(slot.0) * 2])),
            Node::Run(run) if run.0 % 2 == 0 => Stand::WaitsFor(ids(&[run.0 + 1])),
            Node::Run(run) => Stand::Behind(vec![SlotId(((run.0 / 2 + 1) % length) as u32)]),
        };
        let last = length * 2 - 1;
        assert_eq!(victims(&ids(&[1]), next), [Victim { run: Id(last), slot: SlotId(0) }]);
    }
}
