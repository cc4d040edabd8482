//! The versions of a handler: those that are stored, and any two of them held against each other.

use serde_json::json;

use super::*;

/// Puts a version of a handler in force; the beginning of its hash.
async fn put(shop: &Shop, number: u32) -> String {
    let text = format!(
        "let word = wait_for_signal(`gate-${{event.data.gate}}`);\nstep(\"open\", || word);\nstep(\"say\", || \"version {number}\")\n"
    );
    std::fs::write(shop.folder().join("handlers/open-gate.rhai"), text).unwrap();
    reload(shop, &[]).await;
    let shown = page(shop, "/functions/open-gate").await.text;
    let tag = shown.split("<h2>Handler ").nth(1).and_then(|rest| rest.split("<span class=\"tag info\">").nth(1));
    tag.and_then(|tag| tag.split('<').next()).unwrap_or_else(|| panic!("no version: {shown}")).to_owned()
}

/// The lines of a page's first comparison, each with its sign.
fn lines(page: &Answer) -> String {
    let diff = page.text.split("<pre class=\"diff\"").nth(1).and_then(|rest| rest.split("</pre>").next());
    let text = format!("<pre{}", diff.unwrap_or_else(|| panic!("nothing is compared: {}", page.text)));
    Answer { text, ..page.clone() }.plain()
}

#[tokio::test]
async fn versions_without_a_recent_run_are_listed_and_any_two_are_compared() {
    let shop = Shop::open();
    let first = put(&shop, 1).await;
    shop.run_in(&["waiting"], "gate/asked", json!({ "gate": "north" })).await;
    // No run comes to be on the second one.
    let second = put(&shop, 2).await;
    let third = put(&shop, 3).await;
    assert!(first != second && second != third, "{first} {second} {third}");
    let shown = page(&shop, "/functions/open-gate").await;
    let rows = shown.text.split("<tr data-row").skip(1).filter_map(|rest| rest.split("</tr>").next());
    let rows: Vec<&str> = rows.filter(|row| row.contains("class=\"mono\"")).collect();
    let of = |hash: &str| rows.iter().find(|row| row.contains(hash)).unwrap_or_else(|| panic!("{hash} is not listed: {}", shown.text));
    assert!(of(&second).contains("older, or none") && of(&second).contains("Difference to now"), "{}", of(&second));
    assert!(of(&third).contains("in force"), "{}", of(&third));

    let now = lines(&page(&shop, &format!("/functions/open-gate?version={second}")).await);
    assert!(now.contains("version 2") && now.contains("version 3") && !now.contains("version 1"), "{now}");
    let then = page(&shop, &format!("/functions/open-gate?version={first}&with={second}")).await;
    let text = lines(&then);
    assert!(text.contains("− step(\"say\", || \"version 1\")") && text.contains("+ step(\"say\", || \"version 2\")"), "{text}");
    assert!(!text.contains("version 3"), "{text}");
    // What was chosen stays chosen, and the form leads there.
    let form = then.text.split("<form").find(|form| form.contains("name=\"with\"")).unwrap_or_else(|| panic!("no form: {}", then.text));
    for hash in [&first, &second] {
        assert!(form.contains(&format!("value=\"{hash}\" selected")), "{hash}: {form}");
    }
    // From the one in force back, and a version of another function is none of this one.
    let back = lines(&page(&shop, &format!("/functions/open-gate?version={third}&with={first}")).await);
    assert!(back.contains("− step(\"say\", || \"version 3\")") && back.contains("+ step(\"say\", || \"version 1\")"), "{back}");
    let other = page(&shop, &format!("/functions/charge?version={first}")).await;
    assert!(!other.text.contains("<pre class=\"diff\""), "{}", other.text);
}
