//! What oracles hear: what a node's probe said, understood; what clients were told; faults.

use std::{collections::BTreeMap, fmt, rc::Rc};

use halcyon_client::{
    WatchEvent,
    engine::{QuerySnapshot, QueryStatus},
    rooms::RoomMessage,
};
use halcyon_core::{
    change::{Change, ChangeSet},
    id::{EntityId, NodeId, OriginId, Predicate, Seq, Tag, TenantId},
    query::answer::Answer,
    value::Value,
};
use halcyon_proto::error::ErrorCode;

use super::vote::{LeaderId, Placed, Vote};
use crate::{
    lin::{
        Operation,
        register::{Call, Reply},
    },
    plan::{
        cluster::{Client, Host},
        fault::Fault,
        time::Millis,
    },
    world::machine::Machine,
};

/// One of a client's followers of live queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Follower {
    /// Whose.
    pub client: Client,
    /// Which of the client's.
    pub slot: u32,
}

impl fmt::Display for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}'s follower {}", self.client, self.slot)
    }
}

/// A live query at one moment.
#[derive(Debug)]
pub struct Followed {
    /// Who follows it.
    pub follower: Follower,
    /// The tenant.
    pub tenant: TenantId,
    /// The query.
    pub query: &'static str,
    /// What all updates make together.
    pub told: (Option<Answer>, QueryStatus),
    /// What the client answers when asked for it.
    pub now: QuerySnapshot,
}

/// What a client knows of the room that it is in.
#[derive(Debug)]
pub struct RoomShown {
    /// Whose.
    pub client: Client,
    /// The tenant.
    pub tenant: TenantId,
    /// Itself.
    pub user: String,
    /// What the others do, by user: of one that has several connections, each.
    pub users: BTreeMap<String, Vec<String>>,
    /// The room's status.
    pub status: BTreeMap<String, String>,
    /// Whether a node is connected.
    pub is_connected: bool,
}

/// A message, or a value of a room's status.
#[derive(Debug)]
pub struct Said {
    /// By whom.
    pub client: Client,
    /// In a room of this tenant.
    pub tenant: TenantId,
    /// What: nobody else ever says it.
    pub text: String,
    /// To one user's connection alone: the user.
    pub to: Option<String>,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A set became durable on a host, its origin's or by gossip.
    Committed {
        /// Where.
        host: Host,
        /// The tenant.
        tenant: TenantId,
        /// Where its origin put it.
        tag: Tag,
        /// Hash of the set as the client sent it.
        hash: u64,
        /// Without what was superseded.
        set: ChangeSet,
    },
    /// A host erased a tenant.
    Erased(Host, TenantId),
    /// A host put an entry at the end of its log of the control plane. It is not durable yet.
    Appended(Host, Placed),
    /// A host applied an entry of the control plane's log.
    Applied(Host, Placed),
    /// A host's vote is durable.
    Voted(Host, Vote),
    /// A host's control plane starts with this vote, as its disk has it, or with none.
    VoteFound(Host, Option<Vote>),
    /// Up to this place a host's log is durable.
    LogDurable(Host, u64),
    /// A host's log ends there, or ended before.
    LogCut(Host, u64),
    /// The last place of the log that a host found when it started.
    LogFound(Host, u64),
    /// A host agreed with a peer on a wire version, on a new connection.
    Speaks {
        /// Where.
        host: Host,
        /// With whom.
        node: NodeId,
        /// On which.
        version: u32,
    },
    /// A host shows the incarnation that it runs in by a first seq that stands for nothing.
    Began(TenantId, OriginId),
    /// A client begins to write: from here on its set may be stamped.
    Writing(Client),
    /// A client put a set into its outbox.
    Wrote {
        /// Who.
        client: Client,
        /// The set's number in this life of the client.
        number: u64,
        /// What it changes.
        changes: Vec<Change>,
    },
    /// A client was told that a set is durable.
    Acknowledged {
        /// Who.
        client: Client,
        /// The tenant.
        tenant: TenantId,
        /// The set's number in this life of the client.
        number: u64,
        /// Where the set is said to be.
        tag: Tag,
    },
    /// A client was told that a set is refused for good.
    Refused {
        /// Who.
        client: Client,
        /// Why, for programs.
        code: ErrorCode,
        /// Why.
        why: String,
    },
    /// A client asks for an entity.
    Reading(Client, TenantId),
    /// A client read an entity.
    Read {
        /// Who.
        client: Client,
        /// The tenant.
        tenant: TenantId,
        /// The entity.
        subject: EntityId,
        /// What it was shown.
        shown: Vec<(Predicate, Value)>,
    },
    /// A client's watch begins anew, with nothing.
    WatchBegan(Client),
    /// A client's watch told something.
    Watched(Client, TenantId, WatchEvent),
    /// A live query told something, or its status changed.
    Followed(Rc<Followed>),
    /// A client stopped following a query.
    FollowEnded(Follower),
    /// A query cannot be followed, or not further, and why.
    NotFollowed(Follower, &'static str, String),
    /// A client is about to say something in its room.
    Said(Rc<Said>),
    /// A client, as this user, is about to do this in its room.
    Moved(Client, String, String),
    /// A client heard a message in its room; its connection there.
    Heard(Client, TenantId, RoomMessage),
    /// What a client knows of its room.
    RoomShown(Rc<RoomShown>),
    /// A client left its room.
    LeftRoom(Client),
    /// An operator was answered, or was not.
    Controlled {
        /// The name that it was about.
        name: String,
        /// What it asked and heard.
        operation: Operation<Call<u64>, Reply<u64>>,
    },
    /// A fault begins.
    FaultBegan(Fault),
    /// A fault ends.
    FaultEnded(Fault, Millis),
    /// A host went down.
    Down(Host),
    /// A client's program ended.
    ClientDown(Client),
    /// A page was loaded anew before its last write was pushed: it comes with nothing that it had seen.
    LoadedAnew(Client),
    /// An operator took a host out for good while it ran: nobody hears any more of what it alone has.
    TakenOut(Host),
    /// What a host's disk holds is not what its node left there.
    DiskChanged(Host),
}

/// What a machine's probe said, if oracles care.
pub fn understand(machine: Machine, kind: &str, detail: &str) -> Option<Event> {
    let Machine::Host(number) = machine else { return None };
    let host = Host(number);
    let mut words = detail.split(' ');
    match kind {
        "storage.committed" => committed(host, &mut words),
        "storage.began" => Some(Event::Began(
            words.next()?.parse().ok()?,
            OriginId::from_bytes(hex::decode(words.next()?).ok()?.try_into().ok()?),
        )),
        "storage.erased" => Some(Event::Erased(host, detail.parse().ok()?)),
        "metadata.appended" => Some(Event::Appended(host, placed(&mut words)?)),
        "metadata.entry" => Some(Event::Applied(host, placed(&mut words)?)),
        "metadata.vote" => Some(Event::Voted(host, Vote::read(detail)?)),
        "metadata.log-cut" => Some(Event::LogCut(host, detail.parse().ok()?)),
        "metadata.log-durable" => Some(Event::LogDurable(host, detail.parse().ok()?)),
        "metadata.log-found" => Some(Event::LogFound(host, detail.parse().ok()?)),
        "metadata.vote-found" => Some(Event::VoteFound(host, Vote::read(detail))),
        "peer.speaks" => Some(Event::Speaks {
            host,
            node: words.next()?.parse().ok()?,
            version: words.next()?.parse().ok()?,
        }),
        _ => None,
    }
}

fn committed<'a>(host: Host, words: &mut impl Iterator<Item = &'a str>) -> Option<Event> {
    let tenant = words.next()?.parse().ok()?;
    let origin = hex::decode(words.next()?).ok()?;
    let origin = OriginId::from_bytes(origin.try_into().ok()?);
    let seq = Seq(words.next()?.parse().ok()?);
    let hash = u64::from_str_radix(words.next()?, 16).ok()?;
    let set = ChangeSet::decode(&hex::decode(words.next()?).ok()?).ok()?;
    let tag = Tag { origin, seq };
    Some(Event::Committed {
        host,
        tenant,
        tag,
        hash,
        set,
    })
}

fn placed<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Placed> {
    let mut number = || words.next()?.parse().ok();
    let (index, term, node) = (number()?, number()?, number()?);
    let leader = LeaderId {
        term,
        node: NodeId(node),
    };
    let hash = u32::from_str_radix(words.next()?, 16).ok()?;
    Some(Placed { index, leader, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_bytes_are_read_from_text() {
        let leader = LeaderId {
            term: 4,
            node: NodeId(2),
        };
        let entry = Placed {
            index: 17,
            leader,
            hash: 0xff,
        };
        assert_eq!(placed(&mut "17 4 2 000000ff".split(' ')), Some(entry));
        assert_eq!(placed(&mut "17 4 2".split(' ')), None);
    }
}
