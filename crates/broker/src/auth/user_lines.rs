//! Files of `user:secret` lines, whatever the secret is: one reader for all of them.

use ahash::HashMap;

use crate::problem::{Problem, Source};

/// How the lines of one kind of file are read.
pub(super) struct Form<T> {
    /// What a line has to look like.
    pub(super) shape: &'static str,
    /// Under which name a user is known, or what is wrong with it.
    pub(super) name: fn(&str) -> Result<String, &'static str>,
    /// Reads what stands behind the user, or says what is wrong with it.
    pub(super) secret: fn(&str) -> Result<T, &'static str>,
    /// How such a line is made.
    pub(super) help: &'static str,
}

impl<T> Form<T> {
    /// The users of a text. Empty lines and those that begin with `#` do not count.
    ///
    /// # Errors
    /// The first line that is wrong, without the line itself: it may hold a password that somebody forgot to hash.
    pub(super) fn read(&self, source: &Source) -> Result<HashMap<String, T>, Vec<Problem>> {
        let mut users = HashMap::default();
        for (number, line) in (1..).zip(source.text.lines()) {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let read = self.line(line).and_then(|(user, secret)| {
                let before = users.insert(user, secret);
                before.map_or(Ok(()), |_| {
                    Err("the user stands twice in the file".to_owned())
                })
            });
            if let Err(message) = read {
                let mut problem = Problem::whole(&source.path, "E1013", message).help(self.help);
                (problem.line, problem.column) = (number, 1);
                return Err(vec![problem]);
            }
        }
        Ok(users)
    }

    fn line(&self, line: &str) -> Result<(String, T), String> {
        let (user, secret) = line
            .split_once(':')
            .ok_or_else(|| format!("expected `{}`", self.shape))?;
        if !is_user_name(user) {
            return Err("the user name is empty".to_owned());
        }
        Ok(((self.name)(user)?, (self.secret)(secret)?))
    }
}

/// A user is known under the name that stands in the file.
pub(super) fn as_it_stands(name: &str) -> Result<String, &'static str> {
    Ok(name.to_owned())
}

/// Whether a name can stand in such a file.
pub fn is_user_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('#') && !name.contains([':', '\n', '\r'])
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: Form<u32> = Form {
        shape: "user:number",
        name: as_it_stands,
        secret: |text| text.parse().map_err(|_| "this is no number"),
        help: "count",
    };

    fn read(text: &str) -> Result<HashMap<String, u32>, (usize, String)> {
        let source = Source {
            path: "users".into(),
            text: text.into(),
        };
        NUMBERS
            .read(&source)
            .map_err(|problems| (problems[0].line, problems[0].message.to_string()))
    }

    #[test]
    fn users_are_read_and_comments_are_not() {
        let users = read("# all of us\n\nann:1\nbob:2 \n").unwrap();
        assert_eq!((users.len(), users["ann"], users["bob"]), (2, 1, 2));
    }

    #[test]
    fn the_first_wrong_line_is_named_and_not_shown() {
        let told = |text| read(text).unwrap_err();
        assert_eq!(told("ann:1\nbob"), (2, "expected `user:number`".to_owned()));
        assert_eq!(told(":1"), (1, "the user name is empty".to_owned()));
        assert_eq!(told("ann:secret"), (1, "this is no number".to_owned()));
        let twice = "the user stands twice in the file".to_owned();
        assert_eq!(told("ann:1\nann:1"), (2, twice));
    }
}
