//! The nodes that an operator's client may ask: which one is in use, which is next, and where a tenant's replicas are.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use halcyon_core::env::Env;
use halcyon_proto::{
    error::{ErrorCode, Refusal},
    v1::admin_client::AdminClient,
};
use tonic::transport::Channel;

use crate::{
    error::AdminError,
    limits::{ADMIN_NODES_MAX, GREETED_FOR},
    transport::{CallError, Transport},
};

/// The addresses an operator gave, and who of them answers.
pub(crate) struct Nodes {
    env: Env,
    pub(crate) transport: Transport,
    pub(crate) addresses: Vec<String>,
    greeted: Mutex<Greeted>,
}

/// The node in use.
#[derive(Debug, Clone, Copy, Default)]
struct Greeted {
    /// Its place among the addresses.
    at: usize,
    /// When it answered last.
    answered: Option<Duration>,
}

/// Addresses that one call has tried, by their places. None is tried twice.
pub(crate) type Tried = BTreeSet<usize>;

impl Nodes {
    pub(crate) fn new(env: Env, transport: Transport, addresses: Vec<String>) -> Self {
        Self {
            env,
            transport,
            addresses,
            greeted: Mutex::default(),
        }
    }

    /// A node that answers: the one in use, or the next that does and that this call has not tried.
    pub(crate) async fn reach(&self, tried: &mut Tried) -> Result<String, AdminError> {
        let Greeted { at, answered } = *self.greeted();
        let is_fresh = answered.is_some_and(|answered| self.now().saturating_sub(answered) < GREETED_FOR);
        if is_fresh && tried.insert(at) {
            return Ok(self.addresses[at].clone());
        }
        let (mut failures, mut refused) = (Vec::new(), None);
        for at in in_turn(at, self.addresses.len(), tried) {
            tried.insert(at);
            let address = &self.addresses[at];
            match self.transport.hello(address).await {
                Ok(_) => {
                    let answered = Some(self.now());
                    *self.greeted() = Greeted { at, answered };
                    return Ok(address.clone());
                }
                // It says no; another may say yes.
                Err(CallError::Refused(refusal)) => refused = Some(refusal),
                Err(CallError::Lost(reason)) => {
                    self.transport.forget(address);
                    failures.push(format!("{address}: {reason}"));
                }
            }
        }
        // A refusal says more than a failed connection.
        Err(refused.map_or_else(|| AdminError::Unreachable(failures.join("; ")), AdminError::Refused))
    }

    /// Whether this call has an address left to try.
    pub(crate) fn has_untried(&self, tried: &Tried) -> bool {
        tried.len() < self.addresses.len()
    }

    /// The node in use has answered.
    pub(crate) fn on_answered(&self) {
        self.greeted().answered = Some(self.now());
    }

    /// A call failed: after a lost one the node in use is greeted before the next.
    pub(crate) fn on_failed(&self, error: CallError) -> AdminError {
        if matches!(error, CallError::Lost(_)) {
            self.greeted().answered = None;
        }
        error.into()
    }

    /// Makes a call that only a node with the tenant answers: at the node in use, then at those that its refusal
    /// names, then at the other given addresses. Where all fail, the first refusal counts.
    pub(crate) async fn at_replica<T, F: Future<Output = Result<T, CallError>>>(
        &self,
        call: impl Fn(AdminClient<Channel>) -> F,
    ) -> Result<T, AdminError> {
        let first = self.reach(&mut Tried::new()).await?;
        let mut failure = None;
        let mut asked = BTreeSet::new();
        let mut to_ask = VecDeque::from([first]);
        while let Some(address) = to_ask.pop_front() {
            if asked.len() >= ADMIN_NODES_MAX || !asked.insert(address.clone()) {
                continue;
            }
            match call(self.transport.admin(&address)).await {
                Ok(answer) => return Ok(answer),
                Err(CallError::Refused(refusal))
                    if matches!(refusal.code, ErrorCode::WrongRegion | ErrorCode::NodeRemoved) =>
                {
                    to_ask.extend(replicas(&refusal));
                    // What a node says of itself may not be reachable from here; a given address is.
                    to_ask.extend(self.addresses.iter().cloned());
                    failure.get_or_insert(AdminError::Refused(refusal));
                }
                // One that was named may be away, or speak to nobody from here.
                Err(CallError::Lost(_)) if !to_ask.is_empty() => {}
                Err(error) => {
                    failure = Some(self.on_failed(error));
                    break;
                }
            }
        }
        Err(failure.unwrap_or_else(|| AdminError::Unreachable("no node was asked".to_owned())))
    }

    fn now(&self) -> Duration {
        self.env.clock.monotonic()
    }

    fn greeted(&self) -> MutexGuard<'_, Greeted> {
        self.greeted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether another node may well answer a read that this one refused.
pub(crate) const fn is_of_one_node(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Busy | ErrorCode::Retry | ErrorCode::NoQuorum | ErrorCode::Internal | ErrorCode::WireVersion
    )
}

/// Places of addresses from `at` on, once around, without those that were tried.
fn in_turn(at: usize, count: usize, tried: &Tried) -> Vec<usize> {
    let around = (0..count).map(|step| (at + step) % count);
    around.filter(|place| !tried.contains(place)).collect()
}

/// Where the replicas that a refusal names are reached, those that serve first.
fn replicas(refusal: &Refusal) -> Vec<String> {
    let mut replicas: Vec<_> = refusal.replicas.iter().collect();
    replicas.sort_by_key(|replica| !replica.serving);
    replicas.into_iter().map(|replica| replica.address.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_tried_once_from_the_one_in_use_on() {
        //     in use, tried before, what is tried now
        check(0, &[], &[0, 1, 2]);
        check(1, &[], &[1, 2, 0]);
        check(1, &[0], &[1, 2]);
        check(1, &[0, 1], &[2]);
        check(2, &[0, 1, 2], &[]);
    }

    #[track_caller]
    fn check(at: usize, tried: &[usize], expected: &[usize]) {
        assert_eq!(in_turn(at, 3, &tried.iter().copied().collect()), expected);
    }
}
