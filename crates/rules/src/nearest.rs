//! Which known name a mistyped one most likely means.

/// The nearest of `candidates`, if one is near enough to be meant.
pub(crate) fn nearest<'n>(
    name: &str,
    candidates: impl IntoIterator<Item = &'n str>,
) -> Option<&'n str> {
    let far = (name.chars().count() / 3).clamp(1, 6) + 1;
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance < far)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Whether a word is a keyword, in upper case, with one letter wrong or two letters changed over.
pub(crate) fn is_slip_of(word: &str, keyword: &str) -> bool {
    let word = word.to_ascii_uppercase();
    let sorted = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.sort_unstable();
        bytes
    };
    word != keyword && (edit_distance(&word, keyword) == 1 || sorted(&word) == sorted(keyword))
}

/// How many letters must change to make one text of the other.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in right.iter().enumerate() {
            let cost = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let names = ["payload", "clientid", "topic"];
        assert_eq!(nearest("paylaod", names), Some("payload"));
        assert_eq!(nearest("clientId", names), Some("clientid"));
        assert_eq!(nearest("temperature", names), None);
    }

    #[test]
    fn a_keyword_is_recognised_with_one_slip() {
        assert!(is_slip_of("form", "FROM") && is_slip_of("FRM", "FROM"));
        assert!(is_slip_of("whre", "WHERE"));
        assert!(!is_slip_of("from", "FROM") && !is_slip_of("room", "FROM"));
    }
}
