//! A program that uses the Rust client, as apps do, driven from a test's thread.

use std::{pin::Pin, time::Duration};

use futures::{FutureExt as _, Stream, StreamExt as _};
use halcyon_client::{Acknowledged, Client, ClientOptions, Pages, Pending, ReadError, ScanQuery, WatchEvent, env};
use halcyon_core::version_vector::VersionVector;
use tokio::time::timeout;

use crate::{
    load::{entity, titled},
    wait::{self, runtime},
};

/// An open client with its outbox in memory.
#[derive(Debug)]
pub struct Program {
    client: Client,
}

impl Program {
    /// Connects to the nearest replica.
    #[track_caller]
    pub fn open(options: ClientOptions) -> Self {
        let env = env::system(None).expect("files in memory need nothing");
        let connected = runtime().block_on(Client::connect(env, options));
        Self {
            client: connected.expect("the cluster is up"),
        }
    }

    /// The place, in the cluster, of the node that it speaks to.
    #[track_caller]
    pub fn node(&self) -> usize {
        let node = self.client.status().node.expect("it has spoken to a node");
        usize::try_from(node.0).expect("a small number") - 1
    }

    /// Writes `count` entities of one field each, in a set of their own each, and does not wait.
    #[track_caller]
    pub fn write_entities(&self, first: usize, count: usize) -> Vec<Pending> {
        let write = async |at| {
            let pending = self.client.write(titled(at)).await;
            pending.expect("there is room in the outbox")
        };
        runtime().block_on(async {
            let mut pending = Vec::new();
            for at in first..first + count {
                pending.push(write(at).await);
            }
            pending
        })
    }

    /// Writes and waits until all is acknowledged.
    #[track_caller]
    pub fn write_and_wait(&self, first: usize, count: usize) -> Vec<Acknowledged> {
        acknowledged(self.write_entities(first, count), wait::SOON)
    }

    /// How many fields an entity shows.
    #[track_caller]
    pub fn fields(&self, subject: &str) -> usize {
        let found = runtime().block_on(self.client.get(&entity(subject)));
        found.expect("a node serves").len()
    }

    /// Reads all triples that match, page by page.
    pub fn pages(&self, query: ScanQuery) -> Reading {
        Reading {
            pages: self.client.pages(query),
        }
    }

    /// Follows the tenant from a vector.
    pub fn watch(&self, from: VersionVector) -> Watch {
        Watch {
            stream: Box::pin(self.client.watch(from)),
        }
    }

    /// Closes the client.
    pub fn close(self) {
        runtime().block_on(self.client.close());
    }
}

/// Waits for all acknowledgements together.
#[track_caller]
pub fn acknowledged(pending: Vec<Pending>, within: Duration) -> Vec<Acknowledged> {
    let count = pending.len();
    let mut taken = Vec::new();
    let all = async {
        for one in pending {
            let number = one.number();
            let answer = one.acknowledged().await;
            taken.push(answer.unwrap_or_else(|refused| panic!("set {number}: {refused}")));
        }
    };
    let in_time = runtime().block_on(async { timeout(within, all).await }).is_ok();
    assert!(
        in_time,
        "{} of {count} sets were acknowledged within {within:?}",
        taken.len()
    );
    taken
}

/// The acknowledgement, if it is there already.
pub fn acknowledged_now(pending: Pending) -> Option<Acknowledged> {
    pending.acknowledged().now_or_never().and_then(Result::ok)
}

/// A scan of many pages.
#[derive(Debug)]
pub struct Reading {
    pages: Pages,
}

impl Reading {
    /// The entities of the next triples; `None` after the end.
    #[track_caller]
    pub fn page(&mut self) -> Option<Vec<String>> {
        let page = runtime().block_on(self.pages.next()).expect("some replica answers");
        page.map(|triples| triples.iter().map(|triple| triple.subject.to_string()).collect())
    }

    /// How often it began anew at another replica.
    pub const fn moves(&self) -> u32 {
        self.pages.moves()
    }
}

/// A stream of changes.
pub struct Watch {
    stream: Pin<Box<dyn Stream<Item = Result<WatchEvent, ReadError>> + Send>>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Watch {
    /// The next event.
    #[track_caller]
    pub fn next(&mut self, within: Duration) -> WatchEvent {
        let next = runtime().block_on(async { timeout(within, self.stream.next()).await });
        let event = next.unwrap_or_else(|_| panic!("the watch is silent for {within:?}"));
        let event = event.expect("a watch has no end");
        event.expect("nobody refuses the watch")
    }
}
