//! Where nodes and clients are, and how long a packet takes between them.
//!
//! The round trips are a public cloud's own: IBM Cloud, "Network latency dashboards" of its VPC documentation, table
//! "Inter-region latency", average of 28 September to 27 October 2024
//! (github.com/ibm-cloud-docs/vpc, `_include-segments/network-latency.md`, section "27 Oct 2024"). The provider gives a
//! figure for each direction, at most 4 ms apart; here both directions have the larger one. Region names are the
//! provider's. Two nodes of one region stand in different halls, as the same page's inter-zone tables have it.
//!
//! Always: symmetric, in milliseconds, never zero; a hop is never shorter than half the round trip.

use std::fmt;

use halcyon_core::id::RegionName;
use rand::{Rng, RngExt as _};
use serde::{Deserialize, Serialize};

use crate::plan::time::Millis;

/// A cloud region, in the order of [`ROUND_TRIPS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Region {
    /// Dallas.
    UsSouth,
    /// Toronto.
    CaTor,
    /// Washington DC.
    UsEast,
    /// Frankfurt.
    EuDe,
    /// London.
    EuGb,
    /// Madrid.
    EuEs,
    /// Osaka.
    JpOsa,
    /// Sydney.
    AuSyd,
    /// Tokyo.
    JpTok,
    /// São Paulo.
    BrSao,
}

/// All regions.
pub const REGIONS: [Region; 10] = [
    Region::UsSouth,
    Region::CaTor,
    Region::UsEast,
    Region::EuDe,
    Region::EuGb,
    Region::EuEs,
    Region::JpOsa,
    Region::AuSyd,
    Region::JpTok,
    Region::BrSao,
];

/// Milliseconds there and back.
#[rustfmt::skip]
const ROUND_TRIPS: [[u64; REGIONS.len()]; REGIONS.len()] = [
    // us-south ca-tor us-east eu-de eu-gb eu-es jp-osa au-syd jp-tok br-sao
    [        2,    34,     31,  123,  114,  119,   150,   185,   143,   144], // us-south
    [       34,     2,     19,   93,   84,  108,   171,   214,   164,   131], // ca-tor
    [       31,    19,      2,   92,   76,   90,   176,   214,   169,   119], // us-east
    [      123,    93,     92,    2,   13,   29,   234,   250,   231,   198], // eu-de
    [      114,    84,     76,   13,    2,   27,   245,   261,   243,   188], // eu-gb
    [      119,   108,     90,   29,   27,    2,   259,   275,   257,   207], // eu-es
    [      150,   171,    176,  234,  245,  259,     2,   122,     9,   292], // jp-osa
    [      185,   214,    214,  250,  261,  275,   122,     2,   115,   328], // au-syd
    [      143,   164,    169,  231,  243,  257,     9,   115,     2,   287], // jp-tok
    [      144,   131,    119,  198,  188,  207,   292,   328,   287,     2], // br-sao
];

impl Region {
    /// The provider's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UsSouth => "us-south",
            Self::CaTor => "ca-tor",
            Self::UsEast => "us-east",
            Self::EuDe => "eu-de",
            Self::EuGb => "eu-gb",
            Self::EuEs => "eu-es",
            Self::JpOsa => "jp-osa",
            Self::AuSyd => "au-syd",
            Self::JpTok => "jp-tok",
            Self::BrSao => "br-sao",
        }
    }

    /// The name as nodes take it.
    pub fn region_name(self) -> RegionName {
        RegionName::new(self.name()).expect("every name of the table is a region name")
    }

    /// There and back, without jitter.
    pub const fn round_trip(self, other: Self) -> Millis {
        Millis(ROUND_TRIPS[self as usize][other as usize])
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The shortest and the longest time that one packet takes from region to region, in microseconds.
///
/// Jitter only adds: a route has a shortest time, and queues lengthen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneWay {
    /// Without any queue.
    pub shortest_us: u64,
    /// With the longest.
    pub longest_us: u64,
}

impl OneWay {
    /// Between two regions, with a spread of so many percent.
    pub const fn between(a: Region, b: Region, jitter_percent: u32) -> Self {
        let shortest_us = a.round_trip(b).0 * 1_000 / 2;
        Self {
            shortest_us,
            longest_us: shortest_us + shortest_us * jitter_percent as u64 / 100,
        }
    }

    /// One packet's time. Short ones are likelier: the smaller of two draws.
    pub fn draw(self, rng: &mut impl Rng) -> u64 {
        let mut one = || rng.random_range(self.shortest_us..=self.longest_us);
        one().min(one())
    }
}

/// `count` different regions for a cluster. Half of all draws start near each other, so that small clusters are
/// often of one continent, as customers' are.
pub fn draw_regions(count: usize, rng: &mut impl Rng) -> Vec<Region> {
    let count = count.clamp(1, REGIONS.len());
    let first = REGIONS[rng.random_range(0..REGIONS.len())];
    let mut others: Vec<(u64, Region)> = Vec::new();
    let near = rng.random_bool(0.5);
    for region in REGIONS.into_iter().filter(|region| *region != first) {
        let chance = rng.random_range(0..1_000);
        let distance = if near { first.round_trip(region).0 } else { 0 };
        others.push((distance * 20 + chance, region));
    }
    others.sort_unstable();
    let others = others.into_iter().map(|(_, region)| region);
    std::iter::once(first).chain(others).take(count).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::plan::stream::Stream;

    #[test]
    fn the_matrix_is_symmetric_and_a_region_is_nearest_to_itself() {
        for a in REGIONS {
            for b in REGIONS {
                assert_eq!(a.round_trip(b), b.round_trip(a), "{a} {b}");
                assert!(a == b || a.round_trip(a) < a.round_trip(b), "{a} {b}");
            }
            assert_eq!(a.region_name().as_str(), a.name());
        }
    }

    #[test]
    fn no_detour_is_shorter_by_more_than_routing_explains() {
        // A typing error in the table would show as a triangle that a detour shortens by a lot.
        for a in REGIONS {
            for b in REGIONS {
                for c in REGIONS {
                    let detour = a.round_trip(c).0 + c.round_trip(b).0;
                    assert!(a.round_trip(b).0 <= detour + 16, "{a} {c} {b}");
                }
            }
        }
    }

    #[test]
    fn jitter_only_adds_and_stays_within_its_spread() {
        let hop = OneWay::between(Region::EuDe, Region::EuGb, 20);
        assert_eq!((hop.shortest_us, hop.longest_us), (6_500, 7_800));
        let mut stream = Stream::of(1, "test");
        for _ in 0..1_000 {
            let drawn = hop.draw(stream.rng());
            assert!((hop.shortest_us..=hop.longest_us).contains(&drawn));
        }
    }

    #[test]
    fn a_cluster_gets_different_regions_and_the_same_from_the_same_seed() {
        for seed in 0..200 {
            let count = 1 + usize::try_from(seed % 5).unwrap();
            let draw = || draw_regions(count, Stream::of(seed, "test").rng());
            let distinct: BTreeSet<Region> = draw().into_iter().collect();
            assert_eq!(distinct.len(), count);
            assert_eq!(draw(), draw());
        }
    }
}
