//! A runtime's pods and kept HTTP/1.1 connections to each.
//!
//! A general client's pool would do, but for two needs. A pod must be chosen by what it has to do, and the same one
//! again for the same caller's script, whose process it keeps: so the Service is headless, its name leads to all pods
//! that are ready, and the choice is made here. And a script must never run twice, so it has to be known whether a
//! failed request had left: hyper's own connection tells that, by giving the request back.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rand::seq::IteratorRandom;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// Shorter than the runtimes' shutdown delay (5 s), during which a runtime still answers: when it closes its listener,
/// nobody keeps an idle connection to it that a request could be lost on.
const LONGEST_IDLE: Duration = Duration::from_secs(4);
const MOST_IDLE: usize = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// For which a pod that could not be reached is asked only when there is no other: about as long as its name still leads
/// to a pod that is gone.
const SET_ASIDE: Duration = Duration::from_secs(5);
/// How many more executions than another the pod may have that keeps a script's processes: a new process costs more than
/// a short wait.
const FAVOUR: usize = 1;

pub struct Pods {
    host: String,
    port: u16,
    known: Mutex<Vec<Arc<Pod>>>,
}

struct Pod {
    address: SocketAddr,
    /// Executions that this process has there.
    executions: AtomicUsize,
    idle: Mutex<VecDeque<Idle>>,
    unreachable: Mutex<Option<Instant>>,
}

/// A pod with one execution more, until this value is dropped.
pub struct Place(Arc<Pod>);

struct Idle {
    connection: Connection,
    since: Instant,
}

/// A connection in use. Dropped without `Place::give_back`, it is closed at once, which tells the runtime that nobody
/// waits for its answer any more.
pub struct Connection {
    pub sender: SendRequest<Full<Bytes>>,
    pub reused: bool,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pods {
    pub fn new(host: String, port: u16) -> Self {
        Pods {
            host,
            port,
            known: Mutex::new(Vec::new()),
        }
    }

    /// Asks for the name's addresses. What is known stays known when there is no answer: a name server that is away
    /// says nothing about the pods.
    pub async fn look_up(&self) -> io::Result<()> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<_> = lookup_host((host, self.port)).await?.collect();
        if found.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            ));
        }
        self.set(&found);
        Ok(())
    }

    pub(super) fn set(&self, addresses: &[SocketAddr]) {
        let mut known = lock(&self.known);
        known.retain(|pod| addresses.contains(&pod.address));
        for address in addresses {
            if !known.iter().any(|pod| pod.address == *address) {
                known.push(Arc::new(Pod {
                    address: *address,
                    executions: AtomicUsize::new(0),
                    idle: Mutex::new(VecDeque::new()),
                    unreachable: Mutex::new(None),
                }));
            }
        }
    }

    pub fn are_known(&self) -> bool {
        !lock(&self.known).is_empty()
    }

    /// A pod that is not among `tried`: the one to which `affinity` leads, or another taken at random if that has fewer
    /// executions. With two choices no pod gets much more than the others, although nobody knows of all.
    pub fn choose(&self, affinity: u64, tried: &[SocketAddr]) -> Option<Place> {
        let known = lock(&self.known);
        let untried = || known.iter().filter(|pod| !tried.contains(&pod.address));
        let any_reachable = untried().any(|pod| pod.is_reachable());
        let candidates = || untried().filter(|pod| !any_reachable || pod.is_reachable());
        // Rendezvous hashing: a pod that comes or goes moves none but its own.
        let favourite = candidates().max_by_key(|pod| {
            let mut hasher = DefaultHasher::new();
            (affinity, pod.address).hash(&mut hasher);
            hasher.finish()
        })?;
        let other = candidates()
            .filter(|pod| pod.address != favourite.address)
            .choose(&mut rand::rng());
        let chosen = match other {
            Some(other) if favourite.executions() > other.executions() + FAVOUR => other,
            _ => favourite,
        };
        chosen.executions.fetch_add(1, Ordering::Relaxed);
        Some(Place(chosen.clone()))
    }

    /// Closes what has been idle for too long, for a runtime that nobody calls any more.
    pub fn close_stale(&self) {
        for pod in lock(&self.known).iter() {
            lock(&pod.idle).retain(Idle::is_fresh);
        }
    }
}

impl Pod {
    fn executions(&self) -> usize {
        self.executions.load(Ordering::Relaxed)
    }

    fn is_reachable(&self) -> bool {
        lock(&self.unreachable).is_none_or(|since| since.elapsed() >= SET_ASIDE)
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut queue = lock(&self.idle);
        // The newest first, so that what is too many grows old.
        while let Some(idle) = queue.pop_back() {
            if idle.is_fresh() {
                return Some(idle.connection);
            }
        }
        None
    }

    async fn open(&self) -> io::Result<Connection> {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(self.address))
            .await
            .unwrap_or_else(|_| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "connecting took too long",
                ))
            });
        *lock(&self.unreachable) = stream.is_err().then(Instant::now);
        let stream = stream?;
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
        })
    }
}

impl Place {
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// An idle connection, or a new one. Nothing has been sent on it when this fails.
    pub async fn connection(&self) -> io::Result<Connection> {
        while let Some(mut connection) = self.0.take_idle() {
            // Not ready means that the runtime has closed it.
            if connection.sender.ready().await.is_ok() {
                connection.reused = true;
                return Ok(connection);
            }
        }
        self.0.open().await
    }

    /// Keeps a connection whose answer was read to its end.
    pub fn give_back(&self, connection: Connection) {
        let idle = Idle {
            connection,
            since: Instant::now(),
        };
        let mut queue = lock(&self.0.idle);
        if idle.is_fresh() && queue.len() < MOST_IDLE {
            queue.push_back(idle);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.executions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Idle {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < LONGEST_IDLE && !self.connection.sender.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u8) -> Vec<SocketAddr> {
        (1..=count)
            .map(|number| SocketAddr::from(([127, 0, 0, number], 1)))
            .collect()
    }

    fn pods(count: u8) -> Pods {
        let pods = Pods::new("runtime".to_owned(), 1);
        pods.set(&addresses(count));
        pods
    }

    #[test]
    fn the_same_script_of_the_same_caller_goes_to_the_same_pod_in_every_replica() {
        let (one, other) = (pods(5), pods(5));
        let mut led_to = [0; 6];
        for affinity in 0..1000 {
            let chosen = one.choose(affinity, &[]).unwrap().address();
            assert_eq!(other.choose(affinity, &[]).unwrap().address(), chosen);
            let SocketAddr::V4(v4) = chosen else { panic!() };
            led_to[v4.ip().octets()[3] as usize] += 1;
        }
        assert!(led_to[1..].iter().all(|&count| count > 100), "{led_to:?}");
    }

    #[test]
    fn a_pod_that_goes_moves_none_but_its_own() {
        let pods = pods(5);
        let chosen = |pods: &Pods| -> Vec<_> {
            (0..500)
                .map(|affinity| pods.choose(affinity, &[]).unwrap().address())
                .collect()
        };
        let before = chosen(&pods);
        pods.set(&addresses(4));
        for (before, after) in before.iter().zip(chosen(&pods)) {
            assert!(
                *before == after || *before == addresses(5)[4],
                "{before} -> {after}"
            );
        }
    }

    #[test]
    fn one_caller_spreads_over_all_pods_when_it_asks_for_much_at_once() {
        let pods = pods(4);
        let places: Vec<_> = (0..400).map(|_| pods.choose(7, &[]).unwrap()).collect();
        let count = |address| places.iter().filter(|at| at.address() == address).count();
        for address in addresses(4) {
            assert!((80..=120).contains(&count(address)), "{address}");
        }
        drop(places);
        assert!(lock(&pods.known).iter().all(|pod| pod.executions() == 0));
    }

    #[test]
    fn what_was_tried_is_not_chosen_and_what_cannot_be_reached_is_the_last_resort() {
        let pods = pods(3);
        let all = addresses(3);
        assert_eq!(pods.choose(1, &all[..2]).unwrap().address(), all[2]);
        assert!(pods.choose(1, &all).is_none());
        *lock(&lock(&pods.known)[2].unreachable) = Some(Instant::now());
        for affinity in 0..100 {
            assert_ne!(pods.choose(affinity, &[]).unwrap().address(), all[2]);
        }
        assert_eq!(pods.choose(1, &all[..2]).unwrap().address(), all[2]);
    }
}
