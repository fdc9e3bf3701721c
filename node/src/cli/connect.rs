//! From the command line's options to a connected client, and from a client's errors to a failure with advice.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use halcyon_client::{
    Acknowledged, AdminClient, AdminError, Client, ClientOptions, ClientStatus, ConnectError, ErrorCode, FlushError,
    Location, Outbox, PUSH_DEADLINE, Pending, ReadError, Refusal, Refused, Replica, Unacknowledged, WriteError,
};
use halcyon_core::env::{Env, WallClock};
use serde_json::json;

use super::{
    Globals, TIMEOUT, TIMEOUT_DEFAULT,
    failure::{Failure, file_failure},
    output::{self, Rows},
};

/// Where the admin credential is looked for when nobody says: where `node start` and `dev` leave it.
const CREDENTIAL_PLACES: [&str; 2] = ["halcyon-data/admin.credential", "halcyon-dev/eu-west/admin.credential"];

/// Where a key is looked for when nobody says: where `dev` leaves that of its tenant.
const DEV_KEY: &str = "halcyon-dev/demo.key";

/// The tenant that [`DEV_KEY`] opens.
pub const DEV_TENANT: &str = "demo";

/// Bytes of a credential or a key in a file; more is another file.
const SECRET_BYTES_MAX: u64 = 4096;

// A client must still be there when the node answers that a second region is late, also by way of another node.
const _: () = assert!(crate::limits::FORWARD_TIMEOUT.as_millis() < PUSH_DEADLINE.as_millis());

/// The command's own world. Nothing is written to disk.
pub fn env() -> Result<Env, Failure> {
    halcyon_client::env::system(None).map_err(|error| Failure::failed(format_args!("cannot start: {error}")))
}

/// The clock, for measuring how long things take.
pub fn clock() -> Arc<dyn WallClock> {
    static CLOCK: LazyLock<Option<Arc<dyn WallClock>>> = LazyLock::new(|| env().ok().map(|env| env.clock));
    CLOCK.clone().expect("the system has a clock")
}

/// Random bytes for new ids.
pub fn random_bytes(count: usize) -> Vec<u8> {
    let env = env().expect("a world with files in memory needs nothing");
    env.random_bytes(count)
}

/// An operator's client.
pub async fn admin(globals: &Globals) -> Result<AdminClient, Failure> {
    let credential = credential(globals)?;
    let connecting = AdminClient::connect(env()?, globals.addresses(), credential, certificate(globals)?);
    let admin = within(globals, connecting).await?;
    let admin = admin.with_deadline(globals.timeout);
    Ok(if globals.linearizable {
        admin.linearizable()
    } else {
        admin
    })
}

/// A client of a tenant.
pub async fn client(globals: &Globals, tenant: &str) -> Result<Client, Failure> {
    client_with(globals, tenant, env()?, Outbox::Memory).await
}

/// A client of a tenant in a world of the caller's choice.
pub async fn client_with(globals: &Globals, tenant: &str, env: Env, outbox: Outbox) -> Result<Client, Failure> {
    let options = ClientOptions {
        outbox,
        ..options(globals, tenant)?
    };
    within(globals, Client::connect(env, options)).await
}

/// The node that a client speaks to, in words.
pub fn answered_by(status: &ClientStatus) -> String {
    match (status.node, &status.region, &status.address) {
        (Some(node), Some(region), _) => format!("{node} in {region}"),
        (_, _, Some(address)) => format!("the node at {address}"),
        _ => "no node".to_owned(),
    }
}

fn options(globals: &Globals, tenant: &str) -> Result<ClientOptions, Failure> {
    Ok(ClientOptions {
        addresses: globals.addresses(),
        tenant: tenant.to_owned(),
        key: key(globals, tenant)?,
        ca_certificate: certificate(globals)?,
        read_deadline: globals.timeout,
        pinned: globals.pin,
        ..ClientOptions::default()
    })
}

/// Waits until a change set is acknowledged, for as long as the command may.
pub async fn acknowledged(pending: &mut Pending, patience: Duration) -> Result<Acknowledged, Failure> {
    pending
        .acknowledged_within(patience)
        .await
        .map_err(unacknowledged_failure)
}

/// The tenant's key: as given, from the file that is given, or where `dev` left it.
pub fn key(globals: &Globals, tenant: &str) -> Result<String, Failure> {
    match &globals.key {
        Some(given) if given.trim().is_empty() => {
            Err(Failure::usage("the key is empty").advise("look at --key, or at HALCYON_KEY"))
        }
        Some(given) => text_or_file(given),
        None if tenant == DEV_TENANT && Path::new(DEV_KEY).exists() => read_secret(Path::new(DEV_KEY)),
        None => Err(Failure::usage(format_args!("tenant {tenant} needs its access key"))
            .advise("give --key KEY or set HALCYON_KEY; `halcyon tenant key create` makes a new one")),
    }
}

/// Says why no client could be opened.
pub fn connect_failure(error: ConnectError, globals: &Globals) -> Failure {
    match error {
        ConnectError::Unreachable(last) => unreachable(&last, globals),
        ConnectError::Refused(refusal) => refusal_failure(&refusal),
        ConnectError::Address(_) | ConnectError::Certificate(_) => Failure::usage(error),
        ConnectError::Answer(_) => Failure::failed(error).advise("is this the port for clients, and a Halcyon node?"),
        ConnectError::Outbox(_) => Failure::failed(error),
    }
}

/// Says why an operator's call failed.
pub fn admin_failure(error: AdminError) -> Failure {
    match &error {
        AdminError::Refused(refusal) => refusal_failure(refusal),
        AdminError::Unreachable(_) | AdminError::Lost(_) => Failure::unreachable(error),
    }
}

/// Says why a read failed.
pub fn read_failure(error: ReadError) -> Failure {
    match &error {
        ReadError::Refused(refusal) => refusal_failure(refusal),
        ReadError::Unreachable { .. } => {
            Failure::unreachable(error).advise("halcyon status shows which nodes answer; or wait longer with --timeout")
        }
        ReadError::Answer(_) | ReadError::Closed => Failure::failed(error),
    }
}

/// Says why there is no answer to a query. One that is not understood is wrong usage, with the place that is wrong.
pub fn query_failure(error: ReadError) -> Failure {
    match error {
        ReadError::Refused(refusal) if refusal.code == ErrorCode::Malformed => Failure::usage(refusal.message),
        error => read_failure(error),
    }
}

/// Says why a write was not taken.
pub fn write_failure(error: WriteError) -> Failure {
    match &error {
        WriteError::TooLarge(_) => Failure::refused(error).advise("split it into smaller writes"),
        WriteError::Full { .. } => Failure::unreachable(error),
        WriteError::Outbox(_) | WriteError::Closed => Failure::failed(error),
    }
}

/// Says why a write was not acknowledged.
pub fn refused_failure(error: Refused) -> Failure {
    match &error {
        Refused::Refused(refusal) | Refused::Kept(refusal) => refusal_failure(refusal),
        Refused::Closed => Failure::failed(error),
    }
}

/// Says why there is no acknowledgement yet.
pub fn unacknowledged_failure(error: Unacknowledged) -> Failure {
    match error {
        Unacknowledged::Refused(refused) => refused_failure(refused),
        Unacknowledged::NotYetReplicated { waited } => Failure::refused(format_args!(
            "held by one region, not yet by a second after {}; the data is kept, on disk",
            output::duration(waited)
        ))
        .advise(
            "halcyon status shows which region is away. The data spreads by itself once it is back; to write it again \
             does no harm",
        ),
        Unacknowledged::Unanswered { waited } => Failure::unreachable(format_args!(
            "no node has acknowledged the write after {}; it may have been taken",
            output::duration(waited)
        ))
        .advise("halcyon status shows which nodes answer; look before you write again, or wait longer with --timeout"),
    }
}

/// Says why not all writes were acknowledged.
pub fn flush_failure(error: FlushError) -> Failure {
    match &error {
        FlushError::Kept(refusal) => refusal_failure(refusal),
        FlushError::Closed => Failure::failed(error),
    }
}

/// Shows where a tenant is.
pub fn show_location(location: &Location, globals: &Globals) {
    let micros = |replica: &Replica| replica.round_trip.map(|time| time.as_micros());
    if globals.json {
        let replicas: Vec<_> = location
            .replicas
            .iter()
            .map(|replica| {
                json!({ "node": replica.node.0, "region": replica.region.as_str(), "address": replica.address,
                        "serving": replica.serving && replica.silent.is_none(),
                        "silent_ms": replica.silent.and_then(|time| u64::try_from(time.as_millis()).ok()),
                        "round_trip_us": micros(replica).and_then(|time| u64::try_from(time).ok()) })
            })
            .collect();
        output::json(&json!({
            "tenant": location.tenant.to_string(), "name": location.name.as_str(), "home": location.home.as_str(),
            "metadata_index": location.metadata_index, "replicas": replicas,
        }));
        return;
    }
    let mut rows = Rows::new(&["node", "region", "address", "serving", "round trip>"]);
    for replica in &location.replicas {
        rows.push([
            replica.node.to_string(),
            replica.region.to_string(),
            replica.address.clone(),
            serving(replica),
            replica.round_trip.map_or_else(|| "-".into(), output::duration),
        ]);
    }
    rows.print();
}

/// Whether a client can go to a replica, as far as the node knows that was asked.
fn serving(replica: &Replica) -> String {
    match (replica.silent, replica.serving) {
        (Some(silent), _) => format!("unreachable for {} s", silent.as_secs()),
        (None, true) => "yes".to_owned(),
        (None, false) => "no".to_owned(),
    }
}

/// Says why a node refused, and what to do.
pub fn refusal_failure(refusal: &Refusal) -> Failure {
    let failure = Failure::refused(&refusal.message);
    let advice = match refusal.code {
        ErrorCode::Unauthenticated => "check --key (for data) or --admin-credential (for operators)",
        ErrorCode::NodeRemoved => "name a node that is still a member with --cluster",
        ErrorCode::NoQuorum => "halcyon status shows which nodes are missing; tenants' data is served meanwhile",
        ErrorCode::WireVersion => "use a release of halcyon that is nearer to the nodes'",
        ErrorCode::Limit => "halcyon settings shows the limits that an operator can move",
        ErrorCode::Busy | ErrorCode::Retry => "try again in a moment",
        _ => return failure,
    };
    failure.advise(advice)
}

fn unreachable(last: &str, globals: &Globals) -> Failure {
    Failure::unreachable(format_args!("no node can be reached: {last}")).advise(where_nodes_are(globals))
}

/// Nodes may be on the way to an answer, or have none: who waits for less than they take does not hear which.
fn late(globals: &Globals) -> Failure {
    let waited = output::duration(globals.timeout);
    let failure = Failure::unreachable(format_args!(
        "no node that can serve this has answered within {waited}, the time that --timeout gives"
    ));
    let advice = where_nodes_are(globals);
    if globals.timeout < TIMEOUT {
        return failure.advise(format_args!(
            "wait longer, with --timeout {TIMEOUT_DEFAULT}; or: {advice}"
        ));
    }
    failure.advise(advice)
}

fn where_nodes_are(globals: &Globals) -> String {
    let given = globals.given_addresses();
    if given.is_empty() {
        return "start nodes with `halcyon dev`, or name yours with --cluster HOST:PORT".to_owned();
    }
    format!(
        "is a node up at {}, and is this its port for clients?",
        given.join(" or ")
    )
}

/// Opens a client, but does not wait for ever.
async fn within<T>(globals: &Globals, connecting: impl Future<Output = Result<T, ConnectError>>) -> Result<T, Failure> {
    let connected = tokio::time::timeout(globals.timeout, connecting).await;
    let connected = connected.map_err(|_| late(globals))?;
    connected.map_err(|error| connect_failure(error, globals))
}

fn credential(globals: &Globals) -> Result<String, Failure> {
    if let Some(given) = &globals.admin_credential {
        if given.trim().is_empty() {
            return Err(Failure::usage("the admin credential is empty")
                .advise("look at --admin-credential, or at HALCYON_ADMIN"));
        }
        return text_or_file(given);
    }
    let found = CREDENTIAL_PLACES.iter().map(Path::new).find(|path| path.exists());
    match found {
        Some(path) => read_secret(path),
        None => Err(Failure::usage("this command needs the cluster's admin credential").advise(
            "give --admin-credential DIR/admin.credential, as the first node's data directory has it, or set HALCYON_ADMIN",
        )),
    }
}

fn certificate(globals: &Globals) -> Result<Option<Vec<u8>>, Failure> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| file_failure("read", path, &error));
    globals.ca.as_ref().map(read).transpose()
}

fn text_or_file(given: &str) -> Result<String, Failure> {
    let path = Path::new(given);
    if path.is_file() {
        return read_secret(path);
    }
    if given.contains('/') || Path::new(given).extension().is_some() {
        return Err(Failure::usage(format_args!("there is no file {given}")));
    }
    Ok(given.trim().to_owned())
}

fn read_secret(path: &Path) -> Result<String, Failure> {
    let size = std::fs::metadata(path)
        .map_err(|error| file_failure("read", path, &error))?
        .len();
    if size > SECRET_BYTES_MAX {
        return Err(Failure::usage(format_args!(
            "{} is too long for a credential",
            path.display()
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|error| file_failure("read", path, &error))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_too_short_hears_how_long_that_was_and_to_wait_longer() {
        let globals = |timeout| Globals {
            cluster: vec!["a:7700".to_owned()],
            pin: false,
            admin_credential: None,
            key: None,
            ca: None,
            timeout,
            linearizable: false,
            json: false,
        };
        let never = std::future::pending::<Result<(), ConnectError>>();
        let failure = within(&globals(Duration::from_millis(20)), never).await.unwrap_err();
        assert!(failure.message.contains("within 20 ms"), "{failure}");
        let advice = failure.advice.unwrap();
        assert!(
            advice.contains("--timeout 30s") && advice.contains("a:7700"),
            "{advice}"
        );
        let advice = late(&globals(TIMEOUT)).advice.unwrap();
        assert!(!advice.contains("--timeout"), "{advice}");

        let silent = ReadError::Unreachable {
            waited: Duration::from_nanos(2_001_620_259),
            last: "n1: no answer within 2s".to_owned(),
        };
        let failure = read_failure(silent);
        assert!(failure.message.contains("answered within 2.0s: n1"), "{failure}");
        assert!(failure.advice.unwrap().contains("--timeout"));
    }
}
