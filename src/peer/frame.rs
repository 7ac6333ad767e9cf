//! Frames: `length u32 | crc32 u32 | id u64 | sent u32 | body`, little endian; the length counts
//! what follows the checksum, the checksum covers it. Requests of wire version 5 have `heard u32`
//! behind `sent`.
//!
//! A request's id is the asker's; its response carries the same. `sent` is the sender's own time in
//! milliseconds, by which the receiver tells what was under way too long. `heard` is what the sender
//! has last read as `sent`, the receiver's time then: nothing is older than that, whatever the sender's
//! clock did meanwhile. A frame that is too long or whose checksum does not match ends the connection:
//! there is no way to find the next one.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::base::clock;

/// The longest frame: a value of the greatest `proto-max-bulk-len` with its key and context.
const MAX_FRAME: usize = (512 << 20) + (1 << 20);
/// The longest body of a frame.
pub(super) const MAX_BODY: usize = MAX_FRAME - INNER - HEARD;
const HEAD: usize = 8;
/// The id and the time of sending, which the checksum covers.
const INNER: usize = 12;
const HEARD: usize = 4;
const READ_CHUNK: usize = 64 << 10;
/// The longest frame before the other side has proven who it is.
const MAX_STRANGERS_FRAME: usize = 1 << 10;

/// Appends a frame.
pub(super) fn put(out: &mut Vec<u8>, id: u64, encode: impl FnOnce(&mut Vec<u8>)) {
    put_heard(out, id, None, encode);
}

/// Appends a request's frame, with what was heard where the other side reads that.
pub(super) fn put_heard(
    out: &mut Vec<u8>,
    id: u64,
    heard_ms: Option<u32>,
    encode: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&clock::uptime_ms().to_le_bytes());
    if let Some(heard_ms) = heard_ms {
        out.extend_from_slice(&heard_ms.to_le_bytes());
    }
    encode(out);
    let len = (out.len() - start - HEAD) as u32;
    let sum = crc32fast::hash(&out[start + HEAD..]);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + HEAD].copy_from_slice(&sum.to_le_bytes());
}

/// A frame that has arrived.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) id: u64,
    /// How much longer it took than the quickest frame of this connection.
    pub(super) age: Duration,
    pub(super) body: BytesMut,
}

/// How long frames take, by two clocks of which nothing is known but that they run, about as fast.
#[derive(Debug, Default)]
struct Ages {
    first: Option<u32>,
    /// The quickest in this stretch of time and in the one before, relative to the first, in
    /// milliseconds: clocks drift apart.
    quickest: [i32; 2],
    stretch_began_ms: u32,
}

/// The stretch of time in which clocks do not drift apart by anything that matters.
const STRETCH_MS: u32 = 30_000;

impl Ages {
    fn of(&mut self, sent_ms: u32, heard_ms: Option<u32>, now_ms: u32) -> Duration {
        let took = now_ms.wrapping_sub(sent_ms);
        let relative = took.wrapping_sub(*self.first.get_or_insert(took)) as i32;
        if now_ms.wrapping_sub(self.stretch_began_ms) > STRETCH_MS {
            self.stretch_began_ms = now_ms;
            self.quickest = [relative, self.quickest[0]];
        }
        self.quickest[0] = self.quickest[0].min(relative);
        let quickest = self.quickest[0].min(self.quickest[1]);
        let age_ms = relative.abs_diff(quickest);
        // A clock that stood still, as those of machines do that are put to sleep, makes old what is not.
        let at_most_ms = heard_ms.map_or(u32::MAX, |heard_ms| now_ms.wrapping_sub(heard_ms));
        Duration::from_millis(u64::from(age_ms.min(at_most_ms)))
    }
}

/// Reads frames one after the other; cancel-safe, since what has arrived stays in the buffer.
#[derive(Debug)]
pub(super) struct Frames<R> {
    reader: R,
    buffer: BytesMut,
    longest: usize,
    /// Whether frames say what their sender has heard.
    has_heard: bool,
    /// When the last frame was sent, by its sender's time.
    heard_ms: u32,
    ages: Ages,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: BytesMut::new(),
            longest: MAX_STRANGERS_FRAME,
            has_heard: false,
            heard_ms: 0,
            ages: Ages::default(),
        }
    }

    /// The other side has proven who it is.
    pub(super) fn trust(&mut self) {
        self.longest = MAX_FRAME;
    }

    /// From now on frames are requests that say what their sender has heard.
    pub(super) fn expect_heard(&mut self) {
        self.has_heard = true;
    }

    /// When the last frame was sent, by its sender's time.
    pub(super) fn heard_ms(&self) -> u32 {
        self.heard_ms
    }

    /// The next frame; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> io::Result<Option<Arrived>> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(READ_CHUNK);
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// A frame that has already arrived.
    pub(super) fn buffered(&mut self) -> io::Result<Option<Arrived>> {
        let Some(head) = self.buffer.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let [a, b, c, d, e, f, g, h] = *head;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        let inner = INNER + if self.has_heard { HEARD } else { 0 };
        if !(inner..=self.longest).contains(&len) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a frame's length is impossible",
            ));
        }
        if self.buffer.len() < HEAD + len {
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        let mut body = self.buffer.split_to(len);
        if crc32fast::hash(&body) != u32::from_le_bytes([e, f, g, h]) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a frame's checksum does not match",
            ));
        }
        let (id, sent_ms) = (body.get_u64_le(), body.get_u32_le());
        let heard_ms = self.has_heard.then(|| body.get_u32_le());
        let age = self.ages.of(sent_ms, heard_ms, clock::uptime_ms());
        self.heard_ms = sent_ms;
        Ok(Some(Arrived { id, age, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_old_as_it_is_slower_than_the_quickest() {
        let mut ages = Ages::default();
        let mut age = |sent_ms, now_ms| ages.of(sent_ms, None, now_ms).as_millis();
        assert_eq!(age(u32::MAX - 5, 1_000), 0);
        assert_eq!(age(10, 1_016), 0);
        assert_eq!(age(20, 1_020), 0, "quicker than the first");
        assert_eq!(age(30, 4_030), 3_000);
        assert_eq!(age(40, 1_046), 6);
        // Clocks that drift apart by a millisecond in ten seconds, for a day.
        for n in 1..8_640 {
            let sent_ms = n * 10_000;
            assert!(age(sent_ms, sent_ms + 1_000 + n) <= 10, "{n}");
        }
    }

    #[test]
    fn a_clock_that_stood_still_makes_nothing_old_that_came_after_an_answer() {
        let mut ages = Ages::default();
        let mut age = |sent, heard, now| ages.of(sent, Some(heard), now).as_millis();
        assert_eq!(age(1_000, 4_990, 5_000), 0);
        // The sender sleeps for 20 s, its clock with it. What it sends first may have been under way so long.
        assert_eq!(age(1_010, 4_995, 25_010), 20_000);
        // The answer to that was sent at 25,011.
        assert_eq!(age(1_020, 25_011, 25_020), 9);
        assert_eq!(age(2_000, 25_990, 26_000), 10);
    }
}
