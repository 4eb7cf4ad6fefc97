//! A call of a function by its name: what initialize and execute do, without a session.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use lambda_common::trace_context::TraceContext;
use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::functions::{no_alias, no_function, read_query, store, unavailable};
use super::observe::Facts;
use super::request::{self, FunctionPath, JsonText, UserId, json_body};
use super::{Api, Asked, Work, caller, idempotency, limit_text};
use crate::account::Account;
use crate::database::functions::NoVersion;
use crate::error::ApiError;
use crate::runtime_client::Owner;

const LATEST: &str = "latest";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallQuery {
    version: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallBody<'a> {
    #[serde(borrow, default)]
    pub params: JsonText<'a>,
    #[serde(borrow, default)]
    pub context: JsonText<'a>,
}

pub async fn call(
    State(api): State<Arc<Api>>,
    Extension(facts): Extension<Arc<Facts>>,
    Extension(trace): Extension<TraceContext>,
    FunctionPath { name, language, .. }: FunctionPath,
    UserId(user_id): UserId,
    query: Result<Query<CallQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let version_text = read_query(query)?
        .version
        .unwrap_or_else(|| LATEST.to_owned());
    let selector = request::selector(&version_text)?;
    let time_limit = request::time_limit(request.headers(), api.config.runtime_timeout)?;
    let logs_wanted = request::logs_wanted(request.headers())?;
    let idempotency_key = request::idempotency_key(request.headers())?.map(str::to_owned);
    let account = Account::of(request.headers(), user_id.as_deref());
    let body = json_body(&api, &account, request).await?;
    let parsed: CallBody<'_> = request::parse(&body)?;
    parsed.params.checked("params", api.config.max_body_size)?;
    parsed
        .context
        .checked("context", api.config.max_context_size)?;
    let functions = store(&api)?;
    let callable = functions.callable(&name, user_id.as_deref()).await;
    let callable = callable.map_err(unavailable)?.ok_or_else(no_function)?;
    let version = callable
        .choose(&selector, rand::random_range(0..100))
        .map_err(|missing| match missing {
            NoVersion::Number(number) => no_version(number),
            NoVersion::Alias(alias) => no_alias(&alias),
        })?;
    let code = functions.code(&callable, version).await;
    let code = code
        .map_err(unavailable)?
        .ok_or_else(|| no_version(version))?;
    // Nothing that anybody could execute, so all of it may be seen.
    let request_id = Uuid::new_v4();
    facts.set_request_id(request_id, Some(&callable.owner));
    let longest = api.config.runtime_call_timeout();
    let key = idempotency_key.map(|key| {
        let limit = limit_text(time_limit);
        let whole_request = [
            &b"call"[..],
            callable.owner.as_bytes(),
            name.title.as_bytes(),
            version_text.as_bytes(),
            limit.as_bytes(),
            &body,
        ];
        idempotency::Key::new(account.clone(), &account.header(), &key, &whole_request)
    });
    let asked = Asked {
        request_id,
        body,
        work: Work::Call {
            language,
            function: format!("{}/{}", callable.owner, name.title),
            version,
            code,
        },
        owner: Owner {
            caller: caller(user_id.as_deref(), request_id),
            account,
        },
        user: user_id,
        logs_wanted,
        time_limit,
        trace,
        facts: facts.clone(),
        deadline: Instant::from_std(facts.start) + longest,
    };
    let Some(key) = key else {
        return asked.run(&api).await;
    };
    let work = {
        let api = api.clone();
        async move { asked.run(&api).await.into_response() }
    };
    idempotency::once(&api, key, longest, work).await
}

fn no_version(version: i64) -> ApiError {
    ApiError::not_found(format!("the function has no version {version}"))
}
