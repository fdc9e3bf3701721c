//! `State::apply`: what each command does, or why it is refused. A refused command changes nothing.

use std::{collections::BTreeSet, sync::Arc};

use halcyon_core::id::{NodeId, RegionName, TenantId};

use super::{
    checks::{check_acknowledgement, check_setting, limit, put_setting},
    command::{Command, Placement, Refusal, Reply},
    limits::{
        ADDRESS_BYTES_MAX, ADMINS_MAX, JOINS_REMEMBERED_MAX, KEYS_MAX, LABEL_BYTES_MAX, NODES_MAX,
        NODES_PER_REGION_MAX, REGIONS_MAX, TENANTS_MAX, TOKENS_MAX,
    },
    placement,
    settings::{self, TenantSettings},
    state::{AccessKey, Node, NodeState, ReplicaState, SecretHash, State, Tenant},
};

type Applied = Result<Reply, Refusal>;

impl State {
    /// Carries out a command. Pure: every replica of the state does the same.
    pub fn apply(&mut self, command: Command) -> Applied {
        match command {
            Command::Bootstrap { .. } => self.bootstrap(command),
            Command::AddAdmin(hash) => self.add_admin(hash),
            Command::RevokeAdmin(hash) => self.revoke_admin(&hash),
            Command::AddToken {
                hash,
                expires_ms,
                now_ms,
            } => self.add_token(hash, expires_ms, now_ms),
            Command::Join { .. } => self.join(command),
            Command::UpdateAddresses {
                node,
                client_address,
                peer_address,
            } => self.update_addresses(node, client_address, peer_address),
            Command::DrainNode { node, draining } => self.drain(node, draining),
            Command::RemoveNode { node, force } => self.remove_node(node, force),
            Command::CreateTenant { .. } => self.create_tenant(command),
            Command::PlaceTenant {
                tenant,
                regions,
                home,
                nodes_per_region,
            } => self.place(tenant, regions, home, nodes_per_region),
            Command::DeleteTenant(tenant) => self.delete_tenant(tenant),
            Command::Erased { tenant, node } => Ok(self.erased(tenant, node)),
            Command::CreateKey { tenant, id, key } => self.create_key(tenant, id, key),
            Command::RevokeKey { tenant, id } => self.revoke_key(tenant, id),
            Command::SetTenantSetting { tenant, name, value } => self.set_tenant_setting(tenant, name, value),
            Command::SetSetting { name, value } => self.set_setting(name, value),
            Command::ReplicaReady {
                tenant,
                node,
                placement_epoch,
            } => self.replica_ready(tenant, node, placement_epoch),
            Command::ReplicaGone {
                tenant,
                node,
                placement_epoch,
            } => self.replica_gone(tenant, node, placement_epoch),
            Command::Collected { tenant, epoch } => self.collected(tenant, epoch),
            Command::SetReplicas(placements) => Ok(self.set_replicas(placements)),
            Command::Once { id, command } => self.apply_once(id, *command),
        }
    }

    fn bootstrap(&mut self, command: Command) -> Applied {
        let Command::Bootstrap {
            cluster,
            ca_certificate,
            ca_key,
            admin,
            node,
        } = command
        else {
            unreachable!("apply passes this variant only")
        };
        if self.cluster == cluster {
            return Ok(Reply::Done);
        }
        if !self.cluster.is_empty() {
            return Err(Refusal::AlreadyBootstrapped);
        }
        self.cluster = cluster;
        self.ca_certificate = ca_certificate;
        self.ca_key = ca_key;
        self.admins.insert(admin);
        self.next_node = node.id.0 + 1;
        self.nodes.insert(node.id, Arc::new(node));
        Ok(Reply::Done)
    }

    fn add_admin(&mut self, hash: SecretHash) -> Applied {
        limit("admin credentials", self.admins.len() + 1, ADMINS_MAX)?;
        self.admins.insert(hash);
        Ok(Reply::Done)
    }

    fn revoke_admin(&mut self, hash: &SecretHash) -> Applied {
        if self.admins.len() == 1 && self.admins.contains(hash) {
            return Err(Refusal::LastAdmin);
        }
        self.admins.remove(hash);
        Ok(Reply::Done)
    }

    fn add_token(&mut self, hash: SecretHash, expires_ms: u64, now_ms: u64) -> Applied {
        let valid = self.tokens.values().filter(|expiry| now_ms < **expiry).count();
        limit("join tokens", valid + 1, TOKENS_MAX)?;
        self.tokens.retain(|_, expiry| now_ms < *expiry);
        self.tokens.insert(hash, expires_ms);
        Ok(Reply::Done)
    }

    fn join(&mut self, command: Command) -> Applied {
        let Command::Join {
            request,
            token,
            now_ms,
            region,
            client_address,
            peer_address,
        } = command
        else {
            unreachable!("apply passes this variant only")
        };
        let asked_before = self.joins.iter().find(|(joined, _)| *joined == request);
        if let Some((_, node)) = asked_before
            && self.nodes.contains_key(node)
        {
            return Ok(Reply::Joined(*node));
        }
        let expires_ms = *self.tokens.get(&token).ok_or(Refusal::TokenUnknown)?;
        if expires_ms <= now_ms {
            return Err(Refusal::TokenExpired);
        }
        limit("nodes", self.nodes.len() + 1, NODES_MAX)?;
        let id = NodeId(self.next_node);
        self.check_addresses(id, &client_address, &peer_address)?;
        self.next_node += 1;
        let node = Node {
            id,
            region,
            client_address,
            peer_address,
            state: NodeState::Active,
        };
        self.nodes.insert(id, Arc::new(node));
        // What was removed meanwhile joins as another.
        self.joins.retain(|(joined, _)| *joined != request);
        self.joins.push_back((request, id));
        while self.joins.len() > JOINS_REMEMBERED_MAX {
            self.joins.pop_front();
        }
        Ok(Reply::Joined(id))
    }

    fn update_addresses(&mut self, id: NodeId, client_address: String, peer_address: String) -> Applied {
        self.check_addresses(id, &client_address, &peer_address)?;
        let node = self.node_mut(id)?;
        node.client_address = client_address;
        node.peer_address = peer_address;
        Ok(Reply::Done)
    }

    fn check_addresses(&self, id: NodeId, client_address: &str, peer_address: &str) -> Result<(), Refusal> {
        for address in [client_address, peer_address] {
            limit("bytes of an address", address.len(), ADDRESS_BYTES_MAX)?;
        }
        let other = self
            .nodes
            .values()
            .find(|node| node.id != id && node.peer_address == peer_address);
        match other {
            Some(node) => Err(Refusal::AddressTaken {
                node: node.id,
                address: peer_address.to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn drain(&mut self, id: NodeId, draining: bool) -> Applied {
        let node = self.node_mut(id)?;
        node.state = if draining {
            NodeState::Draining
        } else {
            NodeState::Active
        };
        Ok(Reply::Done)
    }

    fn remove_node(&mut self, id: NodeId, force: bool) -> Applied {
        if self.removed_nodes.contains(&id) {
            return Ok(Reply::Done);
        }
        if !self.nodes.contains_key(&id) {
            return Err(Refusal::UnknownNode(id));
        }
        if self.nodes.len() == 1 {
            return Err(Refusal::LastNode(id));
        }
        if let Some(tenant) = self.tenants.values().find(|tenant| !force && tenant.only_filled_on(id)) {
            return Err(Refusal::OnlyReplica {
                node: id,
                tenant: tenant.id,
            });
        }
        self.nodes.remove(&id);
        self.removed_nodes.insert(id);
        // Its own disk is out of reach for good: nobody waits for it to erase.
        self.erasing.retain(|_, nodes| {
            nodes.remove(&id);
            !nodes.is_empty()
        });
        let nodes = &self.nodes;
        let held = self
            .tenants
            .values_mut()
            .filter(|tenant| tenant.replicas.contains_key(&id));
        held.for_each(|tenant| advance(tenant, nodes));
        Ok(Reply::Done)
    }

    fn create_tenant(&mut self, command: Command) -> Applied {
        let Command::CreateTenant {
            id,
            name,
            regions,
            home,
            nodes_per_region,
            key,
        } = command
        else {
            unreachable!("apply passes this variant only")
        };
        if self.names.get(&name) == Some(&id) {
            return Ok(Reply::Done);
        }
        if self.names.contains_key(&name) {
            return Err(Refusal::NameTaken(name));
        }
        if self.tenants.contains_key(&id) || self.erasing.contains_key(&id) {
            return Err(Refusal::TenantIdTaken(id));
        }
        limit("tenants", self.tenants.len() + 1, TENANTS_MAX)?;
        self.check_regions(&regions, &home, nodes_per_region)?;
        if let Some((id, key)) = &key {
            limit("bytes of a key's label", id.len().max(key.label.len()), LABEL_BYTES_MAX)?;
        }
        let mut tenant = Arc::new(Tenant {
            id,
            name: name.clone(),
            regions,
            home,
            nodes_per_region,
            placement_epoch: 0,
            collection_epoch: 0,
            replicas: [].into(),
            keys: key.into_iter().collect(),
            settings: [].into(),
        });
        advance(&mut tenant, &self.nodes);
        self.names.insert(name, id);
        self.tenants.insert(id, tenant);
        Ok(Reply::Done)
    }

    fn check_regions(
        &self,
        regions: &BTreeSet<RegionName>,
        home: &RegionName,
        nodes_per_region: u32,
    ) -> Result<(), Refusal> {
        if regions.is_empty() {
            return Err(Refusal::NoRegion);
        }
        if !regions.contains(home) {
            return Err(Refusal::HomeOutsideRegions(home.clone()));
        }
        limit("regions of a tenant", regions.len(), REGIONS_MAX)?;
        let in_range = (1..=NODES_PER_REGION_MAX).contains(&nodes_per_region);
        if !in_range {
            return Err(Refusal::Limit {
                what: "nodes per region, at least 1".to_owned(),
                max: NODES_PER_REGION_MAX.into(),
            });
        }
        let unknown = regions
            .iter()
            .find(|region| !self.nodes.values().any(|node| node.region == **region));
        unknown.map_or(Ok(()), |region| Err(Refusal::UnknownRegion(region.clone())))
    }

    fn place(
        &mut self,
        id: TenantId,
        regions: Option<BTreeSet<RegionName>>,
        home: Option<RegionName>,
        nodes_per_region: Option<u32>,
    ) -> Applied {
        let tenant = self.tenants.get(&id).ok_or(Refusal::UnknownTenant(id))?;
        let regions = regions.unwrap_or_else(|| tenant.regions.clone());
        let home = home.unwrap_or_else(|| tenant.home.clone());
        let nodes_per_region = nodes_per_region.unwrap_or(tenant.nodes_per_region);
        self.check_regions(&regions, &home, nodes_per_region)?;
        check_acknowledgement(&TenantSettings::of(&tenant.settings), &regions)?;
        let nodes = &self.nodes;
        let tenant = self.tenants.get_mut(&id).ok_or(Refusal::UnknownTenant(id))?;
        let changed = Arc::make_mut(tenant);
        changed.regions = regions;
        changed.home = home;
        changed.nodes_per_region = nodes_per_region;
        advance(tenant, nodes);
        Ok(Reply::Done)
    }

    fn delete_tenant(&mut self, id: TenantId) -> Applied {
        if let Some(nodes) = self.erasing.get(&id) {
            return Ok(Reply::Erasing(nodes.clone()));
        }
        let tenant = self.tenants.remove(&id).ok_or(Refusal::UnknownTenant(id))?;
        self.names.remove(&tenant.name);
        let nodes = &self.nodes;
        let holders: BTreeSet<NodeId> = tenant
            .replicas
            .keys()
            .copied()
            .filter(|node| nodes.contains_key(node))
            .collect();
        if !holders.is_empty() {
            self.erasing.insert(id, holders.clone());
        }
        Ok(Reply::Erasing(holders))
    }

    fn erased(&mut self, tenant: TenantId, node: NodeId) -> Reply {
        if let Some(nodes) = self.erasing.get_mut(&tenant) {
            nodes.remove(&node);
            if nodes.is_empty() {
                self.erasing.remove(&tenant);
            }
        }
        Reply::Done
    }

    fn create_key(&mut self, tenant: TenantId, id: String, key: AccessKey) -> Applied {
        limit("bytes of a key's label", id.len().max(key.label.len()), LABEL_BYTES_MAX)?;
        let tenant = self.tenant_mut(tenant)?;
        match tenant.keys.get(&id) {
            Some(present) if *present == key => return Ok(Reply::Done),
            Some(_) => return Err(Refusal::KeyExists(id)),
            None => limit("access keys of a tenant", tenant.keys.len() + 1, KEYS_MAX)?,
        }
        Arc::make_mut(tenant).keys.insert(id, key);
        Ok(Reply::Done)
    }

    fn revoke_key(&mut self, tenant: TenantId, id: String) -> Applied {
        let tenant = self.tenant_mut(tenant)?;
        if !tenant.keys.contains_key(&id) {
            return Err(Refusal::UnknownKey {
                tenant: tenant.id,
                key: id,
            });
        }
        Arc::make_mut(tenant).keys.remove(&id);
        Ok(Reply::Done)
    }

    fn set_tenant_setting(&mut self, tenant: TenantId, name: String, value: String) -> Applied {
        check_setting(settings::TENANT, &name, &value)?;
        let tenant = self.tenant_mut(tenant)?;
        let mut overrides = tenant.settings.clone();
        put_setting(&mut overrides, name, value);
        check_acknowledgement(&TenantSettings::of(&overrides), &tenant.regions)?;
        Arc::make_mut(tenant).settings = overrides;
        Ok(Reply::Done)
    }

    fn set_setting(&mut self, name: String, value: String) -> Applied {
        check_setting(settings::CLUSTER, &name, &value)?;
        put_setting(&mut self.settings, name, value);
        Ok(Reply::Done)
    }

    fn replica_ready(&mut self, id: TenantId, node: NodeId, placement_epoch: u64) -> Applied {
        self.end_replica_state(id, node, (placement_epoch, ReplicaState::Joining))
    }

    fn replica_gone(&mut self, id: TenantId, node: NodeId, placement_epoch: u64) -> Applied {
        self.end_replica_state(id, node, (placement_epoch, ReplicaState::Leaving))
    }

    /// A joining replica becomes active, a leaving one is dropped; then the placement takes its next step.
    fn end_replica_state(&mut self, id: TenantId, node: NodeId, (epoch, ended): (u64, ReplicaState)) -> Applied {
        let nodes = &self.nodes;
        let tenant = self.tenants.get_mut(&id).ok_or(Refusal::UnknownTenant(id))?;
        if tenant.placement_epoch != epoch {
            return Err(Refusal::StalePlacement {
                tenant: id,
                current: tenant.placement_epoch,
            });
        }
        if tenant.replicas.get(&node) != Some(&ended) {
            return Err(Refusal::NotSuchReplica { tenant: id, node });
        }
        let changed = Arc::make_mut(tenant);
        if ended == ReplicaState::Joining {
            changed.replicas.insert(node, ReplicaState::Active);
        } else {
            changed.replicas.remove(&node);
        }
        changed.placement_epoch += 1;
        advance(tenant, nodes);
        Ok(Reply::Done)
    }

    fn collected(&mut self, id: TenantId, epoch: u64) -> Applied {
        let tenant = self.tenant_mut(id)?;
        let current = tenant.collection_epoch;
        if epoch == current {
            return Ok(Reply::Done);
        }
        if epoch != current + 1 {
            return Err(Refusal::CollectionEpoch { tenant: id, current });
        }
        Arc::make_mut(tenant).collection_epoch = epoch;
        Ok(Reply::Done)
    }

    fn set_replicas(&mut self, placements: Vec<Placement>) -> Reply {
        let mut placed = 0;
        for placement in placements {
            let known = placement.replicas.keys().all(|node| self.nodes.contains_key(node));
            let Some(tenant) = self.tenants.get_mut(&placement.tenant) else {
                continue;
            };
            if known && tenant.placement_epoch == placement.expected_epoch && tenant.replicas != placement.replicas {
                let changed = Arc::make_mut(tenant);
                changed.replicas = placement.replicas;
                changed.placement_epoch += 1;
                placed += 1;
            }
        }
        Reply::Placed(placed)
    }

    fn node_mut(&mut self, id: NodeId) -> Result<&mut Node, Refusal> {
        let removed = self.removed_nodes.contains(&id);
        let unknown = if removed {
            Refusal::NodeRemoved(id)
        } else {
            Refusal::UnknownNode(id)
        };
        self.nodes.get_mut(&id).map(Arc::make_mut).ok_or(unknown)
    }

    fn tenant_mut(&mut self, id: TenantId) -> Result<&mut Arc<Tenant>, Refusal> {
        self.tenants.get_mut(&id).ok_or(Refusal::UnknownTenant(id))
    }
}

impl Tenant {
    /// Whether no replica but the one on `node` is known to hold everything.
    fn only_filled_on(&self, node: NodeId) -> bool {
        let filled = |id: &NodeId| {
            self.replicas
                .get(id)
                .is_some_and(|state| *state != ReplicaState::Joining)
        };
        filled(&node)
            && !self
                .replicas
                .iter()
                .any(|(id, state)| *id != node && *state == ReplicaState::Active)
    }
}

/// Takes the placement's next step.
fn advance(tenant: &mut Arc<Tenant>, nodes: &std::collections::BTreeMap<NodeId, Arc<Node>>) {
    if let Some(replicas) = placement::step(tenant, nodes) {
        let changed = Arc::make_mut(tenant);
        changed.replicas = replicas;
        changed.placement_epoch += 1;
    }
}
