//! `cron`: starts by the clock.

use jiff::tz::TimeZone;
use schemars::JsonSchema;

use crate::base::diagnostic::nearest;
use crate::base::{Diagnostic, Span};
use crate::rules::cron::{self, Missed, Schedule};

use super::super::reader::{Fields, MapShape, Reader, Value, choose, out_of_range};
use super::super::spanned::{Spanned, or};
use super::super::tree::{Node, Shape};

/// Most schedules of one function: of more nobody sees any more when it starts.
pub(in crate::config) const SCHEDULES_MOST: usize = 10;

/// Starts a function by the clock.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Cron {
    /// Minute, hour, day of the month, month, day of the week: `0 7 * * MON-FRI`. A sixth field before them is the
    /// second; `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly` are short for the usual ones.
    #[schemars(required)]
    pub schedule: Option<Spanned<String>>,
    /// The time zone, such as `Europe/Berlin`; default UTC.
    pub tz: Option<Spanned<String>>,
    /// The most time that a start is delayed at random, at most the shortest time between two starts; default none.
    pub jitter: Option<Spanned<Span>>,
    /// What becomes of starts that were missed while the engine did not run: `skip` leaves them out, `run-once` (default)
    /// makes up for all of them by one start, `run-all` for each.
    pub missed: Option<Spanned<Missed>>,
}

impl Cron {
    /// The schedule as the rules take it; none where it cannot be read, which was told before.
    pub fn policy(&self) -> Option<cron::Cron> {
        let zone = zone(self.tz.as_ref().map(|zone| zone.value.as_str()))?;
        Some(cron::Cron {
            schedule: Schedule::new(&self.schedule.as_ref()?.value, zone).ok()?,
            jitter: self.jitter(),
            missed: self.missed(),
        })
    }

    /// The most time that a start is delayed.
    pub fn jitter(&self) -> Span {
        or(&self.jitter, Span(0))
    }

    /// What becomes of missed starts.
    pub fn missed(&self) -> Missed {
        or(&self.missed, Missed::RunOnce)
    }

    fn check(&self, reader: &mut Reader) {
        if let Some(problem) = self.tz.as_ref().and_then(zone_problem) {
            reader.note(problem);
        }
        let Some(schedule) = &self.schedule else { return };
        match Schedule::new(&schedule.value, TimeZone::UTC) {
            Ok(schedule) => self.check_jitter(&schedule, reader),
            Err(bad) => {
                let place = schedule.place.within(&schedule.value, bad.range);
                let problem = Diagnostic::error("E0127", bad.message).labelled(place, bad.expected);
                reader.note(match bad.help {
                    Some(help) => problem.help(help),
                    None => problem,
                });
            }
        }
    }

    /// A start that may be delayed beyond the next one would leave that one no time of its own.
    fn check_jitter(&self, schedule: &Schedule, reader: &mut Reader) {
        let Some(jitter) = self.jitter.as_ref().filter(|jitter| jitter.value > Span(0)) else { return };
        let Some(between) = schedule.shortest_gap().filter(|between| jitter.value > *between) else { return };
        let problem = out_of_range(&jitter.place, &format!("a jitter of {}", jitter.value), &format!("at most {between}"));
        reader.note(problem.help(format!("`{}` has two starts {between} apart", schedule.text())));
    }
}

fn zone(name: Option<&str>) -> Option<TimeZone> {
    name.map_or(Some(TimeZone::UTC), |name| TimeZone::get(name).ok())
}

fn zone_problem(name: &Spanned<String>) -> Option<Diagnostic> {
    if zone(Some(&name.value)).is_some() {
        return None;
    }
    let problem = Diagnostic::error("E0131", format!("there is no time zone `{}`", name.value)).at(name.place.clone());
    let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    // Many write the city alone.
    let city = known.iter().find(|zone| zone.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(name.value.trim())));
    let near = city.map(String::as_str).or_else(|| nearest(&name.value, known.iter().map(String::as_str)));
    Some(match near {
        Some(right) => problem.help(format!("did you mean `{right}`?")),
        None => problem.help("a zone is named by continent and city, such as `Europe/Berlin` or `America/New_York`, or it is `UTC`"),
    })
}

impl MapShape for Cron {
    const NAME: &'static str = "Cron";
}

impl Value for Cron {
    fn read(node: &Node, reader: &mut Reader) -> Option<Cron> {
        let cron = if let Shape::Text(schedule) = &node.shape {
            Cron { schedule: Some(Spanned::new(schedule.clone(), node.place.clone())), ..Cron::default() }
        } else {
            let mut fields = Fields::of::<Cron>(node, "`cron`", reader)?;
            let cron = Cron {
                schedule: fields.required("schedule"),
                tz: fields.optional("tz"),
                jitter: fields.optional("jitter"),
                missed: fields.optional("missed"),
            };
            fields.done();
            cron
        };
        cron.check(reader);
        Some(cron)
    }
}

/// One schedule, or a list of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::config) struct Crons(pub Vec<Cron>);

impl Value for Crons {
    fn read(node: &Node, reader: &mut Reader) -> Option<Crons> {
        let Shape::List(items) = &node.shape else {
            return Cron::read(node, reader).map(|cron| Crons(vec![cron]));
        };
        reader.refuse_empty(node, "`cron` names no schedule");
        if let Some(more) = items.get(SCHEDULES_MOST) {
            let problem = Diagnostic::error("E0111", format!("a function has at most {SCHEDULES_MOST} schedules"));
            reader.note(problem.labelled(more.place.clone(), "one too many"));
        }
        let crons: Vec<Cron> = items.iter().filter_map(|item| Cron::read(item, reader)).collect();
        check_each_once(&crons, reader);
        Some(Crons(crons))
    }
}

/// Two of the same times would start two runs each time. Where a function stands is stored by the schedule, besides.
fn check_each_once(crons: &[Cron], reader: &mut Reader) {
    let read = |cron: &Cron| Some((cron.schedule.clone()?, cron.policy()?.schedule));
    let all: Vec<(Spanned<String>, Schedule)> = crons.iter().filter_map(read).collect();
    for (at, (text, schedule)) in all.iter().enumerate() {
        let Some((first, _)) = all[..at].iter().find(|(_, other)| other.is_same(schedule)) else { continue };
        let message = if first.value.trim() == text.value.trim() {
            format!("the schedule `{}` is listed twice", text.value)
        } else {
            format!("`{}` is the same schedule as `{}`", text.value, first.value)
        };
        let place = |text: &Spanned<String>| text.place.within(&text.value, 0..text.value.len());
        let problem = Diagnostic::error("E0104", message).labelled(place(text), "again here").labelled(place(first), "first here");
        reader.note(problem.help("each would start a run of its own: remove one, or give it another time or `tz`"));
    }
}

impl Value for Missed {
    fn read(node: &Node, reader: &mut Reader) -> Option<Missed> {
        choose(node, &Missed::WORDS, reader)
    }
}
