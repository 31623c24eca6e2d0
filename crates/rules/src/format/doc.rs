//! A text with places where its lines may be broken, and the printer that breaks those that must.

/// A piece of text.
#[derive(Debug)]
pub(super) enum Doc<'a> {
    Text(&'a str),
    /// A comment that ends its line, which may be longer than others for it.
    Comment(&'a str),
    /// One text in a broken group, another in one that stays on its line.
    Choice {
        broken: &'a str,
        flat: &'a str,
    },
    /// A space, or a line break in a broken group.
    Line,
    /// A line break; every group around it is broken.
    Hard,
    All(Vec<Self>),
    /// Lines below are indented by so much more.
    Nest(usize, Box<Self>),
    /// Lines below start in the column where this one does.
    Align(Box<Self>),
    /// Stays on one line if it fits there; otherwise all of its own lines are broken.
    Group(Box<Self>),
    /// Contents and, between them, lines: each is broken only where the next content would not fit.
    Fill(Vec<Self>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Flat,
    Broken,
}

/// What is still to be printed.
#[derive(Clone, Copy)]
struct Rest<'d> {
    indent: usize,
    mode: Mode,
    piece: Piece<'d>,
}

#[derive(Clone, Copy)]
enum Piece<'d> {
    One(&'d Doc<'d>),
    /// What is left of a fill.
    Fill(&'d [Doc<'d>]),
}

impl Doc<'_> {
    pub(super) const fn nothing() -> Self {
        Self::All(Vec::new())
    }

    pub(super) fn nest(self, columns: usize) -> Self {
        Self::Nest(columns, Box::new(self))
    }

    pub(super) fn align(self) -> Self {
        Self::Align(Box::new(self))
    }

    pub(super) fn group(self) -> Self {
        Self::Group(Box::new(self))
    }

    /// On lines of at most `width` columns, as far as it can be broken.
    pub(super) fn broken(&self, width: usize) -> String {
        print(self, Mode::Broken, width)
    }

    /// On one line, if it may stand there and is no wider than `width`.
    pub(super) fn on_one_line(&self, width: usize) -> Option<String> {
        fits(&[self], &[], width)
            .then(|| print(self, Mode::Flat, width))
            .filter(|text| !text.contains('\n'))
    }
}

fn print(doc: &Doc<'_>, mode: Mode, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    let mut stack = vec![Rest {
        indent: 0,
        mode,
        piece: Piece::One(doc),
    }];
    while let Some(Rest {
        indent,
        mode,
        piece,
    }) = stack.pop()
    {
        let room = width.saturating_sub(column);
        let doc = match piece {
            Piece::One(doc) => doc,
            Piece::Fill(parts) => {
                fill(parts, indent, mode, &mut stack, room);
                continue;
            }
        };
        let one = |indent, mode, doc| Rest {
            indent,
            mode,
            piece: Piece::One(doc),
        };
        match doc {
            Doc::Text(text) | Doc::Comment(text) => write(&mut out, &mut column, text),
            Doc::Choice { broken, flat } => {
                let text = if mode == Mode::Flat { flat } else { broken };
                write(&mut out, &mut column, text);
            }
            Doc::Line if mode == Mode::Flat => write(&mut out, &mut column, " "),
            Doc::Line | Doc::Hard => {
                out.truncate(out.trim_end_matches(' ').len());
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent));
                column = indent;
            }
            Doc::All(docs) => {
                stack.extend(docs.iter().rev().map(|doc| one(indent, mode, doc)));
            }
            Doc::Nest(columns, doc) => stack.push(one(indent + columns, mode, doc)),
            Doc::Align(doc) => stack.push(one(column, mode, doc)),
            Doc::Group(doc) => {
                let flat = mode == Mode::Flat || fits(&[doc], &stack, room);
                let mode = if flat { Mode::Flat } else { Mode::Broken };
                stack.push(one(indent, mode, doc));
            }
            Doc::Fill(parts) => fill(parts, indent, mode, &mut stack, room),
        }
    }
    out
}

fn write(out: &mut String, column: &mut usize, text: &str) {
    out.push_str(text);
    match text.rsplit_once('\n') {
        Some((_, last)) => *column = last.chars().count(),
        None => *column += text.chars().count(),
    }
}

/// Puts the first content of a fill on the stack, and the line after it as it must be for the next content.
fn fill<'d>(
    parts: &'d [Doc<'d>],
    indent: usize,
    mode: Mode,
    stack: &mut Vec<Rest<'d>>,
    room: usize,
) {
    let fitting = |fit: bool| {
        if fit || mode == Mode::Flat {
            Mode::Flat
        } else {
            Mode::Broken
        }
    };
    let one = |mode, doc| Rest {
        indent,
        mode,
        piece: Piece::One(doc),
    };
    match parts {
        [] => {}
        [content] => {
            let mode = fitting(fits(&[content], stack, room));
            stack.push(one(mode, content));
        }
        [content, line, rest @ ..] => {
            let content_mode = fitting(fits(&[content], &[], room));
            let after = if rest.len() > 1 {
                &[]
            } else {
                stack.as_slice()
            };
            let line_mode = match rest.first() {
                Some(next) => fitting(fits(&[content, line, next], after, room)),
                None => fitting(true),
            };
            stack.push(Rest {
                indent,
                mode,
                piece: Piece::Fill(rest),
            });
            stack.push(one(line_mode, line));
            stack.push(one(content_mode, content));
        }
    }
}

/// Whether `docs` and what must follow them on the same line fit into `room` columns.
fn fits(docs: &[&Doc<'_>], rest: &[Rest<'_>], mut room: usize) -> bool {
    let mut rest = rest.iter().rev();
    let mut todo: Vec<(Mode, &Doc<'_>)> = docs.iter().rev().map(|doc| (Mode::Flat, *doc)).collect();
    loop {
        let Some((mode, doc)) = todo.pop() else {
            let Some(next) = rest.next() else {
                return true;
            };
            match next.piece {
                Piece::One(doc) => todo.push((next.mode, doc)),
                Piece::Fill(parts) => {
                    todo.extend(parts.iter().rev().map(|doc| (next.mode, doc)));
                }
            }
            continue;
        };
        let text = match doc {
            Doc::Text(text) => text,
            Doc::Choice { broken, flat } => {
                if mode == Mode::Flat {
                    flat
                } else {
                    broken
                }
            }
            Doc::Line if mode == Mode::Flat => " ",
            // What is asked about is flat, so a broken line comes after it.
            Doc::Line => return true,
            Doc::Hard => return mode == Mode::Broken,
            Doc::Comment(_) => "",
            Doc::All(docs) | Doc::Fill(docs) => {
                todo.extend(docs.iter().rev().map(|doc| (mode, doc)));
                continue;
            }
            Doc::Nest(_, doc) | Doc::Align(doc) | Doc::Group(doc) => {
                todo.push((mode, doc));
                continue;
            }
        };
        let mut lines = text.split('\n');
        let width = lines.next().unwrap_or_default().chars().count();
        if width > room {
            return false;
        }
        room -= width;
        if lines.next().is_some() {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&'static str]) -> Doc<'static> {
        let mut parts = Vec::new();
        for name in names {
            if !parts.is_empty() {
                parts.push(Doc::Line);
            }
            parts.push(Doc::Text(name));
        }
        Doc::All(vec![
            Doc::Text("f("),
            Doc::Fill(parts).align(),
            Doc::Text(")"),
        ])
    }

    #[test]
    fn a_fill_breaks_only_where_the_next_content_would_not_fit() {
        let doc = list(&["aaa,", "bbb,", "ccc,", "ddd"]);
        assert_eq!(doc.broken(20), "f(aaa, bbb, ccc,\n  ddd)");
        assert_eq!(doc.broken(21), "f(aaa, bbb, ccc, ddd)");
    }

    #[test]
    fn a_group_that_does_not_fit_breaks_all_of_its_lines() {
        let chain = Doc::All(vec![
            Doc::Text("aaaa"),
            Doc::Line,
            Doc::Text("+ bbbb"),
            Doc::Line,
            Doc::Text("+ cccc"),
        ]);
        let doc = Doc::All(vec![Doc::Text("x = "), chain.align().group()]);
        assert_eq!(doc.broken(20), "x = aaaa\n    + bbbb\n    + cccc");
        assert_eq!(doc.on_one_line(22).unwrap(), "x = aaaa + bbbb + cccc");
        assert!(doc.on_one_line(21).is_none());
    }

    #[test]
    fn a_comment_does_not_break_what_stands_before_it() {
        let doc = Doc::All(vec![
            list(&["a,", "b"]).group(),
            Doc::Text(" "),
            Doc::Comment("-- longer than the line may be"),
            Doc::Hard,
            Doc::Text("c"),
        ]);
        assert_eq!(doc.broken(10), "f(a, b) -- longer than the line may be\nc");
    }
}
