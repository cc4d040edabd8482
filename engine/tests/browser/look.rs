//! What every page looks like: wide and narrow, light and dark, and whether everybody can use it.

use super::shop::Busy;
use super::*;

/// Every page with a name for its picture.
fn pages(busy: &Busy) -> Vec<(&'static str, String)> {
    let mut pages: Vec<(&str, String)> =
        stepwell::web::paths().map(|path| (if path == "/" { "overview" } else { &path[1..] }, path.to_owned())).collect();
    pages.push(("run-waiting", format!("/runs/{}", busy.waiting)));
    pages.push(("run-failed", format!("/runs/{}", busy.failed)));
    pages.push(("run-queued", format!("/runs/{}", busy.queued)));
    pages.push(("run-backing-off", format!("/runs/{}", busy.backing_off)));
    pages.push(("run-parallel", format!("/runs/{}?tab=code", busy.sleeping)));
    pages.push(("run-paused", format!("/runs/{}", busy.paused)));
    pages.push(("run-parked", format!("/runs/{}", busy.parked)));
    pages.push(("run-running", format!("/runs/{}", busy.running)));
    pages.push(("run-completed", format!("/runs/{}", busy.order)));
    pages.push(("events-filtered", "/events?where=event.data.amount%20%3E%201".to_owned()));
    pages.push(("events-refused", "/events?tab=refused".to_owned()));
    pages.push(("event", format!("/events/{}", busy.event)));
    pages.push(("send-form", "/send?name=payment/initiate".to_owned()));
    pages.push(("function", "/functions/charge".to_owned()));
    pages.push(("runs-filtered", "/runs?status=waiting,queued&bulk=cancel".to_owned()));
    pages
}

/// The page that a picture shows, by the beginning of the picture's name.
fn name_of(page: &str) -> String {
    match page.strip_prefix('/').unwrap_or(page) {
        "" => "overview".to_owned(),
        // The page of one of them.
        one if one.ends_with("s/{id}") => one.trim_end_matches("s/{id}").to_owned(),
        path => path.to_owned(),
    }
}

#[test]
fn every_page_has_its_picture_in_docs_and_every_picture_its_page() {
    let docs = crate::program::repository().join("docs");
    let text = std::fs::read_to_string(docs.join("dashboard.md")).unwrap();
    let shown: Vec<&str> = text.split("](dashboard/").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    let files = std::fs::read_dir(docs.join("dashboard")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: Vec<String> = files.collect();
    for picture in &shown {
        assert!(files.iter().any(|file| file == picture), "dashboard.md shows {picture}, which is not there");
    }
    for page in stepwell::web::PAGES {
        let name = name_of(page.path);
        let is_of_it =
            |picture: &&&str| picture.strip_suffix(".png").is_some_and(|stem| stem == name || stem.starts_with(&format!("{name}-")));
        assert!(shown.iter().any(|picture| is_of_it(&picture)), "dashboard.md has no picture of {}, {}", page.title, page.path);
        assert!(text.contains(page.title) || page.sign.is_none(), "dashboard.md does not tell of {}", page.title);
    }
    // What is taken is kept, and nothing is kept that is not taken any more.
    let mut taken: Vec<&str> = pages(&Busy::default()).into_iter().map(|(name, _)| name).collect();
    for name in &taken {
        assert!(files.contains(&format!("{name}.png")), "docs/dashboard has no {name}.png");
    }
    taken.push("login");
    for file in &files {
        let stem = file.strip_suffix(".png").unwrap_or_else(|| panic!("{file} is no picture"));
        let stem = stem.strip_suffix("-dark").or_else(|| stem.strip_suffix("-narrow")).unwrap_or(stem);
        assert!(taken.contains(&stem), "nobody takes {file}");
    }
}

async fn looked_at(kind: Kind, suffix: &str) {
    let shop = Shop::open();
    let busy = shop.busy().await;
    let browser = Browser::open(kind, &shop.url()).await;
    let mut barriers = Vec::new();
    for (name, path) in pages(&busy) {
        browser.go(&path).await;
        browser.find(&["main"]).await;
        if path == "/config" {
            browser.until(&["#plan", "a reload would change nothing"]).await;
        }
        let wide = browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth", &[]).await;
        assert_eq!(wide, json!(0), "{path} is wider than the screen");
        barriers.extend(browser.barriers().await.into_iter().map(|barrier| format!("{path}: {barrier}")));
        browser.picture(&format!("{name}{suffix}")).await;
    }
    assert!(barriers.is_empty(), "{barriers:#?}");
    browser.close().await;
}

#[tokio::test]
async fn every_page_is_fit_for_everybody_on_a_wide_screen() {
    looked_at(Kind::Wide, "").await;
}

#[tokio::test]
async fn every_page_is_fit_for_everybody_in_the_dark() {
    looked_at(Kind::Dark, "-dark").await;
}

#[tokio::test]
async fn every_page_is_fit_for_everybody_on_a_telephone() {
    looked_at(Kind::Narrow, "-narrow").await;
}

/// Opens all that can be opened, so that it is looked at as well.
const OPEN_ALL: &str = "document.querySelectorAll('details').forEach(one => { one.open = true; });
    return document.querySelectorAll('details').length";

/// What is not there until somebody opens it, and pages that nobody wants to see.
async fn opened(kind: Kind) {
    let shop = Shop::open();
    let busy = shop.busy().await;
    let browser = Browser::open(kind, &shop.url()).await;
    let mut barriers = Vec::new();
    let mut look = async |what: &str| {
        barriers.extend(browser.barriers().await.into_iter().map(|barrier| format!("{what}: {barrier}")));
    };
    let mut paths: Vec<String> = [&busy.waiting, &busy.signal, &busy.backing_off, &busy.paused, &busy.running, &busy.sleeping]
        .map(|run| format!("/runs/{run}"))
        .into();
    paths.extend(["output", "error", "http", "logs", "code"].map(|tab| format!("/runs/{}?tab={tab}", busy.failed)));
    paths.extend([format!("/runs/{}", busy.parked), format!("/runs/{}?do=replay&edit=weigh", busy.parked)]);
    paths.extend(["/functions/charge".to_owned(), "/send?name=payment/initiate".to_owned()]);
    let mut menus = 0;
    for path in paths {
        browser.go(&path).await;
        browser.find(&["main"]).await;
        menus += browser.run(OPEN_ALL, &[]).await.as_u64().unwrap();
        look(&path).await;
    }
    assert!(menus > 15, "only {menus} things could be opened");
    // What is done to many, and what differs between two versions.
    let difference = format!("/functions/pack?version={}", busy.older);
    for (path, holds) in [
        ("/runs?status=failed&bulk=replay", "#bulk form"),
        ("/runs?function=open-gate&bulk=cancel", "#bulk form"),
        (difference.as_str(), "pre.diff .gone"),
        ("/runs?where=1%20%2B", ".remark.bad"),
    ] {
        browser.go(path).await;
        browser.find(&[holds]).await;
        browser.run(OPEN_ALL, &[]).await;
        look(path).await;
    }
    browser.keys("?").await;
    browser.until_true("return document.querySelector('#help').open", &[]).await;
    look("the keys").await;

    // A config with a mistake: its plan says so, and so does the reload that somebody asked for before.
    let config = shop.folder().join("events.yaml");
    let before = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, before.replace("throttle: { limit: 20", "throttle: { limit: 21")).unwrap();
    browser.go("/config").await;
    browser.find(&["#plan form button"]).await;
    look("/config with changes").await;
    std::fs::write(&config, before.replace("throttle: {", "throtle: {")).unwrap();
    browser.press(&["#plan button", "Reload"]).await;
    browser.until(&["main a", "To the overview"]).await;
    look("a reload that failed").await;
    browser.go("/config").await;
    browser.until(&["section.bad h2", "The last reload failed"]).await;
    browser.until(&["#plan .remark", "✗"]).await;
    look("/config with a mistake").await;
    for (path, says) in [("/runs/0000000000101", "there is no run"), ("/functions/chrage", "did you mean")] {
        browser.go(path).await;
        browser.until(&["main", says]).await;
        look(path).await;
    }
    assert!(barriers.is_empty(), "{barriers:#?}");
    // What is refused or not there is told in the browser's console as well.
    let _ = browser.driver.browser_log().await;
    browser.close().await;
}

#[tokio::test]
async fn menus_differences_errors_and_a_broken_config_are_fit_for_everybody_on_a_wide_screen() {
    opened(Kind::Wide).await;
}

#[tokio::test]
async fn menus_differences_errors_and_a_broken_config_are_fit_for_everybody_in_the_dark() {
    opened(Kind::Dark).await;
}

#[tokio::test]
async fn menus_differences_errors_and_a_broken_config_are_fit_for_everybody_on_a_telephone() {
    opened(Kind::Narrow).await;
}

#[tokio::test]
async fn the_dark_is_dark_and_the_login_fit_for_everybody() {
    let shop = Shop::with(&["run"], &[("STEPWELL_ADMIN_TOKEN", "sesame"), ("STEPWELL_EVENT_KEYS", "key")]);
    let browser = Browser::open(Kind::Dark, &shop.url()).await;
    browser.go("/runs").await;
    browser.until(&["form.login", "Token"]).await;
    let colour = "const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number); return r + g + b < 120";
    assert_eq!(
        browser.run(colour, &[]).await,
        json!(true),
        "{}",
        browser.run("return getComputedStyle(document.body).backgroundColor", &[]).await
    );
    assert_eq!(browser.barriers().await, Vec::<String>::new());
    browser.picture("login-dark").await;
    browser.find(&["#token"]).await.send_keys("wrong").await.unwrap();
    browser.press(&["button", "Log in"]).await;
    browser.until(&["#problem", "This token is not known."]).await;
    browser.find(&["#token"]).await.send_keys("sesame").await.unwrap();
    browser.press(&["button", "Log in"]).await;
    browser.until(&["main h1", "Runs"]).await;
    // The script of a page cannot read the cookie.
    assert_eq!(browser.run("return document.cookie", &[]).await, json!(""));
    assert!(browser.url().await.ends_with("/runs"));
    browser.press(&["button", "Log out"]).await;
    browser.until(&["form.login", "Token"]).await;
    // The wrong token is a refusal, which the browser's console names.
    let _ = browser.driver.browser_log().await;
    browser.close().await;
}
