//! What plugins ask the name servers (`MQX_resolve`), through the resolver and cache that routes go by.
//!
//! Must never: wait without the deadline of every question, nor pass on what a C string cannot hold.
//!
//! **Diagnostics**: what goes wrong is the status of the answer.

use std::ffi::CString;
use std::future::Future;
use std::net::IpAddr;

use hickory_resolver::proto::rr::{Name, RData, RecordType};
use rohrpost_abi::{QueryAnswer, QueryStatus, RecordKind};

use super::lookup::{self, LookUps};

/// How long a name may be as text, with its last dot (RFC 1035 2.3.4).
const NAME_BYTES_MAX: usize = 255;

impl LookUps {
    /// Begins to ask; the future is done within `dns-timeout`.
    pub(super) fn begin_query(
        &mut self,
        name: &[u8],
        kind: RecordKind,
    ) -> impl Future<Output = QueryAnswer> + Send + 'static {
        let name = name_of(name, kind);
        let look_up = self.look_up();
        async move {
            let Some(name) = name else {
                return QueryAnswer::without_records(QueryStatus::BadName);
            };
            let Ok(look_up) = look_up else {
                return QueryAnswer::without_records(QueryStatus::Failed);
            };
            match look_up.ask(name, record_type(kind)).await {
                Ok(lookup::Answer::NoName) => QueryAnswer::without_records(QueryStatus::NoName),
                Ok(lookup::Answer::NoRecords) => {
                    QueryAnswer::without_records(QueryStatus::NoRecords)
                }
                Ok(lookup::Answer::Records(found)) => {
                    records(found.answers().iter().map(|record| &record.data), kind)
                }
                Err(why) if why.timed_out => QueryAnswer::without_records(QueryStatus::TimedOut),
                Err(_) => QueryAnswer::without_records(QueryStatus::Failed),
            }
        }
    }
}

/// What is asked about; `None` if that is no name.
fn name_of(text: &[u8], kind: RecordKind) -> Option<Name> {
    let text = str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    if let (RecordKind::Ptr, Ok(address)) = (kind, text.parse::<IpAddr>()) {
        return Some(Name::from(address));
    }
    if text.len() > NAME_BYTES_MAX {
        return None;
    }
    lookup::whole(text).ok()
}

const fn record_type(kind: RecordKind) -> RecordType {
    match kind {
        RecordKind::A => RecordType::A,
        RecordKind::Ns => RecordType::NS,
        RecordKind::Cname => RecordType::CNAME,
        RecordKind::Ptr => RecordType::PTR,
        RecordKind::Mx => RecordType::MX,
        RecordKind::Txt => RecordType::TXT,
        RecordKind::Aaaa => RecordType::AAAA,
        RecordKind::Srv => RecordType::SRV,
    }
}

/// The records of that kind as texts; others, such as aliases on the way, are left out.
fn records<'a>(found: impl Iterator<Item = &'a RData>, kind: RecordKind) -> QueryAnswer {
    let values: Vec<CString> = found.filter_map(|data| value(data, kind)).collect();
    match values.is_empty() {
        true => QueryAnswer::without_records(QueryStatus::NoRecords),
        false => QueryAnswer { status: QueryStatus::Found, values },
    }
}

/// One record as the header shows it; `None` if it is of another kind.
fn value(data: &RData, kind: RecordKind) -> Option<CString> {
    let text = match (kind, data) {
        (RecordKind::A, RData::A(address)) => address.to_string(),
        (RecordKind::Aaaa, RData::AAAA(address)) => address.to_string(),
        (RecordKind::Ns, RData::NS(name)) => shown(&name.0),
        (RecordKind::Cname, RData::CNAME(name)) => shown(&name.0),
        (RecordKind::Ptr, RData::PTR(name)) => shown(&name.0),
        (RecordKind::Mx, RData::MX(mx)) => format!("{} {}", mx.preference, shown(&mx.exchange)),
        (RecordKind::Srv, RData::SRV(srv)) => {
            format!("{} {} {} {}", srv.priority, srv.weight, srv.port, shown(&srv.target))
        }
        (RecordKind::Txt, RData::TXT(txt)) => return Some(joined(&txt.txt_data)),
        _ => return None,
    };
    CString::new(text).ok()
}

/// Without the last dot, but for the root itself.
fn shown(name: &Name) -> String {
    let mut text = name.to_ascii();
    if text.len() > 1 && text.ends_with('.') {
        text.pop();
    }
    text
}

/// Nothing can hide behind a NUL.
fn joined(pieces: &[Box<[u8]>]) -> CString {
    let mut bytes = pieces.concat();
    bytes.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b'?');
    CString::new(bytes).expect("every NUL was replaced")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::rr::rdata::{CNAME, MX, PTR, SRV, TXT};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn records_are_shown_as_the_header_says() {
        let txt = TXT::from_bytes(vec![b"v=spf1 ", b"-all\0 +all"]);
        let rows = [
            (RecordKind::A, RData::A("192.0.2.1".parse().unwrap()), "192.0.2.1"),
            (RecordKind::Aaaa, RData::AAAA("2001:db8::1".parse().unwrap()), "2001:db8::1"),
            (RecordKind::Mx, RData::MX(MX::new(10, name("mx.example.org."))), "10 mx.example.org"),
            (RecordKind::Mx, RData::MX(MX::new(0, Name::root())), "0 ."),
            (RecordKind::Ptr, RData::PTR(PTR(name("host.example.org."))), "host.example.org"),
            (RecordKind::Txt, RData::TXT(txt), "v=spf1 -all? +all"),
            (
                RecordKind::Srv,
                RData::SRV(SRV::new(10, 5, 5060, name("sip.example.org."))),
                "10 5 5060 sip.example.org",
            ),
        ];
        let alias = RData::CNAME(CNAME(name("other.example.org.")));
        for (kind, data, expected) in rows {
            let answer = records([&alias, &data].into_iter(), kind);
            let expected = vec![CString::new(expected).unwrap()];
            assert_eq!(answer, QueryAnswer { status: QueryStatus::Found, values: expected });
            let none = QueryAnswer::without_records(QueryStatus::NoRecords);
            assert_eq!(records([&alias].into_iter(), kind), none);
        }
    }

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        for (text, kind, expected) in [
            ("example.org", RecordKind::A, Some("example.org.")),
            ("example.org.", RecordKind::A, Some("example.org.")),
            ("localhost", RecordKind::A, Some("localhost.")),
            ("192.0.2.1", RecordKind::Ptr, Some("1.2.0.192.in-addr.arpa.")),
            ("host.example", RecordKind::Ptr, Some("host.example.")),
            ("", RecordKind::A, None),
            ("a..b", RecordKind::A, None),
            ("\u{fc}.example", RecordKind::A, None),
        ] {
            let found = name_of(text.as_bytes(), kind).map(|name| name.to_ascii());
            assert_eq!(found.as_deref(), expected, "{text:?}");
        }
        let six = name_of(b"2001:db8::1", RecordKind::Ptr).unwrap().to_ascii();
        assert!(six.starts_with("1.0.0.") && six.ends_with(".8.b.d.0.1.0.0.2.ip6.arpa."), "{six}");
        assert_eq!(name_of(&[b'a'; 256], RecordKind::A), None);
        assert_eq!(name_of(b"\xff", RecordKind::Txt), None);
    }
}
