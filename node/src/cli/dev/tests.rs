//! Starts of the same directory after somebody changed the cluster in between.

use std::net::TcpListener;

use super::*;

/// A first port with room for three nodes.
fn free_port() -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let some = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let has_room = |&port: &u16| {
        let peers = port.saturating_add(PEER_PORT_OFFSET);
        peers < u16::MAX - 2 && (0..3).all(|at| is_free(port + at) && is_free(peers + at))
    };
    (0..100).map(|_| some()).find(has_room).expect("some ports are free")
}

fn dev(dir: &Path) -> Dev {
    Dev {
        data: dir.join("dev"),
        port: free_port(),
        fresh: false,
        issues: 1,
        no_web: true,
        log: "error".into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_goes_on_without_a_tenant_and_a_node_that_were_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let args = dev(dir.path());
    prepare(&args).unwrap();
    let nodes = boot(&args, &Site::default()).await.unwrap();
    assert!(matches!(tenant(&args, &nodes).await, Ok(Demo::Serves(triples)) if triples > 0));
    let request = v1::TenantRequest {
        tenant: DEV_TENANT.into(),
    };
    let operator = admin(&args).await.unwrap();
    operator.delete_tenant(request).await.unwrap();
    let request = v1::RemoveNodeRequest {
        node: nodes[2].id().0,
        force: false,
    };
    operator.remove_node(request).await.unwrap();
    process::stop(nodes).await.unwrap();
    // The last tasks of a node that has just stopped may still hold its directory: outside, the process ends.
    for region in REGIONS {
        while env::system(&node_dir(&args, region)).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    prepare(&args).unwrap();
    let nodes = resume(&args, &Site::default()).await.unwrap();
    let regions: Vec<String> = nodes.iter().map(region_of).collect();
    assert_eq!(regions, REGIONS[..2]);
    assert_eq!(tenant(&args, &nodes).await, Ok(Demo::Deleted));
    process::stop(nodes).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_is_in_use_or_not_ours_is_not_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let args = Dev {
        fresh: true,
        ..dev(dir.path())
    };
    let region = node_dir(&args, REGIONS[1]);
    std::fs::create_dir_all(&region).unwrap();
    assert!(prepare(&args).unwrap_err().message.contains("something else"));
    std::fs::write(args.data.join(MARK), "").unwrap();
    let in_use = env::system(&region).unwrap();
    assert!(prepare(&args).unwrap_err().message.contains("cannot begin anew"));
    drop(in_use);
    prepare(&args).unwrap();
    assert!(!region.exists() && is_ours(&args.data));
}

#[test]
fn a_directory_of_an_earlier_release_is_ours() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(MARK_BEFORE), "").unwrap();
    assert!(is_ours(dir.path()));
}
