//! Whom we trust, and what we show: handshakes within one thread, without a socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection};

use super::*;

/// Rounds after which a handshake that makes no progress has failed.
const ROUNDS_MAX: usize = 20;

/// An authority, and the files of what it has signed.
struct Desk {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Desk {
    fn new() -> Desk {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Desk { folder: tempfile::tempdir().unwrap(), issuer }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn authorities(&self) -> PathBuf {
        self.file("ca.pem", &self.issuer.pem())
    }

    fn certify(&self, name: &str) -> CertificateFiles {
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let made = made.signed_by(&key, &self.issuer).unwrap();
        CertificateFiles {
            certificate: self.file(&format!("{name}.pem"), &made.pem()),
            key: self.file(&format!("{name}.key"), &key.serialize_pem()),
        }
    }

    fn client(&self) -> Client {
        Client::load(Some(&self.authorities())).unwrap()
    }
}

/// Carries octets between the two until both are done, or one has failed.
fn shake(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    name: &str,
) -> Result<HandshakeKind, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client, name)?;
    let mut server = ServerConnection::new(server)?;
    for _ in 0..ROUNDS_MAX {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
        if !client.is_handshaking() && !server.is_handshaking() && wire.is_empty() {
            return Ok(client.handshake_kind().unwrap());
        }
    }
    panic!("the handshake neither failed nor ended");
}

#[test]
fn verified_tls_wants_an_authority_that_is_trusted_and_the_right_name() {
    let (ours, theirs) = (Desk::new(), Desk::new());
    let server = Server::load(&[ours.certify("mx.example")]).unwrap().starttls();
    let (trusting, other) = (ours.client(), theirs.client());
    let verified = |client: &Client| client.verified().unwrap();
    assert!(shake(server.clone(), verified(&trusting), "mx.example").is_ok());
    assert!(shake(server.clone(), verified(&trusting), "other.example").is_err());
    assert!(shake(server.clone(), verified(&other), "mx.example").is_err());
    // RFC 7435: opportunistic TLS takes whoever answers.
    for client in [&trusting, &other] {
        for name in ["mx.example", "other.example"] {
            assert!(shake(server.clone(), client.opportunistic(), name).is_ok());
        }
    }
}

#[test]
fn a_session_stays_within_its_policy_and_its_worker() {
    let desk = Desk::new();
    let tls = Tls {
        server: Some(Server::load(&[desk.certify("mx.example")]).unwrap()),
        client: desk.client(),
    };
    let worker = tls.for_worker();
    let server = tls.server.as_ref().unwrap();
    let kind = |server: Arc<ServerConfig>, client| shake(server, client, "mx.example").unwrap();
    let (full, resumed) = (HandshakeKind::Full, HandshakeKind::Resumed);
    assert_eq!(kind(server.starttls(), tls.client.opportunistic()), full);
    assert_eq!(kind(server.starttls(), tls.client.opportunistic()), resumed);
    // What was not verified is nothing that a verified connection could build on.
    assert_eq!(kind(server.starttls(), tls.client.verified().unwrap()), full);
    assert_eq!(kind(server.starttls(), tls.client.verified().unwrap()), resumed);
    assert_eq!(kind(server.implicit(), tls.client.opportunistic()), full);
    assert_eq!(kind(server.starttls(), worker.client.opportunistic()), full);
    let again = Server::load(&[desk.certify("mx.example")]).unwrap();
    let verified = tls.client.verified().unwrap();
    assert_eq!(kind(again.starttls(), verified), full, "a reload ends all sessions");
}

#[test]
fn a_file_that_was_asked_for_must_be_usable_and_the_systems_need_not() {
    let desk = Desk::new();
    let absent = Path::new("/nonexistent/authorities.pem");
    assert!(matches!(Client::load(Some(absent)), Err(LoadError::Read { .. })));
    let empty = desk.file("empty.pem", "nothing\n");
    assert!(matches!(Client::load(Some(&empty)), Err(LoadError::NoCertificate { .. })));
    let broken = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    let broken = desk.file("broken.pem", broken);
    assert!(matches!(Client::load(Some(&broken)), Err(LoadError::Pem { .. })));
    let false_authority =
        desk.file("false.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(matches!(Client::load(Some(&false_authority)), Err(LoadError::Authority { .. })));
    let large = desk.file("large.pem", &"x".repeat(FILE_BYTES_MAX as usize + 1));
    assert!(matches!(Client::load(Some(&large)), Err(LoadError::TooLarge { .. })));
    // Whatever this machine has, opportunistic TLS works.
    let client = Client::load(None).unwrap();
    let server = Server::load(&[desk.certify("mx.example")]).unwrap().implicit();
    assert!(shake(server, client.opportunistic(), "mx.example").is_ok());
}

#[test]
fn a_certificate_without_its_key_names_both_files() {
    let desk = Desk::new();
    let (one, two) = (desk.certify("one.example"), desk.certify("two.example"));
    let mixed = CertificateFiles { certificate: one.certificate, key: two.key };
    let error = Server::load(&[mixed]).unwrap_err();
    assert!(matches!(error, LoadError::Mismatch { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("one.example.pem") && text.contains("two.example.key"), "{text}");
}

#[test]
fn nothing_of_a_key_is_shown() {
    let desk = Desk::new();
    let files = desk.certify("mx.example");
    let key = std::fs::read_to_string(&files.key).unwrap();
    let line = key.lines().nth(1).unwrap();
    let shown = format!("{:?}", Server::load(&[files]).unwrap());
    assert!(!shown.contains(line), "{shown}");
}
