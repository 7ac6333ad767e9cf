//! Frames: `length u32 | crc32 u32 | id u64 | body`, little endian; the length counts what follows
//! the checksum, the checksum covers it.
//!
//! A request's id is the asker's; its response carries the same. A frame that is too long or whose
//! checksum does not match ends the connection: there is no way to find the next one.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest frame: a value of the greatest `proto-max-bulk-len` with its key and context.
const MAX_FRAME: usize = (512 << 20) + (1 << 20);
/// The longest body of a frame.
pub(super) const MAX_BODY: usize = MAX_FRAME - 8;
const HEAD: usize = 8;
const READ_CHUNK: usize = 64 << 10;
/// The longest frame before the other side has proven who it is.
const MAX_STRANGERS_FRAME: usize = 1 << 10;

/// Appends a frame.
pub(super) fn put(out: &mut Vec<u8>, id: u64, encode: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    out.extend_from_slice(&id.to_le_bytes());
    encode(out);
    let len = (out.len() - start - HEAD) as u32;
    let sum = crc32fast::hash(&out[start + HEAD..]);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + HEAD].copy_from_slice(&sum.to_le_bytes());
}

/// Reads frames one after the other; cancel-safe, since what has arrived stays in the buffer.
#[derive(Debug)]
pub(super) struct Frames<R> {
    reader: R,
    buffer: BytesMut,
    longest: usize,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: BytesMut::new(),
            longest: MAX_STRANGERS_FRAME,
        }
    }

    /// The other side has proven who it is.
    pub(super) fn trust(&mut self) {
        self.longest = MAX_FRAME;
    }

    /// The next frame's id and body; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> io::Result<Option<(u64, BytesMut)>> {
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
    pub(super) fn buffered(&mut self) -> io::Result<Option<(u64, BytesMut)>> {
        let Some(head) = self.buffer.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let [a, b, c, d, e, f, g, h] = *head;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        if !(8..=self.longest).contains(&len) {
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
        let id = body.get_u64_le();
        Ok(Some((id, body)))
    }
}
