//! Exports the plugin interface from the executable itself, so that a plugin's undefined `MQ_*`
//! symbols find the host (D-0B). Plain `rustc-link-arg`, so that tests and benches have them too.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg=-Wl,--export-dynamic-symbol=MQ_*");
    println!("cargo::rustc-link-arg=-Wl,--export-dynamic-symbol=MQX_*");
}
