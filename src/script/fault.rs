//! Errors in scripts: where they are, and how they are raised.

use mlua::{Lua, Table, Value};

/// The script's line that runs.
pub(super) fn place(lua: &Lua) -> Option<(String, usize)> {
    for level in 0.. {
        let found = lua.inspect_stack(level, |frame| {
            let source = frame.source().source.map(std::borrow::Cow::into_owned);
            source.zip(frame.current_line())
        })?;
        if let Some((source, line)) = found
            && source.starts_with("@user_")
        {
            return Some((source, line));
        }
    }
    None
}

/// The line that a message begins with.
pub(super) fn place_in(message: &str) -> Option<(String, usize)> {
    let (source, rest) = message.split_once(':')?;
    let (line, _) = rest.split_once(':')?;
    let line = line.parse().ok()?;
    source
        .starts_with("user_")
        .then(|| (format!("@{source}"), line))
}

pub(super) fn locate(table: &Table, place: Option<(String, usize)>) -> mlua::Result<()> {
    if let Some((source, line)) = place
        && table.raw_get::<Value>("source")?.is_nil()
    {
        table.raw_set("source", source)?;
        table.raw_set("line", line)?;
    }
    Ok(())
}

/// An error of Rust's without what was added on its way.
pub(super) fn innermost(error: &mlua::Error) -> String {
    match error {
        mlua::Error::CallbackError { cause, .. } => innermost(cause),
        mlua::Error::RuntimeError(text) | mlua::Error::MemoryError(text) => text.clone(),
        other => other.to_string(),
    }
}

/// An error as Lua's own functions raise it: with the line that runs.
pub(super) fn wrong<T>(lua: &Lua, why: &str) -> mlua::Result<T> {
    let line = place(lua).map(|(source, line)| format!("{}:{line}: ", &source[1..]));
    Err(mlua::Error::runtime(line.unwrap_or_default() + why))
}

/// An error as Redis's own functions raise it.
pub(super) fn plainly<T>(why: &str) -> mlua::Result<T> {
    Err(mlua::Error::runtime(why))
}

/// A number, however Lua has it at hand.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        _ => None,
    }
}
