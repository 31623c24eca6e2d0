//! The PROXY protocol, version 1 (a line of text) and 2 (binary): who is behind a load balancer.
//!
//! Pure but for [`read`], which takes exactly the header off a stream, so that nothing of what follows is lost.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What every header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, with its line break.
const LINE_MAX: usize = 107;
/// The longest header of version 2 after its first 16 bytes: addresses, and whatever certificate a proxy passes on.
const BINARY_MAX: usize = 16 * 1024;

/// Type of the field with everything about the client's TLS.
const TLV_SSL: u8 = 0x20;
/// Within it: the common name of the client's certificate.
const TLV_SSL_CN: u8 = 0x22;
/// Within it, flags: the client has shown a certificate on this connection, or in this TLS session.
const SSL_HAS_CERTIFICATE: u8 = 0x02 | 0x04;

/// What a proxy says of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    /// Where the client is; `None` when the proxy speaks for itself or does not know.
    pub(crate) source: Option<SocketAddr>,
    /// What the client connected to.
    pub(crate) destination: Option<SocketAddr>,
    /// The common name of the certificate that the client has shown to the proxy and that the proxy has verified.
    pub(crate) common_name: Option<String>,
}

/// Why a header is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    /// The connection ended within it.
    #[error("the connection ended: {0}")]
    Ended(#[from] io::Error),
    /// Something else came.
    #[error("{0}")]
    Malformed(&'static str),
}

/// Reads the header and nothing after it.
pub(crate) async fn read<S>(stream: &mut S) -> Result<Header, HeaderError>
where
    S: AsyncRead + Unpin,
{
    // No header is shorter than this: `PROXY UNKNOWN\r\n` has 15 bytes.
    let mut start = [0; 13];
    stream.read_exact(&mut start).await?;
    if start[..12] == SIGNATURE {
        let mut rest = [0; 3];
        stream.read_exact(&mut rest).await?;
        let len = usize::from(u16::from_be_bytes([rest[1], rest[2]]));
        if len > BINARY_MAX {
            return Err(HeaderError::Malformed("the header is too long"));
        }
        let mut body = vec![0; len];
        stream.read_exact(&mut body).await?;
        return parse_binary(start[12], rest[0], &body).map_err(HeaderError::Malformed);
    }
    if !start.starts_with(b"PROXY ") {
        return Err(HeaderError::Malformed("there is no PROXY header"));
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == LINE_MAX {
            return Err(HeaderError::Malformed("the line is too long"));
        }
        line.push(stream.read_u8().await?);
    }
    parse_line(&line[..line.len() - 2]).map_err(HeaderError::Malformed)
}

/// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 1883`.
fn parse_line(line: &[u8]) -> Result<Header, &'static str> {
    let line = str::from_utf8(line).map_err(|_| "the line is no text")?;
    let words: Vec<&str> = line.split(' ').collect();
    let addresses = match words[..] {
        // Whatever comes after UNKNOWN is to be ignored.
        ["PROXY", "UNKNOWN", ..] => return Ok(Header::default()),
        [
            "PROXY",
            family @ ("TCP4" | "TCP6"),
            from,
            to,
            from_port,
            to_port,
        ] => {
            let address = |ip: &str, port: &str| {
                let ip = match family {
                    "TCP4" => ip.parse().map(IpAddr::V4).ok()?,
                    _ => ip.parse().map(IpAddr::V6).ok()?,
                };
                Some(SocketAddr::new(ip, number(port)?))
            };
            address(from, from_port).zip(address(to, to_port))
        }
        _ => None,
    };
    let (source, destination) = addresses.ok_or("the line is no PROXY header")?;
    Ok(Header {
        source: Some(source),
        destination: Some(destination),
        common_name: None,
    })
}

/// A port in the one form that is allowed: no sign, no leading zero.
fn number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let short = text == "0" || !text.starts_with('0');
    (plain && short).then(|| text.parse().ok()).flatten()
}

/// Version 2, after the signature: version and command, family and protocol, then the rest.
fn parse_binary(command: u8, family: u8, body: &[u8]) -> Result<Header, &'static str> {
    if command >> 4 != 2 {
        return Err("the version is not 2");
    }
    match command & 0x0F {
        // LOCAL: the proxy itself, for example to see whether the broker is alive.
        0 => return Ok(Header::default()),
        1 => {}
        _ => return Err("the command is not known"),
    }
    let (addresses, fields) = match family {
        0x11 => {
            let (addresses, fields) = body.split_first_chunk::<12>().ok_or(SHORT)?;
            (Some(ipv4(addresses)), fields)
        }
        0x21 => {
            let (addresses, fields) = body.split_first_chunk::<36>().ok_or(SHORT)?;
            (Some(ipv6(addresses)), fields)
        }
        0x31 => (None, body.get(216..).ok_or(SHORT)?),
        0x00 => (None, body),
        0x12 | 0x22 | 0x32 => return Err("datagrams carry no MQTT"),
        _ => return Err("the address family is not known"),
    };
    let mut header = Header {
        source: addresses.map(|(source, _)| source),
        destination: addresses.map(|(_, destination)| destination),
        common_name: None,
    };
    let mut fields = fields;
    while !fields.is_empty() {
        let (kind, value, rest) = field(fields)?;
        if kind == TLV_SSL {
            header.common_name = common_name(value)?;
        }
        fields = rest;
    }
    Ok(header)
}

const SHORT: &str = "the header is shorter than its addresses";

fn ipv4(bytes: &[u8; 12]) -> (SocketAddr, SocketAddr) {
    let ip = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    (
        SocketAddr::new(ip(0).into(), port(8)),
        SocketAddr::new(ip(4).into(), port(10)),
    )
}

fn ipv6(bytes: &[u8; 36]) -> (SocketAddr, SocketAddr) {
    let ip = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&bytes[at..at + 16]);
        Ipv6Addr::from(octets)
    };
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    (
        SocketAddr::new(ip(0).into(), port(32)),
        SocketAddr::new(ip(16).into(), port(34)),
    )
}

/// The first field: type, length in two bytes, value; and what comes after it.
fn field(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), &'static str> {
    const CUT: &str = "a field is cut off";
    let ([kind, high, low], rest) = bytes.split_first_chunk::<3>().ok_or(CUT)?;
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    let (value, rest) = rest.split_at_checked(len).ok_or(CUT)?;
    Ok((*kind, value, rest))
}

/// The name in the field about TLS: flags, the result of the check (0: verified), then more fields.
fn common_name(value: &[u8]) -> Result<Option<String>, &'static str> {
    let ([flags, verified @ ..], mut fields) = value
        .split_first_chunk::<5>()
        .ok_or("the field about TLS is cut off")?;
    let mut name = None;
    while !fields.is_empty() {
        let (kind, value, rest) = field(fields)?;
        if kind == TLV_SSL_CN {
            let text = str::from_utf8(value).map_err(|_| "the common name is no text")?;
            name = Some(text.to_owned());
        }
        fields = rest;
    }
    let believed = flags & SSL_HAS_CERTIFICATE != 0 && *verified == [0; 4];
    Ok(name.filter(|name| believed && !name.is_empty()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The header, and how much of the bytes is left.
    fn header(bytes: &[u8]) -> Result<(Header, usize), HeaderError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut rest = bytes;
        let header = runtime.block_on(read(&mut rest))?;
        Ok((header, rest.len()))
    }

    fn between(source: &str, destination: &str) -> Header {
        Header {
            source: Some(source.parse().unwrap()),
            destination: Some(destination.parse().unwrap()),
            common_name: None,
        }
    }

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len, body].concat()
    }

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[kind][..], &len, value].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0xDC, 0x04, 0x07, 0x5B];

    #[test]
    fn a_line_names_both_ends_and_nothing_after_it_is_taken() {
        assert_eq!(
            header(b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 1883\r\nrest").unwrap(),
            (between("192.0.2.1:56324", "192.0.2.2:1883"), 4)
        );
        assert_eq!(
            header(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n").unwrap(),
            (between("[2001:db8::1]:1", "[2001:db8::2]:65535"), 0)
        );
        for unknown in [
            &b"PROXY UNKNOWN\r\n"[..],
            b"PROXY UNKNOWN ffff:: ffff:: 65535 65535\r\n",
        ] {
            assert_eq!(header(unknown).unwrap(), (Header::default(), 0));
        }
    }

    #[test]
    fn a_line_that_is_not_exact_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        for line in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 056324 1883\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +5632 1883\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 70000 1883\r\n",
            "PROXY TCP4 2001:db8::1 192.0.2.2 1 1883\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 1883\r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.2 1 1883\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 1883\r\n",
            "proxy TCP4 192.0.2.1 192.0.2.2 1 1883\r\n",
            "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
            &long,
        ] {
            let refused = header(line.as_bytes());
            assert!(
                matches!(refused, Err(HeaderError::Malformed(_))),
                "{line}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_binary_header_names_both_ends() {
        let bytes = [&binary(0x21, 0x11, &V4)[..], b"rest"].concat();
        let ends = between("192.0.2.1:56324", "192.0.2.2:1883");
        assert_eq!(header(&bytes).unwrap(), (ends, 4));
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 7, 8);
        assert_eq!(
            header(&binary(0x21, 0x21, &v6)).unwrap().0,
            between("[::1]:7", "[::2]:8")
        );
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_names_nobody() {
        // What a LOCAL header carries is to be skipped, whatever it is.
        let local = [
            binary(0x20, 0x00, b""),
            binary(0x20, 0x11, &V4),
            binary(0x20, 0xFF, b"x"),
        ];
        let nowhere = [binary(0x21, 0x00, b""), binary(0x21, 0x31, &[0; 216])];
        for bytes in local.iter().chain(&nowhere) {
            assert_eq!(header(bytes).unwrap(), (Header::default(), 0));
        }
    }

    #[test]
    fn a_common_name_counts_only_when_the_proxy_has_verified_it() {
        let cases = [
            (0x07, 0, Some("gw-01")),
            (0x05, 0, Some("gw-01")),
            (0x01, 0, None),
            (0x07, 1, None),
        ];
        for (flags, verified, expected) in cases {
            let name = tlv(TLV_SSL_CN, b"gw-01");
            let ssl = [
                &[flags, 0, 0, 0, verified][..],
                &tlv(0x21, b"TLSv1.3"),
                &name,
            ]
            .concat();
            let body = [&V4[..], &tlv(0x01, b"h2"), &tlv(TLV_SSL, &ssl)].concat();
            let found = header(&binary(0x21, 0x11, &body)).unwrap().0.common_name;
            assert_eq!(found.as_deref(), expected);
        }
    }

    #[test]
    fn a_binary_header_that_is_not_exact_is_refused() {
        let cut_field = [&V4[..], &[1, 0, 9, 0]].concat();
        let short_ssl = [&V4[..], &tlv(TLV_SSL, &[7, 0])].concat();
        for bytes in [
            binary(0x11, 0x11, &V4),
            binary(0x22, 0x11, &V4),
            binary(0x21, 0x12, &V4),
            binary(0x21, 0x41, &V4),
            binary(0x21, 0x11, &V4[..11]),
            binary(0x21, 0x11, &cut_field),
            binary(0x21, 0x11, &short_ssl),
            binary(0x21, 0x00, &vec![0; BINARY_MAX + 1]),
        ] {
            assert!(matches!(header(&bytes), Err(HeaderError::Malformed(_))));
        }
        assert!(matches!(
            header(&binary(0x21, 0x11, &V4)[..20]),
            Err(HeaderError::Ended(_))
        ));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200), v2: bool) {
            let start: &[u8] = if v2 { &SIGNATURE } else { b"PROXY " };
            drop(header(&[start, &bytes].concat()));
        }

        #[test]
        fn every_pair_of_addresses_comes_through(from: (Ipv6Addr, u16), to: (Ipv6Addr, u16)) {
            let line = format!("PROXY TCP6 {} {} {} {}\r\n", from.0, to.0, from.1, to.1);
            let (header, _) = header(line.as_bytes()).unwrap();
            prop_assert_eq!(header.source, Some(SocketAddr::from(from)));
            prop_assert_eq!(header.destination, Some(SocketAddr::from(to)));
        }
    }
}
