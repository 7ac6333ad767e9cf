//! Replies as Lua's values, and Lua's values as replies: Redis's rules for both.

use std::cell::Cell;

use mlua::{Lua, Table, Value};

use crate::resp::Reply;

/// Bytes that a script's reply may have, about: tables within themselves make much of little.
const MAX_REPLY: usize = 512 << 20;
/// Tables that a reply may have.
const MAX_TABLES: u32 = 1 << 22;
/// Tables within tables that a reply may have.
const MAX_DEPTH: usize = 128;

/// A reply of a command, as a script sees it. Our own replies are well-formed; what is not is nil.
pub(super) fn to_lua(lua: &Lua, reply: &[u8]) -> mlua::Result<Value> {
    let mut rest = reply;
    next_value(lua, &mut rest)
}

/// Whether a reply is an error.
pub(super) fn is_error(reply: &[u8]) -> bool {
    reply.first() == Some(&b'-')
}

/// A table of one field.
pub(super) fn single(lua: &Lua, field: &str, value: &[u8]) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, 1)?;
    table.raw_set(field, lua.create_string(value)?)?;
    Ok(table)
}

/// Of a table whose keys are all places of a list: the last one, and how many there are.
pub(super) fn places(table: &Table) -> mlua::Result<Option<(i64, i64)>> {
    let (mut most, mut count) = (0, 0);
    for pair in table.pairs::<Value, Value>() {
        let place = match pair?.0 {
            Value::Integer(place) if place > 0 => place,
            Value::Number(place) if place > 0.0 && place.fract() == 0.0 => place as i64,
            _ => return Ok(None),
        };
        most = most.max(place);
        count += 1;
    }
    Ok(Some((most, count)))
}

fn line<'r>(rest: &mut &'r [u8]) -> &'r [u8] {
    let end = memchr::memchr(b'\r', rest).unwrap_or(rest.len());
    let line = &rest[..end];
    *rest = rest.get(end + 2..).unwrap_or_default();
    line
}

fn number(line: &[u8]) -> i64 {
    let text = std::str::from_utf8(line).unwrap_or_default();
    text.parse().unwrap_or_default()
}

/// So many bytes and the end of their line; `None`: nil.
fn bulk<'r>(rest: &mut &'r [u8], len: i64) -> Option<&'r [u8]> {
    let len = usize::try_from(len).ok()?;
    let bytes = rest.get(..len)?;
    *rest = rest.get(len + 2..).unwrap_or_default();
    Some(bytes)
}

fn next_value(lua: &Lua, rest: &mut &[u8]) -> mlua::Result<Value> {
    let head = line(rest);
    let Some((kind, text)) = head.split_first() else {
        return Ok(Value::Nil);
    };
    let table = |table: mlua::Result<Table>| table.map(Value::Table);
    match kind {
        b'+' => table(single(lua, "ok", text)),
        b'-' => table(single(lua, "err", text)),
        b':' => Ok(Value::Number(number(text) as f64)),
        b'$' => match bulk(rest, number(text)) {
            Some(bytes) => lua.create_string(bytes).map(Value::String),
            None => Ok(Value::Boolean(false)),
        },
        b'*' => match usize::try_from(number(text)) {
            Ok(len) => table(list(lua, rest, len)),
            Err(_) => Ok(Value::Boolean(false)),
        },
        b'%' => table(map(lua, rest, number(text))),
        b'~' => table(set(lua, rest, number(text))),
        b'#' => Ok(Value::Boolean(text == b"t")),
        b',' => {
            let value = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok());
            let wrapped = lua.create_table_with_capacity(0, 1)?;
            wrapped.raw_set("double", value.unwrap_or(f64::NAN))?;
            Ok(Value::Table(wrapped))
        }
        b'(' => table(single(lua, "big_number", text)),
        b'=' => {
            let bytes = bulk(rest, number(text)).unwrap_or_default();
            let (format, bytes) = bytes.split_at(bytes.len().min(4));
            let inner = single(lua, "string", bytes)?;
            inner.raw_set("format", lua.create_string(&format[..format.len().min(3)])?)?;
            let wrapped = lua.create_table_with_capacity(0, 1)?;
            wrapped.raw_set("verbatim_string", inner)?;
            Ok(Value::Table(wrapped))
        }
        _ => Ok(Value::Nil),
    }
}

fn list(lua: &Lua, rest: &mut &[u8], len: usize) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(len.min(rest.len()), 0)?;
    for nth in 1..=len {
        table.raw_set(nth, next_value(lua, rest)?)?;
    }
    Ok(table)
}

fn map(lua: &Lua, rest: &mut &[u8], len: i64) -> mlua::Result<Table> {
    let inner = lua.create_table()?;
    for _ in 0..len {
        let name = next_value(lua, rest)?;
        inner.raw_set(name, next_value(lua, rest)?)?;
    }
    let wrapped = lua.create_table_with_capacity(0, 1)?;
    wrapped.raw_set("map", inner)?;
    Ok(wrapped)
}

fn set(lua: &Lua, rest: &mut &[u8], len: i64) -> mlua::Result<Table> {
    let inner = lua.create_table()?;
    for _ in 0..len {
        inner.raw_set(next_value(lua, rest)?, true)?;
    }
    let wrapped = lua.create_table_with_capacity(0, 1)?;
    wrapped.raw_set("set", inner)?;
    Ok(wrapped)
}

/// Replies with what a script returned. Booleans are numbers and nil, unless the script speaks RESP3.
pub(super) fn reply_with(value: &Value, resp3: bool, reply: &mut Reply) -> mlua::Result<()> {
    let tables = Cell::new(0);
    let at = At {
        resp3,
        depth: MAX_DEPTH,
        tables: &tables,
    };
    put(value, at, reply)
}

/// How deep a value is in a reply.
#[derive(Clone, Copy)]
struct At<'t> {
    resp3: bool,
    /// Tables within tables that may still come.
    depth: usize,
    /// Tables so far.
    tables: &'t Cell<u32>,
}

/// A number as C makes an integer of it.
fn truncated(number: f64) -> i64 {
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number) {
        number as i64
    } else {
        i64::MIN
    }
}

fn put(value: &Value, at: At<'_>, reply: &mut Reply) -> mlua::Result<()> {
    if reply.len() > MAX_REPLY || at.tables.get() > MAX_TABLES {
        return Err(mlua::Error::runtime("the reply of the script is too long"));
    }
    match value {
        Value::String(text) => reply.bulk(&text.as_bytes()),
        Value::Integer(number) => reply.integer(*number),
        Value::Number(number) => reply.integer(truncated(*number)),
        Value::Boolean(is) if at.resp3 => reply.boolean(*is),
        Value::Boolean(true) => reply.integer(1),
        Value::Table(_) if at.depth == 0 => reply.error("ERR reached lua stack limit"),
        Value::Table(table) => {
            at.tables.set(at.tables.get() + 1);
            let deeper = At {
                depth: at.depth - 1,
                ..at
            };
            put_table(table, deeper, reply)?;
        }
        _ => reply.null(),
    }
    Ok(())
}

fn one_line(text: &mlua::LuaString) -> String {
    String::from_utf8_lossy(&text.as_bytes()).replace(['\r', '\n'], " ")
}

fn put_table(table: &Table, at: At<'_>, reply: &mut Reply) -> mlua::Result<()> {
    if let Value::String(error) = table.raw_get::<Value>("err")? {
        let error = one_line(&error);
        reply.error(error.strip_prefix('-').unwrap_or(&error));
        return Ok(());
    }
    if let Value::String(status) = table.raw_get::<Value>("ok")? {
        reply.simple(&one_line(&status));
        return Ok(());
    }
    match table.raw_get::<Value>("double")? {
        Value::Integer(number) => {
            reply.double(number as f64);
            return Ok(());
        }
        Value::Number(number) => {
            reply.double(number);
            return Ok(());
        }
        _ => {}
    }
    if let Value::Table(inner) = table.raw_get::<Value>("map")? {
        reply.map(inner.pairs::<Value, Value>().count());
        // They are not held all at once: Lua gives room for few.
        for pair in inner.pairs::<Value, Value>() {
            let (name, value) = pair?;
            put(&name, at, reply)?;
            put(&value, at, reply)?;
        }
        return Ok(());
    }
    if let Value::Table(inner) = table.raw_get::<Value>("set")? {
        reply.set(inner.pairs::<Value, Value>().count());
        for pair in inner.pairs::<Value, Value>() {
            put(&pair?.0, at, reply)?;
        }
        return Ok(());
    }
    if let Value::String(number) = table.raw_get::<Value>("big_number")? {
        reply.big_number(&one_line(&number));
        return Ok(());
    }
    if let Value::Table(inner) = table.raw_get::<Value>("verbatim_string")?
        && let (Value::String(format), Value::String(text)) =
            (inner.raw_get("format")?, inner.raw_get("string")?)
    {
        reply.verbatim_as(&format.as_bytes(), &text.as_bytes());
        return Ok(());
    }
    // Up to the first one that is nil.
    let mut len = 0;
    while !table.raw_get::<Value>(len + 1)?.is_nil() {
        len += 1;
    }
    reply.array(len);
    (1..=len).try_for_each(|nth| put(&table.raw_get(nth)?, at, reply))
}
