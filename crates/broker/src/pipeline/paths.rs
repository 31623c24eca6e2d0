//! The brokers that a message has crossed, as rules pass them on: from what they read to what they make.

use weir_rules::event::{Event, What};
use weir_rules::value::{Object, Value};
use weir_sinks::bridge::home::PATH_PROPERTY;

const PAIRS: &str = "User-Property-Pairs";

/// The path of what a rule reads.
pub(super) fn of(event: &Event) -> Option<&str> {
    let properties = match &event.what {
        What::Publish(publish) => publish.properties.as_deref()?,
        What::Ingress { fields, .. } => fields.get("pub_props")?.as_object()?,
        What::Broker { .. } => return None,
    };
    let path = |pair: &&Value| {
        let name = pair.get("key").and_then(Value::as_str);
        name == Some(PATH_PROPERTY)
    };
    let pairs = properties.get(PAIRS)?.as_array()?;
    pairs.iter().find(path)?.get("value")?.as_str()
}

/// Properties with nothing else.
pub(super) fn properties(path: &str) -> Object {
    let pair: Value = [
        ("key", Value::from(PATH_PROPERTY)),
        ("value", Value::from(path)),
    ]
    .into_iter()
    .collect();
    let mut properties = Object::default();
    properties.insert(PAIRS.into(), Value::from(vec![pair]));
    properties
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_path_of_a_message_is_found_in_what_a_rule_reads() {
        let mut event = Event::publish("t", "{}");
        assert_eq!(of(&event), None);
        if let What::Publish(publish) = &mut event.what {
            publish.properties = Some(Arc::new(properties("a,b")));
        }
        assert_eq!(of(&event), Some("a,b"));
    }
}
