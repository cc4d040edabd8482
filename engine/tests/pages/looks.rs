//! What the pages say.

use super::Shop;

/// All pages of the navigation that this file and its neighbour are about.
const PAGES: [&str; 10] =
    ["/events", "/events?tab=refused", "/send", "/functions", "/flow", "/topology", "/logs", "/config", "/keys", "/doctor"];

#[test]
fn every_page_escapes_what_comes_from_outside_and_names_its_command() {
    let shop = Shop::open();
    let nasty = r#"<script>alert(1)</script><img src=x onerror=alert(2)>"#;
    let id = shop.send("mail/asked", &serde_json::json!({ "to": nasty, nasty: nasty }).to_string());
    shop.until("/flow", "1 of 1");
    let refused = shop.post(
        "/do/send-form",
        &[("name", "order/placed"), ("mode", "json"), ("data", &serde_json::json!({ "userId": nasty, "x": nasty }).to_string())],
    );
    assert!(refused.2.contains("is missing") || refused.2.contains("no property"), "{}", refused.2);
    let event = format!("/events/{id}");
    let mut pages: Vec<String> = PAGES.iter().map(ToString::to_string).collect();
    pages.extend([
        event.clone(),
        format!("/send?from={id}"),
        "/send?refused=1".into(),
        "/functions/hold".into(),
        "/functions/charge".into(),
    ]);
    pages.extend([
        "/events?name=%3Cscript%3Ealert(1)%3C/script%3E".into(),
        "/events?where=%3Cscript%3E".into(),
        "/send?name=%3Cscript%3E".into(),
    ]);
    pages.extend([
        "/flow?key=%3Cscript%3E".into(),
        "/logs?text=%3Cscript%3E".into(),
        "/config?key=%3Cscript%3E".into(),
        "/config?part=plan".into(),
    ]);
    for path in pages {
        let page = shop.page(&path);
        assert!(!page.contains("<script>") && !page.contains("<img src=x"), "{path}: {page}");
        for inline in [" style=", " onclick=", " onload=", "javascript:", "hx-on"] {
            assert!(!page.contains(inline), "{path} has `{inline}`");
        }
        let names_a_command = page.contains("<span class=\"command\"><code>stepwell ");
        assert!(path.contains("part=") || names_a_command, "{path} names no command: {page}");
    }
    let page = shop.page(&event);
    assert!(page.contains("&lt;script&gt;alert(1)") && page.contains(&format!("stepwell events get {id} --explain")), "{page}");
    assert_eq!(shop.get("/events/0000000000000").0, 404);
    let (status, page) = shop.get("/functions/chrage");
    assert!(status == 404 && page.contains("did you mean `charge`"), "{page}");
}

#[test]
fn events_say_what_they_caused_and_why_others_caused_nothing() {
    let shop = Shop::open();
    shop.send_and_wait("order/placed", r#"{"userId":"u7","amount":30}"#);
    let dear = shop.send("order/placed", r#"{"userId":"u8","amount":5000}"#);
    let page = shop.page("/events");
    assert!(page.contains("completed") && page.contains("if is false") && page.contains("order/paid"), "{page}");
    let rows = |path: &str| shop.page(path).matches("<tr data-row").count();
    assert_eq!(rows("/events?name=order/placed&part=rows"), 2);
    assert_eq!(rows("/events?name=order/*&part=rows"), 3);
    assert_eq!(rows("/events?where=event.data.amount%20%3E%20100&part=rows"), 1);
    // The command beside the page means the same events.
    let page = shop.page("/events?name=order/*&where=event.data.amount%20%3E%20100");
    assert!(page.contains("stepwell events ls --name 'order/*' --where 'event.data.amount &gt; 100'"), "{page}");
    let listed = shop.run(&["events", "ls", "--name", "order/*", "--where", "event.data.amount > 100"]);
    assert!(listed.lines().count() == 1 && listed.contains("5000"), "{listed}");
    let wrong = shop.page("/events?where=event.data.amount%20%3E");
    assert!(wrong.contains("id=\"where-fault\"") && wrong.contains("at character"), "{wrong}");
    let page = shop.page(&format!("/events/{dear}"));
    for text in ["event.data.amount &lt; 1000", "✗ false", "5000", "curl -X POST", "Send again", "it started nothing"] {
        assert!(page.contains(text), "`{text}` is missing: {page}");
    }
}

#[test]
fn runs_come_by_pages_and_their_pictures_by_scales() {
    let shop = Shop::open();
    let events: Vec<String> = (0..51).map(|n| shop.send("order/placed", &format!(r#"{{"userId":"u{n}","amount":5000}}"#))).collect();
    assert_eq!(events.len(), 51);
    // None of them starts a run, so what is paged is their list; runs are paged by the same link.
    let rows = |page: &str| page.matches("<tr data-row").count();
    let first = shop.page("/events");
    let older = first.split("<p class=\"more\"><a href=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a link to older ones");
    assert_eq!((rows(&first), rows(&shop.page(&older.replace("&amp;", "&")))), (50, 1));
    for n in 0..51 {
        shop.send("order/placed", &format!(r#"{{"userId":"u{n}","amount":30}}"#));
    }
    let first = shop.until("/runs?function=charge", "rel=\"next\"");
    let older = first.split("<p class=\"more\"><a href=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a link to older ones");
    assert!(older.contains("cursor=") && older.contains("function=charge"), "{older}");
    let rest = shop.page(&older.replace("&amp;", "&"));
    assert!(rows(&rest) >= 1 && !rest.contains("rel=\"next\""), "{rest}");
    let run: String = first.split("<tr data-row=\"").nth(1).expect("a row").chars().take_while(|c| *c != '"').collect();
    let picture = |scale: &str| shop.page(&format!("/runs/{run}?scale={scale}")).contains("height=\"14\" width=\"");
    assert_eq!((picture("real"), picture("fit"), picture("compress")), (true, false, false));
}

#[test]
fn a_function_shows_its_limits_in_words_its_yaml_and_its_versions() {
    let shop = Shop::open();
    shop.send_and_wait("order/placed", r#"{"userId":"u1","amount":30}"#);
    let page = shop.page("/functions/charge");
    for text in [
        "1 run at a time per event.data.userId; a waiting run keeps its slot",
        "# Takes the money.",
        "10 starts in 1m, 4 more at once",
        "stepwell functions invoke charge --data '{&quot;",
        "No other version",
    ] {
        assert!(page.contains(text), "`{text}` is missing: {page}");
    }
    assert!(page.contains("4 of 5 starts left") || page.contains("5 of 5 starts left"), "{page}");
    // The words of the handler, its steps, its texts and the comment of the YAML are told apart.
    for piece in [
        "<span class=\"w\">let</span> id = <span class=\"f\">step</span>(<span class=\"s\">&quot;charge&quot;</span>",
        "<span class=\"f\">send_event</span>",
        "<span class=\"c\"># Takes the money.</span>",
        "<span class=\"k\">throttle:</span>",
    ] {
        assert!(page.contains(piece), "`{piece}` is missing: {page}");
    }
    let handler = shop.path().join("handlers/charge.rhai");
    let before = std::fs::read_to_string(&handler).unwrap();
    std::fs::write(&handler, before.replace("\"c1\"", "\"c2\"")).unwrap();
    let plan = shop.page("/config?part=plan");
    assert!(plan.contains("function") && plan.contains("charge") && plan.contains("version"), "{plan}");
    let (status, leads, _) = shop.post("/do/reload", &[]);
    assert!(status == 303 && leads.starts_with("/config"), "{status} {leads}");
    let page = shop.page("/functions/charge");
    let version = page.split("version=").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let page = shop.page(&format!("/functions/charge?version={version}"));
    assert!(page.contains("class=\"gone\"") && page.contains("class=\"new\"") && page.contains("c2"), "{page}");
    let page = shop.page("/functions");
    for text in ["Europe/Berlin", "the last 1 run: 1 completed", "next "] {
        assert!(page.contains(text), "`{text}` is missing: {page}");
    }
    let (status, _, _) = shop.post("/do/pause", &[("function", "charge"), ("back", "/functions/charge")]);
    assert_eq!(status, 303);
    assert!(shop.page("/functions/charge").contains("⏸ Paused"));
}

#[test]
fn flow_control_names_who_holds_a_key_and_what_is_left() {
    let shop = Shop::open();
    for _ in 0..2 {
        shop.send("mail/asked", r#"{"to":"ada"}"#);
    }
    shop.send("order/paid", "{}");
    // The run takes its slot once its event is stored, and the batch is open.
    ["1 / 3", "1 of 1"].iter().for_each(|text| drop(shop.until("/flow", text)));
    let page = shop.until("/flow", "1 of 5");
    let runs: Vec<serde_json::Value> = serde_json::from_str(&shop.run(&["runs", "ls", "--function", "hold", "--json"])).unwrap();
    let held = |run: &serde_json::Value| page.contains(&format!("/runs/{}", run["run_id"].as_str().unwrap()));
    assert!(runs.iter().any(held), "{page}");
    for text in ["1 of 1", "&quot;ada&quot;", "batch", "1 / 3"] {
        assert!(page.contains(text), "`{text}` is missing: {page}");
    }
    assert!(page.contains("in 59m") || page.contains("in 1h"), "{page}");
    // The page of the function has the same as a meter: two events of three are taken.
    let meter = "aria-label=\"rate limit: 1 of 3 left: 1 of 3\"";
    shop.until("/functions/hold", meter);
    assert!(!shop.page("/flow?part=keys&key=bob").contains("ada"));
}

#[test]
fn the_topology_leads_from_events_over_functions_to_events_with_counts() {
    let shop = Shop::open();
    shop.send_and_wait("order/placed", r#"{"userId":"u1","amount":30}"#);
    let page = shop.page("/topology");
    for text in ["<svg", "order/placed", "sends", "1× if event.data.amount", "1 run", "30 2 * * * Europe/Berlin", "stepwell graph"] {
        assert!(page.contains(text), "`{text}` is missing: {page}");
    }
}

const MORE: &str = "  app/go: {}
  app/stop: {}
  app/child: {}
functions:
  parent: { on: app/go }
  child: { on: app/child }
  stopped: { on: app/go, cancel_on: app/stop }
  failing: { on: app/go, retries: 0, on_failure: handlers/sorry.rhai }
";

#[test]
fn the_topology_counts_what_went_along_each_edge() {
    let shop = Shop::open();
    for (name, text) in [
        ("parent", "invoke(\"child\", #{})"),
        ("child", "1"),
        ("stopped", "wait_for_signal(\"never\")"),
        ("failing", "throw \"no\""),
        ("sorry", "1"),
    ] {
        std::fs::write(shop.path().join(format!("handlers/{name}.rhai")), text).unwrap();
    }
    std::fs::write(shop.path().join("events.yaml"), super::CONFIG.replace("functions:\n", MORE)).unwrap();
    assert_eq!(shop.post("/do/reload", &[]).0, 303);
    shop.send_and_wait("order/placed", r#"{"userId":"u1","amount":30}"#);
    for _ in 0..2 {
        shop.send("app/go", "{}");
    }
    let waiting = || shop.run(&["runs", "ls", "--function", "stopped", "--status", "waiting"]).lines().count();
    while waiting() < 2 {
        std::thread::yield_now();
    }
    let stop = shop.send("app/stop", "{}");
    let wanted = [
        ("order/placed", "starts if event.data.amount < 1000", "charge", "1"),
        ("charge", "sends", "order/paid", "1"),
        ("app/go", "starts", "parent", "2"),
        ("parent", "invokes", "child", "2"),
        ("app/stop", "cancels", "stopped", "2"),
        ("failing", "on failure", "failing.on_failure", "2"),
        // Nothing of the kind has happened.
        ("app/child", "starts", "child", "0"),
        // A clock tells nobody how often it struck.
        ("30 2 * * * Europe/Berlin", "starts", "nightly", ""),
    ];
    let mut page;
    loop {
        page = shop.page("/topology");
        let rows: Vec<Vec<String>> = page.split("<tr>").skip(1).map(cells).collect();
        if wanted.iter().all(|(from, does, to, count)| rows.iter().any(|row| *row == [*from, *does, *to, *count])) {
            break;
        }
        std::thread::yield_now();
    }
    for label in ["1× sends", "2× invokes", "2× cancels", "2× on failure"] {
        assert!(page.contains(label), "`{label}` is missing: {page}");
    }
    let page = shop.page(&format!("/events/{stop}"));
    assert!(page.contains("it cancelled 2 runs of `stopped`, the first is ") && page.matches("was cancelled by it").count() == 2, "{page}");
    assert!(shop.page("/events?name=app/stop").contains("cancelled a run"));
}

/// The texts of a row's cells.
fn cells(row: &str) -> Vec<String> {
    let text = |cell: &str| {
        let body = cell.split_once('>').map_or("", |(_, body)| body);
        let mut plain = String::new();
        let mut is_tag = false;
        for c in body.split("</td>").next().unwrap_or_default().chars() {
            match c {
                '<' => is_tag = true,
                '>' => is_tag = false,
                c if !is_tag => plain.push(c),
                _ => {}
            }
        }
        plain.replace("&lt;", "<").replace("&quot;", "\"").trim().to_owned()
    };
    row.split("<td").skip(1).map(text).collect()
}

#[test]
fn logs_are_filtered_and_hide_secrets() {
    let shop = Shop::open();
    // What was said before somebody watches is there as well.
    shop.send_and_wait("order/placed", r#"{"userId":"u1","amount":30}"#);
    let page = shop.until("/logs", "charging");
    assert!(page.contains("«secret SHOP_TOKEN»") && !page.contains("tk-very-secret-73"), "{page}");
    assert!(!shop.page("/logs?level=error").contains("charging"));
    assert!(!shop.page("/logs?of=engine&part=lines").contains("charging"));
    assert!(shop.page("/logs?text=CHARG&part=lines").contains("charging"));
}

#[test]
fn a_broken_config_is_shown_with_its_caret_and_the_one_before_stays() {
    let shop = Shop::open();
    let config = shop.path().join("events.yaml");
    let before = std::fs::read_to_string(&config).unwrap();
    let page = shop.page("/config");
    assert!(page.contains("functions.charge.concurrency.limit") && page.contains("events.yaml:"), "{page}");
    assert!(shop.page("/config?part=plan").contains("a reload would change nothing"));
    std::fs::write(&config, before.replace("size: 5", "size: 9")).unwrap();
    let plan = shop.page("/config?part=plan");
    assert!(plan.contains("batch.size") && plan.contains("Reload"), "{plan}");
    std::fs::write(&config, before.replace("throttle:", "throtle:")).unwrap();
    let (status, _, body) = shop.post("/do/reload", &[]);
    assert!(status >= 400 && body.contains("throttle"), "{status}: {body}");
    let page = shop.page("/config");
    for text in ["The last reload failed", "^^^^^^^", "did you mean `throttle`?"] {
        assert!(page.contains(text), "`{text}` is missing: {page}");
    }
    assert!(shop.page("/doctor").contains("the files are broken"));
    std::fs::write(&config, before).unwrap();
    assert_eq!(shop.post("/do/reload", &[]).0, 303);
    assert!(!shop.page("/config").contains("The last reload failed"));
}

#[test]
fn keys_are_named_and_never_shown_and_the_doctor_looks_at_everything() {
    let shop = Shop::open();
    let page = shop.page("/keys");
    for text in ["STEPWELL_EVENT_KEYS", "any key is taken", "SHOP_TOKEN", "stepwell keys new"] {
        assert!(page.contains(text), "`{text}` is missing: {page}");
    }
    assert!(!page.contains("tk-very-secret-73"));
    let page = shop.page("/doctor");
    for text in ["database", "clock", "disk", "rights", "version", "SQLite 3.", "Read the whole database"] {
        assert!(page.contains(text), "`{text}` is missing: {page}");
    }
    assert!(!page.contains("every page and index is sound"));
    let (status, _, page) = shop.post("/do/examine", &[]);
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("every page and index is sound"));
}
