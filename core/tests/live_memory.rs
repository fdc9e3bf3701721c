//! What a followed query takes in memory, counted by an allocator: no more than is accounted for it, and than is allowed.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, NTP64, timestamp},
    coverage::ENTITIES_MAX,
    graph::{Delta, Graph},
    id::{EntityId, NodeId, OriginId, Predicate, Seq, Tag},
    query::{
        eval::Budget,
        from_text,
        live::{Coverage, LiveId, Registry},
    },
    value::Value,
};

static HELD: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe by its trait; this one passes all on to the system's"
)]
// SAFETY: every call goes to `System` with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn held() -> usize {
    HELD.load(Ordering::Relaxed)
}

/// Queries of one form. Each covers the same ten entities.
const QUERIES: u64 = 500;

const ENTITIES: u64 = 10;

fn write(graph: &mut Graph, seq: u64, entity: u64, fields: &[(&str, Value)]) -> Delta {
    let changes = fields.iter().map(|(field, value)| Change::Set {
        subject: EntityId::new(&format!("post-{entity:08}")).expect("made to fit"),
        predicate: Predicate::new(&format!("post/{field}")).expect("made to fit"),
        value: value.clone(),
    });
    let set = ChangeSet {
        timestamp: timestamp(NTP64(seq), ClientId::from_random(1)),
        number: seq,
        changes: changes.collect(),
    };
    let origin = OriginId {
        node: NodeId(1),
        incarnation: 1,
    };
    graph.apply_set(Tag { origin, seq: Seq(seq) }, &set)
}

fn number(number: u64) -> Value {
    Value::number(f64::from(u32::try_from(number).expect("made to fit"))).expect("made to fit")
}

fn graph() -> Graph {
    let mut graph = Graph::default();
    for at in 0..ENTITIES {
        let fields = [
            ("title", Value::string(&format!("What is said of number {at}"))),
            ("group", Value::string("the first group")),
            ("rank", number(1_000 + at)),
            ("created", number(at)),
            (
                "author",
                Value::Ref(EntityId::new(&format!("post-{at:08}")).expect("made to fit")),
            ),
        ];
        write(&mut graph, at + 1, at, &fields);
    }
    graph
}

/// Bytes of a query when it was opened, and after a change that moved it; and what is accounted then.
fn measured(form: &str) -> (usize, usize, usize) {
    let mut graph = graph();
    let mut registry = Registry::default();
    let mut all = Vec::with_capacity(usize::try_from(QUERIES).expect("made to fit"));
    let before = held();
    for at in 0..QUERIES {
        let query = from_text(&form.replace("{n}", &at.to_string())).expect("made to fit");
        let coverage = Box::new(Coverage::open(&query, &graph, Budget::default(), ENTITIES_MAX).expect("made to fit"));
        registry.insert_coverage(LiveId(at), &coverage, &graph);
        all.push(coverage);
    }
    let each = |bytes: usize| bytes / all.len();
    let opened = each(held() - before);
    // One entity goes and comes back.
    for (seq, group) in [(1_000, "another"), (1_001, "the first group")] {
        let delta = write(&mut graph, seq, 3, &[("group", Value::string(group))]);
        for coverage in &mut all {
            let change = coverage.apply(&delta, &graph).expect("made to fit");
            assert_eq!(change.entered.len() + change.left.len(), 1);
        }
    }
    let changed = (held() - before) / all.len();
    let accounted = all.iter().map(|coverage| coverage.bytes()).sum::<usize>() / all.len();
    (opened, changed, accounted)
}

/// Some more than was measured when this was written; a query may take ten kilobytes.
#[test]
fn a_followed_query_takes_what_is_accounted_for_it() {
    let of_group = "post where group = \"the first group\" and";
    let forms = [
        // behind that, bytes
        ("rank > {n} order by created", 3_000),
        ("rank > {n} order by created limit 20", 9_000),
        ("author.rank > {n}", 5_000),
        ("rank > {n} { title, author { title } }", 9_500),
    ];
    let mut wrong = Vec::new();
    for (form, allowed) in forms {
        let (opened, changed, accounted) = measured(&format!("{of_group} {form}"));
        if changed > accounted.min(allowed) {
            wrong.push(format!(
                "{opened} bytes opened, {changed} after a change, {accounted} accounted: {form}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
