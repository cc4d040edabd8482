//! A number of bytes in words, as every page and command says it.

/// The units, which count by 1024 as those of the config do.
const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];

/// A number of bytes for people: `812 KB`, `3.4 GB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes.div_ceil(1024) as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 100.0 { format!("{value:.0} {}", UNITS[unit]) } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let sizes =
            [(0, "0 KB"), (1, "1 KB"), (1_048_576, "1.0 MB"), (3_650_722_201, "3.4 GB"), (200 << 30, "200 GB"), (7 << 40, "7.0 TB")];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
    }
}
