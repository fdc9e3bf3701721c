//! Which release each host runs. All run this one, until a rolling upgrade gives them one that knows one more version of
//! the wire.

use std::{cell::RefCell, collections::BTreeSet};

use halcyon_proto::{v1::WireVersions, version::WIRE};

use crate::plan::cluster::Host;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Releases {
    upgraded: RefCell<BTreeSet<Host>>,
}

impl Releases {
    /// From its next start on a host runs the newer release.
    pub(super) fn upgrade(&self, host: Host) {
        self.upgraded.borrow_mut().insert(host);
    }

    /// The wire versions that a host's release speaks.
    pub(crate) fn wire_of(&self, host: Host) -> WireVersions {
        WireVersions {
            newest: WIRE.newest + u32::from(self.upgraded.borrow().contains(&host)),
            ..WIRE
        }
    }
}
