//! Admin HTTP: what the master knows, as JSON, as metrics, as a page; and changing the settings.
//!
//! | | |
//! |---|---|
//! | `GET /` | a page for people |
//! | `GET /health` | 200 while the master answers |
//! | `GET /table` | epoch, members with their slots counted |
//! | `GET /members`, `GET /engines` | cores, and engines as their sums |
//! | `GET /metrics` | for Prometheus |
//! | `GET /settings`, `PUT /settings` | watermarks, lease, strategy; a PUT names those that change |
//! | `GET /segments` | the segments of all cores |
//! | `POST /cores`, `/cores/{engine}`, `/cores/{engine}/{core}` | asks all cores, those of an engine, or one, as `wire/admin.rs` says: `{"mount": …}`, `{"unmount": …}`, `{"evict": …}` |
//!
//! axum wants handlers that are `Send`, and the master is not. So handlers send a command through a channel, and one
//! task beside the master answers with a copy. The channel is short: whoever finds it full waits.

use crate::cores::{self, Which};
use crate::master::{Master, MasterError};
use crate::settings::SettingsChange;
use crate::view::Snapshot;
use crate::{metrics, page};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{get, post};
use snowskin_io::Platform;
use snowskin_io::sockets::SocketsPlatform;
use snowskin_protocol::Settings;
use snowskin_protocol::settings::SettingsError;
use snowskin_protocol::wire::admin::{AdminReply, AdminRequest};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::sync::{mpsc, oneshot};

const COMMANDS_MAX: usize = 64;
/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// The content type of the text format that Prometheus reads.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

enum Command {
    Look(oneshot::Sender<Snapshot>),
    Change(SettingsChange, oneshot::Sender<Result<Settings, SettingsError>>),
    Ask(Which, AdminRequest, oneshot::Sender<Replies>),
}

/// What cores have answered, by their ids.
type Replies = BTreeMap<String, AdminReply>;

/// Starts answering. Answers the address, with the real port.
pub(crate) async fn start(
    platform: &SocketsPlatform,
    address: SocketAddr,
    master: Rc<RefCell<Master>>,
) -> Result<SocketAddr, MasterError> {
    let failed = |error| MasterError::Listen { address, error };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr()?;
    let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
    platform.spawn(obey(platform.clone(), master, receiver));
    platform.spawn(async move {
        if let Err(error) = axum::serve(listener, router(Door(sender))).await {
            log::error!("admin HTTP ends: {error}");
        }
    });
    log::info!("answering HTTP on http://{address}");
    Ok(address)
}

async fn obey(platform: SocketsPlatform, master: Rc<RefCell<Master>>, mut commands: mpsc::Receiver<Command>) {
    while let Some(command) = commands.recv().await {
        let now = platform.now();
        // Whoever no longer waits for the answer has hung up; that is its business.
        match command {
            Command::Look(reply) => _ = reply.send(Snapshot::of(&master.borrow(), now)),
            Command::Change(change, reply) => {
                _ = reply.send(master.borrow_mut().change_settings(now, change));
            }
            Command::Ask(which, request, reply) => {
                let members = master.borrow().state.table().members.clone();
                let asked = cores::ask(platform.clone(), members, which, request);
                platform.spawn(async move { _ = reply.send(asked.await) });
            }
        }
    }
}

fn router(door: Door) -> Router {
    Router::new()
        .route("/", get(async |door: State<Door>| Ok::<_, Failure>(Html(page::render(&door.look().await?)))))
        .route("/health", get(health))
        .route("/table", get(async |door: State<Door>| Ok::<_, Failure>(Json(door.look().await?.table))))
        .route("/members", get(async |door: State<Door>| Ok::<_, Failure>(Json(door.look().await?.members))))
        .route("/engines", get(async |door: State<Door>| Ok::<_, Failure>(Json(door.look().await?.engines))))
        .route("/metrics", get(scrape))
        .route("/settings", get(settings).put(change_settings))
        .route("/segments", get(segments))
        .route("/cores", post(async |door: State<Door>, body: Bytes| ask(door, Which::All, body).await))
        .route("/cores/{engine}", post(ask_engine))
        .route("/cores/{engine}/{core}", post(ask_core))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(door)
}

async fn health(door: State<Door>) -> Result<impl IntoResponse, Failure> {
    let snapshot = door.look().await?;
    let members = snapshot.table.members.len();
    Ok(Json(serde_json::json!({
        "status": "ok",
        "epoch": snapshot.table.epoch,
        "members": members,
        "uptime_s": snapshot.uptime_s,
    })))
}

async fn scrape(door: State<Door>) -> Result<impl IntoResponse, Failure> {
    Ok(([(header::CONTENT_TYPE, METRICS_TYPE)], metrics::render(&door.look().await?)))
}

async fn settings(door: State<Door>) -> Result<impl IntoResponse, Failure> {
    Ok(Json(door.look().await?.settings))
}

async fn change_settings(door: State<Door>, body: Bytes) -> Result<impl IntoResponse, Failure> {
    let change = serde_json::from_slice(&body).map_err(Failure::Json)?;
    let (reply, answer) = oneshot::channel();
    door.ask(Command::Change(change, reply)).await?;
    let settings = answer.await.map_err(|_| Failure::Gone)?.map_err(Failure::Settings)?;
    Ok(Json(SettingsChange::from(settings)))
}

async fn segments(door: State<Door>) -> Result<Json<Replies>, Failure> {
    Ok(Json(door.ask_cores(Which::All, AdminRequest::Segments).await?))
}

async fn ask_engine(
    door: State<Door>,
    Path(engine): Path<String>,
    body: Bytes,
) -> Result<Json<Replies>, Failure> {
    ask(door, Which::Engine(engine), body).await
}

async fn ask_core(
    door: State<Door>,
    Path((engine, core)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Replies>, Failure> {
    ask(door, Which::Core(format!("{engine}/{core}")), body).await
}

async fn ask(door: State<Door>, which: Which, body: Bytes) -> Result<Json<Replies>, Failure> {
    let request = serde_json::from_slice(&body).map_err(Failure::AdminJson)?;
    let replies = door.ask_cores(which, request).await?;
    if replies.is_empty() { Err(Failure::NoCore) } else { Ok(Json(replies)) }
}

/// The way from the handlers to the master.
#[derive(Clone)]
struct Door(mpsc::Sender<Command>);

impl Door {
    async fn look(&self) -> Result<Snapshot, Failure> {
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Look(reply)).await?;
        answer.await.map_err(|_| Failure::Gone)
    }

    async fn ask_cores(&self, which: Which, request: AdminRequest) -> Result<Replies, Failure> {
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Ask(which, request, reply)).await?;
        answer.await.map_err(|_| Failure::Gone)
    }

    async fn ask(&self, command: Command) -> Result<(), Failure> {
        self.0.send(command).await.map_err(|_| Failure::Gone)
    }
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the master is stopping")]
    Gone,
    #[error(
        "the body must be JSON with some of high_watermark_permille, low_watermark_permille, lease_ms and \
         allocation_strategy: {0}"
    )]
    Json(serde_json::Error),
    #[error(
        "the body must be JSON, such as {{\"mount\": {{\"bytes\": 4294967296}}}}, {{\"unmount\": {{\"segment\": 1}}}}, \
         {{\"evict\": {{\"permille\": 500}}}} or \"segments\": {0}"
    )]
    AdminJson(serde_json::Error),
    #[error("there is no such core: GET /members lists those that there are")]
    NoCore,
    #[error(transparent)]
    Settings(SettingsError),
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self {
            Failure::Gone => StatusCode::SERVICE_UNAVAILABLE,
            Failure::Json(_) | Failure::AdminJson(_) | Failure::Settings(_) => StatusCode::BAD_REQUEST,
            Failure::NoCore => StatusCode::NOT_FOUND,
        };
        (status, format!("{self}\n")).into_response()
    }
}
