//! A script as it was sent: its SHA-1, its first line.

use std::fmt;

use bytes::Bytes;
use sha1::{Digest, Sha1};
use thiserror::Error;

/// The name of a script: 40 hexadecimal digits.
pub type Sha = [u8; 40];

/// The name of a text.
pub fn sha_of(text: &[u8]) -> Sha {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut name = [0; 40];
    for (two, byte) in name.chunks_exact_mut(2).zip(Sha1::digest(text)) {
        two[0] = DIGITS[usize::from(byte >> 4)];
        two[1] = DIGITS[usize::from(byte & 15)];
    }
    name
}

/// Whether a script is run while nothing may be added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// No.
    #[default]
    Needed,
    /// It adds nothing, or may.
    NotNeeded,
}

/// What a script says of itself in its first line; where there is none it says nothing, and may do all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Whether there is such a line.
    pub is_declared: bool,
    /// `no-writes`.
    pub no_writes: bool,
    /// `allow-oom`.
    pub room: Room,
    /// `allow-cross-slot-keys`.
    pub allow_cross_slot: bool,
}

/// What is wrong with a first line, in Redis's words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Bad {
    /// It has no end.
    #[error("Invalid script shebang")]
    Shebang,
    /// Another engine.
    #[error("Unexpected engine in script shebang: {0}")]
    Engine(String),
    /// An option that is not there.
    #[error("Unknown lua shebang option: {0}")]
    Option(String),
    /// A flag that is not there.
    #[error("Unexpected flag in script shebang: {0}")]
    Flag(String),
}

/// A script, or a function of a library.
pub struct Source {
    /// The script's name; of a function what its library is known by to a machine.
    pub sha: Sha,
    /// All of it: of a function that of its library.
    pub text: Bytes,
    /// What its first line says, or what the function was registered with.
    pub flags: Flags,
    /// The function's name.
    pub(super) function: Option<String>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Source {
    /// A script that was sent.
    ///
    /// # Errors
    /// When its first line is wrong.
    pub fn new(text: &[u8]) -> Result<Self, Bad> {
        let flags = match text.strip_prefix(b"#!") {
            Some(rest) => first_line(rest)?,
            None => Flags::default(),
        };
        Ok(Self {
            sha: sha_of(text),
            text: Bytes::copy_from_slice(text),
            flags,
            function: None,
        })
    }

    /// A library, by itself.
    pub fn of_library(code: Bytes) -> Self {
        let text = [b"library ", &code[..]].concat();
        Self {
            sha: sha_of(&text),
            text: code,
            flags: Flags {
                is_declared: true,
                ..Flags::default()
            },
            function: Some(String::new()),
        }
    }

    /// A function of a library.
    pub fn function(&self, name: &str, flags: &[String]) -> Self {
        let has = |flag: &str| flags.iter().any(|one| one == flag);
        Self {
            sha: self.sha,
            text: self.text.clone(),
            flags: Flags {
                is_declared: true,
                no_writes: has("no-writes"),
                room: if has("allow-oom") {
                    Room::NotNeeded
                } else {
                    Room::Needed
                },
                ..Flags::default()
            },
            function: Some(name.to_owned()),
        }
    }

    /// Whether it is a function of a library.
    pub fn is_function(&self) -> bool {
        self.function.is_some()
    }

    /// Its name as text.
    pub fn name(&self) -> &str {
        let sha = || std::str::from_utf8(&self.sha).unwrap_or_default();
        self.function.as_deref().unwrap_or_else(sha)
    }

    /// What is compiled: its first line is not Lua, but counts as a line.
    pub(super) fn code(&self) -> &[u8] {
        if !self.flags.is_declared {
            return &self.text;
        }
        let end = self.text.iter().position(|byte| *byte == b'\n');
        &self.text[end.unwrap_or(self.text.len())..]
    }
}

fn first_line(rest: &[u8]) -> Result<Flags, Bad> {
    let end = rest.iter().position(|byte| *byte == b'\n');
    let line = &rest[..end.ok_or(Bad::Shebang)?];
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_ascii_whitespace();
    let engine = words.next().unwrap_or_default();
    if engine != "lua" {
        return Err(Bad::Engine(format!("#!{engine}")));
    }
    let mut flags = Flags {
        is_declared: true,
        ..Flags::default()
    };
    for word in words {
        let named = word.strip_prefix("flags=");
        let named = named.ok_or_else(|| Bad::Option(word.to_owned()))?;
        for flag in named.split(',').filter(|flag| !flag.is_empty()) {
            match flag {
                "no-writes" => flags.no_writes = true,
                "allow-cross-slot-keys" => flags.allow_cross_slot = true,
                // No node is ever stale.
                "allow-oom" => flags.room = Room::NotNeeded,
                "allow-stale" | "no-cluster" => {}
                other => return Err(Bad::Flag(other.to_owned())),
            }
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_named_by_its_sha1() {
        let name = sha_of(b"return 1");
        assert_eq!(&name, b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }

    #[test]
    fn the_first_line_says_what_a_script_may_do() {
        let of = |text: &str| Source::new(text.as_bytes()).map(|script| script.flags);
        assert_eq!(of("return 1"), Ok(Flags::default()));
        let flags = of("#!lua flags=no-writes,allow-oom\nreturn 1").expect("a line");
        assert!(flags.is_declared && flags.no_writes);
        assert_eq!(
            of("#!lua\nreturn 1").map(|flags| flags.no_writes),
            Ok(false)
        );
        assert_eq!(of("#!lua"), Err(Bad::Shebang));
        assert_eq!(of("#!js\n"), Err(Bad::Engine("#!js".into())));
        assert_eq!(of("#!lua a=b\n"), Err(Bad::Option("a=b".into())));
        assert_eq!(of("#!lua flags=x\n"), Err(Bad::Flag("x".into())));
    }

    #[test]
    fn the_first_line_counts_as_a_line_of_code() {
        let script = Source::new(b"#!lua\nreturn 1").expect("a line");
        assert_eq!(script.code(), b"\nreturn 1");
    }
}
