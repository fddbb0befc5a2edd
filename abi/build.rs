//! Exports the plugin interface from this package's tests and benches, as the server's executable
//! does for itself (D-0B): a plugin's undefined `MQ_*` symbols find the host there.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg=-Wl,--export-dynamic-symbol=MQ_*");
    println!("cargo::rustc-link-arg=-Wl,--export-dynamic-symbol=MQX_*");
}
