//! Every node in a network namespace of its own, with an address of its own and nothing of the host's.
//!
//! Where the kernel has netem, veth pairs lead to a bridge in one more namespace, and `tc` shapes what a node sends.
//! Where it has not, TUN devices lead to a switch in this process that obeys the same links. All names begin with
//! [`PREFIX`] and the command's process number, so that whatever a killed run left behind can be told and removed.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::Arc,
};

use halcyon_core::env::Entropy;
use tun_rs::DeviceBuilder;

use super::{Addresses, netem, switch::Switch, system};
use crate::local::{limits::CONNECT_WITHIN, links::Links};

/// How names of namespaces begin.
pub(in crate::local) const PREFIX: &str = "hc";

/// The interface in a node's namespace.
const INTERFACE: &str = "eth0";

/// What carries packets between the namespaces.
#[derive(Debug)]
enum Fabric {
    /// The kernel's, through a bridge.
    Netem,
    /// Ours.
    Switch(Switch),
}

/// The namespaces of one run. Dropped, they are gone.
#[derive(Debug)]
pub(in crate::local) struct Namespaces {
    links: Links,
    fabric: Fabric,
    nodes: usize,
}

impl Namespaces {
    /// Makes the first namespace, and finds out what can carry packets.
    pub(super) fn lay(links: Links, entropy: Arc<dyn Entropy>) -> io::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "network namespaces need root",
            ));
        }
        let hub = hub();
        system::ip(&format!("netns add {hub}"))?;
        // From here on dropping it takes it down.
        let mut made = Self {
            fabric: Fabric::Switch(Switch::new(links.clone(), entropy)),
            links,
            nodes: 0,
        };
        if has_netem(&hub) {
            system::ip(&format!("-n {hub} link add name br0 type bridge"))?;
            system::ip(&format!("-n {hub} link set br0 up"))?;
            made.fabric = Fabric::Netem;
        }
        Ok(made)
    }

    /// What carries packets, for the report.
    pub(super) const fn describe(&self) -> &'static str {
        match self.fabric {
            Fabric::Netem => "network namespaces, packets shaped by tc netem",
            Fabric::Switch(_) => {
                "network namespaces, packets shaped by a switch in this process (the kernel has no netem)"
            }
        }
    }

    /// Makes the namespace of the next node.
    pub(super) fn add_node(&mut self) -> io::Result<()> {
        let node = self.nodes;
        let name = name_of(node);
        system::ip(&format!("netns add {name}"))?;
        self.nodes += 1;
        system::ip(&format!("-n {name} link set lo up"))?;
        match &self.fabric {
            Fabric::Netem => {
                let hub = hub();
                system::ip(&format!(
                    "-n {hub} link add name p{node} type veth peer name {INTERFACE} netns {name}"
                ))?;
                system::ip(&format!("-n {hub} link set p{node} master br0"))?;
                system::ip(&format!("-n {hub} link set p{node} up"))?;
            }
            Fabric::Switch(switch) => {
                let made = system::inside(&name, || {
                    DeviceBuilder::new().name(INTERFACE).enable(false).build_sync()
                });
                let device = made.join().map_err(|_| io::Error::other("the thread panicked"))??;
                switch.plug_in(node, device)?;
            }
        }
        system::ip(&format!("-n {name} addr add {}/24 dev {INTERFACE}", host_of(node)))?;
        system::ip(&format!("-n {name} link set {INTERFACE} up"))?;
        self.shape_new(node)
    }

    /// Makes the kernel obey the links as they are now; the switch does so by itself.
    pub(super) fn apply(&self) -> io::Result<()> {
        if matches!(self.fabric, Fabric::Switch(_)) {
            return Ok(());
        }
        for from in 0..self.nodes {
            for to in (0..self.nodes).filter(|to| *to != from) {
                tc(from, &netem::link(INTERFACE, to, self.links.get(from, to)))?;
            }
        }
        Ok(())
    }

    /// A program that runs beside a node.
    pub(super) fn command(node: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &name_of(node), program]);
        command
    }

    /// Opens a connection from beside a node.
    pub(super) async fn connect(from: usize, address: String) -> io::Result<tokio::net::TcpStream> {
        let address: SocketAddr = address
            .parse()
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, address.clone()))?;
        let (done, connected) = tokio::sync::oneshot::channel();
        let _thread = system::inside(&name_of(from), move || {
            let _ = done.send(TcpStream::connect_timeout(&address, CONNECT_WITHIN));
            Ok(())
        });
        let stream = connected
            .await
            .map_err(|_| io::Error::other("the namespace is gone"))??;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(stream)
    }

    fn shape_new(&self, node: usize) -> io::Result<()> {
        if matches!(self.fabric, Fabric::Switch(_)) {
            return Ok(());
        }
        tc(node, &netem::root(INTERFACE))?;
        for other in 0..node {
            for (from, to) in [(node, other), (other, node)] {
                for command in netem::class(INTERFACE, to, &host_of(to)) {
                    tc(from, &command)?;
                }
            }
        }
        self.apply()
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for node in 0..self.nodes {
            let _ = system::ip(&format!("netns del {}", name_of(node)));
        }
        let _ = system::ip(&format!("netns del {}", hub()));
    }
}

/// Where a node listens: in its namespace all ports are free.
pub(super) fn addresses(node: usize) -> Addresses {
    let host = host_of(node);
    Addresses {
        client: format!("{host}:7700"),
        peer_listen: format!("{host}:7710"),
        peer_advertise: format!("{host}:7710"),
    }
}

/// A node's host. The namespaces lead nowhere, so these addresses meet no other.
fn host_of(node: usize) -> String {
    format!("10.77.0.{}", node + 1)
}

fn hub() -> String {
    format!("{PREFIX}{}-hub", std::process::id())
}

fn name_of(node: usize) -> String {
    format!("{PREFIX}{}-n{}", std::process::id(), node + 1)
}

fn has_netem(namespace: &str) -> bool {
    let tc = |arguments: &str| system::ip(&format!("netns exec {namespace} tc {arguments}"));
    tc("qdisc add dev lo root netem delay 1ms").is_ok() && tc("qdisc del dev lo root").is_ok()
}

fn tc(node: usize, arguments: &[String]) -> io::Result<()> {
    let name = name_of(node);
    let mut words = vec!["netns", "exec", &name, "tc"];
    words.extend(arguments.iter().map(String::as_str));
    system::run("ip", &words).map(drop)
}
