//! Whatever a page can do, it names the command for: in words that can be read and copied, with the values that it would send.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;

/// What a command must not have: it is to be copied as it stands.
const STAND_INS: [&str; 7] = ["STEP", "=JSON", "…", "NAME", "EVENT", "RUN", "<"];

/// The forms of a page that do something: where each is sent to, and the commands that are written in it.
fn deeds(page: &Answer) -> Vec<(String, Vec<String>)> {
    let forms = page.text.split("<form").skip(1).map(|form| form.split("</form>").next().unwrap());
    let deed = |form: &str| {
        let action = form.split(" action=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned();
        let code = |part: &str| part.split_once('>').and_then(|(_, rest)| rest.split_once("</code>")).map(|(text, _)| unescaped(text));
        let commands = form.split("<span class=\"command\"><code").skip(1).filter_map(code).collect();
        (action, commands)
    };
    forms.map(deed).filter(|(action, _)| action.starts_with("/do/")).collect()
}

/// Checks the forms of a page; where they are sent to.
async fn checked(shop: &Shop, path: &str, seen: &mut BTreeSet<String>) {
    let shown = page(shop, path).await;
    for (action, commands) in deeds(&shown) {
        let [command] = &commands[..] else { panic!("{path}: the form of {action} has these commands: {commands:?}") };
        assert!(command.starts_with("stepwell "), "{path} {action}: {command}");
        let stands_in = STAND_INS.iter().find(|word| command.contains(**word));
        assert_eq!(stands_in, None, "{path} {action}: {command}");
        seen.insert(action);
    }
}

#[tokio::test]
async fn every_form_of_every_page_shows_its_command_with_the_values_that_it_sends() {
    let shop = Shop::open();
    let busy = shop.busy().await;
    let mut seen = BTreeSet::new();
    let mut paths: Vec<String> = stepwell::web::paths().map(str::to_owned).collect();
    let runs = [
        &busy.waiting,
        &busy.queued,
        &busy.failed,
        &busy.backing_off,
        &busy.sleeping,
        &busy.order,
        &busy.signal,
        &busy.paused,
        &busy.cancelled,
    ];
    paths.extend(runs.map(|run| format!("/runs/{run}")));
    paths.extend([
        format!("/runs/{}?step=step.load-user", busy.failed),
        format!("/runs/{}?do=replay&edit=load-user&edit=charge-card", busy.failed),
        format!("/events/{}", busy.event),
        format!("/send?from={}", busy.event),
        "/send?name=payment/initiate".to_owned(),
        "/send?name=payment/initiate&tab=json".to_owned(),
        "/functions/charge".to_owned(),
        "/functions/export".to_owned(),
        "/runs?bulk=replay".to_owned(),
        "/runs?function=charge&bulk=cancel".to_owned(),
        "/events?tab=refused".to_owned(),
    ]);
    for path in &paths {
        checked(&shop, path, &mut seen).await;
    }
    // One that is parked, and a config that is to be reloaded.
    reload(&shop, &[("  open-gate:\n    on: gate/asked\n", "")]).await;
    shop.ask(Method::POST, "/v1/signals/gate-north", None).await;
    shop.until(&busy.signal, &["parked"]).await;
    checked(&shop, &format!("/runs/{}", busy.signal), &mut seen).await;
    let config = shop.folder().join("events.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("limit: 20", "limit: 30")).unwrap();
    checked(&shop, "/config?part=plan", &mut seen).await;
    let all: BTreeSet<String> = stepwell::web::actions::ACTIONS.iter().map(|action| action.path.to_owned()).collect();
    assert_eq!(seen, all, "some page has a form for each");
}

#[tokio::test]
async fn a_command_that_is_shown_does_what_its_form_would() {
    let shop = Shop::open();
    let run = shop.run_in(&["waiting"], "gate/asked", json!({ "gate": "north" })).await;
    let shown = page(&shop, &format!("/runs/{run}")).await;
    let of = |action: &str| {
        let (_, commands) = deeds(&shown).into_iter().find(|(known, _)| known == action).unwrap_or_else(|| panic!("no form of {action}"));
        commands.into_iter().next().unwrap()
    };
    assert_eq!(of("/do/cancel"), format!("stepwell runs cancel {run}"));
    assert_eq!(of("/do/signal"), "stepwell signal gate-north --data '{}'");
    let (signal, url) = (of("/do/signal").replace('\'', ""), shop.url());
    let ended = crate::program::stepwell(shop.folder(), signal.split(' ').skip(1).chain(["--url", url.as_str()]));
    assert_eq!(ended.exit, 0, "{}", ended.stderr);
    shop.until(&run, &["completed"]).await;

    // Several results and the step from which on it is done again stand in one command.
    let failed =
        shop.run_in(&["failed"], "payment/initiate", json!({ "userId": "u2", "amount": 990, "card": "declined", "hurry": true })).await;
    let shown = page(&shop, &format!("/runs/{failed}?do=replay&edit=load-user&edit=charge-card")).await;
    let edits: Vec<String> = deeds(&shown).into_iter().flat_map(|(_, commands)| commands).filter(|text| text.contains("--set")).collect();
    let [edits] = &edits[..] else { panic!("{edits:?}") };
    let begins = format!("stepwell replay {failed} --set 'load-user={{");
    assert!(edits.starts_with(&begins) && edits.contains("Ada Lovelace") && edits.ends_with("}' --set charge-card=null"), "{edits}");
}
