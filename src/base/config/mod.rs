//! Directives: one table that feeds the file, the flags, CONFIG and the docs.
//!
//! A value is kept as normalised text (bytes and times as plain numbers, as CONFIG GET shows them).

mod directive;
mod directives;
mod error;
mod events;
mod redis;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use parking_lot::RwLock;
use toml_edit::{DocumentMut, Item, TomlError, Value};

pub use directive::{Directive, Kind, OutputLimit};
pub use error::ConfigError;
pub use events::Events;
pub use redis::{aliases_of, directives};

use directive::OutputLimits;
use redis::{ALIASES, find};

/// The values of all directives.
#[derive(Debug)]
pub struct Config {
    values: RwLock<BTreeMap<&'static str, String>>,
    prefixes: Vec<Prefix>,
    file: Option<PathBuf>,
    hot: Hot,
}

/// A `[[prefix]]` table: other values for keys that begin alike.
#[derive(Clone, Debug, Default)]
pub struct Prefix {
    /// How the keys begin.
    pub prefix: String,
    values: BTreeMap<&'static str, String>,
}

/// What a `[[prefix]]` table may say.
const BY_PREFIX: &[&str] = &[
    "replicas-per-key",
    "read-quorum",
    "write-quorum",
    "quorum",
    "on-conflict",
];

/// Directives that every command or read looks at, as plain numbers.
#[derive(Debug, Default)]
struct Hot {
    max_bulk_len: AtomicI64,
    query_buffer_limit: AtomicI64,
    timeout_secs: AtomicI64,
    /// Whether ordinary clients have an output limit at all.
    output_limited: AtomicBool,
    events: AtomicU32,
}

impl Default for Config {
    fn default() -> Self {
        let normal = |d: &Directive| d.normalise(d.default).expect("defaults are valid");
        let values = directives().map(|d| (d.name, normal(d))).collect();
        let config = Self {
            values: RwLock::new(values),
            prefixes: Vec::new(),
            file: None,
            hot: Hot::default(),
        };
        config.refresh_hot();
        config
    }
}

/// What is said for one start, and never written down.
const FOR_ONE_START: &[&str] = &["accept-damaged-store"];
/// What is said instead of a secret.
const REDACTED: &str = "(redacted)";
/// The directive that clients cannot read.
const UNREADABLE: &str = "cluster-secret";
/// Directives whose values are shown to nobody else.
const SECRETS: &[&str] = &["requirepass", UNREADABLE];

/// Whether a directive's value is a secret.
pub fn is_secret(name: &[u8]) -> bool {
    let mut secrets = SECRETS.iter();
    secrets.any(|secret| name.eq_ignore_ascii_case(secret.as_bytes()))
}

/// Puts a text in the place of a file, as a whole or not at all, with the owner and the permissions of what
/// was there. Nobody else can read it before.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
    // A link goes on leading to it.
    let path = path.canonicalize()?;
    let before = std::fs::metadata(&path)?;
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    let _ = std::fs::remove_file(&aside);
    let written = (|| {
        let mut options = std::fs::OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&aside)?;
        file.write_all(text.as_bytes())?;
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != (before.uid(), before.gid()) {
            // A process that may not give it away keeps it, as an editor's would.
            let _ = chown(&aside, Some(before.uid()), Some(before.gid()));
        }
        file.set_permissions(before.permissions())?;
        file.sync_all()?;
        std::fs::rename(&aside, &path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&aside);
    }
    written?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::File::open(dir)?.sync_all()
}

impl Config {
    /// Defaults, then the file, then the flags.
    pub fn load<'a>(
        file: Option<&Path>,
        flags: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ConfigError> {
        let mut config = Self {
            file: file.map(Path::to_path_buf),
            ..Self::default()
        };
        if let Some(path) = file {
            config.load_file(path)?;
        }
        for (name, value) in flags {
            config.assign(name, value)?;
        }
        Ok(config)
    }

    /// One value.
    pub fn text(&self, name: &str) -> String {
        let values = self.values.read();
        values.get(name).cloned().unwrap_or_default()
    }

    /// One value as a number; a switch counts as 0 or 1.
    pub fn number(&self, name: &str) -> i64 {
        match self.values.read().get(name).map(String::as_str) {
            Some("yes") => 1,
            Some(text) => text.parse().unwrap_or(0),
            None => 0,
        }
    }

    /// The `[[prefix]]` tables.
    pub fn prefixes(&self) -> &[Prefix] {
        &self.prefixes
    }

    /// One value for keys with a prefix (or all the others).
    pub fn text_for(&self, prefix: Option<&Prefix>, name: &str) -> String {
        let own = prefix.and_then(|prefix| prefix.values.get(name).cloned());
        own.unwrap_or_else(|| self.text(name))
    }

    /// `proto-max-bulk-len`, in bytes.
    pub fn max_bulk_len(&self) -> i64 {
        self.hot.max_bulk_len.load(Ordering::Relaxed)
    }

    /// `client-query-buffer-limit`, in bytes.
    pub fn query_buffer_limit(&self) -> i64 {
        self.hot.query_buffer_limit.load(Ordering::Relaxed)
    }

    /// `timeout`, in seconds; 0 for never.
    pub fn timeout_secs(&self) -> i64 {
        self.hot.timeout_secs.load(Ordering::Relaxed)
    }

    /// `client-output-buffer-limit` of ordinary clients, when it limits anything.
    pub fn output_limit(&self) -> Option<OutputLimit> {
        if !self.hot.output_limited.load(Ordering::Relaxed) {
            return None;
        }
        let limits = OutputLimits::parse(&self.text("client-output-buffer-limit"));
        limits.map(OutputLimits::normal)
    }

    /// `client-output-buffer-limit` of clients that listen to channels.
    pub fn pubsub_limit(&self) -> OutputLimit {
        let limits = OutputLimits::parse(&self.text("client-output-buffer-limit"));
        limits.map_or_else(OutputLimit::default, OutputLimits::pubsub)
    }

    /// The events that are published.
    pub fn events(&self) -> Events {
        Events(self.hot.events.load(Ordering::Relaxed))
    }

    fn refresh_hot(&self) {
        let take = |hot: &AtomicI64, name| hot.store(self.number(name), Ordering::Relaxed);
        take(&self.hot.max_bulk_len, "proto-max-bulk-len");
        take(&self.hot.query_buffer_limit, "client-query-buffer-limit");
        take(&self.hot.timeout_secs, "timeout");
        let limits = OutputLimits::parse(&self.text("client-output-buffer-limit"));
        let limited =
            limits.is_some_and(|l| l.normal().hard_bytes != 0 || l.normal().soft_bytes != 0);
        self.hot.output_limited.store(limited, Ordering::Relaxed);
        let events = Events::parse(&self.text("notify-keyspace-events")).unwrap_or_default();
        let events = if events.are_published() { events.0 } else { 0 };
        self.hot.events.store(events, Ordering::Relaxed);
    }

    /// One switch.
    pub fn is_on(&self, name: &str) -> bool {
        self.values.read().get(name).is_some_and(|v| v == "yes")
    }

    /// All names and values whose name matches, as clients may see them: what makes a node a member is
    /// nobody's to read.
    pub fn matching(&self, wanted: impl Fn(&str) -> bool) -> Vec<(&'static str, String)> {
        let values = self.values.read();
        let names = values.keys().map(|name| (*name, *name));
        names
            .chain(ALIASES.iter().copied())
            .filter(|(shown, _)| wanted(shown))
            .map(|(shown, name)| match &values[name] {
                value if name == UNREADABLE && !value.is_empty() => (shown, REDACTED.to_owned()),
                value => (shown, value.clone()),
            })
            .collect()
    }

    /// Changes directives while the server runs: all of them or none.
    pub fn set(&self, changes: &[(String, String)]) -> Result<(), ConfigError> {
        let mut normal = Vec::new();
        for (name, value) in changes {
            let directive = find(name)?;
            if !directive.mutable {
                return Err(ConfigError::Immutable(directive.name));
            }
            normal.push((directive.name, directive.normalise(value)?));
        }
        self.values.write().extend(normal);
        self.refresh_hot();
        Ok(())
    }

    /// Writes the values that differ from the file's back into it, keeping everything else.
    pub fn rewrite(&self) -> Result<(), ConfigError> {
        let path = self.file.as_deref().ok_or(ConfigError::NoFile)?;
        let fail = |reason: String| ConfigError::File {
            path: path.to_path_buf(),
            reason,
        };
        let mut document = document(path)?;
        let before = Self::load(Some(path), std::iter::empty())?;
        let own = directives().filter(|d| !FOR_ONE_START.contains(&d.name));
        for directive in own {
            let now = self.text(directive.name);
            if now == before.text(directive.name) {
                continue;
            }
            let mut value = directive.toml(&now);
            // Of several the last counts.
            let items = document.iter_mut();
            let named =
                items.filter(|(name, _)| find(name).is_ok_and(|d| d.name == directive.name));
            if let Some((_, item)) = named.last() {
                // What stands before and behind it stays.
                if let Some(old) = item.as_value() {
                    *value.decor_mut() = old.decor().clone();
                }
                *item = value.into();
            } else {
                document.insert(directive.name, value.into());
            }
        }
        replace(path, &document.to_string()).map_err(|e| fail(e.to_string()))
    }

    /// The file that was loaded.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What a file with this text would say.
    ///
    /// # Errors
    /// In words, when it is no such file.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let mut config = Self::default();
        let document = text.parse().map_err(|e: TomlError| e.to_string())?;
        config.take(&document)?;
        Ok(config)
    }

    fn load_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let taken = self.take(&document(path)?);
        taken.map_err(|reason| ConfigError::File {
            path: path.to_path_buf(),
            reason,
        })
    }

    fn take(&mut self, document: &DocumentMut) -> Result<(), String> {
        for (name, item) in document.iter() {
            if name == "prefix" {
                self.prefixes = prefixes(item)?;
                continue;
            }
            let text = as_text(name, item)?;
            self.assign(name, &text).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn assign(&self, name: &str, value: &str) -> Result<(), ConfigError> {
        let directive = find(name)?;
        let value = directive.normalise(value)?;
        self.values.write().insert(directive.name, value);
        self.refresh_hot();
        Ok(())
    }
}

fn document(path: &Path) -> Result<DocumentMut, ConfigError> {
    let fail = |reason: String| ConfigError::File {
        path: path.to_path_buf(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
    text.parse().map_err(|e: TomlError| fail(e.to_string()))
}

/// A value of the file as flags write it.
fn as_text(name: &str, item: &Item) -> Result<String, String> {
    Ok(match item {
        Item::Value(Value::String(text)) => text.value().clone(),
        Item::Value(Value::Integer(number)) => number.value().to_string(),
        Item::Value(Value::Boolean(on)) => if *on.value() { "yes" } else { "no" }.to_owned(),
        Item::Value(Value::Array(items)) if items.iter().all(Value::is_str) => {
            let words: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            words.join(" ")
        }
        other => return Err(format!("'{name}' cannot be a {}", other.type_name())),
    })
}

fn prefixes(item: &Item) -> Result<Vec<Prefix>, String> {
    let Some(tables) = item.as_array_of_tables() else {
        return Err("a prefix is a table: [[prefix]]".to_owned());
    };
    let mut prefixes: Vec<Prefix> = Vec::new();
    for table in tables {
        let mut new = Prefix::default();
        for (name, item) in table {
            let text = as_text(name, item)?;
            if name == "prefix" {
                new.prefix = text;
                continue;
            }
            if !BY_PREFIX.contains(&name) {
                let known = BY_PREFIX.join(", ");
                return Err(format!("a prefix has no '{name}', only: {known}"));
            }
            let directive = find(name).map_err(|e| e.to_string())?;
            let value = directive.normalise(&text).map_err(|e| e.to_string())?;
            new.values.insert(directive.name, value);
        }
        if new.prefix.is_empty() || prefixes.iter().any(|p| p.prefix == new.prefix) {
            return Err("every [[prefix]] says which, in 'prefix', and none twice".to_owned());
        }
        prefixes.push(new);
    }
    Ok(prefixes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_override_the_file_and_the_file_overrides_defaults() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.toml");
        std::fs::write(&path, "port = 7000\ncache-size = \"1mb\"\n").expect("write");
        let flags = [("port", "7001")];
        let config = Config::load(Some(&path), flags.into_iter()).expect("loads");
        assert_eq!(
            (config.number("port"), config.number("cache-size")),
            (7_001, 1 << 20)
        );
        config.set(&[("timeout".into(), "5".into())]).expect("set");
        config.rewrite().expect("rewrite");
        let again = Config::load(Some(&path), std::iter::empty()).expect("loads");
        assert_eq!((again.number("timeout"), again.number("port")), (5, 7_001));
    }

    #[test]
    fn a_rewrite_keeps_what_it_does_not_change_and_the_file_can_be_read_again() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let (path, link) = (dir.path().join("x.toml"), dir.path().join("link.toml"));
        let before = "# the first\nbind = [ # where\n  \"127.0.0.1\", # here\n  \"-::1\",\n]\n\
                      \"timeout\" = 1 # seconds\nMaxClients = 10\nnode-name = 'a = [b'\n\n\
                      # by prefix\n[[prefix]]\nprefix = \"a\" # any\nread-quorum = 1\n";
        std::fs::write(&path, before).expect("write");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, private.clone()).expect("private");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        let flags = [
            ("bind", "127.0.0.1"),
            ("accept-damaged-store", "yes"),
            ("cache-size", "7mb"),
        ];
        let config = Config::load(Some(&link), flags.into_iter()).expect("loads");
        let set = [
            ("timeout", "5"),
            ("maxclients", "77"),
            ("slowlog-max-len", "9"),
        ];
        let set = set.map(|(name, value)| (name.to_owned(), value.to_owned()));
        config.set(&set).expect("set");
        for _ in 0..2 {
            config.rewrite().expect("rewrite");
        }
        let after = "# the first\nbind = \"127.0.0.1\"\n\"timeout\" = 5 # seconds\nMaxClients = 77\n\
                     node-name = 'a = [b'\n";
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text.starts_with(after), "{text}");
        let end = "\n# by prefix\n[[prefix]]\nprefix = \"a\" # any\nread-quorum = 1\n";
        assert!(text.ends_with(end), "{text}");
        assert_eq!(text.lines().count(), 12, "{text}");
        let again = Config::load(Some(&path), std::iter::empty()).expect("loads");
        for name in [
            "timeout",
            "maxclients",
            "slowlog-max-len",
            "bind",
            "cache-size",
        ] {
            assert_eq!(again.text(name), config.text(name), "{name}");
        }
        assert!(
            !again.is_on("accept-damaged-store"),
            "it was meant for one start"
        );
        let mode = |path| {
            std::fs::symlink_metadata(path)
                .expect("there")
                .permissions()
        };
        assert_eq!(mode(&path).mode() & 0o777, 0o600);
        assert!(
            std::fs::symlink_metadata(&link)
                .expect("there")
                .is_symlink()
        );
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 2);
    }

    #[test]
    fn a_prefix_has_values_of_its_own_and_a_rewrite_leaves_it_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.toml");
        let table = "[[prefix]]\nprefix = \"cart:\"\nread-quorum = 1\nquorum = \"strict\"\n";
        std::fs::write(&path, format!("port = 7000\n{table}")).expect("write");
        let config = Config::load(Some(&path), std::iter::empty()).expect("loads");
        let changes = [
            ("timeout".into(), "5".into()),
            ("maxclients".into(), "77".into()),
        ];
        config.set(&changes).expect("set");
        config.rewrite().expect("rewrite");
        let again = Config::load(Some(&path), std::iter::empty()).expect("loads");
        assert_eq!(again.number("maxclients"), 77);
        let cart = again.prefixes().first();
        assert_eq!(cart.expect("one").prefix, "cart:");
        let of = |name: &str| (again.text_for(cart, name), again.text_for(None, name));
        assert_eq!(of("read-quorum"), ("1".into(), "2".into()));
        assert_eq!(of("quorum"), ("strict".into(), "sloppy".into()));
        assert_eq!(of("write-quorum"), ("2".into(), "2".into()));
        for bad in [
            "[[prefix]]\nread-quorum = 1\n",
            "[[prefix]]\nprefix = \"a\"\nport = 1\n",
            "[[prefix]]\nprefix = \"a\"\nread-quorum = 0\n",
            "[prefix]\nprefix = \"a\"\n",
        ] {
            std::fs::write(&path, bad).expect("write");
            assert!(
                Config::load(Some(&path), std::iter::empty()).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn output_limits_take_one_class_or_several() {
        let config = Config::default();
        assert_eq!(config.output_limit(), None);
        let set = |value: &str| config.set(&[("client-output-buffer-limit".into(), value.into())]);
        set("normal 1mb 1kb 5 replica 0 0 0").expect("set");
        let limit = config.output_limit().expect("a limit");
        assert_eq!(
            (limit.hard_bytes, limit.soft_bytes, limit.soft_secs),
            (1 << 20, 1 << 10, 5)
        );
        let shown = config.text("client-output-buffer-limit");
        assert_eq!(
            shown,
            "normal 1048576 1024 5 slave 0 0 0 pubsub 33554432 8388608 60"
        );
        for bad in [
            "normal 1 2",
            "nobody 1 2 3",
            "normal -1 0 0",
            "normal x 0 0",
        ] {
            assert!(set(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bad_names_and_values_are_named() {
        let config = Config::default();
        let set = |n: &str, v: &str| {
            config
                .set(&[(n.into(), v.into())])
                .map_err(|e| e.to_string())
        };
        assert!(
            set("nonsense", "1")
                .expect_err("unknown")
                .contains("nonsense")
        );
        assert!(
            set("maxclients", "many")
                .expect_err("bad")
                .contains("maxclients")
        );
        assert!(
            set("port", "1")
                .expect_err("immutable")
                .contains("cannot be changed")
        );
    }
}
