//! A client made of nothing but the wire: it stamps and encodes change sets itself, and pushes them in large requests.
//!
//! Tests use it for loads that must not wait, and for bytes that no honest client sends.

use std::time::Duration;

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, Clock, NTP64},
    id::{EntityId, Predicate},
    value::Value,
    version_vector::VersionVector,
};
use halcyon_proto::v1::{
    GetRequest, HeldRequest, HelloRequest, PushRequest, PushResult, ScanRequest, Taken, WireVersions, push_result,
    sync_client::SyncClient,
};
use tokio::task::JoinHandle;
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use crate::wait::{self, runtime};

/// Change sets in one request. A request holds one message's bytes at the most.
const SETS_IN_REQUEST: usize = 500;

/// No single call of a test takes longer.
const CALL_WITHIN: Duration = Duration::from_secs(30);

/// How often a set that was answered "later" is pushed again.
const RETRIES_MAX: usize = 200;

/// How long to wait after "later".
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// An open tenant at one node.
#[derive(Debug, Clone)]
pub struct Door {
    sync: SyncClient<Channel>,
    tenant: String,
    key: String,
    clock: Clock,
    number: u64,
    vector: VersionVector,
}

impl Door {
    /// Connects when first used.
    #[track_caller]
    pub fn open(port: u16, tenant: &str, key: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("an address is a URI");
        let _inside = runtime().enter();
        let channel = endpoint.timeout(CALL_WITHIN).connect_lazy();
        Self {
            sync: SyncClient::new(channel),
            tenant: tenant.to_owned(),
            key: key.to_owned(),
            clock: Clock::new(ClientId::from_random(draw()), NTP64(0)),
            number: 0,
            vector: VersionVector::EMPTY,
        }
    }

    /// Reads one entity as a caller of a release that speaks these wire versions, as its `user-agent` tells.
    pub fn get_as(&mut self, user_agent: &str) -> Result<usize, Status> {
        let (tenant, subject) = (self.tenant.clone(), "e0".to_owned());
        let mut request = self.keyed(GetRequest {
            tenant,
            subject,
            forward: false,
        });
        if let Ok(value) = MetadataValue::try_from(user_agent) {
            request.metadata_mut().insert("user-agent", value);
        }
        let answer = runtime().block_on(self.sync.get(request))?;
        Ok(answer.into_inner().triples.len())
    }

    /// Says hello, with a range of wire versions.
    pub fn hello(&mut self, oldest: u32, newest: u32) -> Result<u32, Status> {
        let versions = Some(WireVersions { oldest, newest });
        let agent = "halcyon-tests".to_owned();
        let said = runtime().block_on(self.sync.hello(HelloRequest { versions, agent }));
        said.map(|answer| answer.into_inner().version)
    }

    /// Makes the next change set, stamped now.
    pub fn set(&mut self, changes: Vec<Change>) -> ChangeSet {
        self.number += 1;
        let timestamp = self.clock.stamp(wait::wall());
        ChangeSet {
            timestamp,
            number: self.number,
            changes,
        }
    }

    /// Pushes encoded sets in one request, and returns each one's answer.
    pub fn push_encoded(&mut self, change_sets: Vec<Vec<u8>>) -> Result<Vec<PushResult>, Status> {
        runtime().block_on(self.push(change_sets))
    }

    async fn push(&mut self, change_sets: Vec<Vec<u8>>) -> Result<Vec<PushResult>, Status> {
        let request = PushRequest {
            tenant: self.tenant.clone(),
            change_sets: change_sets.into_iter().map(Into::into).collect(),
            vector: self.vector.encode().into(),
            forward: false,
        };
        let request = self.keyed(request);
        let answer = self.sync.push(request).await?;
        Ok(answer.into_inner().results)
    }

    /// Writes sets and demands that each is taken; "later" is asked again.
    #[track_caller]
    pub fn write(&mut self, sets: &[ChangeSet]) -> Vec<Taken> {
        let mut taken = Vec::new();
        for part in sets.chunks(SETS_IN_REQUEST) {
            let encoded: Vec<Vec<u8>> = part.iter().map(ChangeSet::encode).collect();
            taken.extend(self.push_until_taken(&encoded));
        }
        taken
    }

    /// Writes `count` entities of one field each, in a set of their own each: `e{first}`, `e{first+1}`, …
    #[track_caller]
    pub fn write_entities(&mut self, first: usize, count: usize) -> Vec<Taken> {
        let sets: Vec<ChangeSet> = (first..first + count).map(|at| self.entity(at)).collect();
        self.write(&sets)
    }

    /// The same once, without demands: whether all were taken.
    pub fn try_write_entities(&mut self, first: usize, count: usize) -> bool {
        let sets = (first..first + count).map(|at| self.entity(at).encode()).collect();
        let is_taken = |result: PushResult| matches!(result.result, Some(push_result::Result::Taken(_)));
        self.push_encoded(sets)
            .is_ok_and(|results| results.len() == count && results.into_iter().all(is_taken))
    }

    /// The values of an entity, as JSON text, in order.
    pub fn get(&mut self, subject: &str) -> Result<Vec<(String, String)>, Status> {
        let (tenant, subject) = (self.tenant.clone(), subject.to_owned());
        let request = self.keyed(GetRequest {
            tenant,
            subject,
            forward: false,
        });
        let answer = runtime().block_on(self.sync.get(request))?.into_inner();
        let mut values: Vec<(String, String)> = answer
            .triples
            .into_iter()
            .map(|triple| {
                let value = Value::decode(&triple.value).map_or_else(|e| e.to_string(), |v| v.to_json().to_string());
                (triple.predicate, value)
            })
            .collect();
        values.sort();
        Ok(values)
    }

    /// One page of a scan over everything.
    pub fn scan(&mut self, limit: u32) -> Result<usize, Status> {
        let tenant = self.tenant.clone();
        let request = self.keyed(ScanRequest {
            tenant,
            limit,
            ..ScanRequest::default()
        });
        runtime()
            .block_on(self.sync.scan(request))
            .map(|answer| answer.into_inner().triples.len())
    }

    /// What the node holds durably.
    pub fn own_vector(&mut self) -> Result<VersionVector, Status> {
        let tenant = self.tenant.clone();
        let request = self.keyed(HeldRequest { tenant, forward: false });
        let answer = runtime().block_on(self.sync.held(request))?.into_inner();
        VersionVector::decode(&answer.own).map_err(|error| Status::internal(error.to_string()))
    }

    /// The next change set: the entity of this number, one field.
    pub fn entity(&mut self, at: usize) -> ChangeSet {
        self.set(titled(at))
    }

    /// Sends one call more than the tester waits for: nobody hears the answer.
    pub fn push_and_go(&self, change_sets: Vec<Vec<u8>>) -> JoinHandle<Result<Vec<PushResult>, Status>> {
        let mut door = self.clone();
        runtime().spawn(async move { door.push(change_sets).await })
    }

    #[track_caller]
    fn push_until_taken(&mut self, encoded: &[Vec<u8>]) -> Vec<Taken> {
        let mut taken = Vec::new();
        let mut last = String::new();
        for _ in 0..RETRIES_MAX {
            match self.push_encoded(encoded[taken.len()..].to_vec()) {
                Ok(results) => {
                    for result in results {
                        match result.result {
                            Some(push_result::Result::Taken(one)) => taken.push(one),
                            other => {
                                last = format!("{other:?}");
                                break;
                            }
                        }
                    }
                }
                Err(status) => last = status.to_string(),
            }
            if taken.len() == encoded.len() {
                return taken;
            }
            wait::pause(RETRY_AFTER);
        }
        panic!("{} of {} sets were taken; then: {last}", taken.len(), encoded.len())
    }

    fn keyed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Ok(value) = MetadataValue::try_from(format!("Bearer {}", self.key)) {
            request.metadata_mut().insert("authorization", value);
        }
        request
    }
}

/// What makes the entity of a number: `e7` with the title "value 7".
#[track_caller]
pub fn titled(at: usize) -> Vec<Change> {
    let subject = entity(&format!("e{at}"));
    let value = Value::string(&format!("value {at}"));
    vec![
        Change::Create {
            subject: subject.clone(),
        },
        Change::Set {
            subject,
            predicate: predicate("item/title"),
            value,
        },
    ]
}

/// An entity's id.
#[track_caller]
pub fn entity(id: &str) -> EntityId {
    EntityId::new(id).expect("a test's id is well formed")
}

/// A predicate.
#[track_caller]
pub fn predicate(text: &str) -> Predicate {
    Predicate::new(text).expect("a test's predicate is well formed")
}

/// Random bits that differ between test processes and within one.
fn draw() -> u128 {
    use std::hash::{BuildHasher as _, RandomState};
    u128::from(RandomState::new().hash_one(1)) << 64 | u128::from(RandomState::new().hash_one(2))
}
