//! AUTH: a step of an extended authentication, MQTT 5 only.

use super::{kind, read_reason};
use crate::properties::{self, AuthProperties};
use crate::wire::{Reader, write_frame};
use crate::{DecodeError, EncodeError, ProtocolVersion, ReasonCode};

/// A step of an extended authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Success, continue or authenticate again.
    pub reason: ReasonCode,
    /// `None` only with success.
    pub properties: Option<Box<AuthProperties>>,
}

const REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::ContinueAuthentication,
    ReasonCode::ReAuthenticate,
];

impl Auth {
    /// Every AUTH but the shortest must name its method.
    fn names_its_method(&self) -> bool {
        match &self.properties {
            Some(properties) => properties.authentication_method.is_some(),
            None => self.reason == ReasonCode::Success,
        }
    }

    pub(crate) fn decode(
        mut reader: Reader,
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        if !version.is_v5() {
            return Err(DecodeError::malformed(
                "packet type 15 is reserved before MQTT 5",
            ));
        }
        if reader.is_empty() {
            return Ok(Self {
                reason: ReasonCode::Success,
                properties: None,
            });
        }
        let reason = read_reason(&mut reader, REASONS)?;
        let properties = if reader.is_empty() {
            None
        } else {
            properties::read(&mut reader)?
        };
        reader.finish()?;
        let auth = Self { reason, properties };
        if auth.names_its_method() {
            Ok(auth)
        } else {
            Err(DecodeError::protocol(
                "AUTH without an authentication method",
            ))
        }
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if !version.is_v5() {
            return Err(EncodeError::NotInVersion);
        }
        if !REASONS.contains(&self.reason) {
            return Err(EncodeError::Reason(self.reason));
        }
        if !self.names_its_method() {
            return Err(EncodeError::AuthenticationMethod);
        }
        write_frame(kind::AUTH << 4, out, |out| {
            match self.properties.as_deref() {
                Some(properties) => {
                    out.push(self.reason.as_u8());
                    properties::write(Some(properties), out)
                }
                None => Ok(()),
            }
        })
    }
}
