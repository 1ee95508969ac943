//! The `akidb` command.
fn main() {}
