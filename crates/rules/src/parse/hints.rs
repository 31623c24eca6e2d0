//! What to write instead: constructs of other languages, and slips that the tokens around a mistake give away.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::dialect::{is_keyword, is_reserved, keyword, starts_clause, starts_operand};
use crate::nearest::is_slip_of;

/// A construct that the language leaves out, and what to write instead (may be empty).
pub(super) type Unsupported = (String, &'static str);

/// What a rule sees, for constructs that want more.
pub(super) const ONE_MESSAGE: &str = "a rule sees one message at a time";

const LOOK_UP: &str =
    "a rule sees one message at a time; `kv_store_get` looks up what an earlier one stored";

/// What is said of a construct that starts with the next token and that the language leaves out.
pub(super) fn unsupported(parser: &Parser<'_>, wanted: &str) -> Option<Unsupported> {
    let next = &parser.peek_nth_token_ref(1).token;
    let word = match &parser.peek_token_ref().token {
        Token::Word(word) => keyword(word)?,
        Token::Colon if matches!(next, Token::Word(_)) => {
            return Some((
                format!("the parameter `:{next}` is not supported"),
                "write the value, or the name of a field",
            ));
        }
        Token::Placeholder(text) if text.starts_with('?') => {
            if !wanted.contains("expression") {
                return Some((
                    "`?` is not supported".to_owned(),
                    "use `if(condition, a, b)` or `coalesce(a, b)`",
                ));
            }
            return Some((
                format!("the parameter `{text}` is not supported"),
                "write the value, or the name of a field",
            ));
        }
        Token::AtSign if matches!(next, Token::Word(_)) => {
            return Some((
                format!("the variable `@{next}` is not supported"),
                "write the name of a field; `kv_store_get` keeps values between messages",
            ));
        }
        _ => return None,
    };
    let (construct, instead) = match word.as_str() {
        "SELECT" => (
            "a sub-query",
            "a rule sees one message; FOREACH goes through an array",
        ),
        "ORDER" if is_keyword(next, "BY") => (
            "ORDER BY",
            "a rule sees one message at a time; `array_sort` sorts an array",
        ),
        "LIMIT" | "FETCH" => (
            "LIMIT",
            "a rule sees one message at a time; `array_slice` takes a part of an array",
        ),
        "OFFSET" => ("OFFSET", ONE_MESSAGE),
        "GROUP" => (
            "GROUP BY",
            "windows are not there yet; `kv_store_put` and `kv_store_get` keep values between messages",
        ),
        "HAVING" => ("HAVING", "windows are not there yet; use WHERE"),
        "OVER" => (
            "OVER",
            "windows are not there yet; `kv_store_put` and `kv_store_get` keep values between messages",
        ),
        "FILTER" => ("FILTER", "windows are not there yet; use WHERE"),
        "UNION" => (
            "UNION",
            "FROM takes several topics: FROM \"a/+\", \"b/+\"; else write two rules",
        ),
        "INTERSECT" => ("INTERSECT", "join conditions with AND in WHERE"),
        "EXCEPT" => ("EXCEPT", "join conditions with AND NOT in WHERE"),
        "JOIN" if *next != Token::LParen => ("JOIN", LOOK_UP),
        "LEFT" | "INNER" | "RIGHT" | "FULL" | "CROSS"
            if is_keyword(next, "JOIN") || is_keyword(next, "OUTER") =>
        {
            ("JOIN", LOOK_UP)
        }
        "QUALIFY" if !matches!(next, Token::EOF | Token::Comma) => {
            ("QUALIFY", "a rule sees one message at a time; use WHERE")
        }
        "WINDOW" if matches!(next, Token::Word(_)) => (
            "WINDOW",
            "windows are not there yet; `kv_store_put` and `kv_store_get` keep values between messages",
        ),
        "FOR" if is_keyword(next, "UPDATE") || is_keyword(next, "SHARE") => {
            ("FOR UPDATE", ONE_MESSAGE)
        }
        "COLLATE" => ("COLLATE", "`lower` on both sides compares without case"),
        _ => return None,
    };
    Some((format!("{construct} is not supported"), instead))
}

/// What to do about a token that the language has nowhere.
pub(super) fn meaningless(token: &Token) -> Option<&'static str> {
    Some(match token {
        Token::Sharp => "a comment starts with `--`",
        Token::Backslash => "outside of quotes a backslash means nothing",
        Token::Char(_) | Token::Placeholder(_) | Token::AtSign | Token::Question => "",
        _ => return None,
    })
}

/// What to say of a word that starts no rule.
pub(super) fn no_statement(word: &str) -> &'static str {
    match word.to_ascii_uppercase().as_str() {
        "FROM" | "WHERE" => "the order is SELECT … FROM … WHERE …",
        "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "MERGE" => {
            "a rule is one SELECT or FOREACH; what becomes of its rows is said in `[[sinks]]`"
        }
        "WITH" => "a rule is one SELECT or FOREACH; an item may use the aliases before it",
        other if is_slip_of(other, "SELECT") => "did you mean SELECT?",
        other if is_slip_of(other, "FOREACH") => "did you mean FOREACH?",
        _ => "a rule is one SELECT or FOREACH statement",
    }
}

/// What is between two tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    None,
    Space,
}

/// What to do about the next token, where `wanted` was expected; empty when nothing is sure.
pub(super) fn hint(parser: &Parser<'_>, gap: Gap, wanted: &str) -> String {
    let token = &parser.peek_token_ref().token;
    let next = &parser.peek_nth_token_ref(1).token;
    let before = &parser.get_current_token().token;
    let is_logic = |token: &Token| is_keyword(token, "AND") || is_keyword(token, "OR");
    let is_logic_pair = is_logic(before) && is_logic(token);
    if wanted.contains("expression") && !is_logic_pair && ends_operand(token) && is_operator(before)
    {
        return format!("nothing follows the `{before}` before it");
    }
    let text = match (before, token) {
        (_, Token::EOF) if !matches!(before, Token::Comma) => "",
        (Token::Comma, token)
            if starts_clause(token)
                || matches!(
                    token,
                    Token::EOF | Token::RParen | Token::RBracket | Token::RBrace
                ) =>
        {
            "nothing follows the comma before it"
        }
        (Token::Comma, Token::Comma) => "one of the two commas is too many",
        (before, token) if is_logic(before) && is_logic(token) => "one of the two is too many",
        (_, token) if is_logic(token) && wanted.contains("expression") => {
            "it stands between two conditions"
        }
        (Token::Gt, Token::Eq) => "write `>=` as one",
        (Token::Lt, Token::Eq) => "write `<=` as one",
        (Token::Lt, Token::Gt) => "write `<>` as one",
        (Token::Eq, Token::Eq) => "write `=`",
        (Token::Eq, Token::Lt) => "write `<=`",
        (Token::SingleQuotedString(text), Token::Word(_)) if gap == Gap::None => {
            if text.ends_with('\\') {
                "a backslash escapes nothing: a quote in a string is written ''"
            } else {
                "a quote in a string is written ''"
            }
        }
        (_, Token::Div) if *next == Token::Div => "a comment starts with `--`",
        (_, Token::Comma) if wanted.contains("end of the statement") => {
            "conditions are joined with AND or OR"
        }
        (_, token) if is_keyword(token, "NOT") && is_keyword(next, "NULL") => "write IS NOT NULL",
        (_, token) if is_keyword(token, "NOTNULL") => "write IS NOT NULL",
        (_, token) if is_keyword(token, "ISNULL") => "write IS NULL",
        (_, token) if is_keyword(token, "CONTAINS") => {
            "write `… LIKE '%text%'`, or `contains(element, array)`"
        }
        (_, token) if is_keyword(token, "STARTSWITH") => "write `startswith(text, start)`",
        (_, token) if is_keyword(token, "ENDSWITH") => "write `endswith(text, end)`",
        (_, token) if is_keyword(token, "MATCHES") => "write RLIKE, or `=~` for a topic filter",
        (_, token) if is_keyword(token, "GLOB") || is_keyword(token, "SIMILAR") => {
            "write LIKE or RLIKE"
        }
        (_, token)
            if wanted == "`FROM`" && (is_keyword(token, "DO") || is_keyword(token, "INCASE")) =>
        {
            "it belongs to FOREACH"
        }
        (_, Token::Word(word)) if wanted.contains("single quotes") => {
            return format!("write '{}'", word.value.replace('\'', "''"));
        }
        (_, Token::SingleQuotedString(name)) if wanted.contains("alias") => {
            return format!("write \"{}\"", name.replace('"', "\"\""));
        }
        (_, Token::RParen) if wanted.contains("`FROM`") || wanted.contains("end of the") => {
            "no `(` is open here"
        }
        (_, token) if wanted.contains("`FROM`") && starts_operand(token) => {
            "is a comma missing before it?"
        }
        (_, Token::Word(word)) if wanted.contains("end of the") && starts_operand(token) => {
            match ["WHERE", "AND", "OR"]
                .iter()
                .find(|known| is_slip_of(&word.value, known))
            {
                Some(known) => return format!("did you mean {known}?"),
                None => "conditions are joined with AND or OR",
            }
        }
        (_, Token::Word(word)) if wanted.contains("expression") && may_be_field(word) => {
            return format!(
                "`{0}` is a keyword; a field of that name is written \"{0}\"",
                word.value
            );
        }
        _ => "",
    };
    text.to_owned()
}

/// Whether it joins two operands, the second of which must follow.
fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            keyword(word).as_deref(),
            Some("AND" | "OR" | "NOT" | "DIV" | "MOD" | "LIKE" | "ILIKE" | "RLIKE" | "REGEXP")
        ),
        token => matches!(
            token,
            Token::Plus
                | Token::Minus
                | Token::Mul
                | Token::Div
                | Token::Mod
                | Token::StringConcat
                | Token::Eq
                | Token::DoubleEq
                | Token::Neq
                | Token::Lt
                | Token::LtEq
                | Token::Gt
                | Token::GtEq
        ),
    }
}

/// Whether an operand must have ended before it.
fn ends_operand(token: &Token) -> bool {
    starts_clause(token)
        || ["AS", "AND", "OR", "THEN", "WHEN", "ELSE", "END"]
            .iter()
            .any(|word| is_keyword(token, word))
        || matches!(
            token,
            Token::EOF | Token::Comma | Token::RParen | Token::RBracket | Token::RBrace
        )
}

/// A keyword that may be meant as a field's name; the others only stand between things.
fn may_be_field(word: &sqlparser::tokenizer::Word) -> bool {
    is_reserved(word)
        && !starts_clause(&Token::Word(word.clone()))
        && keyword(word).is_some_and(|word| {
            !matches!(
                word.as_str(),
                "AND"
                    | "OR"
                    | "AS"
                    | "IN"
                    | "IS"
                    | "LIKE"
                    | "ILIKE"
                    | "RLIKE"
                    | "BETWEEN"
                    | "THEN"
                    | "WHEN"
                    | "ELSE"
            )
        })
}
