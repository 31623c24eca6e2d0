//! Authenticators in their order: each allows, denies, or knows nothing and leaves the answer to the next.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use weir_mqtt::ReasonCode;

use super::password_file::PasswordFile;
use super::{Authenticator, ConnectRequest, Decision, Identity};

/// Several authenticators as one.
#[derive(Default)]
pub struct Chain {
    links: Vec<Arc<dyn Authenticator>>,
    /// Hashes once for those whom nobody knows, so that they wait as long as those who are known.
    slow: Option<Arc<PasswordFile>>,
}

impl Chain {
    /// A chain that knows nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks `authenticator` after the others.
    pub fn push(&mut self, authenticator: Arc<dyn Authenticator>) {
        self.links.push(authenticator);
    }

    /// Asks the password file after the others.
    pub fn push_password_file(&mut self, file: Arc<PasswordFile>) {
        self.slow = Some(Arc::clone(&file));
        self.links.push(file);
    }

    async fn decide(&self, request: &ConnectRequest) -> Decision {
        for link in &self.links {
            match link.authenticate(request).await {
                Decision::Ignore => {}
                decision => return decision,
            }
        }
        // Who gives a name wants to be known by it.
        if request.username.is_none() {
            return if request.allow_anonymous {
                Decision::Allow(Identity::default())
            } else {
                Decision::Deny(ReasonCode::NotAuthorized)
            };
        }
        if let Some(file) = &self.slow {
            file.pretend(request).await;
        }
        Decision::Deny(ReasonCode::BadUserNameOrPassword)
    }
}

impl Authenticator for Chain {
    fn authenticate<'a>(&'a self, request: &'a ConnectRequest) -> BoxFuture<'a, Decision> {
        self.decide(request).boxed()
    }
}

#[cfg(test)]
mod tests {
    use weir_mqtt::Utf8;

    use super::*;
    use crate::auth::tests::request;

    /// Says the same to everybody.
    struct Always(Decision);

    impl Authenticator for Always {
        fn authenticate<'a>(&'a self, _: &'a ConnectRequest) -> BoxFuture<'a, Decision> {
            std::future::ready(self.0.clone()).boxed()
        }
    }

    fn chain(decisions: &[Decision]) -> Chain {
        let mut chain = Chain::new();
        for decision in decisions {
            chain.push(Arc::new(Always(decision.clone())));
        }
        chain
    }

    #[tokio::test]
    async fn the_first_that_knows_the_client_decides() {
        let ann = Decision::Allow(Identity::user(Utf8::from("ann")));
        let deny = Decision::Deny(ReasonCode::Banned);
        let request = request(Some("ann"), "x", false);
        let asked = chain(&[Decision::Ignore, ann.clone(), deny.clone()]);
        assert_eq!(asked.authenticate(&request).await, ann);
        let asked = chain(&[Decision::Ignore, deny.clone(), ann]);
        assert_eq!(asked.authenticate(&request).await, deny);
    }

    #[tokio::test]
    async fn whom_nobody_knows_is_anonymous_or_nobody() {
        let nobody = chain(&[Decision::Ignore]);
        let answer = |request| {
            let nobody = &nobody;
            async move { nobody.authenticate(&request).await }
        };
        let anonymous = Decision::Allow(Identity::default());
        assert_eq!(answer(request(None, "", true)).await, anonymous);
        let denied = Decision::Deny(ReasonCode::NotAuthorized);
        assert_eq!(answer(request(None, "", false)).await, denied);
        // A name that nobody knows is not anonymous.
        let bad = Decision::Deny(ReasonCode::BadUserNameOrPassword);
        assert_eq!(answer(request(Some("ann"), "x", true)).await, bad);
    }
}
