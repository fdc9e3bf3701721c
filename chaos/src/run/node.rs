//! The program on a host: a whole node, started again when its start fails, as a service manager does.

use std::{future::pending, path::PathBuf, rc::Rc, time::Duration};

use halcyon_node::{
    config::{Config, Source, Start},
    server::{ADMIN_FILE, Node},
};

use super::stage::{CLIENT_PORT, PEER_PORT, Stage};
use crate::{
    plan::cluster::Host,
    world::{
        clock,
        machine::{self, Machine},
        trace,
    },
};

/// Pause before a start that failed is tried again.
const START_AGAIN: Duration = Duration::from_secs(1);

/// Memory for pages of the disk: little, so that pages are read again and rot is found.
const CACHE_MIB: usize = 8;

/// The host that makes the cluster.
pub(super) const FIRST: Host = Host(1);

pub(super) async fn run(stage: Rc<Stage>, host: Host) -> turmoil::Result {
    let machine = Machine::Host(host.0);
    machine::enter(machine);
    tokio::task::spawn_local(clock::drive_timers(machine));
    loop {
        let start = if host == FIRST && !stage.has_joined_anew(host) {
            Start::Bootstrap
        } else {
            Start::Join(stage.token(host).await.parse()?)
        };
        let config = config(&stage, host, start);
        match Node::start(stage.place(machine).env.clone(), config).await {
            Ok(node) => {
                serve(&stage, host, &node);
                // The node lives until the machine crashes, or is started again.
                pending::<()>().await;
            }
            Err(error) => {
                trace::tell(machine, "node.failed", error.to_string());
                tokio::time::sleep(START_AGAIN).await;
            }
        }
    }
}

fn serve(stage: &Stage, host: Host, node: &Node) {
    let machine = Machine::Host(host.0);
    trace::tell(machine, "node.serves", format!("as node {}", node.id()));
    if host == FIRST
        && let Ok(Some(credential)) = stage.place(machine).env.disk.read_small(ADMIN_FILE)
    {
        stage.set_credential(String::from_utf8_lossy(&credential).trim().to_owned());
    }
    stage.started(host, node.rooms().clone());
}

fn config(stage: &Stage, host: Host, start: Start) -> Config {
    let region = stage.place(Machine::Host(host.0)).region.get();
    let source = Source {
        region: Some(region.name().to_owned()),
        data: Some(PathBuf::from("data")),
        listen: Some(format!("0.0.0.0:{CLIENT_PORT}")),
        peer_listen: Some(format!("0.0.0.0:{PEER_PORT}")),
        advertise: Some(format!("{host}:{CLIENT_PORT}")),
        peer_advertise: Some(format!("{host}:{PEER_PORT}")),
        storage_shards: Some(stage.plan.cluster.shards as usize),
        storage_cache_mib: Some(CACHE_MIB),
        ..Source::default()
    };
    let config = Config::check(source, start).expect("constants and the plan's regions");
    Config {
        wire: stage.releases.wire_of(host),
        ..config
    }
}
