//! Live queries over the wire: deltas as they come, sessions that go on, resumes by digest.

use std::{collections::BTreeSet, sync::Arc};

use halcyon_core::{
    coverage::Digest,
    graph::Graph,
    id::{NodeId, OriginId, Seq, Tag},
    query::{eval::answer, from_text},
};
use halcyon_proto::v1::{connect_response::Event, sessions_client::SessionsClient};
use prost::Message;
use tonic::Streaming;

use super::*;

/// What a client keeps, plainly.
pub(super) struct Follower {
    pub(super) key: String,
    pub(super) sessions: SessionsClient<Channel>,
    pub(super) stream: Streaming<v1::ConnectResponse>,
    pub(super) session: prost::bytes::Bytes,
    pub(super) resumed: bool,
    pub(super) last: u64,
    pub(super) graph: Graph,
    pub(super) covered: BTreeSet<EntityId>,
    /// Whether all that was sent is shown.
    pub(super) is_whole: bool,
    pub(super) bytes: usize,
    pub(super) vector: prost::bytes::Bytes,
}

impl Follower {
    pub(super) async fn connect(place: &Place, key: &str, session: prost::bytes::Bytes, after: u64) -> Self {
        let mut sessions = SessionsClient::new(place.channel());
        let request = v1::ConnectRequest {
            tenant: "app".to_owned(),
            session,
            after,
            client: ClientId::from_random(7).to_bytes().to_vec().into(),
        };
        let mut stream = sessions.connect(with_key(key, request)).await.unwrap().into_inner();
        let first = stream.message().await.unwrap().unwrap();
        let Some(Event::Opened(opened)) = first.event else {
            panic!("{first:?} is not the first event");
        };
        assert_eq!(first.number, after);
        Self {
            key: key.to_owned(),
            sessions,
            stream,
            session: opened.session,
            resumed: opened.resumed,
            last: first.number,
            graph: Graph::default(),
            covered: BTreeSet::new(),
            is_whole: false,
            bytes: 0,
            vector: prost::bytes::Bytes::new(),
        }
    }

    pub(super) fn request(&self, number: u32, query: &str) -> v1::SubscribeRequest {
        v1::SubscribeRequest {
            tenant: "app".to_owned(),
            session: self.session.clone(),
            subscription: number,
            query: query.to_owned(),
            vector: self.vector.clone(),
            ..v1::SubscribeRequest::default()
        }
    }

    pub(super) async fn subscribe(&mut self, request: v1::SubscribeRequest) -> Result<v1::SubscribeResponse, Status> {
        let answer = self.sessions.subscribe(with_key(&self.key, request)).await?;
        Ok(answer.into_inner())
    }

    /// Takes in the next event that is a commit.
    pub(super) async fn next(&mut self) -> v1::Commit {
        let commit = self.hear().await;
        self.take_in(&commit);
        commit
    }

    /// The next event that is a commit.
    async fn hear(&mut self) -> v1::Commit {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.stream.message());
            let message = message
                .await
                .expect("an event comes")
                .unwrap()
                .expect("the stream goes on");
            match message.event {
                Some(Event::Commit(commit)) => {
                    assert_eq!(message.number, self.last + 1, "no event is lost or repeated");
                    self.last = message.number;
                    return commit;
                }
                Some(Event::Held(_)) => assert_eq!(message.number, self.last),
                other => panic!("{other:?} was not expected"),
            }
        }
    }

    pub(super) fn take_in(&mut self, commit: &v1::Commit) {
        self.vector = commit.vector.clone();
        for delta in &commit.deltas {
            assert!(!delta.stale);
            self.bytes += delta.delta.len();
            let coverage = v1::CoverageDelta::decode(delta.delta.clone()).unwrap();
            for name in &coverage.entered {
                let entity = EntityId::new(name).unwrap();
                self.graph.forget(&entity, None);
                self.covered.insert(entity);
            }
            for set in &coverage.change_sets {
                self.graph.apply_set(TAG, &ChangeSet::decode(set).unwrap());
            }
            for name in &coverage.left {
                let entity = EntityId::new(name).unwrap();
                self.graph.forget(&entity, None);
                self.covered.remove(&entity);
            }
            self.is_whole = !delta.more;
        }
    }

    pub(super) async fn until_whole(&mut self) {
        self.is_whole = false;
        while !self.is_whole {
            self.next().await;
        }
    }

    /// Waits until a query has so many rows.
    pub(super) async fn until_has(&mut self, query: &str, rows: usize) {
        while self.rows(query) != rows {
            self.next().await;
        }
    }

    pub(super) fn rows(&self, query: &str) -> usize {
        answer(&Arc::new(from_text(query).unwrap()), &self.graph)
            .unwrap()
            .rows
            .len()
    }

    pub(super) fn digest(&self) -> Vec<prost::bytes::Bytes> {
        let mut digest = Digest::default();
        for entity in &self.covered {
            if let Some(number) = self.graph.dictionary().entity_number(entity) {
                digest.add(entity, self.graph.fingerprint_of_entity(number));
            }
        }
        digest
            .encode()
            .into_iter()
            .map(|bucket| bucket.to_vec().into())
            .collect()
    }

    /// Its entities in some buckets, with their fingerprints.
    pub(super) fn held(&self, differing: &[u32]) -> Vec<v1::BucketEntities> {
        let of_bucket = |bucket: u32| {
            let is_in = |entity: &&EntityId| u32::from(halcyon_core::coverage::bucket_of(entity)) == bucket;
            let held: Vec<&EntityId> = self.covered.iter().filter(is_in).collect();
            let number = |entity| self.graph.dictionary().entity_number(entity).unwrap();
            let fingerprint = |entity| self.graph.fingerprint_of_entity(number(entity)).0.to_le_bytes();
            v1::BucketEntities {
                bucket,
                entities: held.iter().map(|entity| entity.as_str().to_owned()).collect(),
                fingerprints: held.iter().flat_map(|entity| fingerprint(entity)).collect(),
            }
        };
        differing.iter().copied().map(of_bucket).collect()
    }
}

const TAG: Tag = Tag {
    origin: OriginId {
        node: NodeId(1),
        incarnation: 1,
    },
    seq: Seq(1),
};

/// Writes that stamp themselves.
pub(super) struct Writer<'a> {
    pub(super) place: &'a Place,
    pub(super) key: String,
    pub(super) number: u64,
}

impl Writer<'_> {
    pub(super) async fn write(&mut self, changes: Vec<Change>) {
        self.number += 1;
        let set = ChangeSet {
            timestamp: timestamp(self.place.env().clock.wall().0, ClientId::from_random(8)),
            number: self.number,
            changes,
        };
        let request = push("app", vec![set.encode()]);
        eventually("the write is taken", async || {
            let answer = self.place.sync().push(with_key(&self.key, request.clone())).await;
            answer.is_ok_and(|answer| all_taken(answer.get_ref()))
        })
        .await;
    }

    pub(super) async fn set(&mut self, subject: &str, rank: f64) {
        let changes = ranked(subject, rank);
        self.write(changes).await;
    }
}

pub(super) fn ranked(subject: &str, rank: f64) -> Vec<Change> {
    let subject = EntityId::new(subject).unwrap();
    let set = Change::Set {
        subject: subject.clone(),
        predicate: Predicate::new("post/rank").unwrap(),
        value: Value::number(rank).unwrap(),
    };
    vec![Change::Create { subject }, set]
}

pub(super) const QUERY: &str = "post where rank > 10 order by rank";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delta_comes_for_each_state_and_a_session_goes_on_where_it_was() {
    let cluster = Cluster::start(&["eu-west"]).await;
    let key = cluster.create_tenant("app", &["eu-west"]).await;
    let place = cluster.first();
    let (number, place_key) = (0, key.clone());
    let mut writer = Writer {
        place,
        key: place_key,
        number,
    };
    writer.set("a", 11.0).await;
    writer.set("b", 1.0).await;
    let mut follower = Follower::connect(place, &key, prost::bytes::Bytes::new(), 0).await;
    follower.subscribe(follower.request(1, QUERY)).await.unwrap();
    follower.until_whole().await;
    assert_eq!(follower.rows(QUERY), 1);

    // One comes, one goes, one changes within, all in one state.
    let mut changes = ranked("b", 12.0);
    changes.extend(ranked("c", 13.0));
    writer.write(changes).await;
    let commit = follower.next().await;
    assert_eq!(commit.deltas.len(), 1);
    assert_eq!(follower.rows(QUERY), 3);
    writer.set("a", 2.0).await;
    follower.next().await;
    assert_eq!(follower.rows(QUERY), 2);
    writer
        .write(vec![Change::Delete {
            subject: EntityId::new("b").unwrap(),
        }])
        .await;
    follower.next().await;
    assert_eq!((follower.rows(QUERY), follower.covered.len()), (1, 1));

    // The stream breaks; what came meanwhile comes on the next one.
    let (session, last, graph) = (follower.session.clone(), follower.last, follower.graph.clone());
    drop(follower);
    writer.set("d", 14.0).await;
    let mut again = Follower::connect(place, &key, session, last).await;
    assert!(again.resumed);
    again.graph = graph;
    again.next().await;
    assert_eq!(again.rows(QUERY), 2);

    // What is refused says why.
    let refused = again.subscribe(again.request(1, QUERY)).await.unwrap_err();
    assert_eq!(code(&refused), ErrorCode::Conflict);
    let refused = again.subscribe(again.request(2, "post where")).await.unwrap_err();
    assert_eq!(code(&refused), ErrorCode::Malformed);
    let unsubscribe = v1::UnsubscribeRequest {
        tenant: "app".to_owned(),
        session: again.session.clone(),
        subscription: 1,
    };
    again.sessions.unsubscribe(with_key(&key, unsubscribe)).await.unwrap();
    eventually("the subscription is gone", async || {
        let figures = place.node().rooms().live.figures();
        (figures.plans, figures.subscribers) == (1, 0)
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_by_digest_sends_the_buckets_that_differ() {
    let cluster = Cluster::start(&["eu-west"]).await;
    let key = cluster.create_tenant("app", &["eu-west"]).await;
    let place = cluster.first();
    let mut writer = Writer {
        place,
        key: key.clone(),
        number: 0,
    };
    let many = (0..2_000).flat_map(|number| ranked(&format!("post-{number}"), 20.0 + f64::from(number)));
    writer.write(many.collect()).await;
    let mut follower = Follower::connect(place, &key, prost::bytes::Bytes::new(), 0).await;
    follower.subscribe(follower.request(1, QUERY)).await.unwrap();
    follower.until_whole().await;
    assert_eq!(follower.rows(QUERY), 2_000);
    let full = follower.bytes;
    let (graph, covered) = (follower.graph.clone(), follower.covered.clone());
    drop(follower);

    // While it was away: one changed, one went, one came, one was deleted.
    writer.set("post-1", 5_000.0).await;
    writer.set("post-2", 1.0).await;
    writer.set("new", 30.0).await;
    writer
        .write(vec![Change::Delete {
            subject: EntityId::new("post-3").unwrap(),
        }])
        .await;
    // What is committed shows in live queries a moment later: who was not away says when.
    let mut fresh = Follower::connect(place, &key, prost::bytes::Bytes::new(), 0).await;
    fresh.subscribe(fresh.request(1, QUERY)).await.unwrap();
    fresh.until_whole().await;
    fresh.until_has("post where rank = 23", 0).await;
    let mut again = Follower::connect(place, &key, prost::bytes::Bytes::new(), 0).await;
    assert!(!again.resumed);
    (again.graph, again.covered) = (graph, covered);
    let mut request = again.request(1, QUERY);
    request.digest = again.digest();
    let answer = again.subscribe(request.clone()).await.unwrap();
    assert!((1..=4).contains(&answer.differing.len()), "{answer:?}");
    // Between the two calls, too.
    writer.set("post-4", 6_000.0).await;
    fresh.until_has("post where rank = 6000", 1).await;
    request.held = again.held(&answer.differing);
    again.subscribe(request).await.unwrap();
    again.until_whole().await;
    assert_eq!(again.rows(QUERY), 1_999);
    assert!(again.digest() == fresh.digest(), "they hold different facts");
    assert_eq!(again.covered, fresh.covered);
    // What lies beside it in the same buckets is not sent.
    assert!(again.bytes * 100 < full, "{} of {full} bytes", again.bytes);

    // Nothing differs: nothing is sent but that.
    let mut request = again.request(2, QUERY);
    request.digest = again.digest();
    let before = again.bytes;
    assert_eq!(again.subscribe(request).await.unwrap().differing, Vec::<u32>::new());
    again.until_whole().await;
    assert_eq!(again.bytes, before);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_hears_of_its_set_and_one_who_saw_more_gets_a_stale_answer() {
    let cluster = Cluster::start(&["eu-west", "us-east"]).await;
    let key = cluster.create_tenant("app", &["eu-west", "us-east"]).await;
    let place = cluster.first();
    let mut follower = Follower::connect(place, &key, prost::bytes::Bytes::new(), 0).await;
    follower.subscribe(follower.request(1, QUERY)).await.unwrap();
    follower.until_whole().await;
    // Its own clock's set, which concerns no subscription.
    let request = push("app", vec![change_set(place.env(), 1, "one", "no post")]);
    assert!(all_taken(
        place.sync().push(with_key(&key, request)).await.unwrap().get_ref()
    ));
    let commit = follower.next().await;
    assert_eq!(commit.deltas, Vec::new());

    // It has seen a commit that this node lacks, and the other may have.
    let ahead: halcyon_core::version_vector::VersionVector = [Tag {
        origin: OriginId {
            node: NodeId(9),
            incarnation: 1,
        },
        seq: Seq(1),
    }]
    .into_iter()
    .collect();
    let mut request = follower.request(2, QUERY);
    request.vector = ahead.encode().into();
    follower.subscribe(request).await.unwrap();
    let commit = follower.hear().await;
    assert!(commit.deltas[0].stale && !commit.deltas[0].more);
    cluster.stop().await;
}
