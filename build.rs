//! Compiles `proto/` once, for every crate of the workspace.

use std::{env, path::PathBuf};

const FILES: [&str; 4] = ["scheduler", "job_leasing", "cluster", "admin"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = FILES.map(|name| format!("proto/ksched/v1/{name}.proto"));
    tonic_prost_build::configure()
        // Payloads stay slices of the request's buffer instead of copies.
        .bytes(".ksched.v1")
        .codec_path("crate::codec::Bounded")
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .file_descriptor_set_path(PathBuf::from(env::var("OUT_DIR")?).join("ksched.bin"))
        .compile_protos(&files, &["proto".to_owned()])?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
