//! What a request must look like. Whatever does not is answered with INVALID_REQUEST or PAYLOAD_TOO_LARGE.

use std::ops::Deref;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use lambda_common::body::discard;
use lambda_common::json;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;
use uuid::Uuid;

use super::observe::Facts;
use super::{Api, Operation, SHED_RETRY_AFTER, shed};
use crate::account::Account;
use crate::bodies::{self, NoRoom, Room, Unread};
use crate::database::functions::{FunctionName, Selector};
use crate::error::ApiError;
use crate::language::Language;

const LONGEST_TITLE: usize = 128;
const LONGEST_USER_ID: usize = 128;
const LONGEST_IDEMPOTENCY_KEY: usize = 255;
/// For the whole body. A caller that sends more slowly holds one of the places that all share.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// The header `Language-Title: LANGUAGE-TITLE`.
pub struct LanguageTitle {
    pub language: Language,
    /// The whole header.
    pub title: String,
}

impl<S: Sync> FromRequestParts<S> for LanguageTitle {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(header) = single_header(&parts.headers, "Language-Title")? else {
            return Err(ApiError::invalid(
                "the header Language-Title is missing; it is LANGUAGE-TITLE, as in nodejs-hello",
            ));
        };
        LanguageTitle::parse(header, "Language-Title")
    }
}

impl LanguageTitle {
    fn parse(text: &str, what: &str) -> Result<Self, ApiError> {
        let (language, title) = text.split_once('-').unwrap_or((text, ""));
        let Some(language) = Language::from_name(language) else {
            let known = Language::ALL.map(Language::name).join(", ");
            return Err(ApiError::invalid(format!(
                "{what} must begin with a known language ({known}) and a dash"
            )));
        };
        let plain = title
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if title.is_empty() || text.len() > LONGEST_TITLE || !plain {
            return Err(ApiError::invalid(format!(
                "{what} must go on with letters, digits, dots, dashes and underscores, {LONGEST_TITLE} characters at \
                 most in all"
            )));
        }
        Ok(LanguageTitle {
            language,
            title: text.to_owned(),
        })
    }
}

/// The path of a request about one function. Its title and an alias need no percent-encoding, so have one spelling.
pub struct FunctionPath {
    pub name: FunctionName,
    pub language: Language,
    alias: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for FunctionPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let matched = parts.extensions.get::<MatchedPath>();
        let template = matched.map_or("", MatchedPath::as_str);
        let path = FunctionPath::parse(template, parts.uri.path())?;
        if let Some(facts) = parts.extensions.get::<std::sync::Arc<Facts>>() {
            facts.set_language(path.language);
        }
        Ok(path)
    }
}

impl FunctionPath {
    /// `template` is the path with its placeholders.
    fn parse(template: &str, path: &str) -> Result<Self, ApiError> {
        let part = |placeholder: &str| {
            let mut parts = template.split('/').zip(path.split('/'));
            parts.find_map(|(place, part)| (place == placeholder).then_some(part))
        };
        let title = part("{language_title}").unwrap_or_default();
        let title = LanguageTitle::parse(title, "the language_title in the path")?;
        let owner = part("{owner}").map(|encoded| {
            let decoded = percent_decoded(encoded);
            check_user_id(&decoded, "the owner in the path")?;
            Ok(decoded)
        });
        let name = FunctionName {
            owner: owner.transpose()?,
            title: title.title,
        };
        let (language, alias) = (title.language, part("{alias}").map(str::to_owned));
        Ok(FunctionPath {
            name,
            language,
            alias,
        })
    }

    pub fn alias(&self) -> Result<&str, ApiError> {
        let alias = self.alias.as_deref().unwrap_or_default();
        if is_alias(alias) && alias != LATEST {
            return Ok(alias);
        }
        Err(ApiError::invalid(format!(
            "the alias in the path must be a letter and then letters, digits, dots, dashes and underscores, \
             {LONGEST_ALIAS} characters at most, and not {LATEST}"
        )))
    }
}

const LATEST: &str = "latest";
const LONGEST_ALIAS: usize = 63;

fn is_alias(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.len() <= LONGEST_ALIAS
        && text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic())
        && text.bytes().all(plain)
}

/// The number of a version, in its one spelling.
pub fn version_number(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    (number > 0 && number.to_string() == text).then_some(number)
}

/// The query's `version`.
pub fn selector(text: &str) -> Result<Selector, ApiError> {
    if text == LATEST {
        Ok(Selector::Latest)
    } else if let Some(number) = version_number(text) {
        Ok(Selector::Number(number))
    } else if is_alias(text) {
        Ok(Selector::Alias(text.to_owned()))
    } else {
        Err(ApiError::invalid(format!(
            "version must be the number of a version, {LATEST} or an alias; it is {text:?}"
        )))
    }
}

/// What is no percent-encoding of bytes of ASCII stays as it is, which is no user's id.
fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part
            .get(..2)
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(u8::is_ascii_graphic) {
            Some(byte) => {
                decoded.push(char::from(byte));
                decoded += &part[2..];
            }
            // Not visible ASCII, and so refused.
            None => decoded += "\u{fffd}",
        }
    }
    decoded
}

/// What names of variables and of secrets are.
pub const VARIABLE_NAME: &str =
    "a letter or an underscore and then letters, digits and underscores, 128 at most";
const LONGEST_VARIABLE: usize = 128;

pub fn is_variable_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first = text.bytes().next();
    text.len() <= LONGEST_VARIABLE
        && first.is_some_and(|byte| !byte.is_ascii_digit())
        && text.bytes().all(plain)
}

/// The last part of the path of a request about one secret. It needs no percent-encoding, so has one spelling.
pub fn secret_name(path: &str) -> Result<String, ApiError> {
    let name = path.rsplit('/').next().unwrap_or_default();
    if is_variable_name(name) {
        return Ok(name.to_owned());
    }
    Err(ApiError::invalid(format!(
        "the name in the path must be {VARIABLE_NAME}"
    )))
}

pub fn check_user_id(text: &str, what: &str) -> Result<(), ApiError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.is_empty() || text.len() > LONGEST_USER_ID || !plain {
        return Err(ApiError::invalid(format!(
            "{what} must be 1 to {LONGEST_USER_ID} visible ASCII characters"
        )));
    }
    Ok(())
}

/// The header `X-User-ID`, where there is one. The edge decides whether it can be trusted.
pub struct UserId(pub Option<String>);

impl<S: Sync> FromRequestParts<S> for UserId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let user_id = single_header(&parts.headers, "X-User-ID")?;
        if let Some(user_id) = user_id {
            check_user_id(user_id, "X-User-ID")?;
            if let Some(facts) = parts.extensions.get::<std::sync::Arc<Facts>>() {
                facts.set_user(user_id);
            }
        }
        Ok(UserId(user_id.map(str::to_owned)))
    }
}

/// A header that must not come twice: two readers of it might take different ones.
fn single_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(ApiError::invalid(format!(
            "the header {name} is there more than once"
        )));
    }
    let text = value
        .to_str()
        .map_err(|_| ApiError::invalid(format!("the header {name} is not visible ASCII")))?;
    Ok(Some(text))
}

/// The header `Idempotency-Key`, where there is one.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let key = single_header(headers, "Idempotency-Key")?;
    if key.is_some_and(|key| key.is_empty() || key.len() > LONGEST_IDEMPOTENCY_KEY) {
        return Err(ApiError::invalid(format!(
            "Idempotency-Key must be 1 to {LONGEST_IDEMPOTENCY_KEY} characters"
        )));
    }
    Ok(key)
}

/// No script does anything in less.
const SHORTEST_TIME_LIMIT: Duration = Duration::from_millis(1);

/// The header `X-Timeout-Seconds`, where there is one: how long the script may run, `most` at the longest.
pub fn time_limit(headers: &HeaderMap, most: Duration) -> Result<Option<Duration>, ApiError> {
    let Some(text) = single_header(headers, "X-Timeout-Seconds")? else {
        return Ok(None);
    };
    let limit = text.trim().parse().ok();
    match limit.and_then(|seconds| within(seconds, most)) {
        Some(limit) => Ok(Some(limit)),
        None => Err(ApiError::invalid(format!(
            "X-Timeout-Seconds must be a number of seconds from {} to {}; it is {text:?}",
            SHORTEST_TIME_LIMIT.as_secs_f64(),
            most.as_secs_f64()
        ))),
    }
}

/// Whether the header `X-Log-Type` asks for the end of what the script prints.
pub fn logs_wanted(headers: &HeaderMap) -> Result<bool, ApiError> {
    match single_header(headers, "X-Log-Type")? {
        None => Ok(false),
        Some("tail") => Ok(true),
        Some(text) => Err(ApiError::invalid(format!(
            "X-Log-Type must be tail; it is {text:?}"
        ))),
    }
}

/// So many seconds, where a script may run for that long.
pub fn within(seconds: f64, most: Duration) -> Option<Duration> {
    // Fails for what is negative, infinite or no number.
    let limit = Duration::try_from_secs_f64(seconds).ok()?;
    (SHORTEST_TIME_LIMIT..=most)
        .contains(&limit)
        .then_some(limit)
}

/// The last part of the path of a request about one session.
pub fn session_id(path: &str) -> Result<Uuid, ApiError> {
    let last = path.rsplit('/').next().unwrap_or_default();
    // One spelling only: the parser would also take braces, "urn:uuid:" and no dashes.
    let hyphenated = (last.len() == 36)
        .then(|| Uuid::try_parse(last).ok())
        .flatten();
    hyphenated.ok_or_else(|| {
        ApiError::invalid("the request_id in the path is not a UUID, as initialize gives it")
    })
}

/// A body, with the room that it takes where it is large.
pub struct ReceivedBody {
    bytes: Vec<u8>,
    pub room: Option<Room>,
}

impl Deref for ReceivedBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The body of a request that must carry JSON. A large one is read once there is room for it.
pub async fn json_body(
    api: &Api,
    account: &Account,
    request: Request,
) -> Result<ReceivedBody, ApiError> {
    let content_type = single_header(request.headers(), header::CONTENT_TYPE.as_str())?;
    let media_type = content_type
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::invalid("Content-Type must be application/json"));
    }
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    let mut body = request.into_body();
    let reading = receive(api, account, declared, &mut body);
    let received = timeout(BODY_TIMEOUT, reading).await.unwrap_or_else(|_| {
        Err(Unwanted::Broken(ApiError::invalid(format!(
            "the body did not arrive within {} s",
            BODY_TIMEOUT.as_secs()
        ))))
    });
    match received {
        Ok(body) => Ok(body),
        Err(Unwanted::Broken(error)) => Err(error),
        Err(Unwanted::Refused(error)) => {
            discard(&mut body, api.config.max_body_size, DISCARD_TIMEOUT).await;
            Err(error)
        }
    }
}

/// Why a body is not read to its end.
enum Unwanted {
    /// More may come.
    Refused(ApiError),
    Broken(ApiError),
}

async fn receive(
    api: &Api,
    account: &Account,
    declared: Option<usize>,
    body: &mut Body,
) -> Result<ReceivedBody, Unwanted> {
    let most = api.config.max_body_size;
    let take = async |bytes| api.bodies.take(account.name(), bytes);
    match bodies::read(body, declared, most, take).await {
        Ok((bytes, room)) => Ok(ReceivedBody { bytes, room }),
        Err(Unread::TooLarge) => {
            let error = ApiError::too_large(format!("the body is larger than {most} bytes"));
            Err(Unwanted::Refused(error))
        }
        Err(Unread::Refused(why)) => Err(Unwanted::Refused(no_room(api, why))),
        Err(Unread::Broken(_)) => Err(Unwanted::Broken(ApiError::invalid("the body broke off"))),
    }
}

fn no_room(api: &Api, why: NoRoom) -> ApiError {
    match why {
        NoRoom::Full => shed(api, "bodies", "the controller has too many large bodies"),
        NoRoom::Share => ApiError::rate_limited(
            "this caller sends as many large bodies at once as one may; nothing ran",
            SHED_RETRY_AFTER,
        ),
    }
}

pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    if let Err(error) = std::str::from_utf8(body) {
        return Err(ApiError::invalid(format!(
            "the body is not UTF-8 from byte {} on",
            error.valid_up_to()
        )));
    }
    // serde would also read a struct from an array of its fields.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(ApiError::invalid("the body must be a JSON object"));
    }
    serde_json::from_slice(body)
        .map_err(|error| ApiError::invalid(format!("the body is not as described: {error}")))
}

/// Any JSON, kept as its text; an empty object where there is none.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct JsonText<'a>(#[serde(borrow)] &'a RawValue);

impl Default for JsonText<'_> {
    fn default() -> Self {
        JsonText(serde_json::from_str("{}").expect("this is JSON"))
    }
}

impl<'a> JsonText<'a> {
    pub const fn text(&self) -> &'a RawValue {
        self.0
    }

    /// As the runtime checks it again: what it would refuse at execute is refused here.
    pub fn checked(&self, name: &str, limit: usize) -> Result<&'a RawValue, ApiError> {
        let size = self.0.get().len();
        if size > limit {
            return Err(ApiError::too_large(format!(
                "{name} has {size} bytes as JSON; at most {limit} are taken"
            )));
        }
        json::check(self.0.get().as_bytes(), json::DEEPEST).map_err(|error| {
            ApiError::invalid(format!(
                "{name} is no JSON that every language can read: {error}"
            ))
        })?;
        Ok(self.0)
    }
}

impl Operation {
    /// Of the path as it was matched, with its placeholders; any one of the path where the method is none of its.
    pub fn of(path: &str, method: &Method) -> Option<Operation> {
        let wanted = if method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let on_path = || {
            Operation::ALL
                .into_iter()
                .filter(|operation| operation.paths().any(|known| known == path))
        };
        on_path()
            .find(|operation| operation.method() == wanted)
            .or_else(|| on_path().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles() {
        for (header, language) in [
            ("nodejs-hello", Language::Nodejs),
            ("python-a.b_c-1", Language::Python),
            ("rust--", Language::Rust),
        ] {
            let parsed = LanguageTitle::parse(header, "it").unwrap();
            assert_eq!((parsed.language, parsed.title.as_str()), (language, header));
        }
        let long = format!("rust-{}", "x".repeat(LONGEST_TITLE));
        for wrong in [
            "",
            "nodejs",
            "nodejs-",
            "NodeJS-x",
            "ruby-x",
            "-x",
            "rust-a b",
            "rust-\u{e4}",
            &long,
        ] {
            assert!(LanguageTitle::parse(wrong, "it").is_err(), "{wrong}");
        }
        let message = LanguageTitle::parse("ruby-x", "it").err().unwrap().message;
        assert!(message.contains("nodejs, python, rust"), "{message}");
    }

    #[test]
    fn a_function_is_named_with_its_owner_or_without() {
        let parse = |template: &str, path: &str| {
            let path = FunctionPath::parse(template, path)?;
            Ok::<_, ApiError>((path.name.owner, path.name.title, path.alias))
        };
        let owned = "/api/v1/functions/{owner}/{language_title}/aliases/{alias}";
        assert_eq!(
            parse(owned, "/api/v1/functions/a%2fb%25%7E/rust-x/aliases/live").unwrap(),
            (
                Some("a/b%~".to_owned()),
                "rust-x".to_owned(),
                Some("live".to_owned())
            )
        );
        let plain = "/api/v1/functions/{language_title}";
        let named = parse(plain, "/api/v1/functions/rust-x").unwrap();
        assert_eq!(named, (None, "rust-x".to_owned(), None));
        let long = "x".repeat(129);
        for owner in [
            "", "a%", "a%2", "a%zz", "%00", "%20", "%C3%A4", "%+1", &long,
        ] {
            let path = format!("/api/v1/functions/{owner}/rust-x/aliases/live");
            let error = parse(owned, &path).unwrap_err().message;
            assert!(
                error.starts_with("the owner in the path"),
                "{owner}: {error}"
            );
        }
        assert!(parse(plain, "/api/v1/functions/%72ust-x").is_err());
    }

    #[test]
    fn a_version_is_a_number_latest_or_an_alias() {
        assert_eq!(selector("latest").unwrap(), Selector::Latest);
        assert_eq!(selector("7").unwrap(), Selector::Number(7));
        let most = selector("9223372036854775807").unwrap();
        assert_eq!(most, Selector::Number(i64::MAX));
        let alias = Selector::Alias("live-1.a_b".to_owned());
        assert_eq!(selector("live-1.a_b").unwrap(), alias);
        let long = "x".repeat(64);
        for wrong in [
            "",
            "0",
            "-1",
            "+1",
            "07",
            "1.0",
            "9223372036854775808",
            "a b",
            "a/b",
            "\u{e4}",
            &long,
        ] {
            let message = selector(wrong).unwrap_err().message;
            assert!(message.contains("latest or an alias"), "{message}");
        }
    }

    #[test]
    fn ids_have_one_spelling() {
        let id = Uuid::new_v4();
        assert_eq!(session_id(&format!("/api/v1/execute/{id}")).unwrap(), id);
        for wrong in [
            id.simple().to_string(),
            id.braced().to_string(),
            id.urn().to_string(),
            "x".repeat(36),
            String::new(),
        ] {
            assert!(
                session_id(&format!("/api/v1/execute/{wrong}")).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_time_limit_is_a_number_of_seconds_within_the_maximum() {
        let parse = |values: &[&str]| {
            let headers = values
                .iter()
                .map(|value| ("x-timeout-seconds".parse().unwrap(), value.parse().unwrap()))
                .collect();
            time_limit(&headers, Duration::from_secs(30))
        };
        assert_eq!(parse(&[]).unwrap(), None);
        for (text, milliseconds) in [("30", 30_000), ("0.25", 250), ("0.001", 1), (" 1 ", 1000)] {
            assert_eq!(
                parse(&[text]).unwrap(),
                Some(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for wrong in [
            "", "0", "0.0009", "-1", "30.001", "31", "1e300", "1e-30", "inf", "NaN", "5s", "1,5",
            "0x5",
        ] {
            let message = parse(&[wrong]).unwrap_err().message;
            assert!(
                message.contains("from 0.001 to 30")
                    && message.ends_with(&format!("it is {wrong:?}")),
                "{message}"
            );
        }
        assert!(parse(&["1", "2"]).is_err());
    }

    #[test]
    fn only_an_object_is_a_body() {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Body {
            #[serde(rename = "a")]
            _a: u8,
        }
        assert!(parse::<Body>(b" \n{\"a\": 1}").is_ok());
        for wrong in [
            &b"[1]"[..],
            b"",
            b"{\"a\": 1, \"b\": 2}",
            b"{\"a\": 1, \"a\": 2}",
            b"{}",
            b"{\"a\": 1}}",
        ] {
            assert!(parse::<Body>(wrong).is_err(), "{wrong:?}");
        }
    }
}
