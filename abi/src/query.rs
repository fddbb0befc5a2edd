//! Queries: what plugins ask the name servers through the host (`MQX_resolve`).
//!
//! Owns the words of a question and its answer, their numbers in the header, and the bounds. Must never
//! know how names are looked up. Diagnostics: none.

use std::ffi::{CString, c_char, c_int, c_void};

use crate::plugin::PluginIndex;
use crate::token::Opaque;

/// How many queries of one plugin may be open on one worker. The header's number.
pub const QUERIES_PER_PLUGIN_MAX: usize = 1_024;
/// How many of all plugins together.
pub const QUERIES_MAX: usize = 4_096;
/// How much of a name is carried; a domain name has 255 octets at most, and whatever is longer is none.
pub(crate) const NAME_BYTES_MAX: usize = 256;

/// What is asked for. The numbers are those of the DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum RecordKind {
    /// IPv4 addresses.
    A = 1,
    /// Name servers.
    Ns = 2,
    /// The name that this one stands for.
    Cname = 5,
    /// The names of an address.
    Ptr = 12,
    /// Who takes mail: preference and host.
    Mx = 15,
    /// Texts.
    Txt = 16,
    /// IPv6 addresses.
    Aaaa = 28,
    /// Who serves: priority, weight, port and host.
    Srv = 33,
}

impl RecordKind {
    /// Every kind.
    pub const ALL: [RecordKind; 8] = [
        RecordKind::A,
        RecordKind::Ns,
        RecordKind::Cname,
        RecordKind::Ptr,
        RecordKind::Mx,
        RecordKind::Txt,
        RecordKind::Aaaa,
        RecordKind::Srv,
    ];

    pub(crate) fn from_number(number: c_int) -> Option<RecordKind> {
        RecordKind::ALL.into_iter().find(|kind| *kind as c_int == number)
    }
}

/// How a query ended. The numbers are the header's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum QueryStatus {
    /// There are records.
    Found = 0,
    /// The name exists, and has no record of this kind.
    NoRecords = 1,
    /// The name does not exist.
    NoName = 2,
    /// Nobody answered in time.
    TimedOut = 3,
    /// The name servers, or the host, could not answer.
    Failed = 4,
    /// What was asked about is no name.
    BadName = 5,
}

/// What a plugin is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryAnswer {
    /// How it ended.
    pub status: QueryStatus,
    /// The records as texts; none unless [`QueryStatus::Found`].
    pub values: Vec<CString>,
}

impl QueryAnswer {
    /// An answer without records.
    pub const fn without_records(status: QueryStatus) -> QueryAnswer {
        QueryAnswer { status, values: Vec::new() }
    }
}

pub(crate) type QueryCallback =
    unsafe extern "C-unwind" fn(*mut Opaque, c_int, *const *const c_char, usize, *mut c_void);

/// A query that was not answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query {
    pub(crate) plugin: PluginIndex,
    /// `None` once it was cancelled: it keeps its place until the answer comes, so that what is asked of
    /// name servers stays bounded however fast a plugin changes its mind.
    pub(crate) callback: Option<QueryCallback>,
    pub(crate) data: *mut c_void,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_by_the_numbers_of_the_dns() {
        for kind in RecordKind::ALL {
            assert_eq!(RecordKind::from_number(kind as c_int), Some(kind));
        }
        for number in [-1, 0, 3, 6, 255, 65_537] {
            assert_eq!(RecordKind::from_number(number), None, "{number}");
        }
    }
}
