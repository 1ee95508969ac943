//! What the documents may claim: every path and test they name exists, every file format has its
//! page and its golden file, and the README's command is the one that is run.

use super::tree::{CRATES, Source, documents, exists, is_word, list, report, rust_files};
use akidb_vfs::EntryKind;
use std::collections::BTreeSet;

/// Folders that a path in a document may begin with.
const TOP: [&str; 15] = [
    "vfs", "handoff", "wal", "index", "s3server", "tiering", "engine", "cli", "tests", "docs",
    "data", "scripts", ".ci", "fuzz", "benches",
];

/// The lines of a document outside its code blocks, with their numbers.
fn prose(document: &Source) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(document.text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push((number, line));
        }
    }
    lines
}

/// The code blocks of a document that are marked with `language`.
fn blocks(document: &Source, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let parts = document.text.split(&fence).skip(1);
    parts.filter_map(|part| part.split("```").next()).map(str::to_owned).collect()
}

/// What stands in backticks on a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// True for text that names a file of the repository. Files of a database directory
/// (`wal/000000000001.wal`) and patterns are not.
fn names_a_path(text: &str) -> bool {
    let plain = |c: char| is_word(c) || matches!(c, '/' | '.' | '-');
    let Some((top, rest)) = text.split_once('/') else { return false };
    let of_a_database = [".wal", ".seg", ".tmb", ".tmp"].iter().any(|end| text.ends_with(end));
    TOP.contains(&top) && !rest.is_empty() && text.chars().all(plain) && !of_a_database
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Joins a link to the folder of its document.
fn resolve(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[test]
fn every_path_that_a_document_names_exists() {
    let mut findings = Vec::new();
    for document in documents() {
        for (number, line) in prose(&document) {
            for path in quoted(line).filter(|text| names_a_path(text)) {
                if !exists(path) {
                    findings.push(format!("{}:{number}: {path}", document.path));
                }
            }
        }
    }
    report("paths that are not there:", &findings);
}

#[test]
fn every_link_between_documents_resolves() {
    let mut findings = Vec::new();
    for document in documents() {
        for (number, line) in prose(&document) {
            let links = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
                let path = link.split('#').next().unwrap_or_default();
                if !exists(&resolve(folder_of(&document.path), path)) {
                    findings.push(format!("{}:{number}: {link}", document.path));
                }
            }
        }
    }
    report("links that lead nowhere:", &findings);
}

#[test]
fn every_document_that_the_code_names_exists() {
    let mut findings = Vec::new();
    for source in rust_files() {
        for (number, line) in (1..).zip(source.text.lines()) {
            for path in quoted(line).filter(|text| text.starts_with("docs/") && names_a_path(text))
            {
                if !exists(path) {
                    findings.push(format!("{}:{number}: {path}", source.path));
                }
            }
        }
    }
    report("documents that are not there:", &findings);
}

/// True for a name long enough to be that of a test: `d4_a_batch_is_all_or_nothing`.
fn looks_like_a_test(text: &str) -> bool {
    let snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.chars().all(snake) && text.matches('_').count() >= 3
}

#[test]
fn every_test_that_a_document_names_exists() {
    let code: String = rust_files().into_iter().map(|source| source.text).collect();
    let mut findings = Vec::new();
    for document in documents() {
        for (number, line) in prose(&document) {
            for name in quoted(line).filter(|text| looks_like_a_test(text)) {
                if !code.contains(&format!("fn {name}(")) && !code.contains(&format!("{name}:")) {
                    findings.push(format!("{}:{number}: {name}", document.path));
                }
            }
        }
    }
    report("tests (or fields) that are not there:", &findings);
}

#[test]
fn every_promise_names_its_test_or_says_that_none_proves_it() {
    let document = Source::read("docs/durability.md");
    let code: String = rust_files().into_iter().map(|source| source.text).collect();
    for number in 1..=13 {
        let heading = format!("\n### D{number} ");
        let section = document.text.split(&heading).nth(1);
        let section = section.unwrap_or_else(|| panic!("docs/durability.md: no section D{number}"));
        let section = section.split("\n##").next().unwrap_or_default();
        let proof = section.split("Proved by").nth(1).unwrap_or_default();
        let named = quoted(proof).any(|name| code.contains(&format!("fn {name}(")));
        let unproved = section.contains("Not proved yet");
        assert!(
            named || unproved,
            "D{number}: name a test after \"Proved by\" or say \"Not proved yet\""
        );
    }
}

#[test]
fn the_readme_names_the_commands_that_ci_runs() {
    let script = Source::read(".ci/run");
    let readme = Source::read("README.md");
    let commands: BTreeSet<_> = blocks(&readme, "sh")
        .iter()
        .flat_map(|block| block.lines().map(str::trim).map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| line.starts_with("cargo "))
        .collect();
    // The release build of the first would double what is compiled; that it runs is the same.
    let wanted: BTreeSet<_> = commands.iter().map(|line| line.replace(" --release", "")).collect();
    let [show, test] = &wanted.iter().collect::<Vec<_>>()[..] else {
        panic!("the README has two commands, in `sh` blocks: {commands:?}");
    };
    assert!(show.starts_with("cargo run") && test.starts_with("cargo test"), "{commands:?}");
    for command in [show, test] {
        let run = script.text.lines().any(|line| line.trim() == *command);
        assert!(run, ".ci/run must have the line {command:?}");
    }
}

/// The rows of the table in `docs/format/README.md`: page and golden file of each kind.
fn formats() -> Vec<(String, String)> {
    let index = Source::read("docs/format/README.md");
    let mut rows = Vec::new();
    for line in index.text.lines().filter(|line| line.starts_with("| [")) {
        let page = line.split("](").nth(1).and_then(|rest| rest.split(')').next());
        let golden = quoted(line).find(|text| text.contains("/golden/"));
        let (Some(page), Some(golden)) = (page, golden) else {
            panic!("docs/format/README.md: a row names a page and a golden file: {line}");
        };
        rows.push((page.to_owned(), golden.to_owned()));
    }
    rows
}

#[test]
fn every_file_format_has_a_page_and_a_golden_file() {
    let formats = formats();
    let mut pages: BTreeSet<String> = formats.iter().map(|(page, _)| page.clone()).collect();
    pages.insert("README.md".to_owned());
    let there: BTreeSet<String> = list("docs/format").into_iter().map(|(name, _)| name).collect();
    assert_eq!(pages, there, "the index (left) and the folder docs/format (right)");
    let missing: Vec<_> =
        formats.into_iter().map(|(_, golden)| golden).filter(|golden| !exists(golden)).collect();
    report("golden files that are not there:", &missing);
}

#[test]
fn every_golden_file_is_opened_by_a_test() {
    let code: String = rust_files().into_iter().map(|source| source.text).collect();
    let findings: Vec<_> = ["engine/tests/golden", "tiering/tests/golden", "wal/tests/golden"]
        .iter()
        .flat_map(|dir| list(dir))
        .map(|(name, _)| name)
        .filter(|name| !code.contains(&**name))
        .collect();
    report("golden files that no test names:", &findings);
}

#[test]
fn every_format_page_has_an_example_and_a_history() {
    let mut findings = Vec::new();
    for (page, _) in formats() {
        let text = Source::read(&format!("docs/format/{page}")).text;
        if !text.contains("\n```") || !text.contains("\n## Versions") {
            findings.push(page);
        }
    }
    report("format pages without a worked example or a version history:", &findings);
}

/// Where a stranger starts to read, and the type there.
const ENTRY_TYPES: [(&str, &str); 33] = [
    ("engine/src/api/db.rs", "Db"),
    ("engine/src/api/collection.rs", "Collection"),
    ("engine/src/api/builder.rs", "DbBuilder"),
    ("engine/src/settings.rs", "Settings"),
    ("engine/src/point.rs", "Point"),
    ("engine/src/id.rs", "PointId"),
    ("engine/src/schema.rs", "Schema"),
    ("engine/src/filter/tree.rs", "Filter"),
    ("engine/src/error.rs", "Error"),
    ("engine/src/import/mod.rs", "ParquetImport"),
    ("vfs/src/real.rs", "RealFs"),
    ("vfs/src/sim/fs.rs", "SimFs"),
    ("wal/src/group/handle.rs", "GroupCommit"),
    ("wal/src/log/mod.rs", "Log"),
    ("wal/src/framed/scan.rs", "FramedFile"),
    ("handoff/src/tier.rs", "TierCell"),
    ("tiering/src/access.rs", "AccessTracker"),
    ("tiering/src/batch.rs", "Batcher"),
    ("tiering/src/breaker.rs", "CircuitBreaker"),
    ("tiering/src/dead_letters.rs", "DeadLetterQueue"),
    ("tiering/src/local.rs", "LocalStore"),
    ("tiering/src/policy/mod.rs", "TierPolicy"),
    ("tiering/src/retrying/mod.rs", "RetryingStore"),
    ("tiering/src/shipper/mod.rs", "Shipper"),
    ("tiering/src/upload/mod.rs", "Uploader"),
    ("tiering/src/key.rs", "ObjectKey"),
    ("tiering/src/capabilities.rs", "Capabilities"),
    ("tiering/src/faulty/mod.rs", "FaultyStore"),
    ("tiering/src/s3/mod.rs", "S3Store"),
    ("tiering/src/s3/settings.rs", "S3Settings"),
    ("tiering/src/sleep.rs", "TimerSleep"),
    ("index/src/metric.rs", "Scorer"),
    ("index/src/topk.rs", "TopK"),
];

#[test]
fn every_entry_type_has_a_running_example() {
    let mut findings = Vec::new();
    for (path, name) in ENTRY_TYPES {
        let source = Source::read(path);
        let declares = |line: &str| {
            let rest = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum "));
            rest.is_some_and(|rest| rest.split(|c| !is_word(c)).next() == Some(name))
        };
        let lines: Vec<_> = source.text.lines().collect();
        let at = lines.iter().position(|line| declares(line));
        let at = at.unwrap_or_else(|| panic!("{path} declares no {name} any more"));
        // The doc comment, and the attributes between it and the declaration.
        let above =
            lines.iter().take(at).rev().take_while(|line| !line.is_empty() && **line != "}");
        if !above.into_iter().any(|line| line.trim() == "/// ```") {
            findings.push(format!("{path}: {name}"));
        }
    }
    let blocking = Source::read("engine/src/api/blocking.rs").text;
    assert!(blocking.contains("\n//! ```\n"), "akidb::blocking has no example");
    report("entry types without an example that runs:", &findings);
}

#[test]
fn every_magic_number_is_on_a_page() {
    let documents = documents();
    let pages: Vec<_> =
        documents.iter().filter(|document| document.path.starts_with("docs/format/")).collect();
    let mut findings = Vec::new();
    for source in rust_files().iter().filter(|source| !source.is_test()) {
        let shipped = source.text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
        for magic in shipped.split("b\"AK").skip(1).filter_map(|rest| rest.split('"').next()) {
            let magic = format!("AK{magic}");
            if !pages.iter().any(|page| page.text.contains(&magic)) {
                findings.push(format!("{}: {magic}", source.path));
            }
        }
    }
    report("file kinds without a page in docs/format:", &findings);
}

#[test]
fn the_code_map_knows_every_module() {
    let map = Source::read("ARCHITECTURE.md");
    let mut findings = Vec::new();
    for dir in CRATES {
        let heading = format!("\n### `{dir}/`");
        let section = map.text.split(&heading).nth(1).unwrap_or_default();
        let section = section.split("\n##").next().unwrap_or_default();
        let named: BTreeSet<_> = section.lines().flat_map(quoted).collect();
        for (name, kind) in list(&format!("{dir}/src")) {
            let module = name.strip_suffix(".rs").unwrap_or(&name);
            let root = matches!(module, "lib" | "main" | "tests");
            if (kind == EntryKind::Dir || name.ends_with(".rs")) && !root && !named.contains(module)
            {
                findings.push(format!("{dir}/src/{name}"));
            }
        }
    }
    report("modules that the code map in ARCHITECTURE.md does not name:", &findings);
}

#[test]
fn the_changelog_knows_the_version() {
    let manifest = Source::read("Cargo.toml");
    let version = manifest.text.lines().find_map(|line| line.strip_prefix("version = "));
    let version = version.unwrap_or_default().trim_matches('"');
    let known = Source::read("CHANGELOG.md").text.contains(&format!("\n## {version}"));
    assert!(known, "CHANGELOG.md has no section for {version}");
}

#[test]
fn paths_are_told_from_other_quoted_text() {
    for path in ["vfs/src/real.rs", "docs/format/wal.md", ".ci/run", "tests/tests/house"] {
        assert!(names_a_path(path), "{path}");
    }
    for other in ["cargo test", "wal/", "wal/000000000001.wal", "a/b", "and/or", "docs/*.md"] {
        assert!(!names_a_path(other), "{other}");
    }
    assert_eq!(resolve("docs/format", "../durability.md"), "docs/durability.md");
}

#[test]
fn the_evidence_table_is_the_sum_of_the_ledger() {
    let page = Source::read("docs/durability.md").text;
    let shown = page.split_once("<!-- evidence -->").and_then(|(_, rest)| {
        rest.split_once("<!-- /evidence -->").map(|(table, _)| table.trim().to_owned())
    });
    let ledger = akidb_tests::evidence::read_ledger(&Source::read("docs/evidence.jsonl").text);
    let table = akidb_tests::evidence::table(&ledger.expect("the ledger is readable"));
    assert_eq!(
        shown.as_deref(),
        Some(table.trim()),
        "put the output of `evidence ledger` between the marks in docs/durability.md"
    );
}
