//! The arguments of one command, and parsing them as Redis does.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::error::Error;
use crate::logic::codec::DecodeError;
use crate::logic::integer;
use crate::peer::message;

/// A command's words: `args[0]` is its name.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    source: &'a [u8],
    ranges: &'a [Range<usize>],
}

impl<'a> Args<'a> {
    /// Words as ranges of `source`.
    pub fn new(source: &'a [u8], ranges: &'a [Range<usize>]) -> Self {
        Self { source, ranges }
    }

    /// How many words there are, with the name.
    pub fn len(self) -> usize {
        self.ranges.len()
    }

    /// Whether there is not even a name.
    pub fn is_empty(self) -> bool {
        self.ranges.is_empty()
    }

    /// One word; the caller has checked the arity.
    pub fn at(self, nth: usize) -> &'a [u8] {
        &self.source[self.ranges[nth].clone()]
    }

    /// One word, if there are so many.
    pub fn get(self, nth: usize) -> Option<&'a [u8]> {
        self.ranges
            .get(nth)
            .map(|range| &self.source[range.clone()])
    }

    /// The words from `nth` on.
    pub fn from(self, nth: usize) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.ranges
            .iter()
            .skip(nth)
            .map(move |range| &self.source[range.clone()])
    }

    /// Whether a word is this option, in any case.
    pub fn is(self, nth: usize, option: &str) -> bool {
        self.get(nth)
            .is_some_and(|word| word.eq_ignore_ascii_case(option.as_bytes()))
    }

    /// One word as text, for messages.
    pub fn text(self, nth: usize) -> String {
        self.get(nth)
            .map_or_else(String::new, |w| String::from_utf8_lossy(w).into_owned())
    }

    /// One word as Redis's integer.
    pub fn integer(self, nth: usize) -> Result<i64, Error> {
        self.get(nth)
            .and_then(integer::parse)
            .ok_or(Error::NotInteger)
    }

    /// One word as a number of a database.
    pub fn database(self, nth: usize) -> Result<u8, Error> {
        let number = self.integer(nth)?;
        if i32::try_from(number).is_err() {
            return Err(Error::NotInt32);
        }
        u8::try_from(number)
            .ok()
            .filter(|&n| n < crate::replica::DATABASES)
            .ok_or(Error::DbIndex)
    }

    /// The words from `nth` on, as a command of their own.
    pub fn skip(self, nth: usize) -> Args<'a> {
        Args::new(self.source, &self.ranges[nth..])
    }

    /// A copy that outlives the buffer.
    pub fn to_owned(self) -> OwnedArgs {
        let mut owned = OwnedArgs::default();
        owned
            .source
            .reserve(self.ranges.iter().map(Range::len).sum());
        self.from(0).for_each(|word| owned.push(word));
        owned
    }
}

/// Words that outlive the buffer they came in.
#[derive(Clone, Debug, Default)]
pub struct OwnedArgs {
    source: Vec<u8>,
    ranges: SmallVec<[Range<usize>; 4]>,
}

impl OwnedArgs {
    /// Some words.
    pub fn of(words: &[&[u8]]) -> Self {
        let mut owned = Self::default();
        for word in words {
            owned.push(word);
        }
        owned
    }

    /// Adds a word.
    pub fn push(&mut self, word: &[u8]) {
        let start = self.source.len();
        self.source.extend_from_slice(word);
        self.ranges.push(start..self.source.len());
    }

    /// The words that another node has sent.
    pub fn from_wire(raw: Bytes) -> Result<Self, DecodeError> {
        let ranges = message::find_words(&raw)?.collect();
        Ok(Self {
            source: raw.into(),
            ranges,
        })
    }

    /// The words for another node.
    pub fn to_wire(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.source.len() + 4 * self.ranges.len() + 4);
        message::put_words(&mut out, self.as_args().from(0));
        out.into()
    }

    /// Memory that the words hold, in bytes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.source.len() + self.ranges.len() * size_of::<Range<usize>>()
    }

    /// The words.
    pub fn as_args(&self) -> Args<'_> {
        Args::new(&self.source, &self.ranges)
    }
}
