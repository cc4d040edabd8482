//! The queue's rules by example, and against a model that is as plain as can be.

use proptest::prelude::*;

use super::*;
use crate::base::Id;

fn want(scope: &str, key: &str, limit: u32, hold: Hold) -> Want {
    Want { scope: scope.into(), key: key.into(), limit, hold, throttle: None }
}

impl Queue {
    /// What one run in line waits for.
    fn blocked_by(&self, run: RunId) -> Option<Blocked> {
        self.blocked(&[run]).remove(&run)
    }
}

fn order(run: i64) -> Order {
    Order { fresh: true, enter_ms: run, run: Id(run) }
}

#[test]
fn runs_of_one_key_begin_in_order_and_one_at_a_time() {
    let mut queue = Queue::default();
    for run in 1..=4 {
        let key = if run == 3 { "b" } else { "a" };
        queue.push(order(run), &[want("f", key, 1, Hold::Run)]);
    }
    assert_eq!(queue.admit(10), [Id(1), Id(3)]);
    assert_eq!(queue.admit(10), []);
    queue.suspend(Id(1));
    assert_eq!(queue.admit(10), [], "hold: run keeps the slot over a suspension");
    queue.remove(Id(1));
    assert_eq!(queue.admit(10), [Id(2)]);
    queue.remove(Id(2));
    queue.remove(Id(3));
    assert_eq!(queue.admit(10), [Id(4)]);
    queue.remove(Id(4));
    assert!(queue.names.is_empty() && queue.line_of.is_empty() && queue.runs.is_empty(), "nothing is left: {queue:?}");
}

#[test]
fn one_that_is_taken_in_beside_the_line_takes_its_slots() {
    let mut queue = Queue::default();
    queue.know(Id(1), &[want("f", "a", 1, Hold::Run)]);
    queue.push(order(2), &[want("f", "a", 1, Hold::Run)]);
    assert_eq!(queue.slots()["f"].taken, 0, "it holds nothing yet");
    queue.take(Id(1));
    assert_eq!(queue.admit(10), []);
    queue.remove(Id(1));
    assert_eq!(queue.admit(10), [Id(2)]);
}

#[test]
fn whoever_waits_for_a_slot_knows_who_has_it() {
    let mut queue = Queue::default();
    // One that is taken up as it was left, and one that was let in.
    queue.hold(Id(1), &[want("f", "a", 2, Hold::Active)]);
    queue.push(order(1), &[]);
    for run in 2..=4 {
        queue.push(order(run), &[want("f", "a", 2, Hold::Active)]);
    }
    assert_eq!(queue.admit(10), [Id(1), Id(2)]);
    let blocked = |holder| Some(Blocked::Limit { scope: "f".into(), key: "a".into(), limit: 2, holder });
    assert_eq!(queue.blocked_by(Id(3)), blocked(Some(Id(2))));
    queue.suspend(Id(2));
    assert_eq!(queue.admit(1), [Id(3)]);
    assert_eq!(queue.blocked_by(Id(4)), blocked(Some(Id(3))));
}

#[test]
fn slots_of_a_limit_are_counted_over_all_keys() {
    let mut queue = Queue::default();
    for (run, key) in [(1, "a"), (2, "a"), (3, "b"), (4, "c")] {
        queue.push(order(run), &[want("f#0", key, 1, Hold::Run)]);
    }
    queue.push(order(5), &[want("shared s", "null", 7, Hold::Run)]);
    assert_eq!(queue.admit(3), [Id(1), Id(3), Id(4)]);
    let slots: Vec<(Arc<str>, Slots)> = queue.slots().into_iter().collect();
    let expected = [("f#0".into(), Slots { limit: 1, taken: 3, keys: 3 }), ("shared s".into(), Slots { limit: 7, taken: 0, keys: 0 })];
    assert_eq!(slots, expected);
    (1..=5).for_each(|run| queue.remove(Id(run)));
    assert!(queue.slots().is_empty());
}

#[test]
fn hold_active_lets_the_slot_go_and_takes_it_again_before_fresh_runs() {
    let mut queue = Queue::default();
    for run in 1..=3 {
        queue.push(order(run), &[want("f", "a", 1, Hold::Active)]);
    }
    assert_eq!(queue.admit(10), [Id(1)]);
    queue.suspend(Id(1));
    assert_eq!(queue.admit(10), [Id(2)]);
    queue.push(Order { fresh: false, enter_ms: 100, run: Id(1) }, &[]);
    assert_eq!(queue.admit(10), []);
    queue.remove(Id(2));
    assert_eq!(queue.admit(10), [Id(1)]);
    queue.remove(Id(1));
    assert_eq!(queue.admit(10), [Id(3)]);
}

#[test]
fn a_run_that_starts_outside_of_the_line_takes_its_slots_too() {
    let mut queue = Queue::default();
    queue.hold(Id(1), &[want("f", "a", 1, Hold::Active)]);
    queue.push(order(2), &[want("f", "a", 1, Hold::Active)]);
    queue.take(Id(1));
    assert_eq!(queue.admit(10), []);
    queue.suspend(Id(1));
    assert_eq!(queue.admit(10), [Id(2)]);
}

#[test]
fn a_run_takes_all_its_slots_or_none_and_others_pass_it() {
    let mut queue = Queue::default();
    let both = |user: &str| [want("f#0", "null", 2, Hold::Run), want("f#1", user, 1, Hold::Run)];
    queue.push(order(1), &both("a"));
    queue.push(order(2), &both("a"));
    queue.push(order(3), &both("b"));
    queue.push(order(4), &both("c"));
    assert_eq!(queue.admit(10), [Id(1), Id(3)]);
    queue.remove(Id(3));
    assert_eq!(queue.admit(10), [Id(4)], "run 2 waits for its user and must not block run 4");
    queue.remove(Id(1));
    assert_eq!(queue.admit(10), [Id(2)]);
}

#[test]
fn a_cancelled_run_leaves_the_line() {
    let mut queue = Queue::default();
    for run in 1..=3 {
        queue.push(order(run), &[want("f", "a", 1, Hold::Run)]);
    }
    assert_eq!(queue.admit(10), [Id(1)]);
    queue.remove(Id(2));
    queue.remove(Id(1));
    assert_eq!(queue.admit(10), [Id(3)]);
    assert_eq!(queue.queued(), 0);
}

#[test]
fn those_who_left_from_the_middle_are_neither_counted_nor_let_in() {
    let mut queue = Queue::default();
    let wants = [want("f", "a", 1, Hold::Run)];
    for run in 1..=9 {
        queue.push(order(run), &wants);
    }
    assert_eq!(queue.admit(10), [Id(1)]);
    let stand = |queue: &Queue| {
        let key = &queue.survey(9).keys[0];
        (queue.queued(), key.waiting, key.first)
    };
    for (run, left, first) in [(4, 7, 2), (6, 6, 2), (2, 5, 3), (3, 4, 5)] {
        queue.remove(Id(run));
        assert_eq!(stand(&queue), (left, left, Some(Id(first))), "run {run} has left");
    }
    assert_eq!(queue.take_out(|_| true, |order| order.run.0 < 7), [(order(5), wants.to_vec())], "nobody leaves twice");
    // One that comes back stands where it comes in, and not where it stood.
    queue.remove(Id(8));
    queue.push(Order { enter_ms: 100, ..order(8) }, &wants);
    assert_eq!(stand(&queue), (3, 3, Some(Id(7))));
    for (run, next) in [(1, 7), (7, 9), (9, 8)] {
        queue.remove(Id(run));
        assert_eq!(queue.admit(10), [Id(next)]);
    }
    queue.remove(Id(8));
    assert!(queue.names.is_empty() && queue.line_of.is_empty() && queue.runs.is_empty(), "nothing is left: {queue:?}");
}

#[test]
fn a_run_that_leaves_the_line_keeps_what_it_holds() {
    let mut queue = Queue::default();
    let both = [want("f", "a", 1, Hold::Run), want("g", "b", 1, Hold::Active)];
    queue.push(order(1), &both);
    assert_eq!(queue.admit(10), [Id(1)]);
    queue.suspend(Id(1));
    queue.push(order(1), &both);
    queue.push(order(2), &both[..1]);
    queue.leave(Id(1));
    assert_eq!((queue.queued(), queue.admit(10)), (1, vec![]));
    queue.remove(Id(1));
    assert_eq!(queue.admit(10), [Id(2)]);
    queue.remove(Id(2));
    assert!(queue.names.is_empty() && queue.line_of.is_empty() && queue.runs.is_empty(), "nothing is left: {queue:?}");
}

fn start(key: &str, limit: u32, period_ms: i64, burst: u32) -> Want {
    Want::start("f", &key.into(), Throttle { limit, period: crate::base::Span(period_ms), burst })
}

/// Lets in whom it can at each millisecond from `from` on, before `to`: (time, run).
fn admitted(queue: &mut Queue, from: i64, to: i64) -> Vec<(i64, i64)> {
    let mut all = Vec::new();
    for now in from..to {
        queue.advance(Millis(now));
        all.extend(queue.admit(100).into_iter().map(|run| (now, run.0)));
    }
    all
}

#[test]
fn a_throttle_gives_starts_in_order_and_to_each_key_its_own() {
    let mut queue = Queue::default();
    for run in 1..=3 {
        queue.push(order(run), &[start("a", 1, 50, 0)]);
    }
    queue.push(order(4), &[start("b", 1, 50, 0)]);
    assert_eq!(admitted(&mut queue, 1_000, 1_200), [(1_000, 1), (1_000, 4), (1_050, 2), (1_100, 3)]);
    assert_eq!(queue.next_start(), None);
}

#[test]
fn a_throttle_says_when_it_gives_the_next_start_and_to_whom() {
    let mut queue = Queue::default();
    queue.advance(Millis(1_000));
    for run in 1..=4 {
        queue.push(order(run), &[start("a", 1, 50, 0)]);
    }
    assert_eq!(queue.admit(10), [Id(1)]);
    assert_eq!(queue.next_start(), Some(Millis(1_050)));
    let rule = Throttle { limit: 1, period: crate::base::Span(50), burst: 0 };
    let blocked = |ahead, at| Some(Blocked::Throttle { key: "a".into(), rule, ahead, at: Millis(at) });
    assert_eq!(queue.blocked_by(Id(2)), blocked(0, 1_050));
    assert_eq!(queue.blocked_by(Id(4)), blocked(2, 1_150));
    queue.remove(Id(2));
    assert_eq!(queue.blocked_by(Id(4)), blocked(1, 1_100), "a cancelled run needs no start");
}

#[test]
fn each_of_many_knows_how_many_stand_before_it() {
    let mut queue = Queue::default();
    queue.advance(Millis(1_000));
    // Five lines, and in each every fifth run.
    for run in 1..=40 {
        queue.push(order(run * 7 % 41), &[want("g", &(run % 5).to_string(), 99, Hold::Run), start("a", 1, 50, 0)]);
    }
    let first = queue.admit(10);
    assert_eq!(first, [Id(1)]);
    for run in [2, 9, 10, 33] {
        queue.remove(Id(run));
    }
    let left: Vec<RunId> = (1..=41).filter(|run| ![1, 2, 9, 10, 33, 41].contains(run)).map(Id).collect();
    let asked: Vec<RunId> = (0..=42).rev().map(Id).collect();
    let ranks = |runs: &[RunId]| -> Vec<(RunId, usize)> {
        let rank = |(run, blocked): (RunId, Blocked)| match blocked {
            Blocked::Throttle { ahead, .. } => (run, ahead),
            other => panic!("{other:?}"),
        };
        let mut ranks: Vec<_> = queue.blocked(runs).into_iter().map(rank).collect();
        ranks.sort_unstable();
        ranks
    };
    let expected: Vec<(RunId, usize)> = left.iter().copied().zip(0..).collect();
    assert_eq!(ranks(&asked), expected);
    assert_eq!(ranks(&[left[7], left[20], left[7]]), [expected[7], expected[20]], "asked about some, of which one twice");
}

#[test]
fn a_start_is_told_with_the_run_that_it_was_given_to() {
    let mut queue = Queue::default();
    queue.advance(Millis(1_000));
    for run in 1..=3 {
        queue.push(order(run), &[start("a", 2, 50, 1)]);
    }
    assert_eq!(queue.admit(10), [Id(1), Id(2)]);
    let full = |given: Option<Given>| given.map(|given| given.bucket.full_us);
    assert_eq!(full(queue.given(Id(1))), Some(1_024_001));
    assert_eq!(full(queue.given(Id(2))), Some(1_049_001));
    assert_eq!(full(queue.given(Id(2))), None, "it is stored once");
    assert_eq!(full(queue.given(Id(3))), None);
}

#[test]
fn a_throttle_is_remembered_while_it_matters_and_taken_up_from_its_rows() {
    let mut queue = Queue::default();
    queue.load("f", &"a".into(), 1_040_000);
    queue.advance(Millis(1_000));
    queue.push(order(1), &[start("a", 1, 50, 0)]);
    assert_eq!(admitted(&mut queue, 1_000, 1_045), [(1_040, 1)]);
    queue.remove(Id(1));
    queue.push(order(2), &[start("a", 1, 50, 0)]);
    assert_eq!(admitted(&mut queue, 1_045, 1_100), [(1_090, 2)], "the run that had the start is gone, and the start is used up");
    queue.remove(Id(2));
    queue.load("f", &"unused".into(), 1_100_000);
    queue.advance(Millis(1_200));
    assert!(queue.names.is_empty() && queue.due.is_empty() && queue.unused.is_empty(), "nothing is left: {queue:?}");
}

#[test]
fn a_throttle_asks_nothing_of_a_run_that_has_begun() {
    let mut queue = Queue::default();
    queue.advance(Millis(1_000));
    queue.push(order(1), &[start("a", 1, 50, 0)]);
    queue.push(order(2), &[start("a", 1, 50, 0)]);
    assert_eq!(queue.admit(10), [Id(1)]);
    queue.suspend(Id(1));
    queue.push(Order { fresh: false, enter_ms: 1, run: Id(1) }, &[]);
    assert_eq!(queue.admit(10), [Id(1)]);
}

#[test]
fn time_that_gives_several_starts_at_once_lets_several_in() {
    let mut queue = Queue::default();
    queue.advance(Millis(1_000));
    // Each in a line of its own.
    for run in 1..=4 {
        queue.push(order(run), &[want("g", &run.to_string(), 1, Hold::Run), start("a", 1, 50, 1)]);
    }
    assert_eq!(queue.admit(10), [Id(1), Id(2)]);
    queue.advance(Millis(1_500));
    assert_eq!(queue.admit(10), [Id(3), Id(4)]);
}

#[test]
fn a_start_that_one_line_cannot_use_goes_to_the_next() {
    let mut queue = Queue::default();
    queue.advance(Millis(1_000));
    let wants = |user: &str| [want("g", user, 1, Hold::Run), start("a", 1, 50, 0)];
    for (run, user) in [(1, "x"), (2, "x"), (3, "y"), (4, "z")] {
        queue.push(order(run), &wants(user));
    }
    assert_eq!(admitted(&mut queue, 1_000, 1_200), [(1_000, 1), (1_050, 3), (1_100, 4)]);
    queue.remove(Id(1));
    assert_eq!(admitted(&mut queue, 1_200, 1_210), [(1_200, 2)]);
}

/// The same rules, written as plainly as they can be: every admission looks at every run.
#[derive(Default)]
struct Model {
    waiting: Vec<(Order, Vec<Want>)>,
    known: HashMap<RunId, (Vec<Want>, Vec<bool>)>,
}

impl Model {
    fn taken(&self, want: &Want) -> u32 {
        let holds = |(wants, held): &(Vec<Want>, Vec<bool>)| {
            wants.iter().zip(held).any(|(other, held)| *held && other.scope == want.scope && other.key == want.key)
        };
        self.known.values().filter(|known| holds(known)).count() as u32
    }

    fn admit(&mut self) -> Vec<RunId> {
        let mut admitted = Vec::new();
        self.waiting.sort_by_key(|(order, _)| *order);
        let mut at = 0;
        while at < self.waiting.len() {
            let (order, wants) = self.waiting[at].clone();
            let held = self.known[&order.run].1.clone();
            if wants.iter().zip(&held).all(|(want, held)| *held || self.taken(want) < want.limit) {
                self.known.insert(order.run, (wants, held.iter().map(|_| true).collect()));
                self.waiting.remove(at);
                admitted.push(order.run);
                at = 0;
            } else {
                at += 1;
            }
        }
        admitted
    }
}

proptest! {
    #[test]
    fn the_queue_does_what_the_plain_model_does(actions in prop::collection::vec((0u8..6, 0i64..12, 0usize..3, 0usize..4), 1..120)) {
        let (mut queue, mut model, mut next) = (Queue::default(), Model::default(), 100i64);
        for (action, pick, first, second) in actions {
            let known: Vec<RunId> = { let mut all: Vec<_> = model.known.keys().copied().collect(); all.sort(); all };
            let chosen = known.get(pick as usize % known.len().max(1)).copied();
            match (action, chosen) {
                (0..=2, _) => {
                    next += 1;
                    let mut wants = vec![];
                    if first > 0 { wants.push(want("all", "null", 2, Hold::Run)); }
                    if second > 0 { wants.push(want("user", ["a", "b", "c"][second - 1], 1, Hold::Active)); }
                    let order = Order { fresh: true, enter_ms: next - pick, run: Id(next) };
                    queue.push(order, &wants);
                    model.known.insert(order.run, (wants.clone(), vec![false; wants.len()]));
                    model.waiting.push((order, wants));
                }
                (3, Some(run)) if !model.waiting.iter().any(|(order, _)| order.run == run) => {
                    queue.suspend(run);
                    let (wants, held) = model.known.get_mut(&run).expect("known");
                    for (want, held) in wants.iter().zip(held) { if want.hold == Hold::Active { *held = false; } }
                }
                (4, Some(run)) if !model.waiting.iter().any(|(order, _)| order.run == run) => {
                    let order = Order { fresh: false, enter_ms: next, run };
                    queue.suspend(run);
                    queue.push(order, &[]);
                    let (wants, held) = model.known.get_mut(&run).expect("known");
                    for (want, held) in wants.iter().zip(held) { if want.hold == Hold::Active { *held = false; } }
                    model.waiting.push((order, wants.clone()));
                }
                (5, Some(run)) => {
                    queue.remove(run);
                    model.known.remove(&run);
                    model.waiting.retain(|(order, _)| order.run != run);
                }
                _ => {}
            }
            prop_assert_eq!(queue.admit(usize::MAX), model.admit());
            prop_assert_eq!(queue.queued(), model.waiting.len());
        }
    }
}

#[test]
fn what_is_taken_out_of_one_function_stands_in_its_own_lines_and_in_those_that_functions_share() {
    let mut queue = Queue::default();
    let (own, other, shared) = (want("g#0", "a", 1, Hold::Run), want("f#1", "a", 1, Hold::Run), want("shared s", "a", 1, Hold::Run));
    let start = |function| Want::start(function, &"a".into(), Throttle { limit: 1, period: crate::base::Span(50), burst: 0 });
    let of_g = [vec![own.clone()], vec![start("g")], vec![own, shared.clone(), start("g")], vec![shared.clone()], vec![]];
    let of_f = [vec![other.clone()], vec![start("f")], vec![shared, other]];
    for (run, wants) in (1..).zip(of_g.iter().chain(&of_f)) {
        queue.push(order(run), wants);
    }
    let out = queue.take_out(|function| function == "g", |_| true);
    assert_eq!(out, (1..).map(order).zip(of_g).collect::<Vec<_>>());
    assert_eq!(queue.queued(), of_f.len());
}

#[test]
fn what_is_taken_out_leaves_its_place_to_others_and_comes_back_where_it_was() {
    let mut queue = Queue::default();
    let wants = |key: &str| vec![want("f", key, 1, Hold::Run)];
    for run in 1..=5 {
        queue.push(order(run), &wants(if run == 3 { "b" } else { "a" }));
    }
    assert_eq!(queue.admit(1), [Id(1)]);
    let out = queue.take_out(|_| true, |order| order.run.0 % 2 == 0 || order.run == Id(3));
    assert_eq!(out, [(order(2), wants("a")), (order(3), wants("b")), (order(4), wants("a"))]);
    assert_eq!(queue.queued(), 1);
    assert_eq!(queue.admit(10), [], "the slot is taken");
    for (order, wants) in out {
        queue.push(order, &wants);
    }
    assert_eq!(queue.admit(10), [Id(3)]);
    for run in [1, 2, 4, 5] {
        queue.remove(Id(run));
        let next = queue.admit(10);
        assert_eq!(next, if run == 5 { vec![] } else { vec![[Id(2), Id(4), Id(5)][[1, 2, 4].iter().position(|at| *at == run).unwrap()]] });
    }
    queue.remove(Id(3));
    assert!(queue.names.is_empty() && queue.line_of.is_empty() && queue.runs.is_empty(), "nothing is left: {queue:?}");
}
