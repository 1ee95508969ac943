//! Reading the checkout: its files, and Rust code with comments and literals blanked out, so that
//! a word in a sentence is not taken for a word in the program.

use akidb_vfs::{EntryKind, Fs, RealFs};
use std::path::{Path, PathBuf};

/// The crates, in the order in which they may depend on each other.
pub(crate) const CRATES: [&str; 9] =
    ["vfs", "handoff", "wal", "index", "s3server", "tiering", "engine", "cli", "tests"];

/// How the names of folders begin that are never entered: build output, and what is not ours.
const SKIPPED: [&str; 5] = [".", "target", "artifacts", "corpus", "node_modules"];

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate lies in the checkout")
}

/// A text file of the checkout.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// Reads one file by its path relative to the root.
    pub(crate) fn read(path: &str) -> Self {
        let bytes = akidb_vfs::read_file(&RealFs, &root().join(path))
            .unwrap_or_else(|error| panic!("{path} must be there: {error}"));
        let text = String::from_utf8(bytes).unwrap_or_else(|_| panic!("{path} is not UTF-8"));
        Self { path: path.to_owned(), text }
    }

    /// True for files that exist only for tests.
    pub(crate) fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.contains("/benches/")
            || self.path.ends_with("tests.rs")
            || self.path.ends_with("_test.rs")
    }
}

/// True if a path relative to the root exists.
pub(crate) fn exists(path: &str) -> bool {
    RealFs.metadata(&root().join(path)).is_ok()
}

/// Names in a directory relative to the root, sorted.
pub(crate) fn list(dir: &str) -> Vec<(String, EntryKind)> {
    let entries = RealFs
        .list_dir(&root().join(dir))
        .unwrap_or_else(|error| panic!("{dir} must be a directory: {error}"));
    let name = |entry: akidb_vfs::DirEntry| (entry.name.to_string_lossy().into_owned(), entry.kind);
    entries.into_iter().map(name).collect()
}

/// Every file below `dir` whose name ends in `suffix`, in order of path.
pub(crate) fn files_below(dir: &str, suffix: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut left = vec![PathBuf::from(dir)];
    while let Some(dir) = left.pop() {
        let dir = dir.to_string_lossy().into_owned();
        for (name, kind) in list(&dir) {
            let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
            match kind {
                EntryKind::Dir if SKIPPED.iter().any(|start| name.starts_with(start)) => {}
                EntryKind::Dir => left.push(PathBuf::from(path)),
                EntryKind::File if name.ends_with(suffix) => found.push(Source::read(&path)),
                EntryKind::File | EntryKind::Other => {}
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Every Rust file of the workspace.
pub(crate) fn rust_files() -> Vec<Source> {
    CRATES.iter().flat_map(|dir| files_below(dir, ".rs")).collect()
}

/// Every document of the checkout.
pub(crate) fn documents() -> Vec<Source> {
    files_below("", ".md")
}

/// The code of a Rust file: comments, strings and character literals become spaces, lines stay.
pub(crate) fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(c);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` itself if none begins there.
fn literal_end(chars: &[char], at: usize) -> usize {
    let is = |offset: usize, c: char| chars.get(at + offset) == Some(&c);
    let starts_word = at == 0 || !is_word(chars[at - 1]);
    match chars[at] {
        '/' if is(1, '/') => position(chars, at, |i| chars[i] == '\n'),
        '/' if is(1, '*') => block_comment_end(chars, at),
        '"' => string_end(chars, at),
        'r' if starts_word && (is(1, '"') || is(1, '#')) => raw_string_end(chars, at + 1, at),
        'b' if starts_word && is(1, 'r') && (is(2, '"') || is(2, '#')) => {
            raw_string_end(chars, at + 2, at)
        }
        '\'' if is(1, '\\') => position(chars, at + 3, |i| chars[i] == '\'') + 1,
        '\'' if is(2, '\'') => at + 3,
        _ => at,
    }
}

/// The first index from `from` on that fits, or the length.
fn position(chars: &[char], from: usize, fits: impl Fn(usize) -> bool) -> usize {
    (from..chars.len()).find(|i| fits(*i)).unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0_usize, start);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') if depth == 1 => return at + 2,
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `hashes` is where the `#`s begin; `none` is the answer if no string follows them (`r#name`).
fn raw_string_end(chars: &[char], hashes: usize, none: usize) -> usize {
    let open = position(chars, hashes, |i| chars[i] != '#');
    if chars.get(open) != Some(&'"') {
        return none;
    }
    let count = open - hashes;
    let closes = |i: usize| {
        let tail = chars.get(i + 1..i + 1 + count);
        chars[i] == '"' && tail.is_some_and(|tail| tail.iter().all(|c| *c == '#'))
    };
    (position(chars, open + 1, closes) + 1 + count).min(chars.len())
}

/// True for a character of an identifier.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands in `code` as a whole path (`std::fs`) or identifier, as line numbers.
pub(crate) fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let whole = |line: &str, at: usize| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    };
    code.lines()
        .zip(1..)
        .filter(|(line, _)| line.match_indices(word).any(|(at, _)| whole(line, at)))
        .map(|(_, number)| number)
        .collect()
}

/// Fails with every finding on a line of its own.
pub(crate) fn report(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}\n  {}\n", findings.join("\n  "));
}

#[test]
fn words_in_comments_and_literals_are_not_code() {
    let text =
        "a // unsafe\n/* x /* y */ unsafe */ b \"un\\\"safe\" r#\"unsafe \" \"# 'u' '\\'' c<'d>";
    let code = code_of(text);
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "b", "c<'d>"]);
    assert_eq!(lines_with("use std::fs;\nlet file = fs;\nstd::fs::read", "std::fs"), [1, 3]);
    assert!(lines_with("vectored", "vector").is_empty());
}
