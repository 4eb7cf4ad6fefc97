//! The memory that large bodies take, which all callers share: one that sends many at once is refused before others are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A smaller body takes no room: as many as there may be requests are little.
pub const SMALL: usize = 64 << 10;

pub struct Bodies {
    most: usize,
    taken: Mutex<Taken>,
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
    }
}

#[cfg(test)]
mod tests {
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
}
