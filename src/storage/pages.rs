//! How many rows to read at a time: about as many bytes as there is use for, whatever the size of values.

use super::Row;

/// Nothing is known yet of how large rows are.
const FIRST: usize = 8;

/// Sizes of pages, by what the last one had.
#[derive(Debug)]
pub(crate) struct Pages {
    most: usize,
    bytes: usize,
    next: usize,
}

impl Pages {
    /// Pages of about so many bytes, and at most so many rows.
    pub(crate) fn of(bytes: usize, most: usize) -> Self {
        Self {
            most,
            bytes,
            next: FIRST.min(most),
        }
    }

    /// How many rows the next page has.
    pub(crate) fn rows(&self) -> usize {
        self.next
    }

    /// A page was read; how many bytes it had.
    pub(crate) fn read(&mut self, page: &[Row]) -> usize {
        let bytes: usize = page.iter().map(|(key, row)| key.len() + row.len()).sum();
        if let Some(each) = bytes.checked_div(page.len()) {
            self.next = (self.bytes / each.max(1)).clamp(1, self.most);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_small_rows_grow_and_those_of_large_ones_have_a_row() {
        let page = |len: usize| vec![(vec![0; 10], vec![0; len - 10]); 4];
        let mut pages = Pages::of(1 << 20, 512);
        assert_eq!(pages.rows(), FIRST);
        assert_eq!(pages.read(&page(100)), 400);
        assert_eq!(pages.rows(), 512);
        pages.read(&page(100 << 10));
        assert_eq!(pages.rows(), 10);
        pages.read(&page(4 << 20));
        assert_eq!(pages.rows(), 1);
    }
}
