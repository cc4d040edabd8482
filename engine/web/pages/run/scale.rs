//! Where a time stands in the picture of a run: as it is, or with waits pressed together so that work can be seen beside them.

use crate::base::Millis;

/// The width of the picture, in units of its own.
pub const WIDTH: f64 = 1_000.0;

/// How times become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Waits are pressed together.
    Compress,
    /// All of it fits, in proportion.
    Fit,
    /// A second is always as wide.
    Real,
}

impl Mode {
    /// The mode of this word.
    pub fn of(word: Option<&str>) -> Mode {
        match word {
            Some("fit") => Mode::Fit,
            Some("real") => Mode::Real,
            _ => Mode::Compress,
        }
    }

    /// Its word in addresses.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Compress => "compress",
            Mode::Fit => "fit",
            Mode::Real => "real",
        }
    }
}

/// The places of times: straight lines between points, in both of which time and place grow.
#[derive(Debug, Clone)]
pub struct Scale {
    points: Vec<(i64, f64)>,
    /// The width of the picture in pixels, where it does not take what there is.
    pub width: Option<f64>,
}

/// How wide a second is where one is always as wide.
const SECOND: f64 = 60.0;

/// The widest picture, in pixels.
const WIDEST: f64 = 30_000.0;

/// Of the whole width, what one pressed wait may take at most.
const WAIT_SHARE: f64 = 0.12;

impl Scale {
    /// A scale from one time to another. `busy` are the times at which something was done, in any order.
    pub fn new(mode: Mode, from: Millis, to: Millis, busy: &[(Millis, Millis)]) -> Scale {
        let (from, to) = (from.0, to.0.max(from.0 + 1));
        if mode != Mode::Compress {
            let width = (mode == Mode::Real).then(|| ((to - from) as f64 / 1_000.0 * SECOND).clamp(300.0, WIDEST));
            return Scale { points: vec![(from, 0.0), (to, WIDTH)], width };
        }
        // The weight of each piece is its length, but a wait weighs at most as much as all work together.
        let busy = merged(busy, from, to);
        let work: i64 = busy.iter().map(|(start, end)| end - start).sum();
        let waits = gaps(&busy, from, to);
        let most = (work as f64 * WAIT_SHARE).max(1.0);
        let mut pieces: Vec<(i64, i64, f64)> =
            busy.iter().map(|(start, end)| (*start, *end, ((end - start) as f64).max(most * 0.05))).collect();
        pieces.extend(waits.iter().map(|(start, end)| (*start, *end, ((end - start) as f64).min(most))));
        pieces.sort_by_key(|(start, end, _)| (*start, *end));
        let total: f64 = pieces.iter().map(|(_, _, weight)| weight).sum::<f64>().max(1e-9);
        let mut points = vec![(from, 0.0)];
        let mut at = 0.0;
        for (_, end, weight) in pieces {
            at += weight / total * WIDTH;
            points.push((end, at.min(WIDTH)));
        }
        Scale { points, width: None }
    }

    /// The place of a time; those outside stand at the edge.
    pub fn x(&self, at: Millis) -> f64 {
        let after = self.points.partition_point(|(time, _)| *time <= at.0);
        match (after.checked_sub(1).and_then(|before| self.points.get(before)), self.points.get(after)) {
            (Some((low, x)), Some((high, y))) => x + (y - x) * (at.0 - low) as f64 / (high - low).max(1) as f64,
            (Some((_, x)), None) => *x,
            (None, _) => 0.0,
        }
    }
}

/// Times put together where they touch, within bounds.
pub fn merged(times: &[(Millis, Millis)], from: i64, to: i64) -> Vec<(i64, i64)> {
    let mut sorted: Vec<(i64, i64)> =
        times.iter().map(|(start, end)| (start.0.clamp(from, to), end.0.clamp(from, to))).filter(|(start, end)| start <= end).collect();
    sorted.sort_unstable();
    let mut merged: Vec<(i64, i64)> = Vec::new();
    for (start, end) in sorted {
        match merged.last_mut() {
            Some((_, last)) if start <= *last => *last = (*last).max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

fn gaps(busy: &[(i64, i64)], from: i64, to: i64) -> Vec<(i64, i64)> {
    let mut gaps = Vec::new();
    let mut at = from;
    for (start, end) in busy {
        if *start > at {
            gaps.push((at, *start));
        }
        at = at.max(*end);
    }
    if to > at {
        gaps.push((at, to));
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(list: &[(i64, i64)]) -> Vec<(Millis, Millis)> {
        list.iter().map(|(start, end)| (Millis(*start), Millis(*end))).collect()
    }

    #[test]
    fn places_grow_with_times_in_every_mode() {
        let busy = times(&[(0, 100), (3_600_100, 3_600_300), (3_600_300, 3_600_300)]);
        for mode in [Mode::Compress, Mode::Fit, Mode::Real] {
            let scale = Scale::new(mode, Millis(0), Millis(7_200_000), &busy);
            let places: Vec<f64> =
                [-5, 0, 50, 100, 1_000_000, 3_600_100, 3_600_200, 3_600_300, 7_200_000, 9_000_000].map(|at| scale.x(Millis(at))).to_vec();
            assert!(places.windows(2).all(|pair| pair[0] <= pair[1]), "{mode:?} {places:?}");
            assert_eq!(places[0], 0.0);
            assert!((places[9] - WIDTH).abs() < 1e-6, "{places:?}");
        }
    }

    #[test]
    fn an_hour_of_waiting_leaves_room_for_the_work() {
        let busy = times(&[(0, 100), (3_600_100, 3_600_300)]);
        let pressed = Scale::new(Mode::Compress, Millis(0), Millis(3_600_300), &busy);
        assert!(pressed.x(Millis(100)) > 250.0, "{}", pressed.x(Millis(100)));
        let whole = Scale::new(Mode::Fit, Millis(0), Millis(3_600_300), &busy);
        assert!(whole.x(Millis(100)) < 1.0);
    }

    #[test]
    fn a_run_that_has_done_nothing_has_a_scale_too() {
        let scale = Scale::new(Mode::Compress, Millis(5), Millis(5), &[]);
        assert_eq!(scale.x(Millis(5)), 0.0);
        assert!(scale.x(Millis(6)) > 0.0);
    }
}
