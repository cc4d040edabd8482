use super::*;
use crate::base::Id;
use crate::base::looks::looks_of;

#[test]
fn what_is_decided_on_again_at_its_old_time_finds_room_as_it_is_now() {
    let (key, rule): (Key, RateLimit) = (("f".into(), "1".into()), RateLimit { limit: 1, period: Span::seconds(10) });
    let mut gates = Gates::default();
    gates.enter(&key, rule, Millis(10_000), EventId::default(), SETTLED);
    assert_eq!(gates.room(&key, rule, Millis(15_000), 1), Some(Room::Full(Millis(20_000))));
    // Another event comes, and the window is forgotten.
    gates.forget_stale(Millis(30_000));
    assert_eq!(gates.room(&key, rule, Millis(15_000), 1), Some(Room::Free(Millis(30_000))), "five seconds after the first one");
}

#[test]
fn neither_many_keys_nor_a_high_limit_make_a_decision_dear() {
    let cost = |keys: i64, limit: u32| {
        let rule = RateLimit { limit, period: Span::seconds(3_600) };
        let key = |key: i64| -> Key { ("f".into(), key.to_string().into()) };
        let mut gates = Gates::default();
        for other in 1..keys {
            gates.enter(&key(other), rule, Millis(other), Id(other), SETTLED);
        }
        let limit = i64::from(limit);
        for event in 1..=limit {
            gates.enter(&key(0), rule, Millis(event), Id(event), if event > limit - 3 { 7 } else { SETTLED });
        }
        let mut said = Vec::new();
        let looks = looks_of(|| {
            said.push(gates.room(&key(1), rule, Millis(limit), 7));
            said.push(gates.room(&key(0), rule, Millis(limit), 7));
            said.push(gates.room(&key(0), rule, Millis(limit), 8));
        });
        let full = Room::Full(Millis(3_600_001));
        assert_eq!(said[1..], [Some(full), None]);
        assert!(matches!(said[0], Some(Room::Free(_))), "{said:?}");
        looks
    };
    let few = cost(1_000, 1_000);
    assert!(few > 0);
    assert_eq!((cost(10_000, 1_000), cost(1_000, 10_000)), (few, few));
}

#[test]
fn an_older_event_that_comes_late_leaves_the_window_of_a_debounce_as_it_is() {
    let last = |event: i64, closes: i64| Last { event: Id(event), closes: Millis(closes) };
    let mut gates = Gates::default();
    let run = RunRow { enter: Millis(20_000), ..RunRow::queued(Id(9), "f", Id(5), Millis(0)) };
    gates.load_open(&run, &"1".into(), (1, 10), false);
    let closes = |gates: &Gates| gates.open.values().map(|open| open.last).collect::<Vec<_>>();
    for (event, enter, then) in [(4, 10_000, last(5, 20_000)), (6, 30_000, last(6, 30_000)), (5, 25_000, last(6, 30_000))] {
        let seat = Seat::Instead { run: Id(9), enter: Millis(enter), own: false };
        let join = Join { function: "f".into(), run: Id(9), seat, keys: Arc::default(), priority_ms: 0, gates: None };
        let mark = gates.join(&join, (Id(event), 10), 7);
        assert_eq!(closes(&gates), [then], "while it is on its way");
        let Some(Mark::Join(run, fills, last)) = mark else { panic!("{mark:?}") };
        gates.joined(run, (fills, last), 7, true);
        assert_eq!(closes(&gates), [then]);
    }
}

#[test]
fn a_debounce_that_is_due_stays_open_while_an_event_is_on_its_way_that_puts_it_off() {
    let run = RunRow { enter: Millis(20_000), ..RunRow::queued(Id(9), "f", Id(5), Millis(0)) };
    let seat = Seat::Instead { run: Id(9), enter: Millis(30_000), own: false };
    let join = Join { function: "f".into(), run: Id(9), seat, keys: Arc::default(), priority_ms: 0, gates: None };
    let last = |event: i64, closes: i64| Last { event: Id(event), closes: Millis(closes) };
    for (stands, left) in [(true, vec![last(6, 30_000)]), (false, vec![])] {
        let mut gates = Gates::default();
        gates.load_open(&run, &"1".into(), (1, 10), false);
        gates.join(&join, (Id(6), 10), 7).unwrap();
        gates.falls_due(Id(9));
        let closes = |gates: &Gates| gates.open.values().map(|open| open.last).collect::<Vec<_>>();
        assert_eq!(closes(&gates), [last(6, 30_000)]);
        gates.joined(Id(9), (false, Some(last(6, 30_000))), 7, stands);
        assert_eq!(closes(&gates), left);
    }
}

#[test]
fn the_first_of_many_are_told_in_order_and_the_others_counted() {
    // Every number below 1,000 once, in an order that is none.
    let all = || (0..1_000).map(|n| n * 617 % 1_000);
    for most in [0, 1, 7, 999, 1_000, 2_000] {
        let (told, more) = first(all(), most, |one: &i32, other| one.cmp(other));
        assert_eq!(told, (0..1_000).take(most).collect::<Vec<_>>());
        assert_eq!(more, 1_000 - told.len());
    }
}
