//! Our side of outgoing connections: opportunistic, and verified.
//!
//! Opportunistic TLS protects against those who only listen: whoever could put himself between us and
//! the next hop could as well answer that there is no TLS, so the certificate is not looked at, and
//! no next hop is lost for one that is expired, or signed by itself (RFC 7435). Verified TLS checks
//! chain and name.
//!
//! Sessions that were begun without verification are never taken up by verified connections: each
//! configuration has a store of its own.
//!
//! Must never: verify less than its name says.
//!
//! **Diagnostics**: [`LoadError`] for a file that was asked for; what the system lacks is told to whoever
//! needs it.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::{LoadError, certificates, provider, setup};

/// Servers whose sessions are kept; the oldest goes first.
const SESSIONS_MAX: usize = 256;

/// What outgoing connections are secured with.
#[derive(Debug, Clone)]
pub struct Client {
    opportunistic: Arc<ClientConfig>,
    verified: Result<Verified, Arc<str>>,
}

/// Who may be trusted, and what connections to them are made with.
#[derive(Debug, Clone)]
struct Verified {
    config: Arc<ClientConfig>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl Client {
    /// Trusts the authorities in `authorities`, or those that the system trusts.
    ///
    /// # Errors
    /// The file is not usable.
    pub fn load(authorities: Option<&Path>) -> Result<Client, LoadError> {
        let roots = match authorities {
            Some(file) => Ok(roots_of(file)?),
            None => system_roots(),
        };
        let verified = match roots {
            Ok(roots) => Ok(verified(roots)?),
            Err(why) => Err(why.into()),
        };
        Ok(Client { opportunistic: Arc::new(opportunistic()?), verified })
    }

    /// The same trust with stores of sessions of its own, so that workers share no lock.
    pub fn for_worker(&self) -> Client {
        let apart = |config: &Arc<ClientConfig>| {
            let mut config = ClientConfig::clone(config);
            config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
            Arc::new(config)
        };
        Client {
            opportunistic: apart(&self.opportunistic),
            verified: self
                .verified
                .clone()
                .map(|Verified { config, verifier }| Verified { config: apart(&config), verifier }),
        }
    }

    /// Takes any certificate.
    pub fn opportunistic(&self) -> Arc<ClientConfig> {
        self.opportunistic.clone()
    }

    /// Takes only a certificate that an authority has signed and that is for the name.
    ///
    /// # Errors
    /// Why there are no authorities to trust.
    pub fn verified(&self) -> Result<Arc<ClientConfig>, Arc<str>> {
        self.verified.as_ref().map(|verified| verified.config.clone()).map_err(Arc::clone)
    }

    /// Whether a verified connection would have taken these certificates, the server's own first: for
    /// reports on connections that took them unseen.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(
        &self,
        certificates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
    ) -> Result<(), String> {
        let verifier = &self.verified.as_ref().map_err(|why| why.to_string())?.verifier;
        let (own, issuers) = certificates.split_first().ok_or("it has none")?;
        let now = UnixTime::now();
        let verdict = verifier.verify_server_cert(own, issuers, name, &[], now);
        verdict.map(drop).map_err(|error| error.to_string())
    }
}

fn roots_of(file: &Path) -> Result<RootCertStore, LoadError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots
            .add(certificate)
            .map_err(|source| LoadError::Authority { file: file.to_owned(), source })?;
    }
    Ok(roots)
}

/// Those of the system that can be used; a strange one among many matters to nobody.
fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable > 0 {
        return Ok(roots);
    }
    let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
    Err(format!(
        "the system has no certificate authorities{why}: install ca-certificates, or set smtp-out-ca-file"
    ))
}

fn verified(roots: RootCertStore) -> Result<Verified, LoadError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|source| setup(rustls::Error::General(source.to_string())))?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(setup)?;
    let mut config = builder.with_webpki_verifier(verifier.clone()).with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(Verified { config: Arc::new(config), verifier })
}

/// What takes any certificate, without looking for authorities first: for whoever never verifies one.
///
/// # Errors
/// TLS cannot be set up.
pub fn unverified() -> Result<ClientConfig, LoadError> {
    opportunistic()
}

fn opportunistic() -> Result<ClientConfig, LoadError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(setup)?;
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(config)
}

/// Takes whoever answers. Signatures are not looked at either: a certificate that anybody may have made
/// proves nothing, and one that cannot be read would cost the encryption.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
        ]
    }
}
