//! The library `cjson`.
//!
//! What a script sets of it is for that script. Differs from the library in C: what is wrong with a text is said
//! in other words.

use std::sync::Arc;

use mlua::{LightUserData, Lua, Table, Value};
use parking_lot::Mutex;
use serde_json::Value as Json;

use super::{fault, values};
use crate::resp::format_digits;

/// Bytes of a text, about.
const MAX_TEXT: usize = 512 << 20;
/// Bytes of a text that is read: each may become a value of some thirty.
const MAX_READ: usize = 32 << 20;
/// Tables of a text.
const MAX_TABLES: u32 = 1 << 22;

/// What becomes of a number that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Invalid {
    Refused,
    Written,
    Null,
}

/// One of the settings.
type Number = fn(&mut Settings) -> &mut i64;
type Switch = fn(&mut Settings) -> &mut bool;

/// What a script may set, as it is where it sets nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// Tables within tables.
    encode_depth: i64,
    decode_depth: i64,
    /// Digits of a number.
    digits: i64,
    /// Whether a sparse array is an object.
    converts: bool,
    /// A table with numbers as keys is an array while so many times its length are not beyond its largest, ...
    ratio: i64,
    /// ... or its largest is not beyond this.
    safe: i64,
    invalid: Invalid,
    keeps_buffer: bool,
    decodes_invalid: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            encode_depth: 1_000,
            decode_depth: 1_000,
            digits: 14,
            converts: false,
            ratio: 2,
            safe: 10,
            invalid: Invalid::Refused,
            keeps_buffer: true,
            decodes_invalid: true,
        }
    }
}

/// What `null` is for a script.
fn null() -> Value {
    Value::LightUserData(LightUserData(std::ptr::null_mut()))
}

fn to_lua(
    lua: &Lua,
    json: &Json,
    (depth, bytes_of): (i64, &dyn Fn(&str) -> Vec<u8>),
) -> mlua::Result<Value> {
    if depth < 0 {
        return fault::wrong(lua, "Found too many nested data structures");
    }
    let inner = (depth - 1, bytes_of);
    Ok(match json {
        Json::Null => null(),
        Json::Bool(is) => Value::Boolean(*is),
        Json::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::String(lua.create_string(bytes_of(text))?),
        Json::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (nth, item) in (1..).zip(items) {
                table.raw_set(nth, to_lua(lua, item, inner)?)?;
            }
            Value::Table(table)
        }
        Json::Object(fields) => {
            let table = lua.create_table_with_capacity(0, fields.len())?;
            for (name, value) in fields {
                let name = lua.create_string(bytes_of(name))?;
                table.raw_set(name, to_lua(lua, value, inner)?)?;
            }
            Value::Table(table)
        }
    })
}

/// The length of a table that is an array; `None`: it is an object.
fn array_len(table: &Table, settings: &Settings) -> Result<Option<i64>, String> {
    let places = values::places(table).map_err(|error| error.to_string())?;
    let Some((most, count)) = places else {
        return Ok(None);
    };
    if settings.ratio > 0 && most > settings.safe && most > count * settings.ratio {
        if settings.converts {
            return Ok(None);
        }
        return Err("Cannot serialise table: excessively sparse array".to_owned());
    }
    Ok((count > 0).then_some(most))
}

fn put_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'/' => out.extend_from_slice(b"\\/"),
            8 => out.extend_from_slice(b"\\b"),
            9 => out.extend_from_slice(b"\\t"),
            10 => out.extend_from_slice(b"\\n"),
            12 => out.extend_from_slice(b"\\f"),
            13 => out.extend_from_slice(b"\\r"),
            0..32 | 127 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            byte => out.push(*byte),
        }
    }
    out.push(b'"');
}

fn put_number(number: f64, settings: &Settings, out: &mut Vec<u8>) -> Result<(), String> {
    if !number.is_finite() {
        let written = match settings.invalid {
            Invalid::Refused => {
                return Err("Cannot serialise number: must not be NaN or Inf".to_owned());
            }
            Invalid::Null => "null",
            Invalid::Written if number.is_nan() => "nan",
            Invalid::Written if number > 0.0 => "inf",
            Invalid::Written => "-inf",
        };
        out.extend_from_slice(written.as_bytes());
        return Ok(());
    }
    out.extend_from_slice(format_digits(number, settings.digits as usize).as_bytes());
    Ok(())
}

/// How far one is.
struct Put<'s> {
    settings: &'s Settings,
    /// Tables that there were.
    tables: u32,
}

fn put(value: &Value, depth: i64, to: &mut Put<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    if out.len() > MAX_TEXT || to.tables > MAX_TABLES {
        return Err("Cannot serialise, the text is too long".to_owned());
    }
    match value {
        Value::Nil => out.extend_from_slice(b"null"),
        Value::Boolean(is) => out.extend_from_slice(if *is { b"true" } else { b"false" }),
        Value::Integer(number) => put_number(*number as f64, to.settings, out)?,
        Value::Number(number) => put_number(*number, to.settings, out)?,
        Value::String(text) => put_text(&text.as_bytes(), out),
        Value::LightUserData(data) if data.0.is_null() => out.extend_from_slice(b"null"),
        Value::Table(_) if depth == 0 => {
            return Err(format!(
                "Cannot serialise, excessive depth ({})",
                to.settings.encode_depth + 1
            ));
        }
        Value::Table(table) => {
            to.tables += 1;
            put_table(table, depth - 1, to, out)?;
        }
        other => {
            return Err(format!(
                "Cannot serialise {}: type not supported",
                other.type_name()
            ));
        }
    }
    Ok(())
}

fn put_table(table: &Table, depth: i64, to: &mut Put<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let said = |error: mlua::Error| error.to_string();
    if let Some(len) = array_len(table, to.settings)? {
        out.push(b'[');
        for nth in 1..=len {
            if nth > 1 {
                out.push(b',');
            }
            put(&table.raw_get::<Value>(nth).map_err(said)?, depth, to, out)?;
        }
        out.push(b']');
        return Ok(());
    }
    out.push(b'{');
    let mut is_first = true;
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(said)?;
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        match key {
            Value::String(name) => put_text(&name.as_bytes(), out),
            Value::Integer(number) => put_text(number.to_string().as_bytes(), out),
            Value::Number(number) => put_text(
                format_digits(number, to.settings.digits as usize).as_bytes(),
                out,
            ),
            _ => {
                return Err(
                    "Cannot serialise table: table key must be a number or string".to_owned(),
                );
            }
        }
        out.push(b':');
        put(&value, depth, to, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn encode(lua: &Lua, value: &Value, settings: &Settings) -> mlua::Result<Value> {
    let mut out = Vec::new();
    let mut to = Put {
        settings,
        tables: 0,
    };
    match put(value, settings.encode_depth, &mut to, &mut out) {
        Ok(()) => lua.create_string(out).map(Value::String),
        Err(why) => fault::wrong(lua, &why),
    }
}

fn decode(lua: &Lua, text: &mlua::LuaString, depth: i64) -> mlua::Result<Value> {
    let bytes = text.as_bytes();
    if bytes.len() > MAX_READ {
        return fault::wrong(lua, "Cannot decode, the text is too long");
    }
    if let Ok(text) = std::str::from_utf8(&bytes) {
        let back = |text: &str| text.as_bytes().to_vec();
        return of_json(lua, serde_json::from_str(text), (depth, &back));
    }
    // Bytes that are no text are letters for as long as they are read.
    let letters: String = bytes.iter().copied().map(char::from).collect();
    let back = |text: &str| {
        let byte = |letter: char| u8::try_from(letter).map_err(|_| letter);
        let mut out = Vec::with_capacity(text.len());
        for letter in text.chars() {
            match byte(letter) {
                Ok(byte) => out.push(byte),
                Err(letter) => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        out
    };
    of_json(lua, serde_json::from_str(&letters), (depth, &back))
}

fn of_json(
    lua: &Lua,
    found: serde_json::Result<Json>,
    how: (i64, &dyn Fn(&str) -> Vec<u8>),
) -> mlua::Result<Value> {
    match found {
        Ok(json) => to_lua(lua, &json, how),
        Err(error) => {
            let why = format!(
                "Expected value but found invalid token at character {}",
                error.column().max(1)
            );
            fault::wrong(lua, &why)
        }
    }
}

/// A number that is set when one is given; what it is then.
fn number(
    settings: &Mutex<Settings>,
    given: Option<i64>,
    (name, most): (&str, i64),
    of: fn(&mut Settings) -> &mut i64,
) -> mlua::Result<i64> {
    let mut settings = settings.lock();
    let set = of(&mut settings);
    if let Some(given) = given {
        if !(1..=most).contains(&given) {
            return Err(mlua::Error::runtime(format!(
                "bad argument #1 to '{name}' (expected integer between 1 and {most})"
            )));
        }
        *set = given;
    }
    Ok(*set)
}

/// A switch that is set when something is said of it; what it is then.
fn switch(
    settings: &Mutex<Settings>,
    given: Option<bool>,
    of: fn(&mut Settings) -> &mut bool,
) -> bool {
    let mut settings = settings.lock();
    let set = of(&mut settings);
    *set = given.unwrap_or(*set);
    *set
}

fn set_invalid(lua: &Lua, settings: &Mutex<Settings>, given: &Value) -> mlua::Result<Value> {
    let mut settings = settings.lock();
    settings.invalid = match given {
        Value::Nil => settings.invalid,
        Value::Boolean(true) => Invalid::Written,
        Value::Boolean(false) => Invalid::Refused,
        Value::String(word) if &*word.as_bytes() == b"null" => Invalid::Null,
        _ => {
            return Err(mlua::Error::runtime(
                "bad argument #1 to 'encode_invalid_numbers' (invalid option)",
            ));
        }
    };
    Ok(match settings.invalid {
        Invalid::Refused => Value::Boolean(false),
        Invalid::Written => Value::Boolean(true),
        Invalid::Null => Value::String(lua.create_string("null")?),
    })
}

fn set_sparse(
    settings: &Mutex<Settings>,
    (converts, ratio, safe): (Option<bool>, Option<i64>, Option<i64>),
) -> mlua::Result<(bool, i64, i64)> {
    let mut settings = settings.lock();
    if ratio.is_some_and(|ratio| ratio < 0) || safe.is_some_and(|safe| safe < 0) {
        return Err(mlua::Error::runtime(
            "bad argument to 'encode_sparse_array' (expected integer between 0 and 2147483647)",
        ));
    }
    settings.converts = converts.unwrap_or(settings.converts);
    settings.ratio = ratio.unwrap_or(settings.ratio);
    settings.safe = safe.unwrap_or(settings.safe);
    Ok((settings.converts, settings.ratio, settings.safe))
}

pub(super) fn library(lua: &Lua, settings: &Arc<Mutex<Settings>>) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let of = || Arc::clone(settings);
    let set = of();
    let encodes = move |lua: &Lua, value: Value| {
        let settings = *set.lock();
        encode(lua, &value, &settings)
    };
    library.raw_set("encode", lua.create_function(encodes)?)?;
    let set = of();
    let decodes = move |lua: &Lua, text: mlua::LuaString| {
        let depth = set.lock().decode_depth;
        decode(lua, &text, depth)
    };
    library.raw_set("decode", lua.create_function(decodes)?)?;
    let numbers: [(&str, i64, Number); 3] = [
        ("encode_max_depth", i64::from(i32::MAX), |s| {
            &mut s.encode_depth
        }),
        ("decode_max_depth", i64::from(i32::MAX), |s| {
            &mut s.decode_depth
        }),
        ("encode_number_precision", 14, |s| &mut s.digits),
    ];
    for (name, most, which) in numbers {
        let set = of();
        let sets = move |_: &Lua, given: Option<i64>| number(&set, given, (name, most), which);
        library.raw_set(name, lua.create_function(sets)?)?;
    }
    let switches: [(&str, Switch); 2] = [
        ("encode_keep_buffer", |s| &mut s.keeps_buffer),
        ("decode_invalid_numbers", |s| &mut s.decodes_invalid),
    ];
    for (name, which) in switches {
        let set = of();
        let sets = move |_: &Lua, given: Option<bool>| Ok(switch(&set, given, which));
        library.raw_set(name, lua.create_function(sets)?)?;
    }
    let set = of();
    let sparse = move |_: &Lua, given| set_sparse(&set, given);
    library.raw_set("encode_sparse_array", lua.create_function(sparse)?)?;
    let set = of();
    let invalid = move |lua: &Lua, given: Value| set_invalid(lua, &set, &given);
    library.raw_set("encode_invalid_numbers", lua.create_function(invalid)?)?;
    library.raw_set("null", null())?;
    library.raw_set("_NAME", "cjson")?;
    library.raw_set("_VERSION", "2.1.0")?;
    Ok(library)
}
