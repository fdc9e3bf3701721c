//! What happened on the lanes, read from what a run told, in the order in which it was told.
//!
//! Each machine tells of itself alone. A message is two such events put together: a set that is durable on its origin's
//! host, and later on another one; a catch-up that begins and ends; a set that is durable, and its client that hears of
//! it. Which way a set took between two hosts nobody tells: it may have been passed on by a third.

use std::collections::{BTreeMap, BTreeSet};

use halcyon_core::id::{NodeId, OriginId};

use super::{
    Kind, Lane, LaneAt, Link, Mark, Moment, Timeline,
    roles::Roles,
    sets::{Came, Sets},
    words::{self, Names},
};
use crate::{
    oracles::Vote,
    plan::{
        Plan,
        fault::{self, Fault},
    },
    world::{machine::Machine, trace::Told},
};

impl Timeline {
    /// The lanes and spans of a plan, and what its run told.
    pub fn of_run(plan: &Plan, told: &[Told]) -> Self {
        let mut timeline = Self::of_plan(plan);
        timeline.add_operators(told);
        let mut reader = Reader {
            names: Names::of(&timeline, told),
            lanes: timeline.machines(),
            cuts: leader_cuts(&plan.faults),
            timeline,
            roles: Roles::default(),
            sets: Sets::default(),
            pulls: BTreeMap::new(),
        };
        for told in told {
            reader.read(told);
        }
        reader.timeline
    }

    /// A lane for each operator that uses the control plane as clients use the data. The first one only sets things up.
    fn add_operators(&mut self, told: &[Told]) {
        let asked = told.iter().filter(|told| told.kind == "operator.asked");
        let operators: BTreeSet<Machine> = asked.map(|told| told.machine).collect();
        self.lanes.extend(operators.into_iter().map(|operator| Lane {
            name: operator.to_string(),
            note: "admin".to_owned(),
        }));
    }

    fn machines(&self) -> BTreeMap<Machine, LaneAt> {
        let lanes = self.lanes.iter().zip(0..);
        lanes
            .filter_map(|(lane, at)| Some((Machine::named(&lane.name)?, LaneAt(at))))
            .collect()
    }
}

/// The places in the plan's list of faults that cut off whoever leads, by how their events begin.
fn leader_cuts(faults: &[Fault]) -> BTreeMap<String, usize> {
    let cuts = faults.iter().zip(0..);
    let cuts = cuts.filter(|(fault, _)| matches!(fault.kind, fault::Kind::LeaderCut { .. }));
    cuts.map(|(fault, at)| (format!("#{} begins", fault.id), at)).collect()
}

/// What a host asked of another one, as an event has it: tenant and node.
type Pull = (LaneAt, String, NodeId);

struct Reader {
    timeline: Timeline,
    names: Names,
    lanes: BTreeMap<Machine, LaneAt>,
    cuts: BTreeMap<String, usize>,
    roles: Roles,
    sets: Sets,
    /// Catch-ups under way.
    pulls: BTreeMap<Pull, Moment>,
}

impl Reader {
    fn read(&mut self, told: &Told) {
        let lane = self.lanes.get(&told.machine).copied();
        let understood = match (told.kind, lane) {
            // It is a line of its own already.
            ("phase", _) => Some(()),
            ("fault", _) => {
                self.cut_leader(told);
                Some(())
            }
            ("violation", _) => {
                self.violation(told);
                Some(())
            }
            ("metadata.vote", Some(lane)) => self.vote(lane, told),
            ("storage.committed", Some(lane)) => self.committed(lane, told),
            ("client.acknowledged", Some(lane)) => self.acknowledged(lane, told),
            ("catch-up.began", Some(lane)) => self.pull_began(lane, told),
            ("catch-up.ended", Some(lane)) => self.pull_ended(lane, told),
            _ => None,
        };
        if understood.is_none() {
            self.plain(lane, told);
        }
    }

    fn mark(&mut self, told: &Told, lane: Option<LaneAt>, kind: Kind, text: String) {
        let at = moment(told);
        self.timeline.marks.push(Mark { at, lane, kind, text });
    }

    /// From `from`, where it left at `sent`, to where it is told of.
    fn link(&mut self, told: &Told, (from, sent): (LaneAt, Moment), to: LaneAt, (kind, text): (Kind, String)) {
        let received = moment(told);
        self.timeline.links.push(Link {
            sent,
            received,
            from,
            to,
            kind,
            text,
        });
    }

    /// What is told by one machine of itself.
    fn plain(&mut self, lane: Option<LaneAt>, told: &Told) {
        if let ("machine.down", Some(lane)) = (told.kind, lane) {
            self.roles.down(lane);
        }
        // Who meets a tenant's id somewhere else finds here whose it is.
        let said = match told.kind {
            "tenant" => words::said(told),
            _ => self.names.shorten(&words::said(told)),
        };
        let text = words::shortened(&said);
        let kind = words::kind(&self.names, told);
        self.mark(told, lane, kind, text);
    }

    /// The plan cannot know who is cut off.
    fn cut_leader(&mut self, told: &Told) {
        let begins = told.detail.split(':').next().unwrap_or_default();
        let Some(leader) = self.roles.leader() else { return };
        if let Some(span) = self.cuts.get(begins).and_then(|at| self.timeline.spans.get_mut(*at)) {
            let name = &self.timeline.lanes[leader.0].name;
            span.text = format!("{} ({name} leads)", span.text);
            span.lanes.push(leader);
        }
    }

    fn violation(&mut self, told: &Told) {
        let lane = words::first_lane(&self.timeline, &told.detail);
        self.mark(told, lane, Kind::Violation, told.detail.clone());
        if let Some((at, lane, text)) = words::unexplained(&self.timeline, &told.detail) {
            let (kind, lane) = (Kind::Violation, Some(lane));
            self.timeline.marks.push(Mark { at, lane, kind, text });
        }
    }

    fn vote(&mut self, lane: LaneAt, told: &Told) -> Option<()> {
        let vote = Vote::read(&told.detail)?;
        let whom = self.names.host(vote.leader.node);
        let said = self
            .roles
            .vote(lane, vote, whom, &self.names.whom(&self.timeline, vote.leader.node));
        if let Some(text) = said {
            self.mark(told, Some(lane), Kind::Role, text);
        }
        Some(())
    }

    fn committed(&mut self, lane: LaneAt, told: &Told) -> Option<()> {
        let mut words = told.detail.split(' ');
        let tenant = words.next()?;
        let origin = OriginId::from_bytes(hex::decode(words.next()?).ok()?.try_into().ok()?);
        let tag = format!("{origin}:{}", words.next()?);
        let set = format!("{} {tag}", self.names.tenant(tenant));
        let is_origin = self.names.host(origin.node) == Some(lane);
        match self.sets.committed(lane, tag, is_origin, moment(told)) {
            Came::Here => self.mark(told, Some(lane), Kind::Commit, set),
            Came::From(origin, sent) => self.link(told, (origin, sent), lane, (Kind::Gossip, set)),
            Came::FromAfar => self.mark(told, Some(lane), Kind::Gossip, set),
            Came::Again => self.mark(told, Some(lane), Kind::Note, format!("has {set} in its log")),
        }
        Some(())
    }

    fn acknowledged(&mut self, lane: LaneAt, told: &Told) -> Option<()> {
        let (_, tag) = told.detail.split_once(" at ")?;
        let (origin, sent) = self.sets.origin(tag)?;
        let text = format!("acknowledged: {}", told.detail);
        self.link(told, (origin, sent), lane, (Kind::Push, text));
        Some(())
    }

    fn pull_began(&mut self, lane: LaneAt, told: &Told) -> Option<()> {
        let (tenant, node) = pull(told)?;
        let from = self.names.whom(&self.timeline, node);
        let text = format!("asks {from} for what it lacks of {}", self.names.tenant(&tenant));
        self.mark(told, Some(lane), Kind::CatchUp, text);
        self.pulls.insert((lane, tenant, node), moment(told));
        Some(())
    }

    fn pull_ended(&mut self, lane: LaneAt, told: &Told) -> Option<()> {
        let (tenant, node) = pull(told)?;
        let text = self.names.tenant(&tenant).to_owned();
        let from = self.names.host(node)?;
        let sent = self.pulls.remove(&(lane, tenant, node))?;
        self.link(told, (from, sent), lane, (Kind::CatchUp, text));
        Some(())
    }
}

fn moment(told: &Told) -> Moment {
    Moment(told.at / 1_000)
}

/// `tenant from node`
fn pull(told: &Told) -> Option<(String, NodeId)> {
    let (tenant, node) = told.detail.split_once(" from ")?;
    Some((tenant.to_owned(), node.parse().ok()?))
}
