//! What a name in the journal and the back-off of a step may be: said once, for the checks of a handler and for its runs.

use rhai::Dynamic;

use crate::base::Span;
use crate::base::limits::STEP_NAME_BYTES;
use crate::rules::policy::Growth;

/// What a back-off may be.
pub(super) const BACK_OFFS: &str = "table, exponential, linear or fixed, or a duration, or #{ kind, initial, max, jitter }";

/// What is wrong with a name in the journal; `whose` begins the sentence: "a step's".
pub(super) fn wrong_name(whose: &str, name: &str) -> Option<String> {
    if name.is_empty() {
        Some(format!("{whose} name is empty"))
    } else if name.len() > STEP_NAME_BYTES {
        Some(format!("{whose} name has at most {STEP_NAME_BYTES} bytes; this one has {}", name.len()))
    } else if name.contains('#') {
        Some(format!("{whose} name has no `#`, which counts steps of the same name: `{name}`"))
    } else {
        None
    }
}

/// Whether a back-off that is a text is meant as the word for a kind, and not as a duration.
pub(super) fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// The kind of back-off that a word stands for.
///
/// # Errors
/// That it stands for none.
pub(super) fn growth(word: &str) -> Result<Growth, String> {
    let known = Growth::WORDS.iter().find(|(known, _)| *known == word);
    known.map(|(_, growth)| *growth).ok_or_else(|| format!("there is no back-off `{word}`"))
}

/// The share of a wait that is added or taken away at random.
///
/// # Errors
/// That it is none.
pub(super) fn jitter(value: &Dynamic) -> Result<f64, String> {
    let share = value.as_float().or_else(|_| value.as_int().map(|whole| whole as f64));
    let share = share.ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "jitter is a number from 0 to 1".to_owned())
}

/// What is wrong with a part that a back-off does not have.
pub(super) fn no_part(name: &str) -> String {
    format!("backoff has no `{name}`")
}

/// What is wrong with the waits of a back-off, as far as they are known.
pub(super) fn wrong_waits(initial: Option<Span>, max: Option<Span>) -> Option<String> {
    let (initial, max) = (initial?, max?);
    (initial > max).then(|| format!("the first wait, {initial}, is longer than the longest, {max}"))
}

/// What is wrong with a part of a back-off that one of this kind does not go by, and what helps.
pub(super) fn idle(growth: Growth, part: &str) -> Option<(String, String)> {
    growth.idle().contains(&part).then(|| {
        let message = format!("`{part}` has no effect on the back-off `{}`", growth.word());
        (message, format!("remove `{part}`, or choose `exponential` or `linear`"))
    })
}
