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

/// Whether a word is a keyword, in upper case, with one letter wrong or two neighbours changed over.
pub(crate) fn is_slip_of(word: &str, keyword: &str) -> bool {
    edit_distance(&word.to_ascii_uppercase(), keyword) == 1
}

/// How many letters must change, or change places with their neighbours, to make one text of the other.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    let (mut above, mut last) = (row.clone(), None);
    for (i, a) in left.chars().take(64).enumerate() {
        let before = std::mem::replace(&mut above, row.clone());
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let cost = above[j] + usize::from(a != *b);
            row[j + 1] = cost.min(row[j] + 1).min(above[j + 1] + 1);
            if j > 0 && last == Some(*b) && right[j - 1] == a {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        last = Some(a);
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
        assert_eq!(nearest("tpoic", names), Some("topic"));
        assert_eq!(nearest("qso", ["qos", "node"]), Some("qos"));
        assert_eq!(nearest("temperature", names), None);
    }

    #[test]
    fn a_keyword_is_recognised_with_one_slip() {
        assert!(is_slip_of("form", "FROM") && is_slip_of("FRM", "FROM"));
        assert!(is_slip_of("whre", "WHERE"));
        assert!(!is_slip_of("from", "FROM") && !is_slip_of("room", "FROM"));
    }
}
