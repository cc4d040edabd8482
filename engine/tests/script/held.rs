//! What a script holds back of its records, and what it waits for before it acts.

use std::task::{Context, Poll, Waker};

use super::*;

/// A disk that fails so often before it takes what it is given.
struct Failing {
    store: Arc<dyn Store>,
    errors: Mutex<Vec<StoreError>>,
}

impl Desk for Failing {
    fn checkpoint(&self, list: List) -> Ticket {
        let Some(error) = self.errors.lock().unwrap().pop() else { return self.store.commit(Lane::Steps, vec![list]) };
        let (answer, ticket) = Ticket::new();
        answer.give(Err(error));
        ticket
    }
}

/// An attempt on such a disk.
fn on_failing(bench: &mut Bench, errors: Vec<StoreError>) -> Result<Stopped, StoreError> {
    bench.create();
    let program = bench.program();
    let call_of_run = bench.start(&program);
    let mut ports = Ports::clone(&bench.ports());
    ports.desk = Arc::new(Failing { store: Arc::clone(&bench.store), errors: Mutex::new(errors) });
    block_on(&bench.clock, call(program, call_of_run, Arc::new(ports), Stop::new()))
}

/// Steps that compute, and two that act.
const MIXED: &str = r#"step("a", || 1); step("b", || 2);
    step("c", || { publish("out", 3); 3 }); step("d", || 4); step("e", || { publish("out", 5); 5 }); step("f", || 6)"#;

#[test]
fn what_is_recorded_is_stored_before_a_step_acts_and_behind_one_that_has_acted_before_the_next_begins() {
    let mut bench = Bench::new(MIXED);
    bench.create();
    let program = bench.program();
    let stopped = bench.attempt(&program).unwrap();
    assert_eq!(bench.end().keys(), ["step a", "step b", "step c", "step d", "step e"]);
    let told = bench.told.lines();
    let expected = [
        "begin a 1",
        "begin b 1",
        "begin c 1",
        "record step a",
        "record step b",
        "publish out - 3",
        "record step c",
        "begin d 1",
        "begin e 1",
        "record step d",
        "publish out - 5",
        "record step e",
        "begin f 1",
    ];
    assert_eq!(told, expected);
    assert!(stopped.recorded && stopped.pending.len() == 1, "{:?}", stopped.pending);
    bench.follow(stopped);
    let end = bench.end();
    assert_eq!((end.output(), end.keys().len()), ("6", 6));
    assert_eq!(bench.told.lines().last().unwrap(), "record step f", "it goes with the run's end");
}

#[test]
fn steps_that_compute_are_stored_with_the_end_alone() {
    let mut bench = Bench::new(r#"step("a", || 1); let drawn = random(); step("b", || 2); step("c", || 3)"#);
    bench.create();
    let program = bench.program();
    let stopped = bench.attempt(&program).unwrap();
    assert_eq!((bench.end().keys().len(), stopped.pending.len()), (0, 4), "{:?}", stopped.pending);
    bench.follow(stopped);
    assert_eq!(bench.end().keys(), ["step a", "random random", "step b", "step c"]);
}

#[test]
fn many_records_or_large_ones_are_not_held_back() {
    for (script, least) in [
        (r#"for i in 0..100 { step(`s${i}`, || i) }"#, 64),
        (r#"let big = "x"; big.pad(40_000, "x"); for i in 0..3 { step(`s${i}`, || big) }"#, 2),
    ] {
        let mut bench = Bench::new(script);
        bench.create();
        let program = bench.program();
        let stopped = bench.attempt(&program).unwrap();
        let stored = bench.end().keys().len();
        assert!(stored >= least && !stopped.pending.is_empty(), "{script}: {stored} stored, {} held", stopped.pending.len());
    }
}

#[test]
fn a_record_waits_for_no_script_that_is_at_work_for_long() {
    for work in
        ["let n = 0; for i in 0..2000 { n += i; } n", "step(\"b\", || { let n = 0; for i in 0..2000 { n += i; } n })", "while true {}"]
    {
        let mut bench = Bench::new(&format!("step(\"a\", || 1); {work}"));
        bench.surroundings.limits.operations = 5_000;
        bench.create();
        let program = bench.program();
        let stopped = bench.attempt(&program).unwrap();
        assert_eq!(bench.end().keys(), ["step a"], "{work}: {:?}", stopped.outcome);
    }
}

#[test]
fn a_full_disk_holds_a_step_up_before_it_acts_and_takes_none_of_its_time() {
    let mut bench = Bench::new(r#"step("a", || { log::info("effect"); 1 }); step("b", #{ timeout: "1s" }, || { publish("out", 2); 2 })"#);
    let stopped = on_failing(&mut bench, vec![StoreError::Full; 3]).unwrap();
    bench.follow(stopped);
    let end = bench.end();
    assert_eq!((end.output(), end.log()), ("2", vec!["effect"]));
    assert_eq!(end.row.ended, Some(Millis(START + 3_000)));
    assert_eq!(bench.told.lines().iter().filter(|line| line.starts_with("publish")).count(), 1);
}

#[test]
fn a_failed_disk_ends_the_call_with_the_stores_error_before_a_step_acts() {
    let mut bench = Bench::new(r#"try { step("a", || 1); } catch { } step("b", || { publish("out", 2); 2 })"#);
    let failed = StoreError::Io("EIO".to_owned());
    assert_eq!(on_failing(&mut bench, vec![failed.clone()]), Err(failed));
    assert!(bench.end().journal.records.is_empty());
    assert_eq!(bench.told.lines(), ["begin a 1", "begin b 1"]);
}

#[test]
fn a_run_that_moved_on_acts_no_more_and_writes_nothing() {
    let mut bench = Bench::new(r#"step("a", || 1); step("b", || { publish("out", 2); 2 })"#);
    bench.create();
    let program = bench.program();
    let call_of_run = bench.start(&program);
    let row = bench.row();
    bench.commit(List { expect: vec![], writes: vec![Write::Requeue { run: row.id, suspects: 0 }] });
    let stopped = block_on(&bench.clock, call(program, call_of_run, bench.ports(), Stop::new())).unwrap();
    assert_eq!((stopped.outcome, stopped.pending.len()), (Outcome::Lost, 0));
    assert!(bench.end().journal.records.is_empty());
    assert_eq!(bench.told.lines(), ["begin a 1", "begin b 1"]);
}

#[test]
fn a_script_may_begin_before_its_start_is_durable_but_acts_and_stores_nothing_before() {
    let acts = [
        r#"step("b", || { publish("out", 2); 2 })"#,
        r#"step("b", || kv::get("k", 2))"#,
        r#"let n = 0; for i in 0..2000 { n += i; } n"#,
        r#"parallel([|| step("x", || 1), || step("y", || 2)])"#,
    ];
    for (act, is_firm) in acts.into_iter().flat_map(|act| [(act, true), (act, false)]) {
        let mut bench = Bench::new(&format!("step(\"a\", || 1); {act}"));
        bench.create();
        bench.footing = Footing::open();
        let program = bench.program();
        let call_of_run = bench.start(&program);
        let mut future = Box::pin(call(program, call_of_run, bench.ports(), Stop::new()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_pending(), "{act}");
        assert!(bench.end().keys().is_empty() && !bench.told.lines().iter().any(|line| line.starts_with("publish")), "{act}");
        bench.footing.settle(is_firm);
        let stopped = block_on(&bench.clock, future).unwrap();
        match is_firm {
            true => assert!(matches!(stopped.outcome, Outcome::Completed(_)) && bench.end().keys()[0] == "step a", "{act}: {stopped:?}"),
            false => assert!(stopped.outcome == Outcome::Lost && bench.end().keys().is_empty(), "{act}: {stopped:?}"),
        }
    }
}

#[test]
fn a_script_that_only_computes_comes_to_its_end_before_its_start_is_durable() {
    let mut bench = Bench::new(r#"step("a", || 1); step("b", || 2)"#);
    bench.create();
    bench.footing = Footing::open();
    let program = bench.program();
    let call_of_run = bench.start(&program);
    let mut future = Box::pin(call(program, call_of_run, bench.ports(), Stop::new()));
    let Poll::Ready(Ok(stopped)) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) else { panic!("it waits") };
    assert!(matches!(stopped.outcome, Outcome::Completed(_)) && stopped.pending.len() == 2, "{stopped:?}");
}
