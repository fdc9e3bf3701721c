//! Queries from the command line: what was written in another region is found, what is wrong is said with its place, and
//! limits hold.

use halcyon_tests::{
    cluster::{Cluster, REGIONS},
    wait,
};
use serde_json::{Value, json};

#[test]
fn what_was_written_in_one_region_is_found_in_another() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("notes", &REGIONS);
    for (author, name, age) in [("ada", "Ada", 36), ("kim", "Kim", 17)] {
        let fields = [format!("user/name={name}"), format!("user/age={age}")];
        cluster
            .run_keyed(0, "notes", &["set", author, &fields[0], &fields[1]])
            .ok();
    }
    for (post, author, title) in [("p1", "ada", "One"), ("p2", "kim", "Two"), ("p3", "ada", "Three")] {
        let fields = [format!("post/title={title}"), format!("post/author=ref:{author}")];
        cluster
            .run_keyed(0, "notes", &["set", post, &fields[0], &fields[1]])
            .ok();
    }
    cluster.run_keyed(0, "notes", &["delete", "p3"]).ok();
    cluster.settle("notes");
    // So that another region answers.
    cluster.nodes[0].kill();
    let query = "post where author.age > 30 { title, author { name } }";
    let answer = cluster.run_keyed(2, "notes", &["query", query, "--json"]).ok();
    assert_eq!(
        answer.json_lines(),
        [json!({"id": "p1", "title": "One", "author": {"id": "ada", "name": "Ada"}})]
    );
    let rows = "find ?name, count(?p) as posts where ?p post/author ?u; ?u user/name ?name";
    let answer = cluster.run_keyed(1, "notes", &["query", rows]).ok();
    assert_eq!(answer.stdout, "NAME  POSTS\nAda   1\nKim   1\n");
    let file = cluster.file("query.txt");
    std::fs::write(
        &file,
        "# Everybody, a page at a time.\nuser order by age limit 1 { name }",
    )
    .unwrap();
    let file = file.to_str().unwrap_or_default();
    let page = cluster.run_keyed(1, "notes", &["query", "--file", file]).ok();
    assert!(page.stdout.contains("Kim") && !page.stdout.contains("Ada"), "{page:?}");
    let next = page.stderr.split('`').nth(1).unwrap_or_default().to_owned();
    assert_eq!(next, "after (17, @kim)");
    let page = format!("user order by age limit 1 {next} {{ name }}");
    let page = cluster.run_keyed(1, "notes", &["query", &page]).ok();
    assert!(page.stdout.contains("Ada"), "{page:?}");
    let plan = cluster.run_keyed(1, "notes", &["explain", "--analyze", query]).ok();
    assert!(
        plan.stdout.contains("lookup") && plan.stdout.contains(" = 1"),
        "{plan:?}"
    );
    let explain = |options: &[&str]| {
        let arguments = [&["explain", "--json"], options, &[query]].concat();
        cluster.run_keyed(1, "notes", &arguments).ok().json()
    };
    let steps = |plan: &Value| plan["steps"].as_array().cloned().unwrap_or_default();
    let planned = explain(&[]);
    let estimated = |step: &&Value| step["estimate"].is_number();
    assert!(steps(&planned).iter().any(|step| estimated(&step)), "{planned}");
    assert!(
        !steps(&planned).iter().any(|step| step["actual"].is_number()),
        "nothing was run"
    );
    let run = explain(&["--analyze"]);
    assert!(run["fuel"].as_u64() > Some(0) && run["bytes"].is_u64(), "{run}");
    assert_eq!(steps(&run).len(), steps(&planned).len());
    let steps = steps(&run);
    let mut counted = steps.iter().filter(estimated);
    assert!(counted.all(|step| step["actual"].is_u64()), "{run}");
}

#[test]
fn a_table_that_is_watched_is_drawn_anew_with_every_change() {
    let mut cluster = Cluster::boot(&REGIONS[..1]);
    cluster.tenant("notes", &REGIONS[..1]);
    cluster.run_keyed(0, "notes", &["set", "t1", "todo/rank=1"]).ok();
    let query = "todo order by rank desc limit 2 { rank }";
    let watching = cluster.start_keyed(0, "notes", &["watch", "--table", query, "--count", "2"], "table");
    let drawn = |what: &str, table: &[&str]| {
        wait::until(what, wait::SOON, || {
            let lines = watching.lines();
            let told = lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>();
            told.ends_with(table).then_some(())
        });
    };
    drawn("the first", &["ID  RANK", "t1  1"]);
    cluster.run_keyed(0, "notes", &["set", "t2", "todo/rank=2"]).ok();
    drawn("what comes stands in its place", &["ID  RANK", "t2  2", "t1  1"]);
    cluster.run_keyed(0, "notes", &["delete", "t1"]).ok();
    drawn("what goes is gone", &["ID  RANK", "t2  2"]);
    assert_eq!(watching.lines().iter().filter(|line| line.starts_with("ID")).count(), 3);
}

#[test]
fn a_query_that_is_watched_in_one_region_follows_what_is_written_in_another() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("notes", &REGIONS);
    cluster.run_keyed(0, "notes", &["set", "t1", "todo/rank=1"]).ok();
    let query = "todo where rank > 0 order by rank desc limit 1";
    let watching = cluster.start_keyed(2, "notes", &["--json", "watch", query], "watch");
    let told = |what: &str| {
        wait::until(what, wait::SOON, || {
            watching.lines().iter().any(|line| line.contains(what)).then_some(())
        });
    };
    told(r#""status":"synced""#);
    let (one, two) = (r#"{"id":"t1","todo/rank":1}"#, r#"{"id":"t2","todo/rank":2}"#);
    let is_change = |line: &&String| !line.contains(r#""event":"status""#);
    let first = watching.lines().iter().find(is_change).cloned().unwrap_or_default();
    assert_eq!(
        first,
        format!(r#"{{"event":"answer","answered_by":"client","rows":[{one}]}}"#),
        "the first is the whole"
    );
    cluster.run_keyed(1, "notes", &["set", "t2", "todo/rank=2"]).ok();
    told(&format!(
        r#"[{{"change":"added","row":{two},"at":0}},{{"change":"removed","row":{one},"from":0}}]"#
    ));
    cluster.run_keyed(1, "notes", &["delete", "t2"]).ok();
    told(&format!(
        r#"[{{"change":"added","row":{one},"at":0}},{{"change":"removed","row":{two},"from":0}}]"#
    ));
}

#[test]
fn a_wrong_query_is_said_with_its_place_and_a_limit_with_its_name() {
    let mut cluster = Cluster::boot(&REGIONS[..1]);
    cluster.tenant("notes", &REGIONS[..1]);
    for post in 0..20 {
        let (post, rank) = (format!("p{post}"), format!("post/rank={post}"));
        cluster.run_keyed(0, "notes", &["set", &post, &rank]).ok();
    }
    let ask = |query: &str| cluster.run_keyed(0, "notes", &["query", query]);
    // The mark stands under the word that is wrong.
    let place = "line 1, column 6\n  | post wher rank > 3\n  |      ^^^^\nhelp: did you mean `where`?";
    ask("post wher rank > 3").fails(2, &[place]);
    ask("find ?x where ?p post/rank ?r").fails(2, &["nothing binds ?x", "^^"]);
    ask(r#"{"from": "post", "were": []}"#).fails(2, &["unknown key \"were\"", "where"]);

    let set = |name: &str, value: &str| cluster.run(&["settings", "set", name, value]).ok();
    set("query_rows_max", "10");
    ask("post").fails(4, &["more than 10 rows", "query_rows_max", "limit"]);
    ask("post order by rank limit 10").ok();
    set("query_rows_max", "1000");
    set("query_answer_bytes_max", "1024");
    ask("find ?a, ?b where ?a post/rank; ?b post/rank").fails(4, &["1024 bytes", "query_answer_bytes_max"]);
    set("query_answer_bytes_max", "100000");
    set("query_time_max", "50ms");
    let slow = "find max(?u), max(?v), max(?w), max(?x), max(?y), max(?z) where ?a post/rank ?u; ?b post/rank ?v;
        ?c post/rank ?w; ?d post/rank ?x; ?e post/rank ?y; ?f post/rank ?z";
    ask(slow).fails(4, &["took more than 50ms", "query_time_max"]);
}
