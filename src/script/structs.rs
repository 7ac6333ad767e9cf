//! The library `struct`: numbers and strings packed as C has them in memory.

use mlua::{Lua, MultiValue, Table, Value, Variadic};

use super::fault;

/// An integer of more bytes is refused, as the library in C does.
const MAX_INTEGER: usize = 32;
/// Bytes that one `pack` makes, at most.
const MAX_PACKED: usize = 512 << 20;
const MAX_ALIGN: usize = 8;

/// One item of a format.
enum Item {
    Pad,
    Integer {
        bytes: usize,
        signed: bool,
    },
    Float,
    Double,
    /// Characters; 0: all of the string, or as many as the number before it says.
    Chars(usize),
    /// Up to a zero.
    Text,
}

impl Item {
    fn sized(bytes: usize, signed: bool) -> Self {
        Item::Integer { bytes, signed }
    }
}

/// A format, read item by item.
struct Format<'f> {
    rest: &'f [u8],
    little: bool,
    align: usize,
}

impl<'f> Format<'f> {
    fn new(format: &'f [u8]) -> Self {
        Self {
            rest: format,
            little: cfg!(target_endian = "little"),
            align: 1,
        }
    }

    fn count(&mut self, otherwise: usize) -> Result<usize, String> {
        let end = self.rest.iter().position(|byte| !byte.is_ascii_digit());
        let (digits, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        if digits.is_empty() {
            return Ok(otherwise);
        }
        let text = std::str::from_utf8(digits).unwrap_or_default();
        let count: Option<i32> = text.parse().ok();
        let count = count.and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| "integral size overflow".to_owned())
    }

    fn integer(&mut self, otherwise: usize, signed: bool) -> Result<Item, String> {
        let bytes = self.count(otherwise)?;
        if bytes > MAX_INTEGER || bytes == 0 {
            return Err(format!(
                "integral size {bytes} is larger than limit of {MAX_INTEGER}"
            ));
        }
        Ok(Item::Integer { bytes, signed })
    }

    fn next(&mut self) -> Result<Option<Item>, String> {
        loop {
            let Some((kind, rest)) = self.rest.split_first() else {
                return Ok(None);
            };
            self.rest = rest;
            let item = match kind {
                b' ' => continue,
                b'<' => {
                    self.little = true;
                    continue;
                }
                b'>' => {
                    self.little = false;
                    continue;
                }
                b'!' => {
                    let align = self.count(MAX_ALIGN)?;
                    if !align.is_power_of_two() {
                        return Err("alignment is not a power of 2".to_owned());
                    }
                    self.align = align;
                    continue;
                }
                b'x' => Item::Pad,
                b'b' => Item::sized(1, true),
                b'B' => Item::sized(1, false),
                b'h' => Item::sized(2, true),
                b'H' => Item::sized(2, false),
                b'l' => Item::sized(8, true),
                b'L' | b'T' => Item::sized(8, false),
                b'i' => self.integer(4, true)?,
                b'I' => self.integer(4, false)?,
                b'f' => Item::Float,
                b'd' | b'n' => Item::Double,
                b'c' => Item::Chars(self.count(1)?),
                b's' => Item::Text,
                other => return Err(format!("invalid format option '{}'", char::from(*other))),
            };
            return Ok(Some(item));
        }
    }

    /// Bytes between an item and what is before it.
    fn padding(&self, item: &Item, so_far: usize) -> usize {
        let size = match item {
            Item::Integer { bytes, .. } => *bytes,
            Item::Float => 4,
            Item::Double => 8,
            _ => return 0,
        };
        let align = size.min(self.align);
        if align > 1 {
            (align - (so_far & (align - 1))) & (align - 1)
        } else {
            0
        }
    }
}

fn number(value: Option<&Value>, nth: usize) -> Result<f64, String> {
    let found = match value {
        Some(Value::Integer(number)) => Some(*number as f64),
        Some(Value::Number(number)) => Some(*number),
        Some(Value::String(text)) => text.to_string_lossy().trim().parse().ok(),
        _ => None,
    };
    let got = value.map_or("no value", |value| value.type_name());
    found.ok_or_else(|| format!("bad argument #{nth} to 'pack' (number expected, got {got})"))
}

fn put_integer(out: &mut Vec<u8>, number: f64, bytes: usize, little: bool) {
    let value = if number < 0.0 {
        number as i64
    } else {
        number as u64 as i64
    };
    let fill = if value < 0 && number < 0.0 { 0xff } else { 0 };
    let mut all = [fill; MAX_INTEGER];
    all[..8].copy_from_slice(&value.to_le_bytes());
    let all = &mut all[..bytes];
    if !little {
        all.reverse();
    }
    out.extend_from_slice(all);
}

fn pack(args: &[Value]) -> Result<Vec<u8>, String> {
    let Some(Value::String(format)) = args.first() else {
        return Err("bad argument #1 to 'pack' (string expected)".to_owned());
    };
    let format = format.as_bytes();
    let mut format = Format::new(&format);
    let (mut out, mut nth) = (Vec::new(), 1);
    while let Some(item) = format.next()? {
        let padding = format.padding(&item, out.len());
        out.resize(out.len() + padding, 0);
        let value = args.get(nth);
        match item {
            Item::Pad => {
                out.push(0);
                continue;
            }
            Item::Integer { bytes, .. } => {
                put_integer(&mut out, number(value, nth + 1)?, bytes, format.little);
            }
            Item::Float => {
                let raw = (number(value, nth + 1)? as f32).to_bits();
                out.extend_from_slice(&if format.little {
                    raw.to_le_bytes()
                } else {
                    raw.to_be_bytes()
                });
            }
            Item::Double => {
                let raw = number(value, nth + 1)?.to_bits();
                out.extend_from_slice(&if format.little {
                    raw.to_le_bytes()
                } else {
                    raw.to_be_bytes()
                });
            }
            Item::Chars(_) | Item::Text => {
                let Some(Value::String(text)) = value else {
                    return Err(format!(
                        "bad argument #{} to 'pack' (string expected)",
                        nth + 1
                    ));
                };
                let bytes = text.as_bytes();
                let len = match item {
                    Item::Chars(len) if len > 0 => len,
                    _ => bytes.len(),
                };
                let chars = bytes.get(..len);
                out.extend_from_slice(chars.ok_or_else(|| {
                    format!("bad argument #{} to 'pack' (string too short)", nth + 1)
                })?);
                if matches!(item, Item::Text) {
                    out.push(0);
                }
            }
        }
        nth += 1;
        if out.len() > MAX_PACKED {
            return Err("result too long".to_owned());
        }
    }
    Ok(out)
}

fn read_integer(raw: &[u8], signed: bool, little: bool) -> f64 {
    let mut eight = [0; 8];
    let len = raw.len().min(8);
    if little {
        eight[..len].copy_from_slice(&raw[..len]);
    } else {
        for (to, from) in eight.iter_mut().zip(raw.iter().rev()) {
            *to = *from;
        }
    }
    let value = u64::from_le_bytes(eight);
    if !signed {
        return value as f64;
    }
    let shift = 64 - 8 * len as u32;
    ((value << shift) as i64 >> shift) as f64
}

const SHORT: &str = "data string too short";

/// The values that a string has from a place on, and the place behind them.
fn unpack(lua: &Lua, format: &[u8], data: &[u8], from: usize) -> Result<Vec<Value>, String> {
    let mut format = Format::new(format);
    let mut at = from;
    let mut found: Vec<Value> = Vec::new();
    let said = |error: mlua::Error| error.to_string();
    while let Some(item) = format.next()? {
        at += format.padding(&item, at);
        let mut take = |len: usize| {
            let end = at.checked_add(len);
            let bytes = end.and_then(|end| data.get(at..end));
            at = end.unwrap_or(at);
            bytes.ok_or_else(|| SHORT.to_owned())
        };
        match item {
            Item::Pad => drop(take(1)?),
            Item::Integer { bytes, signed } => {
                let raw = take(bytes)?;
                found.push(Value::Number(read_integer(raw, signed, format.little)));
            }
            Item::Float => {
                let raw = u32::from_le_bytes(ordered(take(4)?, format.little));
                found.push(Value::Number(f64::from(f32::from_bits(raw))));
            }
            Item::Double => {
                let raw = u64::from_le_bytes(ordered(take(8)?, format.little));
                found.push(Value::Number(f64::from_bits(raw)));
            }
            Item::Chars(len) => {
                let len = if len > 0 {
                    len
                } else {
                    match found.pop() {
                        Some(Value::Number(number)) if number >= 0.0 => number as usize,
                        _ => return Err("format 'c0' needs a previous size".to_owned()),
                    }
                };
                found.push(Value::String(lua.create_string(take(len)?).map_err(said)?));
            }
            Item::Text => {
                let rest = data.get(at..).unwrap_or_default();
                let end = memchr::memchr(0, rest);
                let end = end.ok_or_else(|| "unfinished string in data".to_owned())?;
                let text = lua.create_string(&rest[..end]).map_err(said)?;
                found.push(Value::String(text));
                at += end + 1;
            }
        }
    }
    found.push(Value::Number((at + 1) as f64));
    Ok(found)
}

fn ordered<const N: usize>(raw: &[u8], little: bool) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(raw);
    if !little {
        bytes.reverse();
    }
    bytes
}

fn size(format: &[u8]) -> Result<usize, String> {
    let mut format = Format::new(format);
    let mut size: usize = 0;
    while let Some(item) = format.next()? {
        size += format.padding(&item, size);
        let len = match item {
            Item::Pad => 1,
            Item::Integer { bytes, .. } => bytes,
            Item::Float => 4,
            Item::Double => 8,
            Item::Chars(len) if len > 0 => len,
            Item::Chars(_) | Item::Text => {
                return Err("variable-size format in 'struct.size'".to_owned());
            }
        };
        size = size.saturating_add(len);
    }
    Ok(size)
}

/// A format, a string, a place.
type Arguments = (mlua::LuaString, mlua::LuaString, Option<i64>);

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let packs = lua.create_function(|lua, args: Variadic<Value>| match pack(&args) {
        Ok(bytes) => lua.create_string(bytes),
        Err(why) => fault::wrong(lua, &why),
    })?;
    library.raw_set("pack", packs)?;
    let unpacks = lua.create_function(|lua, (format, data, from): Arguments| {
        let from = usize::try_from(from.unwrap_or(1) - 1);
        let found = match from {
            Ok(from) => unpack(lua, &format.as_bytes(), &data.as_bytes(), from),
            Err(_) => Err("offset must be 1 or greater".to_owned()),
        };
        found.map_or_else(
            |why| fault::wrong(lua, &why),
            |found| Ok(MultiValue::from_vec(found)),
        )
    })?;
    library.raw_set("unpack", unpacks)?;
    let sizes =
        lua.create_function(
            |lua, format: mlua::LuaString| match size(&format.as_bytes()) {
                Ok(size) => Ok(size as f64),
                Err(why) => fault::wrong(lua, &why),
            },
        )?;
    library.raw_set("size", sizes)?;
    Ok(library)
}
