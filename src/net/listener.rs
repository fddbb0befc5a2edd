//! Binding: which addresses the server listens on, one socket per worker.
//!
//! Must never: accept, read settings from anywhere but its arguments.
//!
//! **Diagnostics**: an address that cannot be bound is the administrator's to mend
//! ([`BindError`] names address and port); an address in use is always fatal, because
//! `SO_REUSEPORT` alone would let a second process share the port silently.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// How many finished handshakes the kernel keeps for a worker that is busy.
pub const BACKLOG: i32 = 4096;

/// Why an address could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", hint(.source))]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

impl BindError {
    /// Whether the system has no IPv6 at all.
    pub fn is_without_ipv6(&self) -> bool {
        use rustix::io::Errno;
        let without = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].map(|errno| errno.raw_os_error());
        self.address.is_ipv6()
            && self.source.raw_os_error().is_some_and(|raw| without.contains(&raw))
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            " (another server listens there; stop it, or see smtp-port and smtp-secure-port)"
        }
        io::ErrorKind::PermissionDenied => " (ports below 1024 need root)",
        io::ErrorKind::AddrNotAvailable => " (this machine has no such address; see smtp-ip)",
        _ => "",
    }
}

/// How clients come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// In clear, perhaps with STARTTLS later.
    Clear,
    /// With TLS from the first octet.
    Secure,
}

/// The sockets of one worker, one per address and port.
pub type WorkerSockets = Vec<TcpListener>;

/// Binds every address × port for `workers` workers. Port 0 is resolved once, so that all
/// workers share the port that the system picked.
///
/// # Errors
/// The first address that cannot be bound.
pub fn bind(
    addresses: &[IpAddr],
    ports: &[u16],
    workers: usize,
) -> Result<(Vec<SocketAddr>, Vec<WorkerSockets>), BindError> {
    let mut resolved = Vec::new();
    let mut sockets: Vec<WorkerSockets> = (0..workers).map(|_| Vec::new()).collect();
    for &port in ports {
        for &ip in addresses {
            let wanted = SocketAddr::new(ip, port);
            let address = probe(wanted).map_err(|source| BindError { address: wanted, source })?;
            for worker in &mut sockets {
                worker.push(open(address).map_err(|source| BindError { address, source })?);
            }
            resolved.push(address);
        }
    }
    Ok((resolved, sockets))
}

/// One socket for other protocols than SMTP, which does not block; and its address, port 0 resolved.
///
/// # Errors
/// The address that cannot be opened.
pub fn bind_one(address: SocketAddr) -> Result<(SocketAddr, std::net::TcpListener), BindError> {
    let failed = |source| BindError { address, source };
    let socket = socket(address).map_err(failed)?;
    socket.bind(&address.into()).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    let socket = std::net::TcpListener::from(socket);
    socket.set_nonblocking(true).map_err(failed)?;
    Ok((socket.local_addr().map_err(failed)?, socket))
}

/// A plain bind tells whether anybody else listens there, and resolves port 0.
fn probe(address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = socket(address)?;
    socket.bind(&address.into())?;
    // Bound but not listening would still be shared by a second SO_REUSEADDR bind.
    socket.listen(1)?;
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("the system gave a socket without an Internet address"))
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // What it accepts has this from it, without a call for each: see `Transport::register`.
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        // 0.0.0.0 and [::] are two listeners; one that takes both would hide the other.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpStream};

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn port_zero_is_one_port_for_all_workers() {
        let (addresses, sockets) = bind(&[LOOPBACK], &[0], 3).unwrap();
        assert_eq!(addresses.len(), 1);
        for worker in &sockets {
            assert_eq!(worker[0].local_addr().unwrap(), addresses[0]);
        }
        TcpStream::connect(addresses[0]).expect("somebody listens");
    }

    #[test]
    fn what_is_accepted_sends_without_delay() {
        let (addresses, sockets) = bind(&[LOOPBACK], &[0], 1).unwrap();
        let _client = TcpStream::connect(addresses[0]).expect("somebody listens");
        let (accepted, _) = sockets[0][0].accept().expect("somebody has connected");
        assert!(accepted.nodelay().expect("it is open"));
    }

    #[test]
    fn an_address_in_use_is_fatal_even_between_reuse_port_sockets() {
        let (addresses, _sockets) = bind(&[LOOPBACK], &[0], 1).unwrap();
        let error = bind(&[LOOPBACK], &[addresses[0].port()], 1).unwrap_err().to_string();
        assert!(error.contains("another server listens there"), "{error}");
    }

    #[test]
    fn a_foreign_address_is_named_in_the_error() {
        let error = bind(&["192.0.2.1".parse().unwrap()], &[0], 1).unwrap_err().to_string();
        assert!(error.contains("192.0.2.1") && error.contains("smtp-ip"), "{error}");
    }
}
