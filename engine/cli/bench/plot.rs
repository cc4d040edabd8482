//! Curves as SVG: both axes logarithmic, since what is drawn spans powers of ten.

use std::fmt::Write as _;

use serde::Serialize;

use super::report::short;

/// The folder of the pictures, beside the page.
const FOLDER: &str = "docs/plots";
/// Size of a picture, and of the room around the curves, in pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 60.0;
/// One colour a series; told apart in print and by colour-blind eyes too (https://jfly.uni-koeln.de/color/).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// One line of a picture.
#[derive(Debug, Clone, Serialize)]
pub struct Series {
    /// What it is.
    pub name: &'static str,
    /// Its points, from left to right; only those above 0 are drawn.
    pub points: Vec<(f64, f64)>,
}

/// A picture.
#[derive(Debug, Clone, Serialize)]
pub struct Curve {
    /// Its file's name, without `.svg`.
    pub file: &'static str,
    /// What it shows.
    pub title: &'static str,
    /// What is to the right.
    pub x: &'static str,
    /// What is above.
    pub y: &'static str,
    /// Its lines.
    pub series: Vec<Series>,
}

/// An axis: from the least to the most value, by powers of ten.
struct Axis {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// One that has room for all values; `from` and `to` are its ends in pixels.
    fn of(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Axis {
        let (mut least, mut most) = (f64::INFINITY, 0.0f64);
        for value in values.filter(|value| *value > 0.0) {
            (least, most) = (least.min(value), most.max(value));
        }
        if most == 0.0 {
            (least, most) = (1.0, 10.0);
        }
        // A little air, so that no point lies on the frame.
        Axis { least: (least / 1.5).log10(), most: (most * 1.5).log10(), from, to }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value.log10() - self.least) / (self.most - self.least) * (self.to - self.from)
    }

    /// The values that stand at the axis: 1, 2 and 5 of each power of ten.
    fn ticks(&self) -> Vec<f64> {
        let powers = self.least.floor() as i32..=self.most.ceil() as i32;
        let all = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
        all.filter(|value| (self.least..=self.most).contains(&value.log10())).collect()
    }
}

impl Curve {
    /// Where the picture lies, seen from the page's folder.
    pub fn link(&self) -> String {
        format!("{FOLDER}/{}.svg", self.file)
    }

    /// The picture.
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let across = Axis::of(points().map(|point| point.0), LEFT, WIDTH - RIGHT);
        let up = Axis::of(points().map(|point| point.1), HEIGHT - BOTTOM, TOP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"22\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
            self.title
        );
        // Writing to a String does not fail.
        for value in across.ticks() {
            let x = across.at(value);
            let (low, label) = (HEIGHT - BOTTOM, short(value));
            let _ = writeln!(svg, "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{low}\" stroke=\"#ddd\"/>");
            let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", low + 18.0);
        }
        for value in up.ticks() {
            let y = up.at(value);
            let _ = writeln!(svg, "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>", WIDTH - RIGHT);
            let _ = writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 8.0, y + 4.0, short(value));
        }
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        let _ = writeln!(svg, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>", HEIGHT - 14.0, self.x);
        let half = (TOP + HEIGHT - BOTTOM) / 2.0;
        let _ = writeln!(svg, "<text x=\"18\" y=\"{half}\" text-anchor=\"middle\" transform=\"rotate(-90 18 {half})\">{}</text>", self.y);
        for (at, series) in self.series.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let drawn: Vec<(f64, f64)> =
                series.points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0).map(|(x, y)| (across.at(*x), up.at(*y))).collect();
            let line: Vec<String> = drawn.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>", line.join(" "));
            for (x, y) in drawn {
                let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
            }
            let x = LEFT + 210.0 * at as f64;
            let _ = writeln!(svg, "<rect x=\"{x}\" y=\"36\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
            let _ = writeln!(svg, "<text x=\"{}\" y=\"46\">{}</text>", x + 18.0, series.name);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_each_point_within_its_frame_and_names_both_axes() {
        let series = |name, points: &[(f64, f64)]| Series { name, points: points.to_vec() };
        let lines = vec![series("ours", &[(1.0, 40.0), (10_000.0, 9_000.0)]), series("theirs", &[(1.0, 48.0), (0.0, 5.0)])];
        let curve = Curve { file: "x", title: "rate", x: "runs in flight", y: "calls a second", series: lines };
        let svg = curve.svg();
        for text in [">rate<", ">runs in flight<", ">calls a second<", ">ours<", ">theirs<", ">1,000<"] {
            assert!(svg.contains(text), "{text}\n{svg}");
        }
        let centres: Vec<(f64, f64)> = svg
            .lines()
            .filter(|line| line.starts_with("<circle"))
            .map(|line| {
                let numbers: Vec<f64> = line.split('"').skip(1).step_by(2).take(2).map(|text| text.parse().unwrap()).collect();
                (numbers[0], numbers[1])
            })
            .collect();
        assert_eq!(centres.len(), 3, "a value of 0 has no place on a logarithmic axis");
        assert!(centres.iter().all(|(x, y)| (LEFT..=WIDTH - RIGHT).contains(x) && (TOP..=HEIGHT - BOTTOM).contains(y)), "{centres:?}");
        assert!(centres[0].1 > centres[1].1 && centres[0].0 < centres[1].0, "more lies higher, later lies to the right: {centres:?}");
    }
}
