//! Finds the nodes that hold the tenant, measures the way to them, and keeps the client at the nearest.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use halcyon_core::{
    env::Env,
    id::{NodeId, RegionName},
};
use halcyon_proto::{
    convert::{self, Location},
    error::{ErrorCode, Refusal},
    v1::{self, sync_client::SyncClient},
};
use tokio::sync::Notify;
use tonic::transport::Channel;

use crate::{
    error::ConnectError,
    limits::{MEASURE_PATIENCE, QUICK_DEADLINE, SAMPLES},
    routing::{Route, Router, median},
    session::NodeClock,
    transport::{CallError, Transport, within},
};

/// The way to the tenant.
#[derive(Debug)]
pub(crate) struct Navigator {
    env: Env,
    pub(crate) transport: Transport,
    pub(crate) tenant: String,
    router: Mutex<Router>,
    /// Something failed: look around now.
    pub(crate) look: Notify,
}

impl Navigator {
    pub(crate) fn new(env: Env, transport: Transport, tenant: String, router: Router) -> Self {
        Self {
            env,
            transport,
            tenant,
            router: Mutex::new(router),
            look: Notify::new(),
        }
    }

    /// The node to speak to now, and a client for it.
    pub(crate) fn route(&self) -> Option<(Route, SyncClient<Channel>)> {
        let now = self.env.clock.monotonic();
        let route = self.router().choose(now)?;
        let client = self.transport.sync(&route.address);
        Some((route, client))
    }

    /// The clock of the node to speak to now, as it was when that was greeted: the first call on a connection.
    pub(crate) async fn clock(&self) -> Option<NodeClock> {
        loop {
            let (route, _) = self.route()?;
            match self.transport.clock_at(&route.address).await {
                Ok(clock) => return clock,
                // Whatever it refuses, it will say so again.
                Err(CallError::Refused(_)) => return None,
                Err(CallError::Lost(_)) => self.on_failed(&route.address),
            }
        }
    }

    /// A call there failed.
    pub(crate) fn on_failed(&self, address: &str) {
        let (now, jitter) = (self.env.clock.monotonic(), self.env.entropy.next());
        self.router().on_failed(address, now, jitter);
        self.transport.forget(address);
        self.look.notify_one();
    }

    /// A call there was answered.
    pub(crate) fn on_worked(&self, address: &str) {
        self.router().on_worked(address);
    }

    /// A node said who holds the tenant.
    pub(crate) fn on_elsewhere(&self, address: &str, replicas: Vec<v1::Replica>) {
        let now = self.env.clock.monotonic();
        if let Ok(replicas) = convert::replicas(replicas) {
            self.router().on_located(replicas, 0);
        }
        self.router().on_elsewhere(address, now);
        self.on_failed(address);
    }

    /// The node in use.
    pub(crate) fn current(&self) -> Option<Route> {
        self.router().current().cloned()
    }

    /// The nodes that hold the tenant.
    pub(crate) fn replicas(&self) -> BTreeSet<NodeId> {
        self.router().replicas().clone()
    }

    /// Refuses where nodes answer at the given addresses and none of them holds the tenant.
    pub(crate) fn check_pinned(&self, location: &Location) -> Result<(), ConnectError> {
        let answered = self.router().answered();
        let mut replicas = location.replicas.iter();
        if answered.is_empty() || replicas.any(|replica| answered.contains(&replica.node)) {
            return Ok(());
        }
        let names: Vec<_> = answered.iter().map(ToString::to_string).collect();
        let holders: Vec<_> = location
            .replicas
            .iter()
            .map(|replica| format!("{} in {} at {}", replica.node, replica.region, replica.address))
            .collect();
        let text = format!(
            "{} does not hold tenant {}; {} does",
            names.join(" or "),
            location.name,
            holders.join(" or ")
        );
        Err(ConnectError::Refused(Refusal::new(ErrorCode::WrongRegion, text)))
    }

    /// Asks one node after the other where the tenant is, the given addresses all at once.
    pub(crate) async fn find(&self) -> Result<Location, ConnectError> {
        let addresses = self.router().to_ask();
        let mut asked: FuturesUnordered<_> = addresses.iter().map(|address| self.ask(address)).collect();
        let mut failure = ConnectError::Unreachable("no address was given".to_owned());
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(location) => {
                    self.router()
                        .on_located(location.replicas.clone(), location.metadata_index);
                    return Ok(location);
                }
                // A refusal says more than a failed connection.
                Err(error) if matches!(failure, ConnectError::Unreachable(_)) => failure = error,
                Err(_) => {}
            }
        }
        Err(failure)
    }

    async fn ask(&self, address: &str) -> Result<Location, ConnectError> {
        let hello = self
            .transport
            .hello(address)
            .await
            .map_err(|error| named(address, error))?;
        self.router().on_seed(address, NodeId(hello.node));
        let message = v1::LocateRequest {
            tenant: self.tenant.clone(),
        };
        let request = self.transport.request(message, Some(QUICK_DEADLINE));
        let mut client = self.transport.sync(address);
        let answer = within(QUICK_DEADLINE, client.locate(request)).await;
        Ok(Location::try_from(answer.map_err(|error| named(address, error))?)?)
    }

    /// Measures the round trip to every replica. Returns once all have answered or failed.
    pub(crate) async fn measure(&self) {
        let addresses = self.router().to_measure();
        let mut measured: FuturesUnordered<_> = addresses.iter().map(|address| self.measure_one(address)).collect();
        while measured.next().await.is_some() {}
    }

    /// Measures until the first replicas have answered; those that are further away are measured later.
    pub(crate) async fn measure_at_start(&self) {
        let addresses = self.router().to_measure();
        let mut measured: FuturesUnordered<_> = addresses.iter().map(|address| self.measure_one(address)).collect();
        while let Some(answered) = measured.next().await {
            if answered {
                let rest = async { while measured.next().await.is_some() {} };
                let _ = tokio::time::timeout(MEASURE_PATIENCE, rest).await;
                return;
            }
        }
    }

    /// Returns whether it answered.
    async fn measure_one(&self, address: &str) -> bool {
        match self.round_trips(address).await {
            Ok((hello, samples)) => {
                if let Some(median) = median(samples) {
                    let region = RegionName::new(&hello.region).ok();
                    self.router().on_measured(address, NodeId(hello.node), region, median);
                }
                true
            }
            Err(error) => {
                tracing::debug!(address, %error, "a replica does not answer");
                let (now, jitter) = (self.env.clock.monotonic(), self.env.entropy.next());
                self.router().on_failed(address, now, jitter);
                false
            }
        }
    }

    async fn round_trips(&self, address: &str) -> Result<(v1::HelloResponse, Vec<Duration>), CallError> {
        // The first call may have to open the connection.
        let hello = self.transport.hello(address).await?;
        let mut samples = Vec::with_capacity(SAMPLES);
        for _ in 0..SAMPLES {
            let before = self.env.clock.monotonic();
            self.transport.hello(address).await?;
            samples.push(self.env.clock.monotonic().saturating_sub(before));
        }
        Ok((hello, samples))
    }

    fn router(&self) -> MutexGuard<'_, Router> {
        self.router.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn named(address: &str, error: CallError) -> ConnectError {
    match error {
        CallError::Refused(refusal) => ConnectError::Refused(refusal),
        CallError::Lost(reason) => ConnectError::Unreachable(format!("{address}: {reason}")),
    }
}
