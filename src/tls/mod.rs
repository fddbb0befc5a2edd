//! What TLS is done with: certificates, keys, authorities, and who is trusted.
//!
//! - [`server`]: our certificates, chosen by the name that the client asks for.
//! - [`client`]: opportunistic and verified TLS towards next hops.
//! - [`Tls`]: both, as one value that is replaced as a whole when files are read again.
//!
//! The `ring` provider is named wherever one is needed, so that no process-wide default decides.
//! TLS 1.2 and 1.3 with the cipher suites of rustls: all of them have forward secrecy and are
//! authenticated. There is no setting for suites, because there is no weak one to switch off.
//!
//! Must never: own a socket; log a key, or keep its file's text.
//!
//! **Diagnostics**: [`LoadError`] names the file and what would be right.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, pem};

pub mod client;
pub mod server;

pub use client::{Client, unverified};
pub use server::{CertificateFiles, Server};

/// The largest file of certificates or keys that is read; a bundle of all public authorities has a
/// quarter of that.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// All that TLS needs, in both directions. Made at the start, and again by each reload.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Our side of incoming connections; `None` without a certificate.
    pub server: Option<Server>,
    /// Our side of outgoing ones.
    pub client: Client,
}

/// Which files TLS is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Our certificates with their keys; the first is the default. Empty means that incoming
    /// connections have no TLS.
    pub certificates: Vec<CertificateFiles>,
    /// Authorities that certify next hops, in place of the system's.
    pub authorities: Option<PathBuf>,
}

impl Tls {
    /// Reads all files. Blocks on the disk: for the main thread, at the start and at a reload.
    ///
    /// # Errors
    /// The first file that is not usable. That the system has no authorities is none: it matters
    /// only to whoever asks for verified connections, and [`Client::verified`] says so.
    pub fn load(files: &Files) -> Result<Tls, LoadError> {
        let server = match files.certificates.as_slice() {
            [] => None,
            certificates => Some(Server::load(certificates)?),
        };
        Ok(Tls { server, client: Client::load(files.authorities.as_deref())? })
    }

    /// The same for one worker: its sessions with next hops are its own, the keys of tickets for clients
    /// are everybody's ([`server`], Locks).
    pub fn for_worker(&self) -> Tls {
        Tls { server: self.server.clone(), client: self.client.for_worker() }
    }
}

/// Why a file cannot be used. Says what would be right.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("{file} cannot be read: {source}", file = file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No file of this kind is that large.
    #[error("{file} is larger than 1 MiB, so it is no file of certificates or keys", file = file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// It is not PEM, or damaged.
    #[error("{file} is not a usable PEM file: {source}", file = file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// It has no certificate.
    #[error("{file} holds no certificate: a block that begins with -----BEGIN CERTIFICATE----- is expected", file = file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// It has no key.
    #[error("{file} holds no private key: a block such as -----BEGIN PRIVATE KEY----- is expected", file = file.display())]
    NoKey {
        /// The file.
        file: PathBuf,
    },
    /// The key is encrypted, and there is nobody to ask for the password.
    #[error("the private key in {file} is encrypted: decrypt it with `openssl pkey -in FILE -out NEW`", file = file.display())]
    EncryptedKey {
        /// The file.
        file: PathBuf,
    },
    /// The key does not belong to the certificate.
    #[error(
        "the key in {key} does not belong to the first certificate in {certificate}: the file begins with the server's own certificate, and those of its issuers follow",
        key = key.display(), certificate = certificate.display()
    )]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The key or certificate is of a kind that cannot be used.
    #[error(
        "{certificate} with {key} cannot be used: {source} (keys are RSA of 2048 bits or more, ECDSA P-256 or P-384, or Ed25519)",
        certificate = certificate.display(), key = key.display()
    )]
    Unusable {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// A certificate of an authority cannot be used.
    #[error("{file} holds a certificate that no authority can have: {source}", file = file.display())]
    Authority {
        /// The file.
        file: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// The system has no random numbers.
    #[error("TLS cannot be set up: {source}")]
    Setup {
        /// What rustls said.
        source: rustls::Error,
    },
}

/// The provider of all cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn setup(source: rustls::Error) -> LoadError {
    LoadError::Setup { source }
}

/// The whole of a file, if it is not absurdly large.
fn read(file: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, LoadError> {
    use std::io::Read;
    let failed = |source| LoadError::Read { file: file.to_owned(), source };
    let open = std::fs::File::open(file).map_err(failed)?;
    // All of its room at once: growing would leave copies of a key behind.
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 1));
    open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(LoadError::TooLarge { file: file.to_owned() });
    }
    Ok(bytes)
}

/// All certificates of a file, in their order; one at least.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let bytes = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|source| LoadError::Pem { file: file.to_owned(), source })?;
    if found.is_empty() {
        return Err(LoadError::NoCertificate { file: file.to_owned() });
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
