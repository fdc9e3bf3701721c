//! `halcyon verify`: do all replicas of a tenant hold the same?

use std::time::Duration;

use clap::Args;
use halcyon_proto::convert;
use halcyon_proto::v1;
use serde_json::json;

use super::{
    Globals, connect,
    failure::Failure,
    output::{self, Rows, Tone},
};

/// Time between two looks of `--wait`.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// See there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  halcyon verify --tenant tracker
  halcyon verify --tenant tracker --wait 10s && echo all equal

Exit code 0 only when every replica answers, is exact, and has the same version vector and fingerprint; 1 when two
differ; 3 when one could not be asked and the others agree. Nodes that were removed hold no replica and are not asked.")]
pub struct VerifyArgs {
    /// The tenant's id or name
    #[arg(long, short, env = "HALCYON_TENANT")]
    tenant: String,
    /// Look again until they agree, for this long
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    wait: Option<Duration>,
}

/// Compares the replicas.
pub async fn run(args: VerifyArgs, globals: &Globals) -> Result<(), Failure> {
    let admin = connect::admin(globals).await?;
    let started = connect::clock().monotonic();
    let answer = loop {
        let request = v1::TenantRequest {
            tenant: args.tenant.clone(),
        };
        let answer = admin.verify(request).await.map_err(connect::admin_failure)?;
        let waited = connect::clock().monotonic().saturating_sub(started);
        if finding(&answer) == Finding::Agree || args.wait.is_none_or(|wait| waited >= wait) {
            break answer;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    if globals.json {
        output::json(&describe(&answer));
    } else {
        show(&answer);
    }
    let failure = match finding(&answer) {
        Finding::Agree => return Ok(()),
        Finding::NotAsked(nodes) => {
            let others = if nodes.len() == answer.replicas.len() {
                "so nothing is known"
            } else {
                "the others agree"
            };
            let failure = Failure::unreachable(format_args!(
                "{} of {} could not be asked; {others}",
                nodes.join(", "),
                args.tenant
            ));
            return Err(failure.advise(
                "halcyon status shows who is away; `halcyon node remove` takes out a node that does not come back",
            ));
        }
        Finding::Differ => Failure::failed(format_args!("the replicas of {} do not agree", args.tenant)),
    };
    Err(if args.wait.is_some() {
        failure.advise(format_args!("halcyon status --tenant {}", args.tenant))
    } else {
        failure.advise("if writes are still spreading, add --wait 10s")
    })
}

/// What the answers come to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    /// All are equal.
    Agree,
    /// These nodes did not answer; those that did are equal.
    NotAsked(Vec<String>),
    /// Two that answered are not equal, or one is not complete.
    Differ,
}

fn finding(answer: &v1::VerifyResponse) -> Finding {
    if answer.agree {
        return Finding::Agree;
    }
    let (asked, not_asked): (Vec<_>, Vec<_>) = answer.replicas.iter().partition(|replica| replica.error.is_empty());
    let is_equal = |replica: &&v1::ReplicaState| {
        let first = asked[0];
        replica.exact
            && !replica.vector.is_empty()
            && replica.vector == first.vector
            && replica.fingerprint == first.fingerprint
            && replica.collection_epoch == first.collection_epoch
    };
    if not_asked.is_empty() || !asked.iter().all(is_equal) {
        return Finding::Differ;
    }
    let name = |replica: &&v1::ReplicaState| format!("n{}", replica.node);
    Finding::NotAsked(not_asked.iter().map(name).collect())
}

fn show(answer: &v1::VerifyResponse) {
    let mut rows = Rows::new(&[
        "node",
        "region",
        "state",
        "triples>",
        "exact",
        "changes>",
        "origins>",
        "fingerprint",
        "vector",
    ]);
    for replica in &answer.replicas {
        if !replica.error.is_empty() || replica.vector.is_empty() {
            let reason = if replica.error.is_empty() {
                "holds nothing yet"
            } else {
                &replica.error
            };
            let mut cells = vec![
                format!("n{}", replica.node),
                replica.region.clone(),
                replica.state.clone(),
            ];
            cells.resize(8, "-".into());
            cells.push(reason.to_owned());
            rows.push(cells);
            continue;
        }
        let (origins, changes, digest) = summarize(&replica.vector);
        rows.push([
            format!("n{}", replica.node),
            replica.region.clone(),
            replica.state.clone(),
            output::count(replica.triples),
            if replica.exact { "yes" } else { "no" }.into(),
            output::count(changes),
            origins.to_string(),
            hex::encode(&replica.fingerprint),
            digest,
        ]);
    }
    rows.print();
    let tone = if answer.agree { Tone::Good } else { Tone::Bad };
    output::line(output::tint(tone, &answer.verdict));
}

/// Origins in a vector, change sets it covers, and a short digest to compare by eye.
fn summarize(encoded: &[u8]) -> (usize, u64, String) {
    let digest = format!("{:08x}", xxhash_rust::xxh3::xxh3_64(encoded) >> 32);
    match convert::vector(encoded) {
        Ok(vector) => {
            let (mut origins, mut sets) = (0, 0);
            for tag in vector.iter() {
                origins += 1;
                sets += tag.seq.0;
            }
            (origins, sets, digest)
        }
        Err(_) => (0, 0, "unreadable".into()),
    }
}

fn describe(answer: &v1::VerifyResponse) -> serde_json::Value {
    let replicas: Vec<_> = answer
        .replicas
        .iter()
        .map(|replica| {
            let vector: serde_json::Map<String, serde_json::Value> = convert::vector(&replica.vector)
                .map(|vector| {
                    vector
                        .iter()
                        .map(|tag| (tag.origin.to_string(), tag.seq.0.into()))
                        .collect()
                })
                .unwrap_or_default();
            json!({
                "node": replica.node, "region": replica.region, "state": replica.state, "error": replica.error,
                "triples": replica.triples, "exact": replica.exact, "vector": vector,
                "fingerprint": hex::encode(&replica.fingerprint), "collection_epoch": replica.collection_epoch,
            })
        })
        .collect();
    json!({ "agree": answer.agree, "verdict": answer.verdict, "replicas": replicas })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(node: u64, vector: &'static [u8], fingerprint: &'static [u8]) -> v1::ReplicaState {
        v1::ReplicaState {
            node,
            vector: vector.into(),
            fingerprint: fingerprint.into(),
            exact: true,
            ..v1::ReplicaState::default()
        }
    }

    fn away(node: u64) -> v1::ReplicaState {
        v1::ReplicaState {
            error: "no answer".into(),
            ..replica(node, b"", b"")
        }
    }

    #[test]
    fn a_replica_that_could_not_be_asked_is_not_one_that_differs() {
        let not_asked = |nodes: &[&str]| Finding::NotAsked(nodes.iter().map(|&node| node.to_owned()).collect());
        check(&[replica(1, b"v", b"f"), away(2)], &not_asked(&["n2"]));
        check(&[away(1), away(2)], &not_asked(&["n1", "n2"]));
        check(
            &[replica(1, b"v", b"f"), replica(2, b"v", b"g"), away(3)],
            &Finding::Differ,
        );
        check(
            &[replica(1, b"v", b"f"), replica(2, b"w", b"f"), away(3)],
            &Finding::Differ,
        );
        check(&[replica(1, b"v", b"f"), replica(2, b"", b"")], &Finding::Differ);
        check(&[], &Finding::Differ);
    }

    #[track_caller]
    fn check(replicas: &[v1::ReplicaState], expected: &Finding) {
        let answer = v1::VerifyResponse {
            replicas: replicas.to_vec(),
            ..v1::VerifyResponse::default()
        };
        assert_eq!(finding(&answer), *expected);
    }
}
