//! Deltas of many keys, one behind the other as they are sent: they are put there as they are made, and read where
//! they lie.

use bytes::Bytes;

use super::fields::{put_elements, read_elements};
use super::wire::WireKey;
use crate::logic::causal::Element;
use crate::logic::codec::{DecodeError, Reader, put_bytes};

/// Deltas in one message, at most.
const MOST: usize = 4_096;

/// Deltas of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deltas(Bytes);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneDelta<'a> {
    /// The database.
    pub db: u8,
    /// The key.
    pub name: &'a [u8],
    /// The delta, as a row.
    pub object: &'a [u8],
    /// Not where it would stand beside something that its writer has not seen.
    pub only_over_seen: bool,
    /// The elements of collections that it changes or removes, where what it has seen is of no others.
    pub touched: Option<Vec<Element>>,
}

impl OneDelta<'_> {
    /// Its key.
    pub fn key(&self) -> WireKey {
        WireKey {
            db: self.db,
            name: Bytes::copy_from_slice(self.name),
        }
    }

    /// Appends it to others.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.push(self.db);
        put_bytes(out, self.name);
        put_bytes(out, self.object);
        out.push(u8::from(self.only_over_seen));
        put_elements(out, self.touched.as_deref());
    }

    /// The one that was put at a place.
    pub fn at(raw: &[u8], place: usize) -> Option<OneDelta<'_>> {
        let mut r = Reader(raw.get(place..)?);
        OneDelta::read(&mut r).ok()
    }

    fn read<'a>(r: &mut Reader<'a>) -> Result<OneDelta<'a>, DecodeError> {
        Ok(OneDelta {
            db: r.u8()?,
            name: r.bytes()?,
            object: r.bytes()?,
            only_over_seen: r.u8()? != 0,
            touched: read_elements(r)?,
        })
    }
}

impl Deltas {
    /// What [`OneDelta::put`] has put.
    pub fn of_put(raw: Bytes) -> Self {
        Self(raw)
    }

    /// The same of what came from elsewhere.
    ///
    /// # Errors
    /// When some of it is anything else, or too many are there.
    pub fn new(raw: Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader(&raw);
        let mut count = 0;
        while !r.0.is_empty() {
            OneDelta::read(&mut r)?;
            count += 1;
        }
        if count > MOST {
            return Err(DecodeError::Malformed);
        }
        Ok(Self(raw))
    }

    /// All of them, each with its place.
    pub fn iter(&self) -> impl Iterator<Item = (usize, OneDelta<'_>)> {
        let mut r = Reader(&self.0);
        std::iter::from_fn(move || {
            if r.0.is_empty() {
                return None;
            }
            let place = self.0.len() - r.0.len();
            Some((place, OneDelta::read(&mut r).ok()?))
        })
    }

    /// The one at a place.
    pub fn at(&self, place: usize) -> Option<OneDelta<'_>> {
        OneDelta::at(&self.0, place)
    }

    pub(super) fn raw(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::causal::Kind;

    #[test]
    fn deltas_are_read_as_they_were_put_and_nothing_else_is() {
        let element = Element {
            kind: Kind::Hash,
            name: Bytes::from("field"),
        };
        let deltas = [
            OneDelta {
                db: 3,
                name: b"k",
                object: b"object",
                only_over_seen: true,
                touched: None,
            },
            OneDelta {
                db: 0,
                name: b"",
                object: b"",
                only_over_seen: false,
                touched: Some(vec![element]),
            },
        ];
        let mut raw = Vec::new();
        for delta in &deltas {
            delta.put(&mut raw);
        }
        let read = Deltas::new(raw.clone().into()).expect("they are deltas");
        let all: Vec<OneDelta<'_>> = read.iter().map(|(_, delta)| delta).collect();
        assert_eq!(all, deltas);
        for (place, delta) in read.iter() {
            assert_eq!(read.at(place), Some(delta));
        }
        let many = raw[..12].repeat(MOST + 1);
        assert!(Deltas::new(many[12..].to_vec().into()).is_ok());
        assert!(Deltas::new(many.into()).is_err());
        assert_eq!(deltas[0].key().name, "k");
        for upto in 1..raw.len() {
            let cut = Deltas::new(raw[..upto].to_vec().into());
            let whole = cut.is_ok_and(|cut| cut.iter().count() == 1);
            assert_eq!(whole, upto == 12, "{upto}");
        }
    }
}
