//! Measurements of the engine by itself; run by name.

use super::super::{
    Options,
    bench::{Bench, NODE},
    testing,
};

/// `cargo test --release -p halcyon-node storage::tests::figures::engine -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "the figures are its result")]
fn engine_figures() {
    let time = std::time::Duration::from_secs(3);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir_in(".").unwrap();
        let options = Options {
            node: NODE,
            ..Options::default()
        };
        let world = testing::on_files(dir.path());
        let mut bench = Bench::open(&world, options.clone()).await.unwrap();
        for writers in [1, 64, 256] {
            println!("{:?}", bench.singles(writers, time).await.unwrap());
        }
    });
}

/// `cargo test --release -p halcyon-node storage::tests::figures::bulk -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "the figures are its result")]
fn bulk_figures() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = Options {
            node: NODE,
            ..Options::default()
        };
        let dir = tempfile::tempdir_in(".").unwrap();
        let world = testing::on_files(dir.path());
        let mut bench = Bench::open(&world, options.clone()).await.unwrap();
        println!("{:?}", bench.bulk(1_000_000, 1_000).await.unwrap());
        println!("on disk {}", testing::disk_usage(dir.path()));
        println!("{:?}", bench.reads(50_000, 100_000).unwrap());
        println!("{}", testing::resident());
        println!("{:?}", testing::processor_time());
        let other_dir = tempfile::tempdir_in(".").unwrap();
        let other = Bench::open(&testing::on_files(other_dir.path()), options)
            .await
            .unwrap();
        println!("{:?}", bench.fill(&other).await.unwrap());
        println!("{:?}", testing::processor_time());
        println!("{}", testing::resident());
        if std::env::var("STATS").is_ok() {
            bench.storage().close().await;
            for shard in 0..2 {
                let db = redb::Database::open(dir.path().join(format!("shard-{shard}.redb")));
                let Ok(db) = db else {
                    println!("{:?}", db.err());
                    continue;
                };
                testing::stats(&db);
            }
        }
    });
}
