//! The lines of an access list. Every bad line is told of, with its place and its cure.

use std::ops::Range;

use super::{Acl, Actions, Condition, Name, Network, Pattern, Rule};
use crate::problem::{Problem, Source, nearest};

const CODE: &str = "E1014";

/// What may stand for whom a rule is about.
const CONDITIONS: [&str; 7] = [
    "user",
    "client",
    "cert_cn",
    "listener",
    "address",
    "anonymous",
    "everyone",
];

/// One word of a line: its text without quotes, and where it stands in the file.
struct Word<'s> {
    text: &'s str,
    span: Range<usize>,
}

/// What is wrong with a line.
struct Wrong {
    span: Range<usize>,
    message: String,
    help: String,
}

impl Wrong {
    fn new(span: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            help: help.into(),
        }
    }
}

impl Acl {
    /// Reads an access list.
    ///
    /// # Errors
    /// Every line that is wrong.
    pub fn parse(source: &Source) -> Result<Self, Vec<Problem>> {
        let mut acl = Self::default();
        let mut problems = Vec::new();
        for line in lines(&source.text) {
            match read_rule(&source.text, line) {
                Ok(rule) => acl.rules.extend(rule),
                Err(wrong) => problems
                    .push(Problem::at(source, wrong.span, CODE, wrong.message).help(&wrong.help)),
            }
        }
        if problems.is_empty() {
            Ok(acl)
        } else {
            Err(problems)
        }
    }
}

/// Where the lines of a text are.
fn lines(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let begin = at;
        at += line.len();
        begin..begin + line.trim_end().len()
    })
}

/// One line; `None` for an empty line or a comment.
fn read_rule(text: &str, line: Range<usize>) -> Result<Option<Rule>, Wrong> {
    let words = words(text, line.clone())?;
    let Some(verb) = words.first().filter(|verb| !verb.text.starts_with('#')) else {
        return Ok(None);
    };
    let allow = match verb.text {
        "allow" => true,
        "deny" => false,
        _ => return Err(no_verb(verb)),
    };
    let Some(action) = words.get(1) else {
        return Err(Wrong::new(
            verb.span.clone(),
            "the rule does not say what",
            "write `allow publish TOPIC`, with publish, subscribe or all",
        ));
    };
    let actions = match action.text {
        "publish" | "write" => Actions::Publish,
        "subscribe" | "read" => Actions::Subscribe,
        "all" | "readwrite" => Actions::All,
        other => {
            return Err(Wrong::new(
                action.span.clone(),
                format!("`{other}` is nothing that can be allowed or denied"),
                "there are publish, subscribe and all",
            ));
        }
    };
    let Some(topic) = words.get(2) else {
        return Err(Wrong::new(
            action.span.clone(),
            "the rule names no topic",
            "a filter stands after the action; `#` is every topic that does not begin with `$`",
        ));
    };
    let pattern = Pattern::parse(topic.text).map_err(|(message, part)| {
        let begin = topic.span.start + offset_in(topic.text, part);
        Wrong::new(
            begin..begin + part.len(),
            message,
            "a topic filter, with %c for the client id and %u for the user name",
        )
    })?;
    let who = read_who(&words[3..])?;
    Ok(Some(Rule {
        allow,
        actions,
        pattern,
        who,
    }))
}

/// Where `part`, a piece of `whole`, begins.
fn offset_in(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

fn no_verb(verb: &Word<'_>) -> Wrong {
    let help = match verb.text {
        "topic" | "pattern" | "user" => {
            "what mosquitto writes as `user ann` and `topic read a/#` is one line here: `allow subscribe a/# user ann`"
        }
        _ => "a rule begins with allow or deny: `allow publish TOPIC user NAME`",
    };
    Wrong::new(
        verb.span.clone(),
        format!("`{}` is no rule", verb.text),
        help,
    )
}

fn read_who(mut words: &[Word<'_>]) -> Result<Vec<Condition>, Wrong> {
    let mut who = Vec::new();
    while let Some((word, rest)) = words.split_first() {
        if word.text == "everyone" {
            words = rest;
            continue;
        }
        if word.text == "anonymous" {
            who.push(Condition::Anonymous);
            words = rest;
            continue;
        }
        if !CONDITIONS.contains(&word.text) {
            let meant = nearest(word.text, CONDITIONS)
                .map(|meant| format!("did you mean `{meant}`? "))
                .unwrap_or_default();
            return Err(Wrong::new(
                word.span.clone(),
                format!("`{}` does not say whom the rule is about", word.text),
                format!("{meant}there are {}", CONDITIONS.join(", ")),
            ));
        }
        let Some((value, rest)) = rest.split_first() else {
            return Err(Wrong::new(
                word.span.clone(),
                format!("`{}` needs a value", word.text),
                "a name, the beginning of names as in `dev-*`, or a network such as 10.0.0.0/8",
            ));
        };
        let name = Name::parse(value.text);
        who.push(match word.text {
            "user" => Condition::User(name),
            "client" => Condition::Client(name),
            "cert_cn" => Condition::CertCn(name),
            "listener" => Condition::Listener(name),
            _ => Condition::Address(Network::parse(value.text).ok_or_else(|| {
                Wrong::new(
                    value.span.clone(),
                    format!("`{}` is no address and no network", value.text),
                    "such as 192.168.1.7, 10.0.0.0/8 or fd00::/8",
                )
            })?),
        });
        words = rest;
    }
    Ok(who)
}

/// The words of a line. One in double quotes may hold spaces.
fn words(text: &str, line: Range<usize>) -> Result<Vec<Word<'_>>, Wrong> {
    let mut words = Vec::new();
    let mut at = line.start;
    while at < line.end {
        let rest = &text[at..line.end];
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        if trimmed.is_empty() {
            break;
        }
        if let Some(quoted) = trimmed.strip_prefix('"') {
            let Some(len) = quoted.find('"') else {
                return Err(Wrong::new(
                    at..line.end,
                    "the quote is not closed",
                    "a name or topic with spaces stands between double quotes",
                ));
            };
            words.push(Word {
                text: &quoted[..len],
                span: at + 1..at + 1 + len,
            });
            at += len + 2;
        } else {
            let len = trimmed.find(char::is_whitespace).unwrap_or(trimmed.len());
            words.push(Word {
                text: &trimmed[..len],
                span: at..at + len,
            });
            at += len;
        }
        // A comment is the whole line, because `#` is a topic too.
        if words.len() == 1 && words[0].text.starts_with('#') {
            break;
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> (usize, usize, String) {
        let problems = Acl::parse(&Source::new("acl", text)).unwrap_err();
        assert_eq!(problems[0].code, CODE);
        let Problem {
            line,
            column,
            message,
            ..
        } = problems[0].clone();
        (line, column, message)
    }

    #[test]
    fn comments_quotes_and_the_words_of_others_are_read() {
        let text = "# all of it\n\n  # more\nallow read a/#\nallow write \"a b/c\" user \"ann lee\"\r\ndeny readwrite # everyone\n";
        let acl = Acl::parse(&Source::new("acl", text)).unwrap();
        assert_eq!(acl.len(), 3);
        assert_eq!(
            acl.rules[1].who,
            [Condition::User(Name::Is("ann lee".into()))]
        );
        assert!(acl.rules[2].who.is_empty());
    }

    #[test]
    fn a_bad_line_is_told_with_its_place() {
        assert_eq!(wrong("allow all #\nallow publsh a\n").0, 2);
        assert_eq!(wrong("allow publsh a").1, 7);
        assert_eq!(wrong("allow publish").1, 7);
        assert_eq!(wrong("allow publish a/${x}/b").1, 17);
        assert_eq!(wrong("allow publish a use ann").1, 17);
        assert_eq!(wrong("allow publish a address 10.0.0.0/99").1, 25);
        assert_eq!(wrong("allow publish \"a b").1, 15);
        assert_eq!(wrong("topic read a/#").1, 1);
        assert_eq!(wrong("allow publish a user").2, "`user` needs a value");
    }

    #[test]
    fn every_bad_line_is_told_at_once() {
        let problems = Acl::parse(&Source::new("acl", "x\nallow all #\ny\n")).unwrap_err();
        let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 3]);
    }
}
