//! What does our TLS add to that of rustls, in handshakes and in bulk?
//!
//! Three contenders with the same configurations (those of [`rohrpost::tls`]: TLS 1.3, `ring`, ECDSA P-256),
//! each with both ends of a connection on one thread:
//!
//! - `rustls, memory`: two bare connections, and buffers between them: what the cryptography alone costs;
//! - `rustls, socket`: the same two over a loopback socket, each read and write a system call;
//! - `ours`: two [`Transport`]s over such a socket, as incoming and outgoing connections use them. What they do
//!   more: plaintext goes into the buffer of a driver as it comes, what is held is bounded, and octets count as
//!   written when they have left.
//!
//! Handshakes are `unverified` as opportunistic ones are, `verified` with one authority, and `resumed` by the
//! ticket of the last one; each ends when both sides are open and the client has read its ticket. In
//! bulk, 1 MiB goes from the client to the server.
//!
//! `cargo test` runs each once.
//!
//! Diagnostics: panics when a handshake fails, is not of its kind, or an octet is missing.

use std::fs;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mio::net::{TcpListener, TcpStream};
use mio::{Poll, Token};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rohrpost::net::transport::{Handshake, Moved, Transport};
use rohrpost::tls::{CertificateFiles, Files, Tls};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection};

const NAME: &str = "mx.example.com";
const BULK_BYTES: usize = 1 << 20;
/// As much as a driver offers at once, and what its buffers hold.
const PIECE_BYTES: usize = 64 * 1024;

/// More than a ticket has.
const TICKET_BYTES_MAX: usize = 4096;

/// How a client begins.
#[derive(Clone)]
struct Way {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    kind: HandshakeKind,
}

impl Way {
    /// The three kinds of handshake.
    fn all() -> [(&'static str, Way); 3] {
        let tls = tls();
        let server = tls.server.expect("it has a certificate").starttls();
        let verified = tls.client.verified().expect("it has an authority");
        let full = |client: Arc<ClientConfig>| {
            let mut client = ClientConfig::clone(&client);
            client.resumption = Resumption::disabled();
            let (server, client) = (server.clone(), Arc::new(client));
            Way { server, client, kind: HandshakeKind::Full }
        };
        let resumed =
            Way { server: server.clone(), client: verified.clone(), kind: HandshakeKind::Resumed };
        [
            ("unverified", full(tls.client.opportunistic())),
            ("verified", full(verified)),
            ("resumed", resumed),
        ]
    }
}

/// As a server loads it, from files.
fn tls() -> Tls {
    let folder = tempfile::tempdir().expect("the temporary directory can be written");
    let mut params = CertificateParams::new([]).expect("no names are valid names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = KeyPair::generate().expect("the system has random numbers");
    let authority = CertifiedIssuer::self_signed(params, authority).expect("it can sign");
    let key = KeyPair::generate().expect("the system has random numbers");
    let params = CertificateParams::new([NAME.to_owned()]).expect("it is a name");
    let certificate = params.signed_by(&key, &authority).expect("it can sign");
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("the temporary directory can be written");
        path
    };
    let files = Files {
        certificates: vec![CertificateFiles {
            certificate: file("certificate.pem", certificate.pem()),
            key: file("key.pem", key.serialize_pem()),
        }],
        authorities: Some(file("authority.pem", authority.pem())),
    };
    Tls::load(&files).expect("the files are good")
}

fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).expect("it is a name")
}

/// Both ends of a connection under TLS.
trait Pair: Sized {
    /// Connects, shakes hands, and lets the client read its ticket.
    fn shaken(way: &Way) -> Self;

    /// Sends `bytes` from the client to the server, and reads them there; how many came.
    fn carry(&mut self, bytes: &[u8], target: &mut Vec<u8>) -> usize;
}

/// Two bare connections, which the `Wire` joins.
struct Bare<W> {
    client: ClientConnection,
    server: ServerConnection,
    wire: W,
}

/// What carries ciphertext.
trait Wire {
    fn new() -> Self;

    /// Moves what the client has written to the server, and its plaintext to `target`.
    fn up(
        &mut self,
        client: &mut ClientConnection,
        server: &mut ServerConnection,
        target: &mut Vec<u8>,
    );

    /// Moves what the server has written to the client.
    fn down(&mut self, client: &mut ClientConnection, server: &mut ServerConnection);
}

impl<W: Wire> Pair for Bare<W> {
    fn shaken(way: &Way) -> Self {
        let client = ClientConnection::new(way.client.clone(), name()).expect("it is usable");
        let server = ServerConnection::new(way.server.clone()).expect("it is usable");
        let mut pair = Bare { client, server, wire: W::new() };
        while pair.server.is_handshaking() || pair.server.wants_write() {
            pair.wire.up(&mut pair.client, &mut pair.server, &mut Vec::new());
            pair.wire.down(&mut pair.client, &mut pair.server);
        }
        assert!(!pair.client.is_handshaking());
        assert_eq!(pair.server.handshake_kind(), Some(way.kind));
        pair
    }

    fn carry(&mut self, bytes: &[u8], target: &mut Vec<u8>) -> usize {
        let begun = target.len();
        let mut rest = bytes;
        while target.len() - begun < bytes.len() {
            let count = self.client.writer().write(rest).expect("it is open");
            rest = &rest[count..];
            self.wire.up(&mut self.client, &mut self.server, target);
        }
        target.len() - begun
    }
}

/// A vector for each direction.
struct Memory(Vec<u8>);

impl Wire for Memory {
    fn new() -> Self {
        Memory(Vec::new())
    }

    fn up(
        &mut self,
        client: &mut ClientConnection,
        server: &mut ServerConnection,
        target: &mut Vec<u8>,
    ) {
        while client.wants_write() {
            client.write_tls(&mut self.0).expect("a vector takes all");
        }
        let mut rest = self.0.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("it takes what it is given");
            server.process_new_packets().expect("the other end means well");
            hand_out(server, target);
        }
        self.0.clear();
    }

    fn down(&mut self, client: &mut ClientConnection, server: &mut ServerConnection) {
        while server.wants_write() {
            server.write_tls(&mut self.0).expect("a vector takes all");
        }
        let mut rest = self.0.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("it takes what it is given");
            client.process_new_packets().expect("the other end means well");
        }
        self.0.clear();
    }
}

/// A connection of the loopback interface.
struct Socket {
    client: TcpStream,
    server: TcpStream,
}

impl Wire for Socket {
    fn new() -> Self {
        let (client, server) = connected();
        client.set_nodelay(true).expect("it is open");
        server.set_nodelay(true).expect("it is open");
        Socket { client, server }
    }

    fn up(
        &mut self,
        client: &mut ClientConnection,
        server: &mut ServerConnection,
        target: &mut Vec<u8>,
    ) {
        while client.wants_write() && is_done(client.write_tls(&mut self.client)) {}
        while is_done(server.read_tls(&mut self.server)) {
            server.process_new_packets().expect("the other end means well");
            hand_out(server, target);
        }
    }

    fn down(&mut self, client: &mut ClientConnection, server: &mut ServerConnection) {
        while server.wants_write() && is_done(server.write_tls(&mut self.server)) {}
        while is_done(client.read_tls(&mut self.client)) {
            client.process_new_packets().expect("the other end means well");
        }
    }
}

/// Moves plaintext to the end of `target`.
fn hand_out(server: &mut ServerConnection, target: &mut Vec<u8>) {
    let mut reader = server.reader();
    // An error says that there is nothing now.
    while let Ok(plaintext) = reader.fill_buf() {
        let count = plaintext.len();
        target.extend_from_slice(plaintext);
        reader.consume(count);
        if count == 0 {
            return;
        }
    }
}

/// Whether octets moved; false when the socket is full or dry.
fn is_done(outcome: io::Result<usize>) -> bool {
    match outcome {
        Ok(count) => count > 0,
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
            false
        }
    }
}

/// A connected pair of non-blocking sockets; the loopback interface connects at once.
fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let client = TcpStream::connect(address).expect("the listener listens");
    let (server, _) = listener.accept().expect("the loopback connects at once");
    (client, server)
}

/// Two transports of ours.
struct Ours {
    client: Transport,
    server: Transport,
    _poll: Poll,
}

impl Pair for Ours {
    fn shaken(way: &Way) -> Self {
        let poll = Poll::new().expect("the system has a poll");
        let (client, server) = connected();
        let client = Transport::register(client, poll.registry(), Token(0)).expect("it is open");
        let server = Transport::register(server, poll.registry(), Token(1)).expect("it is open");
        let mut pair = Ours { client, server, _poll: poll };
        pair.client.start_client_tls(way.client.clone(), name()).expect("it is usable");
        pair.server.start_server_tls(way.server.clone()).expect("it is usable");
        let (mut client, mut server) = (false, false);
        while !client || !server {
            client |= is_open(pair.client.handshake());
            server |= is_open(pair.server.handshake());
        }
        // The ticket comes with the first octets of the server.
        pair.server.on_writable();
        let moved = pair.client.read(&mut Vec::with_capacity(TICKET_BYTES_MAX));
        assert!(matches!(moved, Moved::Blocked(0)));
        pair
    }

    fn carry(&mut self, bytes: &[u8], target: &mut Vec<u8>) -> usize {
        let begun = target.len();
        let mut rest = bytes;
        while target.len() - begun < bytes.len() {
            if !rest.is_empty() {
                match self.client.write(rest) {
                    Moved::Some(count) | Moved::Blocked(count) => rest = &rest[count..],
                    moved @ (Moved::End | Moved::Gone(_)) => panic!("{moved:?}"),
                }
            }
            match self.server.read(target) {
                Moved::Some(_) | Moved::Blocked(_) => {}
                moved @ (Moved::End | Moved::Gone(_)) => panic!("{moved:?}"),
            }
        }
        target.len() - begun
    }
}

fn is_open(handshake: Handshake) -> bool {
    match handshake {
        Handshake::Done => true,
        Handshake::Blocked | Handshake::More => false,
        Handshake::Failed(error) => panic!("{error}"),
    }
}

fn handshakes(criterion: &mut Criterion) {
    for (name, way) in Way::all() {
        // A session to take up, where one is taken up.
        Bare::<Memory>::shaken(&Way { kind: HandshakeKind::Full, ..way.clone() });
        let mut group = criterion.benchmark_group(format!("tls/handshake, {name}"));
        group.throughput(Throughput::Elements(1));
        group.bench_function("rustls, memory", |bencher| {
            bencher.iter(|| Bare::<Memory>::shaken(&way));
        });
        group.bench_function("rustls, socket", |bencher| {
            bencher.iter(|| Bare::<Socket>::shaken(&way));
        });
        group.bench_function("ours", |bencher| bencher.iter(|| Ours::shaken(&way)));
        group.finish();
        // Each of ours left as many tickets as it took, or this one would not be resumed.
        Bare::<Memory>::shaken(&way);
    }
}

fn bulk(criterion: &mut Criterion) {
    let [(_, way), ..] = Way::all();
    let mut group = criterion.benchmark_group("tls/bulk");
    group.throughput(Throughput::Bytes(BULK_BYTES as u64));
    let text = vec![b'x'; BULK_BYTES];
    let mut carried = |name: &str, carry: &mut dyn FnMut(&[u8], &mut Vec<u8>) -> usize| {
        let mut target = Vec::with_capacity(BULK_BYTES + PIECE_BYTES);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                target.clear();
                for piece in text.chunks(PIECE_BYTES) {
                    assert_eq!(carry(piece, &mut target), piece.len());
                }
            });
        });
    };
    let mut memory = Bare::<Memory>::shaken(&way);
    carried("rustls, memory", &mut |bytes, target| memory.carry(bytes, target));
    let mut socket = Bare::<Socket>::shaken(&way);
    carried("rustls, socket", &mut |bytes, target| socket.carry(bytes, target));
    let mut ours = Ours::shaken(&way);
    carried("ours", &mut |bytes, target| ours.carry(bytes, target));
    group.finish();
}

criterion_group!(benches, handshakes, bulk);
criterion_main!(benches);
