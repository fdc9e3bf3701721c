//! The programs of a run: clients that write and mark what they write, through the client library, beside a node.
//!
//! A writer uses the cluster as any app does: it goes to the nearest node and moves when that one fails. Each of its
//! entities is written by it alone, so that what must be there at the end follows from its own acknowledgements.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use halcyon_client::{Acknowledged, Client, ClientOptions, Refused};
use halcyon_core::{
    change::Change,
    env::Env,
    id::{EntityId, Predicate},
    value::Value,
};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    clock,
    cluster::Cluster,
    ledger::{Acknowledgement, Book, Kind, Written},
    limits::{FLUSH_WITHIN, WRITE_EVERY},
};

/// The field that carries the marker of a creation.
pub(super) const MARK: &str = "note/mark";

/// The field that later sets overwrite.
pub(super) const RANK: &str = "note/rank";

/// The field with a set of elements.
pub(super) const TAGS: &str = "note/tags";

/// Entities that all writers share.
const SHARED: u64 = 4;

/// Entities that a writer remembers, to write to them again.
const REMEMBERED_MAX: usize = 200;

/// A client and its way through the world.
#[derive(Debug)]
pub(super) struct Writer {
    /// Unique in the run.
    pub(super) number: usize,
    /// Beside which node.
    pub(super) place: usize,
    /// Into which tenant.
    pub(super) tenant: &'static str,
    book: Book,
    client: Client,
    env: Env,
    alive: Vec<String>,
    deleted: Vec<String>,
    count: usize,
}

/// The world of a program beside a node.
pub(super) fn beside(cluster: &Cluster, place: usize) -> std::io::Result<Env> {
    let mut env = halcyon_client::env::system(None)?;
    env.network = Arc::new(cluster.ground.beside(place));
    Ok(env)
}

/// How a program opens a tenant. With `only` it speaks to that one node.
pub(super) fn options(cluster: &Cluster, tenant: &str, only: Option<usize>) -> ClientOptions {
    let members = cluster.nodes.iter().filter(|node| node.is_member);
    ClientOptions {
        addresses: members
            .filter(|node| only.is_none_or(|only| node.at == only))
            .map(|node| node.client_address.clone())
            .collect(),
        tenant: tenant.to_owned(),
        key: cluster.key(tenant),
        forward: only.is_some(),
        ..ClientOptions::default()
    }
}

impl Writer {
    /// Connects.
    pub(super) async fn connect(
        cluster: &Cluster,
        book: &Book,
        number: usize,
        (place, tenant): (usize, &'static str),
    ) -> anyhow::Result<Self> {
        let env = beside(cluster, place)?;
        let client = Client::connect(env.clone(), options(cluster, tenant, None))
            .await
            .with_context(|| format!("a client beside n{} cannot connect", place + 1))?;
        Ok(Self {
            number,
            place,
            tenant,
            book: book.clone(),
            client,
            env,
            alive: Vec::new(),
            deleted: Vec::new(),
            count: 0,
        })
    }

    /// Writes until told to stop, and keeps its client until the receiver's other end is gone: an acknowledged set may
    /// have to be pushed again elsewhere.
    pub(super) fn spawn(mut self, mut writing: watch::Receiver<bool>) -> JoinHandle<()> {
        tokio::spawn(async move {
            while *writing.borrow() {
                self.write().await;
                tokio::select! {
                    biased;
                    _ = writing.wait_for(|writing| !writing) => {}
                    () = tokio::time::sleep(WRITE_EVERY) => {}
                }
            }
            while writing.changed().await.is_ok() {}
            self.client.close().await;
        })
    }

    async fn write(&mut self) {
        self.count += 1;
        let (kind, subject) = self.draw();
        let marker = format!("{}{}-{}-{kind:?}", marker_beginning(), self.number, self.count);
        let subject = subject.unwrap_or_else(|| format!("e{}-{}", self.number, self.count));
        let changes = changes(kind, &subject, &marker);
        let at = self.book.wrote(Written {
            marker,
            kind,
            subject: subject.clone(),
            tenant: self.tenant,
            place: self.place,
            at: clock::now(),
            acknowledged: None,
            refused: None,
        });
        self.remember(kind, subject);
        let book = self.book.clone();
        match self.client.write(changes).await {
            Ok(pending) => {
                tokio::spawn(async move { heard(&book, at, pending.acknowledged().await) });
            }
            Err(error) => book.open().written[at].refused = Some(error.to_string()),
        }
    }

    /// What to do next, and to which entity; a new one where there is none.
    fn draw(&self) -> (Kind, Option<String>) {
        let chance = self.env.entropy.next();
        let pick = |from: &[String]| {
            let at = usize::try_from(chance >> 16).unwrap_or(0).checked_rem(from.len())?;
            from.get(at).cloned()
        };
        let (kind, subject) = match chance % 100 {
            0..55 => return (Kind::Create, None),
            55..70 => (Kind::Set, pick(&self.alive)),
            70..83 => (Kind::Add, pick(&self.alive)),
            83..90 => (Kind::Delete, pick(&self.alive)),
            90..94 => (Kind::Late, pick(&self.deleted)),
            _ => (Kind::Shared, Some(format!("shared-{}", chance % SHARED))),
        };
        match subject {
            Some(subject) => (kind, Some(subject)),
            None => (Kind::Create, None),
        }
    }

    fn remember(&mut self, kind: Kind, subject: String) {
        match kind {
            Kind::Create => self.alive.push(subject),
            Kind::Delete => {
                self.alive.retain(|alive| *alive != subject);
                self.deleted.push(subject);
            }
            Kind::Set | Kind::Add | Kind::Late | Kind::Shared => {}
        }
        for list in [&mut self.alive, &mut self.deleted] {
            if list.len() > REMEMBERED_MAX {
                list.remove(0);
            }
        }
    }
}

/// The changes of one set.
fn changes(kind: Kind, subject: &str, marker: &str) -> Vec<Change> {
    let subject = EntityId::new(subject).expect("our own names are well formed");
    let value = Value::string(marker);
    let set = |field: &str| Change::Set {
        subject: subject.clone(),
        predicate: predicate(field),
        value: value.clone(),
    };
    match kind {
        Kind::Create | Kind::Shared => vec![
            Change::Create {
                subject: subject.clone(),
            },
            set(MARK),
        ],
        Kind::Set | Kind::Late => vec![set(RANK)],
        Kind::Add => vec![Change::Add {
            subject: subject.clone(),
            predicate: predicate(TAGS),
            value: value.clone(),
        }],
        Kind::Delete => vec![Change::Delete { subject }],
    }
}

fn predicate(text: &str) -> Predicate {
    Predicate::new(text).expect("our own names are well formed")
}

/// Has one node, and no other, take one write.
pub(super) async fn write_once(
    cluster: &Cluster,
    book: &Book,
    name: &str,
    (place, tenant): (usize, &'static str),
) -> anyhow::Result<()> {
    let env = beside(cluster, place)?;
    let client = Client::connect(env, options(cluster, tenant, Some(place))).await?;
    let marker = format!("{}{name}-{tenant}", marker_beginning());
    let subject = format!("{name}-{tenant}");
    let at = book.wrote(Written {
        marker: marker.clone(),
        kind: Kind::Create,
        subject: subject.clone(),
        tenant,
        place,
        at: clock::now(),
        acknowledged: None,
        refused: None,
    });
    let pending = client.write(changes(Kind::Create, &subject, &marker)).await?;
    let ended = tokio::time::timeout(FLUSH_WITHIN, pending.acknowledged()).await;
    if let Ok(taken) = ended {
        heard(book, at, taken);
    }
    client.close().await;
    Ok(())
}

/// How every marker of this run begins.
pub(super) fn marker_beginning() -> String {
    format!("mk{}-", std::process::id())
}

fn heard(book: &Book, at: usize, ended: Result<Acknowledged, Refused>) {
    let heard = clock::now();
    let mut ledger = book.open();
    let written = &mut ledger.written[at];
    match ended {
        Ok(taken) => {
            let node = taken.tag.origin.node.0;
            written.acknowledged = Some(Acknowledgement { at: heard, node });
        }
        Err(error) => written.refused = Some(error.to_string()),
    }
}

/// Waits until everything written is acknowledged or refused, and says how much is not by the deadline.
pub(super) async fn flush(book: &Book, within: Duration) -> usize {
    let begun = clock::now();
    loop {
        let waiting = book.waiting();
        if waiting == 0 || clock::now() > begun + within {
            return waiting;
        }
        tokio::time::sleep(super::limits::LOOK_EVERY).await;
    }
}
