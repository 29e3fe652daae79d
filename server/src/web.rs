//! The web page at `/`, what it shows as JSON at `/api/status`, and the earlier system's
//! paths. A module and not a crate: it shows what the coordinator's own parts hold, and has
//! nothing to say to anyone else.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `status` | what is shown, as one value |
//! | `cache` | one look at a time, kept for a second |
//! | `glance` | what only Kafka can tell |
//! | `page`, `chart` | that value as HTML |
//! | `compat` | that value in the earlier system's shapes |

mod cache;
mod chart;
mod compat;
mod glance;
mod page;
mod status;

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Form, Router,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{
        Html, IntoResponse, Redirect, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::get,
};
use futures::{Stream, StreamExt, stream};
use ksched_core::host::Host;
use ksched_kafka::Librdkafka;
use ksched_proto::v1::{self, schedule_request};
use ksched_telemetry::readiness::Readiness;
use rust_embed::RustEmbed;
use serde::Deserialize;
use tokio::{sync::Semaphore, time::sleep};
use tokio_util::sync::CancellationToken;

use self::{
    cache::{Cache, Shown},
    glance::Onlooker,
    page::Notice,
};
use crate::{
    activity::Teller,
    config::Config,
    leasing::Views,
    scheduler::{self, Call, Placer},
    store::CoordinatorInfo,
};

/// Nothing but our own files, no script or style in the page, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Pages that are kept up to date at once.
const LIVE_PAGES: usize = 256;
const TICK: Duration = Duration::from_secs(1);

/// The files the page needs.
#[derive(RustEmbed)]
#[folder = "web/assets"]
struct Assets;

/// Open from the beginning, when what is behind it is still to come.
#[derive(Clone, Default)]
pub(crate) struct Door {
    web: Arc<OnceLock<Arc<Web>>>,
}

/// What the page is made of.
pub(crate) struct Parts<'a> {
    pub(crate) info: CoordinatorInfo,
    pub(crate) config: &'a Config,
    pub(crate) views: Views,
    pub(crate) teller: Teller,
    pub(crate) log: Librdkafka,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) readiness: Readiness,
    pub(crate) placer: Arc<Placer>,
    pub(crate) shutdown: CancellationToken,
}

struct Web {
    info: CoordinatorInfo,
    config: Config,
    views: Views,
    teller: Teller,
    host: Arc<dyn Host>,
    readiness: Readiness,
    /// Unless the form is off.
    placer: Option<Arc<Placer>>,
    shutdown: CancellationToken,
    cache: Cache,
    live: Arc<Semaphore>,
}

#[derive(Clone)]
struct Doorway {
    door: Door,
    readiness: Readiness,
}

impl Door {
    /// Once, when everything is there.
    pub(crate) fn open(&self, parts: Parts<'_>) {
        let web = Web {
            cache: Cache::new(Onlooker::new(parts.log, &parts.config.cluster)),
            info: parts.info,
            config: parts.config.clone(),
            views: parts.views,
            teller: parts.teller,
            host: parts.host,
            readiness: parts.readiness,
            placer: parts.config.web_form.then_some(parts.placer),
            shutdown: parts.shutdown,
            live: Arc::new(Semaphore::new(LIVE_PAGES)),
        };
        // A second opening would change nothing, and there is none.
        let _ = self.web.set(Arc::new(web));
    }
}

/// Every path but those of all processes.
pub(crate) fn router(door: &Door, readiness: &Readiness) -> Router {
    let doorway = Doorway { door: door.clone(), readiness: readiness.clone() };
    Router::new()
        .route("/", get(index))
        // Where a browser is after it has sent the form.
        .route("/schedule", get(|| async { Redirect::to("/") }).post(schedule))
        .route("/assets/{file}", get(asset))
        .route("/config", get(config))
        .route("/api/status", get(api_status))
        .route("/api/events", get(events))
        .route("/api/jq", get(job_queue))
        .route("/api/wq", get(worker_queue))
        .route("/api/job_log", get(job_log))
        .layer(middleware::from_fn(guard))
        .with_state(doorway)
}

async fn guard(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // With `no-referrer` a browser sends our own form with `Origin: null`.
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Doorway {
    fn web(&self) -> Result<Arc<Web>, Starting> {
        self.door.web.get().cloned().ok_or_else(|| Starting(self.readiness.complaints()))
    }
}

/// What the coordinator waits for.
struct Starting(String);

impl IntoResponse for Starting {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("starting\n{}", self.0)).into_response()
    }
}

async fn index(State(doorway): State<Doorway>) -> Result<Response, Starting> {
    let web = doorway.web()?;
    let shown = web.cache.get(&web).await;
    Ok(Html(page::whole(&shown, web.placer.is_some(), None)).into_response())
}

async fn asset(Path(file): Path<String>) -> Response {
    let Some(found) = Assets::get(&file) else { return StatusCode::NOT_FOUND.into_response() };
    let kind = match file.rsplit_once('.').map(|(_, ending)| ending) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    ([(header::CONTENT_TYPE, kind)], found.data.into_owned()).into_response()
}

async fn api_status(State(doorway): State<Doorway>) -> Result<Response, Starting> {
    let web = doorway.web()?;
    Ok(json(&web.cache.get(&web).await.status))
}

async fn config(State(doorway): State<Doorway>) -> Result<Response, Starting> {
    Ok(json(&compat::config(&doorway.web()?.config)))
}

async fn job_queue(State(doorway): State<Doorway>) -> Result<Response, Starting> {
    let web = doorway.web()?;
    Ok(json(&compat::job_queue(&web.config.cluster, &web.cache.get(&web).await.status)))
}

async fn worker_queue(State(doorway): State<Doorway>) -> Result<Response, Starting> {
    let web = doorway.web()?;
    Ok(json(&compat::worker_queue(&web.config.cluster, &web.cache.get(&web).await.status)))
}

async fn job_log(
    State(doorway): State<Doorway>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, Starting> {
    let web = doorway.web()?;
    let (cluster, shown) = (&web.config.cluster, web.cache.get(&web).await);
    if shown.status.job_log.is_none() {
        let why = shown.status.unknown.join("\n");
        return Ok(
            (StatusCode::SERVICE_UNAVAILABLE, format!("the job log is not known\n{why}\n")).into_response()
        );
    }
    Ok(match query.get("format").map(String::as_str) {
        Some("json") => json(&compat::job_log_json(cluster, &shown.job_log)),
        _ => compat::job_log_csv(cluster, &shown.job_log).into_response(),
    })
}

/// The parts of the page that have changed, each second.
async fn events(State(doorway): State<Doorway>) -> Result<Response, Starting> {
    let web = doorway.web()?;
    let Ok(permit) = Arc::clone(&web.live).try_acquire_owned() else {
        return Ok((StatusCode::SERVICE_UNAVAILABLE, "too many live pages\n").into_response());
    };
    let shutdown = web.shutdown.clone();
    let changes = stream::unfold((web, None), |(web, before): (Arc<Web>, Option<Arc<Shown>>)| async move {
        if before.is_some() {
            sleep(TICK).await;
        }
        let shown = web.cache.get(&web).await;
        let changed = page::changes(before.as_deref(), &shown);
        Some((stream::iter(changed.into_iter().map(event)), (web, Some(shown))))
    });
    // The permit lives as long as the stream.
    let changes = changes.flatten().map(move |event| (&permit, event).1);
    Ok(live(changes.take_until(shutdown.cancelled_owned())).into_response())
}

fn live(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> impl IntoResponse {
    Sse::new(events).keep_alive(KeepAlive::default())
}

fn event(data: String) -> Result<Event, Infallible> {
    Ok(Event::default().event("section").data(data))
}

/// What the form says.
#[derive(Deserialize)]
struct Wish {
    topic: String,
    key: String,
    value: String,
    /// Seconds.
    delay: u32,
}

async fn schedule(
    State(doorway): State<Doorway>,
    headers: HeaderMap,
    Form(wish): Form<Wish>,
) -> Result<Response, Starting> {
    let web = doorway.web()?;
    let Some(placer) = &web.placer else {
        return Ok((StatusCode::NOT_FOUND, "the form is off: --web-form turns it on\n").into_response());
    };
    if !is_from_our_page(&headers) {
        return Ok((StatusCode::FORBIDDEN, "only from our own page\n").into_response());
    }
    let request = v1::ScheduleRequest {
        topic: wish.topic,
        record_key: (!wish.key.is_empty()).then_some(schedule_request::RecordKey::KeyText(wish.key)),
        record_value: Some(schedule_request::RecordValue::ValueText(wish.value)),
        when: Some(schedule_request::When::Delay(prost_types::Duration {
            seconds: wish.delay.into(),
            nanos: 0,
        })),
        ..v1::ScheduleRequest::default()
    };
    let (status, notice) = match placer.schedule_one(request, Call::default()).await {
        Ok(told) => (StatusCode::OK, Notice::scheduled(&told)),
        Err(why) => (refusal(&why), Notice::refused(why.to_string())),
    };
    let shown = web.cache.get(&web).await;
    Ok((status, Html(page::whole(&shown, true, Some(&notice)))).into_response())
}

fn refusal(why: &scheduler::Error) -> StatusCode {
    match why {
        scheduler::Error::Invalid(_) | scheduler::Error::NotBuilt { .. } => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// A page elsewhere must not schedule by the hand of somebody who looks at it. What sends
/// neither header is no browser.
fn is_from_our_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let same_site = text(header::HeaderName::from_static("sec-fetch-site"));
    let origin = text(header::ORIGIN).map(|origin| origin.split_once("://").map_or(origin, |(_, host)| host));
    same_site.is_none_or(|site| site == "same-origin")
        && origin.is_none_or(|host| text(header::HOST) == Some(host))
}

fn json(value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_ours_alone() {
        let from = |pairs: &[(&'static str, &'static str)]| {
            is_from_our_page(&pairs.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect())
        };
        assert!(from(&[("host", "h:8000"), ("origin", "http://h:8000"), ("sec-fetch-site", "same-origin")]));
        assert!(from(&[("host", "h:8000")]));
        assert!(!from(&[("host", "h:8000"), ("origin", "http://evil.example")]));
        assert!(!from(&[("host", "h:8000"), ("origin", "null")]));
        assert!(!from(&[("host", "h:8000"), ("sec-fetch-site", "cross-site")]));
    }
}
