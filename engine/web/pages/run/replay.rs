//! The menu that does a run again: from its start, from a step, or with other results of steps.

use maud::{Markup, html};
use url::form_urlencoded;

use crate::base::size;
use crate::rules::Kind;
use crate::server::view::StepView;
use crate::web::Ask;
use crate::web::actions;
use crate::web::widgets::{self, Tone};

use super::timeline::step_id;

/// Bytes of a result up to which it stands in its field unasked.
const UNASKED_BYTES: usize = 4 * 1024;
/// Steps up to which each field lists them itself: those of a long run would make most of its page.
const LISTED: usize = 100;
/// What does the same as the form of edits.
const COMMAND: &str = "stepwell replay {run}[ --from {from_step}][ --set {set_step=set_value}]";

/// What stands in the place of the menu while a run is in flight, and says why it cannot be done again.
pub fn later(id: &str, is_open: bool) -> Markup {
    html! {
        details.menu open[is_open] {
            summary.button data-key="r" { "Replay ▾" }
            div.stack {
                p { "Only a run that has ended or is parked is replayed. Cancel this one first, or wait for its end." }
                p.small { (widgets::command(&format!("stepwell runs cancel {id}"))) }
                p.small { (widgets::command(&format!("stepwell replay {id}"))) }
            }
        }
    }
}

/// The menu, with the steps that have ended.
pub fn menu(ask: &Ask, id: &str, recorded: &[&StepView], is_open: bool) -> Markup {
    let chosen = ask.one("step").and_then(|named| recorded.iter().find(|step| step_id(step) == named)).or(recorded.first());
    html! {
        details.menu.wide-menu open[is_open || ask.has("edit")] {
            summary.button data-key="r" { "Replay ▾" }
            div.stack {
                p.small.muted { "A replay is a new run on the newest handler. What is done again has its effects again." }
                form.stack method="post" action="/do/replay" {
                    input type="hidden" name="run" value=(id);
                    div.row { (actions::submit(ask, "Replay from start", &format!("stepwell replay {id}"), Tone::Info, None)) }
                    (actions::command("", "stepwell replay {run}", &[("run", id)]))
                }
                @if let Some(chosen) = chosen {
                    form.stack method="post" action="/do/replay" {
                        input type="hidden" name="run" value=(id);
                        div.row {
                            label { span { "From step" } (choice("from_step", recorded, Some(&chosen.key), None)) }
                            (actions::submit(ask, "Replay from step", "", Tone::Plain, None))
                        }
                        (actions::command("", "stepwell replay {run} --from {from_step}", &[("run", id), ("from_step", &chosen.key)]))
                    }
                    (edits(ask, id, recorded))
                    @if recorded.len() > LISTED {
                        datalist id="recorded" { @for step in recorded { option value=(step.key) {} } }
                    }
                }
            }
        }
    }
}

/// A field that says which step is meant; `none` is what an empty one means. The steps of a long run are listed once for all such fields.
fn choice(name: &str, of: &[&StepView], chosen: Option<&str>, none: Option<&str>) -> Markup {
    html! {
        @if of.len() > LISTED {
            input name=(name) list="recorded" value=[chosen] placeholder=[none] required[none.is_none()] autocomplete="off" spellcheck="false";
        } @else {
            select name=(name) {
                @if let Some(none) = none { option value="" { (none) } }
                @for step in of { option value=(step.key) selected[chosen == Some(&*step.key)] { (step.key) } }
            }
        }
    }
}

/// The result of a step as a field holds it.
fn result(step: &StepView) -> &str {
    step.output.as_ref().map_or("null", |output| output.get())
}

/// With other results: those of the steps that the address names, which come along only then where they are large.
fn edits(ask: &Ask, id: &str, recorded: &[&StepView]) -> Markup {
    let editable: Vec<&StepView> = recorded.iter().copied().filter(|step| step.kind != Kind::Sleep).collect();
    let is_named = |step: &&StepView| ask.all_of("edit").any(|key| key == step.key);
    let mut edited: Vec<&StepView> = editable.iter().copied().filter(is_named).collect();
    let last = editable.iter().copied().rfind(|step| step.output.is_some() || step.error.is_some());
    if edited.is_empty() {
        edited.extend(last.filter(|step| result(step).len() <= UNASKED_BYTES));
    }
    let others: Vec<&StepView> = editable.iter().copied().filter(|step| !edited.iter().any(|known| known.key == step.key)).collect();
    let Some(chosen) = edited.first().copied().or(last).or(editable.first().copied()) else { return html! {} };
    let mut fields = vec![("run", id)];
    fields.extend(edited.iter().flat_map(|step| [("set_step", step.key.as_str()), ("set_value", result(step))]));
    html! {
        // To choose a step loads its result: that of another one is never sent for it.
        form.row method="get" action={ (ask.path()) "#do" } data-auto {
            input type="hidden" name="do" value="replay";
            label { span { "With another result of" } (choice("edit", &editable, Some(&chosen.key), None)) }
            button type="submit" { "Choose" @if edited.is_empty() { " (" (size(result(chosen).len() as u64)) ")" } }
        }
        @if !edited.is_empty() {
            @if !others.is_empty() {
                form.row method="get" action={ (ask.path()) "#do" } {
                    input type="hidden" name="do" value="replay";
                    @for step in &edited { input type="hidden" name="edit" value=(step.key); }
                    label { span { "and of" } (choice("edit", &others, None, None)) }
                    button type="submit" { "Add" }
                }
            }
            form.stack method="post" action="/do/replay" {
                input type="hidden" name="run" value=(id);
                @for step in &edited {
                    input type="hidden" name="set_step" value=(step.key);
                    label { span { "Result of " (step.key) " (JSON)" } textarea.mono name="set_value" rows="4" spellcheck="false" { (result(step)) } }
                    @if edited.len() > 1 { p.small { a href=(without(ask, &edited, &step.key)) { "Leave " (step.key) " as it was" } } }
                }
                div.row {
                    label { span { "From step" } (choice("from_step", recorded, None, Some("after the last of these"))) }
                    (actions::submit(ask, "Replay with this", "", Tone::Plain, None))
                }
                (actions::command("", COMMAND, &fields))
            }
        }
    }
}

/// The page with one result less to be edited.
fn without(ask: &Ask, edited: &[&StepView], key: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("do", "replay");
    query.extend_pairs(edited.iter().filter(|step| step.key != key).map(|step| ("edit", &*step.key)));
    format!("{}?{}#do", ask.path(), query.finish())
}
