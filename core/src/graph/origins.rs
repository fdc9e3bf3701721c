//! Numbers for clients and origins: 16 bytes each that stand in every fact, 4 when interned.

use uhlc::{NTP64, Timestamp};

use super::cells::Stamp;
use crate::collections::BTreeMap;
use crate::{
    clock::{ClientId, timestamp},
    id::{NodeId, OriginId, Seq, Tag},
};

/// The tag of what no node has committed yet: larger than all others, so that a commit takes its place.
pub(super) const UNCOMMITTED: Tag = Tag {
    origin: OriginId {
        node: NodeId(u64::MAX),
        incarnation: u64::MAX,
    },
    seq: Seq(u64::MAX),
};

/// Clients and origins with their numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Origins {
    clients: Vec<ClientId>,
    client_numbers: BTreeMap<ClientId, u32>,
    names: Vec<OriginId>,
    name_numbers: BTreeMap<OriginId, u32>,
}

impl Origins {
    /// Interns both.
    pub(super) fn stamp(&mut self, tag: Tag, timestamp: &Timestamp) -> Stamp {
        Stamp {
            time: timestamp.get_time().0,
            client: number(&mut self.clients, &mut self.client_numbers, ClientId::of(timestamp)),
            origin: number(&mut self.names, &mut self.name_numbers, tag.origin),
            seq: tag.seq.0,
        }
    }

    pub(super) fn client(&self, number: u32) -> ClientId {
        self.clients[number as usize]
    }

    pub(super) fn tag(&self, stamp: Stamp) -> Tag {
        Tag {
            origin: self.names[stamp.origin as usize],
            seq: Seq(stamp.seq),
        }
    }

    pub(super) fn timestamp(&self, stamp: Stamp) -> Timestamp {
        timestamp(NTP64(stamp.time), self.client(stamp.client))
    }
}

fn number<T: Ord + Copy>(names: &mut Vec<T>, numbers: &mut BTreeMap<T, u32>, name: T) -> u32 {
    *numbers.entry(name).or_insert_with(|| {
        names.push(name);
        u32::try_from(names.len() - 1).expect("limits::ORIGINS_MAX, and clients fit memory")
    })
}
