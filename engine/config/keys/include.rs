//! `include`: further files, found by path or pattern.

use std::path::Path;

/// Whether a path (parts joined by `/`) fits a pattern: `*` and `?` within a part, `**` for any number of parts.
fn fits(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => fits(rest, path) || path.split_first().is_some_and(|(_, later)| fits(pattern, later)),
        (Some((part, rest)), Some((name, later))) => part_fits(part.as_bytes(), name.as_bytes()) && fits(rest, later),
        _ => false,
    }
}

fn part_fits(pattern: &[u8], name: &[u8]) -> bool {
    // The place to go back to: after the last star, with one more character under it.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(b'?') => (p, n) = (p + 1, n + 1),
            Some(c) if *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((after, under)) = star else { return false };
                (p, n) = (after, under + 1);
                star = Some((after, under + 1));
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// Whether an entry of `include` is a pattern.
pub(in crate::config) fn is_pattern(entry: &str) -> bool {
    entry.contains(['*', '?'])
}

/// Deepest folder that a pattern looks into; deeper ones are a link that leads back up.
const FOLDERS_DEEP: usize = 16;

/// The files below `root` that fit a pattern, as paths relative to `root` with `/`, sorted. Hidden folders are left out.
pub(in crate::config) fn find(root: &Path, pattern: &str) -> Vec<String> {
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let mut found = Vec::new();
    let mut folders = vec![(root.to_owned(), String::new(), 0)];
    let deepest = if parts.contains(&"**") { FOLDERS_DEEP } else { parts.len() };
    while let Some((folder, name, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Some(own) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let path = if name.is_empty() { own.clone() } else { format!("{name}/{own}") };
            let hidden = own.starts_with('.');
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !hidden && depth + 1 < deepest => folders.push((entry.path(), path, depth + 1)),
                Ok(kind) if !kind.is_dir() && fits(&parts, &path.split('/').collect::<Vec<_>>()) => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_within_a_part_and_over_parts() {
        let fit = |pattern: &str, path: &str| fits(&pattern.split('/').collect::<Vec<_>>(), &path.split('/').collect::<Vec<_>>());
        assert!(fit("functions/*.yaml", "functions/a.yaml"));
        assert!(!fit("functions/*.yaml", "functions/b/a.yaml"));
        assert!(fit("**/*.yaml", "functions/b/a.yaml"));
        assert!(fit("**/*.yaml", "a.yaml"));
        assert!(fit("a?c*e", "abcde"));
        assert!(fit("*a*b*", "xaxxbx"));
        assert!(!fit("*a*b", "xaxxbx"));
    }
}
