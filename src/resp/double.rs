//! Doubles as text, as C's `%.17g` writes them.

/// Seventeen digits, without zeros at the end; very large and very small numbers with an exponent.
pub fn format(value: f64) -> String {
    format_digits(value, 17)
}

/// The same with another number of digits.
pub fn format_digits(value: f64, digits: usize) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let behind = digits - 1;
    let scientific = format!("{value:.behind$e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..digits as i32).contains(&exponent) {
        let places = usize::try_from(behind as i32 - exponent).unwrap_or_default();
        return trim(&format!("{value:.places$}")).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
}

/// All digits that a number has up to 17 behind the point, without an exponent.
pub fn format_human(value: f64) -> String {
    trim(&format!("{value:.17}")).to_owned()
}

fn trim(digits: &str) -> &str {
    if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    }
}

#[cfg(test)]
mod tests {
    use super::{format, format_digits};

    #[test]
    fn fewer_digits_read_as_those_of_c() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1e14, "1e+14"),
            (99_999_999_999_999.0, "99999999999999"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (1.0 / 3.0, "0.33333333333333"),
        ] {
            assert_eq!(format_digits(number, 14), text);
        }
    }

    #[test]
    fn numbers_read_as_those_of_c() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.10000000000000001"),
            (1.5, "1.5"),
            (100_000.0, "100000"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (-2.5e-10, "-2.5000000000000002e-10"),
            (1e300, "1.0000000000000001e+300"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(format(value), text);
        }
    }
}
