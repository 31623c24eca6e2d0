//! Stages below MQTT: the name, and a socket and TLS to each machine that it stands for.

use std::net::SocketAddr;
use std::time::Instant;

use futures_util::future::join_all;
use rustls::ProtocolVersion;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::client::TlsStream;

use super::{Machine, Stage, Test};
use crate::bridge::certificate;
use crate::bridge::dial;
use crate::bridge::signer::ConnectCreds;
use crate::error::SinkError;
use crate::{codes, now_ms};

/// What came of one machine.
type Found<T> = (SocketAddr, Result<T, SinkError>);

impl Test<'_> {
    /// Name, sockets and TLS; false when the bridge would not get through.
    pub(super) async fn reach(&mut self, creds: &ConnectCreds) -> bool {
        let began = Instant::now();
        let machines = match self.machines().await {
            Ok(machines) => machines,
            Err(error) => return self.end("dns", began, Err(error)),
        };
        self.end("dns", began, Ok(named(&self.address.host, &machines)));
        self.reach_each(&machines, creds).await
    }

    async fn machines(&self) -> Result<Vec<SocketAddr>, SinkError> {
        let host = self.address.host.as_str();
        let named = lookup_host((host, self.address.port));
        let named = tokio::time::timeout(self.plan.connect_timeout, named).await;
        let unknown = |why: String| SinkError::new(codes::UNREACHABLE, format!("{host}: {why}"));
        let mut machines = Vec::new();
        for machine in named
            .map_err(|_| unknown("no answer".into()))?
            .map_err(|error| unknown(error.to_string()))?
        {
            if !machines.contains(&machine) {
                machines.push(machine);
            }
        }
        if machines.is_empty() {
            return Err(unknown("the name has no address".into()));
        }
        Ok(machines)
    }

    /// A socket and TLS to each of them. Of sockets one is enough, as it is for the bridge, which takes the first; of
    /// those each has to speak TLS, for any may be the first another time.
    async fn reach_each(&mut self, machines: &[SocketAddr], creds: &ConnectCreds) -> bool {
        let began = Instant::now();
        let sockets = join_all(machines.iter().map(|machine| self.socket(*machine))).await;
        let all_fail = sockets.iter().all(|(_, socket)| socket.is_err());
        let shown = |_: &TcpStream| "answers".to_owned();
        if !self.end_of_each("tcp", began, &sockets, shown, all_fail) {
            return false;
        }
        if !self.address.tls {
            return true;
        }
        let began = Instant::now();
        let sockets = sockets
            .into_iter()
            .filter_map(|(machine, socket)| Some((machine, socket.ok()?)));
        let this = &*self;
        let secured =
            join_all(sockets.map(|(machine, socket)| async move {
                (machine, this.secured(socket, creds).await)
            }))
            .await;
        let one_fails = secured.iter().any(|(_, secured)| secured.is_err());
        self.end_of_each("tls", began, &secured, Clone::clone, one_fails)
    }

    async fn socket(&self, machine: SocketAddr) -> Found<TcpStream> {
        let made = TcpStream::connect(machine);
        let made = tokio::time::timeout(self.plan.connect_timeout, made).await;
        let failed = |why: String| SinkError::new(codes::UNREACHABLE, why);
        let socket = match made {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("no answer".into())),
        };
        (machine, socket)
    }

    async fn secured(&self, socket: TcpStream, creds: &ConnectCreds) -> Result<String, SinkError> {
        let secured = dial::handshake(socket, self.plan, self.address, creds, self.base);
        let secured = tokio::time::timeout(self.plan.connect_timeout, secured).await;
        match secured {
            Ok(Ok(stream)) => Ok(described(&stream)),
            Ok(Err(failure)) => Err(failure.error),
            Err(_) => Err(dial::no_answer().error),
        }
    }

    /// Notes a stage that was gone through at several machines.
    fn end_of_each<T>(
        &mut self,
        name: &'static str,
        began: Instant,
        found: &[Found<T>],
        shown: impl Fn(&T) -> String,
        fails: bool,
    ) -> bool {
        let machines: Vec<_> = found
            .iter()
            .map(|(address, found)| Machine {
                address: *address,
                ok: found.is_ok(),
                detail: match found {
                    Ok(found) => shown(found),
                    Err(error) => error.to_string(),
                },
            })
            .collect();
        let first_error = found.iter().find_map(|(_, found)| found.as_ref().err());
        let detail = summary(&machines);
        let stage = match first_error.filter(|_| fails) {
            Some(error) => {
                let code = Some(error.code());
                Stage::failed(name, began, detail, code, Some(self.address))
            }
            None => Stage::passed(name, began, detail),
        };
        self.stages.push(Stage {
            machines: if machines.len() > 1 {
                machines
            } else {
                Vec::new()
            },
            ..stage
        });
        !fails
    }
}

fn named(host: &str, machines: &[SocketAddr]) -> String {
    let numbers: Vec<_> = machines.iter().map(|at| at.ip().to_string()).collect();
    match &numbers[..] {
        [number] if number == host => format!("{host} is a number"),
        [number] => format!("{host} -> {number}"),
        _ => format!(
            "{host} -> {} addresses: {}",
            numbers.len(),
            numbers.join(", ")
        ),
    }
}

/// One line of what was found: once where it is the same everywhere, else by machine.
fn summary(machines: &[Machine]) -> String {
    if let [only] = machines {
        return match only.detail.as_str() {
            "answers" => format!("{} answers", only.address),
            detail => detail.to_owned(),
        };
    }
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for machine in machines {
        let address = machine.address.to_string();
        match groups
            .iter_mut()
            .find(|(detail, _)| *detail == machine.detail)
        {
            Some((_, addresses)) => addresses.push(address),
            None => groups.push((&machine.detail, vec![address])),
        }
    }
    let groups = groups
        .iter()
        .map(|(detail, addresses)| format!("{}: {detail}", addresses.join(", ")));
    groups.collect::<Vec<_>>().join("; ")
}

/// What was agreed on in the handshake, and how long the remote's certificate is good.
fn described(stream: &TlsStream<TcpStream>) -> String {
    const DAY_MS: i64 = 24 * 3600 * 1000;
    let (_, session) = stream.get_ref();
    let mut text = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
        other => format!("{other:?}"),
    };
    if let Some(alpn) = session.alpn_protocol() {
        text.push_str(&format!(", ALPN {}", String::from_utf8_lossy(alpn)));
    }
    let own = session.peer_certificates().and_then(<[_]>::first);
    if let Some(ends) = own.and_then(certificate::end_of) {
        let days = ends.saturating_sub(now_ms()).div_euclid(DAY_MS);
        text.push_str(&match days {
            1 => ", certificate valid 1 day".to_owned(),
            days if days < 0 => ", certificate expired and not checked".to_owned(),
            days => format!(", certificate valid {days} days"),
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::super::Spacing;
    use super::*;
    use crate::bridge::plan::BridgePlan;
    use crate::config::connector::ConnectorConfig;

    fn plan(address: &str) -> BridgePlan {
        let text = format!("type = \"mqtt\"\nclient_id = \"c\"\naddresses = [\"{address}\"]");
        match toml::from_str(&text).unwrap() {
            ConnectorConfig::Mqtt(config) => BridgePlan::check(&config).unwrap().0,
            other => panic!("{other:?}"),
        }
    }

    /// The stages of a name that stands for these machines, and whether the bridge would get through.
    async fn reached(plan: &BridgePlan, machines: &[SocketAddr]) -> (bool, Vec<Stage>) {
        let mut spacing = Spacing {
            least: plan.backoff.spacing,
            last: None,
        };
        let mut test = Test {
            plan,
            address: &plan.addresses[0],
            base: std::path::Path::new("."),
            spacing: &mut spacing,
            stages: Vec::new(),
        };
        let done = test.reach_each(machines, &ConnectCreds::default()).await;
        (done, test.stages)
    }

    #[tokio::test]
    async fn each_machine_of_a_name_is_tried_and_one_that_answers_is_enough() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bad = closed.local_addr().unwrap();
        drop(closed);
        let plan = plan("mqtt://h.example");
        let (done, stages) = reached(&plan, &[bad, good]).await;
        assert!(done && stages[0].ok, "{stages:?}");
        let found: Vec<_> = stages[0]
            .machines
            .iter()
            .map(|it| (it.address, it.ok))
            .collect();
        assert_eq!(found, [(bad, false), (good, true)]);
        let refused = format!("{bad}: ");
        assert!(stages[0].detail.starts_with(&refused), "{stages:?}");
        let answers = format!("{good}: answers");
        assert!(stages[0].detail.ends_with(&answers), "{stages:?}");
        let (done, stages) = reached(&plan, &[bad, bad]).await;
        assert!(!done && !stages[0].ok, "{stages:?}");
        assert_eq!(stages[0].code, Some(codes::UNREACHABLE));
    }

    #[tokio::test]
    async fn a_machine_that_speaks_no_tls_is_a_failure_though_the_bridge_might_not_meet_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let machine = listener.local_addr().unwrap();
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        let plan = plan("mqtts://h.example");
        let (done, stages) = reached(&plan, &[machine]).await;
        assert!(!done, "{stages:?}");
        assert_eq!((stages[1].name, stages[1].code), ("tls", Some(codes::TLS)));
    }

    #[test]
    fn a_name_and_its_numbers_are_told() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (four, six) = (at("192.0.2.1:1883"), at("[2001:db8::1]:1883"));
        assert_eq!(named("192.0.2.1", &[four]), "192.0.2.1 is a number");
        assert_eq!(named("h", &[four]), "h -> 192.0.2.1");
        assert_eq!(
            named("h", &[six, four]),
            "h -> 2 addresses: 2001:db8::1, 192.0.2.1"
        );
    }
}
