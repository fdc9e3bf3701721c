//! How a directory comes to belong to a node: by making a cluster, by joining one, or from before.
//!
//! A bootstrap that is cut off goes on at the next start: all that was drawn for it lies in one file until the control
//! plane has it.

use halcyon_core::{
    env::{Access, Env},
    id::{NodeId, RegionName, TenantId},
};
use serde::{Deserialize, Serialize};

use super::NodeError;
use crate::{
    config::{Config, Start},
    metadata::{
        Bootstrap, Metadata,
        state::{Node, NodeState},
    },
    peers::{
        Identity, IdentityError,
        authority::Authority,
        secret::{Credential, Kind},
    },
    rpc::{Place, forget_request, join},
};

/// The admin credential that bootstrap leaves in the data directory, for its owner alone.
pub const ADMIN_FILE: &str = "admin.credential";

/// A bootstrap that is on its way.
const PENDING_FILE: &str = "bootstrap";

/// The number of the node that makes a cluster.
const FIRST_NODE: NodeId = NodeId(1);

/// What a start begins with.
pub(super) struct Begun {
    pub(super) identity: Identity,
    /// Who can be asked before the control plane has told.
    pub(super) peers: Vec<(NodeId, String)>,
    /// To be done before anything else.
    pub(super) bootstrap: Option<Bootstrap>,
}

/// What a bootstrap drew.
#[derive(Serialize, Deserialize)]
struct Pending {
    identity: Identity,
    ca_key: Vec<u8>,
    admin: [u8; 32],
}

pub(super) async fn begin(
    env: &Env,
    config: &Config,
    client_address: &str,
    peer_address: &str,
) -> Result<Begun, NodeError> {
    let place = Place {
        region: config.region.clone(),
        client_address: client_address.to_owned(),
        peer_address: peer_address.to_owned(),
    };
    if let Some(identity) = Identity::load(env)? {
        if let Start::Join(token) = &config.start
            && token.cluster != identity.cluster
        {
            let (ours, theirs) = (identity.cluster, token.cluster.clone());
            return Err(NodeError::OtherCluster { ours, theirs });
        }
        let bootstrap = load_pending(env)?.map(|pending| bootstrap(pending, &place));
        return Ok(Begun {
            identity,
            peers: Vec::new(),
            bootstrap,
        });
    }
    match &config.start {
        Start::Resume => Err(NodeError::NoCluster),
        Start::Bootstrap => {
            let pending = draw(env)?;
            let identity = pending.identity.clone();
            Ok(Begun {
                identity,
                peers: Vec::new(),
                bootstrap: Some(bootstrap(pending, &place)),
            })
        }
        Start::Join(token) => {
            let joined = join(env, token, &place).await?;
            joined.identity.save(env)?;
            forget_request(env).map_err(IdentityError::from)?;
            Ok(Begun {
                identity: joined.identity,
                peers: joined.peers,
                bootstrap: None,
            })
        }
    }
}

/// The control plane has everything: what was drawn for it can go.
pub(super) fn bootstrapped(env: &Env) -> Result<(), NodeError> {
    Ok(env.disk.remove(PENDING_FILE).map_err(IdentityError::from)?)
}

/// A node stays in the region where it joined: tenants' data was placed by it.
pub(super) fn check_region(metadata: &Metadata, node: NodeId, given: &RegionName) -> Result<(), NodeError> {
    let joined = metadata
        .view()
        .read(|state| state.nodes.get(&node).map(|known| known.region.clone()));
    match joined {
        Some(ours) if ours != *given => Err(NodeError::OtherRegion {
            node,
            ours,
            given: given.clone(),
        }),
        _ => Ok(()),
    }
}

/// Draws a new cluster and keeps it, the identity last: without it the next start begins anew.
fn draw(env: &Env) -> Result<Pending, NodeError> {
    let cluster = TenantId::generate(|count| env.random_bytes(count)).to_string();
    let authority = Authority::create(&cluster)?;
    let admin = Credential::draw(env, Kind::Admin);
    let pending = Pending {
        identity: authority.first_identity(FIRST_NODE, &cluster)?,
        ca_key: authority.key().to_vec(),
        admin: admin.hash(),
    };
    let text = format!("{}\n", admin.reveal());
    let bytes = postcard::to_allocvec(&pending).expect("a struct of numbers and bytes is encodable");
    let keep = |name, bytes: &[u8]| {
        env.disk
            .write_small(name, bytes, Access::Secret)
            .map_err(IdentityError::from)
    };
    keep(ADMIN_FILE, text.as_bytes())?;
    keep(PENDING_FILE, &bytes)?;
    pending.identity.save(env)?;
    Ok(pending)
}

fn load_pending(env: &Env) -> Result<Option<Pending>, NodeError> {
    let bytes = env.disk.read_small(PENDING_FILE).map_err(IdentityError::from)?;
    let read = |bytes: Vec<u8>| postcard::from_bytes(&bytes).map_err(|_| IdentityError::Damaged);
    Ok(bytes.map(read).transpose()?)
}

fn bootstrap(pending: Pending, place: &Place) -> Bootstrap {
    Bootstrap {
        cluster: pending.identity.cluster,
        ca_certificate: pending.identity.ca_certificate,
        ca_key: pending.ca_key,
        admin: pending.admin,
        node: Node {
            id: pending.identity.node,
            region: place.region.clone(),
            client_address: place.client_address.clone(),
            peer_address: place.peer_address.clone(),
            state: NodeState::Active,
        },
    }
}
