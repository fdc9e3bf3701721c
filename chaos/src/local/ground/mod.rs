//! What nodes stand on: namespaces, or loopback behind proxies. The rest of a run does not know which.

mod namespaces;
mod netem;
mod proxy;
mod switch;
pub(super) mod system;
mod wire;

use std::{io, process::Command, sync::Arc};

use clap::ValueEnum;
use halcyon_core::env::{BoxFuture, BoxStream, Entropy, Listener, Network};
use thiserror::Error;

pub(super) use self::namespaces::PREFIX;
use self::{namespaces::Namespaces, proxy::Loopback};
use super::links::Links;

/// Namespaces were asked for and cannot be made.
#[derive(Debug, Error)]
#[error(
    "network namespaces cannot be made: {0}\n\
     Run as root with iproute2 installed (Debian: apt-get install iproute2), in a container with\n\
     --cap-add NET_ADMIN --cap-add SYS_ADMIN --device /dev/net/tun; or take --mode proxy."
)]
pub(super) struct GroundError(io::Error);

/// How nodes are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Each node in a network namespace of its own; needs root and iproute2
    Namespaces,
    /// On loopback, behind a proxy that injects faults
    Proxy,
    /// Namespaces where they can be made, else the proxy
    Auto,
}

/// A node's addresses.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    /// Where clients reach it.
    pub(super) client: String,
    /// Where it listens for peers.
    pub(super) peer_listen: String,
    /// Where peers are told to reach it.
    pub(super) peer_advertise: String,
}

/// The ground of one run.
#[derive(Debug)]
pub(super) enum Ground {
    /// See there.
    Namespaces(Namespaces),
    /// See there.
    Loopback(Loopback),
}

impl Ground {
    /// Lays the ground that was asked for; with `auto` also says why it is not namespaces.
    pub(super) fn lay(
        mode: Mode,
        links: &Links,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<(Self, Option<String>), GroundError> {
        let proxy = || Self::Loopback(Loopback::new(links.clone(), entropy.clone()));
        if mode == Mode::Proxy {
            return Ok((proxy(), None));
        }
        match Namespaces::lay(links.clone(), entropy.clone()) {
            Ok(made) => Ok((Self::Namespaces(made), None)),
            Err(error) if mode == Mode::Auto => Ok((proxy(), Some(error.to_string()))),
            Err(error) => Err(GroundError(error)),
        }
    }

    /// `namespaces` or `proxy`.
    pub(super) const fn mode(&self) -> &'static str {
        match self {
            Self::Namespaces(_) => "namespaces",
            Self::Loopback(_) => "proxy",
        }
    }

    /// The same in a sentence.
    pub(super) const fn describe(&self) -> &'static str {
        match self {
            Self::Namespaces(made) => made.describe(),
            Self::Loopback(_) => "loopback processes behind a fault-injecting proxy",
        }
    }

    /// Makes a place for the next node.
    pub(super) async fn add_node(&mut self) -> io::Result<()> {
        match self {
            Self::Namespaces(made) => made.add_node(),
            Self::Loopback(proxy) => proxy.add_node().await,
        }
    }

    /// Where a node listens.
    pub(super) fn addresses(&self, node: usize) -> Addresses {
        match self {
            Self::Namespaces(_) => namespaces::addresses(node),
            Self::Loopback(proxy) => proxy.addresses(node),
        }
    }

    /// A program beside a node.
    pub(super) fn command(&self, node: usize, program: &str) -> Command {
        match self {
            Self::Namespaces(_) => Namespaces::command(node, program),
            Self::Loopback(_) => Command::new(program),
        }
    }

    /// A node's process was started.
    pub(super) fn started(&self, node: usize, process: u32) {
        if let Self::Loopback(proxy) = self {
            proxy.owned_by(process, node);
        }
    }

    /// The links have changed.
    pub(super) fn apply(&self) -> io::Result<()> {
        match self {
            Self::Namespaces(made) => made.apply(),
            Self::Loopback(_) => Ok(()),
        }
    }

    /// The network as clients beside a node see it.
    pub(super) fn beside(&self, node: usize) -> Beside {
        let proxy = match self {
            Self::Namespaces(_) => None,
            Self::Loopback(proxy) => Some(proxy.clone()),
        };
        Beside { node, proxy }
    }
}

/// The network from beside a node.
#[derive(Debug, Clone)]
pub(super) struct Beside {
    node: usize,
    /// `None`: in the node's namespace.
    proxy: Option<Loopback>,
}

impl Network for Beside {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<BoxStream>> {
        let Self { node, proxy } = self.clone();
        Box::pin(async move {
            match proxy {
                Some(proxy) => proxy.connect(node, address).await,
                None => Ok(Box::new(Namespaces::connect(node, address).await?) as BoxStream),
            }
        })
    }

    fn listen(&self, _address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::Error::new(io::ErrorKind::Unsupported, "clients do not listen")) })
    }
}
