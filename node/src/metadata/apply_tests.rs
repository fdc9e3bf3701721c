//! Any sequence of commands keeps the invariants of the state.

use std::collections::BTreeSet;

use halcyon_core::id::{NodeId, RegionName, TenantId, TenantName};
use proptest::{collection::vec, prelude::*};

use super::{
    command::{Command, Placement, Refusal, Reply},
    limits::ANSWERS_REMEMBERED_MAX,
    log_store::{decode, encode},
    placement,
    state::{Node, NodeState, ReplicaState, State, Tenant},
};

const TOKEN: [u8; 32] = [7; 32];

/// A step in numbers; the present state gives them their meaning, so that many of them are carried out.
type Step = (u8, u8, u8, u8);

fn region(number: u8) -> RegionName {
    RegionName::new(["a", "b", "c"][usize::from(number) % 3]).unwrap()
}

fn regions(bits: u8) -> BTreeSet<RegionName> {
    (0..3).filter(|number| bits >> number & 1 == 1).map(region).collect()
}

fn tenant_id(number: u8) -> TenantId {
    TenantId::from_bytes(u128::from(number % 4).to_be_bytes()).unwrap()
}

fn start() -> State {
    let mut state = State::default();
    let node = Node {
        id: NodeId(1),
        region: region(0),
        client_address: String::new(),
        peer_address: "first".to_owned(),
        state: NodeState::Active,
    };
    let bootstrap = Command::Bootstrap {
        cluster: "test".to_owned(),
        ca_certificate: vec![1],
        ca_key: vec![2],
        admin: [0; 32],
        node,
    };
    state.apply(bootstrap).unwrap();
    let token = Command::AddToken {
        hash: TOKEN,
        expires_ms: 10,
        now_ms: 0,
    };
    state.apply(token).unwrap();
    state
}

fn command(state: &State, at: usize, (kind, a, b, c): Step) -> Command {
    let tenant = tenant_id(a);
    let node = NodeId(u64::from(b % 9));
    let epoch = epoch_of(state, tenant).saturating_sub(u64::from(c % 8 == 0));
    match kind % 11 {
        0 | 1 => Command::Join {
            request: at as u128,
            token: TOKEN,
            now_ms: 1,
            region: region(a),
            client_address: String::new(),
            peer_address: format!("node {at}"),
        },
        2 => Command::DrainNode {
            node,
            draining: c % 2 == 0,
        },
        3 => Command::RemoveNode {
            node,
            force: c % 2 == 0,
        },
        4 | 5 => Command::CreateTenant {
            id: tenant,
            name: TenantName::new(&format!("app{}", b % 5)).unwrap(),
            home: region(u8::try_from(c.trailing_zeros()).unwrap()),
            regions: regions(c),
            nodes_per_region: u32::from(b % 3),
            key: None,
        },
        6 => Command::PlaceTenant {
            tenant,
            home: regions(c).first().cloned(),
            regions: Some(regions(c)),
            nodes_per_region: Some(u32::from(b % 3)),
        },
        7 if c % 4 == 0 => Command::DeleteTenant(tenant),
        7 => Command::Erased { tenant, node },
        8 => Command::ReplicaReady {
            tenant,
            node,
            placement_epoch: epoch,
        },
        9 => Command::ReplicaGone {
            tenant,
            node,
            placement_epoch: epoch,
        },
        _ => Command::SetReplicas(steps(state)),
    }
}

fn epoch_of(state: &State, tenant: TenantId) -> u64 {
    state.tenants.get(&tenant).map_or(0, |tenant| tenant.placement_epoch)
}

/// As the reconciler proposes them.
fn steps(state: &State) -> Vec<Placement> {
    let step = |tenant: &Tenant| {
        let replicas = placement::step(tenant, &state.nodes)?;
        Some(Placement {
            tenant: tenant.id,
            expected_epoch: tenant.placement_epoch,
            replicas,
        })
    };
    state.tenants.values().filter_map(|tenant| step(tenant)).collect()
}

fn check_names(state: &State) {
    assert_eq!(state.names.len(), state.tenants.len());
    for (name, id) in &state.names {
        assert_eq!(state.tenants[id].name, *name);
    }
    assert!(
        state.erasing.keys().all(|id| !state.tenants.contains_key(id)),
        "erased and alive"
    );
}

fn check_nodes(before: &State, state: &State) {
    assert!(state.removed_nodes.is_superset(&before.removed_nodes));
    assert!(
        state
            .nodes
            .keys()
            .all(|id| !state.removed_nodes.contains(id) && id.0 < state.next_node)
    );
    assert!(
        before
            .nodes
            .keys()
            .all(|id| state.nodes.contains_key(id) || state.removed_nodes.contains(id))
    );
    let waited_for = state.erasing.values().flatten();
    assert!(
        waited_for.clone().all(|id| state.nodes.contains_key(id)),
        "nobody waits for a removed node"
    );
}

/// Once the reconciler has had its turn: whoever holds data outside the tenant's regions is on its way out, or is kept
/// until those inside are filled.
fn check_replicas(state: &State) {
    for tenant in state.tenants.values() {
        let wanted = placement::desired(tenant, &state.nodes);
        let filled = wanted
            .iter()
            .all(|id| tenant.replicas.get(id) == Some(&ReplicaState::Active));
        for (id, replica) in &tenant.replicas {
            let outside = !tenant.regions.contains(&state.nodes[id].region);
            let kept =
                *replica == ReplicaState::Leaving || wanted.is_empty() || (*replica == ReplicaState::Active && !filled);
            assert!(!outside || kept, "{id} of {tenant:?}");
        }
    }
}

fn check_epochs(before: &State, state: &State) {
    for (id, tenant) in &state.tenants {
        let Some(old) = before.tenants.get(id) else { continue };
        assert!(old.placement_epoch <= tenant.placement_epoch && old.collection_epoch <= tenant.collection_epoch);
        assert!(old.replicas == tenant.replicas || old.placement_epoch < tenant.placement_epoch);
    }
}

#[test]
fn a_node_that_asks_again_to_join_keeps_its_number_until_it_is_removed() {
    let mut state = start();
    let join = |state: &mut State| {
        let join = Command::Join {
            request: 7,
            token: TOKEN,
            now_ms: 1,
            region: region(1),
            client_address: "second".to_owned(),
            peer_address: "second".to_owned(),
        };
        state.apply(join).unwrap()
    };
    assert_eq!(join(&mut state), Reply::Joined(NodeId(2)));
    assert_eq!(join(&mut state), Reply::Joined(NodeId(2)));
    let (node, force) = (NodeId(2), true);
    state.apply(Command::RemoveNode { node, force }).unwrap();
    assert_eq!(join(&mut state), Reply::Joined(NodeId(3)));
    assert_eq!(join(&mut state), Reply::Joined(NodeId(3)));
}

fn once(id: u128, command: Command) -> Command {
    Command::Once {
        id,
        command: Box::new(command),
    }
}

fn create(number: u8, name: &str) -> Command {
    Command::CreateTenant {
        id: tenant_id(number),
        name: TenantName::new(name).unwrap(),
        regions: [region(0)].into(),
        home: region(0),
        nodes_per_region: 1,
        key: None,
    }
}

#[test]
fn a_command_that_comes_again_gets_the_first_answer_and_changes_nothing_whatever_came_between() {
    let mut state = start();
    let (tenant, node) = (tenant_id(1), NodeId(1));
    let taken = Err(Refusal::NameTaken(TenantName::new("app").unwrap()));
    let script = [
        (1, create(1, "app"), Ok(Reply::Done)),
        (2, create(2, "app"), taken.clone()),
        (3, Command::DeleteTenant(tenant), Ok(Reply::Erasing([node].into()))),
        (4, Command::Erased { tenant, node }, Ok(Reply::Done)),
    ];
    for (id, command, answer) in script.clone() {
        assert_eq!(state.apply(once(id, command)), answer);
    }
    let settled = state.clone();
    for (id, command, answer) in script {
        assert_eq!(state.apply(once(id, command)), answer, "again");
        assert_eq!(state, settled);
    }
    // Who asks anew draws anew.
    assert_eq!(state.apply(once(5, create(2, "app"))), Ok(Reply::Done));
    assert_eq!(state.tenants.len(), 1);
}

#[test]
fn a_command_without_an_id_is_carried_out_each_time() {
    let mut state = start();
    let (tenant, node) = (tenant_id(1), NodeId(1));
    for _ in 0..2 {
        assert_eq!(state.apply(create(1, "app")), Ok(Reply::Done));
        assert_eq!(state.tenants.len(), 1);
        state.apply(Command::DeleteTenant(tenant)).unwrap();
        state.apply(Command::Erased { tenant, node }).unwrap();
        assert_eq!(state.tenants.len(), 0);
    }
}

#[test]
fn so_many_answers_are_remembered_and_the_oldest_is_forgotten_first() {
    let mut state = start();
    let drain = |id: u128| {
        let command = Command::DrainNode {
            node: NodeId(1),
            draining: true,
        };
        once(id, command)
    };
    for id in 0..=ANSWERS_REMEMBERED_MAX as u128 {
        state.apply(drain(id)).unwrap();
    }
    assert!(!state.has_answered(&drain(0)));
    assert!(state.has_answered(&drain(1)));
    // Who starts from a snapshot forgets the same next.
    let mut other = State::decode(&state.encode().unwrap()).unwrap();
    for state in [&mut state, &mut other] {
        state.apply(drain(u128::MAX)).unwrap();
        assert!(!state.has_answered(&drain(1)) && state.has_answered(&drain(2)));
    }
    assert_eq!(state, other);
}

#[test]
fn a_snapshot_and_a_command_of_a_release_that_remembered_no_answers_are_read() {
    let mut state = start();
    state.apply(create(1, "app")).unwrap();
    let old = encode(&state).unwrap();
    assert_eq!(State::decode(&old).unwrap(), state);
    state.apply(once(1, create(2, "other"))).unwrap();
    let new = state.encode().unwrap();
    let as_it_was: State = decode(&new).unwrap();
    assert_eq!((as_it_was.tenants, as_it_was.names), (state.tenants, state.names));
    let command: Command = decode(&encode(&Command::DeleteTenant(tenant_id(1))).unwrap()).unwrap();
    assert_eq!(command, Command::DeleteTenant(tenant_id(1)));
}

proptest! {
    #[test]
    fn any_commands_keep_the_invariants(script in vec(any::<Step>(), 1..80)) {
        let mut state = start();
        for (at, step) in script.into_iter().enumerate() {
            let before = state.clone();
            let refused = state.apply(command(&before, at, step)).is_err();
            prop_assert!(!refused || state == before, "a refused command changes nothing");
            check_names(&state);
            check_nodes(&before, &state);
            check_epochs(&before, &state);
            let mut settled = state.clone();
            while let changes @ [_, ..] = &steps(&settled)[..] {
                settled.apply(Command::SetReplicas(changes.to_vec())).unwrap();
            }
            check_replicas(&settled);
            let decoded = State::decode(&state.encode().unwrap()).unwrap();
            prop_assert_eq!(decoded, state.clone());
        }
    }
}
