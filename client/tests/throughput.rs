//! What the client alone can push, against a pretended node that keeps everything in memory; prints figures.

#![expect(clippy::unwrap_used, reason = "a test stops where something is not as it must be")]

#[expect(dead_code, reason = "the other tests use the rest of it")]
mod fake;

use std::time::Duration;

use halcyon_client::{AdminClient, Client, ClientOptions, env, v1};
use halcyon_core::{
    change::Change,
    id::{EntityId, Predicate},
    value::Value,
};

fn changes(count: usize) -> Vec<Change> {
    let predicate = Predicate::new("note/title").unwrap();
    let change = |n: usize| Change::Set {
        subject: EntityId::new(&format!("e{}", n % 1_000)).unwrap(),
        predicate: predicate.clone(),
        value: Value::string("a title of usual length"),
    };
    (0..count).map(change).collect()
}

async fn connect(node: &fake::Node) -> Client {
    let options = ClientOptions {
        addresses: vec![node.address.clone()],
        tenant: "app".into(),
        key: "key".into(),
        ..ClientOptions::default()
    };
    Client::connect(env::system(None).unwrap(), options).await.unwrap()
}

/// So many clients, each with so many sets of so many changes, each waiting for every answer or only for the last.
async fn measure(clients: usize, sets: usize, size: usize, pipelined: bool) -> Duration {
    let node = fake::cluster(1).remove(0);
    let mut opened = Vec::new();
    for _ in 0..clients {
        opened.push(connect(&node).await);
    }
    let clock = env::system(None).unwrap().clock;
    let before = clock.monotonic();
    let tasks = opened.into_iter().map(|client| {
        tokio::spawn(async move {
            for _ in 0..sets {
                let pending = client.write(changes(size)).await.unwrap();
                if !pipelined {
                    pending.acknowledged().await.unwrap();
                }
            }
            client.flush().await.unwrap();
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    clock.monotonic().saturating_sub(before)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "a measurement prints its figures")]
async fn figures() {
    for (clients, sets, size, pipelined) in [
        (1, 2_000, 1, false),
        (64, 300, 1, false),
        (1, 20_000, 1, true),
        (1, 200, 1_000, true),
        (8, 50, 1_000, true),
    ] {
        let took = measure(clients, sets, size, pipelined).await;
        let rate = (clients * sets * size) as u128 * 1_000_000 / took.as_micros().max(1);
        println!("{clients} clients, sets of {size}, pipelined {pipelined}: {rate} changes/s");
    }
}

/// Programs spawn these.
#[test]
fn an_operators_calls_can_move_between_threads() {
    fn check<T: Send>(_: fn(&'static AdminClient) -> T) {}
    check(|admin| admin.status(v1::StatusRequest::default()));
    check(|admin| admin.create_tenant(v1::CreateTenantRequest::default()));
    check(|admin| admin.export(v1::ExportRequest::default()));
}
