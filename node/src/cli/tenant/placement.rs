//! What is looked at before and after a tenant is placed, so that nobody is surprised by where it ends up.

use halcyon_proto::v1;

use crate::cli::{
    failure::Failure,
    output::{self, Tone},
};

/// The home stays where it is unless somebody says so; it cannot stay outside the regions.
pub(super) fn check_home(tenant: &v1::TenantDescription, regions: &[String]) -> Result<(), Failure> {
    if regions.contains(&tenant.home) {
        return Ok(());
    }
    let (name, home) = (&tenant.name, &tenant.home);
    let new = regions.first().map_or("REGION", String::as_str);
    Err(
        Failure::usage(format_args!("{home} is the home of {name} and not among --regions")).advise(format_args!(
            "add --home {new} to move the home too, or {home} to --regions"
        )),
    )
}

/// Regions with fewer nodes than the tenant asks for, and how many they have.
fn short_regions(tenant: &v1::TenantDescription) -> Vec<(&str, usize)> {
    let asked = usize::try_from(tenant.nodes_per_region).unwrap_or(usize::MAX);
    let placed = |region: &&String| {
        let here = tenant.replicas.iter().filter(|replica| replica.region == **region);
        here.filter(|replica| replica.state != "leaving").count()
    };
    let counted = tenant.regions.iter().map(|region| (region.as_str(), placed(&region)));
    counted.filter(|&(_, placed)| placed < asked).collect()
}

pub(super) fn warn_of_missing_nodes(tenant: &v1::TenantDescription) {
    for (region, placed) in short_regions(tenant) {
        output::note(format!(
            "{} {region} has {} for {}, which asks for {}; a node that joins there is taken in by itself",
            output::tint_note(Tone::Careful, "warning:"),
            output::plural(placed as u64, "node", "nodes"),
            tenant.name,
            tenant.nodes_per_region
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(nodes_per_region: u32) -> v1::TenantDescription {
        let replica = |node, region: &str, state: &str| v1::TenantReplica {
            node,
            region: region.into(),
            state: state.into(),
        };
        v1::TenantDescription {
            name: "shop".into(),
            home: "eu".into(),
            regions: vec!["eu".into(), "us".into()],
            nodes_per_region,
            replicas: vec![
                replica(1, "eu", "active"),
                replica(2, "eu", "joining"),
                replica(3, "us", "active"),
                replica(4, "us", "leaving"),
            ],
            ..v1::TenantDescription::default()
        }
    }

    #[test]
    fn a_home_that_leaves_its_regions_names_the_flag() {
        let regions = |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.to_owned()).collect() };
        assert_eq!(check_home(&tenant(1), &regions(&["us", "eu"])), Ok(()));
        let failure = check_home(&tenant(1), &regions(&["us"])).unwrap_err();
        assert!(failure.to_string().contains("--home us"), "{failure}");
    }

    #[test]
    fn regions_with_too_few_nodes_are_named() {
        assert_eq!(short_regions(&tenant(1)), []);
        assert_eq!(short_regions(&tenant(2)), [("us", 1)]);
        assert_eq!(short_regions(&tenant(3)), [("eu", 2), ("us", 1)]);
    }
}
