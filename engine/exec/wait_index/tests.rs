//! The index of waits by example.

use serde_json::json;

use super::*;
use crate::base::looks::looks_of;
use crate::base::{Id, Millis};
use crate::rules::Kind;

pub(super) fn row(run: i64, what: What) -> WaitRow {
    let wait = WaitKey { run: Id(run), kind: Kind::Wait, key: "w".into() };
    WaitRow { wait, what: Arc::new(what), opened: Millis(0), until: None, state: WaitState::Open, pin: None }
}

pub(super) fn events(run: i64, wanted: &[(&str, Option<&str>, &str)]) -> WaitRow {
    let one = |(event, condition, bound): &(&str, Option<&str>, &str)| Wanted {
        event: (*event).into(),
        condition: condition.map(Arc::from),
        bound: condition.map(|_| Arc::from(*bound)),
    };
    row(run, What::Events(wanted.iter().map(one).collect()))
}

fn fitting(index: &Index, name: &str, data: &Value) -> Vec<i64> {
    index.fitting(EventView { id: "1", name, data, ts: 0 }).iter().map(|wait| wait.run.0).collect()
}

#[test]
fn waits_are_found_by_name_and_value_in_the_order_of_their_opening() {
    let same_user = Some("async.data.user == event.data.user");
    let mut index = Index::default();
    index.put(&events(5, &[("a", same_user, r#"{"data":{"user":"u1"}}"#)]), false);
    index.put(&events(4, &[("a", None, "")]), false);
    index.put(&events(3, &[("a", same_user, r#"{"data":{"user":"u2"}}"#)]), false);
    index.put(&events(2, &[("a", Some("async.data.n > 3"), "{}"), ("b", Some("async.data.user == 1"), "{}")]), false);
    index.put(&events(1, &[("a", same_user, r#"{"data":{"user":"u1"}}"#)]), false);
    assert_eq!(fitting(&index, "a", &json!({"user": "u1"})), [5, 4, 1]);
    assert_eq!(fitting(&index, "a", &json!({"user": "u2", "n": 4})), [4, 3, 2]);
    assert_eq!(fitting(&index, "b", &json!({"user": 1.0})), [2]);
    assert!(fitting(&index, "b", &json!({"user": 2})).is_empty());
    assert!(fitting(&index, "c", &json!({})).is_empty());
}

#[test]
fn one_if_over_events_of_two_names_finds_each_by_its_own() {
    let same_user = Some("async.data.user == event.data.user");
    let mut index = Index::default();
    for (run, name) in [(1, "a"), (2, "b"), (3, "b"), (4, "a")] {
        index.put(&events(run, &[(name, same_user, r#"{"data":{"user":"u1"}}"#)]), false);
    }
    index.put(&events(5, &[("a", None, "")]), false);
    assert_eq!(fitting(&index, "a", &json!({"user": "u1"})), [1, 4, 5]);
    assert_eq!(fitting(&index, "a", &json!({"user": "u2"})), [5]);
    assert_eq!(fitting(&index, "b", &json!({"user": "u1"})), [2, 3]);
}

#[test]
fn an_index_that_was_filled_at_the_start_keeps_no_more_room_than_it_needs() {
    let (mut index, mut resolved) = (Index::default(), BTreeSet::new());
    index.entries.reserve(10_000);
    index.open.reserve(10_000, |_| 0);
    let one = |run: i64| row(run, What::Signal("s".into()));
    let over = WaitRow { state: WaitState::Resolved(rules::Resolution::TimedOut), ..one(2) };
    [one(3), over, one(1)].iter().for_each(|row| index.load(row, &mut resolved));
    index.shrink();
    assert!(index.entries.capacity() < 100 && index.open.capacity() < 100);
    assert_eq!(resolved.into_iter().collect::<Vec<_>>(), [Id(2)], "it has something to record");
    index.put(&one(4), false);
    assert_eq!(index.on_signal("s").iter().map(|wait| wait.run.0).collect::<Vec<_>>(), [3, 1, 4]);
    index.close(&one(3).wait);
    assert_eq!(index.on_signal("s").len(), 2);
}

#[test]
fn what_is_closed_or_forgotten_leaves_nothing_behind() {
    let mut index = Index::default();
    let rows = [
        events(1, &[("a", Some("async.data.x == 1"), "{}"), ("a", Some("async.data.x == 1"), "{}"), ("b", None, "")]),
        events(2, &[("a", Some("async.data.x == 1"), "{}")]),
        row(3, What::Signal("s".into())),
        row(4, What::Run(Id(9))),
    ];
    rows.iter().for_each(|row| index.put(row, false));
    assert_eq!(index.parent_of(Id(9)).map(|wait| wait.run), Some(Id(4)));
    assert_eq!(index.children_of(Id(4)), [Id(9)]);
    assert_eq!(index.on_signal("s").len(), 1);
    for row in &rows {
        index.close(&row.wait);
        assert!(index.knows(row.wait.run), "its row is stored still");
    }
    assert!(fitting(&index, "a", &json!({"x": 1})).is_empty());
    assert!(index.is_empty() && index.events.is_empty() && index.signals.is_empty() && index.children.is_empty(), "{index:?}");
    rows.iter().for_each(|row| index.forget(row.wait.run));
    assert!(index.closed.is_empty() && index.entries.len() == index.free.len(), "{index:?}");
}

#[test]
fn a_wait_on_its_way_to_the_disk_is_not_taken_for_closed() {
    let mut index = Index::default();
    let row = row(1, What::Signal("s".into()));
    index.put(&row, true);
    assert!(index.on_signal("s").is_empty());
    assert!(!index.is_stored(&row.wait));
    index.opened(&row.wait);
    assert!(index.is_stored(&row.wait));
    assert_eq!(index.on_signal("s").first(), Some(&row.wait));
    assert!(index.has_to_look(&row.wait));
    index.looked(&row.wait);
    assert!(!index.has_to_look(&row.wait));
    index.close(&row.wait);
    assert!(index.on_signal("s").is_empty() && !index.is_stored(&row.wait));
}

#[test]
fn a_run_that_waits_for_anything_but_runs_says_so() {
    let mut index = Index::default();
    let waits = |key: &str, what| WaitRow { wait: WaitKey { key: key.into(), ..row(1, What::Run(Id(8))).wait }, ..row(1, what) };
    assert_eq!(index.waits_for_runs(Id(1)), None);
    index.put(&waits("one", What::Run(Id(8))), false);
    index.put(&waits("other", What::Run(Id(9))), false);
    assert_eq!(index.waits_for_runs(Id(1)), Some(vec![Id(8), Id(9)]));
    let signal = waits("third", What::Signal("s".into()));
    index.put(&signal, false);
    assert_eq!(index.waits_for_runs(Id(1)), None);
    index.close(&signal.wait);
    index.close(&waits("one", What::Run(Id(8))).wait);
    assert_eq!((index.waits_for_runs(Id(1)), index.is_awaited(Id(8)), index.is_awaited(Id(9))), (Some(vec![Id(9)]), false, true));
    index.close(&waits("other", What::Run(Id(9))).wait);
    assert_eq!(index.waits_for_runs(Id(1)), None, "it is about to go on");
}

#[test]
fn a_wait_that_takes_the_place_of_one_that_was_closed_comes_last() {
    let mut index = Index::default();
    let rows: Vec<WaitRow> = (1..=3).map(|run| row(run, What::Signal("s".into()))).collect();
    rows.iter().for_each(|row| index.put(row, false));
    index.close(&rows[0].wait);
    index.put(&row(4, What::Signal("s".into())), false);
    assert_eq!(index.entries.len(), 3);
    assert_eq!(index.on_signal("s").iter().map(|wait| wait.run.0).collect::<Vec<_>>(), [2, 3, 4]);
    index.put(&events(5, &[("a", None, "")]), false);
    index.close(&rows[1].wait);
    index.put(&events(6, &[("a", None, "")]), false);
    assert_eq!((index.entries.len(), fitting(&index, "a", &json!({}))), (4, vec![5, 6]));
    let told: Vec<bool> = (1..=7).map(|run| index.knows(Id(run))).collect();
    assert_eq!(told, [true, true, true, true, true, true, false], "those of closed waits are stored still");
}

#[test]
fn a_field_finds_one_wait_among_many() {
    let mut index = Index::default();
    for run in 0..10_000 {
        index.put(&events(run, &[("a", Some("async.data.id == event.data.id"), &format!(r#"{{"data":{{"id":{run}}}}}"#))]), false);
    }
    let named = &index.events["a"];
    assert!(named.rest.is_empty() && named.fields.len() == 1 && named.fields[0].values.len() == 10_000);
    assert_eq!(index.kinds.len(), 1, "one text is compiled once");
    assert_eq!(fitting(&index, "a", &json!({"id": 77})), [77]);
    assert!(named.fields[0].values.have_no_sets(), "each value is one wait's");
    assert!(size_of::<Option<Entry>>() <= 80, "a million runs have as many: {}", size_of::<Option<Entry>>());
}

#[test]
fn an_event_looks_at_as_few_waits_among_many_as_among_few() {
    let cost = |count: i64| {
        let mut index = Index::default();
        for run in 0..count {
            let field = if run % 2 == 0 { "user" } else { "id" };
            let condition = format!("async.data.{field} == event.data.{field}");
            index.put(&events(run, &[("a", Some(condition.as_str()), &format!(r#"{{"data":{{"{field}":{run}}}}}"#))]), false);
        }
        looks_of(|| assert_eq!(fitting(&index, "a", &json!({"id": 77, "user": 78})), [77, 78]))
    };
    // Two more would have to have a hash of the same 32 bits for it to be more than that.
    for count in [1_000, 10_000] {
        assert!((2..4).contains(&cost(count)), "{count} waits");
    }
}
