//! What a push answers for sets that are not taken, and for those behind them.

use halcyon_core::{
    id::{NodeId, OriginId, Seq, Tag},
    version_vector::VersionVector,
};

use super::{PAST, cluster::creation, set_of, three, writing};
use crate::{
    storage::types::{AdmitError, Admitted},
    tenant::PushError,
};

const FUTURE: u64 = 4_000_000_000;

/// What became of each set of a push.
fn outcomes(answers: &[Result<Admitted, PushError>]) -> Vec<&'static str> {
    let outcome = |answer: &Result<Admitted, PushError>| match answer {
        Ok(_) => "taken",
        Err(PushError::OutOfTurn) => "out of turn",
        Err(PushError::Rest) => "rest",
        Err(PushError::Refused(_)) => "refused",
        Err(PushError::Admit(AdmitError::Behind)) => "behind",
        Err(PushError::Admit(AdmitError::Ahead(_))) => "ahead",
        Err(_) => "else",
    };
    answers.iter().map(outcome).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_set_that_is_sent_again_the_later_ones_of_its_client_wait_and_others_do_not() {
    let cluster = three().await;
    let sets = vec![
        set_of(1, 1, PAST, creation("a1", 1)),
        set_of(1, 2, FUTURE, creation("a2", 1)),
        set_of(1, 3, PAST, creation("a3", 1)),
        set_of(2, 1, PAST, creation("b1", 1)),
    ];
    let answers = cluster.push(1, sets).await;
    assert_eq!(outcomes(&answers), ["taken", "ahead", "out of turn", "taken"]);
    // What is refused for good keeps nobody waiting.
    let sets = vec![set_of(3, 1, PAST, vec![]), set_of(3, 2, PAST, creation("c2", 1))];
    assert_eq!(outcomes(&cluster.push(1, sets).await), ["refused", "taken"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_is_answered_though_it_would_be_too_far_ahead_now() {
    let cluster = three().await;
    let directory = tempfile::tempdir().unwrap();
    let clock = crate::env::system(directory.path()).unwrap().clock;
    let soon = clock.wall().unix_millis() / 1_000 + 30;
    let set = set_of(1, 1, soon, creation("a1", 1));
    let first = cluster.push(1, vec![set.clone()]).await;
    assert_eq!(outcomes(&first), ["taken"]);
    cluster
        .control
        .change(|state| state.settings.insert("drift_max".into(), "1s".into()));
    let both = cluster.push(1, vec![set, set_of(1, 2, soon, creation("a2", 1))]).await;
    assert_eq!(outcomes(&both), ["taken", "ahead"]);
    let tags: Vec<_> = first
        .iter()
        .chain(&both)
        .flatten()
        .map(|taken| (taken.tag, taken.again))
        .collect();
    assert_eq!(tags, [(tags[0].0, false), (tags[0].0, true)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_has_seen_more_than_the_node_keeps_its_order() {
    let cluster = three().await;
    let origin = OriginId {
        node: NodeId(2),
        incarnation: 99,
    };
    let ahead: VersionVector = [Tag { origin, seq: Seq(5) }].into_iter().collect();
    let sets = vec![
        set_of(1, 1, PAST, creation("a1", 1)),
        set_of(1, 2, PAST, writing("unknown", "x")),
        set_of(1, 3, PAST, creation("a3", 1)),
    ];
    let answers = cluster.nodes[&1].tenants.push(&cluster.tenant(), sets, ahead).await;
    assert_eq!(outcomes(&answers), ["taken", "behind", "out of turn"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_beyond_its_bytes_is_taken_as_far_as_it_fits() {
    let cluster = three().await;
    cluster
        .control
        .change(|state| state.settings.insert("push_bytes_max".into(), "1024".into()));
    let large = |entity: &str| [creation(entity, 1), writing(entity, &"x".repeat(2_000))].concat();
    let sets = vec![cluster.set(large("a")), cluster.set(large("b"))];
    assert_eq!(outcomes(&cluster.push(1, sets).await), ["taken", "rest"]);
    let sets = (0..10).map(|at| cluster.set(creation(&format!("s{at}"), 1))).collect();
    assert_eq!(outcomes(&cluster.push(1, sets).await), ["taken"; 10]);
}
