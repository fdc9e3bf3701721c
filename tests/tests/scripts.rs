//! Behaviour across nodes, as text scripts with recorded answers. See `halcyon_tests::script` for the commands.

use std::path::Path;

use halcyon_tests::script;

#[test]
fn merging_does_not_depend_on_who_hears_what_first() {
    check("merge");
}

#[test]
fn a_node_that_was_away_ends_equal_and_brings_nothing_back() {
    check("away");
}

#[test]
fn a_tenant_is_only_where_it_was_placed() {
    check("placement");
}

#[test]
fn a_killed_node_comes_back_with_all_that_it_acknowledged() {
    check("restart");
}

#[test]
fn nodes_come_and_go_for_good_and_all_data_is_there_at_the_end() {
    check("life");
}

#[track_caller]
fn check(name: &str) {
    script::check(&Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/{name}.txt")));
}
