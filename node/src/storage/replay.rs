//! What the log holds and no fold has taken in, merged again after a restart by the code that merged it first.

use halcyon_core::{
    codec::Reader as Bytes,
    env::Probe,
    id::{Tag, TenantId},
};

use super::{
    command::Command,
    layer::Layer,
    log::Frames,
    shard::Published,
    types::StorageError,
    work::{Names, Work, damaged},
};

/// Replays the log onto the state of the last fold.
pub(super) fn replay(published: &mut Published, frames: Frames, probe: &dyn Probe) -> Result<(), StorageError> {
    let mut names = Names::default();
    for payload in frames.into_values() {
        let next_tenant = published.next_tenant;
        let mut work = Work {
            below: published.reader(),
            published: &published.tenants,
            pending: Layer::default(),
            names: &mut names,
            next_tenant,
        };
        let mut reader = Bytes::new(&payload);
        while reader.remaining() > 0 {
            let (tenant, command) = Command::read(&mut reader).map_err(damaged("log"))?;
            work.apply(tenant, &command)?;
            if let Command::Commit(commit) = &command {
                // It may have become durable in the moment in which the power went, and nobody heard of it.
                probe.event("storage.committed", &|| {
                    told(tenant, commit.tag, commit.content_hash, &commit.encoded)
                });
            }
        }
        let (layer, next_tenant) = (work.pending, work.next_tenant);
        published.publish(layer, next_tenant);
        names.trim();
    }
    Ok(())
}

/// A committed set, for the simulator's oracles.
pub(super) fn told(tenant: TenantId, tag: Tag, content_hash: u64, encoded: &[u8]) -> String {
    let (origin, set) = (hex::encode(tag.origin.to_bytes()), hex::encode(encoded));
    format!("{tenant} {origin} {} {content_hash:016x} {set}", tag.seq.0)
}
