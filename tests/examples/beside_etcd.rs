//! Acknowledged writes a second on etcd and on Halcyon, three nodes each on this machine, in turns.
//!
//! `beside_etcd ENDPOINTS [ROUNDS] [SECONDS]`, with etcd running at ENDPOINTS; `tests/peers/etcd.sh` does all of it.
//! Both sides get the same loop over the same gRPC library: every client has a connection of its own, to the nodes in
//! turn, and one call in flight. A value has 256 bytes. Windows of both sides alternate, so that a busy moment of the
//! machine hits both; medians are printed. The idle side keeps its processes.

use std::{
    fmt::Write as _,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, Clock, NTP64},
    value::Value,
};
use halcyon_proto::v1::{
    PushRequest, SetTenantSettingRequest, admin_client::AdminClient, push_result, sync_client::SyncClient,
};
use halcyon_tests::{
    cluster::{Cluster, REGIONS},
    load::{entity, predicate},
    wait::{self, Stopwatch, runtime},
};
use http::uri::PathAndQuery;
use tonic::{
    Request,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

/// Bytes of a value.
const VALUE_BYTES: usize = 256;

/// Clients at once, as the rows of the table have them.
const CLIENTS: [usize; 2] = [1, 64];

/// etcd's `PutRequest`, as far as it is needed here.
#[derive(Clone, PartialEq, prost::Message)]
struct Put {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// etcd's `PutResponse`, of which only the arrival matters.
#[derive(Clone, PartialEq, prost::Message)]
struct PutDone {}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    EtcdPut,
    Push,
    ControlPlane,
}

impl Side {
    const ALL: [Self; 3] = [Self::EtcdPut, Self::Push, Self::ControlPlane];

    const fn name(self) -> &'static str {
        match self {
            Self::EtcdPut => "etcd put",
            Self::Push => "halcyon push, sets of 1",
            Self::ControlPlane => "halcyon control-plane write",
        }
    }
}

/// Where both sides are.
struct Targets {
    etcd: Vec<String>,
    halcyon: Vec<String>,
    key: MetadataValue<Ascii>,
    admin: MetadataValue<Ascii>,
}

#[expect(clippy::print_stdout, reason = "a program that prints its figures")]
fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let endpoints = arguments
        .get(1)
        .context("usage: beside_etcd ENDPOINTS [ROUNDS] [SECONDS]")?;
    let rounds: usize = arguments.get(2).map_or(Ok(5), |text| text.parse())?;
    let window = Duration::from_secs(arguments.get(3).map_or(Ok(3), |text| text.parse())?);
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("bench", &REGIONS);
    let bearer = |text: &str| MetadataValue::try_from(format!("Bearer {}", text.trim()));
    let targets = Arc::new(Targets {
        etcd: endpoints.split(',').map(str::to_owned).collect(),
        halcyon: (0..REGIONS.len())
            .map(|at| format!("http://{}", cluster.address(at)))
            .collect(),
        key: bearer(cluster.key("bench"))?,
        admin: bearer(&fs::read_to_string(cluster.admin_credential())?)?,
    });
    let mut found = vec![Vec::new(); Side::ALL.len() * CLIENTS.len()];
    for round in 0..rounds {
        for (row, clients) in CLIENTS.into_iter().enumerate() {
            for (column, side) in Side::ALL.into_iter().enumerate() {
                let rate = runtime().block_on(measure(&targets, side, clients, window))?;
                println!(
                    "round {} {:<28} {clients:>3} clients {rate:>9.0}/s",
                    round + 1,
                    side.name()
                );
                found[row * Side::ALL.len() + column].push(rate);
            }
        }
    }
    cluster.settle("bench");
    println!("\n{}", table(&mut found));
    Ok(())
}

async fn measure(targets: &Arc<Targets>, side: Side, clients: usize, window: Duration) -> Result<f64> {
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for client in 0..clients {
        let (targets, done) = (Arc::clone(targets), Arc::clone(&done));
        tasks.push(tokio::spawn(
            async move { write_on(&targets, side, client, &done).await },
        ));
    }
    // Connections open and caches warm before it counts.
    tokio::time::sleep(window / 4).await;
    let (before, watch) = (done.load(Ordering::Relaxed), Stopwatch::start());
    tokio::time::sleep(window).await;
    let (after, took) = (done.load(Ordering::Relaxed), watch.elapsed());
    for task in tasks {
        task.abort();
        match task.await {
            Ok(ended) => ended?,
            Err(stopped) => anyhow::ensure!(stopped.is_cancelled(), "a client failed: {stopped}"),
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate is shown with a few digits")]
    let written = (after - before) as f64;
    Ok(written / took.as_secs_f64())
}

/// One client: writes, waits for the answer, writes again, until it is stopped.
async fn write_on(targets: &Targets, side: Side, client: usize, done: &AtomicU64) -> Result<()> {
    let addresses = if side == Side::EtcdPut {
        &targets.etcd
    } else {
        &targets.halcyon
    };
    let address = addresses[client % addresses.len()].clone();
    let channel = Endpoint::from_shared(address)?.tcp_nodelay(true).connect().await?;
    match side {
        Side::EtcdPut => put(channel, client, done).await,
        Side::Push => push(channel, client, &targets.key, done).await,
        Side::ControlPlane => set_setting(channel, &targets.admin, done).await,
    }
}

async fn put(channel: Channel, client: usize, done: &AtomicU64) -> Result<()> {
    let mut grpc = Grpc::new(channel);
    for at in 0_u64.. {
        let put = Put {
            key: format!("c{client}-{at}").into_bytes(),
            value: vec![b'v'; VALUE_BYTES],
        };
        grpc.ready().await?;
        let codec: ProstCodec<Put, PutDone> = ProstCodec::default();
        grpc.unary(
            Request::new(put),
            PathAndQuery::from_static("/etcdserverpb.KV/Put"),
            codec,
        )
        .await?;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn push(channel: Channel, client: usize, key: &MetadataValue<Ascii>, done: &AtomicU64) -> Result<()> {
    let mut sync = SyncClient::new(channel);
    let me = ClientId::from_random(u128::from(wall_bits()) << 32 | client as u128);
    let mut clock = Clock::new(me, NTP64(0));
    for number in 1_u64.. {
        let subject = entity(&format!("c{me}-{number}"));
        let value = Value::string(&"v".repeat(VALUE_BYTES));
        let title = predicate("item/title");
        let create = Change::Create {
            subject: subject.clone(),
        };
        let set = Change::Set {
            subject,
            predicate: title,
            value,
        };
        let set = ChangeSet {
            timestamp: clock.stamp(wait::wall()),
            number,
            changes: vec![create, set],
        };
        let mut request = Request::new(PushRequest {
            tenant: "bench".to_owned(),
            change_sets: vec![set.encode().into()],
            ..PushRequest::default()
        });
        request.metadata_mut().insert("authorization", key.clone());
        let answer = sync.push(request).await?.into_inner();
        let taken = matches!(
            answer.results.first().and_then(|r| r.result.as_ref()),
            Some(push_result::Result::Taken(_))
        );
        anyhow::ensure!(taken, "not taken: {answer:?}");
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn set_setting(channel: Channel, admin: &MetadataValue<Ascii>, done: &AtomicU64) -> Result<()> {
    let mut client = AdminClient::new(channel);
    for at in 0_u64.. {
        // One that changes nothing for the data plane.
        let value = if at.is_multiple_of(2) { "local" } else { "" };
        let mut request = Request::new(SetTenantSettingRequest {
            tenant: "bench".to_owned(),
            name: "acknowledgement".to_owned(),
            value: value.to_owned(),
        });
        request.metadata_mut().insert("authorization", admin.clone());
        client.set_tenant_setting(request).await?;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn table(found: &mut [Vec<f64>]) -> String {
    let mut text = String::from(
        "| median of acknowledged writes a second | 1 client | 64 clients | of etcd |\n|---|---|---|---|\n",
    );
    let mut medians = found
        .iter_mut()
        .map(|rates| median(rates))
        .collect::<Vec<f64>>()
        .into_iter();
    let (one, many): (Vec<f64>, Vec<f64>) = (medians.by_ref().take(Side::ALL.len()).collect(), medians.collect());
    for (column, side) in Side::ALL.into_iter().enumerate() {
        let (alone, together) = (one[column], many[column]);
        let (of_one, of_many) = (alone / one[0], together / many[0]);
        let _ = writeln!(
            text,
            "| {} | {alone:.0} | {together:.0} | {of_one:.2} / {of_many:.2} |",
            side.name()
        );
    }
    text
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

fn wall_bits() -> u64 {
    wait::wall().0.0
}
