//! A reload that wants more of next hops: no mail follows over what was made before it.

use super::{
    far::{Conduct, Far},
    paper::Authority,
    post, towards, waits_because_of,
};
use crate::support::{PATIENCE, eventually};

const HOST: &str = "127.0.0.1";

/// Invariant 22: a connection that rests is as trusted as a new one would be, however it was made.
#[test]
fn a_resting_connection_to_whom_nobody_trusts_any_more_gets_no_mail() {
    let (trusted, other) = (Authority::new("trusted"), Authority::new("other"));
    let far = Far::start(Conduct { tls: Some(trusted.certify(HOST)), ..Conduct::default() });
    let plan = towards(&far).setting("smtp-out-idle-timeout", 600);
    let file = trusted.write(plan.directory());
    let plan = plan.setting("smtp-out-security", "verified").setting("smtp-out-ca-file", file);
    let server = plan.start();
    let reload = || assert_eq!(server.plan().order(&["reload"]).code, Some(0));
    post(&server, "b@example.net");
    far.await_mails(1);
    reload();
    server.await_empty_queue(PATIENCE);
    post(&server, "c@example.net");
    far.await_mails(2);
    assert_eq!(far.opened(), 1, "nothing has changed");
    server.await_empty_queue(PATIENCE);
    other.write(plan.directory());
    reload();
    let id = post(&server, "d@example.net");
    waits_because_of(&server, &id, "invalid peer certificate");
    assert_eq!(far.taken().len(), 2);
    trusted.write(plan.directory());
    reload();
    eventually("the mail", PATIENCE, || (far.taken().len() == 3).then_some(()));
}
