//! What a disk may hold after a power cut: all that was flushed, and of what was written since, anything.
//!
//! Of writes that no flush stands for, each sector may be there in any of the states that it went through, whatever became of
//! the others: so writes are torn, dropped and reordered. A sector is never half old and half new, and bytes beside those that
//! are written stay as they are, which SQLite counts on as well. Names of files, and their lengths where they are cut, change
//! in their order, as a journaling file system has it; a flush of a new file holds its name, too.

use std::collections::BTreeMap;

use super::super::Random;
use super::trace::{Call, FOLDER, What};

/// What disks and the page cache write at once.
const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// The files that are there, by name.
pub type Image = BTreeMap<&'static str, Vec<u8>>;

/// What becomes of writes that were not flushed.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    Nothing,
    Everything,
    /// The first ones are there, up to a write that is there in part.
    Torn,
    /// The first ones are there, of the others some pieces of this size.
    Scattered(usize),
}

impl Fate {
    pub const ALL: [Fate; 5] = [Fate::Nothing, Fate::Everything, Fate::Torn, Fate::Scattered(SECTOR), Fate::Scattered(PAGE)];

    pub fn any(random: &mut Random) -> Fate {
        Fate::ALL[random.below(Fate::ALL.len() as u64) as usize]
    }
}

/// The disk under a recorded engine, as of a moment.
#[derive(Default)]
pub struct Disk<'a> {
    files: Vec<File<'a>>,
    /// Names that were given to a file, or taken from it (none), and when that was done.
    names: Vec<(usize, &'static str, Option<usize>)>,
    /// So many of them are sure.
    sure_names: usize,
}

#[derive(Default)]
struct File<'a> {
    /// What was flushed.
    sure: Vec<u8>,
    /// The writes and changes of length since.
    since: Vec<&'a Call>,
}

impl<'a> Disk<'a> {
    /// Goes on by a call.
    pub fn take(&mut self, call: &'a Call) {
        match &call.what {
            What::Open(name) => {
                if !self.named(self.names.len()).contains_key(name) {
                    self.names.push((call.done, *name, Some(self.files.len())));
                    self.files.push(File::default());
                }
            }
            What::Remove(name) => self.names.push((call.done, *name, None)),
            What::Write { file, .. } | What::Resize { file, .. } => {
                let file = self.file(file);
                self.files[file].since.push(call);
            }
            What::Flush(FOLDER) => {
                let before = self.names.iter().take_while(|(done, ..)| *done < call.begun).count();
                self.sure_names = self.sure_names.max(before);
            }
            What::Flush(file) => {
                let file = self.file(file);
                self.files[file].flush(call.begun);
                let named = self.names.iter().position(|(.., named)| *named == Some(file)).unwrap();
                self.sure_names = self.sure_names.max(named + 1);
            }
            What::Say { .. } => {}
        }
    }

    /// What may be there after a cut at this moment.
    pub fn image(&self, fate: Fate, random: &mut Random) -> Image {
        let unsure = self.names.len() - self.sure_names;
        let taken = match fate {
            Fate::Nothing => 0,
            Fate::Everything => unsure,
            _ => up_to(unsure, random),
        };
        let named = self.named(self.sure_names + taken);
        named.into_iter().map(|(name, file)| (name, self.files[file].image(fate, random))).collect()
    }

    /// The files by name, after so many changes of names.
    fn named(&self, changes: usize) -> BTreeMap<&'static str, usize> {
        let mut named = BTreeMap::new();
        for (_, name, file) in &self.names[..changes] {
            match file {
                Some(file) => named.insert(*name, *file),
                None => named.remove(name),
            };
        }
        named
    }

    fn file(&self, name: &str) -> usize {
        self.named(self.names.len())[name]
    }
}

impl File<'_> {
    /// A flush that was begun then holds what had been written before.
    fn flush(&mut self, begun: usize) {
        let (held, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.since).into_iter().partition(|call| call.done < begun);
        held.into_iter().for_each(|call| carry_out(call, &mut self.sure));
        self.since = rest;
    }

    fn image(&self, fate: Fate, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.sure.clone();
        match fate {
            Fate::Nothing => {}
            Fate::Everything => self.since.iter().for_each(|call| carry_out(call, &mut bytes)),
            Fate::Torn | Fate::Scattered(_) => self.land(fate, &mut bytes, random),
        }
        bytes
    }

    /// What is written after a change of length is there only with it.
    fn land(&self, fate: Fate, bytes: &mut Vec<u8>, random: &mut Random) {
        let resized = self.since.iter().filter(|call| matches!(call.what, What::Resize { .. })).count();
        let mut resizes = up_to(resized, random);
        let mut writes = Vec::new();
        for call in &self.since {
            match &call.what {
                What::Write { from, bytes, .. } => writes.push((*from, &bytes[..])),
                _ => {
                    land(&writes, fate, bytes, random);
                    writes.clear();
                    if resizes == 0 {
                        return;
                    }
                    resizes -= 1;
                    carry_out(call, bytes);
                }
            }
        }
        land(&writes, fate, bytes, random);
    }
}

/// A number from 0 to `most`.
fn up_to(most: usize, random: &mut Random) -> usize {
    random.below(most as u64 + 1) as usize
}

fn carry_out(call: &Call, bytes: &mut Vec<u8>) {
    match &call.what {
        What::Write { from, bytes: written, .. } => put(bytes, *from, written),
        What::Resize { length, .. } => bytes.resize(*length, 0),
        _ => {}
    }
}

fn put(bytes: &mut Vec<u8>, from: usize, written: &[u8]) {
    let end = from + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[from..end].copy_from_slice(written);
}

/// Lets some writes come to the disk, as their fate has it.
fn land(writes: &[(usize, &[u8])], fate: Fate, bytes: &mut Vec<u8>, random: &mut Random) {
    // Half of the time no write is sure to be there.
    let sure = up_to(writes.len(), random) * up_to(1, random);
    let (unit, last) = match fate {
        Fate::Scattered(unit) => (unit, writes.len()),
        _ => (SECTOR, writes.len().min(sure + 1)),
    };
    for (from, written) in &writes[..sure] {
        put(bytes, *from, written);
    }
    let mut pieces: BTreeMap<usize, Vec<(usize, &[u8])>> = BTreeMap::new();
    for (from, written) in &writes[sure..last] {
        let mut at = *from;
        while at < from + written.len() {
            let end = (at / unit + 1).saturating_mul(unit).min(from + written.len());
            pieces.entry(at / unit).or_default().push((at, &written[at - from..end - from]));
            at = end;
        }
    }
    for piece in pieces.into_values() {
        // The piece was written out after so many of the writes to it.
        let landed = up_to(piece.len(), random);
        piece[..landed].iter().for_each(|(from, written)| put(bytes, *from, written));
    }
}
