//! Handlers by topic pattern: `/sys/${product}/${device}/thing` calls a function with what stood at the names.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use thiserror::Error;
use weir_mqtt::{TopicFilter, TopicFilterError, TopicTree};

use super::MessageListener;
use crate::core::message::Message;

/// Sends messages to functions by their topics. A [`MessageListener`]; every pattern that matches is called, in the
/// order in which they were given.
///
/// ```
/// use weir::hooks::TopicRouter;
///
/// #[derive(serde::Deserialize)]
/// struct Reading {
///     celsius: f64,
/// }
///
/// let router = TopicRouter::new()
///     .on("/sys/${product}/${device}/thing/#", |call| {
///         println!("{} of {}", call.get("device").unwrap_or(""), call.message().topic.as_str());
///     })?
///     .on_json("room/${room}/reading", |call, reading: Reading| {
///         println!("{}: {} °C", call.get("room").unwrap_or(""), reading.celsius);
///     })?;
/// let builder = weir::Broker::builder().on_message(router);
/// # drop(builder);
/// # Ok::<(), weir::hooks::router::PatternError>(())
/// ```
#[derive(Default)]
pub struct TopicRouter {
    tree: TopicTree<usize>,
    routes: Vec<Route>,
}

struct Route {
    names: Arc<[Name]>,
    handler: Box<dyn Fn(&Call<'_>) + Send + Sync>,
}

/// A `${name}` of a pattern.
#[derive(Debug)]
struct Name {
    name: Box<str>,
    level: usize,
}

/// One message that a pattern matches.
#[derive(Debug)]
pub struct Call<'a> {
    message: &'a Message,
    names: &'a [Name],
}

/// Why a pattern is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PatternError {
    /// With `+` at the places of the names it is no topic filter.
    #[error("`{pattern}` is no topic filter: {error}")]
    Filter {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        #[source]
        error: TopicFilterError,
    },
    /// A name does not fill its level.
    #[error("`{pattern}`: `{level}` must be one name in `${{}}` and nothing else")]
    NotAlone {
        /// The pattern.
        pattern: String,
        /// The level.
        level: String,
    },
    /// A name stands twice.
    #[error("`{pattern}` has `${{{name}}}` twice")]
    Twice {
        /// The pattern.
        pattern: String,
        /// The name.
        name: String,
    },
}

impl TopicRouter {
    /// Without patterns.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `handler` for each message whose topic matches `pattern`: a topic filter whose levels may be `${name}`,
    /// which match like `+` and can be asked for.
    ///
    /// # Errors
    /// When the pattern is none.
    pub fn on(
        mut self,
        pattern: &str,
        handler: impl Fn(&Call<'_>) + Send + Sync + 'static,
    ) -> Result<Self, PatternError> {
        let (filter, names) = parse(pattern)?;
        self.tree.insert(&filter, self.routes.len());
        self.routes.push(Route {
            names: names.into(),
            handler: Box::new(handler),
        });
        Ok(self)
    }

    /// As [`on`](Self::on), with the payload read as JSON. A payload that is none, or of another shape, is passed over.
    ///
    /// # Errors
    /// When the pattern is none.
    pub fn on_json<T: DeserializeOwned>(
        self,
        pattern: &str,
        handler: impl Fn(&Call<'_>, T) + Send + Sync + 'static,
    ) -> Result<Self, PatternError> {
        self.on(pattern, move |call| {
            match serde_json::from_slice(&call.message.payload) {
                Ok(value) => handler(call, value),
                Err(error) => {
                    let topic = call.message.topic.as_str();
                    tracing::debug!(
                        topic,
                        line = error.line(),
                        "a payload does not fit its handler"
                    );
                }
            }
        })
    }
}

impl MessageListener for TopicRouter {
    fn on_message(&self, message: &Message) {
        let mut matching = Vec::new();
        self.tree
            .matching(&message.topic, |route| matching.push(*route));
        matching.sort_unstable();
        for route in matching.iter().filter_map(|at| self.routes.get(*at)) {
            (route.handler)(&Call {
                message,
                names: &route.names,
            });
        }
    }
}

impl<'a> Call<'a> {
    /// The message.
    pub fn message(&self) -> &'a Message {
        self.message
    }

    /// What stands in the topic at `${name}`.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.names.iter().find(|known| &*known.name == name)?;
        self.message.topic.as_str().split('/').nth(found.level)
    }

    /// Every name with what stands there, in the order of the pattern.
    pub fn names(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let topic = self.message.topic.as_str();
        self.names
            .iter()
            .filter_map(move |name| Some((&*name.name, topic.split('/').nth(name.level)?)))
    }
}

fn parse(pattern: &str) -> Result<(TopicFilter, Vec<Name>), PatternError> {
    let mut names: Vec<Name> = Vec::new();
    let mut levels = Vec::new();
    for (level, text) in pattern.split('/').enumerate() {
        if !text.contains("${") {
            levels.push(text);
            continue;
        }
        let name = text
            .strip_prefix("${")
            .and_then(|rest| rest.strip_suffix('}'))
            .filter(|name| !name.is_empty() && !name.contains(['$', '{', '}']))
            .ok_or_else(|| PatternError::NotAlone {
                pattern: pattern.to_owned(),
                level: text.to_owned(),
            })?;
        if names.iter().any(|known| &*known.name == name) {
            return Err(PatternError::Twice {
                pattern: pattern.to_owned(),
                name: name.to_owned(),
            });
        }
        names.push(Name {
            name: name.into(),
            level,
        });
        levels.push("+");
    }
    let filter = TopicFilter::parse(&levels.join("/")).map_err(|error| PatternError::Filter {
        pattern: pattern.to_owned(),
        error,
    })?;
    Ok((filter, names))
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    fn message(topic: &str, payload: &str) -> Message {
        Message::text(topic, payload).unwrap()
    }

    #[test]
    fn names_stand_for_one_level_and_can_be_asked_for() {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let note = |prefix: &'static str| {
            let seen = Arc::clone(&seen);
            move |call: &Call<'_>| {
                let names: Vec<_> = call
                    .names()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                seen.lock().push(format!("{prefix} {}", names.join(",")));
            }
        };
        let router = TopicRouter::new()
            .on("/sys/${product}/${device}/thing", note("exact"))
            .unwrap()
            .on("/sys/+/${device}/#", note("below"))
            .unwrap()
            .on("other/${x}", note("other"))
            .unwrap();
        router.on_message(&message("/sys/p/d/thing", ""));
        router.on_message(&message("/sys/p/e", ""));
        router.on_message(&message("sys/p/d/thing", ""));
        assert_eq!(
            *seen.lock(),
            [
                "exact product=p,device=d",
                "below device=d",
                "below device=e"
            ]
        );
    }

    #[test]
    fn a_typed_handler_gets_what_the_payload_says_and_is_not_called_for_another_shape() {
        let sum: Arc<Mutex<Vec<(String, i64)>>> = Arc::default();
        let into = Arc::clone(&sum);
        let router = TopicRouter::new()
            .on_json("add/${what}", move |call, number: i64| {
                let what = call.get("what").unwrap_or_default().to_owned();
                into.lock().push((what, number));
            })
            .unwrap();
        for payload in ["3", "no number", "", "[4]", "5"] {
            router.on_message(&message("add/apples", payload));
        }
        let apples = || "apples".to_owned();
        assert_eq!(*sum.lock(), [(apples(), 3), (apples(), 5)]);
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_its_reason() {
        let refused = |pattern: &str| parse(pattern).map(drop).unwrap_err().to_string();
        assert_eq!(
            refused("a/b${x}"),
            "`a/b${x}`: `b${x}` must be one name in `${}` and nothing else"
        );
        assert_eq!(refused("${x}/${x}"), "`${x}/${x}` has `${x}` twice");
        assert!(refused("a/#/${x}").starts_with("`a/#/${x}` is no topic filter"));
        assert!(parse("${a}/+/${b}/#").is_ok());
    }
}
