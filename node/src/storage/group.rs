//! One group of requests: each is decided, merged in memory and written into the group's log frame.

use std::{collections::BTreeMap, sync::Arc};

use halcyon_core::{
    change::ChangeSet,
    clock::WallTime,
    env::Env,
    id::{NodeId, OriginId, Seq, Tag, TenantId},
    mutant::{self, Mutant},
    version_vector::VersionVector,
};

use super::{
    admit::{self, Decision},
    command::{Command, CommitCommand},
    request::{Act, Answer, Request},
    state::Prepared,
    types::{Admit, AdmitError, Admitted, Commit, GossipOutcome, GossipSet, StorageError, StorageEvent, Via},
    work::Work,
};

/// This node as an origin, by tenant: drawn anew after every start and every entry into a placement.
#[derive(Debug)]
pub(super) struct Origins {
    pub(super) node: NodeId,
    pub(super) env: Env,
    pub(super) drawn: BTreeMap<TenantId, OriginId>,
}

/// A group in the making.
#[derive(Debug)]
pub(super) struct Group<'w, 'v> {
    pub(super) work: &'w mut Work<'v>,
    pub(super) origins: &'w mut Origins,
    pub(super) now: WallTime,
    /// What goes into the log.
    pub(super) payload: Vec<u8>,
    /// What the sink hears when the group is durable.
    pub(super) events: Vec<StorageEvent>,
}

impl Origins {
    fn of(&mut self, tenant: TenantId) -> OriginId {
        let (node, env) = (self.node, &self.env);
        let draw = || {
            if mutant::active(Mutant::SeqReused) {
                return OriginId { node, incarnation: 1 };
            }
            OriginId::draw(node, env.clock.wall().unix_millis(), env.entropy.next())
        };
        *self.drawn.entry(tenant).or_insert_with(draw)
    }

    /// What to raise a vector to that ends incarnations of this node: to the first seq of the one that it runs in as well,
    /// which then stands for nothing. So whoever reads a vector that covers the end reads, too, that the node runs anew.
    fn ending(&mut self, tenant: TenantId, vector: &VersionVector, held: &VersionVector) -> VersionVector {
        let mut raised = vector.clone();
        let ended = vector.iter().filter(|tag| tag.origin.node == self.node);
        let Some(ended) = ended.map(|tag| tag.origin.incarnation).max() else {
            return raised;
        };
        let mut origin = self.of(tenant);
        if origin.incarnation <= ended {
            // The clock was set back since.
            origin = OriginId::draw_after(ended, self.node, self.env.entropy.next());
            self.drawn.insert(tenant, origin);
        }
        if held.get(origin) == Seq::default() {
            let tag = Tag { origin, seq: Seq(1) };
            self.env.probe.event("storage.began", &|| {
                format!("{tenant} {}", hex::encode(origin.to_bytes()))
            });
            raised.raise(tag);
        }
        raised
    }
}

impl Group<'_, '_> {
    /// Merges a request into the group. After an error the group must be dropped.
    pub(super) fn take(&mut self, request: &Request) -> Result<Answer, StorageError> {
        Ok(match request {
            Request::Admit(admit, _) => Answer::Admit(self.admit(admit)?),
            Request::Gossip { from, sets, .. } => {
                let mut outcomes = Vec::with_capacity(sets.len());
                for set in sets {
                    outcomes.push(self.gossip(*from, set)?);
                }
                Answer::Gossip(outcomes)
            }
            Request::Act { tenant, act, .. } => Answer::Act(match self.act(*tenant, act) {
                Err(StorageError::NotHeld(tenant)) => Err(StorageError::NotHeld(tenant)),
                result => Ok(result?),
            }),
            Request::Close(_) => unreachable!("the writer handles it"),
        })
    }

    fn run(&mut self, tenant: TenantId, command: &Command) -> Result<(), StorageError> {
        command.put(tenant, &mut self.payload);
        self.work.apply(tenant, command)
    }

    fn admit(&mut self, admit: &Admit) -> Result<Result<Admitted, AdmitError>, StorageError> {
        let Some(state) = self.work.tenant(admit.tenant) else {
            return Ok(Err(StorageError::NotHeld(admit.tenant).into()));
        };
        let collection_epoch = state.summary.collection_epoch;
        let origin = self.origins.of(admit.tenant);
        let decision = self.work.on_tenant(admit.tenant, |work| work.decide(admit, origin))?;
        match decision {
            Decision::Again(tag) => Ok(Ok(admit::again(tag))),
            Decision::Refuse(error) => Ok(Err(error)),
            Decision::Take { commit, superseded } => {
                let tag = commit.tag;
                let overwritten = self.commit(admit.tenant, &commit, (collection_epoch, Via::Client))?;
                Ok(Ok(Admitted {
                    tag,
                    overwritten: admit::whole_places(overwritten, &superseded),
                    superseded,
                    again: false,
                }))
            }
        }
    }

    fn gossip(&mut self, from: NodeId, set: &GossipSet) -> Result<GossipOutcome, StorageError> {
        let Some(state) = self.work.tenant(set.tenant) else {
            return Ok(GossipOutcome::NotHere);
        };
        let held = state.summary.vector.get(set.tag.origin);
        if state.summary.collection_epoch != set.collection_epoch {
            return Ok(GossipOutcome::NotHere);
        }
        if set.tag.seq <= held {
            return Ok(GossipOutcome::Held);
        }
        if set.tag.seq != held.next() && !mutant::active(Mutant::GapSkipped) {
            return Ok(GossipOutcome::Gap(held));
        }
        let Ok(decoded) = ChangeSet::decode(&set.encoded) else {
            return Ok(GossipOutcome::Failed);
        };
        if self.origins.env.probe.rare("storage: a change set cannot be applied") {
            if mutant::active(Mutant::FailedApplySeen) {
                self.run(set.tenant, &Command::Raise([set.tag].into_iter().collect()))?;
            }
            return Ok(GossipOutcome::Failed);
        }
        let commit = CommitCommand {
            tag: set.tag,
            now: self.now,
            content_hash: set.content_hash,
            encoded: set.encoded.clone(),
            set: Arc::new(decoded),
        };
        self.commit(set.tenant, &commit, (set.collection_epoch, Via::Gossip(from)))?;
        Ok(GossipOutcome::Taken)
    }

    /// Places of changes that a later write has beaten.
    fn commit(
        &mut self,
        tenant: TenantId,
        commit: &CommitCommand,
        (collection_epoch, via): (u64, Via),
    ) -> Result<Vec<u32>, StorageError> {
        self.events.push(StorageEvent::Committed(Arc::new(Commit {
            tenant,
            tag: commit.tag,
            set: Arc::clone(&commit.set),
            encoded: commit.encoded.clone(),
            content_hash: commit.content_hash,
            collection_epoch,
            via,
        })));
        commit.put_command(tenant, &mut self.payload);
        self.work.on_tenant(tenant, |work| work.commit(commit))
    }

    fn act(&mut self, tenant: TenantId, act: &Act) -> Result<bool, StorageError> {
        let held = self.work.tenant(tenant).cloned();
        let state = match (held, act) {
            (Some(_), Act::Open { .. }) => return Ok(false),
            (None, Act::Open { collection_epoch }) => {
                self.origins.drawn.remove(&tenant);
                let collection_epoch = *collection_epoch;
                self.run(tenant, &Command::Open { collection_epoch })?;
                return Ok(true);
            }
            (None, Act::Erase { .. }) => return Ok(true),
            (None, _) => return Err(StorageError::NotHeld(tenant)),
            (Some(state), _) => state,
        };
        let summary = &state.summary;
        match act {
            Act::Open { .. } => {}
            Act::SetAdmitting(admitting) if summary.admitting == *admitting => {}
            Act::SetAdmitting(admitting) => self.run(tenant, &Command::SetAdmitting(*admitting))?,
            Act::Erase { if_covered_by } => {
                if let Some(others) = if_covered_by
                    && !(others.covers(&summary.vector) && others.covers(&summary.seen))
                {
                    return Ok(false);
                }
                self.origins.drawn.remove(&tenant);
                self.run(tenant, &Command::Erase)?;
                self.events.push(StorageEvent::Erased(tenant));
            }
            Act::Raise(vector) if summary.vector.covers(vector) => {}
            Act::Raise(vector) => {
                let raised = self.origins.ending(tenant, vector, &summary.vector);
                self.run(tenant, &Command::Raise(raised))?;
                self.events.push(StorageEvent::CaughtUp(tenant));
            }
            Act::Prepare { epoch, cells, barrier } => {
                // Who has not forgotten yet what the epoch before asks for must not write something else in its place.
                let ready = summary.vector.covers(barrier) && summary.collection_epoch + 1 == *epoch;
                // The first round, without a barrier, only asks. Everybody held all of it as gone then: what shows again by
                // the second is left out when the rest is forgotten. All other collections would wait for it.
                let only_asks = barrier.is_empty();
                if !ready || only_asks && !self.work.on_tenant(tenant, |work| work.are_gone(cells))? {
                    return Ok(false);
                }
                if !only_asks {
                    let prepared = Prepared {
                        epoch: *epoch,
                        cells: cells.clone(),
                        barrier: Some(barrier.clone()),
                    };
                    self.run(tenant, &Command::Prepare(Arc::new(prepared)))?;
                }
            }
            Act::Collect { epoch } if summary.collection_epoch == *epoch => {}
            Act::Collect { epoch } => {
                if state.prepared.as_ref().is_none_or(|prepared| prepared.epoch != *epoch) {
                    return Ok(false);
                }
                self.run(tenant, &Command::Collect { epoch: *epoch })?;
            }
            Act::Delta(batch) => {
                self.run(tenant, &Command::Delta(Arc::clone(batch)))?;
                if batch.complete {
                    self.events.push(StorageEvent::CaughtUp(tenant));
                }
            }
        }
        Ok(true)
    }
}
