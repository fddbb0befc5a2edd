//! Certificates for tests: an authority of their own, and what it has signed, as the PEM files that a
//! server wants.
//!
//! It owns the files' names; the directory is the caller's. **Diagnostics**: panics where a file cannot be
//! written.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, pki_types::CertificateDer};

/// Signs certificates.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Two files, and what is in the first of them.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) der: CertificateDer<'static>,
}

impl Authority {
    /// A new one, which nobody trusts yet.
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "An authority for tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let issuer =
            CertifiedIssuer::self_signed(params, key).expect("a name and a key are enough");
        Authority { issuer }
    }

    /// Writes `NAME.pem` and `NAME.key` into `folder`: a certificate for `names`, the first of which is
    /// the name of the files.
    pub(crate) fn certify(&self, folder: &Path, names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let file = |end: &str| folder.join(format!("{}.{end}", names[0].replace('*', "any")));
        let (chain, key) = (file("pem"), file("key"));
        let pair = KeyPair::generate().expect("a key can be made");
        let params = CertificateParams::new(names).expect("names of hosts");
        let made = params.signed_by(&pair, &self.issuer).expect("an authority signs");
        write(&chain, &format!("{}{}", made.pem(), self.issuer.pem()));
        write(&key, &pair.serialize_pem());
        Certificate { chain, key, der: made.der().clone() }
    }

    /// Writes the authority's own certificate.
    pub(crate) fn write(&self, file: &Path) {
        write(file, &self.issuer.pem());
    }

    /// A client that trusts this authority and nobody else.
    pub(crate) fn trusted(&self) -> Arc<ClientConfig> {
        self.trusted_with(rustls::ALL_VERSIONS)
    }

    /// The same with these versions of TLS.
    pub(crate) fn trusted_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a certificate that was just made");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions that there are");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).expect("the caller's directory can be written");
}
