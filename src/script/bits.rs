//! The library `bit`: numbers as 32 bits, as the library in C has it.

use mlua::{Lua, Table, Value, Variadic};

use super::fault;

/// A number as its lowest 32 bits.
fn bits_of(value: &Value) -> Result<i32, String> {
    match value {
        Value::Integer(number) => Ok(*number as i32),
        Value::Number(number) => Ok(number.round_ties_even() as i64 as i32),
        Value::String(text) => {
            let text = text.to_string_lossy();
            let number: f64 = text.trim().parse().map_err(|_| wrong(value))?;
            Ok(number.round_ties_even() as i64 as i32)
        }
        _ => Err(wrong(value)),
    }
}

fn wrong(value: &Value) -> String {
    format!("number expected, got {}", value.type_name())
}

fn said(found: Result<i32, String>, lua: &Lua) -> mlua::Result<f64> {
    found.map_or_else(
        |why| fault::wrong(lua, &why),
        |number| Ok(f64::from(number)),
    )
}

fn at(args: &[Value], nth: usize) -> Result<i32, String> {
    args.get(nth).map_or_else(
        || {
            Err(format!(
                "bad argument #{} (number expected, got no value)",
                nth + 1
            ))
        },
        bits_of,
    )
}

/// All of them, put together two by two.
fn folded(args: &[Value], with: fn(i32, i32) -> i32) -> Result<i32, String> {
    let mut sum = at(args, 0)?;
    for value in &args[1..] {
        sum = with(sum, bits_of(value)?);
    }
    Ok(sum)
}

fn by(args: &[Value], with: fn(i32, u32) -> i32) -> Result<i32, String> {
    Ok(with(at(args, 0)?, at(args, 1)? as u32 & 31))
}

/// Hexadecimal digits: so many, in capitals where the number is negative.
fn hex(args: &[Value]) -> Result<String, String> {
    let number = at(args, 0)?;
    let digits = if args.len() > 1 { at(args, 1)? } else { 8 };
    let all = if digits < 0 {
        format!("{number:08X}")
    } else {
        format!("{number:08x}")
    };
    let count = usize::try_from(digits.unsigned_abs()).unwrap_or(8).min(8);
    Ok(all[8 - count..].to_owned())
}

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    type Function = fn(&[Value]) -> Result<i32, String>;
    let functions: [(&str, Function); 11] = [
        ("tobit", |args| at(args, 0)),
        ("bnot", |args| at(args, 0).map(|number| !number)),
        ("bswap", |args| at(args, 0).map(i32::swap_bytes)),
        ("band", |args| folded(args, |a, b| a & b)),
        ("bor", |args| folded(args, |a, b| a | b)),
        ("bxor", |args| folded(args, |a, b| a ^ b)),
        ("lshift", |args| by(args, i32::wrapping_shl)),
        ("rshift", |args| {
            by(args, |a, n| (a as u32).wrapping_shr(n) as i32)
        }),
        ("arshift", |args| by(args, i32::wrapping_shr)),
        ("rol", |args| by(args, i32::rotate_left)),
        ("ror", |args| by(args, i32::rotate_right)),
    ];
    let library = lua.create_table()?;
    for (name, function) in functions {
        let f =
            lua.create_function(move |lua, args: Variadic<Value>| said(function(&args), lua))?;
        library.raw_set(name, f)?;
    }
    let tohex = lua.create_function(|lua, args: Variadic<Value>| match hex(&args) {
        Ok(text) => Ok(text),
        Err(why) => fault::wrong(lua, &why),
    })?;
    library.raw_set("tohex", tohex)?;
    Ok(library)
}
