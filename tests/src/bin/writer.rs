//! A program with an outbox on disk, for tests that kill it: `DIR ADDRESSES TENANT FIRST COUNT`, the key in
//! `HALCYON_KEY`.
//!
//! It says `left N` when it finds sets of an earlier run in its outbox, `written N` after each write that is durable
//! there, and `flushed` when a node has acknowledged everything; then it ends.

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use halcyon_client::{Client, ClientOptions, Outbox};
use halcyon_tests::load::titled;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let mut next = |what: &str| arguments.next().with_context(|| format!("{what} is missing"));
    let dir = PathBuf::from(next("DIR")?);
    let addresses = next("ADDRESSES")?.split(',').map(str::to_owned).collect();
    let tenant = next("TENANT")?;
    let first: usize = next("FIRST")?.parse()?;
    let count: usize = next("COUNT")?.parse()?;

    let options = ClientOptions {
        addresses,
        tenant,
        key: env::var("HALCYON_KEY")?,
        outbox: Outbox::Disk("outbox".to_owned()),
        offline: true,
        ..ClientOptions::default()
    };
    let client = Client::connect(halcyon_client::env::system(Some(&dir))?, options).await?;
    // Nothing is pushed before this thread waits for something.
    say("left", client.status().outbox)?;
    for at in first..first + count {
        client.write(titled(at)).await?;
        say("written", at)?;
    }
    client.flush().await?;
    say("flushed", count)?;
    client.close().await;
    Ok(())
}

fn say(what: &str, number: usize) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{what} {number}")?;
    Ok(out.flush()?)
}
