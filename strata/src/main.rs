//! Strata: the whole cloud-native stack in one binary.
fn main() {}
