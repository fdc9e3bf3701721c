//! Cmd.
fn main() {}
