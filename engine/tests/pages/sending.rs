//! The form that sends events.

use super::Shop;

/// The part of a page that is the field with this name, with its fault.
fn field<'a>(page: &'a str, name: &str) -> &'a str {
    let at = page.find(&format!("name=\"{name}\"")).unwrap_or_else(|| panic!("no field {name}: {page}"));
    let start = page[..at].rfind("<div class=\"field\"").unwrap_or(at);
    let end = page[at..].find("<div class=\"field\"").map_or(page.len(), |end| at + end);
    &page[start..end]
}

#[test]
fn the_form_is_made_from_the_schema_with_the_example_filled_in() {
    let shop = Shop::open();
    let page = shop.page("/send");
    assert!(page.contains("<datalist") && page.contains("order/placed"), "{page}");
    let page = shop.page("/send?name=order/placed");
    assert!(field(&page, "f/userId").contains("value=\"u1\"") && page.contains("Who has ordered."), "{page}");
    assert!(field(&page, "f/currency").contains("selected>EUR"), "{page}");
    assert!(field(&page, "f/to/city").contains("text") && page.contains("name=\"f/items/0\" value=\"book\""), "{page}");
    assert!(page.contains("stepwell send order/placed --example"), "{page}");
    let page = shop.page("/send?name=order/plaecd");
    assert!(page.contains("did you mean") && page.contains("order/placed"), "{page}");
}

#[test]
fn what_is_wrong_is_told_at_its_field_and_what_is_right_is_sent() {
    let shop = Shop::open();
    let form = |changes: &[(&'static str, &'static str)]| {
        let mut fields =
            vec![("name", "order/placed"), ("mode", "form"), ("f/userId", "u5"), ("f/amount", "7"), ("n/items", "0"), ("do", "send")];
        for (name, value) in changes {
            fields.retain(|(known, _)| known != name);
            fields.push((name, value));
        }
        fields
    };
    let (status, _, page) = shop.post("/do/send-form", &form(&[("f/amount", "many"), ("f/to/zip", "89073")]));
    assert!(status < 500 && page.contains("Nothing was sent"), "{status} {page}");
    let amount = field(&page, "f/amount");
    assert!(
        amount.contains("aria-invalid=\"true\"") && amount.contains("expected an integer") && amount.contains("value=\"many\""),
        "{amount}"
    );
    assert!(field(&page, "f/to/city").contains("is missing") && page.contains("value=\"89073\""), "{page}");
    assert!(!field(&page, "f/userId").contains("aria-invalid"), "{page}");
    let (_, _, page) = shop.post("/do/send-form", &form(&[("n/items", "1"), ("f/items/0", "pen"), ("do", "add:/items")]));
    assert!(page.contains("name=\"f/items/0\" value=\"pen\"") && page.contains("name=\"f/items/1\""), "{page}");
    let (_, _, page) = shop.post("/do/send-form", &form(&[("n/items", "1"), ("f/items/0", "pen"), ("do", "json")]));
    assert!(page.contains("<textarea") && page.contains("&quot;pen&quot;"), "{page}");
    let (_, _, page) = shop.post("/do/send-form", &[("name", "order/placed"), ("mode", "json"), ("data", "{\"userId\": "), ("do", "form")]);
    assert!(page.contains("no JSON") && page.contains("<textarea"), "{page}");
    assert!(shop.page("/events?part=rows").contains("No events"), "nothing was sent until now");
    let (status, leads, page) = shop.post("/do/send-form", &form(&[("f/gift", "true"), ("ts", "soon")]));
    assert!(status < 500 && leads.is_empty() && page.contains("is no time"), "{page}");
    let (status, leads, page) = shop.post("/do/send-form", &form(&[("f/gift", "true"), ("id", "order-1")]));
    assert!(status == 303 && leads.starts_with("/runs/"), "{status} {leads} {page}");
    let events: Vec<serde_json::Value> = serde_json::from_str(&shop.run(&["events", "ls", "--name", "order/placed", "--json"])).unwrap();
    assert_eq!((events.len(), &events[0]["data"]), (1, &serde_json::json!({ "userId": "u5", "amount": 7, "gift": true })));
    let large = r#"{"userId": "u5", "amount": 12345678901234567}"#;
    let (status, leads, _) = shop.post("/do/send-form", &[("name", "order/placed"), ("mode", "json"), ("data", large), ("do", "send")]);
    assert!(status == 303 && leads.starts_with("/events/"), "an amount that starts nothing leads to the event: {leads}");
}

#[test]
fn a_refused_event_is_listed_with_its_field_and_can_be_mended() {
    let shop = Shop::open();
    let sent = crate::program::stepwell(shop.path(), ["send", "order/placed", "userId=u3", "--url", &shop.server.url()]);
    assert_eq!(sent.exit, 1, "{}", sent.stderr);
    let page = shop.page("/events?tab=refused");
    for text in ["order/placed", "/data/amount", "is missing", "E0221", "never stored"] {
        assert!(page.contains(text), "`{text}` is missing: {page}");
    }
    let page = shop.page("/send?refused=1");
    assert!(field(&page, "f/userId").contains("value=\"u3\"") && field(&page, "f/amount").contains("is missing"), "{page}");
    assert_eq!(shop.get("/send?refused=99").0, 404);
}

#[test]
fn a_function_is_invoked_by_hand_from_its_page_and_by_the_command() {
    let shop = Shop::open();
    let (status, leads, _) = shop.post("/do/invoke", &[("function", "charge"), ("data", r#"{"userId":"u1","amount":2}"#)]);
    assert!(status == 303 && leads.starts_with("/runs/"), "{status} {leads}");
    let run = shop.run(&["functions", "invoke", "charge", "userId=u2", "amount=3", "--wait", "--json"]);
    assert!(run.contains("\"completed\""), "{run}");
    let unknown = crate::program::stepwell(shop.path(), ["functions", "invoke", "chrage", "--url", &shop.server.url()]);
    assert_eq!(unknown.exit, 3, "{}", unknown.stderr);
}
