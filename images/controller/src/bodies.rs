//! The memory that large bodies take, requests' and answers' alike, which all callers share. A request that finds no room is
//! refused, as nothing ran; an answer waits in its runtime until there is some.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::Notify;

/// A smaller body takes no room: as many as there may be requests are little.
const SMALL: usize = 64 << 10;

pub struct Bodies {
    most: usize,
    taken: Mutex<Taken>,
    given_back: Notify,
}

#[derive(Default)]
struct Taken {
    bytes: usize,
    by_account: HashMap<String, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// For nobody.
    Full,
    /// For this caller, who has half of all.
    Share,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    bodies: Arc<Bodies>,
    account: String,
    bytes: usize,
}

impl Bodies {
    pub fn new(most: usize) -> Self {
        Bodies {
            most,
            taken: Mutex::new(Taken::default()),
            given_back: Notify::new(),
        }
    }

    pub fn take(self: &Arc<Self>, account: &str, bytes: usize) -> Result<Room, NoRoom> {
        let mut taken = self.taken();
        let own = taken.by_account.get(account).copied().unwrap_or(0);
        if own + bytes > self.most / 2 {
            return Err(NoRoom::Share);
        }
        if taken.bytes + bytes > self.most {
            return Err(NoRoom::Full);
        }
        taken.bytes += bytes;
        taken.by_account.insert(account.to_owned(), own + bytes);
        Ok(Room {
            bodies: self.clone(),
            account: account.to_owned(),
            bytes,
        })
    }

    /// Waits for room. What is larger than a caller's share takes all of it.
    pub async fn wait(self: &Arc<Self>, account: &str, bytes: usize) -> Room {
        let bytes = bytes.min(self.most / 2);
        loop {
            let given_back = self.given_back.notified();
            let mut given_back = std::pin::pin!(given_back);
            // Before it looks: what is given back in between wakes it too.
            given_back.as_mut().enable();
            if let Ok(room) = self.take(account, bytes) {
                return room;
            }
            given_back.await;
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Bodies {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} of {} bytes", self.taken().bytes, self.most)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut taken = self.bodies.taken();
        taken.bytes -= self.bytes;
        let own = taken.by_account.get_mut(&self.account);
        let left = own.map_or(0, |own| {
            *own -= self.bytes;
            *own
        });
        if left == 0 {
            taken.by_account.remove(&self.account);
        }
        drop(taken);
        self.bodies.given_back.notify_waiters();
    }
}

/// Why a body is not there.
pub enum Unread<Refusal, Broken> {
    TooLarge,
    Refused(Refusal),
    Broken(Broken),
}

/// Reads a body of `most` bytes at most. `room` is asked once, as soon as it is seen to be no small one.
pub async fn read<B, Refusal>(
    body: &mut B,
    declared: Option<usize>,
    most: usize,
    room: impl AsyncFnOnce(usize) -> Result<Room, Refusal>,
) -> Result<(Vec<u8>, Option<Room>), Unread<Refusal, B::Error>>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
{
    let (mut bytes, mut taken, mut room) = (Vec::new(), None, Some(room));
    loop {
        let size = bytes.len().max(declared.unwrap_or(0));
        if size > most {
            return Err(Unread::TooLarge);
        }
        if size > SMALL
            && let Some(room) = room.take()
        {
            // Of unknown length it may be the largest.
            let asked = room(declared.unwrap_or(most)).await;
            taken = Some(asked.map_err(Unread::Refused)?);
            bytes.reserve_exact(size - bytes.len());
        }
        match body.frame().await {
            None => return Ok((bytes, taken)),
            Some(Ok(frame)) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(error)) => return Err(Unread::Broken(error)),
        }
    }
}

/// A large answer's bytes, which give the room back when the last of them has been sent, or its caller has gone.
pub fn held(bytes: Vec<u8>, room: Option<Room>) -> Bytes {
    Bytes::from_owner(Held { bytes, _room: room })
}

struct Held {
    bytes: Vec<u8>,
    _room: Option<Room>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn one_caller_has_half_and_what_is_given_back_is_there_again() {
        let bodies = Arc::new(Bodies::new(100));
        let first = bodies.take("one", 30).unwrap();
        let second = bodies.take("one", 20).unwrap();
        assert_eq!(bodies.take("one", 1).unwrap_err(), NoRoom::Share);
        let others = [bodies.take("two", 40), bodies.take("three", 10)];
        assert!(others.iter().all(Result::is_ok));
        assert_eq!(bodies.take("four", 1).unwrap_err(), NoRoom::Full);
        drop(first);
        assert!(bodies.take("four", 30).is_ok());
        drop((second, others));
        assert_eq!(format!("{bodies:?}"), "0 of 100 bytes");
        assert!(bodies.taken().by_account.is_empty());
    }

    #[tokio::test]
    async fn an_answer_waits_for_room_and_takes_a_share_at_most() {
        let bodies = Arc::new(Bodies::new(100));
        let first = bodies.wait("one", 1000).await;
        assert_eq!(format!("{bodies:?}"), "50 of 100 bytes");
        let other = timeout(Duration::from_secs(1), bodies.wait("two", 50)).await;
        let waits = tokio::spawn({
            let bodies = bodies.clone();
            async move { bodies.wait("one", 10).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waits.is_finished() && other.is_ok());
        drop(other);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waits.is_finished(), "its own share is still full");
        drop(first);
        let waited = timeout(Duration::from_secs(1), waits).await;
        assert_eq!(waited.unwrap().unwrap().bytes, 10);
    }

    #[tokio::test]
    async fn an_answer_keeps_its_room_until_the_last_of_its_bytes_is_gone() {
        let bodies = Arc::new(Bodies::new(100));
        let room = bodies.take("one", 7).unwrap();
        let body = Body::from(held(b"text".to_vec(), Some(room)));
        // As it is read where it is kept for an Idempotency-Key.
        let bytes = body.collect().await.unwrap().to_bytes();
        let sent = Body::from(bytes.clone());
        drop(bytes);
        assert_eq!(format!("{bodies:?}"), "7 of 100 bytes");
        assert_eq!(sent.collect().await.unwrap().to_bytes(), "text");
        assert_eq!(format!("{bodies:?}"), "0 of 100 bytes");
    }
}
