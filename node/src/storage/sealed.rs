//! A file whose pages are checked: a read answers what was written, or an error.
//!
//! redb keeps a checksum of each page and looks at it only when it repairs a file, so a bit that a disk turned would be
//! read as a value, shown, and sent on. Here every page has a seal, the xxh3 of its content seeded with its number, which
//! also finds a page that was written to another's place. 511 seals and a mark fill a page in front of the 511 pages that
//! they are for; they are written with the next sync. A page that was never written has no seal and is all zeros.
//!
//! **After a power cut.** What the last durable commit names is never written over: redb copies on write, and commits in
//! two phases (`set_quick_repair`), so no page is named before its sync. Its seal may be written again in the same place
//! with the same bytes, and a sector of 512 bytes is written whole or not at all. Page 0, redb's header, is the only one
//! that changes in place. It has no seal; redb has checksums for both of its commits, and none for the byte that says which
//! of them counts.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use halcyon_core::{
    env::File,
    mutant::{self, Mutant},
};
use tokio::sync::Notify;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes of a page: redb's.
const PAGE: usize = 4096;

/// Words in a page of seals: its mark and its seals.
const WORDS: usize = PAGE / 8;

/// Pages behind a page of seals.
const GROUP: u64 = WORDS as u64 - 1;

/// The first word of a page of seals.
const MARK: u64 = u64::from_be_bytes(*b"HALSEAL1");

/// How a file of redb's own begins.
const PLAIN: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";

/// What was found damaged, for those who have to stop then.
#[derive(Debug, Default)]
pub(super) struct Damage {
    page: OnceLock<u64>,
    noticed: Notify,
}

impl Damage {
    fn note(&self, page: u64) -> io::Error {
        self.page.get_or_init(|| page);
        self.noticed.notify_one();
        io::Error::new(io::ErrorKind::InvalidData, told(page))
    }

    /// What is damaged, if a read has found anything.
    pub(super) fn found(&self) -> Option<String> {
        self.page.get().copied().map(told)
    }

    /// Returns once a read has found something; for one caller at a time.
    pub(super) async fn noticed(&self) {
        while self.page.get().is_none() {
            self.noticed.notified().await;
        }
    }
}

fn told(page: u64) -> String {
    format!("page {page} is not what was written to it; restore this node from its peers")
}

/// See the module.
#[derive(Debug)]
pub(super) struct SealedFile {
    file: Arc<dyn File>,
    /// Pages of seals, as far as anybody has asked for them.
    seals: Mutex<Vec<Option<Seals>>>,
    damage: Arc<Damage>,
}

#[derive(Debug)]
struct Seals {
    words: Box<[u64; WORDS]>,
    is_dirty: bool,
}

/// Whether redb wrote a file without seals, as it did up to format 2.
pub(super) fn is_plain(file: &dyn File) -> io::Result<bool> {
    let mut start = [0; PLAIN.len()];
    if file.len()? < start.len() as u64 {
        return Ok(false);
    }
    file.read(0, &mut start)?;
    Ok(start == PLAIN)
}

impl SealedFile {
    /// Takes a file that is empty or has seals.
    pub(super) fn new(file: Arc<dyn File>, damage: Arc<Damage>) -> Self {
        Self {
            file,
            seals: Mutex::default(),
            damage,
        }
    }

    /// Reads whole pages, none of them page 0.
    fn read_pages(&self, first: u64, mut out: &mut [u8]) -> io::Result<()> {
        let mut first = first;
        while !out.is_empty() {
            let count = together(first, out.len());
            let (pages, rest) = out.split_at_mut(count * PAGE);
            self.file.read(place(first), pages)?;
            let due = self.words(first / GROUP, |words| words[slots(first, count)].to_vec())?;
            for ((page, number), due) in pages.chunks_exact(PAGE).zip(first..).zip(due) {
                let is_well = match due {
                    0 => page.iter().all(|&byte| byte == 0),
                    due => due == seal(number, page),
                };
                if !is_well && !mutant::active(Mutant::SealNotChecked) {
                    return Err(self.damage.note(number));
                }
            }
            first += count as u64;
            out = rest;
        }
        Ok(())
    }

    /// Writes whole pages of one group, none of them page 0.
    fn write_pages(&self, first: u64, pages: &[u8]) -> io::Result<()> {
        self.file.write(place(first), pages)?;
        let count = pages.len() / PAGE;
        self.change(first / GROUP, |words| {
            let seals = pages.chunks_exact(PAGE).zip(first..);
            for (word, (page, number)) in words[slots(first, count)].iter_mut().zip(seals) {
                *word = seal(number, page);
            }
        })
    }

    fn words<T>(&self, group: u64, read: impl FnOnce(&[u64; WORDS]) -> T) -> io::Result<T> {
        Ok(read(&self.loaded(&mut self.lock(), group)?.words))
    }

    fn change(&self, group: u64, change: impl FnOnce(&mut [u64; WORDS])) -> io::Result<()> {
        let mut seals = self.lock();
        let seals = self.loaded(&mut seals, group)?;
        change(&mut seals.words);
        seals.is_dirty = true;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Seals>>> {
        self.seals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loaded<'a>(&self, seals: &'a mut Vec<Option<Seals>>, group: u64) -> io::Result<&'a mut Seals> {
        let index = usize::try_from(group).map_err(io::Error::other)?;
        if seals.len() <= index {
            seals.resize_with(index + 1, || None);
        }
        let slot = &mut seals[index];
        if slot.is_none() {
            *slot = Some(self.load(group)?);
        }
        slot.as_mut().ok_or_else(|| io::Error::other("seals were not loaded"))
    }

    fn load(&self, group: u64) -> io::Result<Seals> {
        let mut words = Box::new([0; WORDS]);
        let at = seals_place(group);
        if at < self.file.len()? {
            let mut page = [0; PAGE];
            self.file.read(at, &mut page)?;
            for (word, bytes) in words.iter_mut().zip(page.as_chunks::<8>().0) {
                *word = u64::from_be_bytes(*bytes);
            }
            // None: the power went as it was first written, and of its sectors this one is lost.
            if words[0] != MARK && words[0] != 0 {
                return Err(self.damage.note(group * GROUP));
            }
        }
        words[0] = MARK;
        Ok(Seals { words, is_dirty: false })
    }

    /// Writes the seals that have changed. Nobody who reads waits for the disk meanwhile.
    fn write_seals(&self) -> io::Result<()> {
        let groups = self.lock().len();
        for index in 0..groups {
            let Some(page) = self.take_dirty(index) else { continue };
            let group = index as u64;
            if let Err(error) = self.file.write(seals_place(group), &page) {
                self.change(group, |_| {})?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// A page of seals as it is to be written, if it has changed since it was.
    fn take_dirty(&self, index: usize) -> Option<Vec<u8>> {
        let mut seals = self.lock();
        let seals = seals.get_mut(index)?.as_mut()?;
        std::mem::take(&mut seals.is_dirty).then(|| seals.words.iter().flat_map(|word| word.to_be_bytes()).collect())
    }

    /// Forgets the seals of pages from this one on: they will be zeros if they come back.
    fn forget(&self, first: u64) -> io::Result<()> {
        let kept = usize::try_from(first.div_ceil(GROUP)).map_err(io::Error::other)?;
        self.lock().truncate(kept);
        if first.is_multiple_of(GROUP) {
            return Ok(());
        }
        self.change(first / GROUP, |words| words[slots(first, 1).start..].fill(0))
    }
}

impl File for SealedFile {
    fn len(&self) -> io::Result<u64> {
        let pages = self.file.len()? / PAGE as u64;
        let (groups, rest) = (pages / WORDS as u64, pages % WORDS as u64);
        Ok((groups * GROUP + rest.saturating_sub(1)) * PAGE as u64)
    }

    fn read(&self, offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        let mut offset = offset;
        while !buffer.is_empty() {
            let (page, within) = split(offset);
            let taken = if page == 0 || within > 0 || buffer.len() < PAGE {
                let taken = buffer.len().min(PAGE - within);
                let part = &mut buffer[..taken];
                if page == 0 {
                    self.file.read(place(0) + within as u64, part)?;
                } else {
                    let mut whole = [0; PAGE];
                    self.read_pages(page, &mut whole)?;
                    part.copy_from_slice(&whole[within..within + taken]);
                }
                taken
            } else {
                let taken = buffer.len() - buffer.len() % PAGE;
                self.read_pages(page, &mut buffer[..taken])?;
                taken
            };
            offset += taken as u64;
            buffer = &mut buffer[taken..];
        }
        Ok(())
    }

    fn write(&self, offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        let mut offset = offset;
        while !bytes.is_empty() {
            let (page, within) = split(offset);
            let taken = if page == 0 || within > 0 || bytes.len() < PAGE {
                let taken = bytes.len().min(PAGE - within);
                if page == 0 {
                    self.file.write(place(0) + within as u64, &bytes[..taken])?;
                } else {
                    let mut whole = [0; PAGE];
                    self.read_pages(page, &mut whole)?;
                    whole[within..within + taken].copy_from_slice(&bytes[..taken]);
                    self.write_pages(page, &whole)?;
                }
                taken
            } else {
                let taken = together(page, bytes.len()) * PAGE;
                self.write_pages(page, &bytes[..taken])?;
                taken
            };
            offset += taken as u64;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (pages, part) = split(len);
        if part > 0 {
            let error = format!("{len} bytes are no whole pages of {PAGE}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        // The file may have been cut before a crash that the seals of what was behind its end have survived.
        let (before, _) = split(self.len()?);
        self.forget(pages.min(before))?;
        let end = pages.checked_sub(1).map_or(0, |last| place(last) + PAGE as u64);
        self.file.set_len(end)
    }

    fn sync(&self) -> io::Result<()> {
        self.write_seals()?;
        self.file.sync()
    }
}

/// A page's number and a place within it.
fn split(offset: u64) -> (u64, usize) {
    let within = usize::try_from(offset % PAGE as u64).unwrap_or(0);
    (offset / PAGE as u64, within)
}

/// Where a page is.
const fn place(page: u64) -> u64 {
    seals_place(page / GROUP) + (1 + page % GROUP) * PAGE as u64
}

/// Where a group's seals are.
const fn seals_place(group: u64) -> u64 {
    group * (WORDS * PAGE) as u64
}

/// How many whole pages of so many bytes lie behind one another from this page on.
fn together(first: u64, bytes: usize) -> usize {
    let in_group = usize::try_from(GROUP - first % GROUP).unwrap_or(WORDS);
    in_group.min(bytes / PAGE)
}

/// The words of a group that hold the seals of these pages.
fn slots(first: u64, count: usize) -> std::ops::Range<usize> {
    let start = 1 + usize::try_from(first % GROUP).unwrap_or(0);
    start..start + count
}

fn seal(number: u64, page: &[u8]) -> u64 {
    xxh3_64_with_seed(page, number).max(1)
}

#[cfg(test)]
mod tests {
    use halcyon_core::env::Disk;

    use super::*;
    use crate::storage::testing::{Random, SimDisk};

    /// Pages in the file: three groups.
    const PAGES: u64 = 2 * GROUP + 7;

    fn sealed(disk: &SimDisk) -> SealedFile {
        SealedFile::new(disk.open("sealed").unwrap(), Arc::default())
    }

    fn filled(page: u64) -> Vec<u8> {
        vec![u8::try_from(page % 251).unwrap() + 1; PAGE]
    }

    #[test]
    fn bytes_are_where_they_were_written_in_pages_and_in_parts() {
        let disk = SimDisk::new();
        let file = sealed(&disk);
        let mut model = vec![0; usize::try_from(PAGES).unwrap() * PAGE];
        file.set_len(model.len() as u64).unwrap();
        let mut random = Random(3);
        for round in 0..400 {
            // Some of them begin at a page, and some end at one.
            let mut draw = |bound: usize| usize::try_from(random.below(bound as u64)).unwrap();
            let align = [1, PAGE, 512][draw(3)];
            let at = draw(model.len() - 4 * PAGE) / align * align;
            let end = at + (1 + draw(3 * PAGE / align)) * align;
            let write = vec![u8::try_from(round % 255).unwrap() + 1; end - at];
            file.write(at as u64, &write).unwrap();
            model[at..end].copy_from_slice(&write);
            if round % 50 == 0 {
                file.sync().unwrap();
            }
        }
        let mut all = vec![0; model.len()];
        file.read(0, &mut all).unwrap();
        assert!(all == model);
        file.sync().unwrap();
        let file = sealed(&disk);
        assert_eq!(file.len().unwrap(), model.len() as u64);
        file.read(0, &mut all).unwrap();
        assert!(all == model, "opened again");
        let mut part = vec![0; 3 * PAGE];
        for at in [1, PAGE - 1, 510 * PAGE + 77, 511 * PAGE] {
            file.read(at as u64, &mut part).unwrap();
            assert!(part == model[at..at + part.len()], "from {at}");
        }
    }

    #[test]
    fn a_turned_bit_anywhere_but_in_the_header_is_an_error_that_names_its_page() {
        let disk = SimDisk::new();
        let file = sealed(&disk);
        file.set_len(PAGES * PAGE as u64).unwrap();
        for page in 0..PAGES {
            file.write(page * PAGE as u64, &filled(page)).unwrap();
        }
        file.sync().unwrap();
        let mut random = Random(5);
        for page in [1, 2, GROUP - 1, GROUP, 2 * GROUP, PAGES - 1] {
            let file = sealed(&disk);
            let at = usize::try_from(place(page) + random.below(PAGE as u64)).unwrap();
            disk.damage("sealed", at);
            let error = file.read(page * PAGE as u64, &mut [0; PAGE]).unwrap_err();
            assert_eq!(error.to_string(), told(page));
            assert_eq!(file.damage.found(), Some(told(page)));
            disk.damage("sealed", at);
            file.read(page * PAGE as u64, &mut [0; PAGE]).unwrap();
        }
        // A page of seals whose first sector was lost, as it was first written, is one nevertheless.
        let mut sector = [0; 512];
        let raw = disk.open("sealed").unwrap();
        raw.read(0, &mut sector).unwrap();
        raw.write(0, &[0; 512]).unwrap();
        sealed(&disk).read(100 * PAGE as u64, &mut [0; PAGE]).unwrap();
        sealed(&disk).read(PAGE as u64, &mut [0; PAGE]).unwrap_err();
        raw.write(0, &sector).unwrap();
        // A seal that has changed is found with its page, a mark with its group, a page in another's place as well.
        for at in [8 + 8, 0] {
            disk.damage("sealed", at);
            sealed(&disk).read(PAGE as u64, &mut [0; PAGE]).unwrap_err();
            disk.damage("sealed", at);
        }
        disk.open("sealed").unwrap().write(place(3), &filled(4)).unwrap();
        sealed(&disk).read(3 * PAGE as u64, &mut [0; PAGE]).unwrap_err();
    }

    #[test]
    fn a_page_that_comes_back_after_the_file_was_cut_is_empty() {
        let disk = SimDisk::new();
        let file = sealed(&disk);
        for kept in [0, 1, 5, GROUP, GROUP + 1] {
            file.set_len(PAGES * PAGE as u64).unwrap();
            for page in 1..PAGES {
                file.write(page * PAGE as u64, &filled(page)).unwrap();
            }
            file.sync().unwrap();
            file.set_len(kept * PAGE as u64).unwrap();
            assert_eq!(file.len().unwrap(), kept * PAGE as u64);
            file.set_len(PAGES * PAGE as u64).unwrap();
            for page in 1..PAGES {
                let mut found = vec![1; PAGE];
                file.read(page * PAGE as u64, &mut found).unwrap();
                let due = if page < kept { filled(page) } else { vec![0; PAGE] };
                assert!(found == due, "page {page} of {kept}");
            }
        }
        file.set_len(5).unwrap_err();
    }
}
