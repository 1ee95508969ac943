//! What the embedded default pulls in: no C++ build, no protoc, no TLS and no HTTP stack; and the same of
//! the command. Asks cargo itself for the normal and build dependencies with default features.

use super::tree::{report, root};
use std::{collections::BTreeSet, process::Command};

/// Packages that each bring one of the things a host should not have to take. A trailing `*`
/// stands for any ending.
const BANNED: [&str; 24] = [
    // TLS
    "openssl*",
    "native-tls",
    "rustls*",
    "ring",
    "aws-lc*",
    "boring*",
    "schannel",
    "webpki*",
    // HTTP
    "hyper*",
    "reqwest*",
    "h2",
    "h3",
    "http",
    "ureq*",
    "curl*",
    "tonic*",
    "object_store",
    // C++ builds and generators
    "cmake",
    "cxx*",
    "link-cplusplus",
    "bindgen*",
    "protoc*",
    "protobuf*",
    "prost*",
];

fn is_banned(package: &str) -> bool {
    BANNED.iter().any(|banned| match banned.strip_suffix('*') {
        Some(start) => package.starts_with(start),
        None => package == *banned,
    })
}

/// Names of the packages that a crate is built from, itself included.
fn packages(of: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root())
        // Not `--offline`: on a fresh machine it lacks packages that no test so far was built from.
        .args(["tree", "--locked", "--prefix", "none", "--edges", "normal,build"])
        .args(["--package", of])
        .output()
        .expect("cargo runs: it started this test");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree failed:\n{errors}");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_embedded_default_has_no_cpp_protoc_tls_or_http() {
    let packages = packages("akidb");
    assert!(packages.contains("parquet"), "the list is empty or not that of the engine");
    let findings: Vec<_> = packages.into_iter().filter(|package| is_banned(package)).collect();
    report("akidb with default features pulls in:", &findings);
}

#[test]
fn the_command_brings_tls_http_and_the_test_server_only_when_asked() {
    let packages = packages("akidb-cli");
    assert!(packages.contains("clap"), "the list is empty or not that of the command");
    let server = |package: &String| is_banned(package) || package == "akidb-s3server";
    let findings: Vec<_> = packages.into_iter().filter(server).collect();
    report("akidb-cli with default features pulls in:", &findings);
}

#[test]
fn what_loom_checks_is_built_without_parquet_and_a_runtime() {
    for checked in ["akidb-wal", "akidb-handoff"] {
        let heavy = ["parquet", "arrow", "tokio"];
        let is_heavy = |name: &String| heavy.iter().any(|start| name.starts_with(start));
        let findings: Vec<_> = packages(checked).into_iter().filter(is_heavy).collect();
        report(&format!("{checked} pulls in:"), &findings);
    }
}

#[test]
fn the_ban_knows_families_and_single_packages() {
    assert!(is_banned("rustls-pki-types") && is_banned("h2") && is_banned("cmake"));
    assert!(!is_banned("half") && !is_banned("httparse") && !is_banned("hashbrown"));
}
