//! The command line and long reads: which node is asked, what becomes of an answer that nobody reads, and of a scan whose
//! replica is lost in the middle.

use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    io::{BufRead, BufReader, Read},
    process::{Child, Stdio},
};

use halcyon_client::ScanQuery;
use halcyon_tests::{
    cluster::{Cluster, REGIONS},
    command, wait,
};

/// Entities of one field: far more text than a pipe holds.
const ENTITIES: usize = 10_000;

/// Triples in a page.
const PAGE: u32 = 500;

#[test]
fn output_that_nobody_reads_ends_a_command_and_says_so_where_it_is_lost() {
    let mut cluster = filled(&["eu-west"]);
    let mut reader_leaves = scan(&cluster, Stdio::piped(), "1m");
    let (first, rest) = first_line(&mut reader_leaves);
    assert!(first.starts_with("SUBJECT"), "{first}");
    drop(rest);
    assert_eq!(ended(reader_leaves), (Some(141), String::new()));

    let full = OpenOptions::new().write(true).open("/dev/full");
    let full = scan(&cluster, full.expect("this is Linux").into(), "1m");
    let (code, said) = ended(full);
    assert!(code == Some(1) && said.contains("cannot be written"), "{code:?} {said}");

    // What is read is shown as it comes: there is only one node, and it dies in the middle.
    let mut cut = scan(&cluster, Stdio::piped(), "15s");
    let (_, mut rest) = first_line(&mut cut);
    cluster.nodes[0].kill();
    let mut shown = String::new();
    rest.read_to_string(&mut shown).expect("the output is text");
    let lines = shown.lines().count();
    assert!(0 < lines && lines < ENTITIES, "{lines} of {ENTITIES}");
    assert_eq!(ended(cut).0, Some(3));
}

#[test]
fn a_scan_whose_replica_is_lost_goes_on_at_another_and_shows_nothing_twice() {
    let mut cluster = filled(&["eu-west", "us-east"]);
    for query in [
        ScanQuery::default(),
        ScanQuery {
            predicate: Some("item/title".parse().expect("a field's name")),
            ..ScanQuery::default()
        },
    ] {
        let program = cluster.program("notes");
        let query = ScanQuery { limit: PAGE, ..query };
        let mut pages = program.pages(query.clone());
        let mut shown: Vec<String> = Vec::new();
        let mut lost = None;
        while let Some(entities) = pages.page() {
            shown.extend(entities);
            if lost.is_none() {
                let at = program.node();
                cluster.nodes[at].kill();
                lost = Some(at);
            }
        }
        assert_eq!(pages.moves(), 1, "{query:?}");
        let different: BTreeSet<&String> = shown.iter().collect();
        assert_eq!((shown.len(), different.len()), (ENTITIES, ENTITIES), "{query:?}");
        program.close();
        cluster.start(lost.expect("there was a page"));
    }
}

#[test]
fn a_pinned_command_is_answered_by_the_node_it_names_and_a_missing_entity_says_who_was_asked() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("notes", &["eu-west", "ap-south"]);
    for at in [0, 2, 0, 2] {
        let set = ["--json", "set", "first", "note/text=hello", "--pin"];
        let taken = cluster.run_keyed(at, "notes", &set).ok().json();
        let origin = taken["origin"].as_str().unwrap_or_default();
        assert!(
            origin.starts_with(&format!("n{}", at + 1)),
            "{origin} took what n{} was told",
            at + 1
        );
        let missing = cluster.run_keyed(at, "notes", &["get", "nothing", "--pin"]);
        missing.fails(1, &[&format!("n{} in {}", at + 1, REGIONS[at]), "on its way"]);
    }
    let elsewhere = cluster.run_keyed(1, "notes", &["get", "first", "--pin"]);
    elsewhere.fails(4, &["n2 does not hold tenant notes", "n1 in eu-west"]);
    cluster.run_keyed(1, "notes", &["get", "first"]).ok();
}

#[test]
fn locate_says_which_replicas_do_not_answer() {
    let mut cluster = Cluster::boot(&["eu-west", "us-east"]);
    cluster.tenant("notes", &["eu-west", "us-east"]);
    cluster.nodes[1].kill();
    wait::until("n1 misses n2", wait::SOON, || {
        let shown = cluster.run_keyed(0, "notes", &["locate"]).ok().stdout;
        let line = |node: &str| shown.lines().find(|line| line.starts_with(node)).map(str::to_owned);
        let (first, second) = (line("n1")?, line("n2")?);
        assert!(first.contains("yes"), "{shown}");
        (second.contains("unreachable for ") && !second.contains("yes")).then_some(())
    });
}

/// A tenant with many entities in these regions, which holds pages small.
#[track_caller]
fn filled(regions: &[&str]) -> Cluster {
    let mut cluster = Cluster::boot(regions);
    cluster.tenant("notes", regions);
    cluster.door(0, "notes").write_entities(0, ENTITIES);
    cluster.settle("notes");
    let page = PAGE.to_string();
    cluster.run(&["settings", "set", "scan_limit_max", &page]).ok();
    cluster
}

/// Starts a scan of everything at the first node.
#[track_caller]
fn scan(cluster: &Cluster, stdout: Stdio, timeout: &str) -> Child {
    let address = cluster.address(0);
    let variables = [
        ("HALCYON_CLUSTER", address.as_str()),
        ("HALCYON_KEY", cluster.key("notes")),
    ];
    let arguments = ["scan", "--tenant", "notes", "--all", "--timeout", timeout];
    command::piped(&arguments, &variables, stdout)
}

/// The first line, and whoever reads the rest.
#[track_caller]
fn first_line(child: &mut Child) -> (String, impl Read + use<>) {
    let mut reader = BufReader::new(child.stdout.take().expect("its output is a pipe"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("the output is text");
    (line, reader)
}

/// The code, and what it said on stderr.
#[track_caller]
fn ended(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("a child can be waited for");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}
