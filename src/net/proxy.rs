//! The header of the PROXY protocol, versions 1 and 2: for whom a proxy speaks.
//!
//! Owns how long a header may be and when it is complete; what it says is read by `ppp`. A header is
//! recognised by its first octets alone, so client data behind it cannot change how it is read.
//!
//! Must never: guess where a header ends, as all behind it is the client's.
//!
//! **Diagnostics**: [`HeaderError`], which ends the connection.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use ppp::{v1, v2};

/// Octets of a header. A first version has 107, a second one with all that proxies put into it a few
/// hundred.
pub const HEADER_BYTES_MAX: usize = 4096;
/// Octets of a header of the second version before its addresses.
const BINARY_BYTES_MIN: usize = 16;
/// How a header of the first version begins.
const TEXT_START: &[u8] = b"PROXY ";
/// Where the length stands in one of the second version, after a signature of 12 octets.
const LENGTH_AT: std::ops::Range<usize> = 14..16;

/// How far a header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// So far it is one, and more of it is to come.
    Incomplete,
    /// It is complete.
    Header {
        /// Its octets.
        length: usize,
        /// For whom it speaks.
        client: Named,
    },
}

/// For whom a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// For itself, as when it looks whether we are there: the addresses of the socket are the client's.
    Proxy,
    /// For a client that it cannot name: the addresses of the socket are not the client's.
    Nobody,
    /// For this client, which it saw come to this server.
    Client {
        /// The client.
        remote: SocketAddr,
        /// The server, as the client named it.
        local: SocketAddr,
    },
}

/// Why octets are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// They begin otherwise.
    #[error("it did not begin with a header of the PROXY protocol")]
    Foreign,
    /// They are more than any proxy sends.
    #[error("its header is longer than {HEADER_BYTES_MAX} octets")]
    TooLong,
    /// They cannot be read.
    #[error("its header cannot be read")]
    Malformed,
}

/// Reads the header at the start of `bytes`.
///
/// # Errors
/// Whatever comes, it will not be one.
pub fn parse(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    if begins(bytes, v2::PROTOCOL_PREFIX) {
        parse_binary(bytes)
    } else if begins(bytes, TEXT_START) {
        parse_text(bytes)
    } else {
        Err(HeaderError::Foreign)
    }
}

/// Whether `bytes` are the start of `prefix`, or begin with it.
fn begins(bytes: &[u8], prefix: &[u8]) -> bool {
    let common = bytes.len().min(prefix.len());
    bytes[..common] == prefix[..common]
}

fn parse_text(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    /// With its CRLF.
    const LINE_BYTES_MAX: usize = 107;
    let line = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', line) else {
        let full = line.len() == LINE_BYTES_MAX;
        return if full { Err(HeaderError::Malformed) } else { Ok(Parsed::Incomplete) };
    };
    let length = end + 1;
    let header = v1::Header::try_from(&line[..length]).map_err(|_| HeaderError::Malformed)?;
    // Otherwise there is a CR before the end of the line.
    if header.header.len() != length {
        return Err(HeaderError::Malformed);
    }
    let client = match header.addresses {
        v1::Addresses::Unknown => Named::Nobody,
        v1::Addresses::Tcp4(ip) => v4(&ip),
        v1::Addresses::Tcp6(ip) => v6(&ip),
    };
    Ok(Parsed::Header { length, client })
}

fn parse_binary(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    let Some(Ok(announced)) = bytes.get(LENGTH_AT).map(<[u8; 2]>::try_from) else {
        return Ok(Parsed::Incomplete);
    };
    let length = BINARY_BYTES_MIN + usize::from(u16::from_be_bytes(announced));
    if length > HEADER_BYTES_MAX {
        return Err(HeaderError::TooLong);
    }
    let Some(header) = bytes.get(..length) else {
        return Ok(Parsed::Incomplete);
    };
    let header = v2::Header::try_from(header).map_err(|_| HeaderError::Malformed)?;
    let client = match (header.command, header.protocol, header.addresses) {
        (v2::Command::Local, _, _) => Named::Proxy,
        (v2::Command::Proxy, _, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => {
            Named::Nobody
        }
        (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv4(ip)) => v4(&ip),
        (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv6(ip)) => v6(&ip),
        // Nobody sends mail in datagrams.
        (v2::Command::Proxy, v2::Protocol::Unspecified | v2::Protocol::Datagram, _) => {
            return Err(HeaderError::Malformed);
        }
    };
    Ok(Parsed::Header { length, client })
}

fn v4(ip: &v1::IPv4) -> Named {
    let source = SocketAddrV4::new(ip.source_address, ip.source_port);
    let destination = SocketAddrV4::new(ip.destination_address, ip.destination_port);
    Named::Client { remote: source.into(), local: destination.into() }
}

fn v6(ip: &v1::IPv6) -> Named {
    let address = |ip, port| SocketAddr::from(SocketAddrV6::new(ip, port, 0, 0));
    Named::Client {
        remote: address(ip.source_address, ip.source_port),
        local: address(ip.destination_address, ip.destination_port),
    }
}

/// Any octets at all, whole and in part: a fuzz target.
pub fn fuzz(bytes: &[u8]) {
    let whole = parse(bytes);
    if let Ok(Parsed::Header { length, .. }) = whole {
        assert!(length <= bytes.len() && length <= HEADER_BYTES_MAX, "a header was received");
        assert_eq!(parse(&bytes[..length]), whole, "what follows a header changes nothing");
    }
    if bytes.len() >= HEADER_BYTES_MAX {
        assert_ne!(whole, Ok(Parsed::Incomplete), "a header has an end");
    }
    for count in 0..bytes.len().min(HEADER_BYTES_MAX) {
        match (parse(&bytes[..count]), whole) {
            (Ok(Parsed::Incomplete), _) => {}
            (part, whole) => assert_eq!(part, whole, "what is decided stays so"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(client: &str, server: &str) -> Named {
        Named::Client { remote: client.parse().unwrap(), local: server.parse().unwrap() }
    }

    fn binary(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[0x20 | command, family], &length, payload].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 7, 0x30, 0x39, 0, 25];

    #[test]
    fn d_51_both_versions_name_client_and_server() {
        let both = named("192.0.2.1:12345", "198.51.100.7:25");
        let tlv: &[u8] = &[4, 0, 1, 42];
        let rows = [
            (b"PROXY TCP4 192.0.2.1 198.51.100.7 12345 25\r\n".to_vec(), both),
            (
                b"PROXY TCP6 2001:db8::1 2001:db8::2 1 25\r\n".to_vec(),
                named("[2001:db8::1]:1", "[2001:db8::2]:25"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), Named::Nobody),
            (b"PROXY UNKNOWN ff:: 1 2 3\r\n".to_vec(), Named::Nobody),
            (binary(1, 0x11, &V4), both),
            (binary(1, 0x11, &[&V4, tlv].concat()), both),
            (binary(0, 0x11, &V4), Named::Proxy),
            (binary(0, 0x00, &[]), Named::Proxy),
            (binary(1, 0x00, &[]), Named::Nobody),
            (binary(1, 0x31, &[b'/'; 216]), Named::Nobody),
        ];
        for (bytes, expected) in &rows {
            let header = Parsed::Header { length: bytes.len(), client: *expected };
            assert_eq!(parse(bytes), Ok(header), "{}", bytes.escape_ascii());
            // TLS or a greedy client may follow at once.
            for behind in [&b"EHLO x\r\n"[..], &[0x16, 3, 1, 0xff, 0]] {
                assert_eq!(parse(&[bytes, behind].concat()), Ok(header));
            }
        }
    }

    #[test]
    fn what_is_no_header_is_known_at_once() {
        let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 100]].concat();
        let rows: &[(&[u8], HeaderError)] = &[
            (b"EHLO client\r\n", HeaderError::Foreign),
            (b"PROXX", HeaderError::Foreign),
            (b"\r\n\r\n\0\r\nQUIX", HeaderError::Foreign),
            (b"PROXY TCP4 192.0.2.1 198.51.100.7 12345\r\n", HeaderError::Malformed),
            (b"PROXY TCP4 192.0.2.1 198.51.100.7 12345 70000\r\n", HeaderError::Malformed),
            (b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2\n", HeaderError::Malformed),
            (b"PROXY TCP4 192.0.2.1\r 198.51.100.7 1 2\r\n", HeaderError::Malformed),
            (b"PROXY TCP6 192.0.2.1 198.51.100.7 1 2\r\n", HeaderError::Malformed),
            (&long, HeaderError::Malformed),
            (&binary(2, 0x11, &V4), HeaderError::Malformed),
            (&binary(1, 0x12, &V4), HeaderError::Malformed),
            (&binary(1, 0x11, &V4[..11]), HeaderError::Malformed),
            (&binary(1, 0x11, &[0; 4081]), HeaderError::TooLong),
        ];
        for (bytes, expected) in rows {
            assert_eq!(parse(bytes), Err(*expected), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn exercises_the_fuzz_target() {
        let mut state = 51_u64;
        let mut below = |end: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % end
        };
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/proxy_header");
        let mut paths: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let seeds: Vec<_> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
        seeds.iter().for_each(|seed| {
            fuzz(seed);
            assert!(matches!(parse(seed), Ok(Parsed::Header { .. })), "{}", seed.escape_ascii());
        });
        for round in 0..4000 {
            let mut bytes = seeds[round % seeds.len()].clone();
            for _ in 0..below(4) {
                let at = below(bytes.len());
                match below(3) {
                    0 => bytes[at] = below(256) as u8,
                    1 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, b"\r\n 0:.\0\xff"[below(8)]),
                }
            }
            fuzz(&bytes);
        }
    }
}
