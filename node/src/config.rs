//! What a node is told before it starts: a TOML file, `HALCYON_…` in the environment, and flags, each over the one
//! before. Checked into types here, once.
//!
//! What may change while a cluster runs is not here but among the control plane's settings (`halcyon settings`).

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use halcyon_core::id::{IdError, RegionName};
use halcyon_proto::{v1::WireVersions, version::WIRE};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    peers::token::{JoinToken, TokenError},
    site::Site,
};

/// The keys as they are written, all optional. `deploy/halcyon.toml` explains each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Source {
    /// Where the node is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Its directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Where it listens for clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Where it listens for peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_listen: Option<String>,
    /// Where clients reach it, if that is another address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// Where peers reach it, if that is another address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_advertise: Option<String>,
    /// PEM file: the certificate chain for clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_certificate: Option<PathBuf>,
    /// PEM file: its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// Storage files, and writers. 0: one for each core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_shards: Option<usize>,
    /// Memory for pages of the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_cache_mib: Option<usize>,
    /// `text` or `json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
    /// As `tracing` has it: `info`, `halcyon_node::peers=debug`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_filter: Option<String>,
}

/// Every key of [`Source`], for the environment: other `HALCYON_…` variables are the command line's.
const KEYS: [&str; 12] = [
    "region",
    "data",
    "listen",
    "peer_listen",
    "advertise",
    "peer_advertise",
    "tls_certificate",
    "tls_key",
    "storage_shards",
    "storage_cache_mib",
    "log_format",
    "log_filter",
];

/// The join token of a node that is started without flags.
const JOIN_VARIABLE: &str = "HALCYON_JOIN";

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines, one object a line.
    Json,
}

/// How the node comes to its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// By what its directory holds from an earlier start.
    Resume,
    /// It makes a new cluster. An earlier start of the same directory resumes.
    Bootstrap,
    /// It joins by token. An earlier start of the same directory resumes.
    Join(JoinToken),
}

/// PEM files for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// All of it, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the node is.
    pub region: RegionName,
    /// Its directory.
    pub data: PathBuf,
    /// Where it listens for clients.
    pub listen: String,
    /// Where it listens for peers.
    pub peer_listen: String,
    /// Where clients reach it; `None`: the address that was bound.
    pub advertise: Option<String>,
    /// Where peers reach it; `None`: the address that was bound.
    pub peer_advertise: Option<String>,
    /// TLS for clients.
    pub tls: Option<TlsFiles>,
    /// 0: one for each core.
    pub storage_shards: usize,
    /// Memory for pages of the disk.
    pub storage_cache_bytes: usize,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines there are.
    pub log_filter: String,
    /// How the node comes to its cluster.
    pub start: Start,
    /// The wire versions that it speaks: this release's. The simulator alone gives others, for a newer release.
    pub wire: WireVersions,
    /// Pages to serve beside. No setting gives any: `halcyon dev` alone does.
    pub site: Option<Site>,
}

/// Where the data is, where nobody says.
pub const DATA_DEFAULT: &str = "halcyon-data";
/// The clients' port on loopback: what is open to the world, an operator opens.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:7700";
/// The peers' port on loopback.
pub const PEER_LISTEN_DEFAULT: &str = "127.0.0.1:7710";
/// A million triples' hot pages; a node should fit in 150 MB.
pub const CACHE_MIB_DEFAULT: usize = 16;
/// What happens, not every call.
pub const LOG_FILTER_DEFAULT: &str = "info,openraft=warn";

/// What is wrong with what the node was told.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not TOML, a key that does not exist, a value of the wrong kind.
    #[error("{0}")]
    Read(#[from] Box<figment::Error>),
    /// A region is needed.
    #[error("no region is named: give --region, HALCYON_REGION or `region` in the file, e.g. eu-west")]
    RegionMissing,
    /// Not a region.
    #[error(transparent)]
    Region(#[from] IdError),
    /// Not `host:port`.
    #[error("{key} is {value:?}, which is not HOST:PORT, e.g. 10.0.0.5:7700")]
    Address {
        /// Where it is written.
        key: &'static str,
        /// What is written.
        value: String,
    },
    /// Nobody can call 0.0.0.0.
    #[error("{listen} listens on all interfaces, so {key} must say which address the others should call")]
    AdvertiseMissing {
        /// Where it listens.
        listen: String,
        /// What is missing.
        key: &'static str,
    },
    /// Two listeners at one port.
    #[error("listen and peer_listen are both {0}: clients and peers need a port each")]
    SamePort(String),
    /// One without the other.
    #[error("tls_certificate and tls_key go together; only one is given")]
    TlsHalf,
    /// A cache that cannot work.
    #[error("storage_cache_mib is {0}; give 8 to 65536")]
    Cache(usize),
    /// More files than make sense.
    #[error("storage_shards is {0}; give 1 to 64, or 0 for one a core")]
    Shards(usize),
    /// Both or a broken token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// `--bootstrap` and `--join`.
    #[error("--bootstrap makes a new cluster and --join enters another; give one of them")]
    BootstrapAndJoin,
}

impl Config {
    /// Reads `file`, then the environment, then `flags`; what comes later wins.
    pub fn load(file: Option<&Path>, flags: &Source, start: Start) -> Result<Self, ConfigError> {
        let mut figment = Figment::new();
        if let Some(path) = file {
            figment = figment.merge(Toml::file_exact(path));
        }
        let source: Source = figment
            .merge(Env::prefixed("HALCYON_").only(&KEYS))
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(Box::new)?;
        Self::check(source, start)
    }

    /// What a node in `region` with its data in `data` is told when nobody says more. The ports are the system's
    /// choice, so that several fit on one machine.
    pub fn local(region: &RegionName, data: PathBuf, start: Start) -> Self {
        let source = Source {
            region: Some(region.to_string()),
            data: Some(data),
            listen: Some("127.0.0.1:0".to_owned()),
            peer_listen: Some("127.0.0.1:0".to_owned()),
            ..Source::default()
        };
        Self::check(source, start).expect("constants and a checked region")
    }

    /// Checks every value.
    pub fn check(source: Source, start: Start) -> Result<Self, ConfigError> {
        let region = source.region.ok_or(ConfigError::RegionMissing)?;
        let listen = address("listen", source.listen.unwrap_or_else(|| LISTEN_DEFAULT.to_owned()))?;
        let peer_listen = source.peer_listen.unwrap_or_else(|| PEER_LISTEN_DEFAULT.to_owned());
        let peer_listen = address("peer_listen", peer_listen)?;
        let tls = match (source.tls_certificate, source.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            _ => return Err(ConfigError::TlsHalf),
        };
        let cache_mib = source.storage_cache_mib.unwrap_or(CACHE_MIB_DEFAULT);
        let shards = source.storage_shards.unwrap_or(0);
        match () {
            () if !(8..=65_536).contains(&cache_mib) => Err(ConfigError::Cache(cache_mib)),
            () if listen == peer_listen && !listen.ends_with(":0") => Err(ConfigError::SamePort(listen)),
            () if shards > 64 => Err(ConfigError::Shards(shards)),
            () => Ok(Self {
                region: RegionName::new(&region)?,
                data: source.data.unwrap_or_else(|| DATA_DEFAULT.into()),
                advertise: advertise("advertise", source.advertise, &listen)?,
                peer_advertise: advertise("peer_advertise", source.peer_advertise, &peer_listen)?,
                listen,
                peer_listen,
                tls,
                storage_shards: shards,
                storage_cache_bytes: cache_mib << 20,
                log_format: source.log_format.unwrap_or_default(),
                log_filter: source.log_filter.unwrap_or_else(|| LOG_FILTER_DEFAULT.to_owned()),
                start,
                wire: WIRE,
                site: None,
            }),
        }
    }

    /// Whether only programs on this machine can reach the clients' port.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.listen)
    }
}

impl Start {
    /// From the flags of `node start`.
    pub fn from_flags(bootstrap: bool, join: Option<&str>) -> Result<Self, ConfigError> {
        match (bootstrap, join) {
            (true, Some(_)) => Err(ConfigError::BootstrapAndJoin),
            (true, None) => Ok(Self::Bootstrap),
            (false, Some(token)) => Ok(Self::Join(token.parse()?)),
            // A service has its token in the environment. One that its directory has used is passed over.
            (false, None) => match std::env::var(JOIN_VARIABLE) {
                Ok(token) => Ok(Self::Join(token.parse()?)),
                Err(_) => Ok(Self::Resume),
            },
        }
    }
}

/// Whether `host:port` names this machine to itself alone.
pub fn is_loopback(address: &str) -> bool {
    match host_of(address) {
        Some("localhost") => true,
        Some(host) => host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    }
}

fn host_of(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    (port.parse::<u16>().is_ok() && !host.is_empty()).then_some(bare.unwrap_or(host))
}

fn address(key: &'static str, value: String) -> Result<String, ConfigError> {
    match host_of(&value) {
        Some(_) => Ok(value),
        None => Err(ConfigError::Address { key, value }),
    }
}

fn advertise(key: &'static str, value: Option<String>, listen: &str) -> Result<Option<String>, ConfigError> {
    let is_any = host_of(listen).is_some_and(|host| host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()));
    match value.filter(|value| !value.is_empty()) {
        Some(value) => address(key, value).map(Some),
        None if is_any => Err(ConfigError::AdvertiseMissing {
            listen: listen.to_owned(),
            key,
        }),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use figment::value::Dict;

    use super::*;

    const ANNOTATED: &str = include_str!("../../deploy/halcyon.toml");

    fn source(change: impl FnOnce(&mut Source)) -> Source {
        let mut source = Source {
            region: Some("eu-west".into()),
            ..Source::default()
        };
        change(&mut source);
        source
    }

    #[test]
    fn the_annotated_file_names_every_key_with_its_default() {
        // What the file shows as a comment is unset by default: there, the example is read as well.
        let shown = ANNOTATED.replace("\n#@ ", "\n");
        let keys: Dict = Figment::from(Toml::string(&shown)).extract().unwrap();
        let keys: BTreeSet<&str> = keys.keys().map(String::as_str).collect();
        assert_eq!(keys, KEYS.into_iter().collect());

        let source: Source = Figment::from(Toml::string(ANNOTATED)).extract().unwrap();
        let written = Config::check(source, Start::Resume).unwrap();
        let default = Config::check(self::source(|_| ()), Start::Resume).unwrap();
        let data = PathBuf::from("/var/lib/halcyon");
        assert_eq!(
            written,
            Config { data, ..default },
            "all but the directory is as it would be without the file"
        );
    }

    #[test]
    fn a_wrong_value_is_named_with_what_would_be_right() {
        check(|s| s.region = None, "--region");
        check(|s| s.region = Some("EU".into()), "\"EU\" is not a region");
        check(|s| s.listen = Some("7700".into()), "listen is \"7700\"");
        check(|s| s.listen = Some("h:70000".into()), "HOST:PORT");
        check(|s| s.listen = Some("0.0.0.0:7700".into()), "advertise must say");
        check(|s| s.peer_listen = Some("[::]:7710".into()), "peer_advertise must say");
        check(|s| s.tls_key = Some("k".into()), "go together");
        check(|s| s.peer_listen = Some(LISTEN_DEFAULT.into()), "a port each");
        check(|s| s.storage_cache_mib = Some(1), "8 to 65536");
        check(|s| s.storage_shards = Some(65), "1 to 64");
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Source), says: &str) {
        let error = Config::check(source(change), Start::Resume).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn flags_win_over_the_file_and_unknown_keys_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("halcyon.toml");
        std::fs::write(&file, "region = \"us-east\"\nlog_format = \"json\"\n").unwrap();
        let flags = source(|_| ());
        let config = Config::load(Some(&file), &flags, Start::Bootstrap).unwrap();
        assert_eq!(
            (config.region.as_str(), config.log_format),
            ("eu-west", LogFormat::Json)
        );
        std::fs::write(&file, "reggion = \"us-east\"\n").unwrap();
        let error = Config::load(Some(&file), &flags, Start::Bootstrap).unwrap_err();
        assert!(error.to_string().contains("reggion"), "{error}");
    }

    #[test]
    fn loopback_is_told_from_the_world() {
        for address in ["127.0.0.1:1", "localhost:1", "[::1]:1", "127.8.0.1:0"] {
            assert!(is_loopback(address), "{address}");
        }
        for address in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "example.com:1", "127.0.0.1"] {
            assert!(!is_loopback(address), "{address}");
        }
    }
}
