//! What is said of single keys, beside the bar.

use indicatif::ProgressBar;

/// Keys of which something is said, at most.
const MOST: usize = 20;
/// Bytes of a key that are shown, at most.
const MOST_BYTES: usize = 120;

/// Counts what was said.
#[derive(Default)]
pub struct Shown {
    count: usize,
}

impl Shown {
    /// Says something of a key, unless enough was said.
    pub fn of(&mut self, bar: &ProgressBar, db: i64, key: &[u8], what: &str) {
        self.count += 1;
        if self.count <= MOST {
            say(bar, &format!("database {db} key {}: {what}", shown(key)));
        } else if self.count == MOST + 1 {
            say(bar, "more such keys are only counted");
        }
    }
}

/// Prints a line above the bar.
pub fn say(bar: &ProgressBar, line: &str) {
    bar.suspend(|| eprintln!("{line}"));
}

/// A key as a terminal may show it.
pub fn shown(key: &[u8]) -> String {
    let (head, rest) = key.split_at(key.len().min(MOST_BYTES));
    let dots = if rest.is_empty() { "" } else { "…" };
    let text = String::from_utf8_lossy(head);
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.push_str(&format!("\\x{:02x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown + dots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_without_what_a_terminal_would_obey() {
        assert_eq!(shown(b"a\x1b[2Jb"), r"a\x1b[2Jb");
        assert_eq!(shown(&[b'k'; 200]), "k".repeat(120) + "…");
    }
}
