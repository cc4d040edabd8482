//! Rhai's functions that make a value of any size in one call: they look at the run's memory first.

use rhai::{Array, Blob, Dynamic, Engine, ImmutableString};

use super::super::attempt::current;
use super::super::error::{Fault, Thrown};

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("blob", |length: i64| made(length, 0));
    engine.register_fn("blob", made);
    engine.register_fn("pad", |array: &mut Array, length: i64, item: Dynamic| {
        let length = room(length, size_of::<Dynamic>())?;
        if length > array.len() {
            array.resize(length, item);
        }
        Ok::<(), Fault>(())
    });
    engine.register_fn("pad", |text: &mut ImmutableString, length: i64, letter: char| pad(text, length, letter.encode_utf8(&mut [0; 4])));
    engine.register_fn("pad", |text: &mut ImmutableString, length: i64, part: &str| pad(text, length, part));
}

fn made(length: i64, byte: i64) -> Result<Blob, Fault> {
    Ok(vec![byte as u8; room(length, 1)?])
}

/// Appends `part` until the text has `length` characters.
fn pad(text: &mut ImmutableString, length: i64, part: &str) -> Result<(), Fault> {
    let length = room(length, 4)?;
    let have = text.chars().count();
    if length > have && !part.is_empty() {
        let mut padded = text.to_string();
        padded.extend(part.chars().cycle().take(length - have));
        *text = padded.into();
    }
    Ok(())
}

/// A length that the run's memory has room for; 0 for a negative one.
fn room(length: i64, bytes_each: usize) -> Result<usize, Fault> {
    let most = current().map_or(64 * 1024 * 1024, |attempt| attempt.call.surroundings.limits.memory_bytes);
    let length = usize::try_from(length).unwrap_or(0);
    if (length as u64).saturating_mul(bytes_each as u64) > most {
        return Err(
            Thrown::last("E0412", format!("{length} items do not fit into the {} MB of memory of a run", most / (1024 * 1024))).fault()
        );
    }
    Ok(length)
}
