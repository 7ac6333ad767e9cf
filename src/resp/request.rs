//! The request parser: resumable, flat, and bounded before anything is allocated.
//!
//! It works on the connection's buffer and yields argument ranges, so that parsing copies nothing
//! and a large command is looked at once, however many reads it takes. A declared length reserves
//! no memory; bytes must arrive. Errors carry Redis's words; the connection is closed after one.

use std::ops::Range;

use thiserror::Error;

/// Arguments in one command.
const MAX_ARGS: i64 = 1024 * 1024;
/// Bytes of an inline command, and of a length line.
const MAX_INLINE_LEN: usize = 64 * 1024;
/// What a client may send before it is authenticated (Redis 6.2.6 and later).
const MAX_UNAUTHENTICATED_ARGS: i64 = 10;
const MAX_UNAUTHENTICATED_BULK: i64 = 16_384;
/// Argument ranges kept allocated between commands.
const KEEP_RANGES: usize = 1_024;

/// What a request may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest argument (`proto-max-bulk-len`).
    pub max_bulk_len: i64,
    /// Whether the client has proven who it is.
    pub authenticated: bool,
}

/// What a client sent that is not RESP. The connection is closed after the reply.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// A count that is no number or beyond the limit.
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// A count beyond what an unauthenticated client may send.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// A length that is no number or beyond the limit.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// A length beyond what an unauthenticated client may send.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// Something else than a bulk string inside a command.
    #[error("Protocol error: expected '$', got '{0}'")]
    ExpectedBulk(char),
    /// A length line without an end.
    #[error("Protocol error: too big mbulk count string")]
    CountTooLong,
    /// A length line without an end.
    #[error("Protocol error: too big bulk count string")]
    BulkCountTooLong,
    /// An inline command without an end.
    #[error("Protocol error: too big inline request")]
    InlineTooLong,
    /// An inline command with a quote that is not closed.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
}

/// The state of one connection's requests.
#[derive(Debug, Default)]
pub struct Parser {
    /// Bytes of the buffer that are understood.
    at: usize,
    /// Arguments still missing of the current command.
    missing: i64,
    /// The length of the argument that is arriving.
    bulk: Option<usize>,
    /// How much of an unfinished line was searched for its end.
    searched: usize,
    args: Vec<Range<usize>>,
    /// Inline arguments after unquoting.
    unquoted: Vec<u8>,
    inline: bool,
}

impl Parser {
    /// Goes on at `buffer`, whose start must not have changed since the last call, except by
    /// [`Self::take_consumed`]. `Ok(true)`: a command is complete, see [`Self::args`].
    pub fn advance(&mut self, buffer: &[u8], limits: Limits) -> Result<bool, ProtocolError> {
        if self.missing == 0 {
            self.begin();
            loop {
                let Some(&first) = buffer.get(self.at) else {
                    return Ok(false);
                };
                if first != b'*' {
                    match self.inline_line(buffer)? {
                        None => return Ok(false),
                        Some(()) if self.args.is_empty() => continue,
                        Some(()) => return Ok(true),
                    }
                }
                let Some(line) = self.line(buffer, ProtocolError::CountTooLong)? else {
                    return Ok(false);
                };
                let count = number(&buffer[line]).filter(|&n| n <= MAX_ARGS);
                let count = count.ok_or(ProtocolError::MultibulkLength)?;
                if !limits.authenticated && count > MAX_UNAUTHENTICATED_ARGS {
                    return Err(ProtocolError::UnauthenticatedMultibulkLength);
                }
                if count > 0 {
                    self.missing = count;
                    break;
                }
            }
        }
        self.bulks(buffer, limits)
    }

    /// The arguments of the complete command, as ranges of [`Self::source`].
    pub fn args(&self) -> &[Range<usize>] {
        &self.args
    }

    /// What the ranges point into.
    pub fn source<'a>(&'a self, buffer: &'a [u8]) -> &'a [u8] {
        if self.inline { &self.unquoted } else { buffer }
    }

    /// How many bytes at the start of the buffer are done with. The caller drops them.
    pub fn take_consumed(&mut self) -> usize {
        if self.missing > 0 {
            return 0;
        }
        self.args.clear();
        self.searched = 0;
        std::mem::take(&mut self.at)
    }

    /// How many bytes the current argument still needs, as a hint for reading.
    pub fn wanted(&self, buffered: usize) -> usize {
        self.bulk
            .map_or(0, |len| (self.at + len + 2).saturating_sub(buffered))
    }

    fn begin(&mut self) {
        self.args.clear();
        if self.args.capacity() > KEEP_RANGES {
            self.args.shrink_to(KEEP_RANGES);
        }
        self.inline = false;
    }

    fn bulks(&mut self, buffer: &[u8], limits: Limits) -> Result<bool, ProtocolError> {
        while self.missing > 0 {
            let len = match self.bulk {
                Some(len) => len,
                None => match self.bulk_len(buffer, limits)? {
                    Some(len) => len,
                    None => return Ok(false),
                },
            };
            let end = self.at + len;
            if buffer.len() < end + 2 {
                self.bulk = Some(len);
                return Ok(false);
            }
            self.args.push(self.at..end);
            self.at = end + 2;
            self.bulk = None;
            self.missing -= 1;
        }
        Ok(true)
    }

    fn bulk_len(&mut self, buffer: &[u8], limits: Limits) -> Result<Option<usize>, ProtocolError> {
        match buffer.get(self.at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(&other) => return Err(ProtocolError::ExpectedBulk(printable(other))),
        }
        let Some(line) = self.line(buffer, ProtocolError::BulkCountTooLong)? else {
            return Ok(None);
        };
        let len = number(&buffer[line]).filter(|len| (0..=limits.max_bulk_len).contains(len));
        let len = len.ok_or(ProtocolError::BulkLength)?;
        if !limits.authenticated && len > MAX_UNAUTHENTICATED_BULK {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        Ok(Some(len as usize))
    }

    /// The rest of a line after its first byte; moves behind its end.
    fn line(
        &mut self,
        buffer: &[u8],
        too_long: ProtocolError,
    ) -> Result<Option<Range<usize>>, ProtocolError> {
        let from = self.at.max(self.searched);
        let Some(found) = memchr::memchr(b'\r', &buffer[from..]) else {
            self.searched = buffer.len();
            let long = buffer.len() - self.at > MAX_INLINE_LEN;
            return if long { Err(too_long) } else { Ok(None) };
        };
        let end = from + found;
        if end + 1 >= buffer.len() {
            self.searched = end;
            return Ok(None);
        }
        let line = self.at + 1..end;
        self.at = end + 2;
        Ok(Some(line))
    }

    /// One inline command; an empty line gives no arguments and is ignored.
    fn inline_line(&mut self, buffer: &[u8]) -> Result<Option<()>, ProtocolError> {
        let from = self.at.max(self.searched);
        // Redis looks for the end of a C string: a line with a zero byte never ends.
        let met = memchr::memchr2(b'\n', 0, &buffer[from..]);
        let Some(found) = met.filter(|at| buffer[from + at] == b'\n') else {
            self.searched = met.map_or(buffer.len(), |at| from + at);
            let long = buffer.len() - self.at > MAX_INLINE_LEN;
            return if long {
                Err(ProtocolError::InlineTooLong)
            } else {
                Ok(None)
            };
        };
        let end = from + found;
        let line = &buffer[self.at..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.at = end + 1;
        self.inline = true;
        self.unquoted.clear();
        split_inline(line, &mut self.unquoted, &mut self.args)?;
        self.inline = !self.args.is_empty();
        Ok(Some(()))
    }
}

/// As Redis reads it: no zeros before the first digit, no sign but `-`.
fn number(raw: &[u8]) -> Option<i64> {
    match raw.strip_prefix(b"-").unwrap_or(raw) {
        // Nearly all are as short as this.
        [digit @ b'1'..=b'9'] if raw.len() == 1 => Some(i64::from(digit - b'0')),
        [tens @ b'1'..=b'9', ones @ b'0'..=b'9'] if raw.len() == 2 => {
            Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
        }
        [b'0'] if raw.len() == 1 => Some(0),
        [b'1'..=b'9', rest @ ..] if rest.len() < 19 && rest.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(raw).ok()?.parse().ok()
        }
        _ => None,
    }
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' {
        char::from(byte)
    } else {
        '?'
    }
}

/// Splits an inline command as Redis does: blanks, "double quotes with escapes", 'single quotes'.
fn split_inline(
    line: &[u8],
    out: &mut Vec<u8>,
    args: &mut Vec<Range<usize>>,
) -> Result<(), ProtocolError> {
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|b| is_blank(*b)) {
            at += 1;
        }
        if at == line.len() {
            return Ok(());
        }
        let start = out.len();
        while let Some(&byte) = line.get(at) {
            match byte {
                b if is_blank(b) => break,
                b'"' => at = double_quoted(line, at + 1, out)?,
                b'\'' => at = single_quoted(line, at + 1, out)?,
                plain => {
                    out.push(plain);
                    at += 1;
                }
            }
        }
        args.push(start..out.len());
    }
}

fn double_quoted(line: &[u8], mut at: usize, out: &mut Vec<u8>) -> Result<usize, ProtocolError> {
    loop {
        match (line.get(at), line.get(at + 1)) {
            (None, _) => return Err(ProtocolError::UnbalancedQuotes),
            (Some(b'\\'), Some(b'x')) if hex_pair(line, at + 2).is_some() => {
                out.extend(hex_pair(line, at + 2));
                at += 4;
            }
            (Some(b'\\'), Some(&escaped)) => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
                at += 2;
            }
            (Some(b'"'), next) => return closed(next, at),
            (Some(&plain), _) => {
                out.push(plain);
                at += 1;
            }
        }
    }
}

fn single_quoted(line: &[u8], mut at: usize, out: &mut Vec<u8>) -> Result<usize, ProtocolError> {
    loop {
        match (line.get(at), line.get(at + 1)) {
            (None, _) => return Err(ProtocolError::UnbalancedQuotes),
            (Some(b'\\'), Some(b'\'')) => {
                out.push(b'\'');
                at += 2;
            }
            (Some(b'\''), next) => return closed(next, at),
            (Some(&plain), _) => {
                out.push(plain);
                at += 1;
            }
        }
    }
}

/// A closing quote must end the argument.
fn closed(next: Option<&u8>, at: usize) -> Result<usize, ProtocolError> {
    match next {
        Some(&byte) if !is_blank(byte) => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok(at + 1),
    }
}

fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn hex_pair(line: &[u8], at: usize) -> Option<u8> {
    let digit = |b: &u8| char::from(*b).to_digit(16);
    Some((digit(line.get(at)?)? * 16 + digit(line.get(at + 1)?)?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        max_bulk_len: 512 << 20,
        authenticated: true,
    };

    /// Feeds `input` in pieces and collects all commands.
    fn parse(input: &[u8], pieces: &[usize]) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let mut parser = Parser::default();
        let mut buffer: Vec<u8> = Vec::new();
        let mut commands = Vec::new();
        let mut rest = input;
        let mut pieces = pieces.iter().copied().cycle();
        loop {
            while parser.advance(&buffer, LIMITS)? {
                let source = parser.source(&buffer);
                commands.push(
                    parser
                        .args()
                        .iter()
                        .map(|r| source[r.clone()].to_vec())
                        .collect(),
                );
            }
            let consumed = parser.take_consumed();
            buffer.drain(..consumed);
            if rest.is_empty() {
                return Ok(commands);
            }
            let piece = pieces.next().unwrap_or(rest.len()).clamp(1, rest.len());
            buffer.extend_from_slice(&rest[..piece]);
            rest = &rest[piece..];
        }
    }

    fn one(input: &str) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        parse(input.as_bytes(), &[usize::MAX])
    }

    #[test]
    fn inline_commands_split_like_redis() {
        let got = one("set 'a b' \"\\x41\\n\" c\r\n\r\n\nPING\n").expect("parses");
        let want: Vec<Vec<&[u8]>> = vec![vec![b"set", b"a b", b"A\n", b"c"], vec![b"PING"]];
        assert_eq!(got, want);
        assert_eq!(one("get \"x\r\n"), Err(ProtocolError::UnbalancedQuotes));
        assert_eq!(one("get \"x\"y\r\n"), Err(ProtocolError::UnbalancedQuotes));
    }

    #[test]
    fn an_inline_line_with_a_zero_byte_never_ends() {
        assert!(one("PING\0\r\nPING\r\n").expect("waits").is_empty());
    }

    #[test]
    fn a_blank_line_before_a_multibulk_is_skipped() {
        assert_eq!(one("\r\n*1\r\n$4\r\nPING\r\n").expect("parses").len(), 1);
    }

    #[test]
    fn hostile_lengths_get_redis_errors() {
        for (input, error) in [
            ("*1000000000\r\n", ProtocolError::MultibulkLength),
            ("*abc\r\n", ProtocolError::MultibulkLength),
            ("*99999999999999999999\r\n", ProtocolError::MultibulkLength),
            ("*1\r\n$536870913\r\n", ProtocolError::BulkLength),
            ("*1\r\n$-1\r\n", ProtocolError::BulkLength),
            ("*1\r\n:1\r\n", ProtocolError::ExpectedBulk(':')),
            ("*01\r\n$4\r\nPING\r\n", ProtocolError::MultibulkLength),
            ("*-0\r\n", ProtocolError::MultibulkLength),
            ("*1\r\n$04\r\nPING\r\n", ProtocolError::BulkLength),
        ] {
            assert_eq!(one(input), Err(error), "{input:?}");
        }
        let endless = "*".to_owned() + &"1".repeat(MAX_INLINE_LEN + 1);
        assert_eq!(one(&endless), Err(ProtocolError::CountTooLong));
        assert_eq!(
            one(&"x".repeat(MAX_INLINE_LEN + 1)),
            Err(ProtocolError::InlineTooLong)
        );
        assert_eq!(
            one("*0\r\n*-1\r\n*1\r\n$1\r\na\r\n").expect("parses").len(),
            1
        );
    }

    proptest! {
        #[test]
        fn any_split_of_the_input_gives_the_same_commands(
            commands in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5), 0..6),
            pieces in prop::collection::vec(1usize..9, 1..10),
        ) {
            let mut input = Vec::new();
            for args in &commands {
                input.extend(format!("*{}\r\n", args.len()).bytes());
                for arg in args {
                    input.extend(format!("${}\r\n", arg.len()).bytes());
                    input.extend(arg);
                    input.extend(b"\r\n");
                }
            }
            prop_assert_eq!(parse(&input, &pieces), Ok(commands));
        }

        #[test]
        fn garbage_never_panics(input in prop::collection::vec(any::<u8>(), 0..200),
                                pieces in prop::collection::vec(1usize..50, 1..5)) {
            let whole = parse(&input, &[usize::MAX]);
            let split = parse(&input, &pieces);
            prop_assert_eq!(whole.is_err(), split.is_err());
        }

        #[test]
        fn the_library_decodes_the_same_commands(
            commands in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5), 1..4),
        ) {
            use redis_protocol::resp2::{decode::decode, types::OwnedFrame};
            let mut input = Vec::new();
            for args in &commands {
                input.extend(format!("*{}\r\n", args.len()).bytes());
                for arg in args {
                    input.extend(format!("${}\r\n", arg.len()).bytes());
                    input.extend(arg);
                    input.extend(b"\r\n");
                }
            }
            let mut rest = &input[..];
            let mut theirs = Vec::new();
            while let Some((OwnedFrame::Array(frames), used)) = decode(rest).expect("valid") {
                theirs.push(frames.into_iter().map(|f| match f {
                    OwnedFrame::BulkString(bytes) => bytes,
                    other => panic!("{other:?}"),
                }).collect::<Vec<_>>());
                rest = &rest[used..];
            }
            prop_assert_eq!(parse(&input, &[usize::MAX]), Ok(theirs));
        }
    }
}
