//! What a drain leaves of the tenants that the node holds, as the nodes decide it: in each of a tenant's regions as many
//! replicas as it asks for, or as many as there are active nodes.

use halcyon_client::AdminClient;
use halcyon_proto::v1;
use serde_json::{Value, json};

use super::{connect, failure::Failure, output};

/// Tenants in one page of a list.
const TENANTS_PAGE: u32 = 500;

/// Tenants that are named where many are concerned.
const NAMED_MAX: usize = 10;

/// Names of tenants that a drain leaves with less than they had.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// No active node is left in any of their regions, so nobody may take them over.
    stuck: Vec<String>,
    /// One replica is all that they keep.
    one_in_all: Vec<String>,
    /// They had several in the node's region and keep one there.
    one_in_region: Vec<String>,
}

/// Tenants of which the node has a replica. To be asked before it is drained: some may have left it right after.
pub async fn held_by(node: u64, admin: &AdminClient) -> Result<Vec<v1::TenantDescription>, Failure> {
    let (mut held, mut after) = (Vec::new(), String::new());
    loop {
        let request = v1::ListTenantsRequest {
            after,
            limit: TENANTS_PAGE,
        };
        let page = admin.list_tenants(request).await.map_err(connect::admin_failure)?;
        let here = |tenant: &v1::TenantDescription| tenant.replicas.iter().any(|replica| replica.node == node);
        held.extend(page.tenants.into_iter().filter(here));
        after = page.next;
        if after.is_empty() {
            return Ok(held);
        }
    }
}

impl Left {
    /// What becomes of the tenants that the node held, with these nodes.
    pub fn of(drained: &v1::NodeDescription, nodes: &[v1::NodeDescription], held: &[v1::TenantDescription]) -> Self {
        let mut left = Self::default();
        for tenant in held.iter().filter(|tenant| tenant.regions.contains(&drained.region)) {
            let keeps = |region: &String| {
                let others = nodes
                    .iter()
                    .filter(|node| node.region == *region && node.id != drained.id);
                let active = others.filter(|node| node.state == "active").count();
                active.min(tenant.nodes_per_region as usize)
            };
            let had = tenant.replicas.iter().filter(|replica| replica.state != "leaving");
            let had_in_region = had.clone().filter(|replica| replica.region == drained.region).count();
            let keeps_in_all: usize = tenant.regions.iter().map(keeps).sum();
            let list = match (keeps_in_all, keeps(&drained.region)) {
                (0, _) => &mut left.stuck,
                (1, _) if had.count() > 1 => &mut left.one_in_all,
                (_, 1) if had_in_region > 1 => &mut left.one_in_region,
                _ => continue,
            };
            list.push(tenant.name.clone());
        }
        left
    }

    /// What somebody who drains the node has to know, in sentences.
    pub fn texts(&self, drained: &v1::NodeDescription) -> Vec<String> {
        let (id, region) = (drained.id, &drained.region);
        let mut texts = Vec::new();
        if let Some(first) = self.stuck.first() {
            texts.push(format!(
                "{} leave n{id}, as no active node is left in any of their regions: {}. Give each a region more first:\n  \
                 halcyon tenant place {first} --regions {region},REGION",
                tenants(&self.stuck, "cannot", "cannot"),
                named(&self.stuck),
            ));
        }
        if !self.one_in_all.is_empty() {
            texts.push(format!(
                "{} one replica only, in all regions together: {}",
                tenants(&self.one_in_all, "keeps", "keep"),
                named(&self.one_in_all)
            ));
        }
        if !self.one_in_region.is_empty() {
            texts.push(format!(
                "{} one replica only in {region}: {}",
                tenants(&self.one_in_region, "keeps", "keep"),
                named(&self.one_in_region)
            ));
        }
        if !self.one_in_all.is_empty() || !self.one_in_region.is_empty() {
            texts.push(format!(
                "A node more in {region} gives them a second one; until there is one, the drain can be taken back:\n  \
                 halcyon node undrain n{id}"
            ));
        }
        texts
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let list = |tenants: &[String]| json!({ "count": tenants.len(), "tenants": tenants.get(..NAMED_MAX).unwrap_or(tenants) });
        json!({
            "cannot_leave": list(&self.stuck),
            "one_replica_in_all": list(&self.one_in_all),
            "one_replica_in_region": list(&self.one_in_region),
        })
    }
}

fn tenants(names: &[String], one: &str, many: &str) -> String {
    let count = names.len() as u64;
    output::plural(count, &format!("tenant {one}"), &format!("tenants {many}"))
}

/// The first names, and how many there are more.
fn named(names: &[String]) -> String {
    let shown = names.get(..NAMED_MAX).unwrap_or(names).join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_names_the_tenants_that_keep_one_replica() {
        let nodes = [node(1, "eu"), node(2, "us"), node(3, "us"), node(4, "ap")];
        let held = [
            tenant("wide", 2, &[(1, "eu"), (2, "us"), (3, "us")]),
            tenant("two", 2, &[(2, "us"), (3, "us")]),
            tenant("moves", 1, &[(3, "us")]),
        ];
        let left = check(3, &nodes, &held, &[&[], &["two"], &["wide"]]);
        let texts = left.texts(&nodes[2]).join("\n");
        assert!(
            texts.contains("1 tenant keeps one replica only, in all regions together: two"),
            "{texts}"
        );
        assert!(texts.contains("1 tenant keeps one replica only in us: wide"), "{texts}");
        assert!(texts.contains("halcyon node undrain n3"), "{texts}");
        let told = left.json();
        assert_eq!(told["one_replica_in_all"], json!({ "count": 1, "tenants": ["two"] }));
        assert_eq!(told["one_replica_in_region"]["tenants"], json!(["wide"]));
        assert_eq!(told["cannot_leave"]["count"], 0);

        // A third node of the region takes over, and nothing is to be told.
        let three = [&nodes[..], &[node(5, "us")]].concat();
        let left = check(3, &three, &held, &[&[], &[], &[]]);
        assert_eq!(left.texts(&nodes[2]), [""; 0]);
    }

    #[test]
    fn a_region_without_another_node_is_given_up_or_keeps_its_tenants() {
        let nodes = [node(1, "eu"), node(4, "ap")];
        let held = [
            tenant("pair", 1, &[(1, "eu"), (4, "ap")]),
            tenant("till", 1, &[(4, "ap")]),
            tenant("left", 1, &[(1, "eu"), (4, "ap")]),
        ];
        let left = check(4, &nodes, &held[..2], &[&["till"], &["pair"], &[]]);
        let stuck = left.texts(&nodes[1]).remove(0);
        assert!(stuck.starts_with("1 tenant cannot leave n4, as"), "{stuck}");
        assert!(stuck.contains(": till. Give each"), "{stuck}");
        assert!(stuck.contains("tenant place till --regions ap,REGION"), "{stuck}");

        // The others drain already, in this region and in another.
        let mut draining = [&nodes[..], &[node(5, "ap")]].concat();
        draining[0].state = "draining".into();
        draining[2].state = "draining".into();
        check(4, &draining, &held[..2], &[&["pair", "till"], &[], &[]]);

        // Its data leaves the region anyway: that is not the drain's doing.
        let mut leaves = held[2].clone();
        leaves.regions = vec!["eu".to_owned()];
        check(4, &nodes, &[leaves], &[&[], &[], &[]]);
    }

    #[test]
    fn many_tenants_are_counted_and_some_are_named() {
        let names: Vec<String> = (0..13).map(|at| format!("t{at}")).collect();
        assert!(named(&names).ends_with("t8, t9 and 3 more"), "{}", named(&names));
        assert_eq!(named(&names[..2]), "t0, t1");
        let left = Left {
            one_in_all: names,
            ..Left::default()
        };
        let told = left.json();
        assert_eq!(told["one_replica_in_all"]["count"], 13);
        assert_eq!(
            told["one_replica_in_all"]["tenants"].as_array().map(Vec::len),
            Some(NAMED_MAX)
        );
    }

    #[track_caller]
    fn check(
        drained: u64,
        nodes: &[v1::NodeDescription],
        held: &[v1::TenantDescription],
        [stuck, one_in_all, one_in_region]: &[&[&str]; 3],
    ) -> Left {
        let drained = nodes.iter().find(|node| node.id == drained).unwrap();
        let left = Left::of(drained, nodes, held);
        assert_eq!(left.stuck, *stuck, "stuck");
        assert_eq!(left.one_in_all, *one_in_all, "one in all");
        assert_eq!(left.one_in_region, *one_in_region, "one in the region");
        left
    }

    fn node(id: u64, region: &str) -> v1::NodeDescription {
        v1::NodeDescription {
            id,
            region: region.into(),
            state: "active".into(),
            ..v1::NodeDescription::default()
        }
    }

    fn tenant(name: &str, nodes_per_region: u32, replicas: &[(u64, &str)]) -> v1::TenantDescription {
        let mut regions: Vec<String> = replicas.iter().map(|(_, region)| (*region).to_owned()).collect();
        regions.dedup();
        let replica = |&(node, region): &(u64, &str)| v1::TenantReplica {
            node,
            region: region.into(),
            state: "active".into(),
        };
        v1::TenantDescription {
            name: name.into(),
            regions,
            nodes_per_region,
            replicas: replicas.iter().map(replica).collect(),
            ..v1::TenantDescription::default()
        }
    }
}
