//! Facts: what the host knows of a connection, as plugins may ask for it.
//!
//! Owns the values, and the NUL-terminated copies that plugins were given of them: each is made when it
//! is first asked for, so that a fact nobody asks for costs its place. A copy stays where it is until the
//! host tells another value, which it never does while a step is shown or held. Must never find out
//! anything. Diagnostics: none; what is not known is `None`.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::text::Text;

/// Something that the host has found out about a connection.
#[derive(Clone, Debug)]
pub enum Fact {
    /// Who is at the other end; behind a proxy the client itself (D-51).
    Peer(Option<SocketAddr>),
    /// How the client introduced itself.
    Helo(Option<Arc<str>>),
    /// What the client is logged in as.
    Login(Option<Arc<str>>),
    /// What the host at the other end is called, by MX records or settings; of outgoing connections.
    Host(Arc<str>),
    /// TLS is active.
    Tls(TlsFacts),
}

/// What was agreed on in a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// Such as `TLSv1.3`.
    pub version: &'static str,
    /// The registered name of the cipher suite.
    pub cipher: &'static str,
    /// The name that the client asked for.
    pub server_name: Option<Box<str>>,
}

/// Which fact a plugin asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Peer,
    Helo,
    Login,
    Host,
    TlsVersion,
    Cipher,
    ServerName,
}

/// A value and the copy that plugins have of it.
#[derive(Debug)]
struct Lent<T> {
    value: Option<T>,
    copy: Option<Text>,
}

impl<T> Default for Lent<T> {
    fn default() -> Lent<T> {
        Lent { value: None, copy: None }
    }
}

impl<T> Lent<T> {
    fn set(&mut self, value: Option<T>) {
        *self = Lent { value, copy: None };
    }

    fn lend(&mut self, write: impl FnOnce(&T) -> Text) -> Option<&Text> {
        let value = self.value.as_ref()?;
        Some(self.copy.get_or_insert_with(|| write(value)))
    }
}

#[derive(Debug, Default)]
struct Tls {
    version: Lent<&'static str>,
    cipher: Lent<&'static str>,
    server_name: Lent<Box<str>>,
}

/// What is known of one connection.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    peer: Lent<SocketAddr>,
    helo: Lent<Arc<str>>,
    login: Lent<Arc<str>>,
    host: Lent<Arc<str>>,
    tls: Option<Box<Tls>>,
}

impl Facts {
    pub(crate) fn tell(&mut self, fact: Fact) {
        match fact {
            Fact::Peer(peer) => self.peer.set(peer),
            Fact::Helo(name) => self.helo.set(name),
            Fact::Login(name) => self.login.set(name),
            Fact::Host(name) => self.host.set(Some(name)),
            Fact::Tls(TlsFacts { version, cipher, server_name }) => {
                let tls = self.tls.get_or_insert_default();
                tls.version.set(Some(version));
                tls.cipher.set(Some(cipher));
                tls.server_name.set(server_name);
            }
        }
    }

    pub(crate) fn text(&mut self, asked: Asked) -> Option<&Text> {
        match asked {
            Asked::Peer => self
                .peer
                .lend(|peer| Text::copy_from(peer.ip().to_canonical().to_string().as_bytes())),
            Asked::Helo => self.helo.lend(|name| Text::copy_from(name.as_bytes())),
            Asked::Login => self.login.lend(|name| Text::copy_from(name.as_bytes())),
            Asked::Host => self.host.lend(|name| Text::copy_from(name.as_bytes())),
            Asked::TlsVersion => {
                self.tls.as_mut()?.version.lend(|name| Text::copy_from(name.as_bytes()))
            }
            Asked::Cipher => {
                self.tls.as_mut()?.cipher.lend(|name| Text::copy_from(name.as_bytes()))
            }
            Asked::ServerName => {
                self.tls.as_mut()?.server_name.lend(|name| Text::copy_from(name.as_bytes()))
            }
        }
    }

    /// 0 if it is not known.
    pub(crate) fn peer_port(&self) -> u16 {
        self.peer.value.map_or(0, |peer| peer.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_stays_where_it_is_until_another_value_is_told() {
        let mut facts = Facts::default();
        assert_eq!(facts.text(Asked::Helo), None);
        facts.tell(Fact::Helo(Some("a.example".into())));
        let first = facts.text(Asked::Helo).expect("told").as_bytes().as_ptr();
        let again = facts.text(Asked::Helo).expect("told");
        assert_eq!((again.as_bytes(), again.as_bytes().as_ptr()), (&b"a.example"[..], first));
        facts.tell(Fact::Helo(None));
        assert_eq!(facts.text(Asked::Helo), None);
    }

    #[test]
    fn d_51_the_peer_is_an_address_without_its_port_and_ipv4_as_itself() {
        let mut facts = Facts::default();
        assert_eq!(facts.text(Asked::Peer), None);
        assert_eq!(facts.peer_port(), 0);
        for (peer, text) in [
            ("192.0.2.1:25", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:25", "192.0.2.1"),
            ("[2001:db8::1]:25", "2001:db8::1"),
        ] {
            facts.tell(Fact::Peer(Some(peer.parse().expect("an address"))));
            assert_eq!(facts.text(Asked::Peer).expect("told").as_bytes(), text.as_bytes());
            assert_eq!(facts.peer_port(), 25, "{text}");
        }
    }

    #[test]
    fn without_tls_nothing_is_known_of_it() {
        let mut facts = Facts::default();
        assert_eq!(facts.text(Asked::Cipher), None);
        facts.tell(Fact::Tls(TlsFacts { version: "TLSv1.3", cipher: "X", server_name: None }));
        assert_eq!(facts.text(Asked::TlsVersion).expect("told").as_bytes(), b"TLSv1.3");
        assert_eq!(facts.text(Asked::ServerName), None);
    }
}
