//! Hand-backs from threads that are faster than the worker, and mail beside them.

use std::path::Path;

use super::probe::{Stage, await_status, client, compiled, mail, say};
use crate::support::{PATIENCE, Sanitizer};

const CLIENTS: usize = 4;
const MAILS: usize = 25;

#[test]
fn d_26_threads_that_hammer_lose_no_hand_back_of_another() {
    let mut stage = Stage::new(&[]);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/c/hammer.c");
    let text = std::fs::read_to_string(source).expect("the source is there");
    for (name, hammer) in [("10-hammer", 1), ("20-once", 0)] {
        let object = compiled(&format!("#define HAMMER {hammer}\n{text}"), Sanitizer::Off);
        stage.add(name, &object);
    }
    let sink = stage.sink(&["--discard"]);
    stage.plan = stage.plan.smarthost(sink.address());
    let mut server = stage.setting("smtp-threads", 1).start();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for _ in 0..MAILS {
                    let mut client = client(&server);
                    mail(&mut client, "hammered@example.org");
                    say(&mut client, "QUIT", 221);
                }
            });
        }
    });
    sink.await_count(CLIENTS * MAILS, PATIENCE);
    await_status(&server, "held", 0);
    assert!(server.terminate().success());
    let said = server.process().stderr.complete();
    assert!(said.contains("10-hammer.so: MQ_Continue: "), "{said}");
    assert!(!said.contains("20-once.so: "), "{said}");
}
