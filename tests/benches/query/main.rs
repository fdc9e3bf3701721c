//! Queries beside `SQLite`, in turns in one run: a million triples in memory, one thread, plans and statements prepared.
//!
//! `cargo bench -p halcyon-tests --bench query`. The queries are those that apps ask: an entity, a category, joins over
//! references, groups, the newest. Both sides read the answer to its end, values and all, where `SQLite` hands out
//! subjects as integers, which spares it their texts. Medians in milliseconds, and how many times ours `SQLite` takes.
//! `HALCYON_ROUNDS` (15) and `HALCYON_ENTITIES` (100,000) make it shorter,
//! `HALCYON_ONLY` keeps the questions whose name has that text, `HALCYON_EXPLAIN` shows the plans.

mod halcyon;
mod memory;
mod sqlite;

use std::time::{Duration, Instant};

use halcyon_core::query::testing::blog;

/// What is asked, in both languages. The parameters of the statement are made of the same names.
pub(crate) struct Question {
    pub(crate) name: &'static str,
    pub(crate) query: String,
    pub(crate) sql: &'static str,
    /// Name of an entity or a text, if the statement has a parameter.
    pub(crate) parameter: Option<Parameter>,
}

/// What stands for `?1`.
pub(crate) enum Parameter {
    Entity(usize),
    Text(String),
}

/// Rows that are measured for no shorter than this.
const WINDOW: Duration = Duration::from_millis(40);

fn main() {
    // `cargo test --benches` only asks whether it runs.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let rounds = if is_test { 1 } else { number("HALCYON_ROUNDS", 15) };
    let entities = if is_test {
        1_000
    } else {
        number("HALCYON_ENTITIES", blog::ENTITIES)
    };
    let ours = halcyon::Side::load(entities);
    let theirs = sqlite::Side::load(entities);
    print_line(&format!(
        "{:<34}{:>9}{:>12}{:>12}{:>9}{:>14}",
        "", "rows", "halcyon ms", "sqlite ms", "ratio", "with plan ms"
    ));
    let only = std::env::var("HALCYON_ONLY").unwrap_or_default();
    for question in questions().into_iter().filter(|question| question.name.contains(&only)) {
        let mut plan = ours.prepare(&question);
        let mut statement = theirs.prepare(&question);
        let (rows, their_rows) = (plan.run(), statement.run());
        assert_eq!(rows, their_rows, "{}: both sides answer alike", question.name);
        let (mut our_times, mut their_times, mut planned_times) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            our_times.push(time(|| plan.run()));
            their_times.push(time(|| statement.run()));
            planned_times.push(time(|| ours.prepare(&question).run()));
        }
        let (our, their, planned) = (median(our_times), median(their_times), median(planned_times));
        print_line(&format!(
            "{:<34}{rows:>9}{our:>12.4}{their:>12.4}{:>9.1}{planned:>14.4}",
            question.name,
            their / our
        ));
        if std::env::var_os("HALCYON_EXPLAIN").is_some() {
            print_line(&plan.explain());
        }
    }
    ours.print_load();
    theirs.print_load();
}

fn questions() -> Vec<Question> {
    let entity = 50_000_usize.min(number("HALCYON_ENTITIES", blog::ENTITIES) / 2);
    let (city, category) = (blog::city(42), blog::category(42));
    let question = |name, query: String, sql, parameter| Question {
        name,
        query,
        sql,
        parameter,
    };
    vec![
        question(
            "one entity of 10 fields",
            format!("find ?p, ?o where @{:?} ?p ?o", blog::entity(entity).as_str()),
            sqlite::ENTITY,
            Some(Parameter::Entity(entity)),
        ),
        question(
            "one category of 100",
            format!("find ?p where ?p post/category {category:?}"),
            sqlite::CATEGORY,
            Some(Parameter::Text(category.clone())),
        ),
        question(
            "posts by authors, age > 30",
            "find ?p where ?p post/author ?u; ?u user/age ?a; ?a > 30".to_owned(),
            sqlite::BY_AGE_ABOVE,
            None,
        ),
        question(
            "posts by authors, age = 42",
            "find ?p where ?p post/author ?u; ?u user/age 42".to_owned(),
            sqlite::BY_AGE,
            None,
        ),
        question(
            "three hops, age > 30",
            "find ?c where ?c comment/post ?p; ?p post/author ?u; ?u user/age ?a; ?a > 30".to_owned(),
            sqlite::THREE_HOPS_ABOVE,
            None,
        ),
        question(
            "three hops from one city",
            format!("find ?c where ?c comment/post ?p; ?p post/author ?u; ?u user/city {city:?}"),
            sqlite::THREE_HOPS_CITY,
            Some(Parameter::Text(city)),
        ),
        question(
            "posts per author city",
            "find ?city, count(?p) where ?p post/author ?u; ?u user/city ?city".to_owned(),
            sqlite::PER_CITY,
            None,
        ),
        question(
            "count by predicate over all",
            "find ?p, count(?s) where ?s ?p ?o".to_owned(),
            sqlite::PER_PREDICATE,
            None,
        ),
        question(
            "newest 20 posts",
            "find ?t, ?p where ?p post/created ?t order by ?t desc limit 20".to_owned(),
            sqlite::NEWEST,
            None,
        ),
        question(
            "newest 20 in a category",
            format!("find ?t, ?p where ?p post/created ?t; ?p post/category {category:?} order by ?t desc limit 20"),
            sqlite::NEWEST_OF_CATEGORY,
            Some(Parameter::Text(category)),
        ),
    ]
}

/// Milliseconds of one run, over as many as fill the window.
fn time(mut run: impl FnMut() -> usize) -> f64 {
    let start = now();
    let mut runs = 0_u32;
    loop {
        std::hint::black_box(run());
        runs += 1;
        if start.elapsed() >= WINDOW {
            return start.elapsed().as_secs_f64() * 1_000.0 / f64::from(runs);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn number(name: &str, default: usize) -> usize {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[expect(clippy::print_stdout, reason = "a bench prints its figures")]
pub(crate) fn print_line(line: &str) {
    println!("{line}");
}
