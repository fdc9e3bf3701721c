//! Pages that a node serves beside its calls: the example apps of `halcyon dev`, under `/demo/`.
//!
//! What always holds:
//! - a node serves pages only if whoever starts it gives it a [`Site`]; `halcyon node start` never does;
//! - a request is looked up among names that were read before, so none reaches a file system, whatever its path says;
//! - the key is told to a page of this very address, on this very machine, and to nobody else.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use halcyon_core::id::RegionName;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use xxhash_rust::xxh3::xxh3_128;

use crate::{config::is_loopback, rpc::listener::Caller};

/// Where the pages are.
pub const UNDER: &str = "/demo/";

/// Files here have a hash of what they hold in their names, so that a browser never asks for one twice.
const HASHED: &str = "assets/";

/// What a browser keeps for good, as far as HTTP has a word for it.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";

/// The pages of a node; empty until they are [published](Self::publish). Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Site {
    pages: Arc<OnceLock<Pages>>,
}

/// Files by their names, and what a page needs to open the tenant.
#[derive(Debug)]
pub struct Pages {
    files: BTreeMap<String, File>,
    session: Session,
    policy: HeaderValue,
}

/// The tenant that the pages show.
pub struct Session {
    /// Its name.
    pub tenant: String,
    /// A key of it.
    pub key: String,
    /// Where else the same pages are served.
    pub regions: Vec<Region>,
}

/// One region's address for browsers.
#[derive(Debug, Clone)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Such as `http://127.0.0.1:7700`.
    pub origin: String,
}

#[derive(Debug)]
struct File {
    bytes: Bytes,
    kind: &'static str,
    tag: HeaderValue,
    keep: &'static str,
}

impl PartialEq for Site {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pages, &other.pages)
    }
}

impl Eq for Site {}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({}, {:?})", self.tenant, self.regions)
    }
}

impl Site {
    /// Serves these from now on. Pages that are served already stay.
    pub fn publish(&self, pages: Pages) {
        let _ = self.pages.set(pages);
    }

    /// What a node in `here` serves of it.
    pub(crate) fn router(&self, here: &RegionName) -> Router {
        let served = Served {
            site: self.clone(),
            here: here.to_string(),
        };
        let to_start = || async { Redirect::temporary(UNDER) };
        Router::new()
            .route("/", get(to_start))
            .route("/demo", get(to_start))
            .route("/demo/", get(page))
            .route("/demo/session.json", get(session))
            .route("/demo/{*name}", get(page))
            .with_state(served)
    }
}

impl Pages {
    /// Of files by the names under which they are asked for, such as `assets/main.js`.
    pub fn new(files: impl IntoIterator<Item = (String, Vec<u8>)>, session: Session) -> Self {
        let files = files.into_iter().map(|(name, bytes)| {
            let file = File {
                kind: kind_of(&name),
                tag: HeaderValue::from_str(&format!("\"{:032x}\"", xxh3_128(&bytes))).expect("digits are text"),
                keep: if name.starts_with(HASHED) { FOR_GOOD } else { "no-cache" },
                bytes: bytes.into(),
            };
            (name, file)
        });
        Self {
            files: files.collect(),
            policy: policy(&session.regions),
            session,
        }
    }
}

/// What the handlers know.
#[derive(Debug, Clone)]
struct Served {
    site: Site,
    here: String,
}

async fn page(State(served): State<Served>, request: Request) -> Response {
    let Some(pages) = served.site.pages.get() else {
        return not_yet();
    };
    let name = request.uri().path().strip_prefix(UNDER).unwrap_or_default();
    let name = if name.is_empty() { "index.html" } else { name };
    let Some(file) = pages.files.get(name) else {
        return (StatusCode::NOT_FOUND, "not found: there is no such page\n").into_response();
    };
    let is_known = request.headers().get(header::IF_NONE_MATCH) == Some(&file.tag);
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        file.bytes.clone().into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(file.keep));
    headers.insert(header::ETAG, file.tag.clone());
    headers.insert(header::CONTENT_SECURITY_POLICY, pages.policy.clone());
    guard(headers);
    response
}

async fn session(State(served): State<Served>, request: Request) -> Response {
    let Some(pages) = served.site.pages.get() else {
        return not_yet();
    };
    let caller = request.extensions().get::<Caller>();
    let is_local = caller.is_some_and(|caller| is_loopback(&caller.address));
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    if !is_local || !is_own_page(request.headers(), authority) {
        let text = "the key is told only to pages of this address, opened on this machine\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let regions = pages.session.regions.iter();
    let regions: Vec<_> = regions
        .map(|region| serde_json::json!({ "region": region.name, "origin": region.origin }))
        .collect();
    let (tenant, key) = (&pages.session.tenant, &pages.session.key);
    let body = serde_json::json!({ "tenant": tenant, "key": key, "here": served.here, "regions": regions });
    let kind = [
        (header::CONTENT_TYPE, kind_of("session.json")),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let mut response = (kind, body.to_string()).into_response();
    guard(response.headers_mut());
    response
}

/// Whether a page of this address asks. A page of another origin is known by what its browser says of it, and one whose
/// name was pointed at this machine by the name.
fn is_own_page(headers: &HeaderMap, authority: Option<&str>) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let Some(host) = text(header::HOST).or(authority) else {
        return false;
    };
    let is_named_local = is_loopback(host) || is_loopback(&format!("{host}:80"));
    let is_same_origin = text(header::ORIGIN).is_none_or(|origin| origin == format!("http://{host}"));
    let is_same_site = text(HeaderName::from_static("sec-fetch-site")).is_none_or(|site| site == "same-origin");
    is_named_local && is_same_origin && is_same_site
}

fn not_yet() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the pages are not built yet\n").into_response()
}

/// What no other page may do with an answer, and no browser may guess of it.
fn guard(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let own = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(own, HeaderValue::from_static("same-origin"));
}

/// A page runs its own code and calls its own node, so that it shows that region and no other; pages of the other
/// regions may show it inside themselves.
fn policy(regions: &[Region]) -> HeaderValue {
    let mut frames = "'self'".to_owned();
    for region in regions {
        frames.push(' ');
        frames.push_str(&region.origin);
    }
    let text = format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; \
         img-src 'self' data:; connect-src 'self'; frame-src {frames}; frame-ancestors {frames}; base-uri 'none'; \
         form-action 'none'"
    );
    HeaderValue::from_str(&text).expect("addresses are text")
}

fn kind_of(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use tower::ServiceExt;

    use super::*;

    const HERE: &str = "127.0.0.1:7700";

    fn site() -> Site {
        let regions = [
            ("eu-west", "http://127.0.0.1:7700"),
            ("us-east", "http://127.0.0.1:7701"),
        ];
        let session = Session {
            tenant: "demo".into(),
            key: "hk_secret".into(),
            regions: regions
                .map(|(name, origin)| Region {
                    name: name.into(),
                    origin: origin.into(),
                })
                .into(),
        };
        let files = [
            ("index.html", "<p>start"),
            ("assets/a-1.js", "1"),
            ("assets/a-1.wasm", "2"),
        ];
        let site = Site::default();
        site.publish(Pages::new(
            files.map(|(name, text)| (name.into(), text.into())),
            session,
        ));
        site
    }

    /// The answer to a browser at `from`, which says these headers.
    async fn ask(site: &Site, path: &str, from: &str, headers: &[(&'static str, &str)]) -> Response {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let caller = Caller {
            address: from.into(),
            node: None,
        };
        let request = request.extension(caller).body(Body::empty()).unwrap();
        let router = site.router(&"eu-west".parse().unwrap());
        router.oneshot(request).await.unwrap()
    }

    async fn text(response: Response) -> String {
        String::from_utf8(to_bytes(response.into_body(), 1 << 16).await.unwrap().into()).unwrap()
    }

    #[tokio::test]
    async fn a_file_has_its_type_and_is_kept_as_long_as_its_name_allows() {
        let site = site();
        for (path, kind, keep) in [
            ("/demo/", "text/html; charset=utf-8", "no-cache"),
            ("/demo/index.html", "text/html; charset=utf-8", "no-cache"),
            ("/demo/assets/a-1.js", "text/javascript; charset=utf-8", FOR_GOOD),
            ("/demo/assets/a-1.wasm", "application/wasm", FOR_GOOD),
        ] {
            let response = ask(&site, path, HERE, &[]).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], kind);
            assert_eq!(response.headers()[header::CACHE_CONTROL], keep);
            let tag = response.headers()[header::ETAG].to_str().unwrap().to_owned();
            let again = ask(&site, path, HERE, &[("if-none-match", &tag)]).await;
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
        }
        let start = ask(&site, "/", HERE, &[]).await;
        assert_eq!(start.headers()[header::LOCATION], UNDER);
    }

    #[tokio::test]
    async fn a_path_that_is_no_name_leads_nowhere() {
        let site = site();
        for path in [
            "/demo/../Cargo.toml",
            "/demo/..%2f..%2fetc/passwd",
            "/demo/%2e%2e/Cargo.toml",
            "/demo//etc/passwd",
            "/demo/assets/../index.html",
            "/demo/assets",
            "/demo/%00",
        ] {
            assert_eq!(
                ask(&site, path, HERE, &[]).await.status(),
                StatusCode::NOT_FOUND,
                "{path}"
            );
        }
    }

    #[tokio::test]
    async fn the_key_is_told_to_a_page_of_this_address_on_this_machine() {
        const FROM: &str = "127.0.0.1:50000";
        let own = [("host", HERE), ("sec-fetch-site", "same-origin")];
        check(FROM, &own, true).await;
        check(
            FROM,
            &[("host", "localhost:7700"), ("origin", "http://localhost:7700")],
            true,
        )
        .await;
        check("10.0.0.7:50000", &own, false).await;
        check(FROM, &[], false).await;
        check(
            FROM,
            &[("host", "evil.example:7700"), ("sec-fetch-site", "same-origin")],
            false,
        )
        .await;
        check(FROM, &[("host", HERE), ("sec-fetch-site", "cross-site")], false).await;
        check(FROM, &[("host", HERE), ("sec-fetch-site", "same-site")], false).await;
        check(FROM, &[("host", HERE), ("origin", "http://127.0.0.1:5173")], false).await;
    }

    async fn check(from: &str, headers: &[(&'static str, &str)], is_told: bool) {
        let response = ask(&site(), "/demo/session.json", from, headers).await;
        let text = text(response).await;
        assert_eq!(text.contains("hk_secret"), is_told, "{from} {headers:?} {text}");
    }

    #[tokio::test]
    async fn until_pages_are_there_it_says_so_and_the_key_is_in_no_log() {
        let empty = Site::default();
        for path in ["/demo/", "/demo/session.json"] {
            let response = ask(&empty, path, HERE, &[("host", HERE)]).await;
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        }
        assert!(!format!("{:?}", site()).contains("hk_secret"));
        assert_ne!(empty, Site::default());
        assert_eq!(empty, empty.clone());
    }
}
