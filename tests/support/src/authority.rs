//! A CA of our own: certificates for servers and clients, and lists of those that are revoked.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// A CA whose files lie in a temporary folder: `ca.pem`, and what it has signed as `NAME.pem` and `NAME.key`.
pub struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new CA that nobody else knows.
    ///
    /// # Panics
    /// When the disk refuses.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("weir-ca-")
            .tempdir()
            .expect("a temporary folder");
        let mut params = named("weir test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let authority = Self {
            folder,
            issuer: Issuer::new(params, key),
        };
        authority.write("ca.pem", &certificate.pem());
        authority
    }

    /// The folder with all files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file's full path.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// A file's full path as text.
    #[must_use]
    pub fn text(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    /// Signs a certificate for a server with these names and addresses; a file that is there is replaced.
    ///
    /// # Panics
    /// When a name cannot stand in a certificate.
    pub fn server(&self, file: &str, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names of servers");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(file, &params);
    }

    /// Signs a certificate for a client.
    pub fn client(&self, file: &str, common_name: &str, serial: u64) {
        let mut params = named(common_name);
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(file, &params);
    }

    /// Signs a certificate for a client that ends in so many days.
    ///
    /// # Panics
    /// Never: the clock stands behind 1970.
    pub fn client_for_days(&self, file: &str, common_name: &str, days: u64) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let since = since.expect("a clock behind 1970");
        let mut params = named(common_name);
        params.not_after = date_time_ymd(1970, 1, 1) + since + Duration::from_secs(days * 86_400);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(file, &params);
    }

    /// Writes `revoked.pem`, the list of the certificates that count no more.
    ///
    /// # Panics
    /// Never: the CA may sign lists.
    pub fn revoke(&self, serials: &[u64]) {
        let long_ago = date_time_ymd(2024, 1, 1);
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: long_ago,
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: long_ago,
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("the CA signs lists");
        self.write("revoked.pem", &list.pem().expect("a list in PEM"));
    }

    /// Writes a file whole, by a rename.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn write(&self, file: &str, text: &str) {
        let unfinished = self.path(".unfinished");
        std::fs::write(&unfinished, text).expect("a file of our own");
        std::fs::rename(&unfinished, self.path(file)).expect("a file of our own");
    }

    fn sign(&self, file: &str, params: &CertificateParams) {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        self.write(&format!("{file}.pem"), &certificate.pem());
        self.write(&format!("{file}.key"), &key.serialize_pem());
    }
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}
