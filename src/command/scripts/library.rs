//! Libraries of functions, and those that this node has read last.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::known::{Body, Scripts};
use crate::base::blocking::at_length;
use crate::base::clock;
use crate::error::Error;
use crate::script::{Registered, Running, Source};

/// Who has not been told of a change asks again after so long.
const FRESH: Duration = Duration::from_secs(10);

/// A library that takes longer is refused.
const MOST_LOADING: Duration = Duration::from_millis(500);
/// Functions of one library.
const MOST_FUNCTIONS: usize = 4_096;

/// A library, as it is kept.
#[derive(Debug)]
pub struct Library {
    /// Its name.
    pub name: String,
    /// All of it.
    pub code: Bytes,
    /// What it registers, by name.
    pub functions: Vec<Registered>,
}

/// Which libraries make room for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goes {
    /// None.
    Nothing,
    /// Those that have the same names.
    OfTheSameName,
    /// All.
    All,
}

/// All libraries.
#[derive(Debug, Default)]
pub struct Functions {
    /// By name.
    pub libraries: BTreeMap<String, Library>,
    /// By their names in small letters.
    bodies: HashMap<String, Arc<Body>>,
}

/// What a node has read last.
#[derive(Debug, Default)]
pub struct Libraries(Mutex<Read>);

#[derive(Debug, Default)]
struct Read {
    all: Option<Arc<Functions>>,
    /// When; `None`: they have changed since then.
    at: Option<Instant>,
    /// How often they have changed.
    changes: u64,
}

impl Libraries {
    /// What was read, if anything, however long ago.
    pub(super) fn at_hand(&self) -> Option<Arc<Functions>> {
        self.0.lock().all.clone()
    }

    /// The same, unless it has changed since then.
    pub(super) fn unchanged(&self) -> Option<Arc<Functions>> {
        let read = self.0.lock();
        read.at.and(read.all.clone())
    }

    /// Whether it was read lately.
    pub(super) fn are_fresh(&self) -> bool {
        let at = self.0.lock().at;
        let age = at.map(|at| clock::monotonic().saturating_duration_since(at));
        age.is_some_and(|age| age < FRESH)
    }

    /// How often they have changed: before they are read.
    pub(super) fn changes(&self) -> u64 {
        self.0.lock().changes
    }

    /// These were read, after so many changes.
    pub(super) fn keep(
        &self,
        scripts: &Scripts,
        codes: Vec<Bytes>,
        changes: u64,
    ) -> Arc<Functions> {
        let before = self.at_hand().filter(|before| before.has(&codes));
        let all = before.unwrap_or_else(|| Arc::new(Functions::of(scripts, codes.into_iter())));
        let mut read = self.0.lock();
        if read.changes == changes {
            read.all = Some(Arc::clone(&all));
            read.at = Some(clock::monotonic());
        }
        all
    }

    /// They have changed: what was read is to be read again.
    pub fn forget(&self) {
        let mut read = self.0.lock();
        read.at = None;
        read.changes += 1;
    }
}

impl Library {
    /// A library that is sent. It may take its time.
    ///
    /// # Errors
    /// When it is none, in Redis's words.
    pub fn read(scripts: &Scripts, code: &[u8]) -> Result<Self, Error> {
        let error = |text: String| Error::Text(format!("ERR {text}").into());
        let name = name_of(code).map_err(error)?;
        let code = Bytes::copy_from_slice(code);
        let source = Source::of_library(code.clone());
        let mut machine = scripts.machine();
        let now = clock::monotonic();
        let running = Arc::new(Running::new(name.clone(), true, now).until(now + MOST_LOADING));
        let registered = at_length(|| {
            machine
                .compile(&source)
                .map_err(|why| error(format!("Error compiling function: {why}")))?;
            machine.inspect(&source, &running).map_err(|why| {
                if running.is_stopped() {
                    return error("FUNCTION LOAD timeout".into());
                }
                error(format!("Error registering functions: {why}"))
            })
        });
        scripts.give_back(machine);
        let mut functions = registered?;
        if functions.is_empty() {
            return Err(error("No functions registered".into()));
        }
        if functions.len() > MOST_FUNCTIONS {
            let why = format!("A library has at most {MOST_FUNCTIONS} functions");
            return Err(error(why));
        }
        functions.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            name,
            code,
            functions,
        })
    }
}

/// The name in a library's first line.
fn name_of(code: &[u8]) -> Result<String, String> {
    let rest = code.strip_prefix(b"#!").ok_or("Missing library metadata")?;
    let end = memchr::memchr(b'\n', rest).ok_or("Invalid library metadata")?;
    let line = String::from_utf8_lossy(&rest[..end]);
    let mut words = line.split_ascii_whitespace();
    let engine = words.next().unwrap_or_default();
    let mut name = None;
    for word in words {
        let given = word.strip_prefix("name=");
        let given = given.ok_or_else(|| format!("Invalid metadata value given: {word}"))?;
        if name.replace(given).is_some() {
            return Err("Invalid metadata value, name argument was given multiple times".into());
        }
    }
    let name = name.ok_or("Library name was not given")?;
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(is_letter) {
        return Err(
            "Library names can only contain letters, numbers, or underscores(_) and must be at least one \
             character long"
                .into(),
        );
    }
    if !engine.eq_ignore_ascii_case("lua") {
        return Err(format!("Engine '{engine}' not found"));
    }
    Ok(name.to_owned())
}

impl Functions {
    /// Those of some libraries; what is none any more is left out.
    pub(super) fn of(scripts: &Scripts, codes: impl Iterator<Item = Bytes>) -> Self {
        let mut all = Self::default();
        for code in codes {
            let library = match Library::read(scripts, &code) {
                Ok(library) => library,
                Err(error) => {
                    tracing::warn!(%error, "a library of functions cannot be loaded");
                    continue;
                }
            };
            let source = Source::of_library(library.code.clone());
            for function in &library.functions {
                let body = Body::kept(source.function(&function.name, &function.flags));
                let body = Arc::new(body);
                all.bodies.insert(function.name.to_ascii_lowercase(), body);
            }
            all.libraries.insert(library.name.clone(), library);
        }
        all
    }

    /// A function by its name.
    pub(super) fn find(&self, name: &[u8]) -> Option<Arc<Body>> {
        let name = std::str::from_utf8(name).ok()?;
        self.bodies.get(&name.to_ascii_lowercase()).cloned()
    }

    /// Whether libraries can be beside those that are there, of which those of the same names go, or all.
    pub fn take(&self, new: &[Library], goes: Goes) -> Result<(), Error> {
        let error = |text: String| Err(Error::Text(format!("ERR {text}").into()));
        let is_new = |name: &str| new.iter().any(|library| library.name == name);
        let mut stays = self.libraries.values();
        if goes == Goes::Nothing
            && let Some(there) = stays.find(|library| is_new(&library.name))
        {
            return error(format!("Library '{}' already exists", there.name));
        }
        let stays = self.libraries.values().filter(|library| match goes {
            Goes::All => false,
            Goes::OfTheSameName | Goes::Nothing => !is_new(&library.name),
        });
        let mut names = HashSet::new();
        for function in stays.chain(new).flat_map(|library| &library.functions) {
            if !names.insert(function.name.to_ascii_lowercase()) {
                return error(format!("Function {} already exists", function.name));
            }
        }
        Ok(())
    }

    fn has(&self, codes: &[Bytes]) -> bool {
        let ours = self.libraries.values().map(|library| &library.code);
        self.libraries.len() == codes.len() && ours.clone().all(|code| codes.contains(code))
    }
}
