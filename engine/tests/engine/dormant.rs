//! Suspended runs that stay in the store when an engine starts, until their time comes or something comes to them.

use stepwell::base::EventId;
use stepwell::rules::{Dormant, RunRow, RunState};
use stepwell::store::{Store, TakeUp};

use super::World;

const SLEEPS: &str = r#"step("a", || 1); sleep("nap", `${event.data.h}h`); event.data.n"#;
const SUSPENDED: &[RunState] = &[RunState::Sleeping, RunState::Waiting, RunState::BackingOff];
const FIGURES: [RunState; 5] = [RunState::Queued, RunState::Running, RunState::Sleeping, RunState::Waiting, RunState::BackingOff];

/// Leaves every run that it may, and takes up none.
struct Leaver(usize);

impl TakeUp for Leaver {
    fn leaves(&mut self, _: &Dormant) -> bool {
        self.0 += 1;
        true
    }

    fn take_up(&mut self, run: RunRow) {
        panic!("{run:?} cannot be left");
    }
}

/// An engine on a clock that jumps over no wait, whose `f` has these keys and this handler.
fn world(function: &str, script: &str) -> World {
    super::reload::world(function, script).stilled()
}

impl World {
    /// Starts a run with each of these data, and is done once all of them are suspended.
    fn suspend_with(&self, data: &[&str]) -> Vec<EventId> {
        let begin = |data: &&str| {
            let id = self.block_on(self.send("a/b", data)).unwrap();
            self.block_on(self.until(id, SUSPENDED));
            id
        };
        data.iter().map(begin).collect()
    }

    /// Another engine, with a clock that stands still, which has left so many runs in the store, and these are all that there are.
    fn left(self, runs: usize) -> World {
        let world = self.stilled();
        let mut leaver = Leaver(0);
        world.store.start_from(&mut leaver, &mut |_| {}).unwrap();
        assert_eq!(leaver.0, runs, "dormant runs");
        world
    }

    fn end_state(&self, id: EventId) -> RunState {
        self.block_on(self.ended(id)).state
    }

    fn gives(&self, id: EventId) -> String {
        let run = self.block_on(self.ended(id));
        assert_eq!(run.state, RunState::Completed, "{run:?}");
        run.output.unwrap().to_string()
    }

    /// How many runs of `f` stand in each state of `FIGURES`, as the engine sees them.
    async fn figures(&self) -> [u64; 5] {
        let figures = self.engine.figures().await;
        FIGURES.map(|state| figures.functions.get("f").map_or(0, |function| function.runs[state as usize]))
    }

    /// Waits until so many stand in each of them: the engine hears of it a moment after it is stored.
    fn comes_to_stand(&self, expected: [u64; 5]) {
        self.block_on(async {
            while self.figures().await != expected {
                tokio::task::yield_now().await;
            }
        });
    }
}

#[test]
fn runs_that_slept_when_the_engine_started_go_on_when_their_time_comes() {
    let world = world("retries: 0", SLEEPS);
    let data: Vec<String> = (0..40).map(|n| format!(r#"{{"n":{n},"h":{}}}"#, 1 + n % 7)).collect();
    let ids = world.suspend_with(&data.iter().map(String::as_str).collect::<Vec<_>>());
    let world = world.left(40);
    world.comes_to_stand([0, 0, 40, 0, 0]);
    // The clock of this one goes from time to time.
    let world = world.restart();
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(world.gives(*id), n.to_string());
    }
    world.comes_to_stand([0; 5]);
}

#[test]
fn a_run_that_backs_off_is_tried_again_by_the_next_engine() {
    let world = world("retries: 3", r#"if run.attempt < 3 { throw "no" } run.attempt"#);
    let id = world.suspend_with(&["{}"])[0];
    let world = world.left(1);
    world.comes_to_stand([0, 0, 0, 0, 1]);
    assert_eq!(world.restart().gives(id), "3");
}

#[test]
fn a_run_that_was_left_goes_on_with_what_it_waits_for_and_is_counted_where_it_is() {
    let script = r#"let got = wait_for_signal(event.data.k); sleep("nap", "1h"); got"#;
    let world = world("retries: 0", script);
    let ids = world.suspend_with(&[r#"{"k":"one"}"#, r#"{"k":"two"}"#, r#"{"k":"three"}"#]);
    let world = world.left(3);
    assert_eq!(world.block_on(world.engine.signal("two", "2".into())), Ok(1));
    world.block_on(world.until(ids[1], &[RunState::Sleeping]));
    world.comes_to_stand([0, 0, 1, 2, 0]);
    let third = world.block_on(world.until(ids[2], SUSPENDED)).id;
    world.block_on(world.engine.cancel(third, "enough")).unwrap();
    assert_eq!(world.end_state(ids[2]), RunState::Cancelled);
    world.comes_to_stand([0, 0, 1, 1, 0]);
    let world = world.restart();
    assert_eq!(world.block_on(world.engine.signal("one", "1".into())), Ok(1));
    assert_eq!((world.gives(ids[0]), world.gives(ids[1])), ("1".to_owned(), "2".to_owned()));
}

#[test]
fn a_run_that_was_left_can_be_tried_again_before_its_time() {
    let world = world("retries: 3", r#"if run.attempt < 2 { throw "no" } run.attempt"#);
    let ids = world.suspend_with(&["{}", "{}"]);
    let world = world.left(2);
    let run = world.block_on(world.until(ids[0], SUSPENDED)).id;
    world.block_on(world.engine.retry_now(run)).unwrap();
    assert_eq!(world.gives(ids[0]), "2");
    world.comes_to_stand([0, 0, 0, 0, 1]);
}

#[test]
fn what_is_damaged_in_a_run_that_is_left_keeps_no_engine_from_starting() {
    let world = world("retries: 0", r#"if event.data.n == 1 { wait_for_signal("go") } event.data.n"#);
    let ids = world.suspend_with(&[r#"{"n":1}"#]);
    let run = world.block_on(world.until(ids[0], SUSPENDED)).id;
    let world = world.altered(&format!("UPDATE runs SET suspects = 1 << 40 WHERE id = {}", run.0));
    let id = world.block_on(world.send("a/b", r#"{"n":2}"#)).unwrap();
    assert_eq!(world.gives(id), "2");
}

#[test]
fn a_limit_that_a_reload_brings_holds_for_the_runs_that_were_left() {
    let world = world("retries: 0", r#"wait_for_signal(event.data.k); 1"#);
    let ids = world.suspend_with(&[r#"{"k":"one"}"#, r#"{"k":"two"}"#]);
    let world = world.left(2);
    world.reload("concurrency: 1");
    let next = world.block_on(world.send("a/b", r#"{"k":"three"}"#)).unwrap();
    // It stands behind both.
    world.comes_to_stand([1, 0, 0, 2, 0]);
    for (id, signal) in ids.iter().zip(["one", "two"]) {
        assert_eq!(world.block_on(world.engine.signal(signal, "1".into())), Ok(1));
        world.gives(*id);
    }
    world.block_on(world.until(next, &[RunState::Waiting]));
}

#[test]
fn a_time_out_that_a_reload_or_a_restart_brings_ends_runs_that_were_left() {
    for is_reload in [false, true] {
        let world = world("retries: 0", r#"wait_for_signal("go"); 1"#);
        let id = world.suspend_with(&["{}"])[0];
        // A clock that jumps has nothing to jump to before the time-out is there.
        let world = world.left(1).restart();
        world.reload("timeouts: { finish: 2h }");
        let world = if is_reload { world } else { world.restart() };
        assert_eq!(world.end_state(id), RunState::Cancelled, "by a reload: {is_reload}");
    }
}

#[test]
fn runs_that_hold_a_slot_are_taken_up_and_hold_it() {
    let world = world("concurrency: 1", r#"wait_for_signal("go"); 1"#);
    let first = world.suspend_with(&["{}"])[0];
    let world = world.stilled();
    let second = world.block_on(world.send("a/b", "{}")).unwrap();
    world.comes_to_stand([1, 0, 0, 1, 0]);
    assert_eq!(world.block_on(world.engine.signal("go", "1".into())), Ok(1));
    world.gives(first);
    world.block_on(world.until(second, &[RunState::Waiting]));
}
