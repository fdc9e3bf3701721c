//! What the measurements of live queries share: where they happen, entities of five fields, and waiting for a follower.

use std::{ops::Range, path::Path, time::Duration};

use halcyon_client::{
    Client, ClientOptions, LiveQuery, Outbox,
    engine::{QueryStatus, Update},
};
use halcyon_core::{
    change::Change,
    env::Env,
    id::{EntityId, Predicate},
    query::{
        answer::{Datum, Member},
        live::{self, Item},
    },
    value::Value,
};

use super::cluster::{self, Cluster};
use crate::cli::{Globals, connect, dev::REGIONS, failure::Failure, output::Progress};

/// Entities in one set while the tenant is filled.
const SET_ENTITIES: u64 = 150;

/// How long one update may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// Entities of one group.
pub const GROUP: u64 = 10;

/// Nodes, one or a few, and a tenant on them.
#[derive(Debug)]
pub struct Place {
    own: Option<Cluster>,
    /// Where clients reach the nodes; at least one.
    addresses: Vec<String>,
    /// The tenant.
    pub tenant: String,
    /// Its key.
    pub key: String,
}

impl Place {
    /// The first node of `--cluster`, or one of its own.
    pub async fn open(dir: &Path, globals: &Globals, tenant: &str) -> Result<Self, Failure> {
        Self::open_in(&REGIONS[..1], dir, globals, tenant).await
    }

    /// The nodes of `--cluster`, or one of its own in each of these regions.
    pub async fn open_in(regions: &[&str], dir: &Path, globals: &Globals, tenant: &str) -> Result<Self, Failure> {
        if !globals.cluster.is_empty() {
            return Ok(Self {
                own: None,
                addresses: globals.cluster.clone(),
                tenant: tenant.to_owned(),
                key: connect::key(globals, tenant)?,
            });
        }
        let cluster = Cluster::start(dir, regions).await?;
        let key = cluster.tenant(regions).await?;
        Ok(Self {
            addresses: cluster.nodes.iter().map(|node| node.client_address.clone()).collect(),
            own: Some(cluster),
            tenant: cluster::TENANT.to_owned(),
            key,
        })
    }

    /// Where clients reach the first node.
    pub fn address(&self) -> &str {
        &self.addresses[0]
    }

    /// How many nodes it has addresses of.
    pub const fn nodes(&self) -> usize {
        self.addresses.len()
    }

    /// A client of the first node, with everything in memory.
    pub async fn client(&self) -> Result<Client, Failure> {
        self.client_at(0).await
    }

    /// A client of this node.
    pub async fn client_at(&self, at: usize) -> Result<Client, Failure> {
        cluster::pinned_client(&self.addresses[at], &self.tenant, &self.key).await
    }

    /// A client in a world of the caller's choice.
    pub async fn client_in(&self, env: Env, outbox: Outbox) -> Result<Client, Failure> {
        let options = ClientOptions {
            addresses: vec![self.address().to_owned()],
            tenant: self.tenant.clone(),
            key: self.key.clone(),
            forward: true,
            outbox,
            ..ClientOptions::default()
        };
        Client::connect(env, options).await.map_err(Failure::failed)
    }

    /// Resident memory of the first node, if it is this measurement's own.
    pub fn node_bytes(&self) -> Option<u64> {
        Some(self.own.as_ref()?.nodes[0].resident_bytes())
    }

    /// Processor time that the nodes have used, if they are this measurement's own.
    pub fn cpu_time(&self) -> Option<Duration> {
        Some(self.own.as_ref()?.nodes.iter().map(cluster::Node::cpu_time).sum())
    }
}

/// Entities of a type that nothing else has: titles, owners, groups of ten, ranks and dates.
#[derive(Debug)]
pub struct Items {
    /// Their type.
    pub name: String,
}

impl Items {
    /// None yet, of a type that nobody has used.
    pub fn of_a_new_type() -> Self {
        let name = format!("item{}", hex::encode(connect::random_bytes(4)));
        Self { name }
    }

    /// A change to one field.
    pub fn set(&self, at: u64, field: &str, value: Value) -> Change {
        Change::Set {
            subject: self.id(at),
            predicate: Predicate::new(&format!("{}/{field}", self.name)).expect("a type's name and a field's"),
            value,
        }
    }

    /// Writes those of a range, until all are acknowledged.
    pub async fn fill(&self, client: &Client, range: Range<u64>) -> Result<(), Failure> {
        let progress = Progress::new("writing", "entities", range.end.saturating_sub(range.start));
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + SET_ENTITIES);
            let changes = (at..end).flat_map(|at| self.created(at)).collect();
            client.write(changes).await.map_err(connect::write_failure)?;
            progress.add(end - at);
            at = end;
        }
        client.flush().await.map_err(connect::flush_failure)?;
        progress.done();
        Ok(())
    }

    fn id(&self, at: u64) -> EntityId {
        EntityId::new(&format!("{}-{at:08}", self.name)).expect("short and plain")
    }

    fn created(&self, at: u64) -> Vec<Change> {
        vec![
            Change::Create { subject: self.id(at) },
            self.set(at, "title", Value::string(&format!("What is said of number {at}"))),
            self.set(at, "owner", Value::string(&format!("owner {}", at % 97))),
            self.set(at, "group", Value::string(&group(at / GROUP))),
            self.set(at, "rank", number(at)),
            self.set(at, "created", Value::Date(date(at))),
        ]
    }
}

/// The name of a group.
pub fn group(at: u64) -> String {
    format!("group {at}")
}

/// A number as a value.
pub fn number(number: u64) -> Value {
    Value::number(super::float(number)).expect("not NaN")
}

/// A date for a number, later for a larger one.
pub fn date(at: u64) -> i64 {
    1_700_000_000_000 + i64::try_from(at).unwrap_or(0)
}

/// Waits until a query shows the node's state.
pub async fn until_synced(live: &mut LiveQuery) -> Result<(), Failure> {
    until(live, |update| matches!(update, Update::Status(QueryStatus::Synced))).await
}

/// Waits until the answer moves.
pub async fn until_moved(live: &mut LiveQuery) -> Result<(), Failure> {
    until(live, |update| matches!(update, Update::Delta(_))).await
}

/// Waits until the answer is told of an object with this value, which nothing had before.
pub async fn until_told(live: &mut LiveQuery, value: &Value) -> Result<(), Failure> {
    let has_it = |change: &live::Change| match change {
        live::Change::Added(_, Item::Object(object))
        | live::Change::Changed {
            item: Item::Object(object),
            ..
        } => {
            let is_it = |member: &Member| matches!(member, Member::Datum(Datum::Value(there)) if there == value);
            object.members.iter().any(|(_, member)| is_it(member))
        }
        _ => false,
    };
    until(
        live,
        |update| matches!(update, Update::Delta(delta) if delta.0.iter().any(has_it)),
    )
    .await
}

async fn until(live: &mut LiveQuery, is_it: impl Fn(&Update) -> bool) -> Result<(), Failure> {
    let waiting = async {
        loop {
            match live.next().await {
                Some(Update::Failed(error)) => return Err(Failure::failed(error)),
                Some(update) if is_it(&update) => return Ok(()),
                Some(_) => {}
                None => return Err(Failure::failed("the client is closed")),
            }
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| {
        let seconds = PATIENCE.as_secs();
        Err(Failure::failed(format_args!(
            "an update did not come within {seconds} s"
        )))
    })
}

/// Follows a query.
pub fn follow(client: &Client, query: &str) -> Result<LiveQuery, Failure> {
    client.live(query).map_err(Failure::failed)
}
