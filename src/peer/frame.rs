//! Frames: `length u32 | crc32 u32 | id u64 | sent u32 | body`, little endian; the length counts
//! what follows the checksum, the checksum covers it.
//!
//! A request's id is the asker's; its response carries the same. `sent` is the sender's own time in
//! milliseconds, by which the receiver tells what was under way too long. A frame that is too long
//! or whose checksum does not match ends the connection: there is no way to find the next one.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::clock;

/// The longest frame: a value of the greatest `proto-max-bulk-len` with its key and context.
const MAX_FRAME: usize = (512 << 20) + (1 << 20);
/// The longest body of a frame.
pub(super) const MAX_BODY: usize = MAX_FRAME - INNER;
const HEAD: usize = 8;
/// The id and the time of sending, which the checksum covers.
const INNER: usize = 12;
const READ_CHUNK: usize = 64 << 10;
/// The longest frame before the other side has proven who it is.
const MAX_STRANGERS_FRAME: usize = 1 << 10;

/// Appends a frame.
pub(super) fn put(out: &mut Vec<u8>, id: u64, encode: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&clock::uptime_ms().to_le_bytes());
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
    fn of(&mut self, sent_ms: u32, now_ms: u32) -> Duration {
        let took = now_ms.wrapping_sub(sent_ms);
        let relative = took.wrapping_sub(*self.first.get_or_insert(took)) as i32;
        if now_ms.wrapping_sub(self.stretch_began_ms) > STRETCH_MS {
            self.stretch_began_ms = now_ms;
            self.quickest = [relative, self.quickest[0]];
        }
        self.quickest[0] = self.quickest[0].min(relative);
        let quickest = self.quickest[0].min(self.quickest[1]);
        Duration::from_millis(u64::from(relative.abs_diff(quickest)))
    }
}

/// Reads frames one after the other; cancel-safe, since what has arrived stays in the buffer.
#[derive(Debug)]
pub(super) struct Frames<R> {
    reader: R,
    buffer: BytesMut,
    longest: usize,
    ages: Ages,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: BytesMut::new(),
            longest: MAX_STRANGERS_FRAME,
            ages: Ages::default(),
        }
    }

    /// The other side has proven who it is.
    pub(super) fn trust(&mut self) {
        self.longest = MAX_FRAME;
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
        if !(INNER..=self.longest).contains(&len) {
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
        let age = self.ages.of(sent_ms, clock::uptime_ms());
        Ok(Some(Arrived { id, age, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_old_as_it_is_slower_than_the_quickest() {
        let mut ages = Ages::default();
        let mut age = |sent_ms, now_ms| ages.of(sent_ms, now_ms).as_millis();
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
}
