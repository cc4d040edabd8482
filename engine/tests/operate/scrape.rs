//! A strict reader of Prometheus' text format: whatever is not as its page says fails the test.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The labels of a sample, in order.
type Labels = Vec<(String, String)>;

/// The samples of one name, with their labels in order.
#[derive(Debug)]
pub struct Family {
    pub kind: String,
    /// By the sample's own name and its labels.
    pub samples: BTreeMap<(String, Labels), f64>,
}

/// The families of a page, by name, and those of them that were asked for.
#[derive(Debug)]
pub struct Page(pub BTreeMap<String, Family>, RefCell<BTreeSet<String>>);

impl Page {
    /// Reads a page.
    pub fn read(text: &str) -> Page {
        assert!(text.ends_with('\n'), "the last line ends");
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let rest = line.strip_prefix("# HELP ").unwrap_or_else(|| panic!("a family begins with its help: {line}"));
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && help.ends_with('.'), "{line}");
            let kind =
                lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} "))).unwrap_or_else(|| panic!("no type of {name}"));
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            let mut family = Family { kind: kind.to_owned(), samples: BTreeMap::new() };
            while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
                let (key, value) = read_sample(sample);
                let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.iter().any(|suffix| key.0 == format!("{name}{suffix}")), "{sample} is not of {name}");
                assert!(family.samples.insert(key, value).is_none(), "twice: {sample}");
            }
            family.check(name);
            assert!(families.insert(name.to_owned(), family).is_none(), "{name} stands twice");
        }
        Page(families, RefCell::default())
    }

    /// The value with these labels.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or_else(|| panic!("no {name} {labels:?} in {self:#?}"))
    }

    /// The value with these labels, if there is one.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let (family_name, family) =
            ["", "_bucket", "_sum", "_count"].iter().find_map(|suffix| self.0.get_key_value(name.strip_suffix(suffix)?))?;
        self.1.borrow_mut().insert(family_name.clone());
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        family.samples.get(&(name.to_owned(), labels)).copied()
    }

    /// The families of which no value was asked for.
    pub fn unread(&self) -> Vec<&String> {
        let read = self.1.borrow();
        self.0.keys().filter(|name| !read.contains(*name)).collect()
    }

    /// Every label's name.
    pub fn labels(&self) -> HashSet<String> {
        self.0.values().flat_map(|family| family.samples.keys()).flat_map(|(_, labels)| labels).map(|(name, _)| name.clone()).collect()
    }
}

impl Family {
    /// Whether the buckets of a histogram add up.
    fn check(&self, name: &str) {
        if self.kind != "histogram" {
            return;
        }
        let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        for ((sample, labels), count) in self.samples.iter().filter(|((sample, _), _)| sample.ends_with("_bucket")) {
            let (bound, rest): (Vec<_>, Vec<_>) = labels.iter().cloned().partition(|(label, _)| label == "le");
            assert_eq!(bound.len(), 1, "{sample} {labels:?}");
            let bound = if bound[0].1 == "+Inf" { f64::INFINITY } else { bound[0].1.parse().unwrap() };
            series.entry(rest).or_default().push((bound, *count));
        }
        for (labels, mut buckets) in series {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(buckets.is_sorted_by(|one, other| one.1 <= other.1), "{name} {labels:?}: {buckets:?}");
            let (bound, all) = buckets.last().unwrap();
            assert!(bound.is_infinite(), "{name} has no last bucket");
            assert_eq!(self.samples[&(format!("{name}_count"), labels.clone())], *all, "{name}");
            assert!(self.samples.contains_key(&(format!("{name}_sum"), labels)), "{name}");
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `name{label="value",…} 1.5`
fn read_sample(line: &str) -> ((String, Labels), f64) {
    let (head, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
    let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
    assert!(value.is_finite() && value >= 0.0, "{line}");
    let Some((name, labels)) = head.split_once('{') else {
        assert!(is_name(head), "{line}");
        return ((head.to_owned(), Vec::new()), value);
    };
    let mut rest = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
    let mut read = Vec::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        assert!(is_name(label), "{line}");
        let (mut value, mut escaped, mut end) = (String::new(), false, None);
        for (at, c) in after.char_indices() {
            match (escaped, c) {
                (true, 'n') => value.push('\n'),
                (true, '\\' | '"') => value.push(c),
                (true, _) => panic!("no such escape: {line}"),
                (false, '\\') => {}
                (false, '"') => {
                    end = Some(at);
                    break;
                }
                (false, c) => value.push(c),
            }
            escaped = !escaped && c == '\\';
        }
        read.push((label.to_owned(), value));
        rest = &after[end.unwrap_or_else(|| panic!("{line}")) + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    ((name.to_owned(), read), value)
}
