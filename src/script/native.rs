//! What of a script's world is written in Rust: how it asks for commands, and the library `redis` beside that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mlua::{Lua, LuaString, Table, Value, Variadic};
use parking_lot::Mutex;
use thiserror::Error;

use super::fault::{innermost, locate, number, place, place_in, plainly, wrong};
use super::host::{Called, Host};
use super::random::Random;
use super::running::Running;
use super::{bits, json, msgpack, structs, values};
use crate::base::random::random_u64;
use crate::resp::format_double;

/// What `attempt` says, as the prelude knows it.
const REPLY: i64 = 1;
const ERROR: i64 = 2;
pub(super) const ELSEWHERE: i64 = 3;

/// The version that scripts may look at: that of the Redis whose scripts run here.
const VERSION: &str = "7.0.15";
const VERSION_NUMBER: i64 = 0x0007_000f;

/// What the functions of a machine share: who runs its commands now, and what the script has set.
pub(super) struct Inside {
    pub(super) host: Mutex<Option<Box<dyn Host>>>,
    pub(super) running: Mutex<Option<Arc<Running>>>,
    pub(super) random: Mutex<Random>,
    /// How the script has its JSON.
    pub(super) json: Arc<Mutex<json::Settings>>,
    /// Whether replies are to be those of RESP3.
    pub(super) resp3: AtomicBool,
}

impl Default for Inside {
    fn default() -> Self {
        Self {
            host: Mutex::default(),
            running: Mutex::default(),
            random: Mutex::new(Random::seeded(random_u64() as i32)),
            json: Arc::default(),
            resp3: AtomicBool::default(),
        }
    }
}

impl Inside {
    /// What a script is told of a command's reply.
    pub(super) fn answer(lua: &Lua, reply: &[u8]) -> mlua::Result<(i64, Value)> {
        if values::is_error(reply) {
            let error = values::to_lua(lua, reply)?;
            if let Value::Table(table) = &error {
                table.raw_set("ignore_error_stats_update", true)?;
            }
            return Ok((ERROR, error));
        }
        Ok((REPLY, values::to_lua(lua, reply)?))
    }

    /// Runs a command.
    fn attempt(&self, lua: &Lua, args: &[Value]) -> mlua::Result<(i64, Value)> {
        if args.is_empty() {
            let why = "ERR Please specify at least one argument for this redis lib call";
            return refused(lua, why);
        }
        let Some(words) = Words::of(args) else {
            return refused(
                lua,
                "ERR Lua redis lib command arguments must be strings or integers",
            );
        };
        let mut host = self.host.lock();
        let Some(host) = host.as_mut() else {
            let why = "ERR redis.call/pcall can only be called inside a script invocation";
            return refused(lua, why);
        };
        let called = words.with(|words| host.call(words, self.resp3.load(Ordering::Relaxed)));
        match called {
            Called::Replied(reply) => Self::answer(lua, reply),
            Called::Elsewhere => Ok((ELSEWHERE, Value::Nil)),
        }
    }
}

fn refused(lua: &Lua, why: &str) -> mlua::Result<(i64, Value)> {
    let table = values::single(lua, "err", why.as_bytes())?;
    Ok((ERROR, Value::Table(table)))
}

/// The words of a command, where a number is written as text.
struct Words(Vec<Word>);

enum Word {
    Lua(mlua::BorrowedBytes),
    Written(String),
}

impl Words {
    fn of(args: &[Value]) -> Option<Self> {
        let word = |value: &Value| match value {
            Value::String(text) => Some(Word::Lua(text.as_bytes())),
            Value::Integer(number) if number.unsigned_abs() < 1 << 53 => Some(Word::Written(
                itoa::Buffer::new().format(*number).to_owned(),
            )),
            Value::Integer(number) => Some(Word::Written(format_double(*number as f64))),
            Value::Number(number) => Some(Word::Written(format_double(*number))),
            _ => None,
        };
        args.iter().map(word).collect::<Option<_>>().map(Self)
    }

    fn with<'r, R: 'r>(&self, does: impl FnOnce(&[&[u8]]) -> R) -> R {
        let words: smallvec::SmallVec<[&[u8]; 8]> = self
            .0
            .iter()
            .map(|word| match word {
                Word::Lua(bytes) => &**bytes,
                Word::Written(text) => text.as_bytes(),
            })
            .collect();
        does(&words)
    }
}

/// What an error comes to: a table with its text and its place.
fn handled(lua: &Lua, running: Option<&Running>, error: Value) -> mlua::Result<Value> {
    if running.is_some_and(Running::is_stopped) {
        let why = "ERR Error running script: Script killed by user with SCRIPT KILL.";
        let table = values::single(lua, "err", why.as_bytes())?;
        locate(&table, place(lua))?;
        return Ok(Value::Table(table));
    }
    if let Value::Table(table) = &error {
        locate(table, place(lua))?;
        return Ok(error);
    }
    let message = match &error {
        Value::String(text) => text.to_string_lossy(),
        Value::Error(error) => match error.downcast_ref() {
            Some(Refused(text)) => {
                let table = values::single(lua, "err", text.as_bytes())?;
                locate(&table, place(lua))?;
                return Ok(Value::Table(table));
            }
            None => innermost(error),
        },
        other => other.to_string()?,
    };
    let table = values::single(lua, "err", format!("ERR {message}").as_bytes())?;
    locate(&table, place(lua).or_else(|| place_in(&message)))?;
    Ok(Value::Table(table))
}

/// An error as Redis makes one of a text: without a code it is ERR's.
fn error_text(text: &str) -> String {
    let text = text.strip_prefix('-').unwrap_or(text);
    let text = text.trim_end_matches(['\r', '\n']);
    if text.contains(' ') {
        text.to_owned()
    } else {
        format!("ERR {text}")
    }
}

/// What a command was answered, raised as an error.
#[derive(Debug, Error)]
#[error("{0}")]
struct Refused(String);

/// A command's error as a table, its other reply as it is.
fn raised(lua: &Lua, (what, value): (i64, Value)) -> mlua::Result<Value> {
    match (what, &value) {
        (ERROR, Value::Table(table)) => {
            let text: LuaString = table.raw_get("err")?;
            Err(mlua::Error::external(Refused(text.to_string_lossy())))
        }
        (ELSEWHERE, _) => wrong(lua, "no command runs elsewhere"),
        _ => Ok(value),
    }
}

/// An error of Rust's as a script sees it: of a command a table, else its text.
fn as_lua(lua: &Lua, error: &mlua::Error) -> mlua::Result<Value> {
    if let Some(Refused(text)) = error.downcast_ref() {
        let table = values::single(lua, "err", text.as_bytes())?;
        table.raw_set("ignore_error_stats_update", true)?;
        locate(&table, place(lua))?;
        return Ok(Value::Table(table));
    }
    Ok(Value::String(lua.create_string(innermost(error))?))
}

fn one_text(args: &[Value]) -> Option<&LuaString> {
    match args {
        [Value::String(text)] => Some(text),
        _ => None,
    }
}

const ONE_STRING: &str = "wrong number or type of arguments";

/// The library `redis`, without what runs commands.
fn redis(lua: &Lua, inside: &Arc<Inside>) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    put_replies(lua, &library)?;
    put_settings(lua, &library, inside)?;
    let of = Arc::clone(inside);
    let check = move |_: &Lua, args: Variadic<Value>| {
        let words = Words::of(&args).filter(|words| !words.0.is_empty());
        let Some(words) = words else {
            return plainly(
                "Please specify at least one argument for this redis.acl_check_cmd() call",
            );
        };
        let host = of.host.lock();
        let is_known = host
            .as_ref()
            .is_some_and(|host| words.with(|words| host.knows(words)));
        if is_known {
            return Ok(true);
        }
        plainly("Invalid command passed to redis.acl_check_cmd()")
    };
    library.raw_set("acl_check_cmd", lua.create_function(check)?)?;
    let yes = |is: bool| move |_: &Lua, _: Variadic<Value>| Ok(is);
    library.raw_set("replicate_commands", lua.create_function(yes(true))?)?;
    library.raw_set("breakpoint", lua.create_function(yes(false))?)?;
    let nothing = |_: &Lua, _: Variadic<Value>| Ok(Value::Nil);
    library.raw_set("debug", lua.create_function(nothing)?)?;
    library.raw_set("set_repl", lua.create_function(nothing)?)?;
    for (name, number) in [
        ("LOG_DEBUG", 0),
        ("LOG_VERBOSE", 1),
        ("LOG_NOTICE", 2),
        ("LOG_WARNING", 3),
        ("REPL_NONE", 0),
        ("REPL_AOF", 1),
        ("REPL_SLAVE", 2),
        ("REPL_REPLICA", 2),
        ("REPL_ALL", 3),
        ("REDIS_VERSION_NUM", VERSION_NUMBER),
    ] {
        library.raw_set(name, number)?;
    }
    library.raw_set("REDIS_VERSION", VERSION)?;
    Ok(library)
}

/// What makes replies, and the SHA-1.
fn put_replies(lua: &Lua, library: &Table) -> mlua::Result<()> {
    let sha1 = lua.create_function(|lua, args: Variadic<Value>| match &args[..] {
        [Value::String(text)] => {
            let sha = super::source::sha_of(&text.as_bytes());
            Ok(Value::String(lua.create_string(sha)?))
        }
        [Value::Integer(_) | Value::Number(_)] => {
            let text = lua.coerce_string(args[0].clone())?;
            let sha = text.map(|text| super::source::sha_of(&text.as_bytes()));
            Ok(Value::String(lua.create_string(sha.unwrap_or([0; 40]))?))
        }
        [_] => {
            let sha = super::source::sha_of(b"");
            Ok(Value::String(lua.create_string(sha)?))
        }
        _ => plainly("wrong number of arguments"),
    })?;
    library.raw_set("sha1hex", sha1)?;
    let error = lua.create_function(|lua, args: Variadic<Value>| match one_text(&args) {
        Some(text) => {
            let text = error_text(&text.to_string_lossy());
            Ok(Value::Table(values::single(lua, "err", text.as_bytes())?))
        }
        None => plainly(ONE_STRING),
    })?;
    library.raw_set("error_reply", error)?;
    let status = lua.create_function(|lua, args: Variadic<Value>| match one_text(&args) {
        Some(text) => {
            let table = values::single(lua, "ok", &text.as_bytes())?;
            Ok(Value::Table(table))
        }
        None => plainly(ONE_STRING),
    })?;
    library.raw_set("status_reply", status)
}

/// RESP's version, and the log.
fn put_settings(lua: &Lua, library: &Table, inside: &Arc<Inside>) -> mlua::Result<()> {
    let of = Arc::clone(inside);
    let setresp = lua.create_function(move |_, args: Variadic<Value>| {
        match args.first().and_then(number).unwrap_or_default() {
            _ if args.len() != 1 => plainly("redis.setresp() requires one argument."),
            2.0 | 3.0 => {
                let resp3 = number(&args[0]) == Some(3.0);
                of.resp3.store(resp3, Ordering::Relaxed);
                Ok(Value::Nil)
            }
            _ => plainly("RESP version must be 2 or 3."),
        }
    })?;
    library.raw_set("setresp", setresp)?;
    let of = Arc::clone(inside);
    let log = lua.create_function(move |lua, args: Variadic<Value>| {
        let [level, texts @ ..] = &args[..] else {
            return plainly("redis.log() requires two arguments or more.");
        };
        if texts.is_empty() {
            return plainly("redis.log() requires two arguments or more.");
        }
        let level = number(level).unwrap_or(-1.0);
        if !(0.0..=3.0).contains(&level) {
            return plainly("Invalid debug level.");
        }
        let texts: Vec<String> = texts
            .iter()
            .filter_map(|text| lua.coerce_string(text.clone()).ok().flatten())
            .map(|text| text.to_string_lossy())
            .collect();
        if let Some(host) = of.host.lock().as_mut() {
            host.log(level as u8, &texts.join(" "));
        }
        Ok(Value::Nil)
    })?;
    library.raw_set("log", log)
}

/// `math.random`, from numbers that are the same for every run.
fn random(random: &Mutex<Random>, args: &[Value]) -> mlua::Result<f64> {
    let number = |nth: usize| {
        let number = args.get(nth).and_then(number);
        number.ok_or_else(|| mlua::Error::runtime("bad argument to 'random' (number expected)"))
    };
    let unit = random.lock().unit();
    let (low, high) = match args.len() {
        0 => return Ok(unit),
        1 => (1.0, number(0)?.floor()),
        2 => (number(0)?.floor(), number(1)?.floor()),
        _ => return Err(mlua::Error::runtime("wrong number of arguments")),
    };
    if low > high {
        return Err(mlua::Error::runtime(
            "bad argument to 'random' (interval is empty)",
        ));
    }
    Ok((unit * (high - low + 1.0)).floor() + low)
}

/// All that the prelude is given.
pub(super) fn all(lua: &Lua, inside: &Arc<Inside>, pauses: bool) -> mlua::Result<Table> {
    let native = lua.create_table()?;
    let of = Arc::clone(inside);
    let attempt = move |lua: &Lua, args: Variadic<Value>| of.attempt(lua, &args);
    native.raw_set("attempt", lua.create_function(attempt)?)?;
    let of = Arc::clone(inside);
    let call = move |lua: &Lua, args: Variadic<Value>| raised(lua, of.attempt(lua, &args)?);
    native.raw_set("call", lua.create_function(call)?)?;
    let of = Arc::clone(inside);
    let pcall = move |lua: &Lua, args: Variadic<Value>| Ok(of.attempt(lua, &args)?.1);
    native.raw_set("pcall", lua.create_function(pcall)?)?;
    let caught = |lua: &Lua, error: Value| match &error {
        Value::Error(error) => as_lua(lua, error),
        _ => Ok(error),
    };
    native.raw_set("as_lua", lua.create_function(caught)?)?;
    let located = |lua: &Lua, error: Value| {
        if let Value::Table(table) = &error {
            locate(table, place(lua))?;
        }
        Ok(error)
    };
    native.raw_set("located", lua.create_function(located)?)?;
    let of = Arc::clone(inside);
    let handler = move |lua: &Lua, error: Value| {
        let running = of.running.lock().clone();
        handled(lua, running.as_deref(), error)
    };
    native.raw_set("handler", lua.create_function(handler)?)?;
    let of = Arc::clone(inside);
    let next = move |_: &Lua, args: Variadic<Value>| random(&of.random, &args);
    native.raw_set("random", lua.create_function(next)?)?;
    let of = Arc::clone(inside);
    let seed = move |_: &Lua, seed: f64| {
        *of.random.lock() = Random::seeded(seed as i64 as i32);
        Ok(())
    };
    native.raw_set("randomseed", lua.create_function(seed)?)?;
    let of = Arc::clone(inside);
    let stopped = move |_: &Lua, ()| {
        let running = of.running.lock();
        Ok(running.as_ref().is_some_and(|running| running.is_stopped()))
    };
    native.raw_set("is_stopped", lua.create_function(stopped)?)?;
    native.raw_set("pause", lua.create_table()?)?;
    native.raw_set("pauses", pauses)?;
    native.raw_set("redis", redis(lua, inside)?)?;
    native.raw_set("bit", bits::library(lua)?)?;
    native.raw_set("cjson", json::library(lua, &inside.json)?)?;
    native.raw_set("cmsgpack", msgpack::library(lua)?)?;
    native.raw_set("struct", structs::library(lua)?)?;
    Ok(native)
}
