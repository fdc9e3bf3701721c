//! Rows of each form become the changes that they mean.

use std::path::Path;

use super::*;
use crate::cli::import::{rows, survey};

fn changes(name: &str, content: &str, options: &FieldOptions) -> Result<Vec<Result<Vec<Change>, BadRow>>, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    map(&path, options)
}

fn map(path: &Path, options: &FieldOptions) -> Result<Vec<Result<Vec<Change>, BadRow>>, String> {
    let format = rows::detect(path).unwrap();
    let survey = survey::survey(path, format).unwrap();
    let mapping = Mapping::new(options, &survey)?;
    let rows = rows::open(path, format).unwrap();
    Ok(rows
        .zip(0..)
        .map(|(row, at)| row.and_then(|row| mapping.changes(at, &row)))
        .collect())
}

fn options() -> FieldOptions {
    FieldOptions {
        entity_type: Some("issue".into()),
        separator: ";".into(),
        ..FieldOptions::default()
    }
}

fn entity(id: &str) -> EntityId {
    EntityId::new(id).unwrap()
}

fn set(subject: &str, field: &str, value: Value) -> Change {
    Change::Set {
        subject: entity(subject),
        predicate: Predicate::new(&format!("issue/{field}")).unwrap(),
        value,
    }
}

fn add(subject: &str, field: &str, value: Value) -> Change {
    Change::Add {
        subject: entity(subject),
        predicate: Predicate::new(&format!("issue/{field}")).unwrap(),
        value,
    }
}

#[test]
fn a_csv_row_becomes_an_entity_and_empty_fields_stay_unset() {
    let options = FieldOptions {
        refs: [("creator".into(), "user".into())].into(),
        dates: vec!["created".into()],
        many: [("tags".into(), None)].into(),
        ..options()
    };
    let content = "id,title,open,n,created,creator,tags\na,Hello,true,3,1726270936000.0,u1,x; y\nb,,,,,,\n";
    let rows = changes("a.csv", content, &options).unwrap();
    assert_eq!(
        rows[0].as_ref().unwrap()[1..],
        [
            set("a", "title", Value::string("Hello")),
            set("a", "open", Value::Boolean(true)),
            set("a", "n", Value::number(3.0).unwrap()),
            set("a", "created", Value::Date(1_726_270_936_000)),
            set("a", "creator", Value::Ref(entity("u1"))),
            add("a", "tags", Value::string("x")),
            add("a", "tags", Value::string("y")),
        ]
    );
    assert_eq!(*rows[1].as_ref().unwrap(), [Change::Create { subject: entity("b") }]);
}

#[test]
fn a_table_of_pairs_merges_into_sets_of_references() {
    let options = FieldOptions {
        id: Some("issueID".into()),
        many: [("labelID".into(), Some("label".into()))].into(),
        rename: [("labelID".into(), "labels".into())].into(),
        skip: vec!["projectID".into()],
        merge: true,
        ..options()
    };
    let rows = changes("a.csv", "labelID,issueID,projectID\nl1,a,p\nl2,a,p\n", &options).unwrap();
    assert_eq!(
        *rows[0].as_ref().unwrap(),
        [add("a", "labels", Value::Ref(entity("l1")))]
    );
    assert_eq!(
        *rows[1].as_ref().unwrap(),
        [add("a", "labels", Value::Ref(entity("l2")))]
    );
}

#[test]
fn json_keeps_its_own_types_and_null_is_unset() {
    let content = r#"[{"id":1,"n":2,"s":"x","no":null,"o":{"a":1},"l":[1]}]"#;
    let rows = changes("a.json", content, &options()).unwrap();
    assert_eq!(
        rows[0].as_ref().unwrap()[1..],
        [
            set("1", "n", Value::number(2.0).unwrap()),
            set("1", "s", Value::string("x")),
            set("1", "o", Value::Json("{\"a\":1}".into())),
            set("1", "l", Value::Json("[1]".into())),
        ]
    );
}

#[test]
fn an_export_reads_back_without_options() {
    let content = r#"{"id":"a","issue/created":{"$date":5},"issue/labels":[{"$ref":"x"},{"$ref":"y"}]}"#;
    let rows = changes("a.jsonl", content, &FieldOptions::default()).unwrap();
    assert_eq!(
        rows[0].as_ref().unwrap()[1..],
        [
            set("a", "created", Value::Date(5)),
            add("a", "labels", Value::Ref(entity("x"))),
            add("a", "labels", Value::Ref(entity("y"))),
        ]
    );
}

#[test]
fn rows_without_an_id_get_the_same_ids_on_every_run() {
    let run = || changes("a.csv", "title\nx\ny\n", &options()).unwrap();
    let (first, second) = (run(), run());
    assert_eq!(first, second);
    assert_ne!(first[0], first[1]);
}

#[test]
fn bad_rows_say_where_and_why() {
    let dates = FieldOptions {
        dates: vec!["when".into()],
        ..options()
    };
    let rows = changes("a.csv", "id,when\na,soon\n,5\n", &dates).unwrap();
    assert_eq!(rows[0].as_ref().unwrap_err().line, 2);
    assert!(rows[0].as_ref().unwrap_err().reason.contains("not a date"));
    assert!(rows[1].as_ref().unwrap_err().reason.contains("id is missing"));
}

#[test]
fn wrong_options_are_refused_before_anything_is_sent() {
    let unknown = FieldOptions {
        dates: vec!["whn".into()],
        ..options()
    };
    let error = changes("a.csv", "id,when\na,5\n", &unknown).unwrap_err();
    assert!(error.contains("\"whn\"") && error.contains("id, when"), "{error}");
    let error = changes("a.csv", "id,Due Date\na,5\n", &options()).unwrap_err();
    assert!(error.contains("--rename"), "{error}");
    let error = changes("a.csv", "id,t\na,5\n", &FieldOptions::default()).unwrap_err();
    assert!(error.contains("--type"), "{error}");
}

/// The real data set, where it is at hand.
#[test]
fn every_row_of_the_real_data_becomes_changes() {
    let Some(data) = std::env::var_os("HALCYON_DATA") else {
        return;
    };
    let check = |file: &str, options: FieldOptions, expected: usize| {
        let rows = map(&Path::new(&data).join("zbugs").join(file), &options).unwrap();
        assert_eq!(rows.iter().filter(|row| row.is_ok()).count(), expected, "{file}");
        assert_eq!(rows.len(), expected, "{file}");
    };
    check("user.csv", options(), 14);
    check("label.csv", options(), 30);
    check("issue.csv", options(), 516);
    check("comment.csv", options(), 924);
    let pairs = FieldOptions {
        id: Some("issueID".into()),
        many: [("labelID".into(), Some("label".into()))].into(),
        merge: true,
        ..options()
    };
    check("issueLabel.csv", pairs, 603);
}

#[test]
fn an_error_shows_a_bounded_part_of_what_the_file_holds() {
    let names = (0..1_000).map(|at| (format!("{at}{}", "x".repeat(5_000)), ColumnType::String));
    let survey = Survey {
        rows: 1,
        fields: names.collect(),
        hash: 1,
    };
    let typed = FieldOptions {
        entity_type: Some("t".into()),
        ..FieldOptions::default()
    };
    let missing = FieldOptions {
        id: Some("y".repeat(5_000)),
        ..typed.clone()
    };
    for options in [FieldOptions::default(), typed, missing] {
        let error = Mapping::new(&options, &survey).unwrap_err();
        assert!(error.len() < 2_000, "{} bytes: {error}", error.len());
    }
}
