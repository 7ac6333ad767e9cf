//! The library `cmsgpack`: `pack`, `unpack`, `unpack_one`, `unpack_limit`.

use mlua::{Lua, MultiValue, Table, Value, Variadic};
use rmp::Marker;
use rmp::decode::{self, RmpRead};
use rmp::encode;

use super::{fault, values};

/// Tables within tables, as the library in C has it; what is deeper is nil.
const MAX_DEPTH: usize = 16;

/// Bytes that one `pack` makes, about, and tables that it goes through: tables within themselves make much of little.
const MAX_PACKED: usize = 256 << 20;
const MAX_TABLES: u32 = 1 << 22;

/// The length of a table that is an array without holes.
fn array_len(table: &Table) -> mlua::Result<Option<u32>> {
    let places = values::places(table)?.filter(|(most, count)| most == count);
    Ok(places.map(|(_, count)| count as u32))
}

fn pack(value: &Value, (depth, tables): (usize, &mut u32), out: &mut Vec<u8>) -> mlua::Result<()> {
    if out.len() > MAX_PACKED || *tables > MAX_TABLES {
        return Err(mlua::Error::runtime("too much is to be packed"));
    }
    // A vector takes whatever is written to it.
    match value {
        Value::String(text) => drop(
            encode::write_str_len(out, text.as_bytes().len() as u32)
                .map(|_| out.extend_from_slice(&text.as_bytes())),
        ),
        Value::Boolean(is) => drop(encode::write_bool(out, *is)),
        Value::Integer(number) => drop(encode::write_sint(out, *number)),
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 9.0e18 => {
            drop(encode::write_sint(out, *number as i64));
        }
        Value::Number(number) if f64::from(*number as f32).to_bits() == number.to_bits() => {
            drop(encode::write_f32(out, *number as f32));
        }
        Value::Number(number) => drop(encode::write_f64(out, *number)),
        Value::Table(table) if depth > 0 => {
            *tables += 1;
            if let Some(len) = array_len(table)? {
                drop(encode::write_array_len(out, len));
                for nth in 1..=len {
                    pack(&table.raw_get::<Value>(nth)?, (depth - 1, tables), out)?;
                }
            } else {
                let count = table.pairs::<Value, Value>().count();
                drop(encode::write_map_len(out, count as u32));
                for pair in table.pairs::<Value, Value>() {
                    let (key, value) = pair?;
                    pack(&key, (depth - 1, tables), out)?;
                    pack(&value, (depth - 1, tables), out)?;
                }
            }
        }
        _ => drop(encode::write_nil(out)),
    }
    Ok(())
}

const MISSING: &str = "Missing bytes in input.";
const BAD: &str = "Bad data format in input.";

enum Wrong {
    Said(&'static str),
    Lua(mlua::Error),
}

impl From<mlua::Error> for Wrong {
    fn from(error: mlua::Error) -> Self {
        Wrong::Lua(error)
    }
}

fn missing<E>(_: E) -> Wrong {
    Wrong::Said(MISSING)
}

fn taken<'r>(rest: &mut &'r [u8], len: usize) -> Result<&'r [u8], Wrong> {
    let (bytes, behind) = rest.split_at_checked(len).ok_or(Wrong::Said(MISSING))?;
    *rest = behind;
    Ok(bytes)
}

fn text(lua: &Lua, rest: &mut &[u8], len: usize) -> Result<Value, Wrong> {
    Ok(Value::String(lua.create_string(taken(rest, len)?)?))
}

fn unpack_one(lua: &Lua, rest: &mut &[u8], depth: usize) -> Result<Value, Wrong> {
    if depth == 0 {
        return Err(Wrong::Said(BAD));
    }
    let marker = decode::read_marker(rest).map_err(|_| Wrong::Said(MISSING))?;
    let number = |number: f64| Ok(Value::Number(number));
    match marker {
        Marker::Null => Ok(Value::Nil),
        Marker::True => Ok(Value::Boolean(true)),
        Marker::False => Ok(Value::Boolean(false)),
        Marker::FixPos(n) => number(f64::from(n)),
        Marker::FixNeg(n) => number(f64::from(n)),
        Marker::U8 => number(f64::from(rest.read_data_u8().map_err(missing)?)),
        Marker::U16 => number(f64::from(rest.read_data_u16().map_err(missing)?)),
        Marker::U32 => number(f64::from(rest.read_data_u32().map_err(missing)?)),
        Marker::U64 => number(rest.read_data_u64().map_err(missing)? as f64),
        Marker::I8 => number(f64::from(rest.read_data_i8().map_err(missing)?)),
        Marker::I16 => number(f64::from(rest.read_data_i16().map_err(missing)?)),
        Marker::I32 => number(f64::from(rest.read_data_i32().map_err(missing)?)),
        Marker::I64 => number(rest.read_data_i64().map_err(missing)? as f64),
        Marker::F32 => number(f64::from(rest.read_data_f32().map_err(missing)?)),
        Marker::F64 => number(rest.read_data_f64().map_err(missing)?),
        Marker::FixStr(len) => text(lua, rest, usize::from(len)),
        Marker::Str8 | Marker::Bin8 => {
            let len = rest.read_data_u8().map_err(missing)?;
            text(lua, rest, usize::from(len))
        }
        Marker::Str16 | Marker::Bin16 => {
            let len = rest.read_data_u16().map_err(missing)?;
            text(lua, rest, usize::from(len))
        }
        Marker::Str32 | Marker::Bin32 => {
            let len = rest.read_data_u32().map_err(missing)?;
            text(lua, rest, len as usize)
        }
        Marker::FixArray(len) => array(lua, rest, (usize::from(len), depth)),
        Marker::Array16 => {
            let len = rest.read_data_u16().map_err(missing)?;
            array(lua, rest, (usize::from(len), depth))
        }
        Marker::Array32 => {
            let len = rest.read_data_u32().map_err(missing)?;
            array(lua, rest, (len as usize, depth))
        }
        Marker::FixMap(len) => map(lua, rest, (usize::from(len), depth)),
        Marker::Map16 => {
            let len = rest.read_data_u16().map_err(missing)?;
            map(lua, rest, (usize::from(len), depth))
        }
        Marker::Map32 => {
            let len = rest.read_data_u32().map_err(missing)?;
            map(lua, rest, (len as usize, depth))
        }
        _ => Err(Wrong::Said(BAD)),
    }
}

fn array(lua: &Lua, rest: &mut &[u8], (len, depth): (usize, usize)) -> Result<Value, Wrong> {
    // Each item has a byte at least.
    let table = lua.create_table_with_capacity(len.min(rest.len()), 0)?;
    for nth in 1..=len {
        table.raw_set(nth, unpack_one(lua, rest, depth - 1)?)?;
    }
    Ok(Value::Table(table))
}

fn map(lua: &Lua, rest: &mut &[u8], (len, depth): (usize, usize)) -> Result<Value, Wrong> {
    let table = lua.create_table()?;
    for _ in 0..len {
        let key = unpack_one(lua, rest, depth - 1)?;
        let value = unpack_one(lua, rest, depth - 1)?;
        let is_number = matches!(key, Value::Number(number) if number.is_nan());
        if matches!(key, Value::Nil) || is_number {
            return Err(Wrong::Said(BAD));
        }
        table.raw_set(key, value)?;
    }
    Ok(Value::Table(table))
}

/// Nesting that is unpacked.
const MAX_UNPACKED: usize = 128;

/// Up to so many values from a place on; for all but `unpack` the next place first.
fn unpack(
    lua: &Lua,
    text: &mlua::LuaString,
    (limit, from): (usize, i64),
    says_place: bool,
) -> mlua::Result<MultiValue> {
    let bytes = text.as_bytes();
    let wrong = |why: &str| fault::wrong(lua, why);
    let Some(mut rest) = usize::try_from(from)
        .ok()
        .and_then(|from| bytes.get(from..))
    else {
        return wrong("Start offset is out of range");
    };
    let mut found = Vec::new();
    if says_place {
        found.push(Value::Nil);
    }
    let mut count = 0;
    while !rest.is_empty() && (limit == 0 || count < limit) {
        count += 1;
        match unpack_one(lua, &mut rest, MAX_UNPACKED) {
            Ok(value) => found.push(value),
            Err(Wrong::Said(why)) => return wrong(why),
            Err(Wrong::Lua(error)) => return Err(error),
        }
    }
    if says_place {
        let place = if rest.is_empty() {
            -1.0
        } else {
            (bytes.len() - rest.len()) as f64
        };
        found[0] = Value::Number(place);
    }
    Ok(MultiValue::from_vec(found))
}

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let packs = lua.create_function(|lua, values: Variadic<Value>| {
        if values.is_empty() {
            return fault::wrong(lua, "MessagePack pack needs input.");
        }
        let mut out = Vec::new();
        let mut tables = 0;
        for value in values.iter() {
            pack(value, (MAX_DEPTH, &mut tables), &mut out)?;
        }
        lua.create_string(out)
    })?;
    library.raw_set("pack", packs)?;
    let all = |lua: &Lua, text: mlua::LuaString| unpack(lua, &text, (0, 0), false);
    library.raw_set("unpack", lua.create_function(all)?)?;
    let one = |lua: &Lua, (text, from): (mlua::LuaString, Option<i64>)| {
        unpack(lua, &text, (1, from.unwrap_or(0)), true)
    };
    library.raw_set("unpack_one", lua.create_function(one)?)?;
    let some = |lua: &Lua, (text, limit, from): (mlua::LuaString, i64, Option<i64>)| {
        let limit = usize::try_from(limit).unwrap_or_default();
        unpack(lua, &text, (limit, from.unwrap_or(0)), true)
    };
    library.raw_set("unpack_limit", lua.create_function(some)?)?;
    library.raw_set("_NAME", "cmsgpack")?;
    Ok(library)
}
