//! Certificates for next hops, good and bad, by an authority of the test.
//!
//! **Diagnostics**: none.

use std::{path::Path, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// An authority, trusted by whoever is given its file.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes its certificate to a file of `folder`; where that is.
    pub(super) fn write(&self, folder: &Path) -> String {
        let path = folder.join("authority.pem");
        std::fs::write(&path, self.0.pem()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// TLS with a certificate for `name`, signed by this authority.
    pub(super) fn certify(&self, name: &str) -> Arc<ServerConfig> {
        self.sign(CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    /// Writes a certificate for `name` and its key to files of `folder`; where those are.
    pub(super) fn write_for(&self, name: &str, folder: &Path) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        [("certificate.pem", certificate.pem()), ("key.pem", key.serialize_pem())].map(
            |(file, text)| {
                let path = folder.join(file);
                std::fs::write(&path, text).unwrap();
                path.to_str().unwrap().to_owned()
            },
        )
    }

    /// The same, but its time was over long ago.
    pub(super) fn certify_expired(&self, name: &str) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.not_before, params.not_after) =
            (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        config(&certificate, &key)
    }
}

/// TLS with a certificate for `name` that nobody has signed but itself.
pub(super) fn self_signed(name: &str) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    config(&params.self_signed(&key).unwrap(), &key)
}

fn config(certificate: &rcgen::Certificate, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    Arc::new(config)
}
