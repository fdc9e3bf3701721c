//! One run from boot to verdict.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use tokio::{sync::watch, task::JoinHandle};

use super::{
    EVERYWHERE, LocalArgs, NEAR, clock,
    cluster::Cluster,
    figures,
    ground::Ground,
    ledger::{Book, Ledger},
    limits::{AGREE_WITHIN, FLUSH_WITHIN, LOOK_EVERY, WATCHED_WITHIN},
    links::{Links, region_of},
    oracles::{self, Evidence, Shown},
    report::{self, Report},
    strays,
    strike::{Happened, Stage},
    tenants,
    watcher::{self, Watcher},
    workload::{self, Writer},
};

/// Clients that write. They live until the end, for an acknowledged set may have to be pushed again.
#[derive(Debug)]
struct Load {
    writing: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Runs the scenario, prints the report, and returns the exit code.
pub(super) async fn run(args: &LocalArgs, ground: (Ground, Links), halcyon: PathBuf) -> anyhow::Result<ExitCode> {
    let (mode, described) = (ground.0.mode(), ground.0.describe());
    let nodes = usize::from(args.nodes);
    let again = again(args, mode, &halcyon);
    let cluster = Cluster::boot(ground, halcyon, nodes, args.scenario.small_disk()).await?;
    let mut stage = Stage {
        cluster,
        book: Book::default(),
        watchers: Vec::new(),
    };
    let played = play(args, &mut stage).await;
    let (evidence, settled) = match played {
        Ok(played) => played,
        Err(error) => {
            let logs: Vec<String> = stage
                .cluster
                .nodes
                .iter()
                .map(|node| format!("{}: {}", node.name(), node.log_tail()))
                .collect();
            let kept = end(stage).keep()?;
            let logs = logs.join("\n");
            return Err(error.context(format!("{logs}\nevidence: {}\nagain:    {again}", kept.display())));
        }
    };
    let (before, figures) = figures::measure(&evidence);
    let written = &evidence.ledger.written;
    let acknowledged = written.iter().filter(|written| written.acknowledged.is_some()).count();
    let report = Report {
        scenario: args.scenario,
        mode,
        ground: described,
        again,
        before,
        figures,
        settled,
        violations: oracles::judge(&evidence),
        sets: (written.len(), acknowledged),
    };
    conclude(args, &report, &evidence, stage)
}

/// Everything up to the last read.
async fn play(args: &LocalArgs, stage: &mut Stage) -> anyhow::Result<(Evidence, Option<Duration>)> {
    for (tenant, regions) in tenants() {
        stage.cluster.tenant(tenant, &regions).await?;
    }
    let load = begin(args, stage).await?;
    let began = clock::now();
    let length = Duration::from_secs(args.seconds);
    let mut faults = Vec::new();
    for fault in args.scenario.faults(length, stage.cluster.nodes.len()) {
        let happened = stage.carry_out(fault, began).await?;
        report::note(&format!(
            "{:>6.1?} {}",
            happened.began.saturating_sub(began),
            happened.what
        ));
        faults.push(happened);
    }
    clock::sleep_until(began + length).await;
    let stopped = clock::now();
    load.writing.send_replace(false);
    let settled = settle(stage, stopped).await?;
    let evidence = gather(stage, faults, (began, stopped)).await?;
    drop(load.writing);
    for task in load.tasks {
        task.await.context("a writer panicked")?;
    }
    Ok((evidence, settled))
}

async fn begin(args: &LocalArgs, stage: &mut Stage) -> anyhow::Result<Load> {
    let (writing, told) = watch::channel(true);
    let mut writers = Vec::new();
    for place in stage.cluster.members() {
        for (tenant, regions) in tenants() {
            if !regions.contains(&region_of(place)) {
                continue;
            }
            let watcher = Watcher::start(&stage.cluster, &stage.book, place, tenant).await?;
            stage.watchers.push(watcher);
            let count = if tenant == EVERYWHERE { args.clients } else { 1 };
            for _ in 0..count {
                let way = (place, tenant);
                writers.push(Writer::connect(&stage.cluster, &stage.book, writers.len(), way).await?);
            }
        }
    }
    let tasks = writers.into_iter().map(|writer| writer.spawn(told.clone())).collect();
    Ok(Load { writing, tasks })
}

/// Waits until all is answered and all replicas agree, and says how long that took.
async fn settle(stage: &mut Stage, stopped: Duration) -> anyhow::Result<Option<Duration>> {
    workload::flush(&stage.book, FLUSH_WITHIN).await;
    last_words(stage).await?;
    workload::flush(&stage.book, FLUSH_WITHIN).await;
    let deadline = clock::now() + AGREE_WITHIN;
    loop {
        let mut agree = true;
        for (tenant, _) in tenants() {
            agree &= stage.cluster.verify(tenant).await?["agree"] == true;
        }
        if agree {
            return Ok(Some(clock::now().saturating_sub(stopped)));
        }
        if clock::now() > deadline {
            return Ok(None);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Every replica takes one more write itself: the fault is over, and each goes on.
async fn last_words(stage: &mut Stage) -> anyhow::Result<()> {
    for (number, place) in stage.cluster.members().into_iter().enumerate() {
        for (tenant, regions) in tenants() {
            if regions.contains(&region_of(place)) {
                let number = format!("last{number}");
                workload::write_once(&stage.cluster, &stage.book, &number, (place, tenant)).await?;
            }
        }
    }
    Ok(())
}

async fn gather(stage: &mut Stage, faults: Vec<Happened>, load: (Duration, Duration)) -> anyhow::Result<Evidence> {
    let mut evidence = Evidence {
        faults,
        load,
        ..Evidence::default()
    };
    for place in stage.cluster.members() {
        evidence.members.insert(place, stage.cluster.number_of(place).await?);
    }
    for (tenant, regions) in tenants() {
        evidence.verdicts.insert(tenant, stage.cluster.verify(tenant).await?);
        for place in stage.cluster.members() {
            if regions.contains(&region_of(place)) {
                let picture = watcher::read(&stage.cluster, place, tenant).await?;
                evidence.reads.push(Shown { place, tenant, picture });
            }
        }
    }
    evidence.watched = watched(stage, &evidence.reads).await;
    evidence.ledger = stage.book.open().clone();
    evidence.strays = stray_files(&stage.cluster, &evidence.ledger);
    Ok(evidence)
}

/// What the watchers show, once that is what a read shows or the deadline has passed.
async fn watched(stage: &Stage, reads: &[Shown]) -> Vec<Shown> {
    let deadline = clock::now() + WATCHED_WITHIN;
    loop {
        let shown = stage.watchers.iter().map(|watcher| Shown {
            place: watcher.place,
            tenant: watcher.tenant,
            picture: watcher.picture(),
        });
        let shown: Vec<Shown> = shown.collect();
        let is_equal = |one: &Shown| {
            let same = |read: &&Shown| read.place == one.place && read.tenant == one.tenant;
            reads.iter().find(same).is_none_or(|read| read.picture == one.picture)
        };
        if shown.iter().all(is_equal) || clock::now() > deadline {
            return shown;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Files of nodes outside the placement that hold a marker of the tenant that must stay near.
fn stray_files(cluster: &Cluster, ledger: &Ledger) -> Vec<String> {
    let near: BTreeMap<&[u8], &str> = ledger
        .of(NEAR)
        .map(|written| (written.marker.as_bytes(), written.marker.as_str()))
        .collect();
    let beginning = workload::marker_beginning();
    let is_near = |bytes: &[u8]| {
        let (_, marker) = near.range(..=bytes).next_back().unzip();
        marker.is_some_and(|marker| bytes.starts_with(marker.as_bytes()))
    };
    let outside = cluster.nodes.iter().filter(|node| {
        let regions = tenants()[1].1.clone();
        !regions.contains(&region_of(node.at))
    });
    let mut strays = Vec::new();
    for node in outside {
        for place in [&node.data, &node.log] {
            for file in strays::files_with(place, beginning.as_bytes(), &is_near) {
                strays.push(format!("{} holds a value of {NEAR}: {}", node.name(), file.display()));
            }
        }
    }
    strays
}

fn conclude(args: &LocalArgs, report: &Report, evidence: &Evidence, stage: Stage) -> anyhow::Result<ExitCode> {
    let failed = !report.violations.is_empty();
    if failed {
        stage.cluster.nodes.iter().for_each(super::node::Node::rescue_data);
    }
    let directory = end(stage);
    let kept = if failed { Some(directory.keep()?) } else { None };
    let json = report.json(kept.as_deref());
    if let Some(kept) = &kept {
        report::keep_evidence(kept, evidence, &json)?;
    }
    if args.json {
        report::json_line(&json);
    } else {
        report.print(kept.as_deref());
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Ends all processes and the ground under them; the files stay.
fn end(stage: Stage) -> super::leftovers::RunDirectory {
    let Cluster {
        nodes,
        ground,
        directory,
        ..
    } = stage.cluster;
    drop(stage.watchers);
    drop(nodes);
    drop(ground);
    directory
}

fn again(args: &LocalArgs, mode: &str, halcyon: &std::path::Path) -> String {
    let (scenario, _) = args.scenario.name_and_line();
    format!(
        "chaos local --scenario {scenario} --nodes {} --clients {} --seconds {} --mode {mode} --halcyon {}",
        args.nodes,
        args.clients,
        args.seconds,
        halcyon.display()
    )
}
