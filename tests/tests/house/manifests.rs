//! What the `Cargo.toml` files may say: the arrows between crates, the lint table, and a reason
//! for every dependency.

use super::tree::{CRATES, Source, report};
use std::collections::{BTreeMap, BTreeSet};

/// Which crate may depend on which. `docs/design/006-tiering-may-use-vfs.md`,
/// `docs/design/011-handoffs-apart.md`, `docs/design/015-tiers-decided-apart.md`,
/// `docs/design/016-objects-over-s3.md` and the code map in `ARCHITECTURE.md` say why; a new arrow needs a
/// line there first.
const ARROWS: [(&str, &[&str]); 9] = [
    ("vfs", &[]),
    ("handoff", &[]),
    ("wal", &["vfs"]),
    ("index", &[]),
    ("s3server", &["vfs"]),
    // The server only for its tests: `the_test_server_is_in_nothing_that_ships`.
    ("tiering", &["vfs", "handoff", "s3server"]),
    ("engine", &["vfs", "handoff", "wal", "index", "tiering"]),
    // The server only for `bench ship`: `the_test_server_is_in_nothing_that_ships`.
    ("cli", &["s3server", "engine"]),
    ("tests", &["vfs", "wal", "index", "s3server", "tiering", "engine"]),
];

/// The features that only test builds may have.
const TEST_FEATURES: [&str; 4] = ["\"sim\"", "\"testing\"", "\"defects\"", "\"crash-points\""];

/// One dependency of one crate.
#[derive(Debug)]
struct Dependency {
    name: String,
    /// `dependencies`, `dev-dependencies` or `build-dependencies`.
    table: String,
    /// The rest of the line.
    spec: String,
}

/// The tables of a `Cargo.toml`, as `(table, key, value)`; enough of TOML for our own manifests,
/// and a panic on what it does not know.
fn entries(manifest: &Source) -> Vec<(String, String, String)> {
    let mut table = String::new();
    let mut found = Vec::new();
    for line in manifest.text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            let close = header.find(']').expect("a table header is closed on its line");
            table = header[..close].trim_matches('[').to_owned();
        } else if let Some((key, value)) = line.split_once('=')
            && !line.starts_with('#')
        {
            found.push((table.clone(), key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

fn dependencies(dir: &str) -> Vec<Dependency> {
    let manifest = Source::read(&format!("{dir}/Cargo.toml"));
    let mut found = Vec::new();
    for (table, key, spec) in entries(&manifest) {
        // `[target.'cfg(unix)'.dependencies]` ends in the kind; `[dependencies.x]` names the crate.
        let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
        let last = table.rsplit('.').next().unwrap_or_default().to_owned();
        if kinds.contains(&&*last) {
            let name = key.split('.').next().unwrap_or_default().to_owned();
            found.push(Dependency { name, table: last, spec: format!("{key} = {spec}") });
        } else if let Some((kind, name)) = table.split_once('.')
            && kinds.contains(&kind)
        {
            panic!("{dir}/Cargo.toml: write `{name}` as one line under [{kind}]");
        }
    }
    found
}

/// The folder of a workspace crate.
fn folder(package: &str) -> Option<&'static str> {
    let name = match package {
        "akidb" => "engine",
        other => other.strip_prefix("akidb-")?,
    };
    CRATES.iter().copied().find(|dir| *dir == name)
}

/// The external dependencies that the workspace lists, and the members.
fn workspace() -> (BTreeSet<String>, Vec<String>) {
    let manifest = Source::read("Cargo.toml");
    let mut external = BTreeSet::new();
    let mut members = Vec::new();
    for (table, key, value) in entries(&manifest) {
        if table == "workspace.dependencies" && folder(&key).is_none() {
            external.insert(key);
        } else if table == "workspace" && key == "members" {
            members = value.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        }
    }
    (external, members)
}

#[test]
fn the_workspace_has_the_crates_of_the_design_and_no_others() {
    let (_, mut members) = workspace();
    members.sort_unstable();
    let mut expected = CRATES.map(str::to_owned).to_vec();
    expected.sort_unstable();
    assert_eq!(members, expected, "a new crate needs a row in ARROWS and in ARCHITECTURE.md");
}

#[test]
fn crates_depend_only_along_the_allowed_arrows() {
    let mut findings = Vec::new();
    for (dir, allowed) in ARROWS {
        for dependency in dependencies(dir) {
            let Some(target) = folder(&dependency.name) else { continue };
            // A crate may list itself for its tests, to switch a feature on.
            let itself = target == dir && dependency.table == "dev-dependencies";
            if !itself && !allowed.contains(&target) {
                findings.push(format!("{dir} -> {target} ({})", dependency.table));
            }
        }
    }
    report("arrows that the design does not allow:", &findings);
}

#[test]
fn the_simulated_disk_is_never_in_a_shipped_binary() {
    let mut findings = Vec::new();
    for dir in CRATES.iter().filter(|dir| **dir != "tests") {
        for dependency in dependencies(dir) {
            let on = TEST_FEATURES.iter().any(|feature| dependency.spec.contains(feature));
            if on && dependency.table != "dev-dependencies" {
                findings.push(format!("{dir}/Cargo.toml: {}", dependency.spec));
            }
        }
    }
    report("test features belong under [dev-dependencies]:", &findings);
}

#[test]
fn the_test_server_is_in_nothing_that_ships() {
    let mut findings = Vec::new();
    for dir in CRATES.iter().filter(|dir| **dir != "tests") {
        for dependency in dependencies(dir) {
            let measures = *dir == "cli" && dependency.spec.contains("optional = true");
            if dependency.name == "akidb-s3server"
                && dependency.table != "dev-dependencies"
                && !measures
            {
                findings.push(format!("{dir}/Cargo.toml: {}", dependency.spec));
            }
        }
    }
    report("akidb-s3server belongs under [dev-dependencies]:", &findings);
    // The command measures against it, in a build that asks for that by name.
    let features = entries(&Source::read("cli/Cargo.toml"));
    let features = features.into_iter().filter(|(table, ..)| table == "features");
    let bringing: Vec<_> = features
        .filter(|(_, name, list)| name == "default" || list.contains("akidb-s3server"))
        .map(|(_, name, _)| name)
        .collect();
    assert_eq!(bringing, ["bench-s3"], "features of cli that bring akidb-s3server, or are default");
}

#[test]
fn every_crate_takes_its_lints_and_versions_from_the_workspace() {
    let mut findings = Vec::new();
    for dir in CRATES {
        let manifest = Source::read(&format!("{dir}/Cargo.toml"));
        let lints = |(table, key, value): &(String, String, String)| {
            (&**table, &**key, &**value) == ("lints", "workspace", "true")
        };
        if !entries(&manifest).iter().any(lints) {
            findings.push(format!("{dir}/Cargo.toml: [lints] workspace = true is missing"));
        }
        for dependency in dependencies(dir) {
            if !dependency.spec.contains("workspace = true") {
                findings.push(format!("{dir}/Cargo.toml: {} has its own version", dependency.name));
            }
        }
    }
    report("one table for all crates, in the root Cargo.toml:", &findings);
}

/// The rows of `docs/dependencies.md`: name to the folders that are said to use it.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let document = Source::read("docs/dependencies.md");
    let mut rows = BTreeMap::new();
    for line in document.text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, name, users, reason, _] = cells[..] else {
            panic!("docs/dependencies.md: a row has three cells: {line}");
        };
        assert!(reason.len() > 20, "docs/dependencies.md: {name} needs a reason");
        let users = users.split(',').map(|user| user.trim().to_owned()).collect();
        rows.insert(name.trim_matches('`').to_owned(), users);
    }
    rows
}

#[test]
fn every_dependency_has_a_reason_and_every_reason_a_dependency() {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for dir in CRATES {
        for dependency in dependencies(dir) {
            if folder(&dependency.name).is_none() {
                used.entry(dependency.name).or_default().insert(dir.to_owned());
            }
        }
    }
    let listed: BTreeSet<_> = used.keys().cloned().collect();
    assert_eq!(workspace().0, listed, "the workspace table lists what the crates use, no more");
    let documented = documented();
    let names: BTreeSet<_> = documented.keys().chain(used.keys()).collect();
    let differ = |name: &&&String| documented.get(**name) != used.get(**name);
    let show = |name: &&String| {
        let (page, manifests) = (documented.get(*name), used.get(*name));
        format!("{name}: the page says {page:?}, the manifests {manifests:?}")
    };
    let findings: Vec<_> = names.iter().filter(differ).map(show).collect();
    report("docs/dependencies.md is not what the manifests say:", &findings);
}
