//! A new node's first call: by token, to any node of the cluster, for its number and its certificate.
//!
//! It trusts the CA fingerprint in the token and nothing else; it sends its token to nobody who cannot show that CA.
//!
//! The cluster knows a node that asks again by its signing request. So that is kept until the answer is: a node that
//! died while it joined, or whose answer was lost, is the same node at its next start.

use std::{io, sync::Arc};

use halcyon_core::{
    env::{Access, BoxStream, Env},
    id::{NodeId, RegionName},
};
use halcyon_proto::{
    error::{ErrorCode, Refusal},
    v1,
    version::{AGENT, WIRE},
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;

use super::{rooms::Rooms, status::refusal};
use crate::{
    limits::JOIN_TIMEOUT,
    metadata::command::{Command, Reply},
    peers::{
        Identity, PeerClient,
        authority::{Authority, AuthorityError, SigningRequest},
        endpoint, limited,
        secret::sha256,
        tls,
        token::JoinToken,
    },
};

/// Why a node cannot join.
#[derive(Debug, Error)]
pub enum JoinError {
    /// The cluster said no: the token is wrong, expired or another cluster's, the region is misspelt, and so on.
    #[error("the cluster refused: {0}")]
    Refused(Refusal),
    /// Who answers at the token's addresses is in another cluster. The token was not sent to it.
    #[error(
        "the token is for another cluster than the node at {0}: that node does not show the certificate that the token \
         names. Make a token with `halcyon token create` in the cluster that this node shall join, and give all of it"
    )]
    OtherCluster(String),
    /// Nobody of the token's addresses answered.
    #[error(
        "none of the nodes in the token could be asked: {0}; check that they run and that this machine reaches them"
    )]
    Unreachable(String),
    /// A key could not be made, or the answer could not be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Our own TLS could not be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The disk said no.
    #[error("the file `{PENDING_FILE}`: {0}")]
    Disk(#[from] io::Error),
}

/// Where a node that joins will be found.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its region.
    pub region: RegionName,
    /// For clients.
    pub client_address: String,
    /// For peers.
    pub peer_address: String,
}

/// An identity, and where the peers are.
#[derive(Debug)]
pub struct Joined {
    /// Who we are now.
    pub identity: Identity,
    /// The others.
    pub peers: Vec<(NodeId, String)>,
}

/// A join that is on its way.
const PENDING_FILE: &str = "join";

/// What was drawn for it, and for what.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    cluster: String,
    region: String,
    peer_address: String,
    key: Vec<u8>,
    request: Vec<u8>,
}

/// The request of an earlier try to join the same cluster at the same place, or a new one.
fn signing_request(env: &Env, token: &JoinToken, place: &Place) -> Result<SigningRequest, JoinError> {
    if let Some(bytes) = env.disk.read_small(PENDING_FILE)?
        // What cannot be read is drawn again.
        && let Ok(pending) = postcard::from_bytes::<Pending>(&bytes)
        && (&pending.cluster, &pending.peer_address) == (&token.cluster, &place.peer_address)
        && pending.region == place.region.as_str()
    {
        return Ok(SigningRequest::restore(&pending.key, pending.request)?);
    }
    let request = SigningRequest::create()?;
    let pending = Pending {
        cluster: token.cluster.clone(),
        region: place.region.to_string(),
        peer_address: place.peer_address.clone(),
        key: request.key().to_vec(),
        request: request.der().to_vec(),
    };
    let bytes = postcard::to_allocvec(&pending).expect("a struct of texts and bytes is encodable");
    env.disk.write_small(PENDING_FILE, &bytes, Access::Secret)?;
    Ok(request)
}

/// The identity is kept: what was drawn for the join can go.
pub fn forget_request(env: &Env) -> io::Result<()> {
    env.disk.remove(PENDING_FILE)
}

/// Asks one node of the token after the other.
pub async fn join(env: &Env, token: &JoinToken, place: &Place) -> Result<Joined, JoinError> {
    let request = signing_request(env, token, place)?;
    let tls = TlsConnector::from(Arc::new(tls::joining_config(env, token.ca_fingerprint)?));
    let message = v1::JoinRequest {
        token: token.reveal(),
        region: place.region.to_string(),
        client_address: place.client_address.clone(),
        peer_address: place.peer_address.clone(),
        signing_request: request.der().to_vec().into(),
        agent: AGENT.to_owned(),
    };
    let (mut failures, mut foreign) = (Vec::new(), Vec::new());
    for address in &token.addresses {
        let mut client = limited(connection(env, &tls, address));
        match timeout(JOIN_TIMEOUT, ask(&mut client, message.clone())).await {
            Ok(Ok(answer)) => return Ok(joined(request, answer)),
            Ok(Err(status)) => match Refusal::from_status(&status) {
                Some(refusal) if !is_temporary(refusal.code) => return Err(JoinError::Refused(refusal)),
                _ if is_foreign(&status) => foreign.push(address.as_str()),
                _ => failures.push(format!("{address}: {}", said(&status))),
            },
            Err(_) => failures.push(format!("{address}: no answer within {JOIN_TIMEOUT:?}")),
        }
    }
    if !foreign.is_empty() {
        return Err(JoinError::OtherCluster(foreign.join(", ")));
    }
    Err(JoinError::Unreachable(failures.join("; ")))
}

/// Another node may do better.
fn is_temporary(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NoQuorum | ErrorCode::Retry | ErrorCode::Busy | ErrorCode::Internal
    )
}

/// The innermost cause: tonic's own text stops at "transport error".
fn said(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

/// Whether the handshake found another cluster's node.
fn is_foreign(status: &tonic::Status) -> bool {
    let first = std::error::Error::source(status);
    std::iter::successors(first, |cause| cause.source()).any(tls::is_other_cluster)
}

async fn ask(client: &mut PeerClient, message: v1::JoinRequest) -> Result<v1::JoinResponse, tonic::Status> {
    let hello = v1::HelloRequest {
        versions: Some(WIRE),
        agent: AGENT.to_owned(),
    };
    client.hello(hello).await?;
    Ok(client.join(message).await?.into_inner())
}

fn joined(request: SigningRequest, answer: v1::JoinResponse) -> Joined {
    let peers = answer
        .peers
        .iter()
        .map(|peer| (NodeId(peer.node), peer.peer_address.clone()));
    let peers = peers.collect();
    let (certificate, ca) = (answer.certificate.to_vec(), answer.ca_certificate.to_vec());
    let identity = request.granted(NodeId(answer.node), answer.cluster, certificate, ca);
    Joined { identity, peers }
}

fn connection(env: &Env, tls: &TlsConnector, address: &str) -> Channel {
    let (env, tls, address) = (env.clone(), tls.clone(), address.to_owned());
    endpoint(WIRE).connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
        let (env, tls, address) = (env.clone(), tls.clone(), address.clone());
        async move {
            let stream = env.network.connect(address).await?;
            // The name is not checked: who joins does not know yet who is at that address.
            let stream = tls.connect(tls::server_name(NodeId::default()), stream).await?;
            Ok::<_, io::Error>(TokioIo::new(Box::new(stream) as BoxStream))
        }
    }))
}

impl Rooms {
    /// The other side of [`join`]. The same signing request gets the same number: an answer may have been lost.
    pub(super) async fn on_join(&self, message: v1::JoinRequest) -> Result<v1::JoinResponse, Refusal> {
        let malformed = |text: String| Refusal::new(ErrorCode::Malformed, text);
        let token: JoinToken = message
            .token
            .parse()
            .map_err(|error: crate::peers::token::TokenError| malformed(error.to_string()))?;
        if token.cluster != self.cluster {
            let text = format!(
                "the token is for cluster {}, and this is {}",
                token.cluster, self.cluster
            );
            return Err(Refusal::new(ErrorCode::Forbidden, text));
        }
        let region = RegionName::new(&message.region).map_err(|error| malformed(error.to_string()))?;
        for address in [&message.client_address, &message.peer_address] {
            if address.len() > 256 || !address.contains(':') {
                return Err(malformed(format!("{address:?} is not HOST:PORT")));
            }
        }
        let (certificate, key) = self
            .view
            .read(|state| (state.ca_certificate.clone(), state.ca_key.clone()));
        let authority = Authority::load(&certificate, &key).map_err(|error| malformed(error.to_string()))?;
        // Signed once before anything is written, so that a bad request leaves no trace.
        let sign = |node| {
            authority
                .sign(node, &message.signing_request)
                .map_err(|error| malformed(error.to_string()))
        };
        sign(NodeId::default())?;

        let digest = sha256(&message.signing_request);
        let request = digest.first_chunk::<16>().expect("SHA-256 has 32 bytes");
        let command = Command::Join {
            request: u128::from_be_bytes(*request),
            token: token.hash(),
            now_ms: self.env.clock.wall().unix_millis(),
            region,
            client_address: message.client_address,
            peer_address: message.peer_address,
        };
        let Reply::Joined(node) = self.metadata.write(command).await.map_err(refusal)? else {
            return Err(Refusal::new(
                ErrorCode::Internal,
                "the control plane answered a join with something else",
            ));
        };
        tracing::info!(%node, agent = %message.agent, "a node joined the cluster");
        let peers = self.view.nodes().into_iter().filter(|peer| peer.id != node);
        Ok(v1::JoinResponse {
            node: node.0,
            certificate: sign(node)?.into(),
            ca_certificate: certificate.into(),
            cluster: self.cluster.clone(),
            peers: peers.map(|peer| peer_address(&peer)).collect(),
        })
    }
}

fn peer_address(node: &crate::metadata::state::Node) -> v1::PeerAddress {
    v1::PeerAddress {
        node: node.id.0,
        region: node.region.to_string(),
        peer_address: node.peer_address.clone(),
        client_address: node.client_address.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_tries_again_at_the_same_place_asks_with_the_same_request() {
        let directory = tempfile::tempdir().unwrap();
        let env = crate::env::system(directory.path()).unwrap();
        let token = |cluster: &str| JoinToken::draw(&env, cluster.to_owned(), [0; 32], vec!["h1:1".to_owned()]);
        let place = |port: u16| Place {
            region: RegionName::new("eu-west").unwrap(),
            client_address: "h2:1".to_owned(),
            peer_address: format!("h2:{port}"),
        };
        let ask = |cluster, port| {
            let request = signing_request(&env, &token(cluster), &place(port)).unwrap();
            (request.key().to_vec(), request.der().to_vec())
        };
        let first = ask("a", 2);
        assert_eq!(ask("a", 2), first, "an answer may have been lost");
        let elsewhere = ask("a", 3);
        assert_ne!(elsewhere, first, "another place is another node");
        assert_ne!(ask("b", 3), elsewhere, "and so is one of another cluster");
        forget_request(&env).unwrap();
        assert_ne!(ask("b", 3), elsewhere, "one that has joined is done");
    }
}
