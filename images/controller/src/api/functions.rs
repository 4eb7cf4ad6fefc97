//! Functions: every caller sees and uses them; the user who registered one replaces and removes it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::observe::Facts;
use super::request::{self, LanguageTitle, UserId, json_body};
use super::{Api, checked_script};
use crate::account::Account;
use crate::database::DatabaseUnavailable;
use crate::database::functions::{Function, FunctionStore, Registered, Removed, Script};
use crate::error::{ApiError, ErrorCode};
use crate::language::Language;
use crate::metrics::LanguageLabels;

const MOST_PER_PAGE: u32 = 100;
const LAST_PAGE: u32 = 1_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    language: Option<Language>,
    #[serde(default = "first_page")]
    page: u32,
    #[serde(default = "usual_page_size")]
    per_page: u32,
}

const fn first_page() -> u32 {
    1
}

const fn usual_page_size() -> u32 {
    20
}

#[derive(Serialize)]
pub struct FunctionList {
    functions: Vec<Function>,
    page: u32,
    per_page: u32,
    total: i64,
}

pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(facts): Extension<Arc<Facts>>,
    UserId(_): UserId,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<FunctionList>, ApiError> {
    let Query(ListQuery {
        language,
        page,
        per_page,
    }) = query.map_err(|rejection| {
        ApiError::invalid(format!(
            "the query is not as described: {}",
            rejection.body_text()
        ))
    })?;
    if !(1..=LAST_PAGE).contains(&page) || !(1..=MOST_PER_PAGE).contains(&per_page) {
        return Err(ApiError::invalid(format!(
            "page must be from 1 to {LAST_PAGE} and per_page from 1 to {MOST_PER_PAGE}"
        )));
    }
    if let Some(language) = language {
        facts.set_language(language);
    }
    let (functions, total) = store(&api)?
        .list(language, page, per_page)
        .await
        .map_err(unavailable)?;
    Ok(Json(FunctionList {
        functions,
        page,
        per_page,
        total,
    }))
}

pub async fn show(
    State(api): State<Arc<Api>>,
    Extension(facts): Extension<Arc<Facts>>,
    UserId(_): UserId,
    request: Request,
) -> Result<Json<Function>, ApiError> {
    let name = LanguageTitle::in_path(request.uri().path())?;
    facts.set_language(name.language);
    let found = store(&api)?.find(&name.title).await.map_err(unavailable)?;
    found.map(Json).ok_or_else(no_function)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegisterBody<'a> {
    #[serde(borrow)]
    script_content: &'a RawValue,
}

pub async fn register(
    State(api): State<Arc<Api>>,
    Extension(facts): Extension<Arc<Facts>>,
    UserId(user_id): UserId,
    request: Request,
) -> Result<(StatusCode, Json<Function>), ApiError> {
    let name = LanguageTitle::in_path(request.uri().path())?;
    facts.set_language(name.language);
    let owner = user_id.ok_or_else(no_user)?;
    let account = Account::of(request.headers(), Some(&owner));
    let body = json_body(&api, &account, request).await?;
    let body: RegisterBody<'_> = request::parse(&body)?;
    let script = checked_script(body.script_content, api.config.max_script_size)?;
    let registered = store(&api)?
        .register(&name.title, name.language, &owner, &script)
        .await
        .map_err(unavailable)?;
    let (status, function) = match registered {
        Registered::Created(function) => (StatusCode::CREATED, function),
        Registered::Replaced(function) => (StatusCode::OK, function),
        Registered::NotYours => return Err(not_yours()),
        Registered::TooMany => {
            return Err(ApiError::invalid(format!(
                "a user may have {} functions; remove one first",
                api.config.max_functions_per_user
            )));
        }
    };
    api.metrics
        .functions_registered
        .get_or_create(&LanguageLabels {
            language: name.language,
        })
        .inc();
    Ok((status, Json(function)))
}

#[derive(Serialize)]
pub struct FunctionRemoved {
    language_title: String,
    status: &'static str,
}

pub async fn remove(
    State(api): State<Arc<Api>>,
    Extension(facts): Extension<Arc<Facts>>,
    UserId(user_id): UserId,
    request: Request,
) -> Result<Json<FunctionRemoved>, ApiError> {
    let name = LanguageTitle::in_path(request.uri().path())?;
    facts.set_language(name.language);
    let owner = user_id.ok_or_else(no_user)?;
    let removed = store(&api)?
        .remove(&name.title, &owner)
        .await
        .map_err(unavailable)?;
    match removed {
        Removed::Gone => Ok(Json(FunctionRemoved {
            language_title: name.title,
            status: "removed",
        })),
        Removed::NotThere => Err(no_function()),
        Removed::NotYours => Err(not_yours()),
    }
}

/// The script that is registered under the name.
pub async fn registered_script(api: &Api, name: &LanguageTitle) -> Result<Script, ApiError> {
    let Some(functions) = &api.functions else {
        return Err(ApiError::invalid(
            "script_content is absent, and this controller has no database with registered functions",
        ));
    };
    let found = functions.script(&name.title).await.map_err(unavailable)?;
    found.ok_or_else(|| {
        ApiError::not_found(
            "script_content is absent, and no function is registered under this Language-Title",
        )
    })
}

fn store(api: &Api) -> Result<&FunctionStore, ApiError> {
    api.functions.as_ref().ok_or_else(|| {
        ApiError::unavailable(
            "this controller has no database, so it keeps no functions; nothing ran",
            Duration::from_secs(60),
        )
        .because("DATABASE_URL is not set")
    })
}

fn unavailable(DatabaseUnavailable(cause): DatabaseUnavailable) -> ApiError {
    ApiError::unavailable(
        "the store of functions is not available; nothing ran",
        Duration::from_secs(2),
    )
    .because(format!("PostgreSQL: {cause}"))
}

fn no_function() -> ApiError {
    ApiError::not_found("no function is registered under this name")
}

fn no_user() -> ApiError {
    ApiError::invalid(
        "the header X-User-ID is missing: a function belongs to the user who registered it",
    )
}

fn not_yours() -> ApiError {
    ApiError::new(
        ErrorCode::Forbidden,
        "another user registered this function and alone may replace or remove it",
    )
}
