//! `hash::*`, `hmac::*`, `secure_eq`: checksums and signatures; comparisons take the same time wherever two texts differ.

use md5::{Digest as _, Md5};
use rhai::{Dynamic, Engine, Module};
use ring::{digest, hmac};

use crate::base::hex;

use super::super::error::Fault;
use super::bytes::bytes_of;

pub(super) fn register(engine: &mut Engine) {
    let mut hash = Module::new();
    for (name, algorithm) in
        [("sha1", &digest::SHA1_FOR_LEGACY_USE_ONLY), ("sha256", &digest::SHA256), ("sha384", &digest::SHA384), ("sha512", &digest::SHA512)]
    {
        hash.set_native_fn(name, move |data: Dynamic| {
            bytes_of(&data, &format!("hash::{name}"), |bytes| hex::encode(digest::digest(algorithm, bytes).as_ref()))
        });
    }
    hash.set_native_fn("md5", |data: Dynamic| bytes_of(&data, "hash::md5", |bytes| hex::encode(&Md5::digest(bytes))));
    engine.register_static_module("hash", hash.into());
    let mut mac = Module::new();
    for (name, algorithm) in [
        ("sha1", hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        ("sha256", hmac::HMAC_SHA256),
        ("sha384", hmac::HMAC_SHA384),
        ("sha512", hmac::HMAC_SHA512),
    ] {
        mac.set_native_fn(name, move |key: Dynamic, data: Dynamic| signed(name, algorithm, &key, &data));
    }
    engine.register_static_module("hmac", mac.into());
    engine.register_fn("secure_eq", |a: Dynamic, b: Dynamic| -> Result<bool, Fault> {
        let own = bytes_of(&a, "secure_eq", <[u8]>::to_vec)?;
        bytes_of(&b, "secure_eq", |other| subtle::ConstantTimeEq::ct_eq(own.as_slice(), other).into())
    });
}

fn signed(name: &str, algorithm: hmac::Algorithm, key: &Dynamic, data: &Dynamic) -> Result<String, Fault> {
    let what = format!("hmac::{name}");
    let key = bytes_of(key, &what, |key| hmac::Key::new(algorithm, key))?;
    bytes_of(data, &what, |data| hex::encode(hmac::sign(&key, data).as_ref()))
}
