//! Characters that look like SQL's and are not: what word processors, chat programs and input methods make of them.

use sqlparser::tokenizer::Token;

/// Whether it is a quote that word processors write.
pub(super) const fn is_typographic(char: char) -> bool {
    matches!(
        char,
        '“' | '”' | '„' | '‟' | '«' | '»' | '‘' | '’' | '‚' | '‛' | '＂' | '＇'
    )
}

/// Whether it cannot be seen on a screen, or looks like a space.
pub(super) const fn is_invisible(char: char) -> bool {
    matches!(
        char,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}'
    )
}

/// The token that a wide or typographic sign stands for, and how it is written.
pub(super) fn plain_operator(char: char) -> Option<(Token, &'static str)> {
    Some(match char {
        '，' | '、' => (Token::Comma, ","),
        '（' => (Token::LParen, "("),
        '）' => (Token::RParen, ")"),
        '［' => (Token::LBracket, "["),
        '］' => (Token::RBracket, "]"),
        '｛' => (Token::LBrace, "{"),
        '｝' => (Token::RBrace, "}"),
        '；' => (Token::SemiColon, ";"),
        '：' => (Token::Colon, ":"),
        '．' | '。' => (Token::Period, "."),
        '＝' => (Token::Eq, "="),
        '＞' => (Token::Gt, ">"),
        '＜' => (Token::Lt, "<"),
        '≥' | '⩾' => (Token::GtEq, ">="),
        '≤' | '⩽' => (Token::LtEq, "<="),
        '≠' => (Token::Neq, "<>"),
        '＋' => (Token::Plus, "+"),
        '－' | '−' | '–' | '—' => (Token::Minus, "-"),
        '＊' | '×' => (Token::Mul, "*"),
        '／' | '÷' => (Token::Div, "/"),
        '％' => (Token::Mod, "%"),
        _ => return None,
    })
}
