//! Users, posts and comments: a million triples when whole, the same on every machine.
//!
//! Of 100 entities 12 are users, 55 posts and 33 comments, with ten fields each. Ages are 12 to 78, there are a hundred
//! cities and a hundred categories, ids look like nanoids.

use crate::{
    change::{Change, ChangeSet},
    clock::{ClientId, NTP64, timestamp},
    id::{EntityId, Predicate},
    value::Value,
};

/// Entities of the whole: a million triples.
pub const ENTITIES: usize = 100_000;

/// Changes in one set of a load.
const SET_CHANGES: usize = 1_000;

const CITIES: u64 = 100;
const CATEGORIES: u64 = 100;
const DAY: i64 = 86_400_000;

/// A sequence of numbers without a visible pattern (Steele et al., splitmix64, 2014).
#[derive(Debug, Clone)]
struct Draws(u64);

impl Draws {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    const fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }
}

/// The entity of a number: users first, then posts, then comments.
pub fn entity(number: usize) -> EntityId {
    const ALPHABET: &[u8; 64] = b"_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut draws = Draws(number as u64 * 7_919 + 1);
    let text: String = (0..21)
        .map(|_| {
            let at = usize::try_from(draws.below(64)).expect("6 bits fit");
            char::from(ALPHABET[at])
        })
        .collect();
    EntityId::new(&text).expect("21 letters of an alphabet")
}

/// How many of so many entities are users, posts and comments.
pub const fn parts(entities: usize) -> (usize, usize, usize) {
    let (users, posts) = (entities * 12 / 100, entities * 55 / 100);
    (users, posts, entities - users - posts)
}

/// The name of a city.
pub fn city(number: u64) -> String {
    format!("City of {number}")
}

/// The name of a category.
pub fn category(number: u64) -> String {
    format!("category-{number}")
}

/// All triples of so many entities, each entity's together.
pub fn triples(entities: usize) -> impl Iterator<Item = (EntityId, Predicate, Value)> {
    let (users, posts, _) = parts(entities);
    let user = predicates(
        "user",
        [
            "name", "email", "age", "city", "bio", "joined", "active", "score", "language", "friend",
        ],
    );
    let post = predicates(
        "post",
        [
            "title",
            "body",
            "author",
            "category",
            "created",
            "updated",
            "views",
            "published",
            "slug",
            "rating",
        ],
    );
    let comment = predicates(
        "comment",
        [
            "text", "post", "author", "created", "likes", "edited", "language", "kind", "score", "spam",
        ],
    );
    (0..entities).flat_map(move |number| {
        let mut draws = Draws(number as u64 ^ 0x5eed);
        let (fields, values) = if number < users {
            (&user, user_values(number, users, &mut draws))
        } else if number < users + posts {
            (&post, post_values(number, users, &mut draws))
        } else {
            (&comment, comment_values(users, posts, &mut draws))
        };
        let id = entity(number);
        let triples: Vec<_> = fields
            .iter()
            .zip(values)
            .map(|(predicate, value)| (id.clone(), predicate.clone(), value))
            .collect();
        triples
    })
}

/// The same as change sets of a thousand changes.
pub fn sets(entities: usize) -> Vec<ChangeSet> {
    let mut sets: Vec<ChangeSet> = Vec::new();
    for (subject, predicate, value) in triples(entities) {
        if sets.last().is_none_or(|set| set.changes.len() == SET_CHANGES) {
            let number = sets.len() as u64 + 1;
            sets.push(ChangeSet {
                timestamp: timestamp(NTP64(number << 32), ClientId::from_random(1)),
                number,
                changes: Vec::with_capacity(SET_CHANGES),
            });
        }
        let set = sets.last_mut().expect("one was put in");
        set.changes.push(Change::Set {
            subject,
            predicate,
            value,
        });
    }
    sets
}

fn predicates(of_type: &str, fields: [&str; 10]) -> Vec<Predicate> {
    let predicate = |field| Predicate::new(&format!("{of_type}/{field}")).expect("it is type/field");
    fields.into_iter().map(predicate).collect()
}

fn number(number: u64) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    Value::number(number as f64).expect("not NaN")
}

fn date(draws: &mut Draws) -> Value {
    Value::Date(1_600_000_000_000 + draws.below(150_000_000).cast_signed() * 1_000 + DAY)
}

fn some(from: usize, count: usize, draws: &mut Draws) -> Value {
    let at = usize::try_from(draws.below(count as u64)).expect("below a usize");
    Value::Ref(entity(from + at))
}

fn user_values(at: usize, users: usize, draws: &mut Draws) -> [Value; 10] {
    [
        Value::string(&format!("User Number {at}")),
        Value::string(&format!("user{at}@example.com")),
        number(12 + draws.below(67)),
        Value::string(&city(draws.below(CITIES))),
        Value::string(&format!(
            "Born in {}, likes {}",
            draws.below(9_999),
            draws.below(99_999)
        )),
        date(draws),
        Value::Boolean(draws.below(2) == 0),
        number(draws.below(1_000)),
        Value::string(["en", "de", "fr", "pt"][usize::try_from(draws.below(4)).expect("below 4")]),
        some(0, users, draws),
    ]
}

fn post_values(at: usize, users: usize, draws: &mut Draws) -> [Value; 10] {
    [
        Value::string(&format!("Thoughts on {} and {at}", draws.below(1_000))),
        Value::string(&format!(
            "It is {} again, and number {} is still open",
            draws.below(99),
            draws.next()
        )),
        some(0, users, draws),
        Value::string(&category(draws.below(CATEGORIES))),
        date(draws),
        date(draws),
        number(draws.below(100_000)),
        Value::Boolean(draws.below(10) != 0),
        Value::string(&format!("thoughts-on-{at}")),
        number(draws.below(6)),
    ]
}

fn comment_values(users: usize, posts: usize, draws: &mut Draws) -> [Value; 10] {
    [
        Value::string(&format!("I agree with point {}", draws.below(100_000))),
        some(users, posts, draws),
        some(0, users, draws),
        date(draws),
        number(draws.below(50)),
        Value::Boolean(draws.below(20) == 0),
        Value::string("en"),
        Value::string("reply"),
        number(draws.below(100)),
        Value::Boolean(false),
    ]
}
