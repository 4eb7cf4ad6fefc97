//! The HTTP API. openapi.yaml describes it, and a test holds the two together.

mod call;
mod environment;
mod first_answers;
mod functions;
mod idempotency;
mod observe;
mod request;
mod secrets;

use std::borrow::Cow;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use axum::{Extension, Json, Router};
use jiff::Timestamp;
use lambda_common::shutdown::Lifecycle;
use lambda_common::trace_context::TraceContext;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::account::Account;
use crate::bodies::{self, Bodies};
use crate::config::Config;
use crate::database::Database;
use crate::database::functions::{Code, FunctionStore, Terms};
use crate::database::records::{Records, Row, SessionRow};
use crate::database::secrets::SecretStore;
use crate::error::ApiError;
use crate::language::{Language, PerLanguage};
use crate::leases::{Lease, Leases};
use crate::metrics::{LanguageLabels, Metrics, ShedLabels};
use crate::redis_master::{RedisMaster, RedisUnavailable};
use crate::runtime_client::{Execution, Order, Owner, RuntimeClient};
use crate::session::{self, Session, StoredSession};
use crate::store::{Kept, Refusal, Store};
use first_answers::FirstAnswers;
use observe::Facts;
use request::{JsonText, LanguageTitle, ReceivedBody, UserId, json_body, session_id};

/// Within the second that a kubelet's probe waits by default.
const READINESS_TIMEOUT: Duration = Duration::from_millis(800);
const SHED_RETRY_AFTER: Duration = Duration::from_secs(1);

pub struct Api {
    config: Config,
    redis: Arc<RedisMaster>,
    store: Store,
    database: Option<Arc<Database>>,
    functions: Option<FunctionStore>,
    secrets: Option<SecretStore>,
    leases: Leases,
    records: Records,
    runtimes: RuntimeClient,
    metrics: Arc<Metrics>,
    lifecycle: Lifecycle,
    first_answers: FirstAnswers,
    requests: Semaphore,
    bodies: Arc<Bodies>,
    /// A limit for each language: a slow runtime holds up callers of its own language alone.
    executions: PerLanguage<Semaphore>,
    /// Executions that go on although their caller went away.
    pub unfinished: TaskTracker,
    /// Ends them with this value.
    _tasks: JoinSet<()>,
}

impl Api {
    /// Needs a tokio runtime: the connections are opened in the background.
    pub fn new(
        config: Config,
        metrics: Arc<Metrics>,
        lifecycle: Lifecycle,
        database: Option<Arc<Database>>,
        records: Records,
    ) -> Self {
        let mut tasks = JoinSet::new();
        if let Some(database) = &database {
            database.watch(&mut tasks);
        }
        let functions = database.clone().map(|database| {
            FunctionStore::new(
                database,
                config.max_functions_per_user,
                config.max_versions_per_function,
            )
        });
        let secrets = database.clone().zip(config.secrets.clone());
        let secrets = secrets.map(|(database, config)| SecretStore::new(database, config));
        let redis = Arc::new(RedisMaster::new(&config.redis, metrics.clone()));
        let executions = || Semaphore::new(config.max_concurrent_executions);
        let bodies = Arc::new(Bodies::new(config.max_bodies_in_memory));
        Api {
            leases: Leases::new(redis.clone(), config.redis.timeout),
            secrets,
            store: Store::new(redis.clone(), &config.redis, config.kept, metrics.clone()),
            runtimes: RuntimeClient::new(&config, bodies.clone(), metrics.clone()),
            requests: Semaphore::new(config.max_concurrent_requests),
            bodies,
            executions: PerLanguage {
                nodejs: executions(),
                python: executions(),
                rust: executions(),
            },
            redis,
            database,
            functions,
            records,
            metrics,
            lifecycle,
            first_answers: FirstAnswers::new(),
            unfinished: TaskTracker::new(),
            config,
            _tasks: tasks,
        }
    }
}

/// What the API offers: the only list of it, from which the routes, the metrics' labels and the test of openapi.yaml
/// come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Initialize,
    Execute,
    Session,
    ListFunctions,
    ShowFunction,
    RegisterFunction,
    RemoveFunction,
    CallFunction,
    ListVersions,
    ListAliases,
    ShowAlias,
    SetAlias,
    RemoveAlias,
    ListSecrets,
    PutSecret,
    RemoveSecret,
    Health,
    Ready,
}

const FUNCTIONS: &str = "/api/v1/functions";
const OWNED: &str = "/api/v1/functions/{owner}";

impl Operation {
    pub const ALL: [Operation; 18] = [
        Operation::Initialize,
        Operation::Execute,
        Operation::Session,
        Operation::ListFunctions,
        Operation::ShowFunction,
        Operation::RegisterFunction,
        Operation::RemoveFunction,
        Operation::CallFunction,
        Operation::ListVersions,
        Operation::ListAliases,
        Operation::ShowAlias,
        Operation::SetAlias,
        Operation::RemoveAlias,
        Operation::ListSecrets,
        Operation::PutSecret,
        Operation::RemoveSecret,
        Operation::Health,
        Operation::Ready,
    ];

    pub const fn path(self) -> &'static str {
        match self {
            Operation::Initialize => "/api/v1/initialize",
            Operation::Execute => "/api/v1/execute/{request_id}",
            Operation::Session => "/api/v1/sessions/{request_id}",
            Operation::ListFunctions => FUNCTIONS,
            Operation::ShowFunction
            | Operation::RegisterFunction
            | Operation::RemoveFunction
            | Operation::CallFunction => "/api/v1/functions/{language_title}",
            Operation::ListVersions => "/api/v1/functions/{language_title}/versions",
            Operation::ListAliases => "/api/v1/functions/{language_title}/aliases",
            Operation::ShowAlias | Operation::SetAlias | Operation::RemoveAlias => {
                "/api/v1/functions/{language_title}/aliases/{alias}"
            }
            Operation::ListSecrets => "/api/v1/secrets",
            Operation::PutSecret | Operation::RemoveSecret => "/api/v1/secrets/{name}",
            Operation::Health => "/health",
            Operation::Ready => "/ready",
        }
    }

    /// All paths: what concerns one function has another, with the function's owner.
    pub fn paths(self) -> impl Iterator<Item = String> {
        let path = self.path();
        let one = path.strip_prefix(FUNCTIONS).filter(|rest| !rest.is_empty());
        let owned = one.map(|rest| format!("{OWNED}{rest}"));
        [path.to_owned()].into_iter().chain(owned)
    }

    pub const fn method(self) -> Method {
        match self {
            Operation::Initialize | Operation::Execute | Operation::CallFunction => Method::POST,
            Operation::RegisterFunction | Operation::SetAlias | Operation::PutSecret => Method::PUT,
            Operation::RemoveFunction | Operation::RemoveAlias | Operation::RemoveSecret => {
                Method::DELETE
            }
            Operation::Session
            | Operation::ListFunctions
            | Operation::ShowFunction
            | Operation::ListVersions
            | Operation::ListAliases
            | Operation::ShowAlias
            | Operation::ListSecrets
            | Operation::Health
            | Operation::Ready => Method::GET,
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Operation::Initialize => "initialize",
            Operation::Execute => "execute",
            Operation::Session => "session",
            Operation::ListFunctions => "list_functions",
            Operation::ShowFunction => "show_function",
            Operation::RegisterFunction => "register_function",
            Operation::RemoveFunction => "remove_function",
            Operation::CallFunction => "call_function",
            Operation::ListVersions => "list_versions",
            Operation::ListAliases => "list_aliases",
            Operation::ShowAlias => "show_alias",
            Operation::SetAlias => "set_alias",
            Operation::RemoveAlias => "remove_alias",
            Operation::ListSecrets => "list_secrets",
            Operation::PutSecret => "put_secret",
            Operation::RemoveSecret => "remove_secret",
            Operation::Health => "health",
            Operation::Ready => "ready",
        }
    }

    const fn is_probe(self) -> bool {
        matches!(self, Operation::Health | Operation::Ready)
    }

    fn handler(self) -> MethodRouter<Arc<Api>> {
        match self {
            Operation::Initialize => post(initialize),
            Operation::Execute => post(execute),
            Operation::Session => get(show_session),
            Operation::ListFunctions => get(functions::list),
            Operation::ShowFunction => get(functions::show),
            Operation::RegisterFunction => put(functions::register),
            Operation::RemoveFunction => delete(functions::remove),
            Operation::CallFunction => post(call::call),
            Operation::ListVersions => get(functions::list_versions),
            Operation::ListAliases => get(functions::list_aliases),
            Operation::ShowAlias => get(functions::show_alias),
            Operation::SetAlias => put(functions::set_alias),
            Operation::RemoveAlias => delete(functions::remove_alias),
            Operation::ListSecrets => get(secrets::list),
            Operation::PutSecret => put(secrets::put),
            Operation::RemoveSecret => delete(secrets::remove),
            Operation::Health => get(health),
            Operation::Ready => get(readiness),
        }
    }
}

pub fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new();
    for operation in Operation::ALL {
        let mut handler = operation.handler();
        if !operation.is_probe() {
            handler = handler.route_layer(from_fn_with_state(api.clone(), admit));
        }
        for path in operation.paths() {
            router = router.route(&path, handler.clone());
        }
    }
    router
        .method_not_allowed_fallback(|| ready(ApiError::method_not_allowed()))
        .fallback(|| ready(ApiError::not_found("there is nothing at this path")))
        .layer(from_fn_with_state(api.clone(), observe::observe))
        .with_state(api)
}

/// Refuses at once what is beyond the limit, before its body is read: memory stays bounded, and a caller learns soon
/// that it should come back later.
async fn admit(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    match api.requests.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => shed(&api, "requests", "the controller is busy").into_response(),
    }
}

fn shed(api: &Api, limit: &'static str, message: &str) -> ApiError {
    api.metrics
        .requests_shed
        .get_or_create(&ShedLabels { limit })
        .inc();
    ApiError::unavailable(message, SHED_RETRY_AFTER)
}

fn store_unavailable(RedisUnavailable(cause): RedisUnavailable) -> ApiError {
    ApiError::unavailable(
        "the session store is not available; nothing ran",
        Duration::from_secs(2),
    )
    .because(format!("Redis: {cause}"))
}

fn refused(api: &Api, refusal: Refusal) -> ApiError {
    let limits = api.store.limits();
    let retry = |seconds: u64| Duration::from_secs(seconds.min(3600));
    match refusal {
        Refusal::Keys(seconds) => ApiError::rate_limited(
            format!(
                "this caller keeps {} sessions, scripts and answers, which is the most; the first of them expires in \
                 {seconds} s; nothing ran",
                limits.keys
            ),
            retry(seconds),
        ),
        Refusal::Bytes(seconds) => ApiError::rate_limited(
            format!(
                "the sessions, scripts and answers of this caller take all of the {} bytes that they may; the first of \
                 them expires in {seconds} s; nothing ran",
                limits.bytes
            ),
            retry(seconds),
        ),
        Refusal::Anonymous(seconds) => ApiError::rate_limited(
            format!(
                "the sessions, scripts and answers of all callers without a user take all of the {} bytes that they \
                 may; the first of them expires in {seconds} s; nothing ran",
                limits.anonymous_bytes
            ),
            retry(seconds),
        ),
        Refusal::Full => ApiError::unavailable(
            "the session store is full; nothing ran",
            Duration::from_secs(30),
        )
        .because("Redis is beyond nine tenths of its maxmemory"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InitializeBody<'a> {
    #[serde(borrow, default)]
    context: JsonText<'a>,
    /// Where it is absent, the function that is registered under the title is meant. `null` is not absent.
    #[serde(borrow, default, deserialize_with = "present")]
    script_content: Option<&'a RawValue>,
}

fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(json: D) -> Result<Option<T>, D::Error> {
    T::deserialize(json).map(Some)
}

#[derive(Serialize)]
struct Initialized {
    request_id: Uuid,
    status: &'static str,
    expires_at: Timestamp,
}

async fn initialize(
    State(api): State<Arc<Api>>,
    Extension(facts): Extension<Arc<Facts>>,
    name: LanguageTitle,
    UserId(user_id): UserId,
    request: Request,
) -> Result<Json<Initialized>, ApiError> {
    let language = name.language;
    facts.set_language(language);
    let account = Account::of(request.headers(), user_id.as_deref());
    let body = json_body(&api, &account, request).await?;
    let body: InitializeBody<'_> = request::parse(&body)?;
    let context = body
        .context
        .checked("context", api.config.max_context_size)?;
    let (stored, registered);
    let (script_content, script_size) = match body.script_content {
        Some(script) => {
            registered = None;
            (
                script,
                checked_script(script, api.config.max_script_size)?.len(),
            )
        }
        None => {
            let script = functions::registered_script(&api, &name, user_id.as_deref()).await?;
            stored = json_string(&script.content)?;
            let size = script.content.len();
            registered = Some(script);
            (&*stored, size)
        }
    };
    let registered = registered.as_ref();
    let environment = registered.and_then(|script| script.environment.as_deref());
    let terms = registered.map(|script| &script.terms);
    let mut own: Vec<_> = environment
        .map(|text| ("environment", text))
        .into_iter()
        .collect();
    if terms.is_some_and(|terms| !terms.secrets.is_empty()) {
        // Their place; each execution gets them as they are then.
        own.push(("secrets", JsonText::default().text()));
    }
    let context = environment::within(context, &own)?;
    let request_id = Uuid::new_v4();
    facts.set_request_id(request_id, user_id.as_deref());
    let created_at = now_in_milliseconds();
    let expires_at = session::expires_at(created_at, api.config.session_expiry);
    let session = Session {
        language,
        language_title: name.title.as_str().into(),
        user_id: user_id.as_deref().map(Into::into),
        created_at,
        expires_at,
        script_size,
        time_limit_ms: registered
            .and_then(|script| script.time_limit)
            .map(|limit| limit.as_millis() as u64),
        terms: terms.filter(|terms| terms.hold_anything()).cloned(),
        context: &context,
    };
    let expiry = api.config.session_expiry;
    let saved = session::save(
        &api.store,
        &account,
        expiry,
        request_id,
        &session,
        script_content,
    );
    if let Kept::Refused(refusal) = saved.await.map_err(store_unavailable)? {
        return Err(refused(&api, refusal));
    }
    api.metrics
        .sessions_created
        .get_or_create(&LanguageLabels { language })
        .inc();
    api.records.leave(Row::Session(SessionRow {
        request_id: match user_id {
            Some(_) => request_id,
            None => observe::masked(request_id),
        },
        language,
        language_title: name.title,
        user_id,
        function_version: terms.map(|terms| terms.version),
        script_size_bytes: script_size,
        created_at,
        expires_at,
    }));
    Ok(Json(Initialized {
        request_id,
        status: "initialized",
        expires_at,
    }))
}

fn now_in_milliseconds() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// The script itself, of which its JSON text has more bytes.
fn checked_script(script: &RawValue, limit: usize) -> Result<String, ApiError> {
    let script: String = serde_json::from_str(script.get())
        .map_err(|_| ApiError::invalid("script_content must be a string of Unicode characters"))?;
    if script.trim().is_empty() {
        return Err(ApiError::invalid("script_content is empty"));
    }
    if script.len() > limit {
        let size = script.len();
        return Err(ApiError::too_large(format!(
            "script_content has {size} bytes; at most {limit} are taken"
        )));
    }
    Ok(script)
}

fn json_string(script: &[u8]) -> Result<Box<RawValue>, ApiError> {
    let broken = |cause: &str| ApiError::internal("the registered script cannot be read", cause);
    let script = std::str::from_utf8(script).map_err(|_| broken("it is not UTF-8"))?;
    serde_json::value::to_raw_value(script).map_err(|_| broken("it cannot be put into JSON"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExecuteBody<'a> {
    #[serde(borrow, default)]
    params: JsonText<'a>,
}

#[derive(Serialize)]
struct Executed {
    result: Box<RawValue>,
    request_id: Uuid,
    /// Of the function, where one was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i64>,
    execution_time_ms: serde_json::Number,
    memory_usage_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<String>,
}

async fn execute(
    State(api): State<Arc<Api>>,
    Extension(facts): Extension<Arc<Facts>>,
    Extension(trace): Extension<TraceContext>,
    UserId(user_id): UserId,
    request: Request,
) -> Result<Response, ApiError> {
    let request_id = session_id(request.uri().path())?;
    facts.set_request_id(request_id, None);
    let time_limit = request::time_limit(request.headers(), api.config.runtime_timeout)?;
    let logs_wanted = request::logs_wanted(request.headers())?;
    let idempotency_key = request::idempotency_key(request.headers())?.map(str::to_owned);
    let account = Account::of(request.headers(), user_id.as_deref());
    let body = json_body(&api, &account, request).await?;
    let parsed: ExecuteBody<'_> = request::parse(&body)?;
    parsed.params.checked("params", api.config.max_body_size)?;
    let stored = find_session(&api, request_id).await?;
    let session = owned_session(&stored, user_id.as_deref())?;
    facts.set_request_id(request_id, session.user_id.as_deref());
    facts.set_language(session.language);
    let owner = Owner {
        caller: caller(session.user_id.as_deref(), request_id),
        account: account.clone(),
    };
    let longest = api.config.runtime_call_timeout();
    let asked = Asked {
        request_id,
        body,
        work: Work::Session(stored),
        owner,
        user: user_id,
        logs_wanted,
        time_limit,
        trace,
        facts: facts.clone(),
        // All together stay within what any request may take, which is what the edge waits for.
        deadline: Instant::from_std(facts.start) + longest,
    };
    let Some(key) = idempotency_key else {
        return asked.run(&api).await;
    };
    let limit = limit_text(time_limit);
    let whole_request = [&request_id.as_bytes()[..], limit.as_bytes(), &*asked.body];
    let key = idempotency::Key::new(account, &asked.owner.caller, &key, &whole_request);
    let work = {
        let api = api.clone();
        async move { asked.run(&api).await.into_response() }
    };
    idempotency::once(&api, key, longest, work).await
}

/// As a part of what an Idempotency-Key stands for.
fn limit_text(limit: Option<Duration>) -> String {
    limit.map_or_else(String::new, |limit| limit.as_nanos().to_string())
}

/// What is to be executed.
enum Work {
    Session(StoredSession),
    /// A version of a function; the context is in the body.
    Call {
        language: Language,
        /// OWNER/NAME
        function: String,
        version: i64,
        code: Arc<Code>,
    },
}

/// An execution that somebody asks for who may.
struct Asked {
    request_id: Uuid,
    body: ReceivedBody,
    work: Work,
    owner: Owner,
    user: Option<String>,
    logs_wanted: bool,
    time_limit: Option<Duration>,
    trace: TraceContext,
    facts: Arc<Facts>,
    deadline: Instant,
}

impl Asked {
    /// Once the body is checked.
    async fn run(mut self, api: &Api) -> Result<Response, ApiError> {
        let room = self.body.room.take();
        let (session, body, mut context, script);
        let (language, function, version, own_limit, terms, params) = match &self.work {
            Work::Session(stored) => {
                session = stored.session().map_err(unreadable)?;
                script = stored.script().map_err(unreadable)?;
                context = Cow::Borrowed(session.context);
                (
                    session.language,
                    session.language_title.to_string(),
                    None,
                    session.time_limit(),
                    session.terms.as_ref(),
                    request::parse::<ExecuteBody<'_>>(&self.body)?.params.text(),
                )
            }
            Work::Call {
                language,
                function,
                version,
                code,
            } => {
                body = request::parse::<call::CallBody<'_>>(&self.body)?;
                script = &code.script;
                let environment = code.environment.as_deref();
                let own: Vec<_> = environment
                    .map(|text| ("environment", text))
                    .into_iter()
                    .collect();
                context = environment::within(body.context.text(), &own)?;
                (
                    *language,
                    format!("{function} version {version}"),
                    Some(*version),
                    code.time_limit,
                    Some(&code.terms),
                    body.params.text(),
                )
            }
        };
        let Ok(_permit) = api.executions.get(language).try_acquire() else {
            let message = format!("too many {language} executions at once");
            return Err(shed(api, "executions", &message));
        };
        let mut caller = self.owner.caller;
        let (_lease, memory_limit);
        if let Some(terms) = terms {
            let most = api.config.runtime_memory;
            memory_limit = terms.memory_bytes.filter(|bytes| *bytes < most);
            _lease = lease(api, terms, self.deadline).await?;
            let given = secrets::given(api, terms, self.user.as_deref()).await?;
            if let Some(given) = given {
                let merged = environment::within(&context, &[("secrets", &given.values)])?;
                context = Cow::Owned(merged.into_owned());
                caller = caller_given(&caller, terms, given.changed);
            }
        } else {
            (_lease, memory_limit) = (None, None);
        }
        let execution = Execution {
            request_id: self.request_id,
            params,
            context: &context,
            script_content: script,
        };
        // The caller's, or the function's where that is shorter; both may be absent.
        let time_limit = [self.time_limit, own_limit].into_iter().flatten().min();
        // The limit is the script's: a slow body or a failover of Redis takes nothing of it.
        let deadline = match time_limit {
            Some(limit) => self
                .deadline
                .min(Instant::now() + api.config.call_timeout(limit)),
            None => self.deadline,
        };
        let order = Order {
            language,
            owner: Owner {
                caller,
                account: self.owner.account,
            },
            function: &function,
            logs_wanted: self.logs_wanted,
            time_limit,
            memory_limit,
            deadline,
            trace: &self.trace,
            room,
        };
        let asked = Instant::now();
        let executed = api.runtimes.execute(order, &execution).await;
        self.facts.set_runtime(asked.elapsed());
        let executed = executed.map_err(|failure| failure.into_api_error(language))?;
        let answer = serde_json::to_vec(&Executed {
            result: executed.result,
            request_id: self.request_id,
            version,
            execution_time_ms: executed.execution_time_ms,
            memory_usage_bytes: executed.memory_usage_bytes,
            logs: executed.logs,
        });
        let answer = answer.expect("JSON texts in a struct are JSON");
        let json = [(header::CONTENT_TYPE, "application/json")];
        Ok((json, bodies::held(answer, executed.room)).into_response())
    }
}

/// Who may share a process: a user's executions, or without a user those of one session, or one call alone.
fn caller(user_id: Option<&str>, request_id: Uuid) -> HeaderValue {
    let caller = match user_id {
        Some(user_id) => format!("user {user_id}"),
        None => format!("session {request_id}"),
    };
    HeaderValue::try_from(caller).expect("a user's id was checked to be visible ASCII when it came")
}

/// With the secrets of a function: no process has them that has run for anything else, or has seen what they were before.
fn caller_given(caller: &HeaderValue, terms: &Terms, changed: Timestamp) -> HeaderValue {
    let caller = caller.to_str().unwrap_or_default();
    let Terms {
        owner, function_id, ..
    } = terms;
    let changed = changed.as_millisecond();
    HeaderValue::try_from(format!(
        "{caller} secrets of {function_id} {owner} {changed}"
    ))
    .expect("all parts were checked to be visible ASCII when they came")
}

/// A place among the executions of a version that has a limit on them, over all replicas.
async fn lease(api: &Api, terms: &Terms, deadline: Instant) -> Result<Option<Lease>, ApiError> {
    let Some(most) = terms.max_concurrency else {
        return Ok(None);
    };
    let key = format!("lambda:running:{}:{}", terms.function_id, terms.version);
    // Nothing runs for longer; a second more for what says so.
    let lasting = deadline.saturating_duration_since(Instant::now()) + Duration::from_secs(1);
    let taken = api.leases.take(key, most, lasting).await;
    match taken.map_err(store_unavailable)? {
        Some(lease) => Ok(Some(lease)),
        None => Err(ApiError::rate_limited(
            format!(
                "version {} of the function runs {most} times already, which is the most at once (max_concurrency); \
                 nothing ran",
                terms.version
            ),
            SHED_RETRY_AFTER,
        )),
    }
}

#[derive(Serialize)]
struct SessionView<'a> {
    request_id: Uuid,
    status: &'static str,
    language: Language,
    language_title: &'a str,
    script_size_bytes: usize,
    created_at: Timestamp,
    expires_at: Timestamp,
}

async fn show_session(
    State(api): State<Arc<Api>>,
    Extension(facts): Extension<Arc<Facts>>,
    UserId(user_id): UserId,
    request: Request,
) -> Result<Response, ApiError> {
    let request_id = session_id(request.uri().path())?;
    facts.set_request_id(request_id, None);
    let stored = find_session(&api, request_id).await?;
    let session = owned_session(&stored, user_id.as_deref())?;
    facts.set_request_id(request_id, session.user_id.as_deref());
    facts.set_language(session.language);
    let view = SessionView {
        request_id,
        status: "initialized",
        language: session.language,
        language_title: &session.language_title,
        script_size_bytes: session.script_size,
        created_at: session.created_at,
        expires_at: session.expires_at,
    };
    Ok(Json(view).into_response())
}

async fn find_session(api: &Api, request_id: Uuid) -> Result<StoredSession, ApiError> {
    let found = session::find(&api.store, request_id).await;
    found.map_err(store_unavailable)?.ok_or_else(no_session)
}

/// Another user's session is not found, rather than forbidden: its existence is nobody else's business.
fn owned_session<'a>(
    stored: &'a StoredSession,
    user_id: Option<&str>,
) -> Result<Session<'a>, ApiError> {
    let session = stored.session().map_err(unreadable)?;
    if session.belongs_to(user_id) {
        Ok(session)
    } else {
        Err(no_session())
    }
}

fn unreadable(error: serde_json::Error) -> ApiError {
    let cause = format!(
        "the stored session cannot be read (column {})",
        error.column()
    );
    ApiError::internal("the stored session cannot be read", cause)
}

fn no_session() -> ApiError {
    ApiError::not_found("there is no such session, or it has expired")
}

async fn health() -> impl IntoResponse {
    Json(json!({"status": "ok"}))
}

/// Ready is a replica that can keep sessions and is not shutting down. A runtime or a database that is away is shown, but
/// only its language or registered functions suffer from it, so the replica stays. A new one waits for their first answers.
async fn readiness(State(api): State<Arc<Api>>) -> Response {
    let deadline = Instant::now() + READINESS_TIMEOUT;
    let check = |language| api.runtimes.check(language, deadline);
    let (redis, nodejs, python, rust) = tokio::join!(
        api.redis.ping(deadline),
        check(Language::Nodejs),
        check(Language::Python),
        check(Language::Rust)
    );
    let part = |state: &Result<(), String>| match state {
        Ok(()) => json!({"status": "up"}),
        Err(message) => json!({"status": "down", "message": message}),
    };
    let redis = redis.map_err(|RedisUnavailable(cause)| cause);
    let database = api.database.as_ref().map(|database| database.state());
    let answers = [
        ("redis", redis.is_ok()),
        ("database", database.as_ref().is_none_or(Result::is_ok)),
        ("nodejs-runtime", nodejs.is_ok()),
        ("python-runtime", python.is_ok()),
        ("rust-runtime", rust.is_ok()),
    ];
    let awaited = api.first_answers.awaited(&answers);
    let database = match &database {
        Some(state) => part(state),
        None => json!({"status": "off"}),
    };
    let parts = json!({
        "redis": part(&redis),
        "database": database,
        "nodejs-runtime": part(&nodejs),
        "python-runtime": part(&python),
        "rust-runtime": part(&rust),
    });
    let problem = match &redis {
        _ if api.lifecycle.is_draining() => "this replica is shutting down".to_owned(),
        Err(cause) => format!("redis is down: {cause}"),
        Ok(()) if !awaited.is_empty() => {
            let awaited = awaited.join(", ");
            format!("this replica is new and waits for a first answer of: {awaited}")
        }
        Ok(()) => return Json(json!({"status": "ready", "parts": parts})).into_response(),
    };
    let body = json!({
        "status": "not_ready",
        "parts": parts,
        "error": {"code": crate::error::ErrorCode::Unavailable.name(), "message": problem},
    });
    let retry_after = [(header::RETRY_AFTER, HeaderValue::from_static("1"))];
    (StatusCode::SERVICE_UNAVAILABLE, retry_after, Json(body)).into_response()
}
