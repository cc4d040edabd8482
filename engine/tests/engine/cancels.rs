//! Many runs that are cancelled at once.

use stepwell::base::RunId;
use stepwell::exec::{CancelError, Notice};
use stepwell::rules::{RunRow, RunState};
use stepwell::store::Store;

use super::World;

const EVENTS: &str = "events: { a/b: {}, n/n: {}, x/y: {} }\n";

fn world(functions: &str, handlers: &[(&str, &str)]) -> World {
    World::new(&format!("{EVENTS}functions: {{ {functions} }}\n"), handlers)
}

#[test]
fn many_are_cancelled_in_a_few_commits_and_their_line_goes_on() {
    let world = world("f: { on: a/b, concurrency: 1 }", &[("f", r#"wait_for_signal("never")"#)]);
    world.block_on(async {
        let holder = world.send("a/b", "{}").await.unwrap();
        world.until(holder, &[RunState::Waiting]).await;
        for _ in 0..249 {
            world.send("a/b", "{}").await.unwrap();
        }
        // The newest one comes first, so the one that has the slot goes last.
        let ids: Vec<RunId> = world.runs_of("f").iter().map(|run| run.id).collect();
        let before = world.store.figures().lists.count();
        let done = world.engine.cancel_many(&ids, "enough").await.unwrap();
        let commits = world.store.figures().lists.count() - before;
        assert_eq!(done, vec![Ok(()); 250]);
        assert!(commits <= 25, "{commits} commits for 250 runs");
        for run in world.runs_of("f") {
            assert_eq!((run.state, run.reason.as_deref()), (RunState::Cancelled, Some("enough")), "{run:?}");
        }
        let next = world.send("a/b", "{}").await.unwrap();
        world.until(next, &[RunState::Waiting]).await;
    });
}

/// A run that waits for one that it has invoked, and that one.
async fn family(world: &World) -> (RunRow, RunRow) {
    let event = world.send("a/b", "{}").await.unwrap();
    let parent = world.until(event, &[RunState::Waiting]).await;
    loop {
        let is_child = |run: &RunRow| run.invoked_by == Some(parent.id) && run.state == RunState::Waiting;
        match world.runs_of("g").into_iter().find(is_child) {
            Some(child) => return (parent, child),
            None => tokio::task::yield_now().await,
        }
    }
}

#[test]
fn each_of_many_is_told_once_also_where_one_has_invoked_another() {
    let script = r#"let code = ""; try { invoke("g", #{}); } catch (e) { code = e.code; } wait_for_signal("never"); code"#;
    let handlers = [("f", script), ("g", r#"wait_for_signal("never")"#), ("h", "1")];
    let world = world("f: { on: a/b }, g: { on: n/n }, h: { on: x/y }", &handlers);
    world.block_on(async {
        let ended = world.send("x/y", "{}").await.unwrap();
        let ended = world.ended(ended).await;
        let (parent, child) = family(&world).await;
        let (other_parent, other_child) = family(&world).await;
        let ids = [child.id, parent.id, other_parent.id, ended.id, other_child.id, RunId::default()];
        let mut notices = world.engine.subscribe();
        let done = world.engine.cancel_many(&ids, "enough").await.unwrap();
        let came_late = |state| Err(CancelError::Ended(state));
        let expected = [Ok(()), Ok(()), Ok(()), came_late(RunState::Completed), came_late(RunState::Cancelled), Err(CancelError::NotFound)];
        assert_eq!(done, expected);
        let mut told = Vec::new();
        while let Ok(notice) = notices.try_recv() {
            if let Notice::Run { run, state: RunState::Cancelled, .. } = notice {
                told.push(run);
            }
        }
        told.sort_unstable();
        let mut all = [child.id, parent.id, other_parent.id, other_child.id];
        all.sort_unstable();
        assert_eq!(told, all);
        assert_eq!(world.store.run(child.id).unwrap().unwrap().reason.as_deref(), Some("enough"));
        let reason = world.store.run(other_child.id).unwrap().unwrap().reason;
        assert_eq!(reason.as_deref(), Some("the run that invoked it was cancelled: enough"));
    });
}
