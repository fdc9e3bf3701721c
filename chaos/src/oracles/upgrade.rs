//! Nodes of two releases understand each other, and two of the newer one speak its version.

use std::collections::BTreeMap;

use halcyon_core::id::NodeId;

use super::{Event, Evidence, Moment, Oracle};
use crate::plan::cluster::Host;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Upgrade {
    /// What a host speaks with a node, as agreed on their last connection.
    spoken: BTreeMap<(Host, NodeId), u32>,
}

impl Oracle for Upgrade {
    fn name(&self) -> &'static str {
        "upgrade"
    }

    fn hear(&mut self, event: &Event, evidence: Evidence<'_>) -> Result<(), String> {
        match event {
            Event::Speaks { host, node, version } => {
                let ours = evidence.stage.releases.wire_of(*host);
                if !(ours.oldest..=ours.newest).contains(version) {
                    return Err(format!("{host} and node {node} found no version in common"));
                }
                self.spoken.insert((*host, *node), *version);
            }
            // Its connections ended, at both sides: a node that nobody has called since may have spoken an older one.
            Event::Down(host) => self
                .spoken
                .retain(|(of, node), _| of != host && evidence.stage.host_of(*node) != Some(*host)),
            _ => {}
        }
        Ok(())
    }

    fn look(&mut self, moment: Moment, evidence: Evidence<'_>) -> Result<(), String> {
        if moment != Moment::End {
            return Ok(());
        }
        let stage = evidence.stage;
        for ((host, node), version) in &self.spoken {
            let Some(other) = stage.host_of(*node).filter(|other| stage.rooms(*other).is_some()) else {
                continue;
            };
            let newest = stage
                .releases
                .wire_of(*host)
                .newest
                .min(stage.releases.wire_of(other).newest);
            if *version != newest {
                return Err(format!(
                    "{host} speaks version {version} with {other}, and both know {newest}"
                ));
            }
        }
        Ok(())
    }
}
