//! stub
use serde_json::Value;
use crate::schema::FieldType;
pub(crate) trait FieldIndex {}
#[derive(Debug)]
pub(crate) struct MemFieldIndex;
impl MemFieldIndex { pub(crate) fn new(_: FieldType) -> Self { Self } pub(crate) fn insert(&mut self, _: u32, _: Option<&Value>) {} pub(crate) fn encode(&self, _: u32) -> Vec<u8> { vec![] } }
impl FieldIndex for MemFieldIndex {}
