//! What is usually behind the failure of a stage.

use crate::bridge::plan::Address;
use crate::codes;

/// A sentence for who has to mend it, where there is one.
pub(super) fn cause(
    stage: &str,
    code: Option<&'static str>,
    detail: &str,
    address: Option<&Address>,
) -> Option<&'static str> {
    let detail = detail.to_ascii_lowercase();
    Some(match stage {
        _ if code == Some(codes::CERTIFICATE) => certificate(&detail),
        "dns" => "the name is misspelt, or this machine has no way to a name server",
        "tcp" if detail.contains("refused") => {
            "nothing listens at that port: wrong port, or the broker does not run"
        }
        "tcp" => "a firewall drops the packets, or the address is wrong",
        "tls" => tls(&detail),
        "connect" => connect(code, &detail, address?),
        "subscribe" => "the remote's access list does not let this user subscribe",
        "publish" => "the remote's access list does not let this user publish",
        _ => return None,
    })
}

fn certificate(detail: &str) -> &'static str {
    if detail.contains("revoked") {
        "somebody has revoked it: ask who signs certificates there for another"
    } else if detail.contains("expired") {
        "it has expired, or a clock is wrong: ask who signs certificates there for another"
    } else if detail.contains("shown none") {
        "the remote wants a client certificate: `tls.cert` and `tls.key`"
    } else {
        "it is another remote's, or the remote does not know yet who has signed it"
    }
}

fn tls(detail: &str) -> &'static str {
    let says = |texts: &[&str]| texts.iter().any(|text| detail.contains(text));
    if says(&["unknownissuer", "unknown issuer"]) {
        "the certificate is signed by a CA that `tls.ca` does not hold"
    } else if says(&["notvalidforname", "not valid for name"]) {
        "the certificate is for another name: use that name in `addresses`, or `tls.server_name`"
    } else if says(&["expired"]) {
        "the certificate has expired, or this machine's clock is wrong"
    } else if says(&["unrecognisedname"]) {
        "the remote does not go by that name: correct `addresses` or `tls.server_name`"
    } else if says(&["noapplicationprotocol"]) {
        "that port wants another protocol named in the handshake: `tls.alpn`"
    } else if says(&["protocolversion", "peer is incompatible"]) {
        "the remote speaks no TLS that weir may speak: `tls.min_version`, and at least TLS 1.2"
    } else if says(&["alert"]) && says(&["handshakefailure"]) {
        "the remote wants a client certificate (`tls.cert` and `tls.key`), or ciphers that weir does not have"
    } else if says(&[
        "corrupt",
        "invalidcontenttype",
        "eof",
        "reset",
        "no answer",
        "does not answer",
    ]) {
        "that port does not speak TLS: write mqtt://, or use another port"
    } else {
        "the port does not speak TLS, or its certificate is not trusted"
    }
}

fn connect(code: Option<&'static str>, detail: &str, address: &Address) -> &'static str {
    let web_socket = address.web_socket.is_some();
    if code == Some(codes::AUTH) {
        "user, password or client id are not the ones that the remote knows, or it does not let this address in"
    } else if detail.contains("client_identifier") {
        "the remote does not take this client id"
    } else if detail.contains("does not speak mqtt") {
        "the remote speaks another version of MQTT: `protocol = \"auto\"` finds it"
    } else if detail.contains("refuses the connection") {
        "the remote speaks MQTT and says itself why it refuses: look into its log"
    } else if web_socket && detail.contains("http") {
        "a web server answers, and there is no MQTT at that path: correct the path of the address"
    } else if address.tls && web_socket {
        "TLS is spoken there, and no MQTT in a WebSocket: another port or path, or mqtts://"
    } else if address.tls {
        "TLS is spoken there, and no MQTT: another port, or wss://; or the remote hangs up on this client's id or certificate"
    } else if web_socket {
        "that port speaks no MQTT in a WebSocket, or wants TLS: write wss://"
    } else {
        "that port speaks no MQTT, or wants TLS: write mqtts://"
    }
}
