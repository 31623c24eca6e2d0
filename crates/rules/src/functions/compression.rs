//! Compressing and decompressing. What comes out of a decompressor is at most 4 MiB.

use std::io::Read;

use flate2::Compression;
use flate2::bufread::{
    DeflateDecoder, DeflateEncoder, GzEncoder, MultiGzDecoder, ZlibDecoder, ZlibEncoder,
};

use super::call::{self, Call, MAX_TEXT_BYTES, too_large};
use super::{Category, Function, Param, StrictBody};
use crate::error::Fault;
use crate::value::Value;

const BYTES: &[&[Param]] = &[&[Param::text("bytes")]];

const fn compression(
    name: &'static str,
    doc: &'static str,
    examples: &'static [(&'static str, &'static str)],
    body: StrictBody,
) -> Function {
    Function::new(Category::Compression, name, BYTES, doc, examples, body)
}

pub(super) const FUNCTIONS: &[Function] = &[
    compression(
        "gzip",
        "The bytes compressed in gzip's format.",
        &[("gunzip(gzip('hello'))", "'hello'")],
        |call| compressed(GzEncoder::new(call.bytes(0)?, Compression::default())),
    ),
    compression(
        "gunzip",
        "What was compressed in gzip's format.",
        &[("gunzip(gzip(''))", "''")],
        |call| decompressed(call, MultiGzDecoder::new(call.bytes(0)?)),
    ),
    compression(
        "zip",
        "The bytes compressed by DEFLATE, without a header.",
        &[("unzip(zip('hello'))", "'hello'")],
        |call| compressed(DeflateEncoder::new(call.bytes(0)?, Compression::default())),
    ),
    compression(
        "unzip",
        "What was compressed by DEFLATE, without a header.",
        &[("unzip(zip(''))", "''")],
        |call| decompressed(call, DeflateDecoder::new(call.bytes(0)?)),
    ),
    compression(
        "zip_compress",
        "The bytes compressed in zlib's format.",
        &[("zip_uncompress(zip_compress('hello'))", "'hello'")],
        |call| compressed(ZlibEncoder::new(call.bytes(0)?, Compression::default())),
    ),
    compression(
        "zip_uncompress",
        "What was compressed in zlib's format.",
        &[("zip_uncompress(zip_compress(''))", "''")],
        |call| decompressed(call, ZlibDecoder::new(call.bytes(0)?)),
    ),
];

fn compressed(mut encoder: impl Read) -> Result<Value, Fault> {
    let mut bytes = Vec::new();
    encoder.read_to_end(&mut bytes).map_err(|_| too_large())?;
    call::text(bytes)
}

fn decompressed(call: &Call<'_>, decoder: impl Read) -> Result<Value, Fault> {
    let mut bytes = Vec::new();
    let one_too_many = MAX_TEXT_BYTES as u64 + 1;
    decoder
        .take(one_too_many)
        .read_to_end(&mut bytes)
        .map_err(|_| call.bad(0, "is not valid compressed data"))?;
    call::text(bytes)
}
