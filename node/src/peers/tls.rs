//! TLS between nodes: version 1.3 only, ring, the cluster's CA on both sides.
//!
//! - A node that calls checks the CA and that the certificate names the node it wanted.
//! - A node that is called takes a caller without a certificate (Join and Hello need none), and one with a certificate
//!   only from the CA. What an unnamed caller may do is decided above, in `rpc::auth`.
//! - A node that joins knows only the CA's fingerprint, from its token.

use std::sync::Arc;

use halcyon_core::{env::Env, env::WallClock, id::NodeId};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    server::WebPkiClientVerifier,
    time_provider::TimeProvider,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use thiserror::Error;

use super::{
    authority::{node_name, node_of_name},
    identity::Identity,
    secret::sha256,
};

const ALPN: &[u8] = b"h2";

/// The name that a node's certificate must have.
pub fn server_name(node: NodeId) -> ServerName<'static> {
    ServerName::try_from(node_name(node)).expect("a number and a fixed domain make a DNS name")
}

/// The node that a verified certificate names.
pub fn node_of_certificate(certificate: &CertificateDer<'_>) -> Option<NodeId> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut nodes = certificate.valid_dns_names().map(node_of_name);
    match (nodes.next(), nodes.next()) {
        (Some(node), None) => node,
        _ => None,
    }
}

/// For calls to peers.
pub fn client_config(env: &Env, identity: &Identity) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_details(provider(), time(env)).with_protocol_versions(&[&TLS13])?;
    let mut config = builder
        .with_root_certificates(roots(&identity.ca_certificate)?)
        .with_client_auth_cert(chain(identity), key(identity))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// For calls from peers.
pub fn server_config(env: &Env, identity: &Identity) -> Result<ServerConfig, rustls::Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&identity.ca_certificate)?), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let builder = ServerConfig::builder_with_details(provider(), time(env)).with_protocol_versions(&[&TLS13])?;
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(identity), key(identity))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// For the one call of a node that has no certificate yet: the other side must show the CA with this fingerprint, and
/// a certificate that this CA signed.
pub fn joining_config(env: &Env, ca_fingerprint: [u8; 32]) -> Result<ClientConfig, rustls::Error> {
    let provider = provider();
    let verifier = FingerprintVerifier {
        ca_fingerprint,
        algorithms: provider.signature_verification_algorithms,
    };
    let builder = ClientConfig::builder_with_details(provider, time(env)).with_protocol_versions(&[&TLS13])?;
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// For clients, where the operator gave a certificate: TLS 1.3, HTTP/2 and HTTP/1.1.
pub fn client_listener_config(env: &Env, chain_pem: &[u8], key_pem: &[u8]) -> Result<ServerConfig, rustls::Error> {
    use rustls_pki_types::pem::PemObject;
    let unreadable = |what: &str, error: rustls_pki_types::pem::Error| {
        rustls::Error::General(format!("the {what} file is not PEM as expected: {error}"))
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain_pem).collect();
    let chain = chain.map_err(|error| unreadable("certificate", error))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| unreadable("key", error))?;
    let builder = ServerConfig::builder_with_details(provider(), time(env)).with_protocol_versions(&[&TLS13])?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn time(env: &Env) -> Arc<dyn TimeProvider> {
    Arc::new(EnvTime(env.clone()))
}

fn roots(ca_certificate: &[u8]) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca_certificate.to_vec()))?;
    Ok(roots)
}

/// The CA goes with the certificate: a node that joins must see it to compare its fingerprint.
fn chain(identity: &Identity) -> Vec<CertificateDer<'static>> {
    let own = CertificateDer::from(identity.certificate.clone());
    let ca = CertificateDer::from(identity.ca_certificate.clone());
    vec![own, ca]
}

fn key(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(identity.key.clone()).into()
}

/// The time for certificates comes from `Env` as well.
#[derive(Debug)]
struct EnvTime(Env);

impl TimeProvider for EnvTime {
    fn current_time(&self) -> Option<UnixTime> {
        let clock: &dyn WallClock = &*self.0.clock;
        Some(UnixTime::since_unix_epoch(clock.wall().0.to_duration()))
    }
}

/// The node at the other end does not show the CA that the token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the node there does not belong to the token's cluster")]
pub struct OtherCluster;

fn other_cluster() -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(OtherCluster))))
}

/// Whether a failed handshake failed for [`OtherCluster`].
pub fn is_other_cluster(error: &(dyn std::error::Error + 'static)) -> bool {
    // An `io::Error` shows what it wraps by `get_ref` alone: its `source` is one further on.
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let inner: Option<&(dyn std::error::Error + 'static)> = inner.map(|inner| inner as _);
    match inner.unwrap_or(error).downcast_ref() {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(reason)))) => {
            reason.is::<OtherCluster>()
        }
        _ => false,
    }
}

#[derive(Debug)]
struct FingerprintVerifier {
    ca_fingerprint: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for FingerprintVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ca = intermediates
            .iter()
            .find(|certificate| sha256(certificate) == self.ca_fingerprint)
            .ok_or_else(other_cluster)?;
        let invalid = |_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
        let anchor = webpki::anchor_from_trusted_cert(ca).map_err(invalid)?;
        let certificate = webpki::EndEntityCert::try_from(end_entity).map_err(invalid)?;
        certificate
            .verify_for_usage(
                self.algorithms.all,
                &[anchor],
                &[],
                now,
                webpki::KeyUsage::server_auth(),
                None,
                None,
            )
            .map_err(|_| other_cluster())?;
        // Whoever it is, it is a node of the cluster: the CA signs nothing else.
        node_of_certificate(end_entity)
            .map(|_| ServerCertVerified::assertion())
            .ok_or(rustls::Error::InvalidCertificate(CertificateError::NotValidForName))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::peers::authority::Authority;

    fn env() -> (tempfile::TempDir, Env) {
        let directory = tempfile::tempdir().unwrap();
        let env = crate::env::system(directory.path()).unwrap();
        (directory, env)
    }

    /// Who the server thinks calls, if both sides are content.
    async fn meet(client: ClientConfig, server: ServerConfig, expected: NodeId) -> Option<Option<NodeId>> {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let connector = TlsConnector::from(Arc::new(client));
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let (client, server) = tokio::join!(connector.connect(server_name(expected), ours), acceptor.accept(theirs));
        let (client, mut server) = (client.ok()?, server.ok()?);
        // In TLS 1.3 a client ends its handshake before the server has judged it.
        drop(client);
        let _ = tokio::io::AsyncReadExt::read(&mut server, &mut [0]).await;
        let certificates = server.get_ref().1.peer_certificates();
        Some(certificates.and_then(|chain| node_of_certificate(&chain[0])))
    }

    #[tokio::test]
    async fn each_side_knows_who_the_other_is() {
        let (_directory, env) = env();
        let ours = Authority::create("ours").unwrap();
        let foreign = Authority::create("foreign").unwrap();
        let one = ours.first_identity(NodeId(1), "ours").unwrap();
        let two = ours.first_identity(NodeId(2), "ours").unwrap();
        let stranger = foreign.first_identity(NodeId(2), "foreign").unwrap();
        let server = || server_config(&env, &one).unwrap();

        let known = meet(client_config(&env, &two).unwrap(), server(), NodeId(1)).await;
        assert_eq!(known, Some(Some(NodeId(2))));
        let other_node = meet(client_config(&env, &two).unwrap(), server(), NodeId(3)).await;
        assert_eq!(other_node, None, "an address may not answer for another node");
        let foreign_client = meet(client_config(&env, &stranger).unwrap(), server(), NodeId(1)).await;
        assert_eq!(foreign_client, None);
        let mut half_foreign = stranger.clone();
        half_foreign.ca_certificate.clone_from(&one.ca_certificate);
        let forged = meet(client_config(&env, &half_foreign).unwrap(), server(), NodeId(1)).await;
        assert_eq!(forged, None, "a certificate from another CA");
    }

    #[tokio::test]
    async fn a_node_that_joins_trusts_the_fingerprint_alone() {
        let (_directory, env) = env();
        let ours = Authority::create("ours").unwrap();
        let one = ours.first_identity(NodeId(1), "ours").unwrap();
        let server = || server_config(&env, &one).unwrap();
        let good = joining_config(&env, ours.fingerprint()).unwrap();
        assert_eq!(meet(good, server(), NodeId(9)).await, Some(None), "let in, as nobody");
        let bad = joining_config(&env, [0; 32]).unwrap();
        assert_eq!(meet(bad, server(), NodeId(9)).await, None);
    }
}
