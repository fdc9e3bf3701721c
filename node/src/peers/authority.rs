//! The cluster's certificate authority: made at bootstrap, kept in the control plane, so that any node can sign the
//! certificate of one that joins.
//!
//! Keys are ECDSA P-256 on ring. The only names it may sign are nodes': `n3.nodes.halcyon`. Certificates do not
//! expire yet (their renewal comes with a later release, and a node whose clock is wrong must not lose its cluster); a
//! node that was removed is refused because it is no member.

use halcyon_core::id::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use thiserror::Error;

use super::{identity::Identity, secret::sha256};
use crate::{limits::SIGNING_REQUEST_BYTES_MAX, metadata::state::SecretHash};

/// Nodes' names end in this.
const NODES_DOMAIN: &str = "nodes.halcyon";

/// The name in a node's certificate.
pub fn node_name(node: NodeId) -> String {
    format!("{node}.{NODES_DOMAIN}")
}

/// The node that a certificate's name stands for.
pub fn node_of_name(name: &str) -> Option<NodeId> {
    let digits = name.strip_suffix(NODES_DOMAIN)?.strip_suffix('.')?.strip_prefix('n')?;
    let node = NodeId(digits.parse().ok()?);
    // One spelling for each node: no `n007`.
    (node_name(node) == name).then_some(node)
}

/// Why a certificate cannot be made.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// Bytes that are no CA of ours.
    #[error("the cluster's CA cannot be used: {0}")]
    Authority(rcgen::Error),
    /// Bytes that are no signing request, or one whose signature is wrong.
    #[error("the signing request cannot be used: {0}")]
    Request(rcgen::Error),
    /// Far more bytes than a signing request has.
    #[error("the signing request has {0} bytes, more than {SIGNING_REQUEST_BYTES_MAX}")]
    RequestTooLarge(usize),
}

/// The CA, ready to sign.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", hex::encode(self.fingerprint()))
    }
}

impl Authority {
    /// A new CA for a cluster.
    pub fn create(cluster: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Authority)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("Halcyon cluster {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(NODES_DOMAIN.into())],
            excluded_subtrees: Vec::new(),
        });
        let certificate = params.self_signed(&key).map_err(AuthorityError::Authority)?;
        Self::load(certificate.der(), key.serialized_der())
    }

    /// The CA from what the control plane keeps.
    pub fn load(certificate: &[u8], key: &[u8]) -> Result<Self, AuthorityError> {
        let key = PrivatePkcs8KeyDer::from(key.to_vec());
        let key = KeyPair::try_from(&key).map_err(AuthorityError::Authority)?;
        let certificate = CertificateDer::from(certificate.to_vec());
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(AuthorityError::Authority)?;
        Ok(Self { certificate, issuer })
    }

    /// DER of the certificate.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// PKCS#8 of the key.
    pub fn key(&self) -> &[u8] {
        self.issuer.key().serialized_der()
    }

    /// SHA-256 of the certificate, for join tokens.
    pub fn fingerprint(&self) -> SecretHash {
        sha256(&self.certificate)
    }

    /// DER of a certificate for `node` and the key that signed the request. All else that the request asks for is
    /// passed over.
    pub fn sign(&self, node: NodeId, request: &[u8]) -> Result<Vec<u8>, AuthorityError> {
        if request.len() > SIGNING_REQUEST_BYTES_MAX {
            return Err(AuthorityError::RequestTooLarge(request.len()));
        }
        let request = CertificateSigningRequestDer::from(request.to_vec());
        let request = CertificateSigningRequestParams::from_der(&request).map_err(AuthorityError::Request)?;
        let params = node_params(node).map_err(AuthorityError::Authority)?;
        let certificate = params
            .signed_by(&request.public_key, &self.issuer)
            .map_err(AuthorityError::Request)?;
        Ok(certificate.der().to_vec())
    }

    /// The first node's identity: nobody has to ask anybody.
    pub fn first_identity(&self, node: NodeId, cluster: &str) -> Result<Identity, AuthorityError> {
        let request = SigningRequest::create()?;
        let certificate = self.sign(node, request.der())?;
        Ok(request.granted(node, cluster.to_owned(), certificate, self.certificate.to_vec()))
    }
}

/// A new node's key, and the request to have it certified. The key never leaves the node.
pub struct SigningRequest {
    key: KeyPair,
    request: Vec<u8>,
}

impl std::fmt::Debug for SigningRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningRequest")
    }
}

impl SigningRequest {
    /// A new key and its request.
    pub fn create() -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Request)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("a new Halcyon node");
        let request = params.serialize_request(&key).map_err(AuthorityError::Request)?;
        Ok(Self {
            key,
            request: request.der().to_vec(),
        })
    }

    /// One that was made before, from its key (PKCS#8) and its DER.
    pub fn restore(key: &[u8], request: Vec<u8>) -> Result<Self, AuthorityError> {
        let key = PrivatePkcs8KeyDer::from(key.to_vec());
        let key = KeyPair::try_from(&key).map_err(AuthorityError::Request)?;
        Ok(Self { key, request })
    }

    /// PKCS#8 of the key.
    pub fn key(&self) -> &[u8] {
        self.key.serialized_der()
    }

    /// DER of the request.
    pub fn der(&self) -> &[u8] {
        &self.request
    }

    /// The identity that the answer makes of it.
    pub fn granted(self, node: NodeId, cluster: String, certificate: Vec<u8>, ca_certificate: Vec<u8>) -> Identity {
        Identity {
            node,
            cluster,
            certificate,
            key: self.key.serialized_der().to_vec(),
            ca_certificate,
        }
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn node_params(node: NodeId) -> Result<CertificateParams, rcgen::Error> {
    let name = node_name(node);
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&name);
    params.subject_alt_names = vec![SanType::DnsName(name.try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_one_name() {
        assert_eq!(node_of_name(&node_name(NodeId(3))), Some(NodeId(3)));
        for name in [
            "n03.nodes.halcyon",
            "3.nodes.halcyon",
            "nx.nodes.halcyon",
            "n3nodes.halcyon",
            "n3.nodes.evil",
        ] {
            assert_eq!(node_of_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_kept_authority_signs_and_garbage_is_refused() {
        let authority = Authority::create("c").unwrap();
        let kept = Authority::load(authority.certificate(), authority.key()).unwrap();
        assert_eq!(kept.fingerprint(), authority.fingerprint());
        let request = SigningRequest::create().unwrap();
        kept.sign(NodeId(2), request.der()).unwrap();
        assert!(kept.sign(NodeId(2), b"garbage").is_err());
        assert!(kept.sign(NodeId(2), &vec![0; SIGNING_REQUEST_BYTES_MAX + 1]).is_err());
        let mut forged = request.der().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        assert!(kept.sign(NodeId(2), &forged).is_err(), "its signature is wrong");
        assert!(Authority::load(b"x", b"y").is_err());
    }
}
