//! Libraries of functions, and those that this node has read last.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::known::{Body, Scripts};
use crate::base::clock;
use crate::error::Error;
use crate::script::{Registered, Source};

/// Who has not been told of a change asks again after so long.
const FRESH: Duration = Duration::from_secs(10);

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

/// All libraries.
#[derive(Debug, Default)]
pub struct Functions {
    /// By name.
    pub libraries: BTreeMap<String, Library>,
    /// By their names in small letters.
    bodies: HashMap<String, Arc<Body>>,
}

/// What a node has read last, and when.
#[derive(Debug, Default)]
pub struct Libraries(Mutex<Option<(Arc<Functions>, Instant)>>);

impl Libraries {
    /// What was read, if anything, however long ago.
    pub(super) fn at_hand(&self) -> Option<Arc<Functions>> {
        let read = self.0.lock();
        read.as_ref().map(|(all, _)| Arc::clone(all))
    }

    /// Whether it was read lately.
    pub(super) fn are_fresh(&self) -> bool {
        let read = self.0.lock();
        let age = read
            .as_ref()
            .map(|(_, at)| clock::monotonic().saturating_duration_since(*at));
        age.is_some_and(|age| age < FRESH)
    }

    /// These were read.
    pub(super) fn keep(&self, scripts: &Scripts, codes: Vec<Bytes>) -> Arc<Functions> {
        let before = self.at_hand().filter(|before| before.has(&codes));
        let all = before.unwrap_or_else(|| Arc::new(Functions::of(scripts, codes.into_iter())));
        *self.0.lock() = Some((Arc::clone(&all), clock::monotonic()));
        all
    }

    /// What was read is to be read again.
    pub fn forget(&self) {
        *self.0.lock() = None;
    }
}

impl Library {
    /// A library that is sent.
    ///
    /// # Errors
    /// When it is none, in Redis's words.
    pub fn read(scripts: &Scripts, code: &[u8]) -> Result<Self, Error> {
        let error = |text: String| Error::Text(format!("ERR {text}").into());
        let name = name_of(code).map_err(error)?;
        let source = Source::of_function(code, "", false);
        let mut machine = scripts.machine();
        let registered = machine
            .compile(&source)
            .map_err(|why| error(format!("Error compiling function: {why}")))
            .and_then(|()| {
                let registered = machine.inspect(&source);
                registered.map_err(|why| error(format!("Error registering functions: {why}")))
            });
        scripts.give_back(machine);
        let mut functions = registered?;
        if functions.is_empty() {
            return Err(error("No functions registered".into()));
        }
        functions.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            name,
            code: Bytes::copy_from_slice(code),
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
            for function in &library.functions {
                let no_writes = function.flags.iter().any(|flag| flag == "no-writes");
                let source = Source::of_function(&library.code, &function.name, no_writes);
                let body = Arc::new(Body::kept(source));
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

    /// Whether a library can be beside the others, of which one of the same name goes.
    pub fn takes(&self, library: &Library, replaces: bool) -> Result<(), Error> {
        if !replaces && self.libraries.contains_key(&library.name) {
            let name = &library.name;
            return Err(Error::Text(
                format!("ERR Library '{name}' already exists").into(),
            ));
        }
        let others = self.libraries.values();
        let others = others.filter(|other| other.name != library.name);
        for function in others.flat_map(|other| &other.functions) {
            if library
                .functions
                .iter()
                .any(|own| own.name == function.name)
            {
                let name = &function.name;
                return Err(Error::Text(
                    format!("ERR Function {name} already exists").into(),
                ));
            }
        }
        Ok(())
    }

    fn has(&self, codes: &[Bytes]) -> bool {
        let ours = self.libraries.values().map(|library| &library.code);
        self.libraries.len() == codes.len() && ours.clone().all(|code| codes.contains(code))
    }
}
