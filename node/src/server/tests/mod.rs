//! Whole nodes in one process, over real sockets, real TLS and real files.

mod clients;
mod consistency;
mod edges;
mod figures;
mod followers;
mod live;
mod queries;
mod removal;
mod stops;

use std::{collections::BTreeMap, time::Duration};

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, timestamp},
    env::Env,
    id::{EntityId, Predicate},
    value::Value,
};
use halcyon_proto::{
    error::{ErrorCode, Refusal},
    v1::{self, admin_client::AdminClient, push_result, sync_client::SyncClient},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use super::{ADMIN_FILE, Node, NodeError};
use crate::config::{Config, Start};

/// How long a test waits for what should take a fraction of it.
const PATIENCE: Duration = Duration::from_mins(1);

/// A directory and what runs in it.
struct Place {
    directory: tempfile::TempDir,
    region: &'static str,
    node: Option<Node>,
}

impl Place {
    async fn open(region: &'static str, start: Start) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut place = Self {
            directory,
            region,
            node: None,
        };
        place.start(start).await.unwrap();
        place
    }

    async fn start(&mut self, start: Start) -> Result<(), NodeError> {
        // The last tasks of a node that has just stopped may still hold its directory.
        let mut env = None;
        eventually("the directory is free", async || {
            env = crate::env::system(self.directory.path()).ok();
            env.is_some()
        })
        .await;
        let env = env.unwrap();
        let config = Config::local(&self.region.parse().unwrap(), self.directory.path().into(), start);
        self.node = Some(Node::start(env, config).await?);
        Ok(())
    }

    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    fn env(&self) -> &Env {
        &self.node().rooms().env
    }

    fn channel(&self) -> Channel {
        let address = format!("http://{}", self.node().client_address());
        Endpoint::from_shared(address).unwrap().connect_lazy()
    }

    fn sync(&self) -> SyncClient<Channel> {
        SyncClient::new(self.channel())
    }

    fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel())
    }

    async fn ready(&self) {
        eventually("the node is ready", async || self.node().reasons().is_empty()).await;
    }
}

/// A cluster of one node in each region, and its admin credential.
struct Cluster {
    places: Vec<Place>,
    admin: String,
}

impl Cluster {
    async fn start(regions: &[&'static str]) -> Self {
        let first = Place::open(regions[0], Start::Bootstrap).await;
        let admin = std::fs::read_to_string(first.directory.path().join(ADMIN_FILE)).unwrap();
        let admin = admin.trim().to_owned();
        first.ready().await;
        let mut cluster = Self {
            places: vec![first],
            admin,
        };
        for &region in &regions[1..] {
            let token = cluster.token(3_600_000).await;
            cluster
                .places
                .push(Place::open(region, Start::Join(token.parse().unwrap())).await);
        }
        for place in &cluster.places {
            place.ready().await;
        }
        cluster
    }

    fn first(&self) -> &Place {
        &self.places[0]
    }

    async fn token(&self, lifetime_ms: u64) -> String {
        let request = with_key(&self.admin, v1::CreateTokenRequest { lifetime_ms });
        self.first()
            .admin()
            .create_token(request)
            .await
            .unwrap()
            .into_inner()
            .token
    }

    /// The key.
    async fn create_tenant(&self, name: &str, regions: &[&str]) -> String {
        let request = v1::CreateTenantRequest {
            name: name.to_owned(),
            regions: regions.iter().map(ToString::to_string).collect(),
            ..v1::CreateTenantRequest::default()
        };
        let answer = self.first().admin().create_tenant(with_key(&self.admin, request)).await;
        answer.unwrap().into_inner().key
    }

    async fn verify(&self, tenant: &str) -> v1::VerifyResponse {
        let request = v1::TenantRequest {
            tenant: tenant.to_owned(),
        };
        let answer = self.first().admin().verify(with_key(&self.admin, request)).await;
        answer.unwrap().into_inner()
    }

    async fn stop(self) {
        let nodes = self.places.into_iter().map(|place| place.node.unwrap());
        futures::future::join_all(nodes.map(Node::stop)).await;
    }
}

fn with_key<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let header = format!("Bearer {key}").parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    request
}

#[track_caller]
fn code(status: &Status) -> ErrorCode {
    Refusal::from_status(status)
        .unwrap_or_else(|| panic!("{status:?} is no answer of a node"))
        .code
}

async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "not within {PATIENCE:?}: {what}");
}

/// One change set: a new entity with a title.
fn change_set(env: &Env, number: u64, subject: &str, title: &str) -> Vec<u8> {
    let (subject, client) = (EntityId::new(subject).unwrap(), ClientId::from_random(7));
    let set = Change::Set {
        subject: subject.clone(),
        predicate: Predicate::new("issue/title").unwrap(),
        value: Value::String(title.into()),
    };
    let changes = vec![Change::Create { subject }, set];
    let timestamp = timestamp(env.clock.wall().0, client);
    ChangeSet {
        timestamp,
        number,
        changes,
    }
    .encode()
}

fn push(tenant: &str, sets: Vec<Vec<u8>>) -> v1::PushRequest {
    v1::PushRequest {
        tenant: tenant.to_owned(),
        change_sets: sets.into_iter().map(Into::into).collect(),
        ..v1::PushRequest::default()
    }
}

fn all_taken(answer: &v1::PushResponse) -> bool {
    let is_taken = |result: &v1::PushResult| matches!(result.result, Some(push_result::Result::Taken(_)));
    answer.results.iter().all(is_taken)
}

async fn titles(place: &Place, key: &str, tenant: &str) -> Result<BTreeMap<String, String>, Status> {
    let request = v1::ScanRequest {
        tenant: tenant.to_owned(),
        predicate: "issue/title".to_owned(),
        ..v1::ScanRequest::default()
    };
    let page = place.sync().scan(with_key(key, request)).await?.into_inner();
    let text = |bytes: &[u8]| match Value::decode(bytes).unwrap() {
        Value::String(text) => text.to_string(),
        other => panic!("{other:?} is no title"),
    };
    Ok(page
        .triples
        .into_iter()
        .map(|triple| (triple.subject, text(&triple.value)))
        .collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_join_take_a_write_in_one_region_show_it_in_all_and_agree() {
    let mut cluster = Cluster::start(&["eu-west", "us-east", "ap-south"]).await;
    let key = cluster.create_tenant("app", &["eu-west", "us-east", "ap-south"]).await;
    let first = cluster.first();
    let sets = vec![
        change_set(first.env(), 1, "one", "first issue"),
        change_set(first.env(), 2, "two", "second issue"),
    ];
    eventually("the first node takes writes", async || {
        let answer = first.sync().push(with_key(&key, push("app", sets.clone()))).await;
        answer.is_ok_and(|answer| all_taken(answer.get_ref()))
    })
    .await;
    for place in &cluster.places {
        eventually("every region shows both", async || {
            titles(place, &key, "app").await.is_ok_and(|titles| titles.len() == 2)
        })
        .await;
    }
    eventually("all replicas agree", async || cluster.verify("app").await.agree).await;
    let verified = cluster.verify("app").await;
    assert_eq!(
        (verified.replicas.len(), verified.replicas[0].triples),
        (3, 2),
        "{verified:?}"
    );

    // A node that is gone for a while, on another port afterwards, comes back to the same.
    let mut gone = cluster.places.remove(2);
    gone.node.take().unwrap().stop().await;
    let first = cluster.first();
    let more = push("app", vec![change_set(first.env(), 3, "three", "third issue")]);
    assert!(all_taken(
        first.sync().push(with_key(&key, more)).await.unwrap().get_ref()
    ));
    gone.start(Start::Resume).await.unwrap();
    gone.ready().await;
    eventually("the node that was away has caught up", async || {
        titles(&gone, &key, "app").await.is_ok_and(|titles| titles.len() == 3)
    })
    .await;
    cluster.places.push(gone);
    eventually("all replicas agree again", async || cluster.verify("app").await.agree).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_outside_the_placement_says_who_serves_and_passes_on_where_asked() {
    let cluster = Cluster::start(&["eu-west", "us-east"]).await;
    let key = cluster.create_tenant("app", &["eu-west"]).await;
    let outside = &cluster.places[1];
    let set = change_set(outside.env(), 1, "one", "only in europe");
    eventually("the tenant is known outside", async || {
        let locate = v1::LocateRequest {
            tenant: "app".to_owned(),
        };
        outside.sync().locate(with_key(&key, locate)).await.is_ok()
    })
    .await;
    let status = titles(outside, &key, "app").await.unwrap_err();
    let refusal = Refusal::from_status(&status).unwrap();
    assert_eq!(refusal.code, ErrorCode::WrongRegion);
    assert_eq!(refusal.replicas[0].address, cluster.first().node().client_address());

    let request = v1::PushRequest {
        forward: true,
        ..push("app", vec![set])
    };
    eventually("the push is passed on", async || {
        let answer = outside.sync().push(with_key(&key, request.clone())).await;
        answer.is_ok_and(|answer| all_taken(answer.get_ref()))
    })
    .await;
    assert_eq!(titles(cluster.first(), &key, "app").await.unwrap().len(), 1);
    let get = v1::GetRequest {
        tenant: "app".to_owned(),
        subject: "one".to_owned(),
        forward: true,
    };
    let triples = outside
        .sync()
        .get(with_key(&key, get))
        .await
        .unwrap()
        .into_inner()
        .triples;
    assert_eq!(triples.len(), 1);
    let ask = |forward| {
        let tenant = "app".to_owned();
        with_key(&key, v1::HeldRequest { tenant, forward })
    };
    let status = outside.sync().held(ask(false)).await.unwrap_err();
    assert_eq!(Refusal::from_status(&status).unwrap().code, ErrorCode::WrongRegion);
    let held = outside.sync().held(ask(true)).await.unwrap().into_inner();
    assert_eq!(
        (held.node, held.replicas),
        (1, vec![1]),
        "who answers, and who holds it"
    );
    assert!(!held.own.is_empty());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_right_token_lets_a_node_in_and_only_the_right_credential_is_obeyed() {
    let cluster = Cluster::start(&["eu-west"]).await;
    let foreign = Cluster::start(&["eu-west"]).await;
    let good = cluster.token(3_600_000).await;
    let expired = cluster.token(1).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let mut words: Vec<&str> = good.split('.').collect();
    let secret = "0".repeat(64);
    words[3] = &secret;
    let guessed = words.join(".");
    // The foreign cluster's secret and name, shown to our node.
    let stranger = foreign.token(3_600_000).await;
    let mut mixed: Vec<&str> = stranger.split('.').collect();
    let (ours, address) = (good.split('.').nth(2).unwrap(), cluster.first().node().peer_address());
    mixed[2] = ours;
    mixed.truncate(4);
    mixed.push(address);
    let mixed = mixed.join(".");
    // The right secret, but the node at that address is another cluster's.
    let mut impostor: Vec<&str> = good.split('.').collect();
    impostor.truncate(4);
    impostor.push(foreign.first().node().peer_address());
    let impostor = impostor.join(".");
    for (token, says) in [
        (expired, "expired"),
        (guessed, "not known"),
        (mixed, "is for cluster"),
        (impostor, "token is for another cluster"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let env = crate::env::system(directory.path()).unwrap();
        let start = Start::Join(token.parse().unwrap());
        let config = Config::local(&"us-east".parse().unwrap(), directory.path().into(), start);
        let error = Node::start(env, config).await.unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
    let key = cluster.create_tenant("app", &["eu-west"]).await;
    let settings = |credential: &str| with_key(credential, v1::ListSettingsRequest {});
    let mut admin = cluster.first().admin();
    assert!(admin.list_settings(settings(&cluster.admin)).await.is_ok());
    for wrong in [foreign.admin.as_str(), key.as_str(), "hadm_00", ""] {
        let status = admin.list_settings(settings(wrong)).await.unwrap_err();
        assert_eq!(code(&status), ErrorCode::Unauthenticated);
    }
    for wrong in [cluster.admin.as_str(), "hk_00"] {
        let status = titles(cluster.first(), wrong, "app").await.unwrap_err();
        assert_eq!(code(&status), ErrorCode::Unauthenticated);
    }
    assert_eq!(
        code(&titles(cluster.first(), &key, "other").await.unwrap_err()),
        ErrorCode::NotFound
    );
    cluster.stop().await;
    foreign.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_and_a_browser_are_answered_on_the_same_port() {
    let cluster = Cluster::start(&["eu-west"]).await;
    let address = cluster.first().node().client_address().to_owned();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let well = ["200 OK", r#"{"ok":true,"reasons":[],"notices":[]}"#];
    check(&address, get("/healthz"), &well).await;
    check(&address, get("/readyz"), &well).await;
    // A gRPC-web call that carries nothing: Hello, an empty message.
    let hello = "POST /halcyon.v1.Sync/Hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\norigin: http://localhost:5173\r\n\
                 content-type: application/grpc-web+proto\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0";
    check(
        &address,
        hello.to_owned(),
        &["200 OK", "application/grpc-web+proto", "upgrade%20the%20older"],
    )
    .await;
    check(
        &address,
        get("/metrics"),
        &[
            "200 OK",
            "halcyon_raft_leader 1",
            "halcyon_call_seconds",
            "halcyon_commits_total",
        ],
    )
    .await;
    check(&address, get("/"), &["404 Not Found", "this is a Halcyon node"]).await;
    let preflight = "OPTIONS /halcyon.v1.Sync/Push HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                     origin: http://localhost:5173\r\naccess-control-request-method: POST\r\n\
                     access-control-request-headers: authorization,x-grpc-web\r\n\r\n";
    let allowed = [
        "200 OK",
        "access-control-allow-origin: http://localhost:5173",
        "access-control-allow-headers: authorization",
    ];
    check(&address, preflight.to_owned(), &allowed).await;
    let stranger = preflight.replace("http://localhost:5173", "https://elsewhere.example");
    let answer = ask(&address, stranger).await;
    assert!(!answer.contains("access-control-allow-origin"), "{answer}");
    cluster.stop().await;
}

async fn check(address: &str, request: String, expected: &[&str]) {
    let answer = ask(address, request).await;
    for part in expected {
        assert!(answer.contains(part), "{part} is not in:\n{answer}");
    }
}

async fn ask(address: &str, request: String) -> String {
    let directory = tempfile::tempdir().unwrap();
    let env = crate::env::system(directory.path()).unwrap();
    let mut stream = env.network.connect(address.to_owned()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
