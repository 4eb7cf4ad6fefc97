//! The environment, read once at the start. README.md has the table of variables.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use axum::http::Uri;
use lambda_common::configuration::{ConfigError, Environment, quoted};
use lambda_common::container;
use redis::IntoConnectionInfo;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tracing::level_filters::LevelFilter;

use crate::envelope::SHORTEST_KEY;
use crate::language::PerLanguage;
use crate::secret::Secret;

#[derive(Clone, Debug)]
pub struct Config {
    pub api_address: SocketAddr,
    pub metrics_address: SocketAddr,
    pub redis: RedisConfig,
    /// Without it there are no registered functions and no logs in a database.
    pub database: Option<DatabaseConfig>,
    /// Without it there are no secrets.
    pub secrets: Option<SecretsConfig>,
    pub runtimes: PerLanguage<RuntimeUrl>,
    pub session_expiry: Duration,
    pub runtime_timeout: Duration,
    /// What one execution may have.
    pub runtime_memory: u64,
    pub runtime_max_retries: u32,
    pub max_script_size: usize,
    pub max_context_size: usize,
    pub max_body_size: usize,
    /// Of all bodies and answers beyond 64 KiB that are there at once.
    pub max_bodies_in_memory: usize,
    pub max_result_size: usize,
    pub max_functions_per_user: u32,
    pub max_versions_per_function: u32,
    pub kept: KeptLimits,
    pub max_concurrent_requests: usize,
    pub max_concurrent_executions: usize,
    pub shutdown_delay: Duration,
    pub log_level: LevelFilter,
}

impl Config {
    /// How long a call of a runtime may take whose script may run for `limit`: longer, so that the runtime, which knows
    /// what happened, is the one that says so.
    pub fn call_timeout(&self, limit: Duration) -> Duration {
        limit + Duration::from_secs(2)
    }

    /// The longest that any call may take.
    pub fn runtime_call_timeout(&self) -> Duration {
        self.call_timeout(self.runtime_timeout)
    }

    /// How long requests in flight get to finish once no more are accepted: longer than any of them can take.
    pub fn shutdown_grace(&self) -> Duration {
        self.runtime_call_timeout() + Duration::from_secs(3)
    }
}

#[derive(Clone, Debug)]
pub struct RedisConfig {
    pub route: RedisRoute,
    pub username: Option<Secret>,
    pub password: Option<Secret>,
    /// Authorities of the servers' certificates, where TLS is spoken; without it the web's.
    pub ca_file: Option<PathBuf>,
    /// How long a request waits for Redis, a failover included.
    pub timeout: Duration,
    /// How many replicas must have a session before it is confirmed.
    pub confirm_replicas: u32,
}

/// The keys of secrets.
#[derive(Clone, Debug)]
pub struct SecretsConfig {
    pub key: Secret,
    /// The one before, by which some may still be wrapped.
    pub previous: Option<Secret>,
}

/// What callers may keep in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptLimits {
    /// Of one caller: sessions, scripts and first answers.
    pub keys: u64,
    pub bytes: u64,
    /// Of all callers without a user together.
    pub anonymous_bytes: u64,
}

/// The way to the master.
#[derive(Clone, Debug)]
pub enum RedisRoute {
    /// An address that leads to the master, whoever that is.
    Direct(Secret),
    Sentinel {
        sentinels: Vec<(String, u16)>,
        master_name: String,
        username: Option<Secret>,
        password: Option<Secret>,
        /// With TLS, the name in the certificates of the Sentinels and of the servers, whom they name by address.
        tls_name: Option<String>,
    },
}

#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    url: Secret,
    username: Option<Secret>,
    password: Option<Secret>,
    ca_file: Option<PathBuf>,
    /// The most connections of this process.
    pub pool_size: u32,
    /// How long a request waits for the database, a failover included.
    pub timeout: Duration,
}

impl DatabaseConfig {
    /// Reads the files anew, so a rotated password is in the next connection's options.
    pub fn connect_options(&self) -> Result<PgConnectOptions, sqlx::Error> {
        let url = self.url.read()?;
        let mut options: PgConnectOptions = url.parse()?;
        // PgBouncer takes no other startup parameters than its own few.
        options = options
            .application_name("lambda-controller")
            .extra_float_digits(None);
        if !url.contains("sslmode=") && !url.contains("ssl-mode=") {
            options = options.ssl_mode(PgSslMode::VerifyFull);
        }
        if let Some(ca_file) = &self.ca_file {
            options = options.ssl_root_cert(ca_file);
        }
        if let Some(username) = &self.username {
            options = options.username(&username.read()?);
        }
        if let Some(password) = &self.password {
            options = options.password(&password.read()?);
        }
        Ok(options)
    }
}

/// What `migrate` and `maintain` need.
#[derive(Clone, Debug)]
pub struct SchemaConfig {
    pub database: DatabaseConfig,
    pub log_retention_days: u32,
    pub log_level: LevelFilter,
}

/// `http://HOST[:PORT][/PREFIX]` of a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeUrl {
    pub host: String,
    pub port: u16,
    /// Without a trailing slash; empty for most.
    pub prefix: String,
}

impl RuntimeUrl {
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl FromStr for RuntimeUrl {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let uri: Uri = text.parse().map_err(|_| ())?;
        let authority = uri.authority().ok_or(())?;
        if uri.scheme_str() != Some("http")
            || uri.query().is_some()
            || authority.as_str().contains('@')
        {
            return Err(());
        }
        Ok(RuntimeUrl {
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(80),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

/// Reads the configuration with `lookup`, which gives a variable's value. Every wrong variable is in the error, so
/// that one start shows them all.
pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Config, Vec<ConfigError>> {
    read_with(lookup, |variables| variables.config())
}

/// As `read`, for the commands that look after the schema.
pub fn read_schema(
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<SchemaConfig, Vec<ConfigError>> {
    read_with(lookup, |variables| variables.schema())
}

fn read_with<T>(
    lookup: impl Fn(&str) -> Option<String>,
    read: impl FnOnce(&mut Variables<'_>) -> Option<T>,
) -> Result<T, Vec<ConfigError>> {
    let mut variables = Variables(Environment::new(&lookup));
    let config = read(&mut variables);
    variables.0.finish(config)
}

/// Of one execution: below it no language starts.
pub const LEAST_MEMORY: u64 = 64 << 20;
const LOG_LEVELS: &str = "error, warn, info, debug or trace";
const DATABASE_URL: &str = "postgresql://HOST[:PORT]/DATABASE";
const HIDDEN: &str = "a value that is not shown, as it may hold a secret";

/// The environment, and how the controller's own kinds of variables are read from it.
struct Variables<'a>(Environment<'a>);

impl<'a> Deref for Variables<'a> {
    type Target = Environment<'a>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Variables<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Variables<'_> {
    fn config(&mut self) -> Option<Config> {
        let host = self.parsed(
            "HOST",
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "an IP address to listen on",
        );
        let port = self.number("PORT", 8080, 1..=65535, "a TCP port");
        let metrics_port = self.number("METRICS_PORT", 9090, 1..=65535, "a TCP port");
        if port == metrics_port {
            self.wrong(
                "METRICS_PORT",
                metrics_port.to_string(),
                "a port other than PORT",
            );
        }
        let redis = self.redis();
        let nodejs = self.runtime_url("NODEJS_RUNTIME_URL");
        let python = self.runtime_url("PYTHON_RUNTIME_URL");
        let rust = self.runtime_url("RUST_RUNTIME_URL");
        let max_script_size = self.bytes("MAX_SCRIPT_SIZE", 1 << 20, 1..=64 << 20);
        let max_body_size = self.bytes("MAX_BODY_SIZE", 4 * max_script_size, 1..=512 << 20);
        if max_body_size < max_script_size {
            self.wrong(
                "MAX_BODY_SIZE",
                max_body_size.to_string(),
                &format!("at least MAX_SCRIPT_SIZE ({max_script_size}), as the script is a part of the body"),
            );
        }
        // An eighth, as a body is copied on its way: its text, what is stored or sent on, and the answer.
        let max_bodies = self.bytes(
            "MAX_BODIES_IN_MEMORY",
            (container::memory_bytes() / 8).min(1 << 30),
            2 * max_body_size..=1 << 40,
        );
        let max_context_size = self.bytes("MAX_CONTEXT_SIZE", 256 << 10, 2..=512 << 20);
        let kept_bytes = self.bytes("MAX_KEPT_BYTES_PER_CALLER", 64 << 20, 1..=1 << 40);
        let kept = KeptLimits {
            keys: self.number(
                "MAX_KEPT_PER_CALLER",
                10_000,
                1..=10_000_000,
                "a number of sessions, scripts and answers",
            ),
            bytes: kept_bytes,
            anonymous_bytes: self.bytes("MAX_KEPT_BYTES_ANONYMOUS", 4 * kept_bytes, 1..=8 << 40),
        };
        let database = self.database();
        let secrets = self.secrets(database.is_some());
        Some(Config {
            kept,
            secrets,
            api_address: SocketAddr::new(host, port as u16),
            metrics_address: SocketAddr::new(host, metrics_port as u16),
            session_expiry: self.seconds("SESSION_EXPIRY_SECONDS", 3600, 1..=365 * 86_400),
            runtime_timeout: self.seconds("RUNTIME_TIMEOUT_SECONDS", 30, 1..=3600),
            // As the runtimes' MEMORY_LIMIT_BYTES.
            runtime_memory: self.bytes(
                "RUNTIME_MEMORY_LIMIT_BYTES",
                256 << 20,
                LEAST_MEMORY..=1 << 40,
            ),
            runtime_max_retries: self.number(
                "RUNTIME_MAX_RETRIES",
                3,
                0..=10,
                "a number of retries",
            ) as u32,
            max_script_size: max_script_size as usize,
            max_context_size: max_context_size as usize,
            max_body_size: max_body_size as usize,
            max_bodies_in_memory: max_bodies as usize,
            max_result_size: self.bytes("MAX_RESULT_SIZE", 8 << 20, 1..=512 << 20) as usize,
            max_concurrent_requests: self.number(
                "MAX_CONCURRENT_REQUESTS",
                512,
                1..=100_000,
                "a number of requests",
            ) as usize,
            max_concurrent_executions: self.number(
                "MAX_CONCURRENT_EXECUTIONS",
                128,
                1..=100_000,
                "a number of executions for each language",
            ) as usize,
            shutdown_delay: self.seconds("SHUTDOWN_DELAY_SECONDS", 5, 0..=300),
            max_functions_per_user: self.number(
                "MAX_FUNCTIONS_PER_USER",
                100,
                1..=1_000_000,
                "a number of functions",
            ) as u32,
            max_versions_per_function: self.number(
                "MAX_VERSIONS_PER_FUNCTION",
                20,
                1..=1000,
                "a number of versions",
            ) as u32,
            log_level: self.log_level(),
            database,
            redis: redis?,
            runtimes: PerLanguage {
                nodejs: nodejs?,
                python: python?,
                rust: rust?,
            },
        })
    }

    fn schema(&mut self) -> Option<SchemaConfig> {
        let days = "a whole number of days";
        let log_retention_days = self.number("LOG_RETENTION_DAYS", 90, 1..=36_500, days) as u32;
        let log_level = self.log_level();
        let database = self.database();
        if database.is_none() && !self.has_errors() {
            self.wrong("DATABASE_URL", "nothing", DATABASE_URL);
        }
        Some(SchemaConfig {
            database: database?,
            log_retention_days,
            log_level,
        })
    }

    fn log_level(&mut self) -> LevelFilter {
        self.parsed("LOG_LEVEL", LevelFilter::INFO, LOG_LEVELS)
    }

    fn database(&mut self) -> Option<DatabaseConfig> {
        let url = self.secret("DATABASE_URL");
        let username = self.secret("DATABASE_USERNAME");
        let password = self.secret("DATABASE_PASSWORD");
        let ca_file = self.value("DATABASE_CA_FILE").map(PathBuf::from);
        let pool_size = self.number(
            "DATABASE_POOL_SIZE",
            10,
            1..=1000,
            "a number of connections",
        ) as u32;
        let timeout = self.seconds("DATABASE_TIMEOUT_SECONDS", 3, 1..=30);
        let Some(url) = url else {
            if username.is_some() || password.is_some() || ca_file.is_some() {
                self.wrong(
                    "DATABASE_URL",
                    "nothing",
                    &format!("{DATABASE_URL}, as other variables of the database are set"),
                );
            }
            return None;
        };
        self.readable_authorities("DATABASE_CA_FILE", &ca_file);
        // `secret` has read the file already, so this cannot fail now.
        let text = url.read().ok()?;
        let known = text.starts_with("postgresql://") || text.starts_with("postgres://");
        if !known || text.parse::<PgConnectOptions>().is_err() {
            let found = if text.contains('@') || text.contains("password") {
                HIDDEN.to_owned()
            } else {
                quoted(&text)
            };
            self.wrong("DATABASE_URL", found, DATABASE_URL);
            return None;
        }
        Some(DatabaseConfig {
            url,
            username,
            password,
            ca_file,
            pool_size,
            timeout,
        })
    }

    fn secrets(&mut self, has_database: bool) -> Option<SecretsConfig> {
        let key = self.secret("SECRETS_KEY");
        let previous = self.secret("SECRETS_KEY_PREVIOUS");
        for (variable, secret) in [("SECRETS_KEY", &key), ("SECRETS_KEY_PREVIOUS", &previous)] {
            let text = secret.as_ref().and_then(|secret| secret.read().ok());
            if text.is_some_and(|text| text.len() < SHORTEST_KEY) {
                let expected = format!("a random text of {SHORTEST_KEY} characters or more");
                self.wrong(variable, HIDDEN, &expected);
            }
        }
        let missing = match (&key, &previous) {
            (None, None) => return None,
            (None, Some(_)) => ("SECRETS_KEY", "a key, as SECRETS_KEY_PREVIOUS is set"),
            (Some(_), _) if !has_database && !self.has_errors() => (
                "DATABASE_URL",
                "a database, which keeps the secrets that SECRETS_KEY is for",
            ),
            (Some(_), _) => {
                return key.map(|key| SecretsConfig { key, previous });
            }
        };
        self.wrong(missing.0, "nothing", missing.1);
        None
    }

    fn readable_authorities(&mut self, variable: &str, file: &Option<PathBuf>) {
        let Some(path) = file else { return };
        if let Err(error) = std::fs::read(path) {
            let found = format!("{path:?} ({error})");
            self.wrong(variable, found, "a readable file with certificates in PEM");
        }
    }

    fn redis(&mut self) -> Option<RedisConfig> {
        let url = self.secret("REDIS_URL");
        let sentinels = self.value("REDIS_SENTINELS");
        let master_name = self.value("REDIS_MASTER_NAME");
        let sentinel_username = self.secret("REDIS_SENTINEL_USERNAME");
        let sentinel_password = self.secret("REDIS_SENTINEL_PASSWORD");
        let tls_name = self.value("REDIS_SENTINEL_TLS_NAME");
        let route = match (url, sentinels) {
            (Some(url), None) => self.redis_url(url),
            (None, Some(list)) => self.sentinels(&list).map(|sentinels| RedisRoute::Sentinel {
                sentinels,
                master_name: master_name.unwrap_or_else(|| "mymaster".to_owned()),
                username: sentinel_username,
                password: sentinel_password,
                tls_name,
            }),
            (None, None) => {
                self.wrong(
                    "REDIS_URL",
                    "nothing",
                    "rediss://HOST[:PORT][/DATABASE], or REDIS_SENTINELS instead",
                );
                None
            }
            (Some(_), Some(list)) => {
                self.wrong(
                    "REDIS_SENTINELS",
                    quoted(&list),
                    "only one of REDIS_URL and REDIS_SENTINELS",
                );
                None
            }
        };
        let username = self.secret("REDIS_USERNAME");
        let password = self.secret("REDIS_PASSWORD");
        let ca_file = self.value("REDIS_CA_FILE").map(PathBuf::from);
        self.readable_authorities("REDIS_CA_FILE", &ca_file);
        let timeout = self.seconds("REDIS_TIMEOUT_SECONDS", 3, 1..=30);
        let confirm_replicas =
            self.number("REDIS_CONFIRM_REPLICAS", 0, 0..=10, "a number of replicas") as u32;
        if username.is_some() && password.is_none() {
            self.wrong(
                "REDIS_PASSWORD",
                "nothing",
                "a password, as REDIS_USERNAME is set",
            );
        }
        Some(RedisConfig {
            route: route?,
            username,
            password,
            ca_file,
            timeout,
            confirm_replicas,
        })
    }

    fn redis_url(&mut self, url: Secret) -> Option<RedisRoute> {
        // `secret` has read the file already, so this cannot fail now.
        let text = url.read().ok()?;
        let known = text.starts_with("rediss://") || text.starts_with("redis://");
        // What is behind a # would turn off that certificates are checked.
        if !known || text.contains('#') || (&*text).into_connection_info().is_err() {
            let found = if text.contains('@') {
                HIDDEN.to_owned()
            } else {
                quoted(&text)
            };
            self.wrong(
                "REDIS_URL",
                found,
                "rediss://[USERNAME:PASSWORD@]HOST[:PORT][/DATABASE], or redis:// without TLS",
            );
            return None;
        }
        Some(RedisRoute::Direct(url))
    }

    fn sentinels(&mut self, list: &str) -> Option<Vec<(String, u16)>> {
        let sentinels: Option<Vec<_>> = list
            .split(',')
            .map(|entry| host_and_port(entry.trim(), 26379))
            .collect();
        if sentinels.is_none() {
            self.wrong(
                "REDIS_SENTINELS",
                quoted(list),
                "HOST[:PORT][,HOST[:PORT]]...",
            );
        }
        sentinels
    }

    fn runtime_url(&mut self, variable: &str) -> Option<RuntimeUrl> {
        let expected = "http://HOST[:PORT] (TLS between pods is the mesh's task)";
        let text = self.required(variable, expected)?;
        match text.parse() {
            Ok(url) => Some(url),
            Err(()) => {
                let found = if text.contains('@') {
                    HIDDEN.to_owned()
                } else {
                    quoted(&text)
                };
                self.wrong(variable, found, expected);
                None
            }
        }
    }

    /// A variable that may hold a secret, by value or by the file that VARIABLE_FILE names.
    fn secret(&mut self, variable: &str) -> Option<Secret> {
        let file_variable = format!("{variable}_FILE");
        let secret = match (self.value(variable), self.value(&file_variable)) {
            (Some(_), Some(path)) => {
                self.wrong(
                    &file_variable,
                    quoted(&path),
                    &format!("only one of {variable} and {file_variable}"),
                );
                return None;
            }
            (value, path) => value
                .map(Secret::Value)
                .or(path.map(|path| Secret::File(PathBuf::from(path))))?,
        };
        if let (Secret::File(path), Err(error)) = (&secret, secret.read()) {
            self.wrong(
                &file_variable,
                format!("{} ({error})", quoted(&path.display().to_string())),
                "a readable file with one line",
            );
        }
        Some(secret)
    }
}

/// `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`.
fn host_and_port(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (
                host,
                after
                    .strip_prefix(':')
                    .or((after.is_empty()).then_some(""))?,
            )
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let named = !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c));
    let port = if port.is_empty() {
        default_port
    } else {
        port.parse().ok()?
    };
    (named && port != 0).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const NEEDED: [(&str, &str); 4] = [
        ("REDIS_URL", "redis://redis-master.data-services:6379"),
        (
            "NODEJS_RUNTIME_URL",
            "http://nodejs-runtime.openfaas-fn:8080",
        ),
        (
            "PYTHON_RUNTIME_URL",
            "http://python-runtime.openfaas-fn:8080",
        ),
        ("RUST_RUNTIME_URL", "http://rust-runtime.openfaas-fn:8080/"),
    ];

    fn read_with(changes: &[(&str, Option<&str>)]) -> Result<Config, Vec<ConfigError>> {
        let mut variables: HashMap<&str, &str> = NEEDED.into();
        for (variable, value) in changes {
            match value {
                Some(value) => variables.insert(variable, value),
                None => variables.remove(variable),
            };
        }
        read(|name| variables.get(name).map(|value| (*value).to_owned()))
    }

    fn error_of(changes: &[(&str, Option<&str>)]) -> String {
        let errors = read_with(changes).expect_err("this configuration is wrong");
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors[0].to_string()
    }

    #[test]
    fn the_defaults_are_those_of_the_design() {
        let config = read_with(&[]).unwrap();
        assert_eq!(config.api_address, "0.0.0.0:8080".parse().unwrap());
        assert_eq!(config.metrics_address, "0.0.0.0:9090".parse().unwrap());
        assert_eq!(config.session_expiry, Duration::from_secs(3600));
        assert_eq!(config.runtime_call_timeout(), Duration::from_secs(32));
        assert_eq!(config.shutdown_grace(), Duration::from_secs(35));
        assert_eq!(config.runtime_max_retries, 3);
        assert_eq!(config.max_script_size, 1_048_576);
        assert_eq!(config.shutdown_delay, Duration::from_secs(5));
        assert_eq!(
            config.runtimes.rust,
            RuntimeUrl {
                host: "rust-runtime.openfaas-fn".into(),
                port: 8080,
                prefix: String::new()
            }
        );
    }

    #[test]
    fn a_wrong_value_names_the_variable_what_was_found_and_what_is_expected() {
        for (variable, value, expected) in [
            (
                "PORT",
                "http",
                "PORT: found \"http\", expected a TCP port from 1 to 65535",
            ),
            (
                "PORT",
                "0",
                "PORT: found \"0\", expected a TCP port from 1 to 65535",
            ),
            (
                "METRICS_PORT",
                "8080",
                "METRICS_PORT: found 8080, expected a port other than PORT",
            ),
            (
                "HOST",
                "localhost",
                "HOST: found \"localhost\", expected an IP address to listen on",
            ),
            (
                "DATABASE_URL",
                "mysql://host/lambda",
                "DATABASE_URL: found \"mysql://host/lambda\", expected postgresql://HOST[:PORT]/DATABASE",
            ),
            (
                "DATABASE_USERNAME",
                "controller",
                "DATABASE_URL: found nothing, expected postgresql://HOST[:PORT]/DATABASE, as other variables of the database are set",
            ),
            (
                "LOG_LEVEL",
                "loud",
                "LOG_LEVEL: found \"loud\", expected error, warn, info, debug or trace",
            ),
            (
                "SESSION_EXPIRY_SECONDS",
                "1h",
                "SESSION_EXPIRY_SECONDS: found \"1h\", expected a whole number of seconds from 1 to 31536000",
            ),
            (
                "NODEJS_RUNTIME_URL",
                "https://nodejs",
                "NODEJS_RUNTIME_URL: found \"https://nodejs\", expected http://HOST[:PORT] (TLS between pods is the mesh's task)",
            ),
            (
                "MAX_BODY_SIZE",
                "1000",
                "MAX_BODY_SIZE: found 1000, expected at least MAX_SCRIPT_SIZE (1048576), as the script is a part of the body",
            ),
            (
                "REDIS_USERNAME",
                "controller",
                "REDIS_PASSWORD: found nothing, expected a password, as REDIS_USERNAME is set",
            ),
            (
                "REDIS_PASSWORD_FILE",
                "/nowhere/password",
                "REDIS_PASSWORD_FILE: found \"/nowhere/password\" (No such file or directory (os error 2)), expected a readable file with one line",
            ),
            (
                "SECRETS_KEY_PREVIOUS",
                "hunter2-hunter2-hunter2-hunter2-",
                "SECRETS_KEY: found nothing, expected a key, as SECRETS_KEY_PREVIOUS is set",
            ),
            (
                "SECRETS_KEY",
                "hunter2-hunter2-hunter2-hunter2-",
                "DATABASE_URL: found nothing, expected a database, which keeps the secrets that SECRETS_KEY is for",
            ),
            (
                "RUNTIME_MEMORY_LIMIT_BYTES",
                "1Mi",
                "RUNTIME_MEMORY_LIMIT_BYTES: found \"1Mi\", expected a number of bytes from 64Mi to 1Ti, as in 1048576, 512Ki, 64Mi, 1Gi or 1M",
            ),
            (
                "REDIS_SENTINELS",
                "a:26379",
                "REDIS_SENTINELS: found \"a:26379\", expected only one of REDIS_URL and REDIS_SENTINELS",
            ),
        ] {
            assert_eq!(error_of(&[(variable, Some(value))]), expected);
        }
    }

    #[test]
    fn a_missing_or_empty_variable_is_named() {
        for (variable, _) in NEEDED {
            for value in [None, Some("")] {
                let error = error_of(&[(variable, value)]);
                assert!(
                    error.starts_with(&format!("{variable}: found nothing, expected ")),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn all_wrong_variables_are_named_at_once() {
        let errors = read_with(&[
            ("PORT", Some("x")),
            ("RUST_RUNTIME_URL", None),
            ("REDIS_URL", None),
        ])
        .unwrap_err();
        let names: Vec<_> = errors.iter().map(|error| error.variable.as_str()).collect();
        assert_eq!(names, ["PORT", "REDIS_URL", "RUST_RUNTIME_URL"]);
    }

    #[test]
    fn a_url_that_may_hold_a_password_is_not_shown() {
        for url in [
            "rediss://u:hunter2@host#insecure",
            "http://u:hunter2@host",
            "redis://u:hunter2@host/notanumber",
        ] {
            let error = error_of(&[("REDIS_URL", Some(url))]);
            assert!(!error.contains("hunter2"), "{error}");
        }
        let config = read_with(&[("REDIS_URL", Some("redis://u:hunter2@host"))]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn the_database_is_reached_with_tls_unless_its_url_says_otherwise() {
        let options = |url| {
            let config = read_with(&[("DATABASE_URL", Some(url))]).unwrap();
            config.database.unwrap().connect_options().unwrap()
        };
        let checked = options("postgresql://pgbouncer.data-services:6432/lambda");
        assert!(matches!(checked.get_ssl_mode(), PgSslMode::VerifyFull));
        assert_eq!(
            (checked.get_port(), checked.get_database()),
            (6432, Some("lambda"))
        );
        let plain = options("postgresql://localhost/lambda?sslmode=disable");
        assert!(matches!(plain.get_ssl_mode(), PgSslMode::Disable));
        assert!(read_with(&[]).unwrap().database.is_none());
        let error = error_of(&[("DATABASE_URL", Some("mysql://u:hunter2@host"))]);
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_short_key_of_secrets_is_refused_and_not_shown() {
        let database = ("DATABASE_URL", Some("postgresql://host/lambda"));
        let error = error_of(&[database, ("SECRETS_KEY", Some("hunter2"))]);
        let expected = "expected a random text of 32 characters or more";
        assert!(
            error.contains(expected) && !error.contains("hunter2"),
            "{error}"
        );
        let key = ("SECRETS_KEY", Some("hunter2-hunter2-hunter2-hunter2-"));
        let config = read_with(&[database, key]).unwrap();
        assert!(config.secrets.is_some() && !format!("{config:?}").contains("hunter2"));
        assert!(read_with(&[database]).unwrap().secrets.is_none());
    }

    #[test]
    fn the_commands_for_the_schema_need_the_database_alone() {
        let read = |variables: &[(&str, &str)]| {
            read_schema(|name| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let config = read(&[("DATABASE_URL", "postgresql://host/lambda")]).unwrap();
        assert_eq!(config.log_retention_days, 90);
        let errors = read(&[("LOG_RETENTION_DAYS", "60")]).unwrap_err();
        assert_eq!(
            errors[0].to_string(),
            "DATABASE_URL: found nothing, expected postgresql://HOST[:PORT]/DATABASE"
        );
    }

    #[test]
    fn sentinels_are_a_list() {
        let changes = [
            ("REDIS_URL", None),
            ("REDIS_SENTINELS", Some("a, b:1 ,[::1]:2,[::1]")),
            ("REDIS_MASTER_NAME", Some("m")),
        ];
        match read_with(&changes).unwrap().redis.route {
            RedisRoute::Sentinel {
                sentinels,
                master_name,
                ..
            } => {
                let expected = [("a", 26379), ("b", 1), ("::1", 2), ("::1", 26379)];
                assert_eq!(
                    sentinels,
                    expected.map(|(host, port)| (host.to_owned(), port))
                );
                assert_eq!(master_name, "m");
            }
            other => panic!("{other:?}"),
        }
        for wrong in [",", "a:x", "a:0", "[::1", "[a]:1", "a b"] {
            assert!(
                read_with(&[("REDIS_URL", None), ("REDIS_SENTINELS", Some(wrong))]).is_err(),
                "{wrong}"
            );
        }
    }
}
