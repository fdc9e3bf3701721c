//! Queries over storage give what they give over memory and by the plainest evaluator: on random schemas, data,
//! overwrites, deletions and queries, in the overlay and in the index, with counts of this state and of an earlier one.

use std::{ops::ControlFlow, time::Duration};

use halcyon_core::{
    graph::Graph,
    query::{
        answer::{Answer, Datum, Rows},
        eval::{Budget, evaluate},
        logic,
        lower::lower,
        naive,
        plan::plan,
        testing::{
            Triple, cases,
            choices::Choices,
            datalog::{self, Features},
            entities,
            schema::{self, Schema},
        },
        text,
    },
};

use super::*;
use crate::query::{Asked, Bounds, Failed, Part, Snapshot, Statistics};

/// In front of every string where values are long: more than a key holds.
const LONG: &str = "https://halcyon.example/a/path/that/is/longer/than/what/a/key/of/an/index/holds/";

/// Queries of each case.
const QUERIES: usize = 6;

/// A case under way: storage, and memory with the same change sets.
struct Case {
    replica: Replica,
    graph: Graph,
    statistics: Statistics,
    number: u64,
    is_long: bool,
}

const BOUNDS: Bounds<'_> = Bounds {
    rows: 100_000,
    memory: 64 << 20,
    answer: 64 << 20,
    time: Duration::from_secs(1),
    go_on: &|| true,
};

impl Case {
    async fn new(is_long: bool) -> Self {
        Self {
            replica: Replica::new(1, 7).await,
            graph: Graph::default(),
            statistics: Statistics::default(),
            number: 0,
            is_long,
        }
    }

    async fn write(&mut self, changes: Vec<Change>) {
        self.number += 1;
        let set = ChangeSet {
            timestamp: timestamp(NTP64(self.number), ClientId::from_random(1)),
            number: self.number,
            changes,
        };
        self.replica.storage.admit(admit(&set)).await.unwrap();
        for commit in self.replica.commits() {
            self.graph.apply_set(commit.tag, &commit.set);
        }
    }

    /// So many posts, each with a rank of its own: a text, which a query looks up in the dictionary.
    async fn write_ranks(&mut self, posts: usize) {
        for number in 0..posts {
            let subject = EntityId::new(&format!("n{number}")).unwrap();
            let create = Change::Create {
                subject: subject.clone(),
            };
            let write = Change::Set {
                subject,
                predicate: Predicate::new("post/rank").unwrap(),
                value: Value::string(&format!("a text that only the dictionary holds {number}")),
            };
            self.write(vec![create, write]).await;
        }
    }

    /// Writes, some of which nothing comes of: removals of what is not there, fields of what is deleted.
    async fn write_some(&mut self, schema: &Schema, writes: usize, choices: &mut Choices<'_>) {
        for _ in 0..writes {
            let field = choices.pick(&schema.fields);
            let subject = schema::entity(choices.below(7));
            let predicate = field.predicate.clone();
            let value = self.lengthened(schema::value(field.kind, choices));
            let mut changes = vec![Change::Create {
                subject: subject.clone(),
            }];
            let (add, set) = (choices.one_in(4), choices.one_in(6));
            changes.push(match choices.below(12) {
                10 => Change::Unset { subject, predicate },
                11 if choices.one_in(5) => Change::Delete { subject },
                9 => Change::Remove {
                    subject,
                    predicate,
                    value,
                },
                _ if field.many != (add || set) => Change::Add {
                    subject,
                    predicate,
                    value,
                },
                _ => Change::Set {
                    subject,
                    predicate,
                    value,
                },
            });
            self.write(changes).await;
        }
    }

    fn lengthened(&self, value: Value) -> Value {
        match value {
            Value::String(text) if self.is_long => Value::string(&format!("{LONG}{text}")),
            value => value,
        }
    }

    fn triples(&self) -> Vec<Triple> {
        let shown = (0..9).flat_map(|number| {
            let entity = schema::entity(number);
            let triples = self.graph.triples(&entity);
            triples.into_iter().map(move |(p, o)| (entity.clone(), p, o))
        });
        shown.collect()
    }

    /// All three ways to answer agree.
    #[track_caller]
    fn check(&self, source: &str, when: &str) {
        let query = Arc::new(lower(&text::parse(source).unwrap()).unwrap());
        let expected = naive::evaluate(&query, self.triples());
        let planned = plan(Arc::clone(&query), &self.graph);
        let in_memory = evaluate(&planned, &self.graph, Budget::default(), None).unwrap();
        assert_eq!(in_memory.answer, expected, "{source}");
        let snapshot = Snapshot::of(&self.replica.storage, &self.statistics, tenant()).unwrap();
        let asked = Asked::read(source).unwrap();
        let mut found = Vec::new();
        let mut end = None;
        asked
            .answer(&snapshot, BOUNDS, &mut |part| {
                match part {
                    Part::Columns(_) => {}
                    Part::Rows(rows) => found.extend(rows),
                    Part::End { rows, next } => end = Some((rows, next)),
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        let mut wanted = rows(&expected);
        let ends = (
            wanted.len() as u64,
            expected.next.as_ref().map_or_else(String::new, ToString::to_string),
        );
        assert_eq!(end, Some(ends), "{source}");
        // What streams comes in any order.
        if query.select.order.is_empty() && query.select.limit.is_none() && is_table(&query) {
            wanted.sort();
            found.sort();
        }
        let explained = asked.explain(&snapshot, BOUNDS, true).unwrap().text;
        assert_eq!(found, wanted, "{when}: {source}\n{explained}\n{:#?}", self.triples());
    }
}

fn is_table(query: &logic::Query) -> bool {
    matches!(query.select.shape, logic::Shape::Table(_))
}

fn rows(answer: &Answer) -> Vec<String> {
    let json = |row: &Vec<Datum>| {
        let cells: serde_json::Value = row.iter().map(Datum::to_typed_json).collect();
        cells.to_string()
    };
    match &answer.rows {
        Rows::Table { rows, .. } => rows.iter().map(json).collect(),
        Rows::Entities(objects) => objects
            .iter()
            .map(|object| object.to_json(Datum::to_typed_json).to_string())
            .collect(),
    }
}

/// A query whose strings are long: every text between quotes that is a constant of its own.
fn lengthened(source: &str) -> String {
    let (mut out, mut chars, mut is_in, mut before) = (String::new(), source.chars(), false, ' ');
    while let Some(next) = chars.next() {
        out.push(next);
        match next {
            '\\' if is_in => out.extend(chars.next()),
            '"' => {
                is_in = !is_in;
                if is_in && !before.is_alphanumeric() && before != '@' {
                    out.push_str(LONG);
                }
            }
            _ => {}
        }
        before = next;
    }
    out
}

fn query(schema: &Schema, choices: &mut Choices<'_>) -> Option<String> {
    let syntax = if choices.below(2) == 0 {
        datalog::query(schema, Features::ALL, choices)
    } else {
        entities::query(schema, Features::ALL, choices)
    };
    // Now and then what is made at random means nothing.
    lower(&syntax).is_ok().then(|| syntax.to_string())
}

async fn one(tape: &[u16]) {
    let mut choices = Choices::new(tape);
    let is_long = choices.below(3) == 2;
    let schema = schema::schema(&mut choices);
    let mut sources: Vec<String> = (0..QUERIES).filter_map(|_| query(&schema, &mut choices)).collect();
    if is_long {
        sources = sources.iter().map(|source| lengthened(source)).collect();
    }
    let mut case = Case::new(is_long).await;
    case.write_some(&schema, 40, &mut choices).await;
    for source in &sources {
        case.check(source, "in the overlay");
    }
    let Case {
        replica,
        graph,
        statistics,
        number,
        is_long,
    } = case;
    let mut case = Case {
        replica: replica.again().await,
        graph,
        statistics,
        number,
        is_long,
    };
    for source in &sources {
        case.check(source, "in the index");
    }
    case.write_some(&schema, 12, &mut choices).await;
    for source in &sources {
        case.check(source, "in both, with older counts");
    }
    case.replica.storage.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(150), max_shrink_iters: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn a_query_gives_the_same_over_storage_as_over_memory(tape in proptest::collection::vec(any::<u16>(), 0..900)) {
        run(one(&tape));
    }
}

#[test]
fn a_register_and_an_element_of_one_value_are_one_triple_in_either_direction() {
    run(async {
        let mut case = Case::new(false).await;
        let predicate = Predicate::new("post/tag").unwrap();
        for at in 0..40 {
            let (subject, predicate) = (schema::entity(at % 7), predicate.clone());
            let value = Value::string(["a", "b"][at % 2]);
            let create = Change::Create {
                subject: subject.clone(),
            };
            let write = if at < 7 {
                Change::Set {
                    subject,
                    predicate,
                    value,
                }
            } else {
                Change::Add {
                    subject,
                    predicate,
                    value,
                }
            };
            case.write(vec![create, write]).await;
        }
        for source in [
            "find ?p, ?t where ?p post/tag ?t",
            "find ?t, count(?p) where ?p post/tag ?t",
            "find count(*) where ?p post/tag ?t",
            "find ?t, ?p where ?p post/tag ?t order by ?t desc limit 3",
            "find ?t, ?p where ?p post/tag ?t order by ?t limit 9",
            "post order by tag desc limit 2 { tag[] }",
        ] {
            case.check(source, "twice the same");
        }
    });
}

/// Wherever a query is told to stop: the whole answer or the reason, never a part that looks whole.
#[test]
fn a_query_that_is_stopped_anywhere_gives_no_wrong_answer() {
    run(async {
        let mut case = Case::new(false).await;
        case.write_ranks(24).await;
        for source in [
            "find max(?x), max(?y), max(?z) where ?a post/rank ?x; ?b post/rank ?y; ?c post/rank ?z",
            "find ?x, ?y where ?a post/rank ?x; ?b post/rank ?y; ?c post/rank ?z; ?z >= ?x",
            "post where rank exists order by rank { rank, <post.to { rank } }",
        ] {
            let ask = |stop_after: u64| {
                let asked = std::cell::Cell::new(0);
                let go_on = || {
                    asked.set(asked.get() + 1);
                    asked.get() <= stop_after
                };
                let snapshot = Snapshot::of(&case.replica.storage, &Statistics::default(), tenant()).unwrap();
                let mut found = Vec::new();
                let bounds = Bounds {
                    go_on: &go_on,
                    ..BOUNDS
                };
                let done = Asked::read(source).unwrap().answer(&snapshot, bounds, &mut |part| {
                    if let Part::Rows(rows) = part {
                        found.extend(rows);
                    }
                    ControlFlow::Continue(())
                });
                (done, found)
            };
            let (done, whole) = ask(u64::MAX);
            assert_eq!(done, Ok(()), "{source}");
            for stop_after in 0..40 {
                let (done, found) = ask(stop_after);
                match done {
                    Ok(()) => assert_eq!(found, whole, "{source}, stopped after {stop_after}"),
                    Err(failed) => {
                        assert_eq!(failed, Failed::Time(BOUNDS.time), "{source}");
                        assert!(found.iter().all(|row| whole.contains(row)), "{source}: {found:?}");
                    }
                }
            }
        }
    });
}

#[test]
fn what_exceeds_a_bound_is_ended_with_its_name() {
    run(async {
        let mut case = Case::new(false).await;
        case.write_ranks(50).await;
        let fails = |source: &str, bounds: Bounds<'_>| {
            let snapshot = Snapshot::of(&case.replica.storage, &case.statistics, tenant()).unwrap();
            let asked = Asked::read(source).unwrap();
            asked.answer(&snapshot, bounds, &mut |_| ControlFlow::Continue(()))
        };
        let all = "find ?p, ?r where ?p post/rank ?r";
        assert_eq!(fails(all, BOUNDS), Ok(()));
        assert_eq!(fails(all, Bounds { rows: 49, ..BOUNDS }), Err(Failed::Rows(49)));
        assert_eq!(fails("post", Bounds { rows: 49, ..BOUNDS }), Err(Failed::Rows(49)));
        assert_eq!(fails(all, Bounds { answer: 99, ..BOUNDS }), Err(Failed::Bytes(99)));
        assert_eq!(fails(all, Bounds { memory: 99, ..BOUNDS }), Err(Failed::Memory(99)));
        let cross = "find ?a, ?b, ?c, ?d where ?a post/rank; ?b post/rank; ?c post/rank; ?d post/rank";
        let never = Bounds {
            go_on: &|| false,
            ..BOUNDS
        };
        assert_eq!(fails(cross, never), Err(Failed::Time(BOUNDS.time)));
        let gone = |source: &str| {
            let snapshot = Snapshot::of(&case.replica.storage, &case.statistics, tenant()).unwrap();
            Asked::read(source)
                .unwrap()
                .answer(&snapshot, BOUNDS, &mut |_| ControlFlow::Break(()))
        };
        assert_eq!(gone(all), Err(Failed::Gone));
    });
}
