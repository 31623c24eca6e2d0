//! Under which name a client is known: its client identifier, or what the configuration or a hook puts in its place.

use weir_mqtt::{Connect, ReasonCode, Utf8};
use weir_sinks::bridge::verifier::Scheme;

use super::Shared;
use super::admission::Door;
use crate::auth::Identity;
use crate::core::connect::{Admission, Refused};
use crate::hooks::{Hook, IdentityRequest};
use crate::settings::ClientIdentity;

impl Shared {
    /// Before the client is authenticated: what it says of itself.
    pub(super) fn identify(
        &self,
        connect: &Connect,
        door: &Door,
        admission: &mut Admission,
    ) -> Result<(), ReasonCode> {
        if let Some(hook) = &self.hooks.unique_id {
            let request = IdentityRequest {
                client_id: &admission.client_id,
                username: connect.username.as_ref().or(door.identity.as_ref()),
                password: connect.password.as_ref(),
                peer: door.peer,
                certificate: door.certificate.as_deref(),
                version: connect.version,
            };
            let ask = || hook.unique_id(&request);
            let name = self.hooks.panics.guard(Hook::UniqueId, ask);
            // Whoever it is, nobody can say.
            let name = name.ok_or(ReasonCode::ServerUnavailable)?;
            return self.rename(admission, Utf8::try_from(name).ok());
        }
        match self.settings.identity {
            ClientIdentity::ClientId => Ok(()),
            // Who the user is must be found out first; until then it is whom the client claims to be.
            ClientIdentity::Username => match &connect.username {
                Some(name) => self.rename(admission, Some(name.detached())),
                None => Ok(()),
            },
            ClientIdentity::CertCn => {
                let name = door.certificate.as_ref();
                let name = name.and_then(|certificate| certificate.common_name.as_deref());
                self.rename(admission, name.and_then(|name| Utf8::new(name).ok()))
            }
        }
    }

    /// After it was authenticated: whom the authenticator knows it as.
    pub(super) fn identify_user(
        &self,
        identity: &Identity,
        admission: &mut Admission,
    ) -> Result<(), ReasonCode> {
        // A hook has said already who it is.
        if let (Some(name), None) = (&identity.session, &self.hooks.unique_id) {
            return self.rename(admission, Some(name.detached()));
        }
        if self.hooks.unique_id.is_none() && self.settings.identity == ClientIdentity::Username {
            return self.rename(admission, identity.username.as_ref().map(Utf8::detached));
        }
        Ok(())
    }

    /// The session of a device is nobody's but the device's, whatever else somebody may sign in as.
    pub(super) fn check_device_name(
        &self,
        identity: &Identity,
        client_id: &Utf8,
    ) -> Result<(), Refused> {
        let names_device = || {
            client_id
                .split_once(':')
                .is_some_and(|(scheme, _)| Scheme::named(scheme).is_some())
        };
        let is_its_own = identity.session.as_ref() == Some(client_id);
        if self.settings.reserve_device_names && !is_its_own && names_device() {
            let why = "client identifiers that begin with a scheme of [auth.devices] and a colon are those of devices";
            return Err(Refused::new(ReasonCode::ClientIdentifierNotValid, why));
        }
        Ok(())
    }

    fn rename(&self, admission: &mut Admission, name: Option<Utf8>) -> Result<(), ReasonCode> {
        let fits = |name: &Utf8| !name.is_empty() && name.len() <= self.settings.max_client_id;
        let name = name.filter(fits);
        admission.rename(name.ok_or(ReasonCode::ClientIdentifierNotValid)?);
        Ok(())
    }
}
