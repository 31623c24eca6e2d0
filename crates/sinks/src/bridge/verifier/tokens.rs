//! Tokens that somebody has issued to a client of Aliyun MQ: `type|token` pairs in the password (cloud-bridges §3).

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::Reason;

/// What a token lets its client do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rights {
    /// Subscribe.
    Read,
    /// Publish.
    Write,
    /// Both.
    Both,
}

impl Rights {
    /// Its name on the wire: `R`, `W` or `RW`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "R",
            Self::Write => "W",
            Self::Both => "RW",
        }
    }

    /// The rights of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Read, Self::Write, Self::Both]
            .into_iter()
            .find(|rights| rights.name() == name)
    }
}

/// A token as a client shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct ShownToken {
    /// What it says it is good for.
    pub rights: Rights,
    token: Zeroizing<String>,
}

impl std::fmt::Debug for ShownToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}|***", self.rights.name())
    }
}

impl ShownToken {
    /// The longest token that is looked at, in bytes.
    const LONGEST: usize = 1024;

    /// A token of these rights; `None` where no token can be like that.
    pub fn new(rights: Rights, token: &str) -> Option<Self> {
        let fits = (1..=Self::LONGEST).contains(&token.len()) && !token.contains('|');
        fits.then(|| Self {
            rights,
            token: Zeroizing::new(token.to_owned()),
        })
    }

    /// Whether it is the one that was issued. Compared in constant time.
    pub fn is(&self, issued: &str) -> bool {
        self.token.as_bytes().ct_eq(issued.as_bytes()).into()
    }
}

/// `type|token` pairs joined by `|`, each type at most once, in any order.
pub(super) fn read(password: &str) -> Result<Vec<ShownToken>, Reason> {
    let wrong = || {
        Reason::Malformed(
            "the password is not type|token with the types R, W and RW, each at most once",
        )
    };
    let mut tokens: Vec<ShownToken> = Vec::new();
    let mut parts = password.split('|');
    while let Some(name) = parts.next() {
        let rights = Rights::named(name).ok_or_else(wrong)?;
        let token = parts.next().and_then(|text| ShownToken::new(rights, text));
        let token = token.ok_or_else(wrong)?;
        if tokens.iter().any(|known| known.rights == rights) {
            return Err(wrong());
        }
        tokens.push(token);
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_in_any_order_and_each_type_once() {
        let two = read("W|abcd|R|123").unwrap();
        assert_eq!(two.len(), 2);
        assert!(two[0].rights == Rights::Write && two[0].is("abcd"));
        assert!(two[1].rights == Rights::Read && two[1].is("123") && !two[1].is("124"));
        assert!(read("RW|LzMT+abc/DEF==").unwrap()[0].is("LzMT+abc/DEF=="));
        for wrong in ["", "RW", "RW|", "R|a|R|b", "X|a", "R|a|W", "r|a", "R|a|"] {
            assert!(matches!(read(wrong), Err(Reason::Malformed(_))), "{wrong}");
        }
        assert!(!format!("{two:?}").contains("abcd"));
    }
}
