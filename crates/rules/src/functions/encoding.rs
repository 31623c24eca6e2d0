//! Base64, JSON, URL and HTML encodings.

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::percent_encode;
use serde_json_path::JsonPath;

use super::call::{self, Call};
use super::conversion::{hex_bytes, hex_text};
use super::{Category, Function, Param, StrictBody};
use crate::error::{ErrorKind, Fault};
use crate::json;
use crate::template::URL_ESCAPED;
use crate::value::Value;

const BASE64: &[&[Param]] = &[
    &[Param::text("s")],
    &[Param::text("s"), Param::text("option")],
    &[
        Param::text("s"),
        Param::text("option"),
        Param::text("option"),
    ],
];
const ENCODINGS: &[&str] = &["base64", "hex"];

const fn encoding(
    name: &'static str,
    forms: &'static [&'static [Param]],
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: StrictBody,
) -> Function {
    Function::new(Category::Encoding, name, forms, doc, examples, body)
}

pub(super) const FUNCTIONS: &[Function] = &[
    encoding(
        "base64_encode",
        BASE64,
        "The bytes in Base64; options `'no_padding'` and `'urlsafe'`.",
        &[
            ("base64_encode('hello')", "'aGVsbG8='"),
            (
                "base64_encode(hexstr2bin('fbff'), 'urlsafe', 'no_padding')",
                "'-_8'",
            ),
        ],
        |call| {
            let options = Options::of(call, 1)?;
            call::text(options.engine().encode(call.bytes(0)?))
        },
    ),
    encoding(
        "base64_decode",
        BASE64,
        "The bytes that Base64 spells; white space inside is skipped. Options as for `base64_encode`.",
        &[
            ("base64_decode('aGVsbG8=')", "'hello'"),
            ("base64_decode('aGVsbG8', 'no_padding')", "'hello'"),
        ],
        |call| {
            let options = Options::of(call, 1)?;
            decoded(call, options)
        },
    ),
    encoding(
        "json_path",
        &[&[Param::any("x"), Param::text("path")]],
        "The values that an RFC 9535 query finds, as an array; `x` is a value or its JSON text.",
        &[
            ("json_path({'a': [1, 2, 3]}, '$.a[1:]')", "[2, 3]"),
            ("json_path('[{\"t\":1},{\"t\":9}]', '$[?@.t > 5].t')", "[9]"),
        ],
        json_path,
    ),
    encoding(
        "json_encode",
        &[&[Param::any("x")]],
        "The JSON text of a value.",
        &[(
            "json_encode({'a': [1, 2.0, null()]})",
            "'{\"a\":[1,2.0,null]}'",
        )],
        |call| {
            let mut text = Vec::new();
            json::encode(call.value(0), &mut text)?;
            call::text(text)
        },
    ),
    encoding(
        "json_decode",
        &[&[Param::text("s")]],
        "The value that a JSON text spells.",
        &[
            ("json_decode('{\"a\": [1]}')", "{'a': [1]}"),
            ("json_decode('{\"a\": 7}').a", "7"),
        ],
        |call| {
            let value = json::decode(call.bytes(0)?)
                .map_err(|fault| fault.with_value(call.value(0).clone()))?;
            match value {
                Value::Array(values) if values.len() > call::MAX_ELEMENTS => Err(call::too_many()),
                value => Ok(value),
            }
        },
    ),
    encoding(
        "url_encode",
        &[&[Param::text("s")]],
        "The text with every byte but letters, digits, `-`, `.`, `_` and `~` as `%XX`.",
        &[("url_encode('a b/ü')", "'a%20b%2F%C3%BC'")],
        |call| call::text(percent_encode(call.bytes(0)?, URL_ESCAPED).to_string()),
    ),
    encoding(
        "url_decode",
        &[&[Param::text("s")]],
        "The text with every `%XX` replaced by its byte.",
        &[("url_decode('a%20b%2F')", "'a b/'")],
        |call| {
            let bytes = call.bytes(0)?;
            let well_formed = |at: usize| {
                bytes
                    .get(at + 1..at + 3)
                    .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            };
            if bytes
                .iter()
                .enumerate()
                .any(|(at, byte)| *byte == b'%' && !well_formed(at))
            {
                return Err(call.bad(0, "has a `%` without two hexadecimal digits"));
            }
            call::text(percent_encoding::percent_decode(bytes).collect::<Vec<u8>>())
        },
    ),
    encoding(
        "html_escape",
        &[&[Param::text("s")]],
        "The text with `&`, `<`, `>` and quotes replaced by their entities.",
        &[(
            "html_escape('<a href=\"x\">')",
            "'&lt;a href=&quot;x&quot;&gt;'",
        )],
        |call| {
            let mut out = call::Builder::default();
            for c in call.text(0)?.chars() {
                match c {
                    '&' => out.push("&amp;")?,
                    '<' => out.push("&lt;")?,
                    '>' => out.push("&gt;")?,
                    '"' => out.push("&quot;")?,
                    '\'' => out.push("&#39;")?,
                    c => out.push(c.encode_utf8(&mut [0; 4]))?,
                }
            }
            Ok(out.finish())
        },
    ),
    encoding(
        "encode",
        &[&[Param::text("x"), Param::one_of("encoding", ENCODINGS)]],
        "The bytes in `'base64'` or lower-case `'hex'`.",
        &[
            ("encode('hi', 'hex')", "'6869'"),
            ("encode('hi', 'base64')", "'aGk='"),
        ],
        |call| match call.text(1)? {
            "base64" => call::text(Options::default().engine().encode(call.bytes(0)?)),
            "hex" => call::text(hex_text(call.bytes(0)?, b"0123456789abcdef")),
            _ => Err(call.bad(1, "must be 'base64' or 'hex'")),
        },
    ),
    encoding(
        "decode",
        &[&[Param::text("s"), Param::one_of("encoding", ENCODINGS)]],
        "The bytes that `'base64'` or `'hex'` digits spell.",
        &[
            ("decode('6869', 'hex')", "'hi'"),
            ("decode('aGk=', 'base64')", "'hi'"),
        ],
        |call| match call.text(1)? {
            "base64" => decoded(call, Options::default()),
            "hex" => match hex_bytes(call.text(0)?) {
                Some(bytes) => call::text(bytes),
                None => Err(call.bad(0, "is not hexadecimal")),
            },
            _ => Err(call.bad(1, "must be 'base64' or 'hex'")),
        },
    ),
];

/// How long a JSON path may be, and how deep its brackets and parentheses may nest.
const LONGEST_PATH: usize = 1024;
const DEEPEST_PATH: usize = 40;
/// How many nodes a path may have to look at, as far as that can be told beforehand.
const MOST_LOOKS: f64 = 10_000_000.0;

/// What a JSON path costs on a document of so many nodes: `..` looks at all below each node that it is given, a filter in a
/// filter at each once more, and `$` in a filter begins anew for each.
fn looks(path: &str, nodes: usize) -> Result<f64, &'static str> {
    let (mut depth, mut walks, mut filters, mut twice, mut quote) = (0_usize, 0, 0, 0, None);
    let mut chars = path.chars().skip(1).peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') => drop(chars.next()),
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[' | '(') => depth += 1,
            (None, ']' | ')') => depth = depth.saturating_sub(1),
            (None, '.') if chars.peek() == Some(&'.') => walks += 1,
            (None, '?') => filters += 1,
            (None, '$') => walks += 1,
            (None, ',') => twice += 1,
            (None, _) => {}
        }
        if depth > DEEPEST_PATH {
            return Err("nests deeper than 40");
        }
    }
    let factor = f64::from((walks + i32::max(filters - 1, 0)).max(1));
    let nodes = f64::from(u32::try_from(nodes).unwrap_or(u32::MAX)).max(2.0);
    Ok(nodes.powf(factor) * 2_f64.powi(twice))
}

fn nodes(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(nodes).sum::<usize>(),
        Value::Object(object) => 1 + object.iter().map(|(_, value)| nodes(value)).sum::<usize>(),
        _ => 1,
    }
}

fn json_path(call: &mut Call<'_>) -> Result<Value, Fault> {
    let path = call.text(1)?;
    if path.len() > LONGEST_PATH {
        return Err(call.bad(1, "is a JSON path of more than 1024 bytes"));
    }
    looks(path, 0).map_err(|why| call.bad(1, why))?;
    let query =
        JsonPath::parse(path).map_err(|error| call.bad(1, &format!("is no JSON path: {error}")))?;
    let mut text = Vec::new();
    let text = match call.value(0) {
        Value::Text(text) => text.as_bytes(),
        value => {
            json::encode(value, &mut text)?;
            &text
        }
    };
    // Decoded by the language's own rules first: depth, strictness, repeated keys.
    let value = json::decode(text)?;
    if looks(path, nodes(&value)).is_ok_and(|looks| looks > MOST_LOOKS) {
        return Err(Fault::new(
            ErrorKind::Limit,
            "the JSON path would look at too many nodes of this document",
        ));
    }
    let value = serde_json::to_value(&value)
        .map_err(|error| Fault::new(ErrorKind::Json, error.to_string()))?;
    let nodes = query.query(&value).all();
    let found = nodes.into_iter().map(|node| {
        let text = serde_json::to_vec(node)
            .map_err(|error| Fault::new(ErrorKind::Json, error.to_string()))?;
        json::decode(&text)
    });
    call::array(
        found
            .take(call::MAX_ELEMENTS + 1)
            .collect::<Result<_, Fault>>()?,
    )
}

#[derive(Clone, Copy, Default)]
struct Options {
    urlsafe: bool,
    no_padding: bool,
}

impl Options {
    /// The options from an argument on, in any order; unknown ones mean nothing.
    fn of(call: &Call<'_>, first: usize) -> Result<Self, Fault> {
        let mut options = Self::default();
        for index in first..call.count() {
            match call.text(index)? {
                "urlsafe" => options.urlsafe = true,
                "no_padding" => options.no_padding = true,
                _ => {}
            }
        }
        Ok(options)
    }

    fn alphabet(self) -> &'static Alphabet {
        if self.urlsafe { &URL_SAFE } else { &STANDARD }
    }

    fn engine(self) -> GeneralPurpose {
        let padding = if self.no_padding {
            DecodePaddingMode::Indifferent
        } else {
            DecodePaddingMode::RequireCanonical
        };
        let config = GeneralPurposeConfig::new()
            .with_encode_padding(!self.no_padding)
            .with_decode_padding_mode(padding)
            .with_decode_allow_trailing_bits(true);
        GeneralPurpose::new(self.alphabet(), config)
    }
}

fn decoded(call: &Call<'_>, options: Options) -> Result<Value, Fault> {
    let digits: Vec<u8> = call
        .bytes(0)?
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    match options.engine().decode(digits) {
        Ok(bytes) => call::text(bytes),
        Err(_) => Err(call.bad(0, "is not valid Base64")),
    }
}

/// What URL-safe Base64 spells, with or without padding.
pub(super) fn base64url(text: &str) -> Option<Vec<u8>> {
    Options {
        urlsafe: true,
        no_padding: true,
    }
    .engine()
    .decode(text)
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_path_is_bounded_before_it_runs() {
        assert!(looks("$.a[?@.b > 1].c", 100_000).unwrap() <= MOST_LOOKS);
        assert!(looks("$..a", 1_000_000).unwrap() <= MOST_LOOKS);
        assert!(looks("$['..','$']", 1000).unwrap() <= MOST_LOOKS);
        assert!(looks("$..*..*..*", 1000).unwrap() > MOST_LOOKS);
        assert!(looks("$[?$[?$[?@==1]]]", 1000).unwrap() > MOST_LOOKS);
        assert!(looks(&"[0,0]".repeat(100), 10).unwrap() > MOST_LOOKS);
        assert!(looks(&format!("$[?{}@", "(".repeat(50)), 1).is_err());
    }
}
