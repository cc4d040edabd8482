//! Compares what a command printed with what a page shows. A line `...` stands for any lines, `[..]` for anything within
//! a line. Columns may be set differently: any run of spaces is one space. Words that are other ones each time (ids, points
//! in time, lengths of time below a minute) may be any of their kind, so that a page can show real ones.

/// Whether the lines of `output` are what `expected` shows.
pub fn fits(expected: &[String], output: &str) -> bool {
    let output: Vec<String> = output.trim_end().lines().map(even).collect();
    let mut expected: Vec<String> = expected.iter().map(|line| even(line)).collect();
    while expected.last().is_some_and(String::is_empty) {
        expected.pop();
    }
    lines_fit(&expected, &output)
}

fn even(line: &str) -> String {
    line.split_whitespace().map(steady).collect::<Vec<_>>().join(" ")
}

/// One word for all words of a kind that differ from run to run.
fn steady(word: &str) -> &str {
    let number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let word_alone = word.trim_matches(['(', ')', ':', ';', ',']);
    let length = word_alone.trim_start_matches('<');
    if length.strip_suffix("ms").or_else(|| length.strip_suffix('s')).is_some_and(number) {
        return "«length»";
    }
    if word_alone.len() == 13 && word_alone.starts_with('0') && word_alone.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase()) {
        return "«id»";
    }
    let time = word_alone.strip_suffix('Z').and_then(|time| time.split_once('T'));
    if time.is_some_and(|(date, time)| number(&date.replace('-', "")) && number(&time.replace(':', ""))) {
        return "«time»";
    }
    word
}

fn lines_fit(expected: &[String], output: &[String]) -> bool {
    match expected.split_first() {
        None => output.is_empty(),
        Some((first, rest)) if first == "..." => (0..=output.len()).any(|skipped| lines_fit(rest, &output[skipped..])),
        Some((first, rest)) => output.split_first().is_some_and(|(line, after)| line_fits(first, line) && lines_fit(rest, after)),
    }
}

fn line_fits(expected: &str, line: &str) -> bool {
    match expected.split_once("[..]") {
        None => expected == line,
        Some((start, rest)) => line.strip_prefix(start).is_some_and(|after| {
            after.char_indices().map(|(at, _)| at).chain([after.len()]).any(|skipped| line_fits(rest, &after[skipped..]))
        }),
    }
}

#[test]
fn wildcards_stand_for_lines_and_for_parts_of_lines() {
    let fits = |expected: &str, output: &str| fits(&expected.lines().map(str::to_owned).collect::<Vec<_>>(), output);
    assert!(fits("a\n...\nd", "a\nb\nc\nd\n"));
    assert!(fits("...\nd\n...", "d"));
    assert!(fits("[..] of [..] bytes", "part 1  of\t12 bytes\n\n"));
    assert!(fits("", "\n"));
    assert!(!fits("", "b"));
    assert!(!fits("a\n...\nd", "a\nb"));
    assert!(!fits("a [..] b", "a c"));
    assert!(!fits("a", "a\nb"));
}

#[test]
fn ids_and_times_may_be_any_of_their_kind() {
    let fits = |expected: &str, output: &str| fits(&[expected.to_owned()], output);
    assert!(fits("run 0amv44p7m0001 took 12ms", "run 0bmv44p7m0002 took <1ms"));
    assert!(fits("at 2026-11-24T23:03:12.243Z", "at 2027-01-01T00:00:00Z"));
    assert!(fits("failed after 1.0s: no", "failed after <1ms: no"));
    assert!(!fits("ended in 1s", "ended in 14d"));
    assert!(!fits("run 0amv44p7m0001", "run something"));
    assert!(!fits("3 s", "4 s"));
}
