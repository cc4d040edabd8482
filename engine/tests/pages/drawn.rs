//! What is drawn so that it can be read: labels before nodes, and what may be lost beside what is well.

use std::collections::BTreeSet;

use super::Shop;

#[test]
fn the_labels_of_the_topology_stand_before_its_nodes() {
    let shop = Shop::open();
    let page = shop.page("/topology");
    let picture = page.split("<svg class=\"topology\"").nth(1).and_then(|rest| rest.split("</svg>").next()).expect("a picture");
    let (label, node) = (picture.find("class=\"label\""), picture.rfind("class=\"node "));
    assert!(label.is_some() && node.is_some() && label > node, "{picture}");
    assert!(picture.contains("if event.data.amount &lt; 10"), "{picture}");
}

#[test]
fn the_declaration_of_a_function_stands_apart_from_its_frame() {
    let shop = Shop::open();
    let page = shop.page("/functions/charge");
    // It has no numbers of lines, which keep a handler's code away from the frame.
    assert!(page.contains("<pre class=\"code yaml\""), "{page}");
    let style = page.split("rel=\"stylesheet\" href=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a stylesheet");
    assert!(shop.page(style).contains("pre.code.yaml { padding-left: 0.75rem; }"));
}

/// The names of our metrics in a text.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("stepwell_")).collect()
}

#[test]
fn what_an_alert_tells_of_is_drawn_and_so_is_all_that_is_lost() {
    let read = |name: &str| std::fs::read_to_string(crate::program::repository().join("docs").join(name)).unwrap();
    let (drawn, alerts) = (read("grafana.json"), read("alerts.yml"));
    let (drawn, alerts) = (named(&drawn), named(&alerts));
    assert_eq!(alerts.difference(&drawn).collect::<Vec<_>>(), Vec::<&&str>::new());
    for lost in ["stepwell_commits_failed_total", "stepwell_traces_dropped_total"] {
        assert!(drawn.contains(lost), "{lost} is not drawn");
    }
}
