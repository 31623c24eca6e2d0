//! Digests of bytes, as lower-case hexadecimal digits.

use md5::Digest;

use super::call::Call;
use super::conversion::hex_text;
use super::{Category, Function, Param, StrictBody};
use crate::error::Fault;
use crate::value::Value;

const BYTES: &[&[Param]] = &[&[Param::text("s")]];

const ALGORITHMS: &[&str] = &[
    "md5", "sha", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3_224", "sha3_256",
    "sha3_384", "sha3_512", "blake2b", "blake2s",
];

const fn hash(
    name: &'static str,
    forms: &'static [&'static [Param]],
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: StrictBody,
) -> Function {
    Function::new(Category::Hash, name, forms, doc, examples, body)
}

pub(super) const FUNCTIONS: &[Function] = &[
    hash(
        "md5",
        BYTES,
        "The MD5 digest.",
        &[("md5('hello')", "'5d41402abc4b2a76b9719d911017c592'")],
        digest::<md5::Md5>,
    ),
    hash(
        "sha",
        BYTES,
        "The SHA-1 digest.",
        &[("sha('abc')", "'a9993e364706816aba3e25717850c26c9cd0d89d'")],
        digest::<sha1::Sha1>,
    ),
    hash(
        "sha1",
        BYTES,
        "Another name of `sha`.",
        &[("sha1('abc') = sha('abc')", "true")],
        digest::<sha1::Sha1>,
    ),
    hash(
        "sha256",
        BYTES,
        "The SHA-256 digest.",
        &[(
            "sha256('abc')",
            "'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'",
        )],
        digest::<sha2::Sha256>,
    ),
    hash(
        "sha512",
        BYTES,
        "The SHA-512 digest.",
        &[("strlen(sha512('abc'))", "128")],
        digest::<sha2::Sha512>,
    ),
    hash(
        "hash",
        &[&[Param::one_of("algorithm", ALGORITHMS), Param::text("s")]],
        "The digest by the named algorithm.",
        &[
            ("hash('md5', 'hello') = md5('hello')", "true"),
            (
                "hash('sha3_256', '')",
                "'a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a'",
            ),
        ],
        |call| {
            let bytes = call.bytes(1)?;
            Ok(match call.text(0)? {
                "md5" => hex_of::<md5::Md5>(bytes),
                "sha" | "sha1" => hex_of::<sha1::Sha1>(bytes),
                "sha224" => hex_of::<sha2::Sha224>(bytes),
                "sha256" => hex_of::<sha2::Sha256>(bytes),
                "sha384" => hex_of::<sha2::Sha384>(bytes),
                "sha512" => hex_of::<sha2::Sha512>(bytes),
                "sha3_224" => hex_of::<sha3::Sha3_224>(bytes),
                "sha3_256" => hex_of::<sha3::Sha3_256>(bytes),
                "sha3_384" => hex_of::<sha3::Sha3_384>(bytes),
                "sha3_512" => hex_of::<sha3::Sha3_512>(bytes),
                "blake2b" => hex_of::<blake2::Blake2b512>(bytes),
                "blake2s" => hex_of::<blake2::Blake2s256>(bytes),
                _ => return Err(call.bad(0, "is not a known hash algorithm")),
            })
        },
    ),
    hash(
        "crc32",
        BYTES,
        "The CRC-32 checksum, an integer.",
        &[("crc32('123456789')", "3421780262")],
        |call| Ok(Value::Int(crc32fast::hash(call.bytes(0)?).into())),
    ),
    hash(
        "hash_to_range",
        &[&[Param::text("s"), Param::int("min"), Param::int("max")]],
        "An integer from min to max that depends on s alone, evenly spread.",
        &[
            ("hash_to_range('device-1', 5, 5)", "5"),
            ("hash_to_range('a', 1, 10) BETWEEN 1 AND 10", "true"),
        ],
        |call| {
            let (bytes, min, max) = (call.bytes(0)?, call.int(1)?, call.int(2)?);
            if bytes.is_empty() {
                return Err(call.bad(0, "must not be empty"));
            }
            let Ok(size @ 1..) = u128::try_from(i128::from(max) - i128::from(min) + 1) else {
                return Err(call.bad(1, "must not be greater than argument 3"));
            };
            let digest = sha2::Sha256::digest(bytes);
            let place = digest
                .iter()
                .fold(0_u128, |rest, byte| (rest * 256 + u128::from(*byte)) % size);
            let number = i128::from(min) + i128::try_from(place).unwrap_or(0);
            Ok(Value::Int(i64::try_from(number).unwrap_or(max)))
        },
    ),
];

fn digest<D: Digest>(call: &mut Call<'_>) -> Result<Value, Fault> {
    Ok(hex_of::<D>(call.bytes(0)?))
}

fn hex_of<D: Digest>(bytes: &[u8]) -> Value {
    Value::Text(hex_text(&D::digest(bytes), b"0123456789abcdef").into())
}
