//! What is different between two texts, line by line.

/// Lines of each text that are compared; longer texts are told as replaced.
const LINES_MOST: usize = 3_000;

/// A line of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// It is in both.
    Same(&'a str),
    /// It is in the first one alone.
    Gone(&'a str),
    /// It is in the second one alone.
    New(&'a str),
}

/// Every line of both texts, in order, with the fewest changes.
pub fn compare<'a>(before: &'a str, after: &'a str) -> Vec<Line<'a>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same_head = old.iter().zip(&new).take_while(|(one, other)| one == other).count();
    let left = old.len().min(new.len()) - same_head;
    let same_tail = old.iter().rev().zip(new.iter().rev()).take(left).take_while(|(one, other)| one == other).count();
    let (mid_old, mid_new) = (&old[same_head..old.len() - same_tail], &new[same_head..new.len() - same_tail]);
    let mut lines: Vec<Line<'a>> = old[..same_head].iter().map(|line| Line::Same(line)).collect();
    if mid_old.len() > LINES_MOST || mid_new.len() > LINES_MOST {
        lines.extend(mid_old.iter().map(|line| Line::Gone(line)));
        lines.extend(mid_new.iter().map(|line| Line::New(line)));
    } else {
        middle(mid_old, mid_new, &mut lines);
    }
    lines.extend(old[old.len() - same_tail..].iter().map(|line| Line::Same(line)));
    lines
}

/// The longest common subsequence (https://en.wikipedia.org/wiki/Longest_common_subsequence), by the table of its lengths.
fn middle<'a>(old: &[&'a str], new: &[&'a str], lines: &mut Vec<Line<'a>>) {
    let width = new.len() + 1;
    let mut common = vec![0_u16; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            lines.push(Line::Gone(old[i]));
            i += 1;
        } else {
            lines.push(Line::New(new[j]));
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_stay_are_told_apart_from_those_that_change() {
        let found = compare("a\nb\nc\nd\n", "a\nx\nc\nd\ne\n");
        assert_eq!(found, [Line::Same("a"), Line::Gone("b"), Line::New("x"), Line::Same("c"), Line::Same("d"), Line::New("e")]);
        assert_eq!(compare("a", "a"), [Line::Same("a")]);
        assert_eq!(compare("", "a"), [Line::New("a")]);
        assert_eq!(compare("a\na\na", "a"), [Line::Same("a"), Line::Gone("a"), Line::Gone("a")]);
    }
}
