//! What measures Rohrpost beside other servers (`benches/peers`): that its reports say what was measured,
//! and that a short run of it gives figures.
//!
//! No figure is judged here: a test runs beside others.

use std::path::Path;

use serde_json::Value;

use crate::support::{PATIENCE, Tool};

fn peers() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers")
}

#[test]
fn reports_say_what_was_recorded() {
    let tool = Tool::new("python3").words("-m unittest discover --start-directory").arg(peers());
    tool.run(PATIENCE);
}

#[test]
fn a_quick_look_measures_the_server_and_the_floor() {
    let results = tempfile::tempdir().expect("a temporary directory can be made");
    let tool = Tool::new("python3").arg(peers());
    let tool = tool.words("--quick --seconds 0.1 --only rohrpost,floor --cases accept-4k,calls-4k");
    let tool = tool.arg("--rohrpost").arg(env!("CARGO_BIN_EXE_rohrpost"));
    tool.arg("--results").arg(results.path()).run(PATIENCE * 4);

    let session = std::fs::read_to_string(results.path().join("results.json")).unwrap();
    let session: Value = serde_json::from_str(&session).unwrap();
    for server in ["rohrpost", "floor"] {
        let records = session["records"].as_array().unwrap().iter();
        let of = |case: &str| {
            let mut own = records.clone().filter(|record| record["server"] == server);
            own.find(|record| record["case"] == case).unwrap_or_else(|| panic!("{session:#}"))
        };
        assert!(of("accept-4k")["per_cpu_second"].as_f64() > Some(0.0), "{session:#}");
        assert!(of("calls-4k")["syncs_each"].as_f64() > Some(0.0), "{session:#}");
    }
    let report = std::fs::read_to_string(results.path().join("README.md")).unwrap();
    assert!(report.contains("| accept 4 KiB, reusing connections | **"), "{report}");
}
