//! The repository keeps what it promises about itself: layout, crate graph, sizes, words, tables, field numbers.
//!
//! The checks are in `halcyon_tests::tidy`, each beside a sample that it fails on.

use std::fs;

use halcyon_tests::tidy::{self, Finding, SourceFile, graph, layout, proto_fields, source, tables};

#[test]
fn the_top_level_holds_what_the_map_shows() {
    check(layout::top_level);
}

#[test]
fn every_rust_file_says_first_what_it_is() {
    check(layout::headers);
}

#[test]
fn no_file_is_too_long_to_read() {
    check(layout::lengths);
}

#[test]
fn crates_depend_along_the_arrows() {
    check(graph::dependencies);
}

#[test]
fn the_server_does_not_know_the_client() {
    check(graph::server_without_client);
}

#[test]
fn nothing_is_left_over() {
    check(source::left_overs);
}

#[test]
fn the_rules_read_no_clock_and_draw_no_number() {
    check(source::determinism);
}

#[test]
fn every_select_is_biased() {
    check(source::biased);
}

#[test]
fn public_names_use_one_word_for_one_idea() {
    check(source::one_word);
}

#[test]
fn every_table_is_documented_where_it_is_defined() {
    check(tables::documented);
}

#[test]
fn field_numbers_of_the_wire_are_never_used_again() {
    let path = tidy::repository().join(proto_fields::RECORD);
    let mut record = fs::read_to_string(&path).unwrap_or_default();
    let fields = proto_fields::Fields::read(&tidy::files(&tidy::repository()).unwrap());
    if std::env::var_os("REWRITE").is_some() {
        record = fields.added_to(&record);
        fs::write(&path, &record).unwrap();
    }
    report(&fields.against(&record));
}

#[track_caller]
fn check(check: fn(&[SourceFile]) -> Vec<Finding>) {
    let files = tidy::files(&tidy::repository()).expect("the repository can be read");
    assert!(files.len() > 20, "found only {} files", files.len());
    report(&check(&files));
}

#[track_caller]
fn report(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "\n{}\n", lines.join("\n"));
}
