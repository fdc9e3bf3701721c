//! Whole tenants, for operators: compare all replicas, take all facts out, put them in.

use std::{sync::Arc, time::Duration};

use futures::{Stream, future::join_all};
use halcyon_core::{
    fact::Fact,
    id::{NodeId, TenantId},
    limits::BATCH_BYTES_MAX,
    version_vector::VersionVector,
};
use halcyon_proto::{
    convert,
    error::{ErrorCode, Refusal},
    v1,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{describe::replica_state, rooms::Rooms, status::refusal};
use crate::{
    limits::PEER_CALL_TIMEOUT,
    metadata::state::Tenant,
    storage::types::{DeltaBatch, Summary},
};

/// Batches of an export that wait for the network: one on its way, one being read.
const EXPORT_BATCHES_WAITING: usize = 2;

/// How long an import waits for the next message before it gives up.
const IMPORT_PAUSE_MAX: Duration = Duration::from_mins(1);

/// Asks all replicas what they are.
pub(super) async fn verify(rooms: &Rooms, tenant: &Tenant) -> v1::VerifyResponse {
    let asked = tenant.replicas.iter().map(|(&node, &state)| async move {
        let mut replica = v1::ReplicaState {
            node: node.0,
            region: rooms.region_of(node),
            state: replica_state(state).to_owned(),
            ..v1::ReplicaState::default()
        };
        match describe(rooms, tenant.id, node).await {
            Ok(Some(found)) => {
                replica.exact = found.vector == found.seen;
                replica.vector = found.vector;
                replica.fingerprint = found.fingerprint;
                replica.triples = found.triples;
                replica.collection_epoch = found.collection_epoch;
            }
            // It answered: an `error` means that it could not be asked.
            Ok(None) => {}
            Err(error) => replica.error = error,
        }
        replica
    });
    let replicas = join_all(asked).await;
    let (agree, verdict) = judge(&replicas);
    v1::VerifyResponse {
        replicas,
        agree,
        verdict,
    }
}

/// What a replica of `tenant` on `node` is; an error is for people.
async fn describe(rooms: &Rooms, tenant: TenantId, node: NodeId) -> Result<Option<v1::DescribeResponse>, String> {
    let request = v1::DescribeRequest {
        tenant: convert::tenant_id_bytes(tenant),
    };
    let answer = if node == rooms.me {
        rooms
            .replication
            .on_describe(&request)
            .map_err(|error| error.to_string())?
    } else {
        let mut client = rooms.pool.client(node).map_err(|error| error.to_string())?;
        let answer = timeout(PEER_CALL_TIMEOUT, client.describe(request)).await;
        let answer = answer.map_err(|_| format!("no answer within {PEER_CALL_TIMEOUT:?}"))?;
        answer.map_err(|status| status.message().to_owned())?.into_inner()
    };
    Ok(answer.held.then_some(answer))
}

/// Whether the replicas agree, in one sentence.
fn judge(replicas: &[v1::ReplicaState]) -> (bool, String) {
    let Some(first) = replicas.first() else {
        return (false, "the tenant has no replica".to_owned());
    };
    if let Some(failed) = replicas.iter().find(|replica| !replica.error.is_empty()) {
        return (
            false,
            format!("node n{} could not be compared: {}", failed.node, failed.error),
        );
    }
    if let Some(empty) = replicas.iter().find(|replica| replica.vector.is_empty()) {
        let node = empty.node;
        return (
            false,
            format!("node n{node} holds nothing of the tenant yet; ask again"),
        );
    }
    if let Some(half) = replicas.iter().find(|replica| !replica.exact) {
        return (false, format!("node n{} is taking in a delta; ask again", half.node));
    }
    if let Some(other) = replicas.iter().find(|replica| replica.vector != first.vector) {
        return (
            false,
            format!(
                "nodes n{} and n{} do not hold the same change sets yet; ask again",
                first.node, other.node
            ),
        );
    }
    if replicas
        .iter()
        .any(|replica| replica.collection_epoch != first.collection_epoch)
    {
        return (false, "a collection of tombstones is on its way; ask again".to_owned());
    }
    if let Some(other) = replicas.iter().find(|replica| replica.fingerprint != first.fingerprint) {
        return (
            false,
            format!(
                "nodes n{} and n{} hold the same change sets but DIFFERENT data",
                first.node, other.node
            ),
        );
    }
    (
        true,
        match replicas {
            [_] => format!("the only replica holds {}", counted(first.triples, "triple")),
            _ => format!(
                "{} replicas agree on {}",
                replicas.len(),
                counted(first.triples, "triple")
            ),
        },
    )
}

/// "1 triple", "2 triples".
fn counted(count: u64, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// Every fact, from a consistent snapshot; the vector and the fingerprint come last.
pub(super) fn export(
    rooms: &Rooms,
    tenant: &Arc<Tenant>,
) -> Result<impl Stream<Item = Result<v1::ExportResponse, Status>> + Send + use<>, Refusal> {
    if !rooms.serves(tenant) {
        return Err(rooms.wrong_region(tenant));
    }
    let (rooms, tenant) = (rooms.clone(), tenant.id);
    let (sender, receiver) = mpsc::channel(EXPORT_BATCHES_WAITING);
    tokio::spawn(async move {
        if let Err(refused) = send_all(&rooms, tenant, &sender).await {
            // The caller may be gone as well; then nobody needs the reason.
            let _ = sender.send(Err(refused.into())).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

async fn send_all(
    rooms: &Rooms,
    tenant: TenantId,
    sender: &mpsc::Sender<Result<v1::ExportResponse, Status>>,
) -> Result<(), Refusal> {
    let summary = rooms.storage.summary(tenant).map_err(refusal)?;
    let mut reader = rooms
        .storage
        .open_delta(tenant, &VersionVector::EMPTY, None)
        .map_err(refusal)?;
    let vector = reader.vector().clone();
    while let Some(facts) = reader.next_batch(BATCH_BYTES_MAX).map_err(refusal)? {
        let facts = convert::facts_bytes(&facts);
        let part = v1::ExportResponse {
            facts,
            ..v1::ExportResponse::default()
        };
        if sender.send(Ok(part)).await.is_err() {
            return Ok(());
        }
    }
    // A fingerprint is of one moment; if the tenant moved on between the two reads there is none to give.
    let fingerprint = summary
        .filter(|summary| summary.vector == vector)
        .map(|summary| fingerprint_bytes(&summary));
    let end = v1::ExportResponse {
        facts: Vec::new(),
        vector: convert::vector_bytes(&vector),
        fingerprint: fingerprint.unwrap_or_default().into(),
    };
    let _ = sender.send(Ok(end)).await;
    Ok(())
}

fn fingerprint_bytes(summary: &Summary) -> Vec<u8> {
    summary.fingerprint.0.to_be_bytes().to_vec()
}

/// Takes facts in as a catch-up does: nothing moves the vector before all are there.
pub(super) async fn import(
    rooms: &Rooms,
    mut messages: Streaming<v1::ImportRequest>,
) -> Result<v1::ImportResponse, Status> {
    let mut import: Option<Import> = None;
    loop {
        let next = timeout(IMPORT_PAUSE_MAX, messages.message()).await;
        let late = |_| Refusal::retry("the import paused for too long", IMPORT_PAUSE_MAX);
        let Some(message) = next.map_err(late)?? else {
            let text = "the import ended without its vector; what came is kept, but counts for nothing: start anew";
            return Err(Refusal::new(ErrorCode::Malformed, text).into());
        };
        let current = match &mut import {
            Some(import) => import,
            None => import.insert(Import::open(rooms, &message.tenant).await?),
        };
        let facts = convert::facts(&message.facts).map_err(refusal)?;
        let is_last = !message.vector.is_empty();
        current.take(rooms, facts).await?;
        if is_last {
            let vector = convert::vector(&message.vector).map_err(refusal)?;
            return Ok(current.finish(rooms, vector).await?);
        }
    }
}

struct Import {
    tenant: TenantId,
    waiting: Vec<Fact>,
    waiting_bytes: usize,
    seen: VersionVector,
    taken: u64,
}

impl Import {
    async fn open(rooms: &Rooms, tenant: &str) -> Result<Self, Refusal> {
        let tenant = rooms.tenant(tenant).await?;
        if !rooms.serves(&tenant) {
            return Err(rooms.wrong_region(&tenant));
        }
        rooms.until_open(tenant.id).await;
        Ok(Self {
            tenant: tenant.id,
            waiting: Vec::new(),
            waiting_bytes: 0,
            seen: VersionVector::EMPTY,
            taken: 0,
        })
    }

    /// A batch never ends inside a commit, however the sender cut its messages.
    async fn take(&mut self, rooms: &Rooms, facts: Vec<Fact>) -> Result<(), Refusal> {
        self.waiting_bytes += facts.iter().map(|fact| fact.encode().len()).sum::<usize>();
        self.waiting.extend(facts);
        if self.waiting_bytes < BATCH_BYTES_MAX / 2 {
            return Ok(());
        }
        let last = self.waiting.last().map(|fact| fact.tag);
        let cut = self
            .waiting
            .iter()
            .rposition(|fact| Some(fact.tag) != last)
            .map_or(0, |at| at + 1);
        let rest = self.waiting.split_off(cut);
        let batch = std::mem::replace(&mut self.waiting, rest);
        self.waiting_bytes = self.waiting.iter().map(|fact| fact.encode().len()).sum();
        if batch.is_empty() {
            return Ok(());
        }
        self.store(rooms, batch, None).await
    }

    async fn finish(&mut self, rooms: &Rooms, vector: VersionVector) -> Result<v1::ImportResponse, Refusal> {
        let rest = std::mem::take(&mut self.waiting);
        self.store(rooms, rest, Some(vector)).await?;
        let summary = rooms.storage.summary(self.tenant).map_err(refusal)?;
        Ok(v1::ImportResponse {
            facts: self.taken,
            fingerprint: summary
                .map(|summary| fingerprint_bytes(&summary))
                .unwrap_or_default()
                .into(),
        })
    }

    async fn store(&mut self, rooms: &Rooms, facts: Vec<Fact>, whole: Option<VersionVector>) -> Result<(), Refusal> {
        self.taken += facts.len() as u64;
        for fact in &facts {
            self.seen.raise(fact.tag);
        }
        let complete = whole.is_some();
        if let Some(vector) = &whole {
            self.seen.join(vector);
        }
        let batch = DeltaBatch {
            tenant: self.tenant,
            facts,
            // Until the end nothing is whole: a token of this batch lets nobody leave anything out.
            vector: whole.unwrap_or_default(),
            seen: self.seen.clone(),
            complete,
            now: rooms.env.clock.wall(),
        };
        rooms.storage.take_delta(batch).await.map_err(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(node: u64, vector: &'static [u8], fingerprint: &'static [u8]) -> v1::ReplicaState {
        v1::ReplicaState {
            node,
            vector: vector.into(),
            fingerprint: fingerprint.into(),
            exact: true,
            ..v1::ReplicaState::default()
        }
    }

    #[test]
    fn the_verdict_names_what_keeps_replicas_apart() {
        check(
            &[replica(1, b"v", b"f"), replica(2, b"v", b"f")],
            Ok("2 replicas agree on 0 triples"),
        );
        let alone = v1::ReplicaState {
            triples: 1,
            ..replica(1, b"v", b"f")
        };
        check(&[alone], Ok("the only replica holds 1 triple"));
        check(
            &[replica(1, b"v", b"f"), replica(2, b"w", b"f")],
            Err("do not hold the same"),
        );
        check(&[replica(1, b"v", b"f"), replica(2, b"v", b"g")], Err("DIFFERENT data"));
        let half = v1::ReplicaState {
            exact: false,
            ..replica(2, b"v", b"f")
        };
        check(&[replica(1, b"v", b"f"), half], Err("n2 is taking in"));
        check(&[replica(1, b"v", b"f"), replica(2, b"", b"")], Err("n2 holds nothing"));
        let gone = v1::ReplicaState {
            error: "no answer".into(),
            ..replica(3, b"", b"")
        };
        check(&[replica(1, b"v", b"f"), gone], Err("n3 could not be compared"));
        check(&[], Err("no replica"));
    }

    #[track_caller]
    fn check(replicas: &[v1::ReplicaState], expected: Result<&str, &str>) {
        let (agree, verdict) = judge(replicas);
        let (Ok(text) | Err(text)) = expected;
        assert_eq!(agree, expected.is_ok(), "{verdict}");
        assert!(verdict.contains(text), "{verdict}");
    }
}
