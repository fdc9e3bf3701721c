//! Imports and exports that are killed: the same command again loses nothing and doubles nothing.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use halcyon_tests::{cluster::Cluster, command::Running, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Lines of the file. It has no field for an id, so what was imported is known again by nothing but its place.
const LINES: usize = 20_000;

/// Fields of a line.
const FIELDS: usize = 3;

/// Change sets a second that the node takes, so that an import lasts long enough to be killed: 1,000 changes each.
const SETS_PER_SECOND: &str = "25";

/// Triples in a page of a scan, so that an export does too.
const PAGE: &str = "25";

#[test]
fn an_import_that_is_killed_goes_on_and_doubles_nothing() {
    let cluster = boot();
    let file = csv(&cluster);
    let journal = PathBuf::from(format!("{}.halcyon-import", file.display()));
    cluster
        .run(&["settings", "set", "push_sets_per_second_max", SETS_PER_SECOND])
        .ok();
    // Before the journal knows of anything, and once it does.
    let mut door = cluster.door(0, "notes");
    kill_when(import(&cluster, &file, 0), |_| {
        door.scan(1).is_ok_and(|found| found > 0)
    });
    kill_when(import(&cluster, &file, 1), |_| journal.is_file());
    cluster.run(&["settings", "reset", "push_sets_per_second_max"]).ok();
    let mut last = import(&cluster, &file, 2);
    last.succeeds(wait::LONG);
    assert!(last.notes().contains("durable from an earlier run"), "{}", last.notes());
    assert!(!journal.exists(), "a finished import leaves its journal behind");
    assert_eq!(cluster.settled_triples("notes"), (LINES * FIELDS) as u64);
    let exported = cluster.run_keyed(0, "notes", &["export"]).ok();
    assert_eq!(exported.stdout.lines().count(), LINES);
    assert_eq!(exported.stdout.matches("\"line/number\":19999").count(), 1);
}

#[test]
fn an_export_that_is_killed_goes_on_and_ends_in_the_same_file() {
    check_export(|exporting, state| {
        let before = fs::read(state).unwrap_or_default();
        // Frozen while it is looked at, and killed only between two saves of its state.
        kill_when(exporting, |exporting| {
            exporting.signal(Signal::STOP);
            let saved = fs::read(state).unwrap_or_default();
            let is_time = saved != before && serde_json::from_slice::<Value>(&saved).is_ok();
            if !is_time {
                exporting.signal(Signal::CONT);
            }
            is_time
        });
    });
}

#[test]
fn an_export_that_is_killed_while_it_saves_its_state_goes_on() {
    check_export(|exporting, state| kill_when(exporting, |_| state.is_file()));
}

#[test]
fn an_export_that_is_interrupted_at_once_says_how_to_go_on() {
    let cluster = boot();
    import(&cluster, &csv(&cluster), 0).succeeds(wait::LONG);
    cluster.run(&["settings", "set", "scan_limit_max", PAGE]).ok();
    let file = cluster.file("begun.jsonl");
    let arguments = ["export", "--output", file.to_str().unwrap_or_default()];
    let mut exporting = cluster.start_keyed(0, "notes", &arguments, "begun");
    wait::until("the export begins its file", wait::LONG, || {
        fs::metadata(&file).is_ok_and(|file| file.len() > 0).then_some(())
    });
    exporting.signal(Signal::INT);
    exporting.ends_with(130, wait::LONG);
    assert!(exporting.notes().contains("--resume"), "{}", exporting.notes());
    cluster.run(&["settings", "reset", "scan_limit_max"]).ok();
    let resume = [&arguments[..], &["--resume"]].concat();
    cluster.run_keyed(0, "notes", &resume).ok();
    let text = fs::read_to_string(&file).expect("the export is there");
    assert_eq!(text.lines().count(), LINES);
}

/// An export is begun and killed, goes on and is killed, and goes on to its end.
#[track_caller]
fn check_export(kill: impl Fn(Running, &Path)) {
    let cluster = boot();
    let file = csv(&cluster);
    import(&cluster, &file, 0).succeeds(wait::LONG);
    let (whole, halves) = (cluster.file("whole.jsonl"), cluster.file("halves.jsonl"));
    let export = |to: &Path, more: &[&str]| {
        let arguments = [&["export", "--output", to.to_str().unwrap_or_default()], more].concat();
        cluster.start_keyed(0, "notes", &arguments, "export")
    };
    export(&whole, &[]).succeeds(wait::LONG);
    let nothing = ["export", "--resume", "--output", "nowhere.jsonl"];
    cluster.run_keyed(0, "notes", &nothing).fails(2, &["--resume"]);

    cluster.run(&["settings", "set", "scan_limit_max", PAGE]).ok();
    let state = PathBuf::from(format!("{}.halcyon-export", halves.display()));
    kill(export(&halves, &[]), &state);
    kill(export(&halves, &["--resume"]), &state);
    let length = |path: &Path| fs::metadata(path).expect("the export is there").len();
    assert!(length(&halves) < length(&whole), "it was killed too late");
    cluster.run(&["settings", "reset", "scan_limit_max"]).ok();
    export(&halves, &["--resume"]).succeeds(wait::LONG);
    assert!(!state.exists(), "a finished export leaves its state behind");
    let read = |path: &Path| fs::read(path).expect("the export is there");
    assert!(read(&halves) == read(&whole), "the resumed export is another file");
}

#[test]
fn a_full_copy_that_is_killed_is_made_whole_by_the_same_command() {
    let mut cluster = boot();
    import(&cluster, &csv(&cluster), 0).succeeds(wait::LONG);
    // A deletion travels as well.
    cluster.door(0, "notes").write_entities(0, 10);
    cluster.run_keyed(0, "notes", &["delete", "e3"]).ok();
    let full = cluster.file("full.jsonl");
    let full = full.to_str().unwrap_or_default();
    cluster
        .run_keyed(0, "notes", &["export", "--full", "--output", full])
        .ok();
    cluster.tenant("copy", &["eu-west"]);
    let import_full = ["import", "--full", full];
    let mut door = cluster.door(0, "copy");
    kill_when(cluster.start_keyed(0, "copy", &import_full, "copy"), |_| {
        door.scan(1).is_ok_and(|found| found > 0)
    });
    cluster.run_keyed(0, "copy", &import_full).ok();
    let (original, copy) = (cluster.settle("notes"), cluster.settle("copy"));
    assert_eq!(copy["replicas"][0]["triples"], (LINES * FIELDS + 9) as u64);
    assert_eq!(
        copy["replicas"][0]["fingerprint"],
        original["replicas"][0]["fingerprint"]
    );
    assert_eq!(door.get("e3").map(|fields| fields.len()).ok(), Some(0));
}

#[test]
fn bad_rows_are_told_to_programs_with_their_lines() {
    let cluster = boot();
    let path = cluster.file("bad.csv");
    fs::write(&path, "id,half\na,0.5\nb\nc,1.5,2\n").expect("a temporary directory can be written to");
    let path = path.to_str().unwrap_or_default();
    let arguments = ["import", path, "--type", "line", "--id", "id", "--json"];
    let refused = cluster.run_keyed(0, "notes", &arguments).fails(1, &[]);
    let told: Value = serde_json::from_str(&refused.stderr).expect("all that is told is one JSON object");
    assert_eq!((&told["bad_rows"], &told["exit"]), (&json!(2), &json!(1)), "{told}");
    let lines = |told: &Value| -> Vec<Value> {
        let rows = told["first_bad_rows"].as_array().into_iter().flatten();
        rows.map(|row| row["line"].clone()).collect()
    };
    assert_eq!(lines(&told), [3, 4], "{told}");
    assert!(told["first_bad_rows"][0]["reason"].is_string(), "{told}");

    let without = [&arguments[..], &["--skip-bad"]].concat();
    let done = cluster.run_keyed(0, "notes", &without).ok();
    assert_eq!(done.stderr, "");
    let told = done.json();
    assert_eq!((&told["rows"], &told["bad_rows"]), (&json!(1), &json!(2)), "{told}");
    assert_eq!(lines(&told), [3, 4], "{told}");
}

#[track_caller]
fn boot() -> Cluster {
    let mut cluster = Cluster::boot(&["eu-west"]);
    cluster.tenant("notes", &["eu-west"]);
    cluster
}

#[track_caller]
fn csv(cluster: &Cluster) -> PathBuf {
    let path = cluster.file("lines.csv");
    let mut text = "number,text,half\n".to_owned();
    for at in 0..LINES {
        writeln!(text, "{at},\"line {at}, of the file\",{}.5", at / 2).expect("a string has room");
    }
    fs::write(&path, text).expect("a temporary directory can be written to");
    path
}

#[track_caller]
fn import(cluster: &Cluster, file: &Path, run: usize) -> Running {
    let arguments = ["import", file.to_str().unwrap_or_default(), "--type", "line"];
    cluster.start_keyed(0, "notes", &arguments, &format!("import-{run}"))
}

/// Waits for the moment, and demands that the command was not done by then.
#[track_caller]
fn kill_when(mut running: Running, mut is_time: impl FnMut(&Running) -> bool) {
    wait::until("the command is in the middle", wait::LONG, || {
        assert!(
            !running.has_ended(),
            "it ended before it could be killed: {}",
            running.notes()
        );
        is_time(&running).then_some(())
    });
    running.kill();
}
