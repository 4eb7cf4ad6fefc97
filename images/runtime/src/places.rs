//! Places for processes: under way, or kept for the next execution of the same caller with the same script, which then begins
//! in a fraction of a millisecond. Both together are no more than there are places, and callers share them and a bounded
//! queue: none holds more than its share of either, and who has the fewest gets the next.
//!
//! A process that has answered goes to who waits for just that process, or is kept. It makes room when it has been idle for a
//! moment, and at once for a caller that has none where its own caller has had it for long enough.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// What callers without a name begin with: each counts for itself, and all of them together as one.
pub const ANONYMOUS: &str = "anonymous";
/// How long processes are kept.
#[derive(Clone, Copy, Debug)]
pub struct Keeping {
    /// Where nobody wants their places.
    pub idle: Duration,
    /// From others, since the last use: the own caller is most likely back at once, and a start costs more than the wait.
    pub protected: Duration,
}

impl Keeping {
    pub const NOTHING: Keeping = Keeping {
        idle: Duration::ZERO,
        protected: Duration::ZERO,
    };

    /// How long a process goes from one execution to the next of its own caller while others wait for its place: a start each
    /// would take more of the processor than their executions.
    fn tenure(&self) -> Duration {
        2 * self.protected
    }
}

/// Between two looks at what is kept.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// Of a caller and a script: the executions that may have one process.
pub type Key = [u8; 32];

/// Both together, so that neither can be chosen to look like another pair.
pub fn key(caller: &str, script: &str) -> Key {
    let mut hash = Sha256::new();
    hash.update((caller.len() as u64).to_le_bytes());
    hash.update(caller);
    hash.update(script);
    hash.finalize().into()
}

/// What is kept.
pub trait Kept {
    /// Lets it go on; false where it has died.
    fn wake(&mut self) -> bool;
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Others hold the places.
    Full,
    /// The caller itself holds its share.
    Share,
}

pub struct Places<P: Kept> {
    state: Mutex<State<P>>,
    /// Of all callers together, and of one.
    places: (usize, usize),
    queue: (usize, usize),
    /// Told how many are kept.
    count: Box<dyn Fn(usize) + Send + Sync>,
}

struct State<P> {
    /// Places by who holds them, a caller or all who have no name.
    held: HashMap<Arc<str>, usize>,
    taken: usize,
    waiting: VecDeque<Waiter<P>>,
    /// Those that were used longest ago first.
    kept: Vec<Idle<P>>,
    keeping: Keeping,
    serial: u64,
    /// When a caller of whom somebody waits had its last place, in numbers of `serial`.
    turns: HashMap<Arc<str>, u64>,
    /// Ended, and dropped where the lock is not held.
    ended: Vec<P>,
}

struct Idle<P> {
    key: Key,
    since: Instant,
    tenure: Instant,
    process: P,
}

struct Waiter<P> {
    serial: u64,
    caller: Caller,
    key: Option<Key>,
    told: oneshot::Sender<Given<P>>,
}

/// A process that was kept or handed over, with the time that its tenure began; None where one is to be started.
type Given<P> = Option<(P, Option<Instant>)>;

/// The names that a request counts under; none where it is of the platform itself.
#[derive(Clone, Default)]
struct Caller(Vec<Arc<str>>);

impl Caller {
    fn new(name: &str) -> Self {
        let names = match name {
            "" => vec![],
            _ if name.starts_with(ANONYMOUS) => vec![name.into(), ANONYMOUS.into()],
            _ => vec![name.into()],
        };
        Self(names)
    }

    fn shares_a_name(&self, name: &Arc<str>) -> bool {
        self.0.contains(name)
    }
}

impl<P: Kept> State<P> {
    /// Of the caller's names, that which holds most.
    fn most_held(&self, caller: &Caller) -> usize {
        let held = caller.0.iter().map(|name| self.held.get(name).copied());
        held.flatten().max().unwrap_or(0)
    }

    fn most_queued(&self, caller: &Caller) -> usize {
        let queued = caller.0.iter().map(|name| {
            let of_name = |waiter: &&Waiter<P>| waiter.caller.shares_a_name(name);
            self.waiting.iter().filter(of_name).count()
        });
        queued.max().unwrap_or(0)
    }

    /// The waiters who may have a place, in turn: of the caller that holds the fewest, and of those who has had none for
    /// longest.
    fn in_turn(&self, share: usize) -> Vec<usize> {
        let turn = |waiter: &Waiter<P>| {
            let name = waiter.caller.0.first();
            name.and_then(|name| self.turns.get(name)).copied()
        };
        let mut order: Vec<_> = self
            .waiting
            .iter()
            .enumerate()
            .map(|(at, waiter)| (self.most_held(&waiter.caller), turn(waiter), at))
            .filter(|(held, ..)| *held < share)
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(.., at)| at).collect()
    }

    /// Room for one more under way: a kept process of that key, a free place, or that of one that has been idle for a moment.
    fn room(&mut self, key: Option<&Key>, places: usize) -> Option<Given<P>> {
        while let Some(at) = key.and_then(|key| self.kept.iter().rposition(|one| one.key == *key)) {
            let mut idle = self.kept.remove(at);
            if idle.process.wake() {
                let lately = idle.since.elapsed() < self.keeping.protected;
                return Some(Some((idle.process, lately.then_some(idle.tenure))));
            }
            self.ended.push(idle.process);
        }
        if self.taken + self.kept.len() < places {
            return Some(None);
        }
        if self.kept.first()?.since.elapsed() < self.keeping.protected {
            return None;
        }
        let oldest = self.kept.remove(0).process;
        self.ended.push(oldest);
        Some(None)
    }

    fn hold(&mut self, caller: &Caller) {
        self.taken += 1;
        self.serial += 1;
        if let Some(name) = caller.0.first() {
            self.turns.insert(name.clone(), self.serial);
        }
        for name in &caller.0 {
            *self.held.entry(name.clone()).or_default() += 1;
        }
    }

    fn release(&mut self, caller: &Caller) {
        self.taken -= 1;
        for name in &caller.0 {
            if let Some(held) = self.held.get_mut(name) {
                *held -= 1;
                if *held == 0 {
                    self.held.remove(name);
                }
            }
        }
        let waits = |name: &Arc<str>| {
            let of_name = |waiter: &Waiter<P>| waiter.caller.shares_a_name(name);
            self.waiting.iter().any(of_name)
        };
        self.turns
            .retain(|name, _| self.held.contains_key(name) || waits(name));
    }

    fn tell(&mut self, at: usize, given: Given<P>) {
        let waiter = self.waiting.remove(at).expect("it was there");
        self.hold(&waiter.caller);
        // Who is just going away gives the place back by his own end.
        if let Err(Some((process, _))) = waiter.told.send(given) {
            self.ended.push(process);
        }
    }

    /// Gives what room there is to those who wait.
    fn give(&mut self, (places, share): (usize, usize)) {
        loop {
            let room = self.in_turn(share).into_iter().find_map(|at| {
                let key = self.waiting[at].key;
                Some((at, self.room(key.as_ref(), places)?))
            });
            match room {
                Some((at, given)) => self.tell(at, given),
                None => return,
            }
        }
    }
}

impl<P: Kept> Places<P> {
    /// `share` of the places, and of the queue, is the most for one caller: one at least.
    pub fn new(
        places: usize,
        queue: usize,
        share: f64,
        keeping: Keeping,
        count: impl Fn(usize) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let of = |all: usize| ((all as f64 * share) as usize).clamp(1, all.max(1));
        Arc::new(Self {
            state: Mutex::new(State {
                held: HashMap::new(),
                taken: 0,
                waiting: VecDeque::new(),
                kept: Vec::new(),
                keeping,
                serial: 0,
                turns: HashMap::new(),
                ended: Vec::new(),
            }),
            places: (places, of(places)),
            queue: (queue, of(queue)),
            count: Box::new(count),
        })
    }

    /// Changes the state, and then does what must not be done under its lock.
    fn change<T>(&self, change: impl FnOnce(&mut State<P>) -> T) -> T {
        let mut state = self.state.lock().expect("not poisoned");
        let kept = state.kept.len();
        let result = change(&mut state);
        let (now, ended) = (state.kept.len(), std::mem::take(&mut state.ended));
        if now != kept {
            (self.count)(now);
        }
        drop(state);
        drop(ended);
        result
    }

    /// The most places that one caller may hold.
    pub fn share(&self) -> usize {
        self.places.1
    }

    pub fn keeps(&self, key: &Key) -> bool {
        let state = self.state.lock().expect("not poisoned");
        state.kept.iter().any(|one| one.key == *key)
    }

    /// A place at once, or a turn to wait for. `caller` is who it counts for; empty is nobody, who has no bound but all places.
    pub fn take(self: &Arc<Self>, caller: &str, key: Option<Key>) -> Result<Turn<P>, Refused> {
        let caller = Caller::new(caller);
        self.change(|state| {
            let own_share = state.most_held(&caller) >= self.places.1;
            if !own_share && let Some(given) = state.room(key.as_ref(), self.places.0) {
                state.hold(&caller);
                return Ok(Turn::Now(self.place(caller, given)));
            }
            if state.most_queued(&caller) >= self.queue.1 {
                return Err(Refused::Share);
            }
            if state.waiting.len() >= self.queue.0 {
                return Err(Refused::Full);
            }
            state.serial += 1;
            let (told, turn) = oneshot::channel();
            state.waiting.push_back(Waiter {
                serial: state.serial,
                caller: caller.clone(),
                key,
                told,
            });
            Ok(Turn::Later(Queued {
                serial: state.serial,
                places: self.clone(),
                caller,
                own_share,
                turn,
                taken: false,
            }))
        })
    }

    fn place(self: &Arc<Self>, caller: Caller, given: Given<P>) -> (Place<P>, Option<P>) {
        let (process, tenure) = given.unzip();
        let place = Place {
            places: self.clone(),
            caller: Some(caller),
            tenure: tenure.flatten(),
        };
        (place, process)
    }

    /// Ends processes that have been kept for too long, and gives the places of those that were idle for a moment to who
    /// waits, for ever.
    pub async fn look_after(&self) {
        let pause = self.change(|state| (state.keeping.protected / 4).max(SHORTEST_PAUSE));
        loop {
            tokio::time::sleep(pause).await;
            self.change(|state| {
                let idle = state.keeping.idle;
                let stay = state
                    .kept
                    .partition_point(|one| one.since.elapsed() >= idle);
                let over = state.kept.drain(..stay).map(|one| one.process);
                state.ended.extend(over);
                state.give(self.places);
            });
        }
    }

    /// Ends all that is kept.
    pub fn clear(&self) {
        self.change(|state| {
            let all = state.kept.drain(..).map(|one| one.process);
            state.ended.extend(all);
        });
    }
}

pub enum Turn<P: Kept> {
    /// With a process that was kept, if there was one.
    Now((Place<P>, Option<P>)),
    Later(Queued<P>),
}

/// One place, free again when this is dropped.
pub struct Place<P: Kept> {
    places: Arc<Places<P>>,
    /// None once it is given on.
    caller: Option<Caller>,
    /// When the process of this place had its first result here: its start is not counted.
    tenure: Option<Instant>,
}

impl<P: Kept> Place<P> {
    /// Gives the place up, with a process that stands still and could have another execution.
    pub fn keep(mut self, key: Key, mut process: P) {
        let Some(caller) = self.caller.take() else {
            return;
        };
        let (places, share) = self.places.places;
        let tenure = self.tenure.unwrap_or_else(Instant::now);
        self.places.change(|state| {
            state.release(&caller);
            let order = state.in_turn(share);
            let mine = order.iter().find(|at| state.waiting[**at].key == Some(key));
            let starves = order
                .first()
                .is_some_and(|at| state.most_held(&state.waiting[*at].caller) == 0);
            let full = state.taken + state.kept.len() + 1 >= places;
            let gives_way = mine != order.first()
                && starves
                && full
                && tenure.elapsed() >= state.keeping.tenure();
            if gives_way {
                state.ended.push(process);
            } else if let Some(at) = mine {
                if process.wake() {
                    state.tell(*at, Some((process, Some(tenure))));
                } else {
                    state.ended.push(process);
                }
            } else {
                state.kept.push(Idle {
                    key,
                    since: Instant::now(),
                    tenure,
                    process,
                });
            }
            state.give(self.places.places);
        });
    }
}

impl<P: Kept> Drop for Place<P> {
    fn drop(&mut self) {
        if let Some(caller) = self.caller.take() {
            self.places.change(|state| {
                state.release(&caller);
                state.give(self.places.places);
            });
        }
    }
}

/// A request that waits. Dropping it leaves the queue.
pub struct Queued<P: Kept> {
    places: Arc<Places<P>>,
    caller: Caller,
    serial: u64,
    own_share: bool,
    turn: oneshot::Receiver<Given<P>>,
    taken: bool,
}

impl<P: Kept> Queued<P> {
    pub async fn wait(mut self, limit: Duration) -> Result<(Place<P>, Option<P>), Refused> {
        match timeout(limit, &mut self.turn).await {
            Ok(Ok(given)) => {
                self.taken = true;
                Ok(self.places.place(self.caller.clone(), given))
            }
            _ if self.own_share => Err(Refused::Share),
            _ => Err(Refused::Full),
        }
    }
}

impl<P: Kept> Drop for Queued<P> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        self.places.change(|state| {
            let waits = state
                .waiting
                .iter()
                .position(|waiter| waiter.serial == self.serial);
            match waits {
                Some(at) => drop(state.waiting.remove(at)),
                None => {
                    state.release(&self.caller);
                    state.give(self.places.places);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTECTED: Duration = Duration::from_millis(100);
    const TENURE: Duration = Duration::from_millis(200);
    const KEEPING: Keeping = Keeping {
        idle: Duration::from_secs(60),
        protected: PROTECTED,
    };

    /// Stands for a process; its number, and whether it lives.
    #[derive(Debug, PartialEq, Eq)]
    struct Dummy(u32, bool);

    impl Kept for Dummy {
        fn wake(&mut self) -> bool {
            self.1
        }
    }

    type Dummies = Arc<Places<Dummy>>;

    fn places(places: usize, queue: usize, share: f64) -> Dummies {
        Places::new(places, queue, share, KEEPING, |_| {})
    }

    fn try_now(
        places: &Dummies,
        caller: &str,
        key: Option<Key>,
    ) -> Option<(Place<Dummy>, Option<Dummy>)> {
        match places.take(caller, key) {
            Ok(Turn::Now(taken)) => Some(taken),
            _ => None,
        }
    }

    fn now(places: &Dummies, caller: &str) -> Place<Dummy> {
        try_now(places, caller, None).expect("a place at once").0
    }

    fn later_for(places: &Dummies, caller: &str, key: Option<Key>) -> Queued<Dummy> {
        match places.take(caller, key) {
            Ok(Turn::Later(queued)) => queued,
            Ok(Turn::Now(_)) => panic!("{caller} has a place"),
            Err(refused) => panic!("{caller}: {refused:?}"),
        }
    }

    fn later(places: &Dummies, caller: &str) -> Queued<Dummy> {
        later_for(places, caller, None)
    }

    fn refused(places: &Dummies, caller: &str) -> Refused {
        places.take(caller, None).err().expect("refused")
    }

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn a_key_is_of_one_caller_and_one_script() {
        assert_eq!(key("a", "b"), key("a", "b"));
        assert_ne!(key("a", "bc"), key("ab", "c"));
        assert_ne!(key("", "ab"), key("ab", ""));
        assert_ne!(key("a", "b"), key("b", "a"));
    }

    #[tokio::test]
    async fn a_caller_has_its_share_and_others_have_the_rest() {
        let places = places(4, 4, 0.5);
        let _two = (now(&places, "a"), now(&places, "a"));
        let waiting = (later(&places, "a"), later(&places, "a"));
        assert_eq!(refused(&places, "a"), Refused::Share);
        let (one, other) = (now(&places, "b"), now(&places, "c"));
        // Room for others in the queue, too.
        let third = later(&places, "d");
        assert_eq!(waiting.0.wait(SHORT).await.err(), Some(Refused::Share));
        assert_eq!(third.wait(SHORT).await.err(), Some(Refused::Full));
        drop((one, other));
        assert_eq!(waiting.1.wait(SHORT).await.err(), Some(Refused::Share));
        assert_eq!(places.state.lock().unwrap().taken, 2);
    }

    #[tokio::test]
    async fn who_holds_the_fewest_is_next() {
        let places = places(2, 9, 1.0);
        let (one, other) = (now(&places, "a"), now(&places, "a"));
        let (greedy, modest) = (later(&places, "a"), later(&places, "b"));
        drop(one);
        let _modest = modest.wait(SHORT).await.unwrap();
        drop(other);
        let _greedy = greedy.wait(SHORT).await.unwrap();
    }

    #[tokio::test]
    async fn callers_take_turns_however_many_wait_for_one_of_them() {
        let places = places(1, 20, 1.0);
        let mut held = now(&places, "a");
        let mut greedy: Vec<_> = (0..8).map(|_| later(&places, "a")).collect();
        let (modest, other) = (later(&places, "b"), later(&places, "c"));
        let again = later(&places, "b");
        for turn in [modest, other, greedy.remove(0), again, greedy.remove(0)] {
            drop(held);
            held = turn.wait(SHORT).await.expect("its turn").0;
        }
        drop(held);
    }

    #[tokio::test]
    async fn all_without_a_name_are_one_and_each_address_is_one_of_them() {
        let places = places(8, 8, 0.5);
        let _held: Vec<_> = (0..4)
            .map(|number| now(&places, &format!("{ANONYMOUS} 10.0.0.{number}")))
            .collect();
        let _queued = later(&places, "anonymous 10.0.0.9");
        let _named: Vec<_> = (0..4).map(|_| now(&places, "a")).collect();
    }

    #[tokio::test]
    async fn nobody_has_no_bound_but_all_places() {
        let places = places(3, 1, 0.3);
        let held: Vec<_> = (0..3).map(|_| now(&places, "")).collect();
        let _queued = later(&places, "");
        assert_eq!(refused(&places, ""), Refused::Full);
        drop(held);
    }

    #[tokio::test]
    async fn who_goes_away_leaves_nothing() {
        let places = places(1, 2, 1.0);
        let place = now(&places, "a");
        drop(later(&places, "b"));
        let (given, next) = (later(&places, "b"), later(&places, "c"));
        // The first has the place already, and goes.
        drop(place);
        drop(given);
        let last = next.wait(SHORT).await.unwrap();
        drop(last);
        let state = places.state.lock().unwrap();
        assert_eq!(state.taken, 0);
        assert!(state.held.is_empty() && state.turns.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_kept_process_is_its_own_callers_and_makes_room_when_it_was_idle_for_a_moment() {
        let places = places(2, 4, 1.0);
        let (mine, yours) = ([1; 32], [2; 32]);
        now(&places, "a").keep(mine, Dummy(1, true));
        let (place, process) = try_now(&places, "a", Some(mine)).unwrap();
        assert_eq!(process, Some(Dummy(1, true)));
        assert!(try_now(&places, "a", Some(yours)).unwrap().1.is_none());
        place.keep(mine, process.unwrap());
        // The other place is free, then none is, but that of the process that was just used.
        let _other = now(&places, "b");
        let waits = later_for(&places, "b", Some(yours));
        tokio::time::sleep(PROTECTED).await;
        places.change(|state| state.give(places.places));
        assert!(waits.wait(SHORT).await.unwrap().1.is_none());
        assert!(!places.keeps(&mine));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_died_is_not_given() {
        let places = places(2, 4, 1.0);
        now(&places, "a").keep([1; 32], Dummy(1, false));
        assert!(try_now(&places, "a", Some([1; 32])).unwrap().1.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_goes_to_who_waits_for_it_before_its_place_goes_to_others() {
        let places = places(1, 9, 1.0);
        let (mine, yours) = ([1; 32], [2; 32]);
        let held = now(&places, "a");
        let other = later_for(&places, "b", Some(yours));
        let (next, last) = (
            later_for(&places, "a", Some(mine)),
            later_for(&places, "a", Some(mine)),
        );
        held.keep(mine, Dummy(1, true));
        let (held, process) = next.wait(SHORT).await.unwrap();
        assert_eq!(process, Some(Dummy(1, true)));
        // For so long, and then it is the other's turn, who has had none.
        tokio::time::sleep(TENURE).await;
        held.keep(mine, process.unwrap());
        let (held, process) = other.wait(SHORT).await.unwrap();
        assert_eq!(process, None);
        held.keep(yours, Dummy(2, true));
        // That one's caller may be back at once.
        tokio::time::sleep(PROTECTED).await;
        places.change(|state| state.give(places.places));
        assert_eq!(last.wait(SHORT).await.unwrap().1, None);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_s_second_place_costs_another_the_process_that_it_uses() {
        let places = places(2, 9, 1.0);
        let (mine, yours) = ([1; 32], [2; 32]);
        let (one, _other) = (now(&places, "a"), now(&places, "b"));
        let second = later_for(&places, "b", Some(yours));
        one.keep(mine, Dummy(1, true));
        // a is back at once, and has its process, for as long as that goes on.
        for _ in 0..50 {
            let (place, process) = try_now(&places, "a", Some(mine)).unwrap();
            assert_eq!(process, Some(Dummy(1, true)));
            tokio::time::sleep(PROTECTED / 2).await;
            place.keep(mine, Dummy(1, true));
            places.change(|state| state.give(places.places));
        }
        tokio::time::sleep(PROTECTED).await;
        places.change(|state| state.give(places.places));
        assert!(second.wait(SHORT).await.unwrap().1.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_too_long_ends() {
        let places = places(2, 4, 1.0);
        now(&places, "a").keep([1; 32], Dummy(1, true));
        let cared_for = places.clone();
        let care = tokio::spawn(async move { cared_for.look_after().await });
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert!(places.keeps(&[1; 32]));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!places.keeps(&[1; 32]));
        care.abort();
    }

    proptest::proptest! {
        /// Whatever comes and goes: no more processes than places, no caller over its share, and no place is free while one
        /// waits who could have it.
        #[test]
        fn the_bounds_hold_always(steps in proptest::collection::vec((0usize..5, 0usize..6), 1..200), share in 0.1f64..1.0) {
            let places = places(5, 6, share);
            let (mut held, mut queued) = (Vec::new(), Vec::new());
            for (caller, what) in steps {
                let name = ["a", "b", "anonymous 1", "anonymous 2", "c"][caller];
                let key = [caller as u8; 32];
                match what {
                    0 if !held.is_empty() => drop(held.swap_remove(caller % held.len())),
                    1 if !held.is_empty() => {
                        let (place, process): (Place<Dummy>, Option<Dummy>) = held.swap_remove(caller % held.len());
                        place.keep(key, process.unwrap_or(Dummy(0, true)));
                    }
                    2 if !queued.is_empty() => drop(queued.swap_remove(caller % queued.len())),
                    _ => match places.take(name, Some(key)) {
                        Ok(Turn::Now(taken)) => held.push(taken),
                        Ok(Turn::Later(turn)) => queued.push(turn),
                        Err(_) => {}
                    },
                }
                let state = places.state.lock().unwrap();
                assert!(state.taken + state.kept.len() <= 5 && state.waiting.len() <= 6);
                assert!(state.held.values().all(|count| *count <= places.places.1));
                let could = |waiter: &Waiter<Dummy>| state.most_held(&waiter.caller) < places.places.1;
                assert!(state.taken + state.kept.len() == 5 || !state.waiting.iter().any(could));
            }
            drop((held, queued));
            assert_eq!(places.state.lock().unwrap().taken, 0);
        }
    }
}
