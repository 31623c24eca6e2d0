//! The demo's cloud: a second broker in the process that lets in only a device whose Aliyun signature is right.
//! It is the verifier that devices sign in to (`auth.devices`), with a table of one.

use crate::auth::devices::{DeviceSettings, Devices, Table};
use crate::problem::{Problem, Source};

/// The cloud with the one device that rules/connectors/cloud.toml names.
pub(super) fn knows(secret: &str) -> Result<Devices, Vec<Problem>> {
    let table = format!(
        "[[device]]\nscheme = \"aliyun_iot\"\ntenant_key = \"a1Example\"\ndevice = \"gw-01\"\nsecret = \"{secret}\"\n"
    );
    let table = Table::parse(&Source::new("the demo's devices", table))?;
    Ok(Devices::of(table, DeviceSettings::default()))
}
