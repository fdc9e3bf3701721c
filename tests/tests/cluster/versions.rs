//! Two releases side by side: who has no wire version in common hears so, in a sentence that says what to do.

use futures::stream::Empty;
use halcyon_node::peers::{Identity, Pool};
use halcyon_proto::{
    error::Refusal,
    v1::{self, ErrorCode, WireVersions, sync_server::SyncServer},
    version::WIRE,
};
use halcyon_tests::{
    cluster::Cluster,
    command,
    ports::free_port,
    search,
    wait::{self, runtime},
};
use tonic::{Request, Response, Status, transport::Server};

/// The release after the next: it no longer speaks what this one does.
const FUTURE: WireVersions = WireVersions {
    oldest: WIRE.newest + 1,
    newest: WIRE.newest + 2,
};

/// The next release: it speaks its own version, and this one's.
const NEXT: WireVersions = WireVersions {
    oldest: WIRE.newest,
    newest: WIRE.newest + 1,
};

#[test]
fn a_client_of_a_release_too_far_ahead_is_refused_and_one_of_the_next_is_served() {
    let mut cluster = Cluster::boot(&["eu-west"]);
    cluster.tenant("notes", &["eu-west"]);
    let mut door = cluster.door(0, "notes");
    door.write_entities(0, 1);
    assert_eq!(door.hello(NEXT.oldest, NEXT.newest).ok(), Some(WIRE.newest));
    parted(door.hello(FUTURE.oldest, FUTURE.newest));
    // Every call tells, not only the first of a connection.
    assert_eq!(door.get_as(&agent(NEXT)).ok(), Some(1));
    parted(door.get_as(&agent(FUTURE)));
    assert_eq!(door.get_as("a person's tool").ok(), Some(1));
}

#[test]
fn a_peer_of_a_release_too_far_ahead_is_refused_and_one_of_the_next_is_served() {
    let mut cluster = Cluster::boot(&["eu-west", "us-east"]);
    // Who the other node is: the test speaks in its name.
    let copy = cluster.file("copy");
    search::copy_directory(&cluster.nodes[1].data, &copy);
    let env = halcyon_node::env::system(&copy).expect("no process has this directory");
    let identity = Identity::load(&env).expect("it can be read").expect("it has joined");
    let peer = halcyon_core::id::NodeId(1);
    let _inside = runtime().enter();
    let pool = Pool::new(&env, &identity, WIRE).expect("the certificate is good");
    pool.set_address(peer, format!("127.0.0.1:{}", cluster.nodes[0].peer_port));
    let mut client = pool.client(peer).expect("its address is known");
    let mut hello = |versions| {
        let agent = "halcyon/99.0.0".to_owned();
        let said = runtime().block_on(client.hello(v1::HelloRequest {
            versions: Some(versions),
            agent,
        }));
        said.map(|answer| answer.into_inner().version)
    };
    assert_eq!(hello(NEXT).ok(), Some(WIRE.newest));
    parted(hello(FUTURE));
    let mut probe = |versions| {
        let mut request = Request::new(v1::ProbeRequest { node: identity.node.0 });
        let value = agent(versions).parse().expect("letters fit a header");
        request.metadata_mut().insert("user-agent", value);
        runtime().block_on(client.probe(request))
    };
    assert!(probe(NEXT).is_ok());
    parted(probe(FUTURE));
    // The node that refused goes on, with its peer of the same release.
    cluster.tenant("notes", &["eu-west", "us-east"]);
}

#[test]
fn the_command_says_so_when_the_node_is_of_a_release_too_far_ahead() {
    let port = free_port();
    let _inside = runtime().enter();
    let address = format!("127.0.0.1:{port}").parse().expect("an address");
    let server = Server::builder().add_service(SyncServer::new(NodeOfTheFuture));
    let serving = runtime().spawn(server.serve(address));
    wait::until("the port is open", wait::SOON, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    let cluster = format!("127.0.0.1:{port}");
    let variables = [("HALCYON_CLUSTER", cluster.as_str()), ("HALCYON_KEY", "hk_any")];
    let answer = command::halcyon(&["get", "e0", "--tenant", "notes"], &variables);
    answer.fails(4, &["wire version", "release"]);
    serving.abort();
}

/// Demands the refusal of a stranger's version, with both ranges in its words.
#[track_caller]
fn parted<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.expect_err("a release that cannot be understood was served");
    let refusal = Refusal::from_status(&status).unwrap_or_else(|| panic!("no reason: {status:?}"));
    assert_eq!(refusal.code, ErrorCode::WireVersion);
    for words in [
        format!("{} to {}", FUTURE.oldest, FUTURE.newest),
        format!("{} to {}", WIRE.oldest, WIRE.newest),
        "upgrade".to_owned(),
    ] {
        assert!(refusal.message.contains(&words), "no `{words}` in: {}", refusal.message);
    }
}

fn agent(versions: WireVersions) -> String {
    format!("halcyon/99.0.0 wire/{}-{}", versions.oldest, versions.newest)
}

/// It speaks [`FUTURE`] and nothing else.
struct NodeOfTheFuture;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl v1::sync_server::Sync for NodeOfTheFuture {
    async fn hello(&self, request: Request<v1::HelloRequest>) -> Answer<v1::HelloResponse> {
        let theirs = request.into_inner().versions.unwrap_or_default();
        match halcyon_proto::version::negotiate(FUTURE, theirs) {
            Ok(_) => Err(Status::internal("the client speaks the future's version")),
            Err(error) => Err(Refusal::new(ErrorCode::WireVersion, error.to_string()).into()),
        }
    }

    async fn locate(&self, _: Request<v1::LocateRequest>) -> Answer<v1::LocateResponse> {
        Err(unasked())
    }

    async fn push(&self, _: Request<v1::PushRequest>) -> Answer<v1::PushResponse> {
        Err(unasked())
    }

    async fn held(&self, _: Request<v1::HeldRequest>) -> Answer<v1::HeldResponse> {
        Err(unasked())
    }

    async fn get(&self, _: Request<v1::GetRequest>) -> Answer<v1::GetResponse> {
        Err(unasked())
    }

    async fn scan(&self, _: Request<v1::ScanRequest>) -> Answer<v1::ScanResponse> {
        Err(unasked())
    }

    type WatchStream = Empty<Result<v1::WatchResponse, Status>>;

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        Err(unasked())
    }
}

fn unasked() -> Status {
    Status::unimplemented("nobody asks a node that it cannot understand")
}
