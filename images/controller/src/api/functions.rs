//! Functions: who may see one uses it; the user who registered it changes and removes it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::observe::Facts;
use super::request::{self, FunctionPath, LanguageTitle, UserId, json_body};
use super::{Api, checked_script, environment, present, secrets};
use crate::account::Account;
use crate::config::LEAST_MEMORY;
use crate::database::DatabaseUnavailable;
use crate::database::functions::{
    Alias, AliasSet, Denied, From, Function, FunctionName, FunctionStore, Registered, Registration,
    Removed, Script, Version, Visibility, Wanted,
};
use crate::error::{ApiError, ErrorCode};
use crate::language::Language;
use crate::metrics::LanguageLabels;

const MOST_PER_PAGE: u32 = 100;
const LAST_PAGE: u32 = 1_000_000;
const MOST_CALLERS: usize = 100;
const ALL_PERCENT: i64 = 100;
const LARGEST_CONCURRENCY: u32 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    language: Option<Language>,
    owner: Option<String>,
    page: Option<u32>,
    after: Option<String>,
    #[serde(default = "usual_page_size")]
    per_page: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionsQuery {
    after: Option<String>,
    #[serde(default = "usual_page_size")]
    per_page: u32,
}

const fn usual_page_size() -> u32 {
    20
}

pub fn read_query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    let Query(query) = query.map_err(|rejection| {
        ApiError::invalid(format!(
            "the query is not as described: {}",
            rejection.body_text()
        ))
    })?;
    Ok(query)
}

fn check_page_size(per_page: u32) -> Result<(), ApiError> {
    if (1..=MOST_PER_PAGE).contains(&per_page) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "page must be from 1 to {LAST_PAGE} and per_page from 1 to {MOST_PER_PAGE}"
    )))
}

fn no_place(after: &str) -> ApiError {
    ApiError::invalid(format!(
        "after must be the `next` of the page before; it is {after:?}"
    ))
}

#[derive(Serialize)]
pub struct FunctionList {
    functions: Vec<Function>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<u32>,
    per_page: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(facts): Extension<Arc<Facts>>,
    UserId(user): UserId,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<FunctionList>, ApiError> {
    let query = read_query(query)?;
    check_page_size(query.per_page)?;
    if let Some(owner) = &query.owner {
        request::check_user_id(owner, "owner")?;
    }
    if let Some(language) = query.language {
        facts.set_language(language);
    }
    let page = match (query.page, &query.after) {
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid(
                "page and after say both where the page begins; give one of them",
            ));
        }
        (None, Some(_)) => None,
        (page, None) => Some(page.unwrap_or(1)),
    };
    let from = match (page, query.after.as_deref()) {
        (Some(page), _) if !(1..=LAST_PAGE).contains(&page) => {
            return Err(ApiError::invalid(format!(
                "page must be from 1 to {LAST_PAGE} and per_page from 1 to {MOST_PER_PAGE}"
            )));
        }
        (Some(page), _) => From::Offset(i64::from(page - 1) * i64::from(query.per_page)),
        (None, after) => {
            let after = after.unwrap_or_default();
            // A name has no slash, and PostgreSQL takes no U+0000.
            let place = after.rsplit_once('/').filter(|_| !after.contains('\0'));
            let (owner, name) = place.ok_or_else(|| no_place(after))?;
            From::After(name, owner)
        }
    };
    let wanted = Wanted {
        language: query.language,
        owner: query.owner.as_deref(),
        user: user.as_deref(),
    };
    let store = store(&api)?;
    let mut functions = store
        .list(&wanted, from, query.per_page + 1)
        .await
        .map_err(unavailable)?;
    let total = match page {
        Some(_) => Some(store.count(&wanted).await.map_err(unavailable)?),
        None => None,
    };
    let last = cut(&mut functions, query.per_page);
    let next = last.map(|last| format!("{}/{}", last.owner, last.language_title));
    Ok(Json(FunctionList {
        functions,
        page,
        per_page: query.per_page,
        total,
        next,
    }))
}

/// The last of the page, where there was more than the page.
fn cut<T>(rows: &mut Vec<T>, per_page: u32) -> Option<&T> {
    if rows.len() <= per_page as usize {
        return None;
    }
    rows.truncate(per_page as usize);
    rows.last()
}

pub async fn show(
    State(api): State<Arc<Api>>,
    FunctionPath { name, .. }: FunctionPath,
    UserId(user): UserId,
) -> Result<Json<Function>, ApiError> {
    let found = store(&api)?.find(&name, user.as_deref()).await;
    found
        .map_err(unavailable)?
        .map(Json)
        .ok_or_else(no_function)
}

#[derive(Serialize)]
pub struct VersionList {
    versions: Vec<Version>,
    per_page: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub async fn list_versions(
    State(api): State<Arc<Api>>,
    FunctionPath { name, .. }: FunctionPath,
    UserId(user): UserId,
    query: Result<Query<VersionsQuery>, QueryRejection>,
) -> Result<Json<VersionList>, ApiError> {
    let VersionsQuery { after, per_page } = read_query(query)?;
    check_page_size(per_page)?;
    let before = match &after {
        Some(after) => request::version_number(after).ok_or_else(|| no_place(after))?,
        None => i64::MAX,
    };
    let found = store(&api)?
        .versions(&name, user.as_deref(), before, per_page + 1)
        .await
        .map_err(unavailable)?;
    let mut versions = found.ok_or_else(no_function)?;
    let next = cut(&mut versions, per_page).map(|last| last.version.to_string());
    Ok(Json(VersionList {
        versions,
        per_page,
        next,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegisterBody<'a> {
    #[serde(borrow)]
    script_content: &'a RawValue,
    #[serde(default, deserialize_with = "present")]
    visibility: Option<Visibility>,
    #[serde(default, deserialize_with = "present")]
    timeout_seconds: Option<Option<f64>>,
    #[serde(default, deserialize_with = "present")]
    memory_bytes: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    max_concurrency: Option<Option<u32>>,
    #[serde(default, deserialize_with = "present")]
    environment: Option<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "present")]
    secrets: Option<Vec<String>>,
}

pub async fn register(
    State(api): State<Arc<Api>>,
    FunctionPath { name, language, .. }: FunctionPath,
    UserId(user_id): UserId,
    request: Request,
) -> Result<(StatusCode, Json<Function>), ApiError> {
    let owner = user_id.ok_or_else(no_user)?;
    if name.owner.as_ref().is_some_and(|named| *named != owner) {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            "the owner in the path is another user, who alone registers functions there",
        ));
    }
    let account = Account::of(request.headers(), Some(&owner));
    let body = json_body(&api, &account, request).await?;
    let body: RegisterBody<'_> = request::parse(&body)?;
    let script = checked_script(body.script_content, api.config.max_script_size)?;
    if let Some(Visibility::Callers(callers)) = &body.visibility {
        check_callers(callers)?;
    }
    let most = api.config.runtime_timeout;
    let time_limit = body
        .timeout_seconds
        .map(|limit| limit.map(|seconds| time_limit(seconds, most)).transpose())
        .transpose()?;
    let environment = body
        .environment
        .as_ref()
        .map(environment::checked)
        .transpose()?;
    if let Some(Some(bytes)) = body.memory_bytes {
        check_memory(bytes, api.config.runtime_memory)?;
    }
    if let Some(Some(most)) = body.max_concurrency {
        check_concurrency(most)?;
    }
    let secrets = body.secrets.map(secrets::checked).transpose()?;
    if secrets.as_ref().is_some_and(|names| !names.is_empty()) {
        secrets::store(&api)?;
    }
    let registration = Registration {
        name: &name,
        language,
        owner: &owner,
        script: &script,
        visibility: body.visibility,
        time_limit,
        memory_bytes: body.memory_bytes,
        max_concurrency: body.max_concurrency,
        environment,
        secrets,
    };
    let registered = store(&api)?.register(&registration).await;
    let (status, function) = match registered.map_err(unavailable)? {
        Registered::Created(function) => (StatusCode::CREATED, function),
        Registered::Replaced(function) => (StatusCode::OK, function),
        Registered::NotYours => return Err(not_yours_to_name(&owner, &name)),
        Registered::Reserved => return Err(reserved(&owner, &name)),
        Registered::TooMany => {
            return Err(ApiError::invalid(format!(
                "a user may have {} functions; remove one first",
                api.config.max_functions_per_user
            )));
        }
        Registered::NoSecrets(names) => {
            return Err(ApiError::invalid(secrets::missing(&names)));
        }
        Registered::AllNamed => {
            return Err(ApiError::invalid(format!(
                "a function keeps {} versions, and aliases name all that this one has; set or remove an alias first",
                api.config.max_versions_per_function
            )));
        }
    };
    api.metrics
        .functions_registered
        .get_or_create(&LanguageLabels { language })
        .inc();
    Ok((status, Json(function)))
}

fn check_callers(callers: &[String]) -> Result<(), ApiError> {
    if !(1..=MOST_CALLERS).contains(&callers.len()) {
        return Err(ApiError::invalid(format!(
            "visibility names {} callers; it must name 1 to {MOST_CALLERS}, or be \"private\" or \"shared\"",
            callers.len()
        )));
    }
    let mut named = HashSet::new();
    for caller in callers {
        request::check_user_id(caller, "a caller in visibility")?;
        if !named.insert(caller) {
            return Err(ApiError::invalid(format!(
                "visibility names the caller {caller} twice"
            )));
        }
    }
    Ok(())
}

fn time_limit(seconds: f64, most: Duration) -> Result<Duration, ApiError> {
    request::within(seconds, most).ok_or_else(|| {
        ApiError::invalid(format!(
            "timeout_seconds must be a number of seconds from 0.001 to {}; it is {seconds}",
            most.as_secs_f64()
        ))
    })
}

fn check_memory(bytes: u64, most: u64) -> Result<(), ApiError> {
    if (LEAST_MEMORY..=most).contains(&bytes) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "memory_bytes must be a whole number of bytes from {LEAST_MEMORY} to {most}; it is {bytes}"
    )))
}

fn check_concurrency(most: u32) -> Result<(), ApiError> {
    if (1..=LARGEST_CONCURRENCY).contains(&most) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "max_concurrency must be a whole number from 1 to {LARGEST_CONCURRENCY}; it is {most}"
    )))
}

#[derive(Serialize)]
pub struct FunctionRemoved {
    language_title: String,
    status: &'static str,
}

pub async fn remove(
    State(api): State<Arc<Api>>,
    FunctionPath { name, .. }: FunctionPath,
    UserId(user_id): UserId,
) -> Result<Json<FunctionRemoved>, ApiError> {
    let owner = user_id.ok_or_else(no_user)?;
    let removed = store(&api)?.remove(&name, &owner).await;
    match removed.map_err(unavailable)? {
        Removed::Gone => Ok(Json(FunctionRemoved {
            language_title: name.title,
            status: "removed",
        })),
        Removed::Denied(why) => Err(denied(why)),
    }
}

#[derive(Serialize)]
pub struct AliasList {
    aliases: Vec<Alias>,
}

pub async fn list_aliases(
    State(api): State<Arc<Api>>,
    FunctionPath { name, .. }: FunctionPath,
    UserId(user): UserId,
) -> Result<Json<AliasList>, ApiError> {
    let found = store(&api)?.aliases(&name, user.as_deref()).await;
    let aliases = found.map_err(unavailable)?.ok_or_else(no_function)?;
    Ok(Json(AliasList { aliases }))
}

pub async fn show_alias(
    State(api): State<Arc<Api>>,
    path: FunctionPath,
    UserId(user): UserId,
) -> Result<Json<Alias>, ApiError> {
    let alias = path.alias()?;
    let found = store(&api)?.alias(&path.name, user.as_deref(), alias).await;
    let found = found.map_err(unavailable)?.ok_or_else(no_function)?;
    found.map(Json).ok_or_else(|| no_alias(alias))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AliasBody {
    versions: BTreeMap<String, i64>,
}

pub async fn set_alias(
    State(api): State<Arc<Api>>,
    path: FunctionPath,
    UserId(user_id): UserId,
    request: Request,
) -> Result<Json<Alias>, ApiError> {
    let alias = path.alias()?;
    let user = user_id.ok_or_else(no_user)?;
    let account = Account::of(request.headers(), Some(&user));
    let body = json_body(&api, &account, request).await?;
    let AliasBody { versions } = request::parse(&body)?;
    let weights = weights(&versions)?;
    let set = store(&api)?
        .set_alias(&path.name, &user, alias, &weights)
        .await;
    match set.map_err(unavailable)? {
        AliasSet::Set(alias) => Ok(Json(alias)),
        AliasSet::Denied(why) => Err(denied(why)),
        AliasSet::NoVersion(version) => Err(ApiError::invalid(format!(
            "versions names {version}, and the function has no such version"
        ))),
        AliasSet::TooMany => Err(ApiError::invalid(
            "a function may have 100 aliases; remove one first",
        )),
    }
}

fn weights(versions: &BTreeMap<String, i64>) -> Result<BTreeMap<i64, i16>, ApiError> {
    let mut weights = BTreeMap::new();
    for (version, weight) in versions {
        let number = request::version_number(version).ok_or_else(|| {
            ApiError::invalid(format!(
                "versions has {version:?}, which is not the number of a version"
            ))
        })?;
        let weight = i16::try_from(*weight).ok();
        let weight = weight.filter(|weight| (1..=ALL_PERCENT).contains(&i64::from(*weight)));
        let weight = weight.ok_or_else(|| {
            ApiError::invalid(format!(
                "the weight of version {version} must be a whole number from 1 to 100"
            ))
        })?;
        weights.insert(number, weight);
    }
    let sum: i64 = weights.values().map(|weight| i64::from(*weight)).sum();
    if sum != ALL_PERCENT {
        return Err(ApiError::invalid(format!(
            "the weights of versions add up to {sum}; they must add up to {ALL_PERCENT}"
        )));
    }
    Ok(weights)
}

#[derive(Serialize)]
pub struct AliasRemoved {
    alias: String,
    status: &'static str,
}

pub async fn remove_alias(
    State(api): State<Arc<Api>>,
    path: FunctionPath,
    UserId(user_id): UserId,
) -> Result<Json<AliasRemoved>, ApiError> {
    let alias = path.alias()?;
    let user = user_id.ok_or_else(no_user)?;
    let removed = store(&api)?.remove_alias(&path.name, &user, alias).await;
    match removed.map_err(unavailable)? {
        Ok(true) => Ok(Json(AliasRemoved {
            alias: alias.to_owned(),
            status: "removed",
        })),
        Ok(false) => Err(no_alias(alias)),
        Err(why) => Err(denied(why)),
    }
}

/// The script that a session of `user`'s begins with.
pub async fn registered_script(
    api: &Api,
    name: &LanguageTitle,
    user: Option<&str>,
) -> Result<Script, ApiError> {
    let Some(functions) = &api.functions else {
        return Err(ApiError::invalid(
            "script_content is absent, and this controller has no database with registered functions",
        ));
    };
    let name = FunctionName {
        owner: None,
        title: name.title.clone(),
    };
    let found = functions.script(&name, user).await.map_err(unavailable)?;
    found.ok_or_else(|| {
        ApiError::not_found(
            "script_content is absent, and no function is registered under this Language-Title",
        )
    })
}

pub fn store(api: &Api) -> Result<&FunctionStore, ApiError> {
    api.functions.as_ref().ok_or_else(|| {
        ApiError::unavailable(
            "this controller has no database, so it keeps no functions; nothing ran",
            Duration::from_secs(60),
        )
        .because("DATABASE_URL is not set")
    })
}

pub fn unavailable(DatabaseUnavailable(cause): DatabaseUnavailable) -> ApiError {
    ApiError::unavailable(
        "the store of functions is not available; nothing ran",
        Duration::from_secs(2),
    )
    .because(format!("PostgreSQL: {cause}"))
}

pub fn no_function() -> ApiError {
    ApiError::not_found("no function is registered under this name")
}

pub fn no_alias(alias: &str) -> ApiError {
    ApiError::not_found(format!("the function has no alias {alias}"))
}

fn no_user() -> ApiError {
    ApiError::invalid(
        "the header X-User-ID is missing: a function belongs to the user who registered it",
    )
}

fn denied(why: Denied) -> ApiError {
    match why {
        Denied::NotThere => no_function(),
        Denied::NotYours => ApiError::new(
            ErrorCode::Forbidden,
            "another user registered this function and alone may change or remove it",
        ),
    }
}

fn not_yours_to_name(owner: &str, name: &FunctionName) -> ApiError {
    ApiError::new(
        ErrorCode::Forbidden,
        format!(
            "another user registered this function and alone may replace or remove it; register {owner}/{} for one of \
             your own",
            name.title
        ),
    )
}

fn reserved(owner: &str, name: &FunctionName) -> ApiError {
    ApiError::new(
        ErrorCode::Forbidden,
        format!(
            "another user removed a function of this name less than 30 days ago, and may register it again until then; \
             register {owner}/{} for one of your own",
            name.title
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_percentages_of_versions() {
        let read = |versions: &[(&str, i64)]| {
            let versions = versions
                .iter()
                .map(|(version, weight)| ((*version).to_owned(), *weight))
                .collect();
            weights(&versions)
        };
        assert_eq!(
            read(&[("7", 90), ("8", 10)]).unwrap(),
            BTreeMap::from([(7, 90), (8, 10)])
        );
        for (wrong, message) in [
            (&[("7", 90)][..], "add up to 90"),
            (&[], "add up to 0"),
            (&[("7", 60), ("8", 60)], "add up to 120"),
            (&[("7", 0), ("8", 100)], "from 1 to 100"),
            (&[("7", 200), ("8", -100)], "from 1 to 100"),
            (&[("7", 1 << 53)], "from 1 to 100"),
            (&[("07", 100)], "not the number of a version"),
            (&[("live", 100)], "not the number of a version"),
            (
                &[("99999999999999999999", 100)],
                "not the number of a version",
            ),
        ] {
            let error = read(wrong).unwrap_err().message;
            assert!(error.contains(message), "{error}");
        }
    }
}
