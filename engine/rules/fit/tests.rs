//! The cases: each change of a handler at each position, in loops and in branches.

use super::*;
use crate::base::Millis;
use crate::rules::row::Recorded;

/// The first difference between records and what a handler asks for, one lane a branch and the script's own first; the first
/// call that is new where there is none.
fn fits(records: &[Record], lanes: &[(&str, Vec<Call>)]) -> Result<Option<Call>, Difference> {
    let mut fit = Fit::new(records);
    let mut waiting: Vec<&Call> = Vec::new();
    let differs = |at: usize, instead: Instead| Err(Difference { recorded: Call::of(&records[at]), instead });
    for (branch, calls) in lanes {
        let branch = (!branch.is_empty()).then_some(*branch);
        for call in calls {
            match fit.ask(records, branch, call.kind, &call.key) {
                Answer::Recorded(_) => {}
                Answer::New | Answer::Later => {
                    waiting.push(call);
                    break;
                }
                Answer::Unfit(at) => return differs(at, Instead::Asks(call.clone())),
            }
        }
    }
    match (fit.missed(), waiting.first()) {
        (None, first) => Ok(first.map(|call| (*call).clone())),
        (Some(at), Some(call)) => differs(at, Instead::Asks((*call).clone())),
        (Some(at), None) => differs(at, Instead::Ends),
    }
}

/// A call from its shorthand: `a` is a step, `~a` a sleep, `?a` a wait, `>a` something that is sent.
fn call(text: &str) -> Call {
    let (kind, key) = match text.chars().next() {
        Some('~') => (Kind::Sleep, &text[1..]),
        Some('?') => (Kind::Wait, &text[1..]),
        Some('>') => (Kind::Send, &text[1..]),
        _ => (Kind::Step, text),
    };
    Call { kind, key: key.into(), line: None, text: None }
}

fn records(texts: &str) -> Vec<Record> {
    let record = |(at, text): (usize, &str)| {
        let Call { kind, key, .. } = call(text);
        let at = at as u32;
        Record { index: at, key, kind, result: Recorded::Value("1".into()), attempts: 1, started: Millis(0), ended: Millis(0), line: None }
    };
    texts.split_whitespace().enumerate().map(record).collect()
}

/// What becomes of a handler that asks for `calls`: `fits`, `new x`, or `x, not y`.
fn straight(recorded: &str, calls: &str) -> String {
    told(fits(&records(recorded), &[("", calls.split_whitespace().map(call).collect())]))
}

fn told(result: Result<Option<Call>, Difference>) -> String {
    match result {
        Ok(None) => "fits".to_owned(),
        Ok(Some(call)) => format!("new {}", call.key),
        Err(Difference { recorded, instead: Instead::Asks(call) }) => format!("{}, not {}", recorded.key, call.key),
        Err(Difference { recorded, instead }) => format!("{}, {instead:?}", recorded.key).to_lowercase(),
    }
}

/// Branches `a` and `b` below one `parallel`, whose keys begin with `a>` and `b>` here.
fn parallel(recorded: &str, lanes: &[(&str, &str)]) -> String {
    let full = |text: &str| text.replace('/', BELOW);
    let mut all = records(recorded);
    all.iter_mut().for_each(|record| record.key = full(&record.key).into());
    let lane = |(branch, calls): &(&'static str, &str)| {
        let calls = calls.split_whitespace().map(|text| {
            let made = call(text);
            Call { key: full(&made.key).into(), ..made }
        });
        (*branch, calls.collect::<Vec<Call>>())
    };
    let lanes: Vec<(&str, Vec<Call>)> = lanes.iter().map(|(branch, calls)| lane(&(leak(branch), calls))).collect();
    told(fits(&all, &lanes))
}

fn leak(text: &str) -> &'static str {
    match text {
        "a" => "a",
        "b" => "b",
        "" => "",
        other => panic!("no branch {other}"),
    }
}

const RECORDED: &str = "a ~nap b";

#[test]
fn straight_scripts() {
    for (calls, what) in [
        // The same, and more of it behind.
        ("a ~nap b", "fits"),
        ("a ~nap b c", "new c"),
        ("a ~nap b ~rest c", "new rest"),
        // Renamed, at each position.
        ("x ~nap b", "a, not x"),
        ("a ~x b", "nap, not x"),
        ("a ~nap x", "b, not x"),
        // Inserted, at each position.
        ("x a ~nap b", "a, not x"),
        ("a x ~nap b", "nap, not x"),
        ("a ~nap x b", "b, not x"),
        // Removed, at each position: whatever comes next is new before the one that is gone was asked for.
        ("~nap b", "a, ends"),
        ("~nap b c", "a, not c"),
        ("a b", "nap, ends"),
        ("a b c", "nap, not c"),
        ("a ~nap", "b, ends"),
        ("a ~nap c", "b, not c"),
        ("", "a, ends"),
        // Reordered: all are asked for before anything new, so nothing is lost.
        ("~nap a b", "fits"),
        ("a b ~nap", "fits"),
        ("b ~nap a c", "new c"),
        ("b ~nap c a", "a, not c"),
        // Another kind of the same name, at each position.
        ("~a ~nap b", "a, not a"),
        ("a nap b", "nap, not nap"),
        ("a ~nap ?b", "b, not b"),
        ("a ?nap b", "nap, not nap"),
        ("a ~nap >b", "b, not b"),
    ] {
        assert_eq!(straight(RECORDED, calls), what, "recorded {RECORDED}, the handler asks for {calls}");
    }
}

#[test]
fn nothing_recorded_fits_everything() {
    assert_eq!(straight("", "x y"), "new x");
    assert_eq!(straight("", ""), "fits");
}

#[test]
fn loops() {
    let recorded = "x x#2 x#3";
    for (calls, what) in [
        ("x x#2 x#3", "fits"),
        // A further round behind the recorded ones.
        ("x x#2 x#3 x#4", "new x#4"),
        // A round less.
        ("x x#2", "x#3, ends"),
        ("x x#2 end", "x#3, not end"),
        // Another name in each round, and a second step in each.
        ("y y#2 y#3", "x, not y"),
        ("x y x#2 y#2 x#3 y#3", "x#2, not y"),
        // A step before and behind the loop.
        ("first x x#2 x#3", "x, not first"),
        ("x x#2 x#3 last", "new last"),
        // Named by what they are about instead of counted.
        ("x-1 x-2 x-3", "x, not x-1"),
        // Another name in one round alone.
        ("x y x#3", "x#2, not y"),
        ("x x#2 y", "x#3, not y"),
        // Another kind in each round, and in one alone.
        ("~x ~x#2 ~x#3", "x, not x"),
        ("~x x#2 x#3", "x, not x"),
        ("x ?x#2 x#3", "x#2, not x#2"),
        ("x x#2 >x#3", "x#3, not x#3"),
    ] {
        assert_eq!(straight(recorded, calls), what, "recorded {recorded}, the handler asks for {calls}");
    }
    // In the middle of a loop with something behind it, one round more comes before what is recorded behind.
    assert_eq!(straight("x x#2 last", "x x#2 x#3 last"), "last, not x#3");
    assert_eq!(straight("x x#2 last", "x last"), "x#2, ends");
    // Two steps of each round that have changed places are both asked for before anything new, unless the loop ends in between.
    assert_eq!(straight("x y x#2 y#2", "y x y#2 x#2"), "fits");
    assert_eq!(straight("x y x#2 y#2", "y x y#2 x#2 y#3"), "new y#3");
    assert_eq!(straight("x y x#2", "y x y#2 x#2"), "x#2, not y#2");
}

#[test]
fn branches() {
    let recorded = "start a/one b/one a/two";
    let start = ("", "start");
    for (a, b, what) in [
        ("a/one a/two", "b/one", "fits"),
        // The order in which branches were recorded does not matter, and a branch may go on where it has come to.
        ("a/one a/two a/three", "b/one", "new a › three"),
        ("a/one a/two", "b/one b/two", "new b › two"),
        ("a/one a/two a/three", "b/one b/two", "new a › three"),
        // Renamed, inserted, removed within a branch.
        ("a/eins a/two", "b/one", "a › one, not a › eins"),
        ("a/zero a/one a/two", "b/one", "a › one, not a › zero"),
        ("a/one a/zero a/two", "b/one", "a › two, not a › zero"),
        ("a/one", "b/one", "a › two, ends"),
        ("a/two", "b/one", "a › one, ends"),
        ("a/one a/two", "", "b › one, ends"),
        ("a/one a/two", "b/zero b/one", "b › one, not b › zero"),
        // Renamed at the other positions.
        ("a/one a/zwei", "b/one", "a › two, not a › zwei"),
        ("a/one a/two", "b/eins", "b › one, not b › eins"),
        // A branch that is done with its records stops; the one that lacks some is found all the same.
        ("a/one a/two a/three", "", "b › one, not a › three"),
        // Reordered within a branch, and another kind at each position.
        ("a/two a/one", "b/one", "fits"),
        ("~a/one a/two", "b/one", "a › one, not a › one"),
        ("a/one ~a/two", "b/one", "a › two, not a › two"),
        ("a/one a/two", "?b/one", "b › one, not b › one"),
    ] {
        assert_eq!(parallel(recorded, &[start, ("a", a), ("b", b)]), what, "branch a asks for {a}, branch b for {b}");
    }
    // Before the branches.
    let both = [("a", "a/one a/two"), ("b", "b/one")];
    assert_eq!(parallel(recorded, &[("", "begin"), both[0], both[1]]), "start, not begin");
    assert_eq!(parallel(recorded, &[("", ">start"), both[0], both[1]]), "start, not start");
    // A step moved out of its branch, or into one.
    assert_eq!(parallel("a/one b/one", &[("", "one"), ("a", ""), ("b", "b/one")]), "a › one, not one");
    assert_eq!(parallel("one b/one", &[("a", "a/one"), ("b", "b/one")]), "one, not a › one");
}

#[test]
fn a_branch_that_is_started_again_finds_its_records_again() {
    let mut all = records("one two");
    all[0].key = format!("a{BELOW}one").into();
    all[1].key = format!("b{BELOW}two").into();
    let mut fit = Fit::new(&all);
    for _ in 0..3 {
        assert_eq!(fit.ask(&all, Some("b"), Kind::Step, &all[1].key), Answer::Recorded(1));
        assert_eq!(fit.ask(&all, Some("a"), Kind::Step, &all[0].key), Answer::Recorded(0));
        assert!(fit.is_whole());
    }
    assert_eq!(fit.ask(&all, Some("a"), Kind::Step, &format!("a{BELOW}three").into()), Answer::New);
}

#[test]
fn a_difference_says_what_was_expected_what_came_and_where() {
    let at = |text: &str, line: &str, source: Option<&str>| Call { line: Some(line.into()), text: source.map(Arc::from), ..call(text) };
    let mut difference =
        Difference { recorded: at("pay", "handlers/f.rhai:3", None), instead: Instead::Asks(at("~pause", "handlers/f.rhai:2", None)) };
    assert_eq!(
        difference.to_string(),
        "the journal has step `pay` (handlers/f.rhai:3) where the handler asks for sleep `pause` (handlers/f.rhai:2)"
    );
    difference.recorded = at("pay", "handlers/f.rhai:3", Some("  let x = step(\"pay\", || 1);"));
    difference.instead = Instead::Ends;
    let told = "the journal has step `pay` (handlers/f.rhai:3: let x = step(\"pay\", || 1);) where the handler asks for nothing more";
    assert_eq!(difference.to_string(), told);
    difference.instead = Instead::Throws;
    assert_eq!(difference.to_string(), told.replace("nothing more", "an error"));
}

#[test]
fn the_record_of_a_race_stands_for_what_its_branches_have_recorded() {
    let key = |text: &str| Arc::<str>::from(text.replace('/', BELOW));
    let mut all = records("charge race/a/ask race/b/nap race race/late ship");
    all.iter_mut().for_each(|record| record.key = key(&record.key));
    all[3].kind = Kind::Race;
    let mut fit = Fit::new(&all);
    assert_eq!(fit.ask(&all, None, Kind::Step, &key("charge")), Answer::Recorded(0));
    assert_eq!(fit.race(&all, None, &key("race#2")), None);
    assert_eq!(fit.race(&all, None, &key("race")), Some(3));
    assert_eq!(fit.missed(), Some(4), "what comes after it is no part of it");
    assert_eq!(fit.ask(&all, Some("race"), Kind::Step, &key("race/late")), Answer::Recorded(4));
    assert_eq!(fit.ask(&all, None, Kind::Step, &key("ship")), Answer::Recorded(5));
    assert!(fit.is_whole());
    assert_eq!(fit.race(&all, Some("race"), &key("race")), Some(3), "a branch that is started again asks for it once more");

    // As long as it is not decided, its branches ask for theirs.
    let all = &all[..3];
    let mut fit = Fit::new(all);
    assert_eq!(fit.ask(all, None, Kind::Step, &key("charge")), Answer::Recorded(0));
    assert_eq!(fit.race(all, None, &key("race")), None);
    assert_eq!(fit.ask(all, Some("race › a"), Kind::Step, &key("race/a/ask")), Answer::Recorded(1));
    assert_eq!(fit.ask(all, Some("race › a"), Kind::Step, &key("race/a/more")), Answer::Later);
    assert_eq!(fit.ask(all, Some("race › b"), Kind::Step, &key("race/b/other")), Answer::Unfit(2));
}
