//! The numbers of INCRBYFLOAT: exact decimals with 17 digits after the point, as far as they reach.
//!
//! Redis adds long doubles and prints 17 digits, binary noise included. Here a sum of decimals is
//! the decimal that a person expects; only numbers beyond 10^20 fall back to doubles.

const SCALE_DIGITS: usize = 17;
const SCALE: i128 = 10i128.pow(SCALE_DIGITS as u32);
const MAX_EXACT: i128 = 1_000 * SCALE * 100_000_000_000_000_000;

/// A number that a client sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    /// Units of 10^-17.
    Exact(i128),
    /// Too large or too small for that, or infinite.
    Double(f64),
}

impl Number {
    /// The sum in Redis's form; `None` when it is no number or infinite.
    pub(super) fn add(self, other: Number) -> Option<String> {
        if let (Number::Exact(a), Number::Exact(b)) = (self, other) {
            let sum = a.checked_add(b)?;
            if sum.abs() < MAX_EXACT {
                return Some(format_exact(sum));
            }
        }
        let sum = self.double() + other.double();
        sum.is_finite().then(|| trim(&format!("{sum:.17}")))
    }

    /// Whether it is beyond every number.
    pub(super) fn is_infinite(self) -> bool {
        self.double().is_infinite()
    }

    fn double(self) -> f64 {
        match self {
            Number::Exact(units) => units as f64 / SCALE as f64,
            Number::Double(value) => value,
        }
    }
}

/// Parses what `strtold` takes in full: decimal, exponent, infinity; not NaN, no blanks.
pub(super) fn parse(raw: &[u8]) -> Option<Number> {
    let text = std::str::from_utf8(raw).ok()?;
    if text.is_empty() || text.starts_with(|c: char| c.is_ascii_whitespace()) {
        return None;
    }
    if let Some(units) = parse_exact(text) {
        return Some(Number::Exact(units));
    }
    let value: f64 = text.parse().ok()?;
    (!value.is_nan()).then_some(Number::Double(value))
}

fn parse_exact(text: &str) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let negative = mantissa.starts_with('-');
    let digits = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut units: i128 = 0;
    for digit in whole.chars().chain(fraction.chars()) {
        units = units
            .checked_mul(10)?
            .checked_add(i128::from(digit.to_digit(10)?))?;
    }
    let shift = SCALE_DIGITS as i32 + exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let units = if shift >= 0 {
        units.checked_mul(10i128.checked_pow(shift as u32)?)?
    } else {
        let divisor = 10i128.checked_pow(shift.unsigned_abs())?;
        (units % divisor == 0).then_some(units / divisor)?
    };
    (units < MAX_EXACT).then_some(if negative { -units } else { units })
}

fn format_exact(units: i128) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let (whole, fraction) = (units.abs() / SCALE, units.abs() % SCALE);
    trim(&format!("{sign}{whole}.{fraction:017}"))
}

fn trim(text: &str) -> String {
    let trimmed = text.trim_end_matches('0').trim_end_matches('.');
    if trimmed == "-0" {
        "0".to_owned()
    } else {
        trimmed.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn sum(a: &str, b: &str) -> Option<String> {
        parse(a.as_bytes())?.add(parse(b.as_bytes())?)
    }

    #[test]
    fn sums_are_what_a_person_expects() {
        for (a, b, want) in [
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-3", "0"),
            ("0.1", "0.2", "0.3"),
            ("-1.5", "0.5", "-1"),
            ("1e-17", "0", "0.00000000000000001"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Some(want));
        }
        assert_eq!(sum("inf", "1"), None);
        for bad in ["", " 1", "1 ", "abc", "nan", "1e", "--1", "."] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
