//! An embeddable vector storage engine.
