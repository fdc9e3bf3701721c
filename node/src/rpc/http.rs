//! The clients' port as HTTP: gRPC and gRPC-web, CORS, and the three paths for machines that watch.

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use halcyon_proto::v1::{
    admin_server::AdminServer, queries_server::QueriesServer, rooms_server::RoomsServer,
    sessions_server::SessionsServer, sync_server::SyncServer,
};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tonic::service::Routes;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::{
    Readiness, Rooms, admin,
    edge::{self, Edge},
    queries, room_calls, sessions, sync,
};
use crate::{limits::MESSAGE_BYTES_MAX, site::Site};

/// Prometheus' text form.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A browser keeps the answer to its question this long.
const PREFLIGHT_AGE: std::time::Duration = std::time::Duration::from_mins(10);

/// What the clients' port serves.
pub fn client_router(rooms: &Rooms, readiness: Readiness, site: Option<&Site>) -> Router {
    let sync = SyncServer::new(sync::SyncService::new(rooms.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let sessions = SessionsServer::new(sessions::SessionsService::new(rooms.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let admin = AdminServer::new(admin::AdminService::new(rooms.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let queries = QueriesServer::new(queries::QueriesService::new(rooms.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let room_calls = RoomsServer::new(room_calls::RoomService::new(rooms.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let edge = Edge::new(rooms.env.clone(), rooms.metrics.clone(), rooms.wire);
    let calls = Routes::new(sync)
        .add_service(sessions)
        .add_service(admin)
        .add_service(queries)
        .add_service(room_calls)
        .into_axum_router()
        .layer(from_fn_with_state(edge, edge::guard))
        .layer(tonic_web::GrpcWebLayer::new())
        .layer(cors(rooms));
    let metrics = rooms.metrics.clone();
    let metrics = move || async move { ([(header::CONTENT_TYPE, METRICS_TYPE)], metrics.text()) };
    let watched = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz).with_state(rooms.clone()))
        .route("/readyz", get(readyz).with_state(readiness));
    let pages = site.map(|site| site.router(&rooms.region)).unwrap_or_default();
    calls.merge(watched).merge(pages).layer(from_fn(bare_not_found))
}

/// tonic answers unknown paths as gRPC, or with a bare 400, which says nothing to a person with a browser.
async fn bare_not_found(request: Request, next: Next) -> Response {
    let is_call = request.method() != Method::GET;
    let response = next.run(request).await;
    // The gRPC-web layer says 400 to what is neither gRPC nor gRPC-web.
    let is_grpc = response.headers().contains_key("grpc-status") || response.status() == StatusCode::BAD_REQUEST;
    if is_call || !is_grpc {
        return response;
    }
    edge::not_found()
}

/// The process works; alarms are told, and turn it red.
async fn healthz(State(rooms): State<Rooms>) -> Response {
    let alarms = rooms.alarms.standing();
    let text: Vec<String> = alarms
        .iter()
        .map(|alarm| format!("{}: {}", alarm.kind, alarm.message))
        .collect();
    report(&text, &[])
}

/// The node wants to be sent work.
async fn readyz(State(readiness): State<Readiness>) -> Response {
    report(&readiness.reasons(), &readiness.notices())
}

/// No reasons: all is well. Notices are for people.
fn report(reasons: &[String], notices: &[String]) -> Response {
    let (code, ok) = match reasons {
        [] => (StatusCode::OK, true),
        _ => (StatusCode::SERVICE_UNAVAILABLE, false),
    };
    let body = serde_json::json!({ "ok": ok, "reasons": reasons, "notices": notices });
    (code, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

/// Pages of other origins may call where some tenant allows it; whether the tenant that is asked for allows it is
/// checked with its key.
fn cors(rooms: &Rooms) -> CorsLayer {
    let rooms = rooms.clone();
    let allowed = move |origin: &HeaderValue, _: &http::request::Parts| {
        origin
            .to_str()
            .is_ok_and(|origin| rooms.allows_origin_somewhere(origin))
    };
    let names = ["grpc-status", "grpc-message", "grpc-status-details-bin"];
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(allowed))
        .allow_methods([Method::POST, Method::OPTIONS])
        .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
        .expose_headers(names.map(HeaderName::from_static))
        .max_age(PREFLIGHT_AGE)
}
