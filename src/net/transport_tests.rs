//! Two transports in one thread, each pumped in turn.

use std::io::IoSlice;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Poll, Token};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::{Handshake, Moved, Transport};
use crate::tls::provider;

/// Rounds after which a pump that makes no progress has failed.
const ROUNDS_MAX: usize = 100_000;

/// Both ends of one connection.
struct Pair {
    client: Transport,
    server: Transport,
    _poll: Poll,
}

fn plain() -> Pair {
    let poll = Poll::new().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    let register = |stream: std::net::TcpStream, token| {
        stream.set_nonblocking(true).unwrap();
        Transport::register(TcpStream::from_std(stream), poll.registry(), Token(token)).unwrap()
    };
    let (client, server) = (register(client, 1), register(server, 2));
    Pair { client, server, _poll: poll }
}

fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["mx.example".to_owned()]).unwrap();
    let certificate = CertificateDer::from(made.cert);
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

impl Pair {
    fn begin(mut self) -> Pair {
        let (server, client) = configs();
        self.server.start_server_tls(server).unwrap();
        let name = ServerName::try_from("mx.example").unwrap();
        self.client.start_client_tls(client, name).unwrap();
        self
    }

    fn secure() -> Pair {
        let mut pair = plain().begin();
        let mut done = (false, false);
        for _ in 0..ROUNDS_MAX {
            done = (shake(&mut pair.client), shake(&mut pair.server));
            if done == (true, true) {
                break;
            }
        }
        assert_eq!(done, (true, true));
        pair
    }
}

fn shake(transport: &mut Transport) -> bool {
    match transport.handshake() {
        Handshake::Done => true,
        Handshake::Blocked | Handshake::More => false,
        Handshake::Failed(error) => panic!("{error}"),
    }
}

/// Sends all of `bytes` and reads it back at the other end, `room` octets at a time.
fn carry(from: &mut Transport, to: &mut Transport, bytes: &[u8], room: usize) -> Vec<u8> {
    let (mut sent, mut got) = (0, Vec::new());
    for _ in 0..ROUNDS_MAX {
        if sent < bytes.len() {
            let half = sent + (bytes.len() - sent) / 2;
            let slices = [IoSlice::new(&bytes[sent..half]), IoSlice::new(&bytes[half..])];
            match from.write_slices(&slices) {
                Moved::Some(count) | Moved::Blocked(count) => sent += count,
                other => panic!("{other:?}"),
            }
        }
        let mut buffer = Vec::with_capacity(room);
        match to.read(&mut buffer) {
            Moved::Some(count) | Moved::Blocked(count) => assert_eq!(count, buffer.len()),
            other => panic!("{other:?}"),
        }
        got.extend(buffer);
        if got.len() == bytes.len() {
            assert_eq!(sent, bytes.len(), "what arrived is counted as written");
            return got;
        }
    }
    panic!("{} of {} octets arrived", got.len(), bytes.len());
}

fn noise(count: usize) -> Vec<u8> {
    (0..count as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Reads until something other than octets comes.
fn read_to_end(transport: &mut Transport) -> (Vec<u8>, Moved) {
    let mut got = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let mut buffer = Vec::with_capacity(1000);
        match transport.read(&mut buffer) {
            Moved::Some(_) | Moved::Blocked(_) => got.extend(buffer),
            end => return (got, end),
        }
    }
    panic!("no end");
}

#[test]
fn both_ends_agree_and_know_it() {
    let mut pair = Pair::secure();
    let (ours, theirs) = (pair.server.secured().unwrap(), pair.client.secured().unwrap());
    assert_eq!((ours.version, theirs.version), ("TLSv1.3", "TLSv1.3"));
    assert_eq!(ours.cipher, theirs.cipher);
    assert!(ours.cipher.starts_with("TLS_"), "{}", ours.cipher);
    assert_eq!(ours.server_name.as_deref(), Some("mx.example"));
    assert!(pair.server.is_secure() && pair.client.is_secure());
    assert!(matches!(pair.server.handshake(), Handshake::Done));
    let plain = plain();
    assert!(!plain.server.is_secure() && plain.server.secured().is_none());
}

#[test]
fn every_octet_arrives_in_order_whatever_the_room() {
    let bytes = noise(300_000);
    for room in [1, 7, 512, 5_000, 16_384, 70_000] {
        let part = if room < 512 { &bytes[..40_000] } else { &bytes[..] };
        let mut pair = Pair::secure();
        assert!(carry(&mut pair.client, &mut pair.server, part, room) == part, "{room}");
        assert!(carry(&mut pair.server, &mut pair.client, part, room) == part, "{room}");
    }
}

#[test]
fn a_read_that_leaves_plaintext_is_never_dry() {
    let mut pair = Pair::secure();
    let text = noise(10_000);
    assert!(matches!(pair.client.write(&text), Moved::Some(10_000)));
    let mut got = Vec::new();
    while got.len() < text.len() {
        let mut buffer = Vec::with_capacity(64);
        match pair.server.read(&mut buffer) {
            Moved::Some(_) => {}
            // Loopback is fast, but promises nothing: it may be dry only where nothing is held.
            Moved::Blocked(count) => assert!(count < 64),
            other => panic!("{other:?}"),
        }
        got.extend(buffer);
    }
    assert_eq!(got, text);
}

#[test]
fn what_a_peer_does_not_read_is_not_counted_and_little_of_it_is_held() {
    let mut pair = Pair::secure();
    let bytes = noise(64 << 20);
    let mut sent = 0;
    let full = loop {
        match pair.server.write(&bytes[sent..]) {
            Moved::Some(count) => sent += count,
            Moved::Blocked(count) => break sent + count,
            other => panic!("{other:?}"),
        }
    };
    assert!(full < bytes.len(), "sockets of loopback hold less");
    // Offered again it goes on where it was.
    let mut got = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let mut buffer = Vec::with_capacity(100_000);
        assert!(matches!(pair.client.read(&mut buffer), Moved::Some(_) | Moved::Blocked(_)));
        got.extend(buffer);
        if got.len() > full + (1 << 20) {
            break;
        }
        if let Moved::Some(count) | Moved::Blocked(count) = pair.server.write(&bytes[sent..]) {
            sent += count;
        }
    }
    assert!(got.len() > full && got == bytes[..got.len()]);
}

#[test]
fn rfc_8446_6_1_an_orderly_end_and_a_truncation_are_both_the_end_after_what_was_sent() {
    let mut pair = Pair::secure();
    assert!(matches!(pair.client.write(b"QUIT\r\n"), Moved::Some(6)));
    pair.client.shut_write();
    let (got, end) = read_to_end(&mut pair.server);
    assert!(got == b"QUIT\r\n" && matches!(end, Moved::End), "{end:?}");

    let mut pair = Pair::secure();
    assert!(matches!(pair.client.write(b"DATA\r\n"), Moved::Some(6)));
    pair.client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let (got, end) = read_to_end(&mut pair.server);
    assert!(got == b"DATA\r\n" && matches!(end, Moved::End), "{end:?}");
}

#[test]
fn a_goodbye_is_the_end_though_the_socket_is_open() {
    let mut pair = Pair::secure();
    pair.client.say_goodbye();
    let (got, end) = read_to_end(&mut pair.server);
    assert!(got.is_empty() && matches!(end, Moved::End), "{end:?}");
}

#[test]
fn plaintext_in_place_of_a_handshake_fails_it() {
    let (config, _) = configs();
    let mut pair = plain();
    pair.server.start_server_tls(config).unwrap();
    assert!(matches!(pair.client.write(b"EHLO client.example\r\n"), Moved::Some(_)));
    for _ in 0..ROUNDS_MAX {
        match pair.server.handshake() {
            Handshake::Blocked | Handshake::More => {}
            Handshake::Done => panic!("that was no handshake"),
            Handshake::Failed(_) => return assert!(!pair.server.is_secure()),
        }
    }
    panic!("the handshake neither failed nor ended");
}

#[test]
fn an_end_in_the_middle_of_a_handshake_fails_it() {
    let mut pair = plain().begin();
    assert!(!shake(&mut pair.client));
    pair.client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let failed = (0..ROUNDS_MAX).any(|_| matches!(pair.server.handshake(), Handshake::Failed(_)));
    assert!(failed && !pair.server.is_secure());
}

#[test]
fn damaged_ciphertext_ends_the_connection_after_what_was_whole() {
    let mut pair = Pair::secure();
    assert!(matches!(pair.client.write(b"NOOP\r\n"), Moved::Some(6)));
    pair.client.secure = None;
    assert!(matches!(pair.client.write(&[23, 3, 3, 0, 30]), Moved::Some(5)));
    assert!(matches!(pair.client.write(&[0; 30]), Moved::Some(30)));
    let (got, end) = read_to_end(&mut pair.server);
    assert!(got == b"NOOP\r\n" && matches!(end, Moved::Gone(_)), "{end:?}");
    assert!(!pair.server.is_secure());
}
