//! Queries asked once, at the node in use, and at others when that one fails.
//!
//! A query that has begun to answer is not asked again elsewhere: its rows are of one state of one node.

use std::{collections::VecDeque, time::Duration};

use futures::StreamExt;
use halcyon_core::{codec::DecodeError, version_vector::VersionVector};
use halcyon_proto::{
    convert::{self, ConvertError},
    error::Refusal,
    v1::{self, query_response::Part},
};
use serde_json::Value as Json;
use tonic::{Response, Status, Streaming};

use crate::{
    error::ReadError,
    limits::{QUERY_DEADLINE, QUERY_SILENCE_MAX},
    read,
    shared::Shared,
};

/// The rows of an answer, as they come.
#[derive(Debug)]
pub struct QueryRows {
    columns: Vec<String>,
    vector: VersionVector,
    is_stale: bool,
    next: Option<String>,
    is_done: bool,
    rows: VecDeque<String>,
    parts: Streaming<v1::QueryResponse>,
    /// How long to wait for the next part.
    patience: Duration,
}

/// An answer, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryAnswer {
    /// Names of a table's columns; none where rows are objects.
    pub columns: Vec<String>,
    /// Rows in typed JSON: arrays of cells by column, or objects.
    pub rows: Vec<Json>,
    /// Where to go on, as the query's `after` takes it; `None` if there is no more, or the query has no limit.
    pub next: Option<String>,
    /// The state that was asked.
    pub vector: VersionVector,
    /// The node lags behind what this client has seen.
    pub is_stale: bool,
}

/// How a node answers a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// For people.
    pub text: String,
    /// For machines.
    pub json: String,
}

impl QueryRows {
    /// Names of a table's columns; none where rows are objects.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The state that is asked.
    pub const fn vector(&self) -> &VersionVector {
        &self.vector
    }

    /// Whether the node lags behind what this client has seen.
    pub const fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// After the last row: where to go on, as the query's `after` takes it.
    pub fn next_page(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// The next row in typed JSON; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<String>, ReadError> {
        loop {
            if let Some(row) = self.rows.pop_front() {
                return Ok(Some(row));
            }
            if self.is_done {
                return Ok(None);
            }
            let silent = |_| ReadError::Unreachable {
                waited: self.patience,
                last: "the answer broke off".to_owned(),
            };
            let part = tokio::time::timeout(self.patience, self.parts.next()).await;
            let message = part.map_err(silent)?.transpose().map_err(|status| broken(&status))?;
            match message.and_then(|message| message.part) {
                Some(Part::Rows(rows)) => self.rows.extend(rows.rows),
                Some(Part::End(end)) => {
                    self.is_done = true;
                    self.next = Some(end.next).filter(|next| !next.is_empty());
                }
                Some(Part::Start(_)) => return Err(ConvertError::Missing("a row").into()),
                // An answer that says nothing of its end is not whole.
                None => return Err(ConvertError::Missing("the end of an answer").into()),
            }
        }
    }

    /// Waits for all rows.
    pub async fn collect(mut self) -> Result<QueryAnswer, ReadError> {
        let mut rows = Vec::new();
        while let Some(row) = self.next().await? {
            let malformed = |_| ConvertError::from(DecodeError::invalid("a row", "it is JSON"));
            rows.push(serde_json::from_str(&row).map_err(malformed)?);
        }
        Ok(QueryAnswer {
            columns: self.columns,
            rows,
            next: self.next,
            vector: self.vector,
            is_stale: self.is_stale,
        })
    }
}

/// Asks, and waits for the beginning of the answer.
pub(crate) async fn query(shared: &Shared, query: &str) -> Result<QueryRows, ReadError> {
    let message = v1::QueryRequest {
        tenant: shared.navigator.tenant.clone(),
        query: query.to_owned(),
        vector: convert::vector_bytes(&shared.state().engine.seen().clone()),
    };
    let begun = read::call_at(shared, QUERY_DEADLINE, |address| {
        let transport = &shared.navigator.transport;
        let request = transport.request(message.clone(), None);
        let mut client = transport.queries(address);
        async move {
            let mut parts = client.query(request).await?.into_inner();
            let first = parts.next().await.transpose()?;
            Ok::<_, Status>(Response::new((first, parts)))
        }
    });
    let (first, parts) = begun.await?;
    let Some(Part::Start(start)) = first.and_then(|message: v1::QueryResponse| message.part) else {
        return Err(ConvertError::Missing("the beginning of an answer").into());
    };
    Ok(QueryRows {
        columns: start.columns,
        vector: convert::vector(&start.vector)?,
        is_stale: start.stale,
        next: None,
        is_done: false,
        rows: VecDeque::new(),
        parts,
        patience: QUERY_SILENCE_MAX.min(shared.read_deadline),
    })
}

/// Asks how a query is answered; with `analyze` the node answers it too, and counts.
pub(crate) async fn explain(shared: &Shared, query: &str, analyze: bool) -> Result<Explanation, ReadError> {
    let message = v1::ExplainRequest {
        tenant: shared.navigator.tenant.clone(),
        query: query.to_owned(),
        analyze,
    };
    let answer = read::call_at(shared, QUERY_DEADLINE, |address| {
        let transport = &shared.navigator.transport;
        let request = transport.request(message.clone(), Some(QUERY_DEADLINE));
        let mut client = transport.queries(address);
        async move { client.explain(request).await }
    });
    let v1::ExplainResponse { text, json } = answer.await?;
    Ok(Explanation { text, json })
}

/// An answer that ended before its end.
fn broken(status: &Status) -> ReadError {
    match Refusal::from_status(status) {
        Some(refusal) => ReadError::Refused(refusal),
        None => ReadError::Unreachable {
            waited: Duration::ZERO,
            last: format!("the answer broke off: {}", status.message()),
        },
    }
}
