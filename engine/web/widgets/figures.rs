//! Figures drawn as SVG within the page: without styles or scripts of their own.

use maud::{Markup, html};

use super::Tone;

/// One line of a plot.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    /// What it shows.
    pub name: &'a str,
    /// Its values, oldest first; none where nothing is known.
    pub values: &'a [Option<f64>],
    /// Its colour.
    pub tone: Tone,
}

/// The width of a plot, in units of its own drawing.
const WIDTH: f64 = 240.0;
/// The height of a plot.
const HEIGHT: f64 = 56.0;

/// A line of a few values, as large as a word.
pub fn sparkline(values: &[f64], label: &str) -> Markup {
    let values: Vec<Option<f64>> = values.iter().copied().map(Some).collect();
    let most = top(values.iter().flatten().copied());
    let path = path(&values, most, 120.0, 24.0);
    html! {
        svg.spark viewBox="0 0 120 24" width="120" height="24" role="img" aria-label=(label) {
            title { (label) }
            path d=(path) class="line info" {}
        }
    }
}

/// A small plot with its last values beside it. All lines share one scale that begins at 0.
pub fn plot(lines: &[Line], label: &str, unit: &str) -> Markup {
    let most = top(lines.iter().flat_map(|line| line.values.iter().flatten().copied()));
    let told = lines.iter().map(|line| format!("{} {}", line.name, last(line, unit))).collect::<Vec<_>>().join(", ");
    html! {
        figure.plot {
            figcaption {
                span.muted { (label) }
                span.grow {}
                @for line in lines {
                    span.figure {
                        @if lines.len() > 1 { span class={ "key " (line.tone.class()) } aria-hidden="true" { "—" } span.muted.small { (line.name) } " " }
                        b { (last(line, unit)) }
                    }
                }
            }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label={ (label) ": " (told) } {
                line class="axis" x1="0" x2=(WIDTH) y1=(HEIGHT - 0.5) y2=(HEIGHT - 0.5) {}
                @for line in lines {
                    @if lines.len() == 1 { path class={ "area " (line.tone.class()) } d=(area(line.values, most)) {} }
                    path class={ "line " (line.tone.class()) } d=(path(line.values, most, WIDTH, HEIGHT)) vector-effect="non-scaling-stroke" {}
                }
            }
            div.scale.muted.small { span { "an hour ago" } span.grow {} @if most > 0.0 { span { "top " (number(most)) (unit) } } }
        }
    }
}

fn last(line: &Line, unit: &str) -> String {
    line.values.last().copied().flatten().map_or_else(|| "–".to_owned(), |value| format!("{}{unit}", number(value)))
}

/// A number in few digits.
pub(super) fn number(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.1}M", value / 1e6),
        value if value >= 1e4 => format!("{:.0}k", value / 1e3),
        value if value >= 10.0 || value.fract().abs() < 0.05 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

fn top(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, f64::max)
}

/// The points of values: a run of known ones each.
fn runs(values: &[Option<f64>], most: f64, width: f64, height: f64) -> Vec<Vec<(f64, f64)>> {
    let step = width / (values.len().max(2) - 1) as f64;
    let mut runs: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
    for (at, value) in values.iter().enumerate() {
        match (value, runs.last_mut()) {
            (Some(value), Some(run)) => {
                let share = if most > 0.0 { value / most } else { 0.0 };
                run.push((at as f64 * step, (height - 2.0) - share * (height - 5.0)));
            }
            _ => runs.push(Vec::new()),
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

fn path(values: &[Option<f64>], most: f64, width: f64, height: f64) -> String {
    let mut text = String::new();
    for run in runs(values, most, width, height) {
        for (at, (x, y)) in run.iter().enumerate() {
            text.push_str(&format!("{}{x:.1} {y:.1}", if at == 0 { 'M' } else { 'L' }));
        }
        // One value alone would be no line at all.
        if let [(x, y)] = run[..] {
            text.push_str(&format!("L{:.1} {y:.1}", (x + 1.0).min(width)));
        }
    }
    text
}

fn area(values: &[Option<f64>], most: f64) -> String {
    let mut text = String::new();
    for run in runs(values, most, WIDTH, HEIGHT) {
        if let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) {
            text.push_str(&format!("M{first:.1} {HEIGHT}"));
            run.iter().for_each(|(x, y)| text.push_str(&format!("L{x:.1} {y:.1}")));
            text.push_str(&format!("L{last:.1} {HEIGHT}Z"));
        }
    }
    text
}

/// How much of something is taken.
pub fn meter(value: u64, most: u64, label: &str) -> Markup {
    let share = if most == 0 { 0.0 } else { value as f64 / most as f64 }.min(1.0);
    let tone = if share >= 1.0 { "warn" } else { "info" };
    html! {
        span.meter {
            svg viewBox="0 0 100 6" width="100" height="6" preserveAspectRatio="none" role="img" aria-label={ (label) ": " (value) " of " (most) } {
                rect class="track" width="100" height="6" rx="3" {}
                rect class={ "fill " (tone) } width=(share * 100.0) height="6" rx="3" {}
            }
            span.num { (value) " / " (most) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_a_gap_where_nothing_is_known() {
        let values = [Some(1.0), Some(2.0), None, Some(4.0)];
        let drawn = path(&values, 4.0, 30.0, 10.0);
        assert_eq!(drawn.matches('M').count(), 2, "{drawn}");
        let shown = plot(&[Line { name: "runs", values: &values, tone: Tone::Info }], "Runs", "/min").into_string();
        assert!(shown.contains("<b>4/min</b>") && shown.contains("top 4/min"), "{shown}");
    }

    #[test]
    fn figures_without_values_are_drawn_empty() {
        assert!(sparkline(&[], "none").into_string().contains("d=\"\""));
        assert!(plot(&[Line { name: "a", values: &[], tone: Tone::Info }], "L", "").into_string().contains("<b>–</b>"));
        assert!(meter(0, 0, "m").into_string().contains("0 / 0"));
    }

    #[test]
    fn numbers_have_few_digits() {
        assert_eq!([0.0, 0.44, 3.0, 12.4, 12_345.0, 2_500_000.0].map(number), ["0", "0.4", "3", "12", "12k", "2.5M"]);
    }
}
