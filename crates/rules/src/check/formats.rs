//! `sprintf` with a format that is written down: its directives and the values for them.

use super::Check;
use crate::ast::{Expr, ExprKind};
use crate::diagnostic::{Code, Place};
use crate::eval::folded;
use crate::functions::{Culprit, format_mistakes};
use crate::value::Value;

impl Check<'_> {
    /// Notes what of a call of `sprintf` or `sprintf_s` always fails.
    pub(super) fn format(&mut self, function: &str, args: &[Expr]) {
        let Some((format, values)) = args.split_first() else {
            return;
        };
        let known = |values: &[Expr]| values.iter().map(folded).collect::<Vec<_>>();
        let (list, elements) = match (function, values) {
            ("sprintf", values) => (Some(known(values)), values),
            ("sprintf_s", [values]) => match &values.kind {
                ExprKind::Array(elements) => (Some(known(elements)), elements.as_slice()),
                _ => (None, &[][..]),
            },
            _ => return,
        };
        let Some(Value::Text(text)) = folded(format) else {
            return;
        };
        let Some(text) = text.as_str() else {
            return;
        };
        for mistake in format_mistakes(text, list.as_deref()) {
            let at = match mistake.at {
                Culprit::Format(bytes) => self.inside(format.at, bytes.start, bytes.end),
                Culprit::Value(index) => elements.get(index).map_or(format.at, |value| value.at),
            };
            let message = format!("in `{function}`: {}", mistake.message);
            self.say(Code::Literal, at, message, mistake.label);
        }
    }

    /// The place of some bytes of a string literal's text; where it is no plain literal, all of it.
    fn inside(&self, literal: Place, start: usize, end: usize) -> Place {
        let written = literal.text(self.sql);
        let Some(inner) = written
            .strip_prefix('\'')
            .and_then(|rest| rest.strip_suffix('\''))
        else {
            return literal;
        };
        // A quote in the text is written twice.
        let mut place = None;
        let (mut read, mut bytes) = (0, inner.char_indices().peekable());
        while let Some((at, c)) = bytes.next() {
            if read == start {
                place = Some(at);
            }
            if c == '\'' && bytes.next_if(|(_, next)| *next == '\'').is_none() {
                // Two literals with an operator between them.
                return literal;
            }
            read += c.len_utf8();
            if read == end
                && let Some(first) = place
            {
                let after = bytes.peek().map_or(inner.len(), |(at, _)| *at);
                let offset = literal.start + 1;
                return Place {
                    start: offset + first,
                    end: offset + after,
                };
            }
        }
        literal
    }
}
