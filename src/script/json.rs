//! The library `cjson`.
//!
//! Differs from the library in C: how deep one may nest is fixed, and so is how numbers are written; what is
//! wrong with a text is said in other words.

use mlua::{LightUserData, Lua, Table, Value};
use serde_json::Value as Json;

use super::{fault, values};
use crate::resp::format_digits;

/// Tables within tables, as the library in C has it.
const MAX_DEPTH: usize = 1_000;
/// Digits of a number, as the library in C writes it.
const DIGITS: usize = 14;
/// Bytes of a text, about.
const MAX_TEXT: usize = 512 << 20;
/// Bytes of a text that is read: each may become a value of some thirty.
const MAX_READ: usize = 32 << 20;
/// Tables of a text.
const MAX_TABLES: u32 = 1 << 22;
/// A table with numbers as keys is an array while so many times its length are not beyond its largest, ...
const SPARSE_RATIO: i64 = 2;
/// ... or its largest is not beyond this.
const SPARSE_SAFE: i64 = 10;

/// What `null` is for a script.
fn null() -> Value {
    Value::LightUserData(LightUserData(std::ptr::null_mut()))
}

fn to_lua(lua: &Lua, json: &Json, bytes_of: &dyn Fn(&str) -> Vec<u8>) -> mlua::Result<Value> {
    Ok(match json {
        Json::Null => null(),
        Json::Bool(is) => Value::Boolean(*is),
        Json::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::String(lua.create_string(bytes_of(text))?),
        Json::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (nth, item) in (1..).zip(items) {
                table.raw_set(nth, to_lua(lua, item, bytes_of)?)?;
            }
            Value::Table(table)
        }
        Json::Object(fields) => {
            let table = lua.create_table_with_capacity(0, fields.len())?;
            for (name, value) in fields {
                let name = lua.create_string(bytes_of(name))?;
                table.raw_set(name, to_lua(lua, value, bytes_of)?)?;
            }
            Value::Table(table)
        }
    })
}

/// The length of a table that is an array; `None`: it is an object.
fn array_len(table: &Table) -> Result<Option<i64>, String> {
    let places = values::places(table).map_err(|error| error.to_string())?;
    let Some((most, count)) = places else {
        return Ok(None);
    };
    if most > SPARSE_SAFE && most > count * SPARSE_RATIO {
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

fn put_number(number: f64, out: &mut Vec<u8>) -> Result<(), String> {
    if !number.is_finite() {
        return Err("Cannot serialise number: must not be NaN or Inf".to_owned());
    }
    out.extend_from_slice(format_digits(number, DIGITS).as_bytes());
    Ok(())
}

fn put(value: &Value, (depth, tables): (usize, &mut u32), out: &mut Vec<u8>) -> Result<(), String> {
    if out.len() > MAX_TEXT || *tables > MAX_TABLES {
        return Err("Cannot serialise, the text is too long".to_owned());
    }
    match value {
        Value::Nil => out.extend_from_slice(b"null"),
        Value::Boolean(is) => out.extend_from_slice(if *is { b"true" } else { b"false" }),
        Value::Integer(number) => put_number(*number as f64, out)?,
        Value::Number(number) => put_number(*number, out)?,
        Value::String(text) => put_text(&text.as_bytes(), out),
        Value::LightUserData(data) if data.0.is_null() => out.extend_from_slice(b"null"),
        Value::Table(_) if depth == 0 => {
            return Err(format!(
                "Cannot serialise, excessive depth ({})",
                MAX_DEPTH + 1
            ));
        }
        Value::Table(table) => {
            *tables += 1;
            put_table(table, (depth - 1, tables), out)?;
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

fn put_table(
    table: &Table,
    (depth, tables): (usize, &mut u32),
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let said = |error: mlua::Error| error.to_string();
    if let Some(len) = array_len(table)? {
        out.push(b'[');
        for nth in 1..=len {
            if nth > 1 {
                out.push(b',');
            }
            put(
                &table.raw_get::<Value>(nth).map_err(said)?,
                (depth, tables),
                out,
            )?;
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
            Value::Number(number) => put_text(format_digits(number, DIGITS).as_bytes(), out),
            _ => {
                return Err(
                    "Cannot serialise table: table key must be a number or string".to_owned(),
                );
            }
        }
        out.push(b':');
        put(&value, (depth, tables), out)?;
    }
    out.push(b'}');
    Ok(())
}

fn encode(lua: &Lua, value: &Value) -> mlua::Result<Value> {
    let mut out = Vec::new();
    match put(value, (MAX_DEPTH, &mut 0), &mut out) {
        Ok(()) => lua.create_string(out).map(Value::String),
        Err(why) => fault::wrong(lua, &why),
    }
}

fn decode(lua: &Lua, text: &mlua::LuaString) -> mlua::Result<Value> {
    let bytes = text.as_bytes();
    if bytes.len() > MAX_READ {
        return fault::wrong(lua, "Cannot decode, the text is too long");
    }
    if let Ok(text) = std::str::from_utf8(&bytes) {
        return of_json(lua, serde_json::from_str(text), &|text| {
            text.as_bytes().to_vec()
        });
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
    of_json(lua, serde_json::from_str(&letters), &back)
}

fn of_json(
    lua: &Lua,
    found: serde_json::Result<Json>,
    bytes_of: &dyn Fn(&str) -> Vec<u8>,
) -> mlua::Result<Value> {
    match found {
        Ok(json) => to_lua(lua, &json, bytes_of),
        Err(error) => {
            let why = format!(
                "Expected value but found invalid token at character {}",
                error.column().max(1)
            );
            fault::wrong(lua, &why)
        }
    }
}

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    library.raw_set(
        "encode",
        lua.create_function(|lua, value: Value| encode(lua, &value))?,
    )?;
    library.raw_set(
        "decode",
        lua.create_function(|lua, text: mlua::LuaString| decode(lua, &text))?,
    )?;
    library.raw_set("null", null())?;
    library.raw_set("_NAME", "cjson")?;
    library.raw_set("_VERSION", "2.1.0")?;
    Ok(library)
}
