//! What a call of a function needs: which version, and its script. Both are remembered, so that most calls ask no database:
//! which versions there are for less than a second, as aliases and `latest` change; a version's script for as long as
//! there is room, as it never changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use sqlx::{Row, postgres::PgRow};

use super::{
    FunctionName, FunctionStore, Terms, named, named_row, script, script_columns, seen, wrong,
};
use crate::database::DatabaseUnavailable;

/// Less than the second within which every replica has a switched version.
const FRESH: Duration = Duration::from_millis(500);
const MOST_REMEMBERED: usize = 10_000;
const MOST_CODE_BYTES: usize = 32 << 20;
/// What an entry takes beside its texts.
const OVERHEAD: usize = 200;

/// Which version of a function is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    Latest,
    Number(i64),
    Alias(String),
}

/// A function as it is called.
#[derive(Debug)]
pub struct Callable {
    id: i64,
    pub owner: String,
    latest: i64,
    versions: Vec<i64>,
    /// Versions with their percentages.
    aliases: HashMap<String, Vec<(i64, u32)>>,
}

/// A version's script, as the runtime gets it.
#[derive(Debug)]
pub struct Code {
    pub script: Box<RawValue>,
    pub time_limit: Option<Duration>,
    /// An object of texts, where there are some.
    pub environment: Option<Box<RawValue>>,
    pub terms: Terms,
}

/// What a selector does not find.
#[derive(Debug, PartialEq, Eq)]
pub enum NoVersion {
    Number(i64),
    Alias(String),
}

impl Callable {
    /// `roll` is any number from 0 to 99, by which an alias chooses among its versions.
    pub fn choose(&self, selector: &Selector, roll: u32) -> Result<i64, NoVersion> {
        match selector {
            Selector::Latest => Ok(self.latest),
            Selector::Number(number) if self.versions.contains(number) => Ok(*number),
            Selector::Number(number) => Err(NoVersion::Number(*number)),
            Selector::Alias(alias) => {
                let weights = self.aliases.get(alias).map_or(&[][..], Vec::as_slice);
                let mut below = 0;
                let chosen = weights.iter().find(|(_, weight)| {
                    below += weight;
                    roll < below
                });
                chosen
                    .map(|(version, _)| *version)
                    .ok_or_else(|| NoVersion::Alias(alias.clone()))
            }
        }
    }
}

/// Who asks for which.
type Asked = (FunctionName, Option<String>);

pub struct Caches {
    callables: Mutex<HashMap<Asked, (Instant, Arc<Callable>)>>,
    code: Mutex<CodeCache>,
}

impl Default for Caches {
    fn default() -> Self {
        Caches {
            callables: Mutex::default(),
            code: Mutex::new(CodeCache::new(MOST_CODE_BYTES)),
        }
    }
}

impl FunctionStore {
    /// As `user` sees it, now or, where another replica has changed it, half a second ago.
    pub async fn callable(
        &self,
        name: &FunctionName,
        user: Option<&str>,
    ) -> Result<Option<Arc<Callable>>, DatabaseUnavailable> {
        let asked = (name.clone(), user.map(str::to_owned));
        let now = Instant::now();
        if let Some((since, callable)) = lock(&self.caches.callables).get(&asked)
            && now.duration_since(*since) < FRESH
        {
            return Ok(Some(callable.clone()));
        }
        let found = self
            .database
            .retrying("read", || self.read_callable(name, user))
            .await?
            .map(Arc::new);
        if let Some(callable) = &found {
            let mut known = lock(&self.caches.callables);
            if known.len() >= MOST_REMEMBERED {
                known.retain(|_, (since, _)| now.duration_since(*since) < FRESH);
            }
            if known.len() < MOST_REMEMBERED {
                // It is as old as the question, not as the answer.
                known.insert(asked, (now, callable.clone()));
            }
        }
        Ok(found)
    }

    /// What is remembered of a name, after something of it was written: who wrote it finds it at this replica at once.
    pub(super) fn forget(&self, title: &str) {
        lock(&self.caches.callables).retain(|(name, _), _| name.title != title);
    }

    async fn read_callable(
        &self,
        name: &FunctionName,
        user: Option<&str>,
    ) -> Result<Option<Callable>, sqlx::Error> {
        const CALLED: &str = named!(
            "f.function_id, f.owner, f.version, \
             ARRAY(SELECT version FROM meta.function_versions v WHERE v.function_id = f.function_id), \
             ARRAY(SELECT alias FROM meta.function_aliases a WHERE a.function_id = f.function_id ORDER BY alias, version), \
             ARRAY(SELECT version FROM meta.function_aliases a WHERE a.function_id = f.function_id ORDER BY alias, version), \
             ARRAY(SELECT weight FROM meta.function_aliases a WHERE a.function_id = f.function_id ORDER BY alias, version)",
            ""
        );
        let mut transaction = self.database.begin().await?;
        let row = named_row(&mut transaction, CALLED, name, user).await?;
        transaction.commit().await?;
        row.as_ref().map(callable).transpose()
    }

    /// None where the version, or the function, is gone.
    pub async fn code(
        &self,
        callable: &Callable,
        version: i64,
    ) -> Result<Option<Arc<Code>>, DatabaseUnavailable> {
        let key = (callable.id, version);
        if let Some(code) = lock(&self.caches.code).get(key) {
            return Ok(Some(code));
        }
        let read = || async {
            let mut transaction = self.database.begin().await?;
            let row = sqlx::query(concat!(
                "SELECT ",
                script_columns!(),
                " FROM meta.functions f JOIN meta.function_versions v USING (function_id) \
                 WHERE f.function_id = $1 AND v.version = $2"
            ))
            .bind(callable.id)
            .bind(version)
            .persistent(false)
            .fetch_optional(&mut *transaction)
            .await?;
            transaction.commit().await?;
            row.as_ref().map(code).transpose()
        };
        let found = self.database.retrying("read", read).await?.map(Arc::new);
        if let Some(code) = &found {
            lock(&self.caches.code).insert(key, code.clone());
        }
        Ok(found)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn callable(row: &PgRow) -> Result<Callable, sqlx::Error> {
    let names: Vec<String> = row.try_get(4)?;
    let versions: Vec<i64> = row.try_get(5)?;
    let weights: Vec<i16> = row.try_get(6)?;
    let mut aliases: HashMap<String, Vec<(i64, u32)>> = HashMap::new();
    for ((alias, version), weight) in names.into_iter().zip(versions).zip(weights) {
        let weights = aliases.entry(alias).or_default();
        weights.push((version, u32::from(weight.unsigned_abs())));
    }
    Ok(Callable {
        id: row.try_get(0)?,
        owner: row.try_get(1)?,
        latest: row.try_get(2)?,
        versions: row.try_get(3)?,
        aliases,
    })
}

fn code(row: &PgRow) -> Result<Code, sqlx::Error> {
    let script = script(row)?;
    let text = std::str::from_utf8(&script.content).map_err(|error| wrong("content", error))?;
    Ok(Code {
        script: serde_json::value::to_raw_value(text).map_err(|error| wrong("content", error))?,
        time_limit: script.time_limit,
        environment: script.environment,
        terms: script.terms,
    })
}

/// The scripts that were used last, as many as there is room for.
struct CodeCache {
    most_bytes: usize,
    entries: HashMap<(i64, i64), Entry>,
    bytes: usize,
    /// Counts uses, by which they are told apart in time.
    uses: u64,
}

struct Entry {
    code: Arc<Code>,
    bytes: usize,
    last_use: u64,
}

impl CodeCache {
    fn new(most_bytes: usize) -> Self {
        CodeCache {
            most_bytes,
            entries: HashMap::new(),
            bytes: 0,
            uses: 0,
        }
    }

    fn get(&mut self, key: (i64, i64)) -> Option<Arc<Code>> {
        self.uses += 1;
        let entry = self.entries.get_mut(&key)?;
        entry.last_use = self.uses;
        Some(entry.code.clone())
    }

    fn insert(&mut self, key: (i64, i64), code: Arc<Code>) {
        let environment = code.environment.as_ref().map_or(0, |text| text.get().len());
        let bytes = code.script.get().len() + environment + OVERHEAD;
        if bytes > self.most_bytes || self.entries.contains_key(&key) {
            return;
        }
        if self.bytes + bytes > self.most_bytes {
            self.drop_oldest(bytes);
        }
        self.uses += 1;
        self.bytes += bytes;
        let last_use = self.uses;
        let entry = Entry {
            code,
            bytes,
            last_use,
        };
        self.entries.insert(key, entry);
    }

    /// A quarter more than is needed, so that not every new script looks through all.
    fn drop_oldest(&mut self, needed: usize) {
        let mut oldest: Vec<_> = self
            .entries
            .iter()
            .map(|(key, entry)| (entry.last_use, *key))
            .collect();
        oldest.sort_unstable();
        let left = self.most_bytes - needed;
        let target = left - left / 4;
        for (_, key) in oldest {
            if self.bytes <= target {
                break;
            }
            if let Some(entry) = self.entries.remove(&key) {
                self.bytes -= entry.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn function(aliases: &[(&str, &[(i64, u32)])]) -> Callable {
        Callable {
            id: 1,
            owner: "alice".to_owned(),
            latest: 9,
            versions: vec![7, 8, 9],
            aliases: aliases
                .iter()
                .map(|(alias, weights)| ((*alias).to_owned(), weights.to_vec()))
                .collect(),
        }
    }

    #[test]
    fn a_selector_finds_its_version_or_says_what_is_missing() {
        let function = function(&[("live", &[(7, 100)])]);
        let choose = |selector| function.choose(&selector, 99);
        let alias = |name: &str| Selector::Alias(name.to_owned());
        assert_eq!(choose(Selector::Latest), Ok(9));
        assert_eq!(choose(Selector::Number(8)), Ok(8));
        assert_eq!(choose(alias("live")), Ok(7));
        let most = i64::MAX;
        assert_eq!(choose(Selector::Number(most)), Err(NoVersion::Number(most)));
        assert_eq!(
            choose(alias("test")),
            Err(NoVersion::Alias("test".to_owned()))
        );
    }

    #[test]
    fn weights_are_kept_exactly_over_all_rolls() {
        let function = function(&[("live", &[(7, 90), (8, 10)])]);
        let chosen = (0..100).map(|roll| {
            let live = Selector::Alias("live".to_owned());
            function.choose(&live, roll).unwrap()
        });
        assert_eq!(chosen.filter(|version| *version == 8).count(), 10);
    }

    fn code_of(bytes: usize) -> Arc<Code> {
        let text = format!("\"{}\"", "x".repeat(bytes));
        Arc::new(Code {
            script: RawValue::from_string(text).unwrap(),
            time_limit: None,
            environment: None,
            terms: Terms {
                function_id: 1,
                owner: "alice".to_owned(),
                version: 1,
                memory_bytes: None,
                max_concurrency: None,
                secrets: Vec::new(),
            },
        })
    }

    #[test]
    fn what_was_used_last_stays() {
        let mut cache = CodeCache::new(4000);
        let size = 800;
        for version in 1..=3 {
            cache.insert((1, version), code_of(size));
        }
        assert!(cache.get((1, 1)).is_some());
        cache.insert((1, 4), code_of(size));
        assert!(cache.get((1, 1)).is_some() && cache.get((1, 4)).is_some());
        assert!(cache.get((1, 2)).is_none());
        cache.insert((1, 5), code_of(4000));
        assert!(cache.get((1, 5)).is_none() && cache.get((1, 4)).is_some());
    }

    proptest! {
        #[test]
        fn it_never_has_more_than_it_may(sizes in prop::collection::vec(0..2000usize, 1..20)) {
            let mut cache = CodeCache::new(4000);
            for (version, size) in sizes.into_iter().enumerate() {
                cache.insert((1, version as i64), code_of(size));
                prop_assert!(cache.get((1, version as i64)).is_some());
                prop_assert!(cache.bytes <= cache.most_bytes);
                let counted: usize = cache.entries.values().map(|entry| entry.bytes).sum();
                prop_assert_eq!(counted, cache.bytes);
            }
        }
    }
}
