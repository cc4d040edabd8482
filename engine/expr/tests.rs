use serde_json::{Value, json};

use super::*;

fn scope_data() -> Value {
    json!({
        "userId": "u1", "amount": 1200, "price": 1.5, "whole": 3.0, "none": null, "plan": "pro", "user-id": "dashed",
        "big": 18_446_744_073_709_551_615u64, "user": {"name": "Ada", "tags": ["a", "b"]},
        "items": [{"id": 1, "price": 2}, {"id": 2}], "größe": "süß"
    })
}

fn with<T>(text: &str, run: impl FnOnce(&Expr, &Scope<'_>) -> T) -> T {
    let data = scope_data();
    let event = EventView { id: "0abc", name: "payment/initiate", data: &data, ts: 1_700_000_000_000 };
    let expr = Expr::parse(text, EVENT_VARIABLES).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    run(&expr, &Scope::of_event(event))
}

fn eval(text: &str) -> Result<Value, EvalError> {
    with(text, |expr, scope| expr.eval(scope))
}

#[test]
fn values_come_out_as_json() {
    for (text, expected) in [
        ("event.data.userId", json!("u1")),
        ("event.name", json!("payment/initiate")),
        ("event.id + '!'", json!("0abc!")),
        ("event.ts", json!(1_700_000_000_000i64)),
        ("event.data.amount * 2", json!(2400)),
        ("event.data.price * 2.0", json!(3.0)),
        ("event.data.amount > 1000 && event.data.plan == 'pro'", json!(true)),
        ("event.data.plan == 'pro' ? 120 : 0", json!(120)),
        ("event.data.whole == 3", json!(true)),
        ("event.data['user-id']", json!("dashed")),
        ("event.data.items[1].id", json!(2)),
        ("event.data.items[event.data.items.size() - 1].id", json!(2)),
        ("event.data.user.tags.exists(t, t == 'b')", json!(true)),
        ("event.data.items.map(item, item.id)", json!([1, 2])),
        ("event.data.items.map(event, event.id)", json!([1, 2])),
        ("event.data.user.name.lowerAscii()", json!("ada")),
        ("event.data.userId.matches('^u[0-9]+$')", json!(true)),
        ("size(event.data.items)", json!(2)),
        ("'a' in event.data.user.tags", json!(true)),
        ("type(event.data.amount) == int", json!(true)),
        ("{'b': event.data.amount, 'a': 1}", json!({"a": 1, "b": 1200})),
        ("event.data['größe']", json!("süß")),
        ("event.data.big", json!(18_446_744_073_709_551_615u64)),
        ("event.data.big > 0", json!(true)),
        ("event.name.startsWith('payment/')", json!(true)),
        ("event.data.user == {'name': 'Ada', 'tags': ['a', 'b']}", json!(true)),
        ("event.name + event.data.userId", json!("payment/initiateu1")),
    ] {
        assert_eq!(eval(text), Ok(expected), "{text}");
    }
}

#[test]
fn a_bare_path_is_looked_up_without_the_interpreter_and_gives_the_same() {
    for path in [
        "event.data.userId",
        "event.data['user-id']",
        "event.data.items[1].id",
        "event.data.user",
        "event.data.none",
        "event.data.missing.deep",
        "event.data.big",
        "event.data.whole",
        "event.name",
        "event.ts",
        "event.id",
    ] {
        let direct = with(path, |expr, scope| {
            assert!(matches!(expr.form, Form::Path(_)), "{path} is interpreted");
            (expr.eval(scope), expr.key(scope))
        });
        let interpreted = with(&format!("true ? {path} : null"), |expr, scope| {
            assert!(matches!(expr.form, Form::Program { .. }), "{path} is not interpreted");
            (expr.eval(scope), expr.key(scope))
        });
        assert_eq!(direct, interpreted, "{path}");
    }
}

#[test]
fn a_missing_field_or_owner_is_null() {
    for (text, expected) in [
        ("event.data.missing", json!(null)),
        ("event.data.missing.deeper.still", json!(null)),
        ("event.data.userId.first", json!(null)),
        ("event.other", json!(null)),
        ("event.name.first", json!(null)),
        ("event.data.missing == null", json!(true)),
        ("event.data.none == event.data.missing", json!(true)),
        ("event.data.items[7].id", json!(null)),
        ("event.data.items[-1]", json!(null)),
        ("event.data.items[event.data.amount]", json!(null)),
        ("event.data['missing'].x", json!(null)),
        ("event.data.amount[0]", json!(null)),
        ("event.data.amount[event.data.amount]", json!(null)),
        ("event.data.items.map(i, i.price)", json!([2, null])),
        ("event.data.items.filter(i, i.price == null)[0].id", json!(2)),
        ("has(event.data.missing)", json!(false)),
        ("has(event.data.missing.deeper)", json!(false)),
        ("has(event.data.none)", json!(true)),
        ("has(event.data.user.name)", json!(true)),
        ("event.data.items.exists(i, has(i.price))", json!(true)),
        ("(event.data.missing == null ? event.data.user : event.data.items[0]).name", json!("Ada")),
        ("event.data.missing == 'x' || event.data.userId == 'u1'", json!(true)),
    ] {
        assert_eq!(eval(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_still_fails_says_why_and_names_what_was_null() {
    for (text, expected) in [
        ("event.data.missing > 0", "`>` does not take null and an integer; `event.data.missing` is null"),
        ("event.data.missing + 1", "`+` does not take null and an integer; `event.data.missing` is null"),
        ("event.data.userId * 2", "`*` does not take a text and an integer"),
        ("event.data.missing.startsWith('a')", "`startsWith` does not take null and a text; `event.data.missing` is null"),
        ("1 / (event.data.amount - 1200)", "division by zero"),
        ("event.data.items[true]", "`[]` does not take a list and true/false"),
        ("!event.data.missing", "`!` does not take null; `event.data.missing` is null"),
        ("event.data.missing.all(x, x)", "null where a list or a map is expected; `event.data.missing` is null"),
        ("9223372036854775807 + event.data.amount", "a number leaves the range of 64-bit integers"),
    ] {
        assert_eq!(eval(text).map_err(|error| error.message), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn only_true_holds() {
    let holds = |text: &str| with(text, |expr, scope| expr.holds(scope).map_err(|error| error.message));
    assert_eq!(holds("event.data.amount > 0"), Ok(true));
    assert_eq!(holds("event.data.amount < 0"), Ok(false));
    assert_eq!(holds("event.data.amount"), Err("`event.data.amount` gives 1200, neither true nor false".into()));
    assert_eq!(holds("event.data.missing"), Err("`event.data.missing` is null, neither true nor false".into()));
    assert!(holds("event.data.missing > 0").is_err());
}

#[test]
fn keys_are_canonical_and_never_fail() {
    for (text, expected) in [
        ("event.data.userId", r#""u1""#),
        ("event.data.whole", "3"),
        ("event.data.whole + 0.0", "3"),
        ("3", "3"),
        ("event.data.price", "1.5"),
        ("event.data.missing", "null"),
        ("event.data.missing + 1", "null"),
        ("event.data.user", r#"{"name":"Ada","tags":["a","b"]}"#),
        ("[event.data.userId, event.data.amount]", r#"["u1",1200]"#),
        ("'1'", r#""1""#),
        ("event", r#"{"data":"#),
    ] {
        let key = with(text, |expr, scope| expr.key(scope));
        assert!(if text == "event" { key.starts_with(expected) } else { &*key == expected }, "{text}: {key}");
    }
    assert_eq!(canonical(&json!({"b": 1.0, "a": [-0.0, 1e300, 0.1]})), r#"{"a":[0,1e+300,0.1],"b":1}"#);
    assert_eq!(canonical(&json!(9_223_372_036_854_775_808u64)), "9223372036854775808");
}

#[test]
fn numbers_for_priorities() {
    assert_eq!(with("event.data.plan == 'pro' ? 120 : 0", |expr, scope| expr.number(scope)), Ok(120.0));
    assert!(with("event.data.plan", |expr, scope| expr.number(scope)).is_err());
}

fn refused(text: &str) -> (String, String, String) {
    let error = Expr::parse(text, EVENT_VARIABLES).expect_err(text).remove(0);
    (error.message, text[error.range].to_owned(), error.help.unwrap_or_default())
}

#[test]
fn mistakes_are_told_with_their_place_and_the_right_word() {
    for (text, message, at, help) in [
        ("evnt.data.userId", "unknown variable `evnt`", "evnt", "did you mean `event`?"),
        ("event.data['größe'] == evnt.x", "unknown variable `evnt`", "evnt", "did you mean `event`?"),
        ("pro", "unknown variable `pro`", "pro", "known here: `event`; a text stands in quotes: 'pro'"),
        ("async.data.x == 1", "unknown variable `async`", "async", "known here: `event`; a text stands in quotes: 'async'"),
        ("event.data.a.startWith('x')", "unknown function `startWith`", "startWith", "did you mean `startsWith`?"),
        ("sise(event.data)", "unknown function `sise`", "sise", "did you mean `size`?"),
        (
            "startsWith(event.name, 'x')",
            "unknown function `startsWith`",
            "startsWith",
            "write it behind its owner: `event.data.field.startsWith(…)`",
        ),
        ("event.data.items.map(i, j.x)", "unknown variable `j`", "j", "did you mean `i`?"),
        ("event.data.amount >", "the expression ends too early", "", ""),
        ("event.data.amount = 1", "`=` begins no word of an expression", "=", "write `==` to compare"),
        ("event.data.a and event.data.b", "`and` cannot stand here", "and", "write `&&`, `||` and `!`"),
        ("'ü' = event.data.a", "`=` begins no word of an expression", "=", "write `==` to compare"),
        ("event.data.a )", "`)` cannot stand here", ")", ""),
        ("event.data.größe", "`ö` begins no word of an expression", "ö", "write such a field in brackets: event.data['name']"),
        ("", "an empty expression", "", ""),
        ("Foo{a: 1}", "there is no type `Foo`", "{", "write a map: {\"key\": value}"),
        ("event.?data", "unsupported syntax '.?'", ".", ""),
        ("has(event)", "invalid argument to has() macro", "event", "has() takes a field: has(event.data.field)"),
        ("event.data.a.matches('(')", "not a regular expression: unclosed group", "'('", ""),
        ("'ü' == 'ü' && matches(event.data.a, '[')", "not a regular expression: unclosed character class", "'['", ""),
    ] {
        assert_eq!(refused(text), (message.to_owned(), at.to_owned(), help.to_owned()), "{text}");
    }
}

#[test]
fn paths_are_handed_out_with_their_places() {
    let text = "event.data['größe'] == 'x' && event.data.items[0].id > 0 && has(event.data.user.name) && event . data['k'] == 1";
    let expr = Expr::parse(text, EVENT_VARIABLES).expect("it parses");
    let places: Vec<_> = expr.paths().iter().map(|path| &text[path.range.clone()]).collect();
    assert_eq!(places, ["event.data['größe']", "event.data.items[0].id", "event.data.user.name", "event . data['k']"]);
    assert_eq!(expr.paths()[1].segments[2], Segment::Index(0));
    assert_eq!(expr.paths()[2].segments.last(), Some(&Segment::Field("name".into())));
}

#[test]
fn two_events_are_compared() {
    let (first, second) = (json!({"userId": "u1"}), json!({"userId": "u1"}));
    let expr = Expr::parse("async.data.userId == event.data.userId", MATCH_VARIABLES).expect("it parses");
    let view = |data| EventView { id: "", name: "x", data, ts: 0 };
    let scope = Scope { event: Some(view(&first)), async_event: Some(view(&second)), values: &[] };
    assert_eq!(expr.holds(&scope), Ok(true));
    let extra = json!({"status": "failed"});
    let named = Expr::parse("run.status == 'failed'", &["run"]).expect("it parses");
    assert_eq!(named.holds(&Scope { values: &[("run", &extra)], ..Scope::default() }), Ok(true));
}

#[test]
fn every_function_that_is_offered_is_there() {
    for name in check::all_functions() {
        let text = if name.1 { format!("event.data.{}('x', 'x')", name.0) } else { format!("{}(event.data.x)", name.0) };
        let Ok(expr) = Expr::parse(&text, EVENT_VARIABLES) else { continue };
        let data = json!({});
        let scope = Scope::of_event(EventView { id: "", name: "", data: &data, ts: 0 });
        if let Err(error) = expr.eval(&scope) {
            assert!(!error.message.contains("ndeclared"), "{text}: {error}");
        }
    }
}

/// Parser and interpreter recurse; a hostile text has to meet a limit before the stack ends, also on a small stack in a debug build.
#[test]
fn hostile_texts_meet_a_limit_not_the_end_of_the_stack() {
    let repeated = |open: &str, middle: &str, close: &str, n: usize| format!("{}{middle}{}", open.repeat(n), close.repeat(n));
    let texts = [
        repeated("(", "1", ")", 900),
        repeated("[", "1", "]", 900),
        repeated("!", "true", "", 1900),
        repeated("-", "1", "", 1900),
        repeated("1+", "1", "", 900),
        repeated("true?1:", "1", "", 280),
        repeated("true||", "true", "", 300),
        format!("event{}", ".a".repeat(950)),
        format!("event.data{}", "[event]".repeat(280)),
        format!("event.data{}", "[0]".repeat(600)),
        format!("event.data{}", ".x()".repeat(400)),
        "\"".repeat(1999),
        "(".repeat(1999),
        "?".repeat(1999),
        "x".repeat(5000),
    ];
    let worker = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(move || {
        let data = json!({});
        let scope = Scope::of_event(EventView { id: "", name: "", data: &data, ts: 0 });
        for text in texts {
            if let Ok(expr) = Expr::parse(&text, EVENT_VARIABLES) {
                let _ = expr.eval(&scope);
            }
        }
    });
    worker.expect("a thread starts").join().expect("no text panics");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[a-z.()'\"\\[\\]{}?:!&|=<>+*/% 0-9,üevntdaa-]{0,60}") {
        if let Ok(expr) = Expr::parse(&text, EVENT_VARIABLES) {
            let data = scope_data();
            let _ = expr.eval(&Scope::of_event(EventView { id: "i", name: "n", data: &data, ts: 1 }));
        }
    }
}
