//! Which version of a changed handler a run goes on with, by `versions`; and what becomes of versions that nobody needs.

use stepwell::base::Span;
use stepwell::exec::MigrateError;
use stepwell::rules::RunState;
use stepwell::store::Store as _;

use super::World;
use super::reload::{EVENTS, world};

const FIRST: &str = r#"let a = step("one", || 1);
wait_for_signal("go");
#{ first: a }"#;
/// Fits the record of the first.
const SECOND: &str = r#"let a = step("one", || 1);
wait_for_signal("go");
#{ second: a }"#;
/// Does not.
const OTHER: &str = r#"
let a = step("zero", || 0);
wait_for_signal("go");
#{ other: a }"#;

impl World {
    fn edited(&self, text: &str) {
        self.handler(text);
        self.try_reload().unwrap();
    }

    fn versions(&self) -> usize {
        // The oldest hashes are those that were stored first; each is there or gone.
        self.known().iter().filter(|hash| self.store.source(hash).unwrap().is_some()).count()
    }

    fn known(&self) -> Vec<String> {
        [FIRST, SECOND, OTHER].iter().map(|text| self.hash_of(text)).collect()
    }

    /// The version that a handler with this text is.
    fn hash_of(&self, text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("handlers")).unwrap();
        std::fs::write(folder.path().join("handlers/f.rhai"), text).unwrap();
        let program = stepwell::script::Host::new().compile(folder.path(), "handlers/f.rhai").unwrap();
        program.hash().to_string()
    }
}

#[test]
fn auto_goes_on_with_the_newest_that_fits_and_says_why_another_does_not() {
    let world = world("versions: auto", FIRST);
    let events = world.numbered(0..2);
    world.come_to(&events, RunState::Waiting);
    world.edited(OTHER);
    let run = world.run_of(events[0]);
    let why = world.block_on(world.engine.unfit(&run)).unwrap().unwrap().to_string();
    assert_eq!(
        why,
        "the journal has step `one` (handlers/f.rhai:1: let a = step(\"one\", || 1);) where the handler asks for \
         step `zero` (handlers/f.rhai:2: let a = step(\"zero\", || 0);)"
    );
    world.go();
    assert_eq!(world.block_on(world.ended(events[0])).output.as_deref(), Some(r#"{"first":1}"#));
    assert_eq!(world.block_on(world.ended(events[1])).output.as_deref(), Some(r#"{"first":1}"#));
    world.edited(FIRST);
    let events = world.numbered(2..3);
    world.come_to(&events, RunState::Waiting);
    world.edited(SECOND);
    assert_eq!(world.block_on(world.engine.unfit(&world.run_of(events[0]))).unwrap(), None);
    world.go();
    assert_eq!(world.block_on(world.ended(events[0])).output.as_deref(), Some(r#"{"second":1}"#));
}

#[test]
fn pin_keeps_a_run_on_its_version_until_it_is_migrated() {
    let world = world("versions: pin", FIRST);
    let events = world.numbered(0..3);
    world.come_to(&events, RunState::Waiting);
    world.edited(SECOND);
    let world = world.killed().slowed();
    let migrated = world.block_on(world.engine.migrate(world.run_of(events[1]).id, false)).unwrap();
    assert_eq!((migrated.from.as_deref(), &*migrated.to), (Some(&*world.hash_of(FIRST)), &*world.hash_of(SECOND)));
    let dry = world.block_on(world.engine.migrate(world.run_of(events[2]).id, true)).unwrap();
    assert_eq!(&*dry.to, world.hash_of(SECOND));
    world.edited(OTHER);
    let refused = world.block_on(world.engine.migrate(world.run_of(events[2]).id, false)).unwrap_err();
    assert!(matches!(&refused, MigrateError::Unfit(why) if why.to_string().contains("step `one`")), "{refused}");
    let world = world.killed().slowed();
    world.go();
    let output = |at: usize| world.block_on(world.ended(events[at])).output.unwrap().to_string();
    assert_eq!([output(0), output(1), output(2)], [r#"{"first":1}"#, r#"{"second":1}"#, r#"{"first":1}"#]);
    // What begins now is done the newest way.
    let events = world.numbered(3..4);
    world.come_to(&events, RunState::Waiting);
    world.go();
    assert_eq!(world.block_on(world.ended(events[0])).output.as_deref(), Some(r#"{"other":0}"#));
}

#[test]
fn latest_parks_a_run_with_the_first_difference_and_takes_it_up_again_when_the_handler_fits() {
    let world = world("versions: latest", FIRST);
    let events = world.numbered(0..2);
    world.come_to(&events, RunState::Waiting);
    world.edited(OTHER);
    world.go();
    let parked = world.come_to(&events, RunState::Parked);
    assert_eq!(
        parked[0].reason.as_deref(),
        Some(
            "its record does not fit the handler: the journal has step `one` (handlers/f.rhai:1: let a = step(\"one\", || 1);) where the \
             handler asks for step `zero` (handlers/f.rhai:2: let a = step(\"zero\", || 0);)"
        )
    );
    world.edited(SECOND);
    for (event, run) in events.iter().zip(parked) {
        world.block_on(world.engine.migrate(run.id, false)).unwrap();
        assert_eq!(world.block_on(world.ended(*event)).output.as_deref(), Some(r#"{"second":1}"#), "the signal is recorded still");
    }
}

#[test]
fn only_a_run_that_is_there_and_has_not_ended_is_migrated() {
    let world = world("retries: 0", "1");
    let events = world.numbered(0..1);
    let run = world.block_on(world.ended(events[0]));
    assert_eq!(world.block_on(world.engine.migrate(run.id, false)), Err(MigrateError::Ended(RunState::Completed)));
    assert_eq!(world.block_on(world.engine.migrate(stepwell::base::Id(5), false)), Err(MigrateError::NotFound));
}

#[test]
fn versions_that_nobody_needs_are_deleted_and_those_of_runs_are_not() {
    let world = world("retries: 0", FIRST);
    let events = world.numbered(0..1);
    world.come_to(&events, RunState::Waiting);
    world.edited(SECOND);
    world.edited(OTHER);
    assert_eq!(world.versions(), 3);
    // The round that deletes comes soon where things are kept for a short time only.
    let short = format!(
        "version: 1\n{EVENTS}functions: {{ f: {{ on: a/b, retries: 0 }} }}\nretention: {{ completed: 1s, failed: 1s, cancelled: 1s, events: 1s }}\n"
    );
    world.reload_whole(&short);
    let world = world.killed().slowed();
    let is_left = |world: &World| [FIRST, SECOND, OTHER].map(|text| world.store.source(&world.hash_of(text)).unwrap().is_some());
    let look_again = |world: &World| {
        let clock = world.engine.clock();
        world.block_on(clock.sleep_until(clock.now().after(Span(20)), false));
    };
    while is_left(&world) != [true, false, true] {
        look_again(&world);
    }
    let run = world.run_of(events[0]).id;
    let mut notices = world.engine.subscribe();
    world.go();
    let is_end = |notice: &stepwell::exec::Notice| matches!(notice, stepwell::exec::Notice::Run { state, .. } if state.is_terminal());
    // It is deleted soon after, so its end is heard of rather than read.
    let end = world.block_on(async {
        loop {
            let notice = notices.recv().await.unwrap();
            if is_end(&notice) {
                break notice;
            }
        }
    });
    assert!(matches!(end, stepwell::exec::Notice::Run { state: RunState::Completed, .. }), "it finishes on what is left: {end:?}");
    // The run goes, and with it the version that it named: at the next look, here that of another start.
    while world.store.run(run).unwrap().is_some() {
        look_again(&world);
    }
    let world = world.killed().slowed();
    while is_left(&world) != [false, false, true] {
        look_again(&world);
    }
}
