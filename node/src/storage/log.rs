//! The log of a shard: what is acknowledged and not yet folded into the index.
//!
//! Two segments used in turn. A segment is written from its start; each group commit is one frame, at a multiple of
//! [`FRAME_ALIGN`], and synced before the next, so a torn write can only be the last frame. Frames are numbered without
//! a hole for good: what an earlier use of a segment left behind has numbers below the watermark.
//!
//! ```text
//! frame = magic: 4 bytes | format: 4 | log id: 8 | number: 8 | payload length: 4 | crc32 of all the rest: 4 | payload
//! ```

use std::{collections::BTreeMap, io, sync::Arc};

use halcyon_core::{
    env::{Disk, File},
    mutant::{self, Mutant},
};

use super::limits::{FRAME_ALIGN, FRAME_BYTES_MAX, SEGMENT_BYTES, SEGMENT_STEP};

const MAGIC: [u8; 4] = *b"HLOG";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 32;
const CRC_AT: usize = 28;

/// Where a log is, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogId {
    pub(super) shard: usize,
    /// Drawn when the shard was made: no payload can pass for a frame.
    pub(super) id: u64,
    /// The last frame in the index.
    pub(super) watermark: u64,
}

#[derive(Debug)]
struct Segment {
    file: Arc<dyn File>,
    /// Bytes that are written, with zeros or more.
    allocated: u64,
    /// The first frame in it; 0 if there is none.
    first: u64,
    /// The last frame in it.
    last: u64,
    /// Where the next frame would go.
    end: u64,
}

/// A log that is open for appending.
#[derive(Debug)]
pub(super) struct Log {
    id: u64,
    segments: [Segment; 2],
    active: usize,
    /// The number of the next frame.
    next: u64,
    buffer: Vec<u8>,
}

/// Why a log cannot be read.
#[derive(Debug)]
pub(super) enum LogError {
    Io(io::Error),
    /// A frame that was acknowledged is gone.
    Damaged(String),
}

impl From<io::Error> for LogError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Payloads by frame number.
pub(super) type Frames = BTreeMap<u64, Vec<u8>>;

impl Log {
    /// Opens or makes the log, and reads the frames behind the watermark.
    pub(super) fn open(disk: &dyn Disk, at: LogId) -> Result<(Self, Frames), LogError> {
        let mut frames = Frames::new();
        let a = Segment::open(disk, &format!("shard-{}.log-a", at.shard), at, &mut frames)?;
        let b = Segment::open(disk, &format!("shard-{}.log-b", at.shard), at, &mut frames)?;
        for (expected, &number) in (at.watermark + 1..).zip(frames.keys()) {
            if number != expected {
                return Err(LogError::Damaged(format!(
                    "frame {expected} is missing before {number}"
                )));
            }
        }
        let active = usize::from(b.last > a.last);
        let log = Self {
            id: at.id,
            active,
            next: at.watermark.max(a.last).max(b.last) + 1,
            segments: [a, b],
            buffer: Vec::new(),
        };
        // A frame that was written and not synced counts from now on, so it must be durable before anyone sees it.
        for segment in &log.segments {
            segment.file.sync()?;
        }
        Ok((log, frames))
    }

    /// The number of the last frame.
    pub(super) const fn last(&self) -> u64 {
        self.next - 1
    }

    /// Whether the active segment has room for a payload.
    pub(super) const fn has_room(&self, payload: usize) -> bool {
        self.segments[self.active].end + (HEADER_BYTES + payload) as u64 + FRAME_ALIGN <= SEGMENT_BYTES
    }

    /// Bytes left in the active segment.
    pub(super) const fn room(&self) -> u64 {
        SEGMENT_BYTES - self.segments[self.active].end
    }

    /// Goes on in the other segment, if nothing in it is behind the watermark.
    pub(super) fn switch(&mut self, watermark: u64) -> bool {
        let other = 1 - self.active;
        if self.segments[other].last > watermark {
            return false;
        }
        self.active = other;
        self.segments[other].end = 0;
        true
    }

    /// Overwrites what was written up to `frame`, and anything older, with zeros, where it is not needed any more.
    /// Answers whether all of it is gone; if not, a fold has to come first.
    pub(super) fn wipe(&mut self, frame: u64, watermark: u64) -> io::Result<bool> {
        let mut is_clean = true;
        for segment in &mut self.segments {
            if segment.last <= watermark {
                segment.end = 0;
            } else if segment.first <= frame {
                is_clean = false;
                continue;
            }
            segment.wipe_rest()?;
        }
        Ok(is_clean)
    }

    /// Writes a frame and makes it durable. After an error nothing is known of it: the log must not be used again.
    pub(super) fn append(&mut self, payload: &[u8]) -> io::Result<usize> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        assert!(
            payload.len() <= FRAME_BYTES_MAX,
            "a group is closed before it outgrows a frame"
        );
        let buffer = &mut self.buffer;
        buffer.clear();
        buffer.extend_from_slice(&MAGIC);
        buffer.extend_from_slice(&FORMAT.to_be_bytes());
        buffer.extend_from_slice(&self.id.to_be_bytes());
        buffer.extend_from_slice(&self.next.to_be_bytes());
        buffer.extend_from_slice(&length.to_be_bytes());
        buffer.extend_from_slice(&checksum(buffer, payload).to_be_bytes());
        buffer.extend_from_slice(payload);
        let padded = buffer
            .len()
            .next_multiple_of(usize::try_from(FRAME_ALIGN).map_err(io::Error::other)?);
        buffer.resize(padded, 0);
        let segment = &mut self.segments[self.active];
        let end = segment.end + padded as u64;
        segment.allocate(end)?;
        segment.file.write(segment.end, buffer)?;
        if !mutant::active(Mutant::AcknowledgeBeforeSync) {
            segment.file.sync()?;
        }
        if segment.end == 0 {
            segment.first = self.next;
        }
        segment.last = self.next;
        segment.end = end;
        self.next += 1;
        Ok(padded)
    }
}

impl Segment {
    /// Reads the frames behind the watermark.
    fn open(disk: &dyn Disk, name: &str, at: LogId, frames: &mut Frames) -> Result<Self, LogError> {
        let file = disk.open(name)?;
        let allocated = file.len()?;
        let mut bytes = vec![0; usize::try_from(allocated).map_err(io::Error::other)?];
        file.read(0, &mut bytes)?;
        let (mut offset, mut first, mut last) = (0, 0, 0);
        while let Some(frame) = Frame::read(&bytes, offset, at.id) {
            if last != 0 && frame.number != last + 1 {
                break;
            }
            last = frame.number;
            if first == 0 {
                first = last;
            }
            if last > at.watermark {
                frames.insert(last, frame.payload.to_vec());
            }
            offset = frame.end;
        }
        let behind = (offset..bytes.len()).step_by(usize::try_from(FRAME_ALIGN).map_err(io::Error::other)?);
        let newest = behind
            .filter_map(|at_offset| Frame::read(&bytes, at_offset, at.id))
            .map(|frame| frame.number);
        if let Some(number) = newest.max().filter(|&number| number > last.max(at.watermark)) {
            return Err(LogError::Damaged(format!(
                "{name} cannot be read at byte {offset}, and frame {number} comes after it"
            )));
        }
        let end = offset as u64;
        Ok(Self {
            file,
            allocated,
            first,
            last,
            end,
        })
    }

    /// Overwrites with zeros what an earlier use left behind the frames.
    fn wipe_rest(&mut self) -> io::Result<()> {
        let zeros = vec![0; usize::try_from(SEGMENT_STEP).map_err(io::Error::other)?];
        let mut at = self.end;
        while at < self.allocated {
            let step = SEGMENT_STEP.min(self.allocated - at);
            let length = usize::try_from(step).map_err(io::Error::other)?;
            self.file.write(at, &zeros[..length])?;
            at += step;
        }
        self.file.sync()
    }

    /// Writes zeros where nothing has been yet, so that a sync of frames has little more to write than the frames.
    fn allocate(&mut self, end: u64) -> io::Result<()> {
        while self.allocated < end {
            let step = SEGMENT_STEP.min(SEGMENT_BYTES - self.allocated);
            let zeros = vec![0; usize::try_from(step).map_err(io::Error::other)?];
            self.file.write(self.allocated, &zeros)?;
            self.allocated += step;
        }
        Ok(())
    }
}

struct Frame<'a> {
    number: u64,
    payload: &'a [u8],
    /// Where the next one starts.
    end: usize,
}

impl<'a> Frame<'a> {
    /// The frame at an offset, if there is a whole one of this log.
    fn read(bytes: &'a [u8], offset: usize, id: u64) -> Option<Self> {
        let rest = bytes.get(offset..)?;
        let (header, rest) = rest.split_first_chunk::<HEADER_BYTES>()?;
        let word = |at: usize| u64::from_be_bytes(*header[at..].first_chunk().expect("8 bytes are left"));
        let half = |at: usize| u32::from_be_bytes(*header[at..].first_chunk().expect("4 bytes are left"));
        if header[..4] != MAGIC || half(4) != FORMAT || word(8) != id {
            return None;
        }
        let payload = rest.get(..half(24) as usize)?;
        if checksum(&header[..CRC_AT], payload) != half(CRC_AT) {
            return None;
        }
        let align = usize::try_from(FRAME_ALIGN).ok()?;
        Some(Self {
            number: word(16),
            payload,
            end: (offset + HEADER_BYTES + payload.len()).next_multiple_of(align),
        })
    }
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}
