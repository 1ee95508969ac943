//! The XML of S3, read leniently and written strictly. Servers differ in root elements, namespaces
//! and order; what matters is which text stands under which name. Hostile or damaged input ends as
//! `None` or a missing field, never as a panic, and nesting is bounded.

#![deny(clippy::indexing_slicing)]

use quick_xml::{Reader, escape, events::Event};
use std::fmt::Write;

/// Nesting beyond what any answer of S3 has.
const DEPTH_MAX: usize = 16;

/// An element: its name without namespace, its own text, and what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// The first child of this name.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of this name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first child of this name.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.trim())
    }

    /// The number in the first child of this name.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// True if the first child of this name says so.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }
}

/// Reads a document; `None` if it is none.
pub(super) fn parse(bytes: &[u8]) -> Option<Element> {
    let mut reader = Reader::from_reader(bytes);
    let mut open: Vec<Element> = Vec::new();
    let named = |name: &[u8]| Element {
        name: String::from_utf8_lossy(name).into_owned(),
        ..Element::default()
    };
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) if open.len() < DEPTH_MAX => {
                open.push(named(start.local_name().as_ref()));
            }
            Event::Empty(empty) => {
                open.last_mut()?.children.push(named(empty.local_name().as_ref()));
            }
            Event::Text(text) => {
                if let Some(element) = open.last_mut() {
                    element.text.push_str(&text.decode().ok()?);
                }
            }
            Event::CData(text) => open.last_mut()?.text.push_str(&text.decode().ok()?),
            Event::GeneralRef(name) => {
                let text = match name.resolve_char_ref().ok()? {
                    Some(character) => character.to_string(),
                    None => escape::resolve_predefined_entity(&name.decode().ok()?)?.to_owned(),
                };
                open.last_mut()?.text.push_str(&text);
            }
            Event::End(_) => {
                let done = open.pop()?;
                match open.last_mut() {
                    Some(parent) => parent.children.push(done),
                    None => return Some(done),
                }
            }
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::Start(_) | Event::DocType(_) | Event::Eof => return None,
        }
    }
}

/// Appends an element with text.
pub(super) fn write_text(out: &mut String, name: &str, text: &str) {
    let text = escape::escape(text);
    // Writing into a string does not fail.
    let _ = write!(out, "<{name}>{text}</{name}>");
}

/// Undoes the URL encoding of keys in listings, in which keys that XML cannot hold are asked for.
pub(super) fn decode_key(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        (rest, bytes) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let value = digit(*high)? * 16 + digit(*low)?;
                bytes.push(u8::try_from(value).ok()?);
                (tail, bytes)
            }
            (b'+', tail) => {
                bytes.push(b' ');
                (tail, bytes)
            }
            (byte, tail) => {
                bytes.push(*byte);
                (tail, bytes)
            }
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn elements_are_found_whatever_namespace_and_order() {
        let text = br#"<?xml version="1.0" encoding="UTF-8"?>
            <a:R xmlns:a="http://x"><Key>a&amp;b&#x21;<![CDATA[<c>]]></Key><E/>
            <IsTruncated>true</IsTruncated><C><Size>12</Size></C><C><Size>x</Size></C></a:R>"#;
        let root = parse(text).unwrap();
        assert_eq!(root.name, "R");
        assert_eq!(root.text("Key"), Some("a&b!<c>"));
        assert_eq!(root.text("E"), Some(""));
        assert!(root.is_true("IsTruncated") && !root.is_true("Key"));
        let sizes: Vec<_> = root.all("C").map(|c| c.number("Size")).collect();
        assert_eq!(sizes, [Some(12), None]);
    }

    #[test]
    fn what_is_no_document_is_none() {
        let deep = "<a>".repeat(100_000);
        for bad in ["", "text", "<a>", "<a></b>", "<a>&unknown;</a>", "</a>", "<!DOCTYPE x>", &deep]
        {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:.20}");
        }
    }

    #[test]
    fn encoded_keys_are_decoded_and_broken_ones_are_none() {
        assert_eq!(decode_key("a%3D1/b+c"), Some("a=1/b c".to_owned()));
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert!(decode_key(bad).is_none() || bad.len() < 3, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = decode_key(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn what_is_written_is_read_back(text in "[ -~]{0,40}") {
            let mut out = String::from("<R>");
            write_text(&mut out, "Key", &text);
            out.push_str("</R>");
            let root = parse(out.as_bytes()).unwrap();
            prop_assert_eq!(root.text("Key"), Some(text.trim()));
        }
    }
}
