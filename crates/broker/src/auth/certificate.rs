//! What a client's certificate says of it: the names that may stand for the client in rules of access.
//!
//! Pure: whether the certificate is to be believed was settled by whoever took it from the handshake.

use std::net::{Ipv4Addr, Ipv6Addr};

use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The attribute types that RFC 4514 gives a name, and the one for e-mail that everybody writes by name.
const ATTRIBUTES: [(&str, &str); 10] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// The names in the certificate that a client has shown and proven to own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The last common name of the subject, which is the most specific one.
    pub common_name: Option<String>,
    /// The whole subject as RFC 4514 writes it, most specific part first: `CN=gw-01,O=Example`.
    pub subject: String,
    /// DNS names, IP addresses, URIs and e-mail addresses, in the order of the certificate.
    pub alt_names: Vec<String>,
}

impl PeerCertificate {
    /// Reads a certificate in DER; `None` when it is none.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let alt_names = alternatives
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(alt_name)
            .collect();
        Some(Self {
            common_name: certificate
                .subject()
                .iter_common_name()
                .last()
                .and_then(value),
            subject: distinguished_name(certificate.subject()),
            alt_names,
        })
    }

    /// A certificate of which only the common name is known: a proxy in front of the broker has told it.
    pub fn named(common_name: &str) -> Self {
        Self {
            common_name: Some(common_name.to_owned()),
            subject: format!("CN={}", escaped(common_name)),
            alt_names: Vec::new(),
        }
    }
}

fn alt_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::RFC822Name(text) | GeneralName::DNSName(text) | GeneralName::URI(text) => {
            Some((*text).to_owned())
        }
        GeneralName::IPAddress(bytes) => {
            if let Ok(bytes) = <[u8; 4]>::try_from(*bytes) {
                return Some(Ipv4Addr::from(bytes).to_string());
            }
            let bytes = <[u8; 16]>::try_from(*bytes).ok()?;
            Some(Ipv6Addr::from(bytes).to_string())
        }
        _ => None,
    }
}

/// RFC 4514 §2.1: the parts in the reverse of the certificate's order.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter()
        .map(|part| {
            let values: Vec<String> = part.iter().map(attribute).collect();
            values.join("+")
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let known = ATTRIBUTES.iter().find(|(id, _)| *id == oid);
    match (known, value(attribute)) {
        (Some((_, name)), Some(value)) => format!("{name}={}", escaped(&value)),
        (None, Some(value)) => format!("{oid}={}", escaped(&value)),
        // §2.4: what is no text is shown as its bytes.
        (known, None) => {
            let name = known.map_or(oid.as_str(), |(_, name)| name);
            let hex: String = attribute
                .as_slice()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("{name}=#{hex}")
        }
    }
}

/// The text of an attribute in any of the string types that certificates use.
fn value(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let bytes = attribute.as_slice();
    match attribute.attr_value().tag() {
        Tag::BmpString => {
            let units = bytes
                .chunks_exact(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).collect::<Result<_, _>>().ok()
        }
        Tag::T61String => Some(bytes.iter().copied().map(char::from).collect()),
        Tag::Utf8String | Tag::PrintableString | Tag::NumericString | Tag::Ia5String => {
            String::from_utf8(bytes.to_vec()).ok()
        }
        _ => None,
    }
}

/// RFC 4514 §2.4.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        match c {
            '\0' => out.push_str("\\00"),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', c]),
            '#' if at == 0 => out.push_str("\\#"),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

    use super::*;

    fn parsed(params: CertificateParams) -> PeerCertificate {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        PeerCertificate::parse(certificate.der()).unwrap()
    }

    #[test]
    fn a_subject_is_written_as_rfc_4514_does() {
        let mut params = CertificateParams::default();
        // The default has a common name already.
        params.distinguished_name = DistinguishedName::new();
        let name = &mut params.distinguished_name;
        name.push(DnType::CountryName, "DE");
        name.push(DnType::OrganizationName, "Ex, Ample + Sons");
        name.push(DnType::CommonName, "#gw-01 ");
        name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), "007");
        let certificate = parsed(params);
        assert_eq!(
            certificate.subject,
            r"2.5.4.5=007,CN=\#gw-01\ ,O=Ex\, Ample \+ Sons,C=DE"
        );
        assert_eq!(certificate.common_name.as_deref(), Some("#gw-01 "));
    }

    #[test]
    fn a_name_in_an_old_encoding_is_text_too() {
        let mut params = CertificateParams::default();
        let name = rcgen::string::BmpString::try_from("Zoë").unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, DnValue::BmpString(name));
        assert_eq!(parsed(params).common_name.as_deref(), Some("Zoë"));
    }

    #[test]
    fn alternative_names_come_in_their_order() {
        let mut params = CertificateParams::default();
        let text = |text| Ia5String::try_from(text).unwrap();
        params.subject_alt_names = vec![
            SanType::DnsName(text("gw.example")),
            SanType::IpAddress("192.0.2.7".parse().unwrap()),
            SanType::IpAddress("2001:db8::7".parse().unwrap()),
            SanType::URI(text("urn:device:7")),
            SanType::Rfc822Name(text("gw@example.org")),
        ];
        assert_eq!(
            parsed(params).alt_names,
            [
                "gw.example",
                "192.0.2.7",
                "2001:db8::7",
                "urn:device:7",
                "gw@example.org"
            ]
        );
    }

    #[test]
    fn what_is_no_certificate_is_none() {
        assert_eq!(PeerCertificate::parse(b"no certificate"), None);
        assert_eq!(PeerCertificate::named("a,b").subject, r"CN=a\,b");
    }
}
