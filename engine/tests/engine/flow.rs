//! What people see of flow control and of refused events: who holds and who waits, what is left, which windows are open.

use std::sync::Arc;

use stepwell::base::Span;
use stepwell::clock::SystemClock;
use stepwell::exec::AcceptError;
use stepwell::rules::RunState;

use super::{World, start_at};

/// An engine on a clock that jumps over no wait.
fn slow(yaml: &str, handlers: &[(&str, &str)]) -> World {
    let world = World::new(yaml, handlers);
    on_its_store(world)
}

/// Another engine on the same store, with a clock that jumps over no wait.
fn on_its_store(world: World) -> World {
    world.block_on(world.engine.drain());
    let World { folder, engine, store } = world;
    drop(engine);
    store.close().unwrap();
    let (engine, store) = start_at(folder.path(), Arc::new(SystemClock::default()));
    World { folder, engine, store }
}

#[test]
fn a_key_says_who_holds_it_and_since_when_others_wait_also_after_a_restart() {
    let yaml = "events: { a/b: {} }\nfunctions: { f: { on: a/b, concurrency: { limit: 1, key: event.data.user } } }\n";
    let mut world = slow(yaml, &[("f", r#"wait_for_signal("go")"#)]);
    let mut events = Vec::new();
    for user in ["u1", "u1", "u1", "u2"] {
        events.push(world.block_on(world.send("a/b", &format!(r#"{{"user":"{user}"}}"#))).unwrap());
    }
    let holder = world.block_on(world.until(events[0], &[RunState::Waiting]));
    let second = world.block_on(world.until(events[1], &[RunState::Queued]));
    world.block_on(world.until(events[3], &[RunState::Waiting]));
    for _ in 0..2 {
        let flow = world.block_on(world.engine.flow(10));
        let key = &flow.limits[0];
        assert_eq!((key.function.as_deref(), &*key.key, key.limit, key.running, key.waiting), (Some("f"), "\"u1\"", 1, 1, 2), "{flow:?}");
        assert_eq!((key.holders.as_slice(), key.oldest), (&[holder.id][..], Some((second.id, second.enter))));
        assert_eq!((flow.limits.len(), &*flow.limits[1].key, flow.limits[1].waiting, flow.more), (2, "\"u2\"", 0, 0));
        let one = world.block_on(world.engine.flow(1));
        assert_eq!((one.limits.len(), one.more), (1, 1));
        world = on_its_store(world);
    }
    world.block_on(world.engine.cancel(holder.id, "enough")).unwrap();
    world.block_on(world.until(events[1], &[RunState::Waiting]));
    assert_eq!(world.block_on(world.engine.flow(10)).limits[0].holders, [second.id]);
}

#[test]
fn throttles_rate_limits_and_open_windows_say_what_is_left() {
    let yaml = "events: { a/b: {}, a/c: {}, a/d: {}, a/e: {} }\nfunctions:\n  t: { on: a/b, throttle: { limit: 1, period: 1h, burst: 1 } }\n  \
                r: { on: a/c, rate_limit: { limit: 2, period: 1h, key: event.data.k } }\n  \
                b: { on: a/d, batch: { size: 5, timeout: 1h, key: event.data.k } }\n  s: { on: a/e, singleton: {} }\n";
    let mut world = slow(yaml, &[("t", "1"), ("r", "1"), ("b", "1"), ("s", r#"wait_for_signal("go")"#)]);
    let mut starts = Vec::new();
    for _ in 0..3 {
        starts.push(world.block_on(world.send("a/b", "{}")).unwrap());
        world.block_on(world.send("a/c", r#"{"k":1}"#)).unwrap();
        world.block_on(world.send("a/d", r#"{"k":2}"#)).unwrap();
    }
    let single = world.block_on(world.send("a/e", "{}")).unwrap();
    let single = world.block_on(world.until(single, &[RunState::Waiting]));
    world.block_on(world.ended(starts[0]));
    world.block_on(world.ended(starts[1]));
    world.block_on(world.until(starts[2], &[RunState::Queued]));
    for _ in 0..2 {
        let now = world.engine.clock().now();
        let flow = world.block_on(world.engine.flow(10));
        let throttle = &flow.throttles[0];
        assert_eq!((&*throttle.function, throttle.left, throttle.waiting, throttle.rule.burst), ("t", 0, 1, 1), "{flow:?}");
        let opens = throttle.opens.unwrap();
        assert!(opens > now && opens < now.after(Span::seconds(3_601)), "{opens:?}");
        let rate = &flow.rates[0];
        assert_eq!((&*rate.function, &*rate.key, rate.used), ("r", "1", 2));
        assert!(rate.frees.unwrap() > now);
        let window = &flow.windows[0];
        assert_eq!((&*window.function, &*window.key, window.is_batch, window.events, window.size), ("b", "2", true, 3, Some(5)));
        assert!(window.closes > now && window.since <= now);
        assert_eq!(flow.singletons[0].run, single.id);
        world = on_its_store(world);
    }
}

#[test]
fn events_that_were_refused_are_kept_for_a_while_with_what_is_wrong() {
    let yaml = "events:\n  a/b:\n    schema: { type: object, required: [user], properties: { user: { type: string } } }\nfunctions: { f: { on: a/b } }\n";
    let world = World::new(yaml, &[("f", "1")]);
    assert_eq!(world.engine.refused(), []);
    assert!(matches!(world.block_on(world.send("a/b", r#"{"user":7}"#)), Err(AcceptError::Refused(_))));
    assert!(world.block_on(world.send("a/x", "{}")).is_err());
    let refused = world.engine.refused();
    assert_eq!(refused.len(), 2);
    assert_eq!((refused[0].name.as_deref(), refused[0].problems[0].code.as_str(), refused[0].number), (Some("a/x"), "E0222", 2));
    assert_eq!((refused[1].data.as_deref(), refused[1].problems[0].pointer.as_str()), (Some(r#"{"user":7}"#), "/data/user"));
    let large = format!(r#"{{"user":7,"more":"{}"}}"#, "x".repeat(20_000));
    for _ in 0..120 {
        assert!(world.block_on(world.send("a/b", &large)).is_err());
    }
    let refused = world.engine.refused();
    assert_eq!((refused.len(), refused[0].data.as_deref(), refused[0].number), (100, None, 122), "bounded, in number and in size");
}
