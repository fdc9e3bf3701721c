//! A real data set goes in, is the same everywhere, and comes out again.

use std::fs;

use halcyon_tests::{
    cluster::{Cluster, REGIONS},
    data,
};

#[test]
fn a_real_data_set_is_imported_replicated_and_exported() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("tracker", &REGIONS);
    let folder = data::folder(cluster.path());
    for sheet in data::SHEETS {
        import(&cluster, &folder.join(sheet.file), sheet);
    }
    let agreed = cluster.settle("tracker");
    let triples = agreed["replicas"][0]["triples"].as_u64().unwrap_or_default();
    assert!(triples > 5_000, "only {triples} triples");

    // The same files again change nothing.
    for sheet in data::SHEETS {
        import(&cluster, &folder.join(sheet.file), sheet);
    }
    assert_eq!(cluster.settle("tracker")["replicas"][0]["triples"], triples);

    let plain = cluster.file("plain.jsonl");
    cluster
        .run_keyed(
            2,
            "tracker",
            &["export", "--output", plain.to_str().unwrap_or_default()],
        )
        .ok();
    let lines = fs::read_to_string(&plain)
        .expect("export wrote its file")
        .lines()
        .count();
    assert!(lines > 1_000, "only {lines} entities");

    let full = cluster.file("full.jsonl");
    cluster
        .run_keyed(
            1,
            "tracker",
            &["export", "--full", "--output", full.to_str().unwrap_or_default()],
        )
        .ok();
    cluster.tenant("copy", &REGIONS);
    cluster
        .run_keyed(0, "copy", &["import", "--full", full.to_str().unwrap_or_default()])
        .ok();
    let copied = cluster.settle("copy");
    assert_eq!(copied["replicas"][0]["triples"], triples);
    let original = cluster.settle("tracker");
    assert_eq!(
        copied["replicas"][0]["fingerprint"],
        original["replicas"][0]["fingerprint"]
    );
}

#[track_caller]
fn import(cluster: &Cluster, file: &std::path::Path, sheet: data::Sheet) {
    let mut arguments = vec!["import", file.to_str().unwrap_or_default(), "--type", sheet.entity_type];
    for reference in sheet.refs {
        arguments.extend(["--ref", reference]);
    }
    cluster.run_keyed(0, "tracker", &arguments).ok();
}
