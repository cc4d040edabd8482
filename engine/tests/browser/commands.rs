//! Commands that follow what stands in a form, and what somebody folds, as a browser does both.

use thirtyfour::Key;

use super::*;

#[tokio::test]
async fn a_command_follows_the_fields_of_its_form_on_a_telephone_as_well() {
    let shop = Shop::open();
    let run = shop.run_in(&["waiting"], "gate/asked", json!({ "gate": "north" })).await;
    let data = json!({ "userId": "u2", "amount": 990, "card": "declined", "hurry": true });
    let failed = shop.run_in(&["failed"], "payment/initiate", data).await;
    let browser = Browser::open(Kind::Narrow, &shop.url()).await;
    browser.go(&format!("/runs/{run}")).await;
    browser.keys("c").await;
    browser.until_true("return document.activeElement.name === 'reason'", &[]).await;
    browser.keys("it's late").await;
    let cancels = "const form = document.querySelector('form[action=\"/do/cancel\"]');
        return form.querySelector('.command code').textContent === arguments[0]
            && form.querySelector('[data-copy]').dataset.copy === arguments[0];";
    browser.until_true(cancels, &[&format!(r"stepwell runs cancel {run} --reason 'it'\''s late'")]).await;
    assert_eq!(browser.barriers().await, Vec::<String>::new());

    browser.go(&format!("/runs/{failed}?do=replay&edit=load-user&edit=charge-card")).await;
    let edits = "const form = document.querySelector('textarea[name=set_value]').form;
        form.querySelectorAll('textarea').forEach((field, at) => { field.value = at + 1; });
        const from = form.querySelector('select'); from.value = arguments[0];
        from.dispatchEvent(new Event('change', { bubbles: true }));
        return form.querySelector('.command code').textContent;";
    let said = browser.run(edits, &["charge-card"]).await;
    assert_eq!(said, json!(format!("stepwell replay {failed} --from charge-card --set load-user=1 --set charge-card=2")));
    assert_eq!(browser.barriers().await, Vec::<String>::new());

    // A button's command is seen by a key, without pressing the button.
    browser.go("/functions/charge").await;
    browser.find(&["details.how > summary"]).await;
    browser.run("document.querySelector('details.how > summary').focus()", &[]).await;
    browser.keys(&Key::Enter.value().to_string()).await;
    let is_seen = "const how = document.querySelector('details.how');
        return how.open && how.querySelector('code').getClientRects().length > 0 && how.textContent.includes(arguments[0])";
    browser.until_true(is_seen, &["stepwell functions pause charge"]).await;
    let wide = browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth", &[]).await;
    assert_eq!(wide, json!(0), "the page is wider than the screen");
    assert_eq!(browser.barriers().await, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test]
async fn what_is_folded_stays_folded_while_its_page_is_live() {
    let shop = Shop::open();
    let run = shop.run_in(&["backing_off"], "refund/wanted", json!({ "payment": "p1", "amount": 300 })).await;
    let browser = Browser::open(Kind::Wide, &shop.url()).await;
    browser.go(&format!("/runs/{run}")).await;
    browser.find(&["details.attempts[open]"]).await;
    browser.click(&["details.attempts > summary"]).await;
    browser.until_true("return !document.querySelector('details.attempts').open", &[]).await;
    browser.run("document.getElementById('run').dataset.before = 'yes'", &[]).await;
    // The part has come anew once the mark is gone.
    let is_new = "return document.getElementById('run').dataset.before === undefined && !document.querySelector('details.attempts').open";
    browser.until_true(is_new, &[]).await;
    browser.close().await;
}
