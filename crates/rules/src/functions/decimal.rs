//! Decimal texts of doubles, exactly: what `float2str`, `float(x, n)` and `trunc` round and cut.

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
    fn cutting_goes_by_the_shortest_text() {
        assert_eq!(cut(2.3, 1), 2.3);
        assert_eq!(cut(-2.39, 1), -2.3);
        assert_eq!(cut(7.9, 0), 7.0);
        assert_eq!(cut(1e300, 2), 1e300);
    }
}
