//! How long the disk takes to make something durable.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::clock;

use super::Check;

/// A slower flush should be known, in microseconds.
const FLUSH_SLOW: u64 = 20_000;
/// Flushes that are measured; the middle one counts.
const FLUSHES: usize = 5;
/// Bytes of each: a page of the database.
const FLUSHED_BYTES: usize = 4_096;

/// How long the disk takes to make something durable: what a commit waits for.
pub(super) fn flush(folder: &Path) -> Check {
    let path = folder.join(format!(".stepwell-doctor-{}", std::process::id()));
    let measured = measure(&path);
    // One that was not made need not go; one that stays is a few KB.
    let _ = std::fs::remove_file(&path);
    match measured {
        Ok(micros) => {
            let text = format!("the disk takes {}.{} ms for a flush; each commit waits for one", micros / 1_000, micros % 1_000 / 100);
            let slow = "commits of many runs share one, so throughput suffers less than each run; a disk with a cache that outlives a \
                        loss of power is faster, and `durability: normal` waits for none";
            if micros > FLUSH_SLOW { Check::note("flush", text, slow) } else { Check::well("flush", text) }
        }
        Err(error) => {
            let advice = format!("the user that runs the engine has to be able to write there: look at `ls -ld {}`", folder.display());
            Check::ill("flush", format!("nothing can be written to {}: {error}", folder.display()), advice)
        }
    }
}

fn measure(path: &Path) -> std::io::Result<u64> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut micros = [0; FLUSHES];
    for took in &mut micros {
        file.write_all(&[0; FLUSHED_BYTES])?;
        let began = clock::micros();
        file.sync_data()?;
        *took = clock::micros().saturating_sub(began);
    }
    micros.sort_unstable();
    Ok(micros[FLUSHES / 2])
}
