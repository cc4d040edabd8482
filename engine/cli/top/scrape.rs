//! What `/metrics` answers, read, and the difference of two of its answers.

use std::collections::BTreeMap;

/// One value of one name.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    labels: Vec<(String, String)>,
    value: f64,
}

/// What a scrape gave, and when.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scrape {
    /// By name, since everything is asked for by it, and a function adds some dozens.
    samples: BTreeMap<String, Vec<Sample>>,
    /// On a clock that only ever grows, in microseconds.
    pub micros: u64,
}

impl Scrape {
    /// Reads an answer; a line that is none of the format is left out.
    pub fn read(text: &str, micros: u64) -> Scrape {
        let mut samples: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
        for (name, sample) in text.lines().filter(|line| !line.starts_with('#')).filter_map(sample) {
            samples.entry(name).or_default().push(sample);
        }
        Scrape { samples, micros }
    }

    fn of<'a>(&'a self, name: &str, labels: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples.get(name).into_iter().flatten().filter(move |sample| {
            let has = |(label, value): &(&str, &str)| sample.labels.iter().any(|(known, is)| known == label && is == value);
            labels.iter().all(has)
        })
    }

    /// All values of this name with these labels, together.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        // The sum of no floats is -0.0, and would be shown as that.
        self.of(name, labels).map(|sample| sample.value).fold(0.0, |all, value| all + value)
    }

    /// The values that a label has in a family.
    pub fn values(&self, name: &str, label: &str) -> Vec<String> {
        let mut values: Vec<String> = Vec::new();
        for sample in self.of(name, &[]) {
            let value = sample.labels.iter().find(|(known, _)| known == label).map(|(_, value)| value);
            if let Some(value) = value.filter(|value| !values.contains(value)) {
                values.push(value.clone());
            }
        }
        values
    }

    /// How much a counter has grown a second since the scrape before.
    pub fn rate(&self, before: &Scrape, name: &str, labels: &[(&str, &str)]) -> f64 {
        let seconds = self.micros.saturating_sub(before.micros) as f64 / 1e6;
        // An engine that has started anew counts from zero.
        let grown = (self.sum(name, labels) - before.sum(name, labels)).max(0.0);
        if seconds > 0.0 { grown / seconds } else { 0.0 }
    }

    /// A bound that this share of what a histogram has counted since the scrape before does not exceed; none where it has counted
    /// nothing.
    pub fn quantile(&self, before: &Scrape, name: &str, labels: &[(&str, &str)], share: f64) -> Option<f64> {
        let name = format!("{name}_bucket");
        let mut buckets: BTreeMap<u64, f64> = BTreeMap::new();
        for (scrape, sign) in [(self, 1.0), (before, -1.0)] {
            for sample in scrape.of(&name, labels) {
                let bound = sample.labels.iter().find(|(label, _)| label == "le").map(|(_, bound)| bound.as_str())?;
                let bound: f64 = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
                // Positive floats are in the order of their bits.
                *buckets.entry(bound.to_bits()).or_default() += sign * sample.value;
            }
        }
        let all = *buckets.values().next_back()?;
        let found = buckets.iter().find(|(_, count)| all > 0.0 && **count >= all * share)?;
        Some(f64::from_bits(*found.0))
    }
}

/// `name{label="value",…} 1.5`
fn sample(line: &str) -> Option<(String, Sample)> {
    let (head, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = head.split_once('{') else {
        return Some((head.to_owned(), Sample { labels: Vec::new(), value }));
    };
    let mut rest = labels.strip_suffix('}')?;
    let mut read = Vec::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"")?;
        let mut text = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => text.push('\n'),
                    other => text.push(other),
                },
                (_, other) => text.push(other),
            }
        };
        read.push((label.trim_start_matches(',').to_owned(), text));
        rest = &after[end + 1..];
    }
    Some((name.to_owned(), Sample { labels: read, value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(count: f64, fast: f64, slow: f64) -> String {
        format!(
            "# HELP x Help.\n# TYPE x counter\nx_total{{f=\"a\\\"b\",s=\"c,d\"}} {count}\nx_total{{f=\"e\",s=\"c,d\"}} 1\n\
             h_bucket{{le=\"0.1\"}} {fast}\nh_bucket{{le=\"2\"}} {slow}\nh_bucket{{le=\"+Inf\"}} {slow}\nplain 7.5\nno sample\n"
        )
    }

    #[test]
    fn answers_are_read_and_compared() {
        let (before, after) = (Scrape::read(&page(1.0, 10.0, 10.0), 0), Scrape::read(&page(5.0, 12.0, 18.0), 2_000_000));
        assert_eq!((after.sum("x_total", &[]), after.sum("x_total", &[("f", "a\"b")]), after.sum("plain", &[])), (6.0, 5.0, 7.5));
        assert_eq!(after.values("x_total", "f"), ["a\"b", "e"]);
        assert_eq!(after.rate(&before, "x_total", &[("s", "c,d")]), 2.0);
        assert_eq!(before.rate(&after, "x_total", &[]), 0.0);
        assert_eq!((after.quantile(&before, "h", &[], 0.25), after.quantile(&before, "h", &[], 0.99)), (Some(0.1), Some(2.0)));
        assert_eq!(after.quantile(&after, "h", &[], 0.5), None);
    }
}
