//! Settings of the cluster and of a tenant: their names, defaults, meaning and checks.
//!
//! The control plane keeps overrides as text and checks them when they are set. Rooms read them typed, from the view,
//! at each use, so a change applies without a restart. An override that this release cannot read (a newer release
//! wrote it) counts as the default.

use std::{collections::BTreeMap, time::Duration};

use halcyon_core::coverage::ENTITIES_MAX;

use crate::limits::{QUERY_TIME_MAX, REGION_ACK_MAX, SCAN_LIMIT_MAX, TOKEN_LIFETIME_MAX};

/// What a setting's text must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A time such as `90s`, `5m` or `7d`, both bounds included.
    Duration {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// A whole number, both bounds included.
    Number {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// `*`, or web origins such as `https://app.example:8443`, with commas between, or `none`.
    Origins,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// As commands take it.
    pub name: &'static str,
    /// In the form in which it is set.
    pub default: &'static str,
    /// For an operator.
    pub description: &'static str,
    /// What it may be.
    pub kind: Kind,
}

const fn duration(name: &'static str, default: &'static str, range: (u64, u64), description: &'static str) -> Spec {
    let kind = Kind::Duration {
        min: Duration::from_millis(range.0),
        max: Duration::from_millis(range.1),
    };
    Spec {
        name,
        default,
        description,
        kind,
    }
}

const fn number(name: &'static str, default: &'static str, range: (u64, u64), description: &'static str) -> Spec {
    let kind = Kind::Number {
        min: range.0,
        max: range.1,
    };
    Spec {
        name,
        default,
        description,
        kind,
    }
}

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;

/// A bound that a node keeps to besides, as a setting's.
#[expect(clippy::cast_possible_truncation, reason = "some days in milliseconds")]
const fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

/// The cluster's settings, in the order of [`Settings`].
pub const CLUSTER: &[Spec] = &[
    duration(
        "drift_max",
        "60s",
        (100, HOUR),
        "How far ahead of a node's clock a client's timestamp may be",
    ),
    duration(
        "tombstone_retention",
        "7d",
        (SECOND, 3_650 * DAY),
        "How long a deletion is remembered before it may be collected",
    ),
    duration(
        "collection_interval",
        "60s",
        (100, DAY),
        "How often tombstones are looked through for collection",
    ),
    duration(
        "catch_up_interval",
        "1s",
        (50, HOUR),
        "How often a node compares its tenants with one peer",
    ),
    duration(
        "probe_interval",
        "1s",
        (50, HOUR),
        "How often a node measures the round trip to a peer",
    ),
    number(
        "gossip_queue_bytes_max",
        "33554432",
        (1 << 20, 1 << 32),
        "Bytes of change sets that wait for one peer; what does not fit is left to catch-up",
    ),
    number(
        "push_sets_per_second_max",
        "200000",
        (1, 1 << 40),
        "Change sets that a node takes for one tenant in a second",
    ),
    number(
        "live_bytes_per_tenant_max",
        "2147483648",
        (1 << 20, 1 << 40),
        "Bytes of memory that the live queries of one tenant may take on a node",
    ),
    number(
        "live_entities_max",
        "100000",
        (1, ENTITIES_MAX as u64),
        "Entities that a node sends for one live query; of one that rests on more it sends the answer itself",
    ),
    number(
        "push_bytes_max",
        "4194304",
        (1 << 10, 4 << 20),
        "Bytes of change sets that a node takes from one push; the rest is to be sent in another",
    ),
    number(
        "scan_limit_max",
        "10000",
        (1, SCAN_LIMIT_MAX as u64),
        "Triples in one page of a scan",
    ),
    number(
        "query_rows_max",
        "1000000",
        (1, 10_000_000),
        "Rows in the answer to one query",
    ),
    number(
        "query_answer_bytes_max",
        "67108864",
        (1 << 10, 1 << 28),
        "Bytes in the answer to one query",
    ),
    number(
        "query_memory_max",
        "134217728",
        (1 << 16, 1 << 34),
        "Bytes that one query holds while it is answered",
    ),
    duration(
        "query_time_max",
        "10s",
        (1, millis(QUERY_TIME_MAX)),
        "How long one query may run",
    ),
    duration(
        "region_ack_deadline",
        "5s",
        (100, millis(REGION_ACK_MAX)),
        "How long a push waits for a second region where the tenant asks for it",
    ),
    duration(
        "token_lifetime",
        "1h",
        (SECOND, millis(TOKEN_LIFETIME_MAX)),
        "How long a join token is good when no lifetime is asked for",
    ),
];

/// A tenant's settings, in the order of [`TenantSettings`].
pub const TENANT: &[Spec] = &[
    Spec {
        name: "acknowledgement",
        default: "local",
        description: "When a push is answered: when the node that took it has it on disk, or when one more region has too",
        kind: Kind::Word(&["local", "region"]),
    },
    Spec {
        name: "allowed_origins",
        default: "none",
        description: "Web origins whose pages may call with this tenant's key, with commas between; * for every page; none. A node that listens on loopback lets pages of localhost in besides",
        kind: Kind::Origins,
    },
];

/// The cluster's settings, typed. See [`CLUSTER`] for what each means.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "`CLUSTER` describes each field under its name")]
pub struct Settings {
    pub drift_max: Duration,
    pub tombstone_retention: Duration,
    pub collection_interval: Duration,
    pub catch_up_interval: Duration,
    pub probe_interval: Duration,
    pub gossip_queue_bytes_max: u64,
    pub push_sets_per_second_max: u64,
    pub live_bytes_per_tenant_max: u64,
    pub live_entities_max: u64,
    pub push_bytes_max: u64,
    pub scan_limit_max: u64,
    pub query_rows_max: u64,
    pub query_answer_bytes_max: u64,
    pub query_memory_max: u64,
    pub query_time_max: Duration,
    pub region_ack_deadline: Duration,
    pub token_lifetime: Duration,
}

impl Settings {
    /// The settings with these overrides.
    pub fn of(overrides: &BTreeMap<String, String>) -> Self {
        let read = Read {
            specs: CLUSTER,
            overrides,
        };
        Self {
            drift_max: read.duration("drift_max"),
            tombstone_retention: read.duration("tombstone_retention"),
            collection_interval: read.duration("collection_interval"),
            catch_up_interval: read.duration("catch_up_interval"),
            probe_interval: read.duration("probe_interval"),
            gossip_queue_bytes_max: read.number("gossip_queue_bytes_max"),
            push_sets_per_second_max: read.number("push_sets_per_second_max"),
            live_bytes_per_tenant_max: read.number("live_bytes_per_tenant_max"),
            live_entities_max: read.number("live_entities_max"),
            push_bytes_max: read.number("push_bytes_max"),
            scan_limit_max: read.number("scan_limit_max"),
            query_rows_max: read.number("query_rows_max"),
            query_answer_bytes_max: read.number("query_answer_bytes_max"),
            query_memory_max: read.number("query_memory_max"),
            query_time_max: read.duration("query_time_max"),
            region_ack_deadline: read.duration("region_ack_deadline"),
            token_lifetime: read.duration("token_lifetime"),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::of(&BTreeMap::new())
    }
}

/// When a push is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledgement {
    /// When the node that took it has it on disk.
    Local,
    /// When one more region has it too.
    Region,
}

/// A tenant's settings, typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantSettings {
    /// When a push is answered.
    pub acknowledgement: Acknowledgement,
    /// Whose pages may call.
    pub allowed_origins: Origins,
}

impl TenantSettings {
    /// The settings with these overrides.
    pub fn of(overrides: &BTreeMap<String, String>) -> Self {
        let read = Read {
            specs: TENANT,
            overrides,
        };
        Self {
            acknowledgement: if read.text("acknowledgement") == "region" {
                Acknowledgement::Region
            } else {
                Acknowledgement::Local
            },
            allowed_origins: Origins::parse(read.text("allowed_origins")),
        }
    }
}

/// Web origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Every page.
    Any,
    /// Pages of these.
    Listed(Vec<String>),
}

impl Origins {
    fn parse(text: &str) -> Self {
        if text.trim() == "*" {
            return Self::Any;
        }
        let listed = text
            .split(',')
            .map(str::trim)
            .filter(|origin| !origin.is_empty() && *origin != "none");
        Self::Listed(listed.map(str::to_owned).collect())
    }

    /// Whether a page of `origin` may call.
    pub fn allow(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(listed) => listed.iter().any(|allowed| allowed == origin),
        }
    }
}

/// Checks a value for one of `specs`. The error is for an operator.
pub fn check(specs: &[Spec], name: &str, value: &str) -> Result<(), String> {
    let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
        let names: Vec<_> = specs.iter().map(|spec| spec.name).collect();
        return Err(format!("there is no such setting; there are {}", names.join(", ")));
    };
    match spec.kind {
        Kind::Duration { min, max } => {
            let time = humantime::parse_duration(value).map_err(|error| format!("{value:?} is no time: {error}"))?;
            let (low, high) = (humantime::format_duration(min), humantime::format_duration(max));
            in_range(min <= time && time <= max, &low, &high)
        }
        Kind::Number { min, max } => {
            let number: u64 = value.parse().map_err(|_| format!("{value:?} is no whole number"))?;
            in_range(min <= number && number <= max, &min, &max)
        }
        Kind::Word(words) if words.contains(&value) => Ok(()),
        Kind::Word(words) => Err(format!("{value:?} is none of {}", words.join(", "))),
        Kind::Origins => check_origins(value),
    }
}

fn in_range(inside: bool, min: &dyn std::fmt::Display, max: &dyn std::fmt::Display) -> Result<(), String> {
    if inside {
        Ok(())
    } else {
        Err(format!("it must be from {min} to {max}"))
    }
}

fn check_origins(value: &str) -> Result<(), String> {
    let Origins::Listed(listed) = Origins::parse(value) else {
        return Ok(());
    };
    let wrong = listed.iter().find(|origin| {
        let host = origin
            .strip_prefix("https://")
            .or_else(|| origin.strip_prefix("http://"));
        host.is_none_or(|host| host.is_empty() || host.contains(['/', '*', ' ', '?', '#']))
    });
    match wrong {
        Some(origin) => Err(format!("{origin:?} is no web origin such as https://app.example")),
        None => Ok(()),
    }
}

/// Reads overrides with their defaults.
struct Read<'a> {
    specs: &'static [Spec],
    overrides: &'a BTreeMap<String, String>,
}

impl Read<'_> {
    fn text(&self, name: &str) -> &str {
        let spec = self
            .specs
            .iter()
            .find(|spec| spec.name == name)
            .expect("the table names every field");
        let value = self.overrides.get(name).map_or(spec.default, String::as_str);
        if check(self.specs, name, value).is_ok() {
            value
        } else {
            spec.default
        }
    }

    fn duration(&self, name: &str) -> Duration {
        humantime::parse_duration(self.text(name)).expect("the text is checked")
    }

    fn number(&self, name: &str) -> u64 {
        self.text(name).parse().expect("the text is checked")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_passes_its_own_check() {
        for specs in [CLUSTER, TENANT] {
            for spec in specs {
                assert_eq!(check(specs, spec.name, spec.default), Ok(()), "{}", spec.name);
            }
        }
        assert_eq!(Settings::default().drift_max, Duration::from_mins(1));
        assert_eq!(
            TenantSettings::of(&BTreeMap::new()).acknowledgement,
            Acknowledgement::Local
        );
    }

    #[test]
    fn wrong_values_are_refused() {
        for (name, value) in [
            ("drift_max", "fast"),
            ("drift_max", "9d"),
            ("push_bytes_max", "0"),
            ("nothing", "1"),
        ] {
            assert!(check(CLUSTER, name, value).is_err(), "{name} {value}");
        }
        for (name, value) in [
            ("acknowledgement", "all"),
            ("allowed_origins", "example.org"),
            ("allowed_origins", "https://a/b"),
        ] {
            assert!(check(TENANT, name, value).is_err(), "{name} {value}");
        }
        assert_eq!(
            check(TENANT, "allowed_origins", "https://a.example, http://localhost:3000"),
            Ok(())
        );
    }

    #[test]
    fn each_kind_takes_its_bounds_and_nothing_beyond() {
        //     setting                      taken                      refused
        table(
            "drift_max",
            &["100ms", "1h", "60s", "1m 30s"],
            &["99ms", "1h 1s", "60", "", "-1s"],
        );
        table(
            "tombstone_retention",
            &["1s", "7d", "3650d"],
            &["999ms", "3651d", "week"],
        );
        table("scan_limit_max", &["1", "10000"], &["0", "10001", "1.5", " 7", "-1"]);
        table("push_bytes_max", &["1024", "4194304"], &["1023", "4194305"]);
        // A client waits 15 s for the answer to a push.
        table("region_ack_deadline", &["100ms", "10s"], &["99ms", "11s"]);
        table("token_lifetime", &["1s", "30d"], &["0s", "31d"]);
        table("acknowledgement", &["local", "region"], &["Local", "", "both"]);
        table(
            "allowed_origins",
            &["*", "none", "https://a.example,http://b:1"],
            &["a.example", "https://", "https://*.a"],
        );
    }

    #[track_caller]
    fn table(name: &str, taken: &[&str], refused: &[&str]) {
        let specs = if CLUSTER.iter().any(|spec| spec.name == name) {
            CLUSTER
        } else {
            TENANT
        };
        for value in taken {
            assert_eq!(check(specs, name, value), Ok(()), "{name} {value:?}");
        }
        for value in refused {
            assert!(check(specs, name, value).is_err(), "{name} {value:?}");
        }
    }

    #[test]
    fn overrides_are_read_typed() {
        let set = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(
            Settings::of(&set("drift_max", "90s")).drift_max,
            Duration::from_secs(90)
        );
        assert_eq!(Settings::of(&set("scan_limit_max", "5")).scan_limit_max, 5);
        let tenant = TenantSettings::of(&set("allowed_origins", "https://a.example, https://b.example"));
        assert!(
            tenant.allowed_origins.allow("https://b.example") && !tenant.allowed_origins.allow("https://c.example")
        );
        assert_eq!(
            TenantSettings::of(&set("acknowledgement", "region")).acknowledgement,
            Acknowledgement::Region
        );
        assert!(
            !TenantSettings::of(&set("allowed_origins", "none"))
                .allowed_origins
                .allow("https://a.example")
        );
    }

    #[test]
    fn an_override_that_cannot_be_read_counts_as_the_default() {
        let overrides = BTreeMap::from([("drift_max".to_owned(), "soon".to_owned())]);
        assert_eq!(Settings::of(&overrides), Settings::default());
    }
}
