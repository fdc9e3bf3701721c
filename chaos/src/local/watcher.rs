//! A watch of one node from the first change on, and the picture that a program would have from it alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use futures::StreamExt as _;
use halcyon_client::{Client, ScanQuery, WatchEvent};
use halcyon_core::{
    change::{Change, ChangeSet},
    clock::Timestamp,
    value::Value,
    version_vector::VersionVector,
};
use tokio::task::JoinHandle;

use super::{clock, cluster::Cluster, ledger::Book, limits::READ_WITHIN, workload};

/// Triples in a page of a read.
const PAGE: u32 = 2_000;

/// What shows: entities, their fields, and the values of each.
pub(super) type Picture = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// What a watcher has put together: a merge of its own, from the design's words.
#[derive(Debug, Default)]
struct Merged {
    registers: BTreeMap<(String, String), (Timestamp, Option<String>)>,
    elements: BTreeMap<(String, String, String), (Timestamp, bool)>,
    deleted: BTreeSet<String>,
    tags: BTreeSet<String>,
}

/// A running watch.
#[derive(Debug)]
pub(super) struct Watcher {
    /// Of the node at this place.
    pub(super) place: usize,
    /// Of this tenant.
    pub(super) tenant: &'static str,
    merged: Arc<Mutex<Merged>>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Watches the node at `place`, and no other, from nothing.
    pub(super) async fn start(
        cluster: &Cluster,
        book: &Book,
        place: usize,
        tenant: &'static str,
    ) -> anyhow::Result<Self> {
        let env = workload::beside(cluster, place)?;
        let client = Client::connect(env, workload::options(cluster, tenant, Some(place))).await?;
        let merged = Arc::new(Mutex::new(Merged::default()));
        let (into, book) = (merged.clone(), book.clone());
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(client.watch(VersionVector::default()));
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => take_in(event, place, &into, &book),
                    Err(error) => {
                        let said = format!("the watch of n{} ended: {error}", place + 1);
                        book.open().broken.push(said);
                        return;
                    }
                }
            }
        });
        Ok(Self {
            place,
            tenant,
            merged,
            task,
        })
    }

    /// What a program that only watched would show now.
    pub(super) fn picture(&self) -> Picture {
        self.merged.lock().unwrap_or_else(PoisonError::into_inner).picture()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All that one node shows of a tenant.
pub(super) async fn read(cluster: &Cluster, place: usize, tenant: &str) -> anyhow::Result<Picture> {
    let reading = async {
        let env = workload::beside(cluster, place)?;
        let client = Client::connect(env, workload::options(cluster, tenant, Some(place))).await?;
        let mut picture = Picture::new();
        let mut query = ScanQuery {
            limit: PAGE,
            ..ScanQuery::default()
        };
        loop {
            let page = client.scan(query.clone()).await?;
            for triple in page.triples {
                show(
                    &mut picture,
                    triple.subject.as_str(),
                    triple.predicate.as_str(),
                    text(&triple.value),
                );
            }
            if page.cursor.is_empty() {
                break;
            }
            query.cursor = page.cursor;
        }
        client.close().await;
        Ok(picture)
    };
    tokio::time::timeout(READ_WITHIN, reading).await?
}

fn take_in(event: WatchEvent, place: usize, merged: &Mutex<Merged>, book: &Book) {
    let heard = clock::now();
    let mut merged = merged.lock().unwrap_or_else(PoisonError::into_inner);
    let set = match event {
        WatchEvent::Anew => {
            *merged = Merged::default();
            return;
        }
        WatchEvent::CaughtUp(_) => return,
        WatchEvent::Missed(set) => set,
        WatchEvent::Live { tag, set } => {
            let tag = format!("n{}: {tag:?}", place + 1);
            if !merged.tags.insert(tag.clone()) {
                book.open().repeated.insert(tag);
            }
            set
        }
    };
    let markers = merged.take_in(&set);
    let mut ledger = book.open();
    for marker in markers {
        ledger.seen.entry((place, marker)).or_insert(heard);
    }
}

impl Merged {
    /// Merges a set, and returns the texts in it.
    fn take_in(&mut self, set: &ChangeSet) -> Vec<String> {
        let mut markers = Vec::new();
        for change in &set.changes {
            match change {
                Change::Set {
                    subject,
                    predicate,
                    value,
                } => {
                    markers.push(text(value));
                    self.register(subject.as_str(), predicate.as_str(), (set.timestamp, Some(text(value))));
                }
                Change::Unset { subject, predicate } => {
                    self.register(subject.as_str(), predicate.as_str(), (set.timestamp, None));
                }
                Change::Add {
                    subject,
                    predicate,
                    value,
                } => {
                    markers.push(text(value));
                    self.element(subject.as_str(), predicate.as_str(), text(value), (set.timestamp, true));
                }
                Change::Remove {
                    subject,
                    predicate,
                    value,
                } => self.element(
                    subject.as_str(),
                    predicate.as_str(),
                    text(value),
                    (set.timestamp, false),
                ),
                Change::Delete { subject } => {
                    self.deleted.insert(subject.as_str().to_owned());
                }
                Change::Create { .. } | Change::Opaque { .. } => {}
            }
        }
        markers
    }

    fn register(&mut self, subject: &str, field: &str, written: (Timestamp, Option<String>)) {
        let cell = self.registers.entry((subject.to_owned(), field.to_owned()));
        let shown = cell.or_insert_with(|| written.clone());
        if written > *shown {
            *shown = written;
        }
    }

    fn element(&mut self, subject: &str, field: &str, element: String, written: (Timestamp, bool)) {
        let key = (subject.to_owned(), field.to_owned(), element);
        let shown = self.elements.entry(key).or_insert(written);
        if written.0 > shown.0 || (written.0 == shown.0 && !written.1) {
            *shown = written;
        }
    }

    fn picture(&self) -> Picture {
        let mut picture = Picture::new();
        for ((subject, field), (_, value)) in &self.registers {
            if let Some(value) = value.clone().filter(|_| !self.deleted.contains(subject)) {
                show(&mut picture, subject, field, value);
            }
        }
        for ((subject, field, element), (at, is_there)) in &self.elements {
            let register = self.registers.get(&(subject.clone(), field.clone()));
            let is_hidden = register.is_some_and(|(written, _)| written > at);
            if *is_there && !is_hidden && !self.deleted.contains(subject) {
                show(&mut picture, subject, field, element.clone());
            }
        }
        picture
    }
}

fn show(picture: &mut Picture, subject: &str, field: &str, value: String) {
    let fields = picture.entry(subject.to_owned()).or_default();
    fields.entry(field.to_owned()).or_default().insert(value);
}

/// A value as text; markers are strings.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        other => other.to_json().to_string(),
    }
}
