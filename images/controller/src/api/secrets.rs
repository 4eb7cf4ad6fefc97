//! Secrets: texts that a user keeps for its functions' scripts, and that no answer shows.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::request::{self, UserId, is_variable_name, json_body};
use super::{Api, functions};
use crate::account::Account;
use crate::database::functions::Terms;
use crate::database::secrets::{Given, MOST_SECRETS, Put, SecretEntry, SecretStore, Withheld};
use crate::envelope::Place;
use crate::error::ApiError;

const LONGEST_SECRET: usize = 8 << 10;
/// Of one function.
const MOST_NAMED: usize = 20;

#[derive(Serialize)]
pub struct SecretList {
    secrets: Vec<SecretEntry>,
}

pub async fn list(
    State(api): State<Arc<Api>>,
    UserId(user): UserId,
) -> Result<Json<SecretList>, ApiError> {
    let owner = user.ok_or_else(no_user)?;
    let listed = store(&api)?.list(&owner).await;
    let secrets = listed.map_err(functions::unavailable)?;
    Ok(Json(SecretList { secrets }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretBody {
    value: String,
}

pub async fn put(
    State(api): State<Arc<Api>>,
    UserId(user): UserId,
    request: Request,
) -> Result<(StatusCode, Json<SecretEntry>), ApiError> {
    let name = request::secret_name(request.uri().path())?;
    let owner = user.ok_or_else(no_user)?;
    let account = Account::of(request.headers(), Some(&owner));
    let body = json_body(&api, &account, request).await?;
    let SecretBody { value } = request::parse(&body)?;
    if value.is_empty() {
        return Err(ApiError::invalid("value is empty; DELETE removes a secret"));
    }
    if value.len() > LONGEST_SECRET {
        return Err(ApiError::too_large(format!(
            "value has {} bytes; at most {LONGEST_SECRET} are taken",
            value.len()
        )));
    }
    let place = Place {
        owner: &owner,
        name: &name,
    };
    match store(&api)?
        .put(place, &value)
        .await
        .map_err(functions::unavailable)?
    {
        Put::Created(entry) => Ok((StatusCode::CREATED, Json(entry))),
        Put::Replaced(entry) => Ok((StatusCode::OK, Json(entry))),
        Put::TooMany => Err(ApiError::invalid(format!(
            "a user may have {MOST_SECRETS} secrets; remove one first"
        ))),
    }
}

#[derive(Serialize)]
pub struct SecretRemoved {
    name: String,
    status: &'static str,
}

pub async fn remove(
    State(api): State<Arc<Api>>,
    UserId(user): UserId,
    request: Request,
) -> Result<Json<SecretRemoved>, ApiError> {
    let name = request::secret_name(request.uri().path())?;
    let owner = user.ok_or_else(no_user)?;
    let place = Place {
        owner: &owner,
        name: &name,
    };
    let removed = store(&api)?.remove(place).await;
    if !removed.map_err(functions::unavailable)? {
        return Err(ApiError::not_found(format!("you have no secret {name}")));
    }
    let status = "removed";
    Ok(Json(SecretRemoved { name, status }))
}

/// The names that a function's registration has, sorted.
pub fn checked(mut names: Vec<String>) -> Result<Vec<String>, ApiError> {
    let wrong = |what: String| Err(ApiError::invalid(format!("secrets {what}")));
    if names.len() > MOST_NAMED {
        let found = names.len();
        return wrong(format!("has {found} names; at most {MOST_NAMED} are taken"));
    }
    if let Some(name) = names.iter().find(|name| !is_variable_name(name)) {
        return wrong(format!(
            "has {name:?}, which is the name of none; a name is {}",
            request::VARIABLE_NAME
        ));
    }
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return wrong(format!("names {} twice", twice[0]));
    }
    Ok(names)
}

/// What a version's script is given, where it names any; `user` calls it.
pub async fn given(
    api: &Api,
    terms: &Terms,
    user: Option<&str>,
) -> Result<Option<Arc<Given>>, ApiError> {
    if terms.secrets.is_empty() {
        return Ok(None);
    }
    let given = store(api)?.given(&terms.owner, &terms.secrets).await;
    match given.map_err(functions::unavailable)? {
        Ok(given) => Ok(Some(given)),
        Err(Withheld::Missing(names)) if user == Some(&terms.owner) => {
            Err(ApiError::not_found(missing(&names)))
        }
        // Their names are their owner's affair.
        Err(Withheld::Missing(_)) => Err(ApiError::not_found(
            "a secret of the function's owner is not there any more, so the script did not run",
        )),
        Err(Withheld::Unreadable(why)) => Err(ApiError::unavailable(
            "the function's secrets cannot be read now; nothing ran",
            Duration::from_secs(30),
        )
        .because(why.cause())),
    }
}

pub fn missing(names: &[String]) -> String {
    let one = &names[0];
    format!(
        "secrets names {}, which you do not have; PUT /api/v1/secrets/{one} makes it; nothing ran",
        names.join(", ")
    )
}

pub fn store(api: &Api) -> Result<&SecretStore, ApiError> {
    functions::store(api)?;
    api.secrets.as_ref().ok_or_else(|| {
        ApiError::unavailable(
            "this controller has no key for secrets, so it keeps none; nothing ran",
            Duration::from_secs(60),
        )
        .because("SECRETS_KEY is not set")
    })
}

fn no_user() -> ApiError {
    ApiError::invalid("the header X-User-ID is missing: a secret belongs to a user")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_each_is_there_once() {
        let read = |names: &[&str]| checked(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(read(&["B", "_a1"]).unwrap(), ["B", "_a1"]);
        assert_eq!(read(&["b", "A"]).unwrap(), ["A", "b"]);
        assert!(read(&[]).unwrap().is_empty());
        for (wrong, message) in [
            (&["A", "B", "A"][..], "names A twice"),
            (&["A-B"], "\"A-B\""),
            (&[""], "\"\""),
            (&["A"; 21], "21 names"),
        ] {
            let error = read(wrong).unwrap_err().message;
            assert!(error.contains(message), "{error}");
        }
    }
}
