//! Who is let in, and what a browser is told to keep to.

use serde_json::json;

use super::*;

const KEYS: [(&str, &str); 3] = [("STEPWELL_ADMIN_TOKEN", "sesame"), ("STEPWELL_READ_TOKEN", "look"), ("STEPWELL_EVENT_KEYS", "dev")];

/// Logs in; the cookie as it is sent back.
pub(super) async fn login(shop: &Shop, token: &str) -> String {
    let answer = ask(shop, Method::POST, "/login", &[], &[("token", token), ("to", "/runs")]).await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, "/runs"), "{}", answer.text);
    let cookie = answer.header("set-cookie").to_owned();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict; ") && !cookie.contains(token), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn every_answer_keeps_browsers_to_our_own_files() {
    let shop = Shop::open();
    let mut all = 0;
    for path in stepwell::web::paths() {
        let answer = get(&shop, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path} {}", answer.text);
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; ") && policy.ends_with("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "same-origin");
        assert_eq!(answer.header("cache-control"), "no-store");
        for inline in [" style=", " onclick=", "<script>", "javascript:", "http://", "https://"] {
            let known = answer.text.replace("http://127.0.0.1", "").replace("xmlns=\"http://www.w3.org", "");
            assert!(!known.contains(inline), "{path} holds `{inline}`");
        }
        all = all.max(answer.text.len());
    }
    // The largest page with every file that it needs.
    let page = get(&shop, "/runs").await.text;
    let files: Vec<&str> = page.split('"').filter(|part| part.starts_with("/assets/")).collect();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        let answer = get(&shop, file).await;
        assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable", "{file}");
        all += answer.text.len();
    }
    assert!(all < 300 * 1024, "{all} bytes");
    assert_eq!(get(&shop, "/assets/style-000000000000.css").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn commands_still_get_lines_of_text_at_the_root() {
    let shop = Shop::open();
    let text = reqwest::Client::builder().no_proxy().build().unwrap().get(shop.url()).send().await.unwrap().text().await.unwrap();
    assert!(text.starts_with("stepwell: a durable event engine"), "{text}");
}

#[tokio::test]
async fn a_token_opens_the_dashboard_and_the_read_only_one_changes_nothing() {
    let shop = Shop::with(&["run"], &KEYS);
    for path in ["/", "/runs", "/runs/0000000000101?part=run", "/live"] {
        let answer = get(&shop, path).await;
        assert!(matches!(answer.status, StatusCode::SEE_OTHER | StatusCode::UNAUTHORIZED), "{path} {}", answer.status);
        assert!(!answer.text.contains("charge"), "{path}");
    }
    assert_eq!(get(&shop, "/runs?status=failed").await.header("location"), "/login?to=%2Fruns%3Fstatus%3Dfailed");
    let wrong = ask(&shop, Method::POST, "/login", &[], &[("token", "guess")]).await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (StatusCode::UNAUTHORIZED, ""));
    let large = "x".repeat(17 * 1024);
    let large = ask(&shop, Method::POST, "/login", &[], &[("token", &large)]).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE, "a form that anybody may post is small");
    // Whoever would send people elsewhere after the login does not.
    let away = ask(&shop, Method::POST, "/login", &[], &[("token", "sesame"), ("to", "//evil.example")]).await;
    assert_eq!(away.header("location"), "/");

    let (admin, reader) = (login(&shop, "sesame").await, login(&shop, "look").await);
    let page = ask(&shop, Method::GET, "/runs", &[("cookie", &admin)], &[]).await;
    assert!(page.plain().contains("PROD") && !page.plain().contains("DEV"), "{}", page.text);
    let page = ask(&shop, Method::GET, "/", &[("cookie", &reader)], &[]).await;
    assert!(page.plain().contains("read only"), "{}", page.text);
    let pause = |cookie: String| {
        let shop = &shop;
        async move { ask(shop, Method::POST, "/do/pause", &[("cookie", &cookie)], &[("function", "charge"), ("back", "/runs")]).await }
    };
    let refused = pause(reader).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.plain().contains("read-only token, which may change nothing"), "{}", refused.text);
    let paused = pause(admin.clone()).await;
    assert_eq!((paused.status, paused.header("location")), (StatusCode::SEE_OTHER, "/runs?said=paused"));
    // The cookie is the dashboard's alone: the API asks for its token.
    assert_eq!(ask(&shop, Method::GET, "/v1/runs", &[("cookie", &admin)], &[]).await.status, StatusCode::UNAUTHORIZED);
    let forged = admin.replace("all.", "all.9");
    assert_eq!(ask(&shop, Method::GET, "/runs", &[("cookie", &forged)], &[]).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn pages_of_others_can_do_nothing() {
    let shop = Shop::open();
    let own = shop.url();
    let form = [("function", "charge"), ("back", "/runs")];
    for headers in [
        vec![("origin", "https://evil.example")],
        vec![("origin", "null")],
        vec![("origin", own.as_str()), ("sec-fetch-site", "cross-site")],
        vec![("sec-fetch-site", "same-site")],
    ] {
        let answer = ask(&shop, Method::POST, "/do/pause", &headers, &form).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{headers:?}");
    }
    assert_eq!(ask(&shop, Method::GET, "/runs", &[("host", "evil.example")], &[]).await.status, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(shop.get("/v1/functions").await["data"][0]["paused_since"], json!(null));
    let answer = ask(&shop, Method::POST, "/do/pause", &[("origin", &own), ("sec-fetch-site", "same-origin")], &form).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    // Nobody is logged in or out by a page of somebody else, and no picture on one has the whole database read.
    let elsewhere = [("origin", own.as_str()), ("sec-fetch-site", "cross-site")];
    for path in ["/login", "/logout", "/do/examine"] {
        let answer = ask(&shop, Method::POST, path, &elsewhere, &[("token", "sesame")]).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (StatusCode::FORBIDDEN, ""), "{path}");
    }
    let sound = "every page and index is sound";
    assert!(!get(&shop, "/doctor?deep=1").await.plain().contains(sound));
    let answer = ask(&shop, Method::POST, "/do/examine", &[("origin", &own)], &[]).await;
    assert!(answer.plain().contains(sound), "{}", answer.text);
    // The strict cookie of one who comes from elsewhere does not come along: the page asks again by itself.
    let closed = Shop::with(&["run"], &KEYS);
    let answer = ask(&closed, Method::GET, "/runs", &[("sec-fetch-site", "cross-site")], &[]).await;
    assert!(answer.status == StatusCode::OK && answer.text.contains("http-equiv=\"refresh\""), "{}", answer.text);
}

#[tokio::test]
async fn what_is_not_there_and_what_is_wrong_is_a_page_that_says_so() {
    let shop = Shop::open();
    let missing = get(&shop, "/runs/0000000000101").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert!(missing.plain().contains("there is no run 0000000000101"), "{}", missing.text);
    assert_eq!(get(&shop, "/runs/%3Cb%3E").await.status, StatusCode::NOT_FOUND);
    let wrong = get(&shop, "/runs?where=1%20%2B").await;
    assert_eq!(wrong.status, StatusCode::OK);
    assert!(wrong.plain().contains("is not a condition over"), "{}", wrong.text);
    let refused = ask(&shop, Method::POST, "/do/send", &[], &[("name", "payment/initiate"), ("data", "{\"amount\": 0}")]).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.plain().contains("/data/amount"), "{}", refused.plain());
    let sent = ask(&shop, Method::POST, "/do/send", &[], &[("name", "gate/asked"), ("data", "{\"gate\": \"north\"}")]).await;
    assert!(sent.header("location").starts_with("/runs/"), "{}", sent.header("location"));
}
