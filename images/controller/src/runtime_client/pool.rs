//! Kept HTTP/1.1 connections to one runtime.
//!
//! A general client's pool would do, but for two needs. The load of a Kubernetes Service is spread when a connection
//! is opened, so a connection under steady load would stay with its pod for ever and a pod that the HPA adds would
//! get nothing: connections are taken in turn and leave at `LONGEST_LIFE`. And a script must never run twice, so it
//! has to be known whether a failed request had left: hyper's own connection tells that, by giving the request back.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// Shorter than the runtimes' shutdown delay (5 s), during which a runtime still answers: when it closes its listener,
/// nobody keeps an idle connection to it that a request could be lost on.
const LONGEST_IDLE: Duration = Duration::from_secs(4);
const LONGEST_LIFE: Duration = Duration::from_secs(15);
const MOST_IDLE: usize = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

pub struct Pool {
    host: String,
    port: u16,
    idle: Mutex<VecDeque<Idle>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// A connection in use. Dropped without `Pool::give_back`, it is closed at once, which tells the runtime that nobody
/// waits for its answer any more.
pub struct Connection {
    pub sender: SendRequest<Full<Bytes>>,
    pub reused: bool,
    driver: AbortHandle,
    opened: Instant,
    life: Duration,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Pool {
    pub fn new(host: String, port: u16) -> Self {
        Pool {
            host,
            port,
            idle: Mutex::new(VecDeque::new()),
        }
    }

    /// An idle connection, or a new one. Nothing has been sent on it when this fails.
    pub async fn take(&self) -> io::Result<Connection> {
        while let Some(mut connection) = self.take_idle() {
            // Not ready means that the runtime has closed it.
            if connection.sender.ready().await.is_ok() {
                connection.reused = true;
                return Ok(connection);
            }
        }
        self.open().await
    }

    /// Keeps a connection whose answer was read to its end.
    pub fn give_back(&self, connection: Connection) {
        let idle = Idle {
            connection,
            since: Instant::now(),
        };
        if idle.is_fresh() {
            let mut queue = self
                .idle
                .lock()
                .expect("no code panics while it holds this lock");
            if queue.len() < MOST_IDLE {
                queue.push_back(idle);
            }
        }
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut queue = self
            .idle
            .lock()
            .expect("no code panics while it holds this lock");
        // The oldest first: all idle connections take turns, and with them the pods behind them.
        while let Some(idle) = queue.pop_front() {
            if idle.is_fresh() {
                return Some(idle.connection);
            }
        }
        None
    }

    async fn open(&self) -> io::Result<Connection> {
        let stream = timeout(CONNECT_TIMEOUT, connect(&self.host, self.port))
            .await
            .unwrap_or_else(|_| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "connecting took too long",
                ))
            })?;
        stream.set_nodelay(true)?;
        let (sender, driver) = handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let driver = tokio::spawn(async move {
            // Its error reaches whoever has a request on this connection.
            let _ = driver.await;
        });
        Ok(Connection {
            sender,
            reused: false,
            driver: driver.abort_handle(),
            opened: Instant::now(),
            // Spread out, so that connections opened together do not end together.
            life: LONGEST_LIFE.mul_f64(rand::random_range(0.7..=1.0)),
        })
    }

    /// Closes what has been idle for too long, for a runtime that nobody calls any more.
    pub fn close_stale(&self) {
        let mut queue = self
            .idle
            .lock()
            .expect("no code panics while it holds this lock");
        queue.retain(Idle::is_fresh);
    }
}

impl Idle {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < LONGEST_IDLE
            && self.connection.opened.elapsed() < self.connection.life
            && !self.connection.sender.is_closed()
    }
}

async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((host, port)).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
