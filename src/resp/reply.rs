//! Replies, appended to the connection's output buffer in the client's protocol version.
//!
//! A reply's RESP3 type is the caller's choice of method; in RESP2 maps and sets flatten to arrays
//! and doubles and verbatim strings to bulks. Attributes are never sent: most clients break on them.

use bytes::{BufMut, BytesMut};

use super::double;

/// The protocol version of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// The default of a new connection.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

/// An output buffer that knows the protocol.
#[derive(Debug, Default)]
pub struct Reply {
    out: BytesMut,
    protocol: Protocol,
}

impl Reply {
    /// The protocol of what follows.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Changes the protocol of what follows.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// The buffer.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Bytes waiting to be sent.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.out.put_slice(b"+OK\r\n");
    }

    /// A simple string.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error; line ends inside become blanks.
    pub fn error(&mut self, text: &str) {
        self.out.put_u8(b'-');
        let clean = text
            .bytes()
            .map(|b| if b == b'\r' || b == b'\n' { b' ' } else { b });
        self.out.extend(clean);
        self.out.put_slice(b"\r\n");
    }

    /// An integer.
    pub fn integer(&mut self, value: i64) {
        self.line(b':', itoa::Buffer::new().format(value).as_bytes());
    }

    /// A bulk string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        put_bulk(&mut self.out, bytes);
    }

    /// A bulk string or nil.
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// Nil where a bulk could stand.
    pub fn null(&mut self) {
        match self.protocol {
            Protocol::Resp2 => self.out.put_slice(b"$-1\r\n"),
            Protocol::Resp3 => self.out.put_slice(b"_\r\n"),
        }
    }

    /// Nil where an array could stand.
    pub fn null_array(&mut self) {
        match self.protocol {
            Protocol::Resp2 => self.out.put_slice(b"*-1\r\n"),
            Protocol::Resp3 => self.out.put_slice(b"_\r\n"),
        }
    }

    /// Starts an array.
    pub fn array(&mut self, len: usize) {
        self.head(b'*', len);
    }

    /// Starts a map of `len` pairs.
    pub fn map(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.head(b'*', len * 2),
            Protocol::Resp3 => self.head(b'%', len),
        }
    }

    /// Starts a set.
    pub fn set(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.head(b'*', len),
            Protocol::Resp3 => self.head(b'~', len),
        }
    }

    /// Starts a list of pairs, each of which [`Self::pair`] starts.
    pub fn pairs(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.array(len * 2),
            Protocol::Resp3 => self.array(len),
        }
    }

    /// Starts one of the pairs of a list.
    pub fn pair(&mut self) {
        if self.protocol == Protocol::Resp3 {
            self.array(2);
        }
    }

    /// A floating-point number that is written down already.
    pub fn decimal(&mut self, text: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => self.line(b',', text.as_bytes()),
        }
    }

    /// A floating-point number, with 17 digits, as Redis 7.0 writes it.
    pub fn double(&mut self, value: f64) {
        self.decimal(&double::format(value));
    }

    /// A text for people.
    pub fn verbatim(&mut self, text: &str) {
        self.verbatim_as(b"txt", text.as_bytes());
    }

    /// A text in a format, which has three letters.
    pub fn verbatim_as(&mut self, format: &[u8], text: &[u8]) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.head(b'=', text.len() + 4);
                let mut letters = [b' '; 4];
                letters
                    .iter_mut()
                    .zip(format.iter().take(3))
                    .for_each(|(to, from)| *to = *from);
                letters[3] = b':';
                self.out.put_slice(&letters);
                self.out.put_slice(text);
                self.out.put_slice(b"\r\n");
            }
        }
    }

    /// Yes or no; in RESP2 a number.
    pub fn boolean(&mut self, is: bool) {
        match self.protocol {
            Protocol::Resp2 => self.integer(i64::from(is)),
            Protocol::Resp3 => self.line(b'#', if is { b"t" } else { b"f" }),
        }
    }

    /// A number of any size, as its digits.
    pub fn big_number(&mut self, digits: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(digits.as_bytes()),
            Protocol::Resp3 => self.line(b'(', digits.as_bytes()),
        }
    }

    /// Starts what was not asked for; in RESP2 an array.
    pub fn push(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.head(b'*', len),
            Protocol::Resp3 => self.head(b'>', len),
        }
    }

    /// An array of bulk strings.
    pub fn bulks<B: AsRef<[u8]>>(&mut self, items: &[B]) {
        self.array(items.len());
        for item in items {
            self.bulk(item.as_ref());
        }
    }

    /// An array that was written before its length was known.
    pub fn list(&mut self, mut listing: Listing) {
        let len = itoa::Buffer::new().format(listing.len).to_owned();
        let head = ["*", &len, "\r\n"].concat();
        let start = HEAD_ROOM - head.len();
        listing.out[start..HEAD_ROOM].copy_from_slice(head.as_bytes());
        let list = listing.out.split_off(start);
        if self.out.is_empty() {
            self.out = list;
        } else {
            self.out.extend_from_slice(&list);
        }
    }

    fn head(&mut self, kind: u8, len: usize) {
        self.line(kind, itoa::Buffer::new().format(len).as_bytes());
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        put_line(&mut self.out, kind, text);
    }
}

/// Bytes that the head of an array takes at most: its kind, twenty digits, its end.
const HEAD_ROOM: usize = 24;

/// The bulk strings of an array whose length is not known yet; nothing is copied when it is.
pub struct Listing {
    out: BytesMut,
    len: usize,
}

impl Default for Listing {
    fn default() -> Self {
        let out = BytesMut::zeroed(HEAD_ROOM);
        Self { out, len: 0 }
    }
}

impl Listing {
    /// Another one.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.len += 1;
        put_bulk(&mut self.out, bytes);
    }
}

fn put_bulk(out: &mut BytesMut, bytes: &[u8]) {
    put_line(
        out,
        b'$',
        itoa::Buffer::new().format(bytes.len()).as_bytes(),
    );
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

fn put_line(out: &mut BytesMut, kind: u8, text: &[u8]) {
    out.reserve(text.len() + 3);
    out.put_u8(kind);
    out.put_slice(text);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(protocol: Protocol, build: impl Fn(&mut Reply)) -> String {
        let mut reply = Reply::default();
        reply.set_protocol(protocol);
        build(&mut reply);
        String::from_utf8(reply.buffer().to_vec()).expect("text")
    }

    #[test]
    fn a_list_is_an_array_of_what_was_listed_wherever_it_comes() {
        for before in ["", "+OK\r\n"] {
            let mut reply = Reply::default();
            reply.buffer().extend_from_slice(before.as_bytes());
            let mut listing = Listing::default();
            (0..12).for_each(|n| listing.bulk(format!("key{n}").as_bytes()));
            reply.list(listing);
            let keys: Vec<_> = (0..12).map(|n| format!("key{n}")).collect();
            let mut expected = Reply::default();
            expected.buffer().extend_from_slice(before.as_bytes());
            expected.bulks(&keys);
            assert_eq!(reply.buffer(), expected.buffer());
        }
    }

    #[test]
    fn each_type_has_its_form_in_both_protocols() {
        let both =
            |build: fn(&mut Reply)| (sent(Protocol::Resp2, build), sent(Protocol::Resp3, build));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(both(Reply::null), pair("$-1\r\n", "_\r\n"));
        assert_eq!(both(Reply::null_array), pair("*-1\r\n", "_\r\n"));
        assert_eq!(both(|r| r.map(2)), pair("*4\r\n", "%2\r\n"));
        assert_eq!(both(|r| r.set(2)), pair("*2\r\n", "~2\r\n"));
        assert_eq!(
            both(|r| r.verbatim("a")),
            pair("$1\r\na\r\n", "=5\r\ntxt:a\r\n")
        );
        assert_eq!(
            both(|r| r.error("ERR a\r\nb")),
            pair("-ERR a  b\r\n", "-ERR a  b\r\n")
        );
    }
}
