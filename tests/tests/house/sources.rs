//! What the Rust files may look like: how long they grow, how they open, and which words a crate
//! must never know.

use super::tree::{Source, code_of, files_below, is_word, lines_with, report, rust_files};

/// Lines of a file before its tests. Aim at 400.
const FILE_LINES_MAX: usize = 500;
/// Files above the limit, with the length they must not pass. Entries only shrink and go; the
/// hard end is 600.
const FILE_RATCHET: [(&str, usize); 0] = [];
/// Lines of a function, signature and braces included. Aim at 40.
const FUNCTION_LINES_MAX: usize = 70;
/// A file longer than this opens with a `//!` paragraph.
const UNEXPLAINED_LINES_MAX: usize = 100;

/// The only files with `unsafe` in them. Each use carries a `SAFETY` comment, which clippy checks.
const UNSAFE_FILES: [&str; 7] = [
    "index/src/kernels/avx2.rs",
    "index/src/kernels/avx512.rs",
    "index/src/kernels/calls.rs",
    "index/src/kernels/neon.rs",
    "index/src/kernels/table.rs",
    "vfs/src/real.rs",
    "wal/src/backend/ring.rs",
];

/// Where bytes of the disk or of foreign files are read, or the disk is put in order from them: an
/// index out of range there is a panic that damage can reach.
const FORMAT_AND_RECOVERY: [&str; 22] = [
    "engine/src/bucket/",
    "engine/src/cold/",
    "engine/src/commit/payload.rs",
    "engine/src/cursor.rs",
    "engine/src/db/open.rs",
    "engine/src/field_index/",
    "engine/src/import/",
    "engine/src/inspect.rs",
    "engine/src/manifest/",
    "engine/src/segment/",
    "engine/src/tombstones.rs",
    "tiering/src/dead_letters.rs",
    "tiering/src/journal.rs",
    "tiering/src/local.rs",
    "tiering/src/local/",
    "tiering/src/ranges.rs",
    "tiering/src/records.rs",
    "tiering/src/s3/xml.rs",
    "wal/src/frame.rs",
    "wal/src/framed/",
    "wal/src/le.rs",
    "wal/src/log/",
];

/// What a crate must not know, and why.
struct Ignorance {
    sources: &'static str,
    words: &'static [&'static str],
    why: &'static str,
}

const IGNORANCE: [Ignorance; 5] = [
    Ignorance {
        sources: "vfs/src",
        words: &[
            "Lsn",
            "Segment",
            "Manifest",
            "Memtable",
            "PointId",
            "Metric",
            "parquet",
            "crc32fast",
        ],
        why: "the seam to the disk does not know what is in a file",
    },
    Ignorance {
        sources: "wal/src",
        words: &[
            "vector",
            "vectors",
            "Vector",
            "dim",
            "dimension",
            "Metric",
            "metric",
            "PointId",
            "Schema",
            "Collection",
            "f32",
            "f64",
            "akidb_index",
        ],
        why: "the log does not know what a vector is",
    },
    Ignorance {
        sources: "index/src",
        words: &[
            "std::fs",
            "std::io",
            "std::net",
            "std::thread",
            "std::process",
            "File",
            "Fs",
            "spawn",
            "rayon",
            "akidb_vfs",
            "Mmap",
        ],
        why: "search structures do no I/O and own no thread",
    },
    Ignorance {
        sources: "tiering/src",
        words: &["parquet", "Parquet", "arrow", "vector", "Vector", "PointId", "Metric", "f32"],
        why: "object stores do not know what a Parquet file or a vector is",
    },
    Ignorance {
        sources: "engine/src",
        words: &[
            "S3",
            "s3",
            "aws",
            "Bucket",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "SocketAddr",
            "std::net",
            "http",
            "hyper",
            "reqwest",
            "Url",
            "StatusCode",
        ],
        why: "the engine names no S3, socket or HTTP type: that is `tiering`'s",
    },
];

/// Everything before the first test module.
fn before_tests(source: &Source) -> &str {
    let end = source.text.find("\n#[cfg(test)]\nmod ").unwrap_or(source.text.len());
    source.text.get(..end).unwrap_or_default()
}

fn shipped() -> impl Iterator<Item = Source> {
    rust_files().into_iter().filter(|source| !source.is_test())
}

#[test]
fn crates_do_not_know_what_is_not_theirs() {
    let mut findings = Vec::new();
    for Ignorance { sources, words, why } in IGNORANCE {
        for source in files_below(sources, ".rs").iter().filter(|source| !source.is_test()) {
            let code = code_of(before_tests(source));
            for word in words {
                let lines = lines_with(&code, word);
                findings
                    .extend(lines.iter().map(|n| format!("{}:{n}: {word} ({why})", source.path)));
            }
        }
    }
    report("a crate names what it must not know:", &findings);
}

#[test]
fn no_format_or_recovery_module_indexes_what_it_reads() {
    let mut findings = Vec::new();
    for source in shipped().filter(|s| FORMAT_AND_RECOVERY.iter().any(|f| s.path.starts_with(f))) {
        let has_code = !lines_with(&code_of(before_tests(&source)), "fn").is_empty();
        if has_code && !source.text.contains("#![deny(clippy::indexing_slicing)]") {
            findings.push(source.path);
        }
    }
    report("lacking #![deny(clippy::indexing_slicing)]:", &findings);
    for path in FORMAT_AND_RECOVERY {
        assert!(shipped().any(|source| source.path.starts_with(path)), "{path} is gone");
    }
}

#[test]
fn unsafe_stays_in_the_listed_files() {
    let mut findings = Vec::new();
    for source in rust_files() {
        let lines = lines_with(&code_of(&source.text), "unsafe");
        if !lines.is_empty() && !UNSAFE_FILES.contains(&&*source.path) {
            findings.push(format!("{}:{}", source.path, lines[0]));
        }
    }
    report("unsafe outside UNSAFE_FILES:", &findings);
    for path in UNSAFE_FILES {
        let used = !lines_with(&code_of(&Source::read(path).text), "unsafe").is_empty();
        assert!(used, "{path} has no unsafe any more: take it off UNSAFE_FILES");
    }
}

#[test]
fn long_files_say_what_they_own() {
    let mut findings = Vec::new();
    for source in rust_files() {
        let opens = source.text.lines().find(|line| !line.starts_with("#![")).unwrap_or_default();
        if source.text.lines().count() > UNEXPLAINED_LINES_MAX && !opens.starts_with("//!") {
            findings.push(source.path);
        }
    }
    report("files over 100 lines that do not open with a `//!` paragraph:", &findings);
}

#[test]
fn files_stay_short_enough_to_hold_in_mind() {
    let mut findings = Vec::new();
    for source in shipped() {
        let lines = before_tests(&source).lines().count();
        let ratchet = FILE_RATCHET.iter().find(|(path, _)| *path == source.path);
        let max = ratchet.map_or(FILE_LINES_MAX, |(_, max)| *max);
        if lines > max {
            findings.push(format!("{}: {lines} lines, at most {max}", source.path));
        }
        if ratchet.is_some() && lines <= FILE_LINES_MAX {
            findings.push(format!("{} is short enough now: take it off FILE_RATCHET", source.path));
        }
    }
    assert!(FILE_RATCHET.iter().all(|(_, max)| *max <= 600), "600 lines is the hard end");
    report("files that are too long, tests not counted:", &findings);
}

/// The functions with a body in a file's code: name, first line, and how many lines.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let before = code[..at].chars().next_back();
        let name: String = code[at + 3..].chars().take_while(|c| is_word(*c)).collect();
        if before.is_some_and(is_word) || name.is_empty() {
            continue;
        }
        let Some(body) = body_of(&code[at..]) else { continue };
        let first = code[..at].lines().count().max(1);
        found.push((name, first, body.lines().count()));
    }
    found
}

/// From `fn` to the brace that closes its body; `None` for a declaration without one.
fn body_of(code: &str) -> Option<&str> {
    let mut nesting = 0_usize;
    let mut braces = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => nesting += 1,
            ')' | ']' => nesting = nesting.checked_sub(1)?,
            ';' if nesting == 0 && braces == 0 => return None,
            '{' => braces += 1,
            '}' if braces == 1 => return code.get(..=at),
            '}' => braces = braces.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

#[test]
fn functions_stay_short() {
    let mut findings = Vec::new();
    for source in shipped() {
        for (name, first, lines) in functions(&code_of(before_tests(&source))) {
            if lines > FUNCTION_LINES_MAX {
                findings.push(format!("{}:{first}: {name} has {lines} lines", source.path));
            }
        }
    }
    report("functions over 70 lines:", &findings);
}

#[test]
fn nothing_is_left_for_later_in_the_code() {
    // Put together here, so that this file does not hold what it looks for.
    let marks =
        [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["HA", "CK"]].map(|parts| parts.concat());
    let mut findings = Vec::new();
    for source in rust_files() {
        for mark in &marks {
            let lines = lines_with(&source.text, mark);
            findings.extend(lines.iter().map(|n| format!("{}:{n}: {mark}", source.path)));
        }
    }
    report("say it in the issue tracker, not in the code:", &findings);
}

#[test]
fn a_test_that_is_skipped_says_why() {
    let bare = ["#[ign", "ore]"].concat();
    let mut findings = Vec::new();
    for source in rust_files() {
        let numbered = source.text.lines().zip(1..).filter(|(line, _)| line.contains(&bare));
        findings.extend(numbered.map(|(_, n)| format!("{}:{n}", source.path)));
    }
    report("write the reason into the attribute:", &findings);
}

#[test]
fn the_length_of_a_function_is_counted_from_its_name_to_its_brace() {
    let code = "trait T { fn a(x: [u8; 3]); fn b() {\n { }\n}\n}\nstruct F(fn (u8)); fn c<T>(f: T) where T: X {}";
    let found = functions(code);
    assert_eq!(found, [("b".to_owned(), 1, 3), ("c".to_owned(), 5, 1)]);
}
