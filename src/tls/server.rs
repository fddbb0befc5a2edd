//! Our side of incoming connections: certificates by name, and one configuration for each way in.
//!
//! # Sessions
//! A client may take up a session where it was begun, and nowhere else: each way in (STARTTLS, TLS from
//! the first octet) has ticket keys of its own, which are replaced every few hours and never written
//! down. None outlives this value, so a reload ends all sessions with the old certificates. Tickets are
//! kept by the clients; we hold no session, so there is no cache to fill. Early data, which could be
//! played again, is not accepted.
//!
//! # Locks
//! All workers share this value. The lock around its ticket keys is taken when a ticket is made or read:
//! in a handshake, never for mail.
//!
//! Must never: hold a key that does not belong to its certificate.
//!
//! **Diagnostics**: [`LoadError`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName, pem};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, ServerConfig, SignatureScheme};

use super::{LoadError, certificates, provider, read, setup};

/// Tickets that a client gets after a handshake; it seldom comes back with more than one connection.
const TICKETS: usize = 1;

/// A certificate with its chain, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the server's own certificate first, then those of its issuers.
    pub certificate: PathBuf,
    /// PEM: the key of the first of them.
    pub key: PathBuf,
}

/// What incoming connections are secured with.
#[derive(Debug, Clone)]
pub struct Server {
    starttls: Arc<ServerConfig>,
    implicit: Arc<ServerConfig>,
}

impl Server {
    /// Reads certificates and keys. The first one serves clients that name no host, or one that none
    /// of them is for. Of several for one name the first whose key the client can use is taken, so
    /// that there may be one with RSA and one with ECDSA.
    ///
    /// # Errors
    /// The first file that is not usable.
    ///
    /// # Panics
    /// Without any certificate.
    pub fn load(files: &[CertificateFiles]) -> Result<Server, LoadError> {
        assert!(!files.is_empty(), "TLS needs a certificate");
        let keys: Result<Vec<_>, _> = files.iter().map(certified_key).collect();
        let resolver = Arc::new(ByName(keys?));
        Ok(Server { starttls: config(&resolver)?, implicit: config(&resolver)? })
    }

    /// For connections that become secure by STARTTLS.
    pub fn starttls(&self) -> Arc<ServerConfig> {
        self.starttls.clone()
    }

    /// For connections that are secure from their first octet.
    pub fn implicit(&self) -> Arc<ServerConfig> {
        self.implicit.clone()
    }
}

fn config(resolver: &Arc<ByName>) -> Result<Arc<ServerConfig>, LoadError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .with_no_client_auth()
        .with_cert_resolver(resolver.clone());
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new().map_err(setup)?;
    config.send_tls13_tickets = TICKETS;
    Ok(Arc::new(config))
}

fn certified_key(files: &CertificateFiles) -> Result<Arc<CertifiedKey>, LoadError> {
    let CertificateFiles { certificate, key } = files;
    let chain = certificates(certificate)?;
    let secret = private_key(key)?;
    let certified = CertifiedKey::from_der(chain, secret, &provider());
    certified.map(Arc::new).map_err(|source| match source {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            LoadError::Mismatch { certificate: certificate.clone(), key: key.clone() }
        }
        source => {
            LoadError::Unusable { certificate: certificate.clone(), key: key.clone(), source }
        }
    })
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, LoadError> {
    let bytes = read(file)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|source| match source {
        pem::Error::NoItemsFound if is_encrypted(&bytes) => {
            LoadError::EncryptedKey { file: file.to_owned() }
        }
        pem::Error::NoItemsFound => LoadError::NoKey { file: file.to_owned() },
        source => LoadError::Pem { file: file.to_owned(), source },
    })
}

/// PKCS #8 says so in its label, the older form in a header of the block.
fn is_encrypted(pem: &[u8]) -> bool {
    let found = |needle: &[u8]| memchr::memmem::find(pem, needle).is_some();
    found(b"BEGIN ENCRYPTED PRIVATE KEY") || found(b"Proc-Type: 4,ENCRYPTED")
}

/// Certificates in the order of the settings.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ByName {
    /// The first certificate for `name` whose key the client can use; otherwise the first of all that
    /// it can use.
    fn choose(
        &self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<&Arc<CertifiedKey>> {
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let named =
            name.and_then(|name| self.0.iter().filter(usable).find(|key| is_for(key, &name)));
        named.or_else(|| self.0.iter().find(usable))
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes()).cloned()
    }
}

/// Whether a certificate is for a name, by its alternative names and their wildcards (RFC 9525 6).
fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.cert.first().map(ParsedCertificate::try_from);
    matches!(parsed, Some(Ok(parsed)) if verify_server_name(&parsed, name).is_ok())
}
