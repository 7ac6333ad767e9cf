//! Rows in memory of a table that is not data: indexes, hints and notes. Only those that the tables lack,
//! in order, in layers: one that is written, and older ones that no longer change.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::part::Copied;

/// What a row takes beside key and value: its place in the map.
const ROW_BYTES: usize = 72;

type Map = BTreeMap<Box<[u8]>, Option<Box<[u8]>>>;

/// Rows that no longer change.
#[derive(Debug, Default)]
pub(super) struct Layer {
    rows: Map,
    bytes: u64,
}

/// The layers of one table.
#[derive(Debug, Default)]
pub(super) struct Loose {
    newest: Layer,
    /// The later, the newer.
    older: Vec<Arc<Layer>>,
}

impl Layer {
    fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> i64 {
        let size = |value: Option<&[u8]>| value.map_or(0, <[u8]>::len) as i64;
        let old = self.rows.get_mut(key);
        let grown = if let Some(old) = old {
            let grown = size(value) - size(old.as_deref());
            *old = value.map(Into::into);
            grown
        } else {
            self.rows.insert(key.into(), value.map(Into::into));
            (key.len() + ROW_BYTES) as i64 + size(value)
        };
        self.bytes = self.bytes.saturating_add_signed(grown);
        grown
    }

    /// Some rows, from one on, and the last key where there are more.
    fn range(&self, (from, to): (&[u8], &[u8]), most: usize) -> (Vec<Copied>, Option<Vec<u8>>) {
        let range = (Bound::Included(from), Bound::Excluded(to));
        let rows = self.rows.range::<[u8], _>(range).take(most);
        let rows = rows.map(|(key, value)| (key.to_vec(), value.as_deref().map(<[u8]>::to_vec)));
        let rows: Vec<Copied> = rows.collect();
        let is_cut = rows.len() == most;
        let bound = rows.last().filter(|_| is_cut).map(|(key, _)| key.clone());
        (rows, bound)
    }
}

impl Loose {
    /// What is known of a row: nothing in it says that it was removed.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Option<Box<[u8]>>> {
        let older = self.older.iter().rev().map(|layer| &**layer);
        let mut layers = std::iter::once(&self.newest).chain(older);
        layers.find_map(|layer| layer.rows.get(key))
    }

    /// By how many bytes it has grown.
    pub(super) fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> i64 {
        self.newest.put(key, value)
    }

    /// What is there now changes no more; all of it, the older first.
    pub(super) fn freeze(&mut self) -> Vec<Arc<Layer>> {
        if !self.newest.rows.is_empty() {
            self.older.push(Arc::new(std::mem::take(&mut self.newest)));
        }
        self.older.clone()
    }

    /// The tables have some layers; how many bytes they had.
    pub(super) fn forget(&mut self, layers: &[Arc<Layer>]) -> u64 {
        let is_gone = |layer: &Arc<Layer>| layers.iter().any(|gone| Arc::ptr_eq(gone, layer));
        self.older.retain(|layer| !is_gone(layer));
        layers.iter().map(|layer| layer.bytes).sum()
    }

    /// Rows from one on, with those that were removed; with the last key up to which they are complete,
    /// where that is not `to`.
    pub(super) fn range(
        &self,
        range: (&[u8], &[u8]),
        most: usize,
    ) -> (Vec<Copied>, Option<Vec<u8>>) {
        let older = self.older.iter().map(|layer| &**layer);
        range_of(older.chain([&self.newest]), range, most)
    }
}

/// [`Loose::range`] of layers, the older first.
pub(super) fn range_of<'a>(
    layers: impl Iterator<Item = &'a Layer>,
    range: (&[u8], &[u8]),
    most: usize,
) -> (Vec<Copied>, Option<Vec<u8>>) {
    let mut merged = BTreeMap::new();
    let mut bound: Option<Vec<u8>> = None;
    for layer in layers {
        let (rows, ends) = layer.range(range, most);
        merged.extend(rows);
        bound = match (bound, ends) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    if let Some(bound) = &bound {
        merged.retain(|key, _| key <= bound);
    }
    (merged.into_iter().collect(), bound)
}

/// All rows of layers, the older first, in order.
pub(super) fn merged(layers: &[Arc<Layer>]) -> BTreeMap<&[u8], Option<&[u8]>> {
    let mut merged = BTreeMap::new();
    for layer in layers {
        merged.extend(
            layer
                .rows
                .iter()
                .map(|(key, value)| (&**key, value.as_deref())),
        );
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_layers_hide_older_ones_and_go_on_when_those_are_gone() {
        let mut loose = Loose::default();
        let mut bytes = loose.put(b"a", Some(b"1"));
        bytes += loose.put(b"b", Some(b"1"));
        let frozen = loose.freeze();
        bytes += loose.put(b"a", None);
        bytes += loose.put(b"c", Some(b"longer"));
        bytes += loose.put(b"c", Some(b"2"));
        assert_eq!(loose.get(b"a"), Some(&None));
        assert_eq!(loose.get(b"b"), Some(&Some(b"1"[..].into())));
        assert_eq!(loose.get(b"d"), None);
        let (rows, bound) = loose.range((b"", b"z"), 10);
        assert_eq!((rows.len(), bound), (3, None));
        let (rows, bound) = loose.range((b"", b"z"), 2);
        assert_eq!((rows.len(), bound), (2, Some(b"b".to_vec())));
        assert_eq!(merged(&frozen).get(&b"a"[..]), Some(&Some(&b"1"[..])));
        let freed = loose.forget(&frozen);
        assert_eq!(loose.get(b"b"), None);
        assert_eq!(loose.get(b"a"), Some(&None));
        let rest = loose.freeze();
        assert_eq!(freed + loose.forget(&rest), bytes as u64);
        assert!(loose.freeze().is_empty());
    }
}
