//! What a store is, in one small text file.

use std::fs::{self, File};
use std::path::Path;

use super::StoreError;
use super::fjall_tables::{damaged, io_error};
use super::layout::{MARKS, TABLES_DIR};

/// The layout that this program writes; a newer one is refused by name.
const FORMAT: &str = "ringwood store, format 4";
/// Those before, which are taken over: several databases, each with a journal of its own.
const SHARDED: [&str; 2] = ["ringwood store, format 3", "ringwood store, format 2"];
/// The first one said nothing of the shards' making, and had no checksum.
const FORMAT_1: &str = "ringwood store, format 1";
const NAME: &str = "ringwood.store";

/// Which store a directory has.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) id: String,
    pub(super) is_new: bool,
    /// Whether all of it was made once: then nothing may be missing.
    pub(super) is_made: bool,
    /// Of an earlier layout: how many shards.
    pub(super) shards: Option<usize>,
}

impl Identity {
    /// Of a directory; a new one where there is none.
    pub(super) fn load_or_create(dir: &Path, accepts_damage: bool) -> Result<Self, StoreError> {
        let path = dir.join(NAME);
        match fs::read(&path) {
            Ok(raw) => {
                let text = String::from_utf8_lossy(&raw);
                let identity = Self::parse(&text).ok_or_else(|| {
                    damaged(
                        &path,
                        "not a description of a store that this program can read",
                    )
                })?;
                identity.check(dir, &path, accepts_damage)?;
                Ok(identity)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let holds_data = ["shard-0", TABLES_DIR];
                if holds_data.iter().any(|name| dir.join(name).exists()) {
                    return Err(damaged(&path, "missing, though the directory holds data"));
                }
                let identity = Self {
                    id: random_id(),
                    is_new: true,
                    is_made: false,
                    shards: None,
                };
                identity.write(&path).map_err(|e| io_error(&path, e))?;
                Ok(identity)
            }
            Err(e) => Err(io_error(&path, e)),
        }
    }

    /// All of it is there, in the layout of this program: from now on nothing may be missing.
    pub(super) fn be_made(mut self, dir: &Path) -> Result<Self, StoreError> {
        (self.is_made, self.shards) = (true, None);
        let path = dir.join(NAME);
        let is_said = fs::read(&path).is_ok_and(|raw| raw == self.text().as_bytes());
        if !is_said {
            self.write(&path).map_err(|e| io_error(&path, e))?;
        }
        Ok(self)
    }

    /// A number for the identity.
    pub(super) fn number(&self) -> u64 {
        crate::logic::placement::key_hash(self.id.as_bytes())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let format = lines.next()?;
        let id = lines.next()?.strip_prefix("id ")?.to_owned();
        let is_id = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        let mut shards = || -> Option<usize> {
            let shards = lines.next()?.strip_prefix("shards ")?.parse().ok()?;
            (1..=256).contains(&shards).then_some(shards)
        };
        let shards = match format {
            FORMAT => None,
            _ => Some(shards()?),
        };
        let mut identity = Self {
            id,
            is_new: false,
            is_made: false,
            shards,
        };
        let is_read = if format == FORMAT_1 {
            identity.is_made = lines.next().is_none();
            true
        } else {
            let is_known = format == FORMAT || SHARDED.contains(&format);
            identity.is_made = lines.next()?.strip_prefix("state ")? == "made";
            // The checksum covers every byte before it.
            is_known && identity.text_of(format) == text
        };
        (is_id && is_read).then_some(identity)
    }

    fn text(&self) -> String {
        self.text_of(FORMAT)
    }

    fn text_of(&self, format: &str) -> String {
        let state = if self.is_made { "made" } else { "making" };
        let shards = match self.shards {
            Some(shards) => format!("shards {shards}\n"),
            None => String::new(),
        };
        let body = format!("{format}\nid {}\n{shards}state {state}\n", self.id);
        let sum = crc32fast::hash(body.as_bytes());
        format!("{body}check {sum:08x}\n")
    }

    /// Whether the directory has what it says, and nothing else.
    fn check(&self, dir: &Path, path: &Path, accepts_damage: bool) -> Result<(), StoreError> {
        // What is missing can be accepted, and is empty then.
        let must_be_there = self.is_made && !accepts_damage;
        let is_there = |name: String| dir.join(name).exists();
        let Some(shards) = self.shards else {
            let all = [TABLES_DIR.to_owned(), format!("{MARKS}.mark")];
            return match all.into_iter().find(|name| !is_there(name.clone())) {
                Some(missing) if must_be_there => Err(damaged(&dir.join(missing), "it is missing")),
                _ => Ok(()),
            };
        };
        let has = |shard: usize| {
            is_there(format!("shard-{shard}")) || is_there(format!("shard-{shard}.mark"))
        };
        let more = (shards..=256).any(has);
        let fewer = must_be_there && !(0..shards).all(has);
        if more || fewer {
            let what = format!("it says {shards} shards, and there are others");
            return Err(damaged(path, &what));
        }
        Ok(())
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let temporary = path.with_extension("new");
        fs::write(&temporary, self.text())?;
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn random_id() -> String {
    let mut raw = [0; 16];
    getrandom::fill(&mut raw).expect("the operating system has randomness");
    format!("{:032x}", u128::from_le_bytes(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn read(dir: &Path, text: &str) -> Result<Identity, StoreError> {
        fs::write(dir.join(NAME), text).expect("written");
        Identity::load_or_create(dir, false)
    }

    fn checked(body: &str) -> String {
        format!("{body}check {:08x}\n", crc32fast::hash(body.as_bytes()))
    }

    #[test]
    fn earlier_layouts_are_told_apart_from_spoilt_ones() {
        let dir = tempfile::tempdir().expect("a folder");
        for shard in ["shard-0", "shard-1"] {
            fs::create_dir(dir.path().join(shard)).expect("made");
        }
        let first = |shards| format!("{FORMAT_1}\nid {ID}\nshards {shards}\n");
        for wrong in [1, 3] {
            let read = read(dir.path(), &first(wrong));
            assert!(matches!(read, Err(StoreError::Damaged { .. })), "{wrong}");
        }
        let found = read(dir.path(), &first(2)).expect("read");
        assert_eq!((found.shards, found.is_made), (Some(2), true));
        for format in SHARDED {
            let text = checked(&format!("{format}\nid {ID}\nshards 2\nstate making\n"));
            let found = read(dir.path(), &text).expect("read");
            assert_eq!((found.shards, found.is_made), (Some(2), false));
            let renamed = text.replace("format 3", "format 2");
            assert!(renamed == text || read(dir.path(), &renamed).is_err());
        }
        let newer = checked(&format!("ringwood store, format 5\nid {ID}\nstate made\n"));
        assert!(read(dir.path(), &newer).is_err());
    }

    #[test]
    fn a_store_that_was_made_once_has_all_its_parts() {
        let dir = tempfile::tempdir().expect("a folder");
        let made = checked(&format!("{FORMAT}\nid {ID}\nstate made\n"));
        assert!(read(dir.path(), &made).is_err());
        fs::create_dir(dir.path().join(TABLES_DIR)).expect("made");
        assert!(read(dir.path(), &made).is_err());
        fs::write(dir.path().join("store.mark"), "").expect("made");
        assert_eq!(read(dir.path(), &made).expect("read").text(), made);
        fs::remove_file(dir.path().join(NAME)).expect("removed");
        assert!(Identity::load_or_create(dir.path(), false).is_err());
    }
}
