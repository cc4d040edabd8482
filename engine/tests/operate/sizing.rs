//! The figures that docs/operating.md gives for sizing, held against BENCHMARKS.md: whoever buys a machine by them must not be
//! promised more than was measured.

use crate::program::repository;

/// Which way a figure is a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// What something takes: no less is said than was measured.
    Takes,
    /// What the engine gives: no more is said than was measured.
    Gives,
}

/// Where a figure stands in BENCHMARKS.md: in the row's second column with this unit, or as its ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Figure(&'static str),
    Ratio,
}

/// What the section says, with `#` in a figure's place, and the row that it comes from.
const FIGURES: [(&str, &str, Of, Way); 7] = [
    ("takes # bytes with its event", "disk a 3-step run with its event", Of::Figure("bytes"), Way::Takes),
    ("# MB idle", "resident memory, idle", Of::Figure("MB"), Way::Takes),
    ("# MB after 100,000 runs", "resident memory after 100,000 runs", Of::Figure("MB"), Way::Takes),
    ("# bytes for each run that sleeps", "memory each, 1,000,000 runs that sleep", Of::Figure("bytes"), Way::Takes),
    ("# for one that has waited since before", "memory each, 1,000,000 runs that wait for an event", Of::Figure("bytes"), Way::Takes),
    ("# runs of three no-op steps a second", "3-step no-op runs, 100 events a request", Of::Figure("runs/s"), Way::Gives),
    ("# times as long as a one-row commit", "one unloaded 1-step run, sent to finished, p50", Of::Ratio, Way::Takes),
];
/// A figure that is further than so many times from what was measured helps nobody.
const FAR: f64 = 2.0;

fn number(text: &str) -> Option<f64> {
    text.replace(',', "").parse().ok()
}

/// What BENCHMARKS.md has of a row.
fn measured(page: &str, name: &str, of: Of) -> f64 {
    let mut rows = page.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<&str>>());
    let row = rows.find(|cells| cells.get(1) == Some(&name)).unwrap_or_else(|| panic!("BENCHMARKS.md has no row `{name}`"));
    let found = match of {
        Of::Figure(unit) => row[2].split_once(' ').filter(|(_, found)| *found == unit).and_then(|(text, _)| number(text)),
        Of::Ratio => number(row[4]),
    };
    found.unwrap_or_else(|| panic!("BENCHMARKS.md has no {of:?} in the row {row:?}"))
}

/// Takes a sentence out of a text: the text without it, and its figure from and to.
fn take(text: &str, sentence: &str) -> Option<(String, [f64; 2])> {
    let (before, after) = sentence.split_once('#').expect("a figure's place");
    let end = text.match_indices(after).map(|(at, _)| at).find(|at| text[..*at].ends_with(|c: char| c.is_ascii_digit()))?;
    let is_figure = |c: char| c.is_ascii_digit() || c == ',' || c == '.';
    // All of a figure's characters are a byte long.
    let start_of = |end: usize| end - text[..end].chars().rev().take_while(|c| is_figure(*c)).count();
    let last = start_of(end);
    let to = number(&text[last..end])?;
    let (start, from) = match text[..last].strip_suffix(" to ") {
        Some(head) => (start_of(head.len()), number(&text[start_of(head.len())..head.len()])?),
        None => (last, to),
    };
    let rest = text[..start].strip_suffix(before)?;
    Some((format!("{rest}{}", &text[end + after.len()..]), [from, to]))
}

/// The figures of the section that do not stand as they were measured.
fn wrong(section: &str, page: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut left = section.to_owned();
    for (sentence, row, of, way) in FIGURES {
        let Some((rest, [from, to])) = take(&left, sentence) else {
            wrong.push(format!("the section does not say `{sentence}`"));
            continue;
        };
        left = rest;
        let measured = measured(page, row, of);
        let is_kept = match way {
            Way::Takes => to >= measured,
            Way::Gives => from <= measured,
        };
        let is_near = to <= measured * FAR && from >= measured / FAR && from <= to;
        if !is_kept || !is_near {
            wrong.push(format!("`{sentence}` says {from} to {to}, and {measured} was measured ({row})"));
        }
    }
    // A figure that nobody holds against anything would grow old.
    wrong.extend(
        left.lines().filter(|line| line.contains(|c: char| c.is_ascii_digit())).map(|line| format!("held against nothing: {line}")),
    );
    wrong
}

fn read(name: &str) -> String {
    std::fs::read_to_string(repository().join(name)).unwrap()
}

#[test]
fn the_figures_for_sizing_promise_no_more_than_was_measured() {
    let operating = read("docs/operating.md");
    let section = operating.split_once("\n## Sizing\n").unwrap().1.split_once("\n## ").unwrap().0;
    let page = read("BENCHMARKS.md");
    assert_eq!(wrong(section, &page), Vec::<String>::new());
}

#[test]
fn a_figure_that_promises_too_much_or_is_held_against_nothing_is_found() {
    let operating = read("docs/operating.md");
    let section = operating.split_once("\n## Sizing\n").unwrap().1.split_once("\n## ").unwrap().0;
    let page = read("BENCHMARKS.md");
    for (sentence, ..) in FIGURES {
        let (before, after) = sentence.split_once('#').unwrap();
        let (rest, [from, to]) = take(section, sentence).unwrap_or_else(|| panic!("`{sentence}` is missing"));
        for figure in [from / 10.0, to * 10.0] {
            let changed = format!("{rest}\n{before}{figure:.3}{after}\n");
            let found = wrong(&changed, &page);
            assert!(found.len() == 1 && found[0].contains(sentence), "{figure}: {found:?}");
        }
        assert_eq!(wrong(&rest, &page), [format!("the section does not say `{sentence}`")]);
    }
    let more = format!("{section}\n| sockets | 4,000 at least |\n");
    assert_eq!(wrong(&more, &page), ["held against nothing: | sockets | 4,000 at least |"]);
}
