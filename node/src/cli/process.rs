//! Nodes inside this process: logs, start, and a clean stop on Ctrl-C or SIGTERM.

use std::{io, path::Path, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{
    failure::{Exit, Failure, file_failure},
    output,
};
use crate::{
    config::{Config, LogFormat},
    env,
    server::{self, Node, NodeError},
};

/// How long a node may take to stop: to answer what it has, fold its log and close its files.
const STOP_MAX: Duration = Duration::from_secs(20);

/// Time between two looks whether storage still works. Until it is seen to have stopped, clients are refused.
const STORAGE_LOOK_EVERY: Duration = Duration::from_millis(250);

/// Time between two looks whether a node is ready.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Writes the log to stderr from now on.
pub fn start_logs(format: LogFormat, filter: &str) -> Result<(), Failure> {
    EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format_args!("the log filter {filter:?} cannot be read: {error}"))
            .advise("write info, debug, or halcyon_node::peers=debug,info")
    })?;
    server::init_log(format, filter);
    Ok(())
}

/// Starts a node. `other_ports` says how to choose others where one is taken.
pub async fn start(config: Config, other_ports: &str) -> Result<Node, Failure> {
    std::fs::create_dir_all(&config.data).map_err(|error| file_failure("make", &config.data, &error))?;
    let world = env::system(&config.data).map_err(|error| directory_failure(&config.data, &error))?;
    let (region, data) = (config.region.clone(), config.data.clone());
    Box::pin(Node::start(world, config)).await.map_err(|error| match error {
        NodeError::Listen(error) => listen_failure(&error, other_ports),
        error => Failure::failed(format_args!(
            "the node in {region} ({}) did not start: {error}",
            data.display()
        )),
    })
}

/// The error of a lock says itself what to do.
fn directory_failure(data: &Path, error: &io::Error) -> Failure {
    let failure = Failure::failed(format_args!("cannot open {}: {error}", data.display()));
    match error.kind() {
        io::ErrorKind::ResourceBusy => failure,
        io::ErrorKind::PermissionDenied => {
            failure.advise("the directory has to belong to the user that runs the node: chown it, or run as its owner")
        }
        _ => failure.advise("--data has to name a directory that can be made and written"),
    }
}

/// The error names the address.
fn listen_failure(error: &io::Error, other_ports: &str) -> Failure {
    let text = error.to_string();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let address = text.split(": ").next().unwrap_or_default();
            Failure::failed(format_args!("the address {address} is in use by another program")).advise(format_args!(
                "stop what runs there (another halcyon?); or {other_ports}"
            ))
        }
        io::ErrorKind::PermissionDenied => {
            Failure::failed(format_args!("cannot listen at {text}")).advise("ports below 1024 need root")
        }
        _ => Failure::failed(format_args!("cannot listen at {text}"))
            .advise(format_args!("is this one of this machine's addresses? {other_ports}")),
    }
}

/// Waits until the node says that it is ready, or until `deadline`; then it tells why it is not.
pub async fn until_ready(node: &Node, deadline: Duration) -> Result<(), Failure> {
    let ready = async {
        while !node.reasons().is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(deadline, ready).await.map_err(|_| {
        Failure::failed(format_args!(
            "{} is not ready: {}",
            node.id(),
            node.reasons().join("; ")
        ))
    })
}

/// Waits for Ctrl-C or SIGTERM.
pub async fn until_told_to_stop() -> Result<(), Failure> {
    let no_signal = |error| Failure::failed(format_args!("cannot hear signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Waits until the node is told to stop, or until its storage has stopped. A process whose storage has stopped could
/// only refuse, for good; its supervisor starts it anew, and it goes on once the disk does.
pub async fn until_over(node: &Node) -> Result<(), Failure> {
    let storage_stops = async {
        while !node.rooms().storage.has_stopped() {
            tokio::time::sleep(STORAGE_LOOK_EVERY).await;
        }
    };
    tokio::select! {
        biased;
        told = until_told_to_stop() => told,
        () = storage_stops => Err(Failure::failed(
            "storage has stopped, because its disk failed; nothing acknowledged is lost"
        )
        .advise("make room on the disk, or replace it, and start the node again")),
    }
}

/// Stops nodes together. A second Ctrl-C does not wait: whatever was acknowledged is on disk already.
pub async fn stop(nodes: Vec<Node>) -> Result<(), Failure> {
    let all = futures::future::join_all(nodes.into_iter().map(Node::stop));
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => {
            output::note("stopped without waiting; nothing acknowledged is lost");
            std::process::exit(Exit::Ok as i32);
        }
        stopped = tokio::time::timeout(STOP_MAX, all) => match stopped {
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::failed(format_args!(
                "a node did not stop within {}; nothing acknowledged is lost",
                output::duration(STOP_MAX)
            ))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_another_users_is_not_taken_for_one_in_use() {
        let says = |kind, what: &str| directory_failure(Path::new("d"), &io::Error::new(kind, what)).to_string();
        let denied = says(io::ErrorKind::PermissionDenied, "denied");
        assert!(denied.contains("chown") && !denied.contains("another"), "{denied}");
        let busy = says(io::ErrorKind::ResourceBusy, "another process uses d; stop it");
        assert!(busy.ends_with("stop it"), "{busy}");
    }

    #[test]
    fn a_taken_port_is_named_with_the_flag_that_changes_it() {
        let error = io::Error::new(io::ErrorKind::AddrInUse, "127.0.0.1:7700: Address already in use");
        let failure = listen_failure(&error, "--port names others").to_string();
        assert!(
            failure.contains("127.0.0.1:7700 is in use") && failure.contains("--port"),
            "{failure}"
        );
    }
}
