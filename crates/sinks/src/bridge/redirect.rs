//! A remote that names another server: it is gone to where the file lists it.

use weir_mqtt::{ReasonCode, Utf8};

use super::plan::{Address, BridgePlan};

/// What a remote of MQTT 5 says with 0x9C or 0x9D: servers, by commas or spaces apart, each `host` or `host:port`.
pub(super) fn named(reason: ReasonCode, reference: Option<&Utf8>) -> Option<Box<str>> {
    let elsewhere = matches!(
        reason,
        ReasonCode::UseAnotherServer | ReasonCode::ServerMoved
    );
    let reference = reference.filter(|_| elsewhere)?;
    Some(reference.as_str().into())
}

/// The place among the addresses of the first named server that is one of them. `None` where the file does not let the remote
/// say where to go.
pub(super) fn followed(plan: &BridgePlan, named: Option<&str>) -> Option<usize> {
    let servers = named.filter(|_| plan.follow_redirect)?.split([' ', ',']);
    let mut servers = servers.filter(|server| !server.is_empty());
    servers.find_map(|server| plan.addresses.iter().position(|known| is(known, server)))
}

fn is(address: &Address, server: &str) -> bool {
    let same = |host: &str| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case(&address.host)
    };
    same(server)
        || server
            .rsplit_once(':')
            .is_some_and(|(host, port)| same(host) && port.parse() == Ok(address.port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::connector::BridgeConfig;

    fn plan(follow_redirect: bool) -> BridgePlan {
        let addresses = ["mqtt://a.example", "mqtts://b.example", "mqtt://[::1]:1884"];
        let config = BridgeConfig {
            addresses: addresses[..1].iter().map(ToString::to_string).collect(),
            client_id: Some("w".to_owned()),
            follow_redirect: Some(follow_redirect),
            ..BridgeConfig::default()
        };
        let of = |address: &str| {
            let config = BridgeConfig {
                addresses: vec![address.to_owned()],
                ..config.clone()
            };
            BridgePlan::check(&config).unwrap().0
        };
        let mut plan = of(addresses[0]);
        let others = addresses[1..].iter();
        plan.addresses
            .extend(others.flat_map(|address| of(address).addresses));
        plan
    }

    #[test]
    fn only_a_server_that_the_file_lists_is_gone_to() {
        let to = |named| followed(&plan(true), named);
        assert_eq!(to(Some("b.example")), Some(1));
        assert_eq!(to(Some("B.example:8883")), Some(1));
        assert_eq!(to(Some("b.example:1883")), None);
        assert_eq!(to(Some("c.example b.example")), Some(1));
        assert_eq!(to(Some("[::1]:1884")), Some(2));
        assert_eq!(to(Some("c.example")), None);
        assert_eq!(to(Some("")), None);
        assert_eq!(to(None), None);
        assert_eq!(followed(&plan(false), Some("b.example")), None);
    }

    #[test]
    fn a_server_is_named_with_the_two_reasons_for_it_alone() {
        let reference = Utf8::new("b.example").unwrap();
        let said = |reason| named(reason, Some(&reference));
        assert_eq!(said(ReasonCode::ServerMoved).as_deref(), Some("b.example"));
        assert_eq!(
            said(ReasonCode::UseAnotherServer).as_deref(),
            Some("b.example")
        );
        assert_eq!(said(ReasonCode::ServerBusy), None);
    }
}
