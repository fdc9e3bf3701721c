//! `SQLite` as one would tune it for triples: names as integers, both orders as covering indexes, in memory.

use std::{collections::HashMap, time::Duration};

use halcyon_core::{query::testing::blog, value::Value};
use rusqlite::{CachedStatement, Connection, ToSql, params};

use super::{Parameter, Question, now, print_line};

const SCHEMA: &str = "
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA cache_size = -1000000;
    CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE triples (s INTEGER NOT NULL, p INTEGER NOT NULL, o NOT NULL, PRIMARY KEY (s, p, o)) WITHOUT ROWID;
    CREATE INDEX pos ON triples (p, o, s);
";

// A name in angle brackets is replaced by the predicate's number. `CROSS JOIN` fixes the order of the join: left to
// itself, `SQLite` starts some at the wrong end. The plus takes the affinity off a subject, without which the index on `o`
// is not used.
pub(crate) const ENTITY: &str = "SELECT p, o FROM triples WHERE s = ?1";
pub(crate) const CATEGORY: &str = "SELECT s FROM triples WHERE p = <post/category> AND o = ?1";
pub(crate) const BY_AGE_ABOVE: &str = "SELECT post.s FROM triples AS age CROSS JOIN triples AS post
    ON post.p = <post/author> AND post.o = +age.s WHERE age.p = <user/age> AND age.o > 30";
pub(crate) const BY_AGE: &str = "SELECT post.s FROM triples AS age CROSS JOIN triples AS post
    ON post.p = <post/author> AND post.o = +age.s WHERE age.p = <user/age> AND age.o = 42";
pub(crate) const THREE_HOPS_ABOVE: &str = "SELECT comment.s FROM triples AS age
    CROSS JOIN triples AS post ON post.p = <post/author> AND post.o = +age.s
    CROSS JOIN triples AS comment ON comment.p = <comment/post> AND comment.o = +post.s
    WHERE age.p = <user/age> AND age.o > 30";
pub(crate) const THREE_HOPS_CITY: &str = "SELECT comment.s FROM triples AS city
    CROSS JOIN triples AS post ON post.p = <post/author> AND post.o = +city.s
    CROSS JOIN triples AS comment ON comment.p = <comment/post> AND comment.o = +post.s
    WHERE city.p = <user/city> AND city.o = ?1";
pub(crate) const PER_CITY: &str = "SELECT city.o, count(*) FROM triples AS city CROSS JOIN triples AS post
    ON post.p = <post/author> AND post.o = +city.s WHERE city.p = <user/city> GROUP BY city.o";
pub(crate) const PER_PREDICATE: &str = "SELECT p, count(*) FROM triples GROUP BY p";
pub(crate) const NEWEST: &str = "SELECT o, s FROM triples WHERE p = <post/created> ORDER BY o DESC LIMIT 20";
pub(crate) const NEWEST_OF_CATEGORY: &str = "SELECT created.o, created.s FROM triples AS category
    CROSS JOIN triples AS created ON created.s = category.s AND created.p = <post/created>
    WHERE category.p = <post/category> AND category.o = ?1 ORDER BY created.o DESC LIMIT 20";

/// A loaded table.
pub(crate) struct Side {
    connection: Connection,
    entities: HashMap<String, i64>,
    predicates: HashMap<String, i64>,
    triples: usize,
    took: Duration,
}

/// A statement that is made once.
pub(crate) struct Prepared<'a> {
    statement: CachedStatement<'a>,
    parameter: Option<Box<dyn ToSql>>,
}

impl Side {
    pub(crate) fn load(entities: usize) -> Self {
        let connection = Connection::open_in_memory().expect("SQLite opens");
        connection.execute_batch(SCHEMA).expect("the schema is SQL");
        let triples: Vec<_> = blog::triples(entities).collect();
        let mut side = Self {
            connection,
            entities: HashMap::new(),
            predicates: HashMap::new(),
            triples: triples.len(),
            took: Duration::ZERO,
        };
        let start = now();
        side.connection.execute_batch("BEGIN").expect("it begins");
        for (subject, predicate, value) in &triples {
            let subject = number(&mut side.entities, subject.as_str());
            let predicate = number(&mut side.predicates, predicate.as_str());
            let insert = "INSERT INTO triples VALUES (?1, ?2, ?3)";
            let mut insert = side.connection.prepare_cached(insert).expect("it is SQL");
            let done = match value {
                Value::String(text) => insert.execute(params![subject, predicate, &**text]),
                Value::Number(number) => insert.execute(params![subject, predicate, number.get()]),
                Value::Boolean(boolean) => insert.execute(params![subject, predicate, boolean]),
                Value::Date(millis) => insert.execute(params![subject, predicate, millis]),
                Value::Ref(entity) => {
                    let entity = number(&mut side.entities, entity.as_str());
                    insert.execute(params![subject, predicate, entity])
                }
                Value::Bytes(_) | Value::Json(_) => unreachable!("the data has none"),
            };
            done.expect("it is inserted");
        }
        for (name, id) in &side
            .entities
            .clone()
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>()
        {
            let insert = "INSERT INTO names VALUES (?1, ?2)";
            let mut insert = side.connection.prepare_cached(insert).expect("it is SQL");
            insert.execute(params![id, name]).expect("it is inserted");
        }
        side.connection.execute_batch("COMMIT").expect("it commits");
        side.took = start.elapsed();
        side
    }

    #[expect(clippy::cast_precision_loss, reason = "figures are shown with a few digits")]
    pub(crate) fn print_load(&self) {
        let rate = self.triples as f64 / self.took.as_secs_f64();
        print_line(&format!("sqlite:  loaded {rate:.0} triples a second"));
    }

    pub(crate) fn prepare(&self, question: &Question) -> Prepared<'_> {
        let mut sql = question.sql.to_owned();
        while let (Some(start), Some(end)) = (sql.find('<'), sql.find('>').filter(|_| sql.contains('<'))) {
            let end = sql[start..].find('>').map_or(end, |at| start + at);
            let number = self.predicates[&sql[start + 1..end]];
            sql.replace_range(start..=end, &number.to_string());
        }
        let parameter = question.parameter.as_ref().map(|parameter| -> Box<dyn ToSql> {
            match parameter {
                Parameter::Entity(entity) => Box::new(self.entities[blog::entity(*entity).as_str()]),
                Parameter::Text(text) => Box::new(text.clone()),
            }
        });
        Prepared {
            statement: self.connection.prepare_cached(&sql).expect("it is SQL"),
            parameter,
        }
    }
}

impl Prepared<'_> {
    /// Reads the answer to its end: how many rows.
    pub(crate) fn run(&mut self) -> usize {
        let columns = self.statement.column_count();
        let parameters: Vec<&dyn ToSql> = self.parameter.iter().map(|parameter| &**parameter).collect();
        let mut found = self.statement.query(&parameters[..]).expect("it runs");
        let mut rows = 0;
        while let Some(row) = found.next().expect("it goes on") {
            for column in 0..columns {
                let value: rusqlite::types::Value = row.get(column).expect("there is such a column");
                std::hint::black_box(value);
            }
            rows += 1;
        }
        rows
    }
}

fn number(numbers: &mut HashMap<String, i64>, name: &str) -> i64 {
    let next = i64::try_from(numbers.len()).expect("fits") + 1;
    *numbers.entry(name.to_owned()).or_insert(next)
}
