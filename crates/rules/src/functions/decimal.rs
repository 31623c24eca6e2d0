//! Decimal texts of doubles, exactly: what `float2str`, `float(x, n)`, `sprintf` and `trunc` round and cut.

/// The number with that many decimals, correctly rounded from its exact value; ties go away from zero.
pub(crate) fn rounded(number: f64, decimals: usize) -> String {
    if binary_places(number) > decimals + 1 {
        // Not a tie, so the standard library's half-to-even rounding is no different.
        return format!("{number:.decimals$}");
    }
    // One more decimal shows the exact value; its last digit decides.
    let exact = format!("{number:.*}", decimals + 1);
    let (kept, last) = exact.split_at(exact.len() - 1);
    let kept = kept.trim_end_matches('.');
    if last < "5" {
        kept.to_owned()
    } else {
        away_from_zero(kept)
    }
}

/// The number with that many significant digits, rounded as by [`rounded`], and its power of ten: 1250.0 with two is
/// `1.3` and 3.
pub(super) fn significant(number: f64, digits: usize) -> (String, i32) {
    /// No double has more of them.
    const ALL_DIGITS: usize = 767;
    let decimals = digits.max(1) - 1;
    let (longer, power) = scientific(number, decimals + 1);
    let is_exact = || {
        let (exact, _) = scientific(number, ALL_DIGITS.max(decimals + 1));
        exact.trim_end_matches('0') == longer
    };
    if !longer.ends_with('5') || !is_exact() {
        return scientific(number, decimals);
    }
    let kept = longer[..longer.len() - 1].trim_end_matches('.');
    let next = away_from_zero(kept);
    if next.len() == kept.len() {
        return (next, power);
    }
    // All of them were nines.
    let sign = if number < 0.0 { "-" } else { "" };
    let zeros = if decimals > 0 {
        format!(".{}", "0".repeat(decimals))
    } else {
        String::new()
    };
    (format!("{sign}1{zeros}"), power + 1)
}

/// The mantissa with so many decimals, and the power of ten.
fn scientific(number: f64, decimals: usize) -> (String, i32) {
    let text = format!("{number:.decimals$e}");
    match text.split_once('e') {
        Some((mantissa, power)) => (mantissa.to_owned(), power.parse().unwrap_or(0)),
        None => (text, 0),
    }
}

/// The number cut after that many decimals of its shortest text, toward zero.
pub(super) fn cut(number: f64, decimals: usize) -> f64 {
    let text = format!("{number}");
    let cut = match text.find('.') {
        Some(point) => &text[..text.len().min(point + 1 + decimals)],
        None => &text,
    };
    cut.trim_end_matches('.').parse().unwrap_or(number)
}

/// Without zeros at the end of the decimals, but with one decimal at least.
pub(super) fn trimmed(text: &str) -> &str {
    match text.find('.') {
        Some(point) => {
            let end = text.trim_end_matches('0').len();
            &text[..end.max(point + 2)]
        }
        None => text,
    }
}

/// How many binary, and so also decimal, places the exact value has after the point.
fn binary_places(number: f64) -> usize {
    let bits = number.to_bits();
    let exponent = (bits >> 52) & 0x7ff;
    let fraction = bits & ((1 << 52) - 1);
    let mantissa = if exponent == 0 {
        fraction
    } else {
        fraction | (1 << 52)
    };
    if mantissa == 0 {
        return 0;
    }
    let power =
        i64::try_from(exponent.max(1)).unwrap_or(0) - 1075 + i64::from(mantissa.trailing_zeros());
    usize::try_from(-power).unwrap_or(0)
}

/// The decimal text with one added to its last digit.
fn away_from_zero(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for byte in bytes.iter_mut().rev().filter(|byte| byte.is_ascii_digit()) {
        if *byte == b'9' {
            *byte = b'0';
        } else {
            *byte += 1;
            return String::from_utf8_lossy(&bytes).into_owned();
        }
    }
    let sign = usize::from(bytes.first() == Some(&b'-'));
    bytes.insert(sign, b'1');
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_away_from_zero_and_what_only_looks_like_one_does_not() {
        for (number, decimals, text) in [
            (0.5, 0, "1"),
            (-2.5, 0, "-3"),
            (0.125, 2, "0.13"),
            (1.45, 1, "1.4"),
            (9.5, 0, "10"),
            (-99.875, 2, "-99.88"),
            (2.0, 3, "2.000"),
            (0.0, 1, "0.0"),
            (1e22, 1, "10000000000000000000000.0"),
        ] {
            assert_eq!(rounded(number, decimals), text);
        }
    }

    #[test]
    fn significant_digits_are_rounded_in_the_same_way() {
        for (number, digits, mantissa, power) in [
            (1.25, 2, "1.3", 0),
            (-1.25, 2, "-1.3", 0),
            (1.35, 2, "1.4", 0),
            (1.45, 2, "1.4", 0),
            (9.5, 1, "1", 1),
            (-99.5, 2, "-1.0", 2),
            (0.000_976_562_5, 6, "9.76563", -4),
            (0.0, 3, "0.00", 0),
            (12_345.678, 3, "1.23", 4),
        ] {
            assert_eq!(significant(number, digits), (mantissa.to_owned(), power));
        }
    }

    #[test]
    fn cutting_goes_by_the_shortest_text() {
        assert_eq!(cut(2.3, 1), 2.3);
        assert_eq!(cut(-2.39, 1), -2.3);
        assert_eq!(cut(7.9, 0), 7.0);
        assert_eq!(cut(1e300, 2), 1e300);
    }
}
