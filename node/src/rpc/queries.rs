//! The Queries service: what clients ask of a tenant, answered by this node from one of its states.
//!
//! A query runs on a thread that may block, a few at a time; the others wait for their turn, not for long. Its rows go
//! out as they are found. What waits for a slow reader is bounded, for one answer and for all together, and let go when
//! the reader takes nothing of it for long.

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use halcyon_core::version_vector::VersionVector;
use halcyon_proto::{
    convert,
    error::{ErrorCode, Refusal},
    v1::{self, queries_server},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    rooms::Rooms,
    status::{named, refuse},
};
use crate::{
    limits::{OPEN_WAIT_FIRST, VECTOR_LOOK_MAX},
    metadata::{settings::Settings, state::Tenant},
    query::{
        Asked, Bounds, Failed, Part, Snapshot, Stalled, Statistics, Taker,
        limits::{
            ANSWERS_BYTES_MAX, MESSAGE_ROWS_BYTES, MESSAGE_ROWS_MAX, READER_PATIENCE, RUNNING_MAX, TURN_WAIT_MAX,
            VECTOR_WAIT_MAX, WAITING_MAX,
        },
        outgoing,
    },
};

/// When to come back after BUSY: some queries later.
const SOON: Duration = Duration::from_millis(200);

/// See there.
#[derive(Debug)]
pub(super) struct QueriesService {
    rooms: Rooms,
    statistics: Statistics,
    /// Queries that may still start.
    running: Arc<Semaphore>,
    /// Queries that may still wait for that.
    waiting: Semaphore,
    /// Bytes of answers that may still wait for their readers.
    answers: Arc<Semaphore>,
}

/// A part of an answer, and the bytes it was let in with.
type Sent = Result<(v1::QueryResponse, OwnedSemaphorePermit), Status>;

type Answers = std::pin::Pin<Box<dyn Stream<Item = Result<v1::QueryResponse, Status>> + Send>>;

/// A query that may run.
struct Ready {
    asked: Asked,
    snapshot: Snapshot,
    settings: Settings,
    /// The node lags behind what the client has seen.
    stale: bool,
    turn: OwnedSemaphorePermit,
}

impl QueriesService {
    pub(super) fn new(rooms: Rooms) -> Self {
        Self {
            rooms,
            statistics: Statistics::default(),
            running: Arc::new(Semaphore::new(RUNNING_MAX)),
            waiting: Semaphore::new(WAITING_MAX),
            answers: Arc::new(Semaphore::new(ANSWERS_BYTES_MAX)),
        }
    }

    /// Checks who asks what, and waits for what the answer needs.
    async fn ready(&self, metadata: &MetadataMap, tenant: &str, query: &str, vector: &[u8]) -> Result<Ready, Status> {
        let tenant = self.rooms.authorize(metadata, tenant).await?;
        if !self.rooms.serves(&tenant) {
            return Err(self.rooms.wrong_region(&tenant).into());
        }
        let asked = Asked::read(query).map_err(|error| {
            let shown = error.render(query);
            // Whoever shows it says that it is an error.
            Refusal::new(ErrorCode::Malformed, shown.strip_prefix("error: ").unwrap_or(&shown))
        })?;
        let vector = convert::vector(vector).map_err(refuse)?;
        self.rooms.until_open(tenant.id).await;
        let vector = self.rooms.until_covered(&tenant, vector).await;
        let turn = self.turn().await?;
        let snapshot = self.rooms.tenants.snapshot(&tenant, &self.statistics);
        let snapshot = snapshot.map_err(|error| self.rooms.read_refusal(&tenant, error))?;
        Ok(Ready {
            asked,
            stale: !snapshot.summary().vector.covers(&vector),
            snapshot,
            settings: self.rooms.view.settings(),
            turn,
        })
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let busy = || {
            let text = format!("{RUNNING_MAX} queries run on this node and others wait; try again, or go to another");
            named("queries_per_node", Refusal::busy(text, SOON))
        };
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let turn = timeout(TURN_WAIT_MAX, Arc::clone(&self.running).acquire_owned()).await;
        turn.ok().and_then(Result::ok).ok_or_else(busy)
    }

    /// Starts to answer: the parts as they come.
    fn start(&self, ready: Ready) -> Taker<Sent> {
        let most = most_messages(&ready.settings);
        let (giver, parts) = outgoing(most);
        let (env, answers) = (self.rooms.env.clone(), Arc::clone(&self.answers));
        let running = async move {
            let Ready {
                asked,
                snapshot,
                settings,
                stale,
                turn,
            } = ready;
            let vector = convert::vector_bytes(&snapshot.summary().vector);
            let clock = Arc::clone(&env.clock);
            let answer = || {
                let began = clock.monotonic();
                let go_on = || clock.monotonic().saturating_sub(began) < settings.query_time_max && !giver.is_gone();
                let crowded = Mutex::new(false);
                let done = asked.answer(&snapshot, bounds(&settings, &go_on), &mut |part| {
                    let bytes = size(&part);
                    let permit = Arc::clone(&answers).try_acquire_many_owned(bytes);
                    let Ok(permit) = permit else {
                        *crowded.lock().unwrap_or_else(PoisonError::into_inner) = true;
                        return ControlFlow::Break(());
                    };
                    let message = message(part, &vector, stale);
                    // It has room for the longest answer, so it fails only where nobody listens.
                    match giver.give(Ok((message, permit))) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(_) => ControlFlow::Break(()),
                    }
                });
                let crowded = crowded.into_inner().unwrap_or_else(PoisonError::into_inner);
                done.map_err(|failed| if crowded { too_many_answers() } else { refusal(&failed) })
            };
            let done = env.run_blocking(answer).await;
            drop((snapshot, turn));
            if let Err(refusal) = done {
                // Nobody listens: nobody needs to know.
                let _ = giver.give(Err(refusal.into()));
            }
            giver.until_taken(READER_PATIENCE).await;
        };
        tokio::spawn(running);
        parts
    }
}

#[tonic::async_trait]
impl queries_server::Queries for QueriesService {
    type QueryStream = Answers;

    async fn query(&self, request: Request<v1::QueryRequest>) -> Result<Response<Answers>, Status> {
        let message = request.get_ref();
        let ready = self
            .ready(request.metadata(), &message.tenant, &message.query, &message.vector)
            .await?;
        let mut parts = self.start(ready);
        // A query that fails at once fails as a call, before any header says that it went well.
        let first = match next(&mut parts).await {
            Some(first) => first?,
            None => {
                return Err(Status::from(Refusal::new(
                    ErrorCode::Internal,
                    "the query ended without an answer",
                )));
            }
        };
        let metrics = self.rooms.metrics.clone();
        let rest = stream::unfold(parts, |mut parts| async move { Some((next(&mut parts).await?, parts)) });
        let sent = stream::once(async { Ok(first) }).chain(rest).map(move |part| {
            part.map(|(message, _room)| message).inspect_err(|status| {
                if let Some(refusal) = Refusal::from_status(status) {
                    metrics.on_refusal(&refusal);
                }
            })
        });
        let sent = sent.take_until(Box::pin(self.rooms.stopped()));
        Ok(Response::new(Box::pin(sent)))
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Result<Response<v1::ExplainResponse>, Status> {
        let message = request.get_ref();
        let ready = self
            .ready(request.metadata(), &message.tenant, &message.query, &[])
            .await?;
        let clock = Arc::clone(&self.rooms.env.clock);
        let explained = || {
            let began = clock.monotonic();
            let go_on = || clock.monotonic().saturating_sub(began) < ready.settings.query_time_max;
            let bounds = bounds(&ready.settings, &go_on);
            ready.asked.explain(&ready.snapshot, bounds, message.analyze)
        };
        let explained = self.rooms.env.run_blocking(explained).await;
        let explained = explained.map_err(|failed| Status::from(refusal(&failed)))?;
        Ok(Response::new(v1::ExplainResponse {
            text: explained.text,
            json: explained.json.to_string(),
        }))
    }
}

impl Rooms {
    /// Waits until this node has what the client has seen, but for what no replica holds any more; not for long. What was
    /// waited for.
    async fn until_covered(&self, tenant: &Tenant, seen: VersionVector) -> VersionVector {
        // What follows says what is missing where nothing is held.
        let covers = |vector: &VersionVector| match self.storage.summary(tenant.id) {
            Ok(Some(summary)) => summary.vector.covers(vector),
            Ok(None) | Err(_) => true,
        };
        let mut due = seen;
        let covered = async {
            let mut pause = OPEN_WAIT_FIRST;
            while !covers(&due) {
                due = self.tenants.attainable(tenant.id, std::mem::take(&mut due));
                sleep(pause).await;
                pause = (pause * 2).min(VECTOR_LOOK_MAX);
            }
        };
        // Else the answer says that it is stale.
        let _ = timeout(VECTOR_WAIT_MAX, covered).await;
        due
    }
}

/// The next part of an answer.
async fn next(parts: &mut Taker<Sent>) -> Option<Sent> {
    let part = parts.next().await?;
    Some(part.unwrap_or_else(|stalled: Stalled| {
        let refusal = Refusal::busy(stalled.to_string(), SOON);
        Err(named("query_answers_per_node", refusal).into())
    }))
}

/// Messages of the longest answer: each but the last few is full in one way or the other.
fn most_messages(settings: &Settings) -> usize {
    let by_rows = usize::try_from(settings.query_rows_max).unwrap_or(usize::MAX) / MESSAGE_ROWS_MAX;
    let by_bytes = usize::try_from(settings.query_answer_bytes_max).unwrap_or(usize::MAX) / MESSAGE_ROWS_BYTES;
    (by_rows + by_bytes + 4).min(Semaphore::MAX_PERMITS)
}

fn bounds<'a>(settings: &Settings, go_on: &'a dyn Fn() -> bool) -> Bounds<'a> {
    Bounds {
        rows: settings.query_rows_max,
        memory: settings.query_memory_max,
        answer: settings.query_answer_bytes_max,
        time: settings.query_time_max,
        go_on,
    }
}

fn size(part: &Part) -> u32 {
    let bytes = match part {
        Part::Rows(rows) => rows.iter().map(|row| row.len() + size_of::<String>()).sum(),
        Part::Columns(_) | Part::End { .. } => 0,
    };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn message(part: Part, vector: &prost::bytes::Bytes, stale: bool) -> v1::QueryResponse {
    use v1::query_response::Part as Message;
    let part = match part {
        Part::Columns(columns) => Message::Start(v1::QueryStart {
            columns,
            vector: vector.clone(),
            stale,
        }),
        Part::Rows(rows) => Message::Rows(v1::QueryRows { rows }),
        Part::End { rows, next } => Message::End(v1::QueryEnd { rows, next }),
    };
    v1::QueryResponse { part: Some(part) }
}

fn too_many_answers() -> Refusal {
    let text = format!("{ANSWERS_BYTES_MAX} bytes of answers wait for slow readers on this node; go to another");
    named("query_answers_per_node", Refusal::busy(text, SOON))
}

/// Why there is no answer, with the setting that says so.
fn refusal(failed: &Failed) -> Refusal {
    let limit = |name: &str| Refusal::limit(name, format!("{failed} (setting {name})"));
    match failed {
        Failed::Rows(_) => limit("query_rows_max"),
        Failed::Bytes(_) => limit("query_answer_bytes_max"),
        Failed::Memory(_) => limit("query_memory_max"),
        Failed::Time(_) => limit("query_time_max"),
        Failed::Row(_) => Refusal::limit("query_row_bytes", failed.to_string()),
        Failed::Count => Refusal::limit("query_count", failed.to_string()),
        Failed::Steps(_) => Refusal::limit("query_steps", failed.to_string()),
        Failed::Gone => Refusal::retry(failed.to_string(), SOON),
        Failed::Store(_) => Refusal::new(ErrorCode::Internal, failed.to_string()),
    }
}
