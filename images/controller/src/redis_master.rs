//! Connections to the Redis master that survive its failover.
//!
//! Reads and writes have a connection (a lane) each, because a write may wait for replicas and Redis answers the
//! commands of one connection in order. A task for each lane connects, and connects again as soon as a command on it
//! fails or it falls silent, so a request only waits for the outcome, and no longer than its deadline. A connection that
//! still answers others is only slow, and stays. All commands sent here are idempotent, so one whose answer was lost is
//! sent again.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::io::AsyncDNSResolver;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue,
    IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisError, RedisFuture, TlsCertificates,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::config::{RedisConfig, RedisRoute};
use crate::metrics::{Metrics, RedisCommandLabels, RedisErrorLabels};
use crate::secret::Secret;

/// An attempt to connect or an answer that takes longer is given up and tried again: several fit into the time that
/// a request waits.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// A connection that lived shorter than this did not lead to a working master, so the pauses go on growing.
const STABLE_AFTER: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub enum Lane {
    Read,
    Write,
}

impl Lane {
    const fn name(self) -> &'static str {
        match self {
            Lane::Read => "read",
            Lane::Write => "write",
        }
    }
}

/// Redis did not do what was asked in time. The text is for the log and for `/ready`; it holds no values.
#[derive(Clone, Debug)]
pub struct RedisUnavailable(pub String);

pub struct RedisMaster {
    read: Line,
    write: Line,
    metrics: Arc<Metrics>,
    /// Ends the connecting tasks with this value.
    _connecting: JoinSet<()>,
}

struct Line {
    lane: Lane,
    link: watch::Receiver<Link>,
    broken: mpsc::Sender<u64>,
}

#[derive(Clone)]
enum Link {
    Up(Connected),
    Down { cause: String },
}

#[derive(Clone)]
struct Connected {
    generation: u64,
    connection: MultiplexedConnection,
    /// When an answer came last.
    heard: Arc<Mutex<Instant>>,
}

impl Connected {
    /// The answer, or nothing once the connection has been silent for `ATTEMPT_TIMEOUT`.
    async fn query<T: FromRedisValue>(
        &mut self,
        commands: &Pipeline,
    ) -> Option<Result<T, RedisError>> {
        let sent = Instant::now();
        let mut query = pin!(commands.query_async(&mut self.connection));
        let heard = || *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let silent_at = sent.max(heard()) + ATTEMPT_TIMEOUT;
            match timeout_at(silent_at, &mut query).await {
                Ok(answer) => {
                    *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                    return Some(answer);
                }
                Err(_) if sent.max(heard()) + ATTEMPT_TIMEOUT > silent_at => {}
                Err(_) => return None,
            }
        }
    }
}

impl RedisMaster {
    /// Begins to connect; does not wait for it.
    pub fn new(config: &RedisConfig, metrics: Arc<Metrics>) -> Self {
        let mut connecting = JoinSet::new();
        let config = Arc::new(config.clone());
        let mut line = |lane: Lane| {
            let (link_sender, link) = watch::channel(Link::Down {
                cause: "not connected yet".to_owned(),
            });
            let (broken, broken_receiver) = mpsc::channel(64);
            connecting.spawn(keep_connected(
                lane,
                config.clone(),
                link_sender,
                broken_receiver,
                metrics.clone(),
            ));
            Line { lane, link, broken }
        };
        RedisMaster {
            read: line(Lane::Read),
            write: line(Lane::Write),
            metrics,
            _connecting: connecting,
        }
    }

    /// Runs `commands`, again where needed, until they succeed, fail for good, or `deadline` is reached.
    pub async fn run<T: FromRedisValue>(
        &self,
        lane: Lane,
        commands: &Pipeline,
        deadline: Instant,
    ) -> Result<T, RedisUnavailable> {
        let line = match lane {
            Lane::Read => &self.read,
            Lane::Write => &self.write,
        };
        let mut last_cause = None;
        loop {
            let Some(mut connected) = line.connection(deadline).await else {
                return Err(RedisUnavailable(last_cause.unwrap_or_else(|| line.cause())));
            };
            let (kind, reaction, cause) =
                match timeout_at(deadline, connected.query(commands)).await {
                    Ok(Some(Ok(answer))) => return Ok(answer),
                    Ok(Some(Err(error))) => {
                        let (kind, reaction) = assess(&error);
                        (kind, reaction, describe(&error))
                    }
                    Ok(None) => {
                        let cause = "the connection is silent".to_owned();
                        ("timeout", Reaction::Reconnect, cause)
                    }
                    Err(_) => {
                        self.count("timeout");
                        return Err(RedisUnavailable("no answer in time".to_owned()));
                    }
                };
            self.count(kind);
            match reaction {
                Reaction::Reconnect => line.report_broken(connected.generation),
                Reaction::Wait => sleep(FIRST_PAUSE * 4).await,
                Reaction::Fail => return Err(RedisUnavailable(cause)),
            }
            last_cause = Some(cause);
        }
    }

    pub async fn ping(&self, deadline: Instant) -> Result<(), RedisUnavailable> {
        let mut ping = Pipeline::new();
        ping.cmd("PING").ignore();
        tokio::try_join!(
            self.run::<()>(Lane::Read, &ping, deadline),
            self.run::<()>(Lane::Write, &ping, deadline)
        )?;
        Ok(())
    }

    pub fn count(&self, kind: &'static str) {
        self.metrics
            .redis_errors
            .get_or_create(&RedisErrorLabels { kind })
            .inc();
    }

    pub fn observe(&self, lane: Lane, duration: Duration) {
        self.metrics
            .redis_seconds
            .get_or_create(&RedisCommandLabels { lane: lane.name() })
            .observe(duration.as_secs_f64());
    }
}

impl Line {
    async fn connection(&self, deadline: Instant) -> Option<Connected> {
        let mut link = self.link.clone();
        let up = timeout_at(deadline, link.wait_for(|link| matches!(link, Link::Up(_)))).await;
        match &*up.ok()?.ok()? {
            Link::Up(connected) => Some(connected.clone()),
            Link::Down { .. } => None,
        }
    }

    fn cause(&self) -> String {
        match &*self.link.borrow() {
            Link::Up(_) => "no answer in time".to_owned(),
            Link::Down { cause } => cause.clone(),
        }
    }

    /// Many requests find the same connection broken; one report of it is enough, so a full channel is no loss.
    fn report_broken(&self, generation: u64) {
        let _ = self.broken.try_send(generation);
        tracing::debug!(
            lane = self.lane.name(),
            generation,
            "Redis connection given up"
        );
    }
}

async fn keep_connected(
    lane: Lane,
    config: Arc<RedisConfig>,
    link: watch::Sender<Link>,
    mut broken: mpsc::Receiver<u64>,
    metrics: Arc<Metrics>,
) {
    let gauge = metrics
        .redis_connected
        .get_or_create_owned(&RedisCommandLabels { lane: lane.name() });
    let mut failures = 0;
    for generation in 0.. {
        let connection = loop {
            sleep(pause(failures)).await;
            let attempt = timeout(ATTEMPT_TIMEOUT * 2, connect(&config)).await;
            let cause = match attempt {
                Ok(Ok(connection)) => break connection,
                Ok(Err(error)) => {
                    let (kind, _) = assess(&error);
                    metrics
                        .redis_errors
                        .get_or_create(&RedisErrorLabels { kind })
                        .inc();
                    describe(&error)
                }
                Err(_) => {
                    metrics
                        .redis_errors
                        .get_or_create(&RedisErrorLabels { kind: "timeout" })
                        .inc();
                    "connecting took too long".to_owned()
                }
            };
            failures += 1;
            tracing::warn!(
                lane = lane.name(),
                failures,
                cause,
                "cannot connect to the Redis master"
            );
            link.send_replace(Link::Down { cause });
        };
        tracing::info!(
            lane = lane.name(),
            generation,
            "connected to the Redis master"
        );
        let since = Instant::now();
        gauge.set(1);
        link.send_replace(Link::Up(Connected {
            generation,
            connection,
            heard: Arc::new(Mutex::new(since)),
        }));
        loop {
            match broken.recv().await {
                Some(reported) if reported == generation => break,
                // A late report of a connection that has been replaced already.
                Some(_) => {}
                None => return,
            }
        }
        gauge.set(0);
        link.send_replace(Link::Down {
            cause: "the connection was lost".to_owned(),
        });
        failures = if since.elapsed() < STABLE_AFTER {
            failures + 1
        } else {
            0
        };
    }
}

/// None before the first attempt, then doubling, with the lower half at random so that replicas do not come together.
fn pause(failures: u32) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let longest = FIRST_PAUSE
        .saturating_mul(1 << (failures - 1).min(16))
        .min(LONGEST_PAUSE);
    longest.mul_f64(rand::random_range(0.5..=1.0))
}

async fn connect(config: &RedisConfig) -> Result<MultiplexedConnection, RedisError> {
    let ca_file = config.ca_file.as_deref();
    match &config.route {
        RedisRoute::Direct(url) => {
            let info = secret(url)?.into_connection_info()?;
            let settings = credentials(
                info.redis_settings().clone(),
                &config.username,
                &config.password,
            )?;
            open(info.set_redis_settings(settings), ca_file, None).await
        }
        RedisRoute::Sentinel {
            sentinels,
            master_name,
            username,
            password,
            tls_name,
        } => {
            let way = Way {
                ca_file,
                tls_name: tls_name.as_deref(),
            };
            let settings = credentials(RedisConnectionInfo::default(), username, password)?;
            let master = ask_sentinels(sentinels, master_name, &settings, way).await?;
            let settings = credentials(
                RedisConnectionInfo::default(),
                &config.username,
                &config.password,
            )?;
            let mut connection = way.open(&master, settings).await?;
            // A Sentinel may not know yet that its master was replaced; the node itself does
            // (https://redis.io/docs/latest/develop/reference/sentinel-clients/, step 3).
            let role: Vec<redis::Value> = redis::cmd("ROLE").query_async(&mut connection).await?;
            match role.first() {
                Some(redis::Value::BulkString(role)) if role == b"master" => Ok(connection),
                _ => Err(RedisError::from((
                    ErrorKind::Io,
                    "the Sentinels name a node that is not a master",
                ))),
            }
        }
    }
}

/// Asks all at once and takes the first that knows, so a Sentinel that does not answer costs nothing.
async fn ask_sentinels(
    sentinels: &[(String, u16)],
    master_name: &str,
    settings: &RedisConnectionInfo,
    way: Way<'_>,
) -> Result<(String, u16), RedisError> {
    let mut answers: FuturesUnordered<_> = sentinels
        .iter()
        .map(|sentinel| async move {
            let mut connection = way.open(sentinel, settings.clone()).await?;
            redis::cmd("SENTINEL")
                .arg("GET-MASTER-ADDR-BY-NAME")
                .arg(master_name)
                .query_async::<Option<(String, u16)>>(&mut connection)
                .await
        })
        .collect();
    let mut last = RedisError::from((ErrorKind::EmptySentinelList, "there is no Sentinel"));
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(Some(master)) => return Ok(master),
            Ok(None) => {
                last = (
                    ErrorKind::MasterNameNotFoundBySentinel,
                    "the Sentinels do not know the master's name",
                )
                    .into()
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// To servers and Sentinels that are known by address.
#[derive(Clone, Copy)]
struct Way<'a> {
    ca_file: Option<&'a Path>,
    tls_name: Option<&'a str>,
}

impl Way<'_> {
    async fn open(
        &self,
        (host, port): &(String, u16),
        settings: RedisConnectionInfo,
    ) -> Result<MultiplexedConnection, RedisError> {
        let (address, resolver) = match self.tls_name {
            None => (ConnectionAddr::Tcp(host.clone(), *port), None),
            Some(name) => (
                ConnectionAddr::TcpTls {
                    host: name.to_owned(),
                    port: *port,
                    insecure: false,
                    tls_params: None,
                },
                Some(At(host.clone())),
            ),
        };
        let info = address.into_connection_info()?;
        open(info.set_redis_settings(settings), self.ca_file, resolver).await
    }
}

/// Where the name of a certificate is to be found: at this host, whatever the name is.
struct At(String);

impl AsyncDNSResolver for At {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        _name: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((self.0.as_str(), port)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Box<_>)
        })
    }
}

fn credentials(
    mut settings: RedisConnectionInfo,
    username: &Option<Secret>,
    password: &Option<Secret>,
) -> Result<RedisConnectionInfo, RedisError> {
    if let Some(username) = username {
        settings = settings.set_username(secret(username)?);
    }
    if let Some(password) = password {
        settings = settings.set_password(secret(password)?);
    }
    // Without CLIENT SETINFO the user needs no right to CLIENT.
    Ok(settings.set_skip_set_lib_name())
}

fn secret(secret: &Secret) -> Result<String, RedisError> {
    secret.read().map_err(|error| {
        RedisError::from((
            ErrorKind::InvalidClientConfig,
            "a secret cannot be read",
            error.to_string(),
        ))
    })
}

async fn open(
    info: ConnectionInfo,
    ca_file: Option<&Path>,
    resolver: Option<At>,
) -> Result<MultiplexedConnection, RedisError> {
    // A command is small, and many share a connection: by default it would wait until the one before it is acknowledged.
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ATTEMPT_TIMEOUT))
        // A request has its own deadline, and a silent connection is given up before.
        .set_response_timeout(None);
    if let Some(resolver) = resolver {
        config = config.set_dns_resolver(resolver);
    }
    let client = match info.addr() {
        // Read at each connection: during a change of authorities the file has both.
        ConnectionAddr::TcpTls { .. } => {
            let certificates = TlsCertificates {
                client_tls: None,
                root_cert: ca_file.map(std::fs::read).transpose()?,
            };
            Client::build_with_tls(info, certificates)?
        }
        _ => Client::open(info)?,
    };
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    /// This connection does not lead to a working master.
    Reconnect,
    /// It does, but not at this moment.
    Wait,
    /// Asking again gives the same answer.
    Fail,
}

/// The metric's label and what to do.
fn assess(error: &RedisError) -> (&'static str, Reaction) {
    if let Some(code) = server_code(error) {
        return match code.as_str() {
            // What a node says that was demoted, or that lost its master, while the way to it stands.
            "READONLY" | "MASTERDOWN" | "UNBLOCKED" => ("not_master", Reaction::Reconnect),
            "LOADING" => ("loading", Reaction::Reconnect),
            "NOREPLICAS" => ("replication", Reaction::Wait),
            "BUSY" | "TRYAGAIN" => ("busy", Reaction::Wait),
            "OOM" => ("memory", Reaction::Fail),
            "NOAUTH" | "WRONGPASS" => ("auth", Reaction::Reconnect),
            "NOPERM" => ("auth", Reaction::Fail),
            _ => ("other", Reaction::Fail),
        };
    }
    match error.kind() {
        ErrorKind::Io if error.is_timeout() => ("timeout", Reaction::Reconnect),
        ErrorKind::Io | ErrorKind::Parse => ("connection", Reaction::Reconnect),
        ErrorKind::AuthenticationFailed => ("auth", Reaction::Reconnect),
        ErrorKind::MasterNameNotFoundBySentinel | ErrorKind::EmptySentinelList => {
            ("sentinel", Reaction::Reconnect)
        }
        _ => ("other", Reaction::Fail),
    }
}

/// The first word of the server's own error, of a pipeline's first one (`RedisError::code` knows none of those).
fn server_code(error: &RedisError) -> Option<String> {
    let errors = error.clone().into_server_errors()?;
    errors.first().map(|(_, error)| error.code().to_owned())
}

/// A server's own words can quote the command's arguments ("unknown command ..., with args beginning with: ..."), and
/// a session is one of those, so of a server's error only the code is shown.
fn describe(error: &RedisError) -> String {
    match (server_code(error), error.kind()) {
        (Some(code), _) => format!("Redis answered {code}"),
        (None, ErrorKind::AuthenticationFailed) => {
            "Redis refused the username or the password".to_owned()
        }
        (None, _) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert_eq!(pause(0), Duration::ZERO);
        for failures in 1..200 {
            let pause = pause(failures);
            assert!(
                pause >= FIRST_PAUSE / 2 && pause <= LONGEST_PAUSE,
                "{failures}: {pause:?}"
            );
        }
        assert!(pause(20) >= LONGEST_PAUSE / 2);
    }

    #[tokio::test]
    async fn a_connection_that_is_slow_stays_and_one_that_is_silent_is_replaced() {
        for (pause, opened) in [(600, 2), (30_000, 3)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("redis://{}", listener.local_addr().unwrap());
            let connections = Arc::new(AtomicUsize::new(0));
            let counted = connections.clone();
            // Answers one PING after the other, each after a pause; the first connection alone is slow.
            tokio::spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let first = counted.fetch_add(1, Ordering::SeqCst) < 2;
                    tokio::spawn(async move {
                        let mut buffer = [0; 4096];
                        loop {
                            let length = stream.read(&mut buffer).await.unwrap_or(0);
                            let pings = buffer[..length].windows(4).filter(|text| text == b"PING");
                            for _ in 0..pings.count() {
                                let pause = if first { pause } else { 0 };
                                sleep(Duration::from_millis(pause)).await;
                                let _ = stream.write_all(b"+PONG\r\n").await;
                            }
                            if length == 0 {
                                return;
                            }
                        }
                    });
                }
            });
            let config = crate::config::read(|name| match name {
                "REDIS_URL" => Some(url.clone()),
                _ if name.ends_with("_RUNTIME_URL") => Some("http://runtime.invalid".to_owned()),
                _ => None,
            });
            let redis = RedisMaster::new(&config.unwrap().redis, Arc::new(Metrics::new()));
            let mut ping = Pipeline::new();
            ping.cmd("PING").ignore();
            let deadline = Instant::now() + Duration::from_secs(10);
            let run = || redis.run::<()>(Lane::Read, &ping, deadline);
            let answers = tokio::join!(run(), run(), run(), run());
            assert!(
                matches!(answers, (Ok(()), Ok(()), Ok(()), Ok(()))),
                "{answers:?}"
            );
            assert_eq!(connections.load(Ordering::SeqCst), opened, "{pause}");
        }
    }
}
