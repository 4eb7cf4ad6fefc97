//! Compiled programs by the hash of their script. Bounded in bytes, the least recently used goes first; requests for one
//! script that come together wait for one compilation.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use crate::compiler::Compiler;
use crate::execution::{Failure, FailureKind};
use crate::metrics::{CacheResult, Metrics};
use crate::random;

/// What an entry costs besides its program: a failed compilation keeps its message.
const ENTRY_BYTES: u64 = 4096;

/// An executable. Its file goes when the last execution that holds it is done.
#[derive(Debug)]
pub struct Program {
    pub path: PathBuf,
    bytes: u64,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

type Outcome = Result<Arc<Program>, Failure>;
type Key = [u8; 32];

/// Of one script, for all requests that come for it meanwhile.
#[derive(Default)]
struct Compilation {
    program: OnceCell<Outcome>,
    /// Whether the compiler is at work, or was, and not all of the time was spent in its queue.
    compiles: AtomicBool,
}

#[derive(Default)]
struct Entry {
    compilation: Arc<Compilation>,
    used: u64,
}

pub struct CompileCache {
    compiler: Compiler,
    folder: PathBuf,
    most_bytes: u64,
    metrics: Arc<Metrics>,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    by_key: HashMap<Key, Entry>,
    clock: u64,
}

impl CompileCache {
    pub fn new(
        compiler: Compiler,
        folder: PathBuf,
        most_bytes: u64,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            compiler,
            folder,
            most_bytes,
            metrics,
            entries: Mutex::default(),
        }
    }

    /// The program of `script`, from the cache, or compiled until `deadline`. A script that does not compile is remembered as
    /// well.
    pub async fn program(
        &self,
        account: &str,
        script: &str,
        deadline: Instant,
    ) -> Result<Arc<Program>, Failure> {
        let begun = Instant::now();
        let key = Sha256::digest(script.as_bytes()).into();
        let (compilation, path, result) = self
            .entries
            .lock()
            .expect("not poisoned")
            .look_up(key, &self.folder);
        self.metrics.cache_request(result);
        let interest = Interest {
            cache: self,
            key,
            compilation,
        };
        let entry = &interest.compilation;
        let compiled = self.compiled(account, script, entry, path);
        timeout_at(deadline, compiled).await.unwrap_or_else(|_| {
            let seconds = (deadline - begun).as_secs_f64();
            Err(if entry.compiles.load(Ordering::Relaxed) {
                let message = format!(
                    "the script was not compiled within its time limit ({seconds:.1} s), and did not run"
                );
                Failure::new(FailureKind::Timeout, message)
            } else {
                let message = format!(
                    "too many scripts wait to be compiled: this one had no turn within {seconds:.1} s; try again in a moment"
                );
                Failure::new(FailureKind::Starved, message)
            })
        })
    }

    async fn compiled(
        &self,
        account: &str,
        script: &str,
        entry: &Compilation,
        path: PathBuf,
    ) -> Outcome {
        // Where the request that compiles goes away, another that waits here takes over (tokio's OnceCell).
        let outcome = entry
            .program
            .get_or_try_init(|| async {
                let compiled = self
                    .compiler
                    .compile(account, script, &path, &entry.compiles)
                    .await;
                match compiled {
                    Ok(()) => {
                        let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
                        Ok(Ok(Arc::new(Program {
                            path: path.clone(),
                            bytes,
                        })))
                    }
                    Err(failure) if failure.kind == FailureKind::Compile => Ok(Err(failure)),
                    // No verdict of the compiler's: the next request tries again.
                    Err(failure) => Err(failure),
                }
            })
            .await?
            .clone();
        let bytes = self
            .entries
            .lock()
            .expect("not poisoned")
            .shrink(self.most_bytes);
        self.metrics.cache_bytes(bytes);
        outcome
    }
}

/// Of a request in a script's compilation.
struct Interest<'a> {
    cache: &'a CompileCache,
    key: Key,
    compilation: Arc<Compilation>,
}

impl Drop for Interest<'_> {
    fn drop(&mut self) {
        let mut entries = self.cache.entries.lock().expect("not poisoned");
        entries.forget(&self.key, std::mem::take(&mut self.compilation));
    }
}

impl Entries {
    fn look_up(
        &mut self,
        key: Key,
        folder: &std::path::Path,
    ) -> (Arc<Compilation>, PathBuf, CacheResult) {
        self.clock += 1;
        let result = match self.by_key.get(&key) {
            Some(entry) if entry.compilation.program.initialized() => CacheResult::Hit,
            Some(_) => CacheResult::Joined,
            None => CacheResult::Miss,
        };
        let entry = self.by_key.entry(key).or_default();
        entry.used = self.clock;
        // A name of its own for every attempt: a program that is still executed keeps its file when its entry is gone. One
        // that cannot be guessed, as it tells that somebody runs that program.
        (
            entry.compilation.clone(),
            folder.join(random::name()),
            result,
        )
    }

    /// Drops a script that nobody has compiled and nobody else waits for: of a request that was given up nothing stays.
    fn forget(&mut self, key: &Key, compilation: Arc<Compilation>) {
        // The entry's and that of the request.
        let last = Arc::strong_count(&compilation) == 2;
        if last && !compilation.program.initialized() {
            self.by_key.remove(key);
        }
    }

    /// Drops what was used longest ago until the rest fits. Gives the bytes of the rest.
    fn shrink(&mut self, most_bytes: u64) -> u64 {
        let size = |entry: &Entry| match entry.compilation.program.get() {
            Some(Ok(program)) => program.bytes + ENTRY_BYTES,
            _ => ENTRY_BYTES,
        };
        let mut bytes: u64 = self.by_key.values().map(size).sum();
        while bytes > most_bytes {
            // One that still compiles is somebody's right now.
            let done = self
                .by_key
                .iter()
                .filter(|(_, entry)| entry.compilation.program.initialized());
            let Some(key) = done
                .min_by_key(|(_, entry)| entry.used)
                .map(|(key, _)| *key)
            else {
                break;
            };
            if let Some(entry) = self.by_key.remove(&key) {
                bytes -= size(&entry);
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(entries: &mut Entries, key: u8, bytes: u64, folder: &std::path::Path) -> PathBuf {
        let (compilation, path, _) = entries.look_up([key; 32], folder);
        std::fs::write(&path, "program").unwrap();
        let set = compilation.program.set(Ok(Arc::new(Program {
            path: path.clone(),
            bytes,
        })));
        set.unwrap();
        path
    }

    #[test]
    fn the_least_recently_used_goes_first_and_its_file_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut entries = Entries::default();
        let first = put(&mut entries, 1, 10_000, folder.path());
        let second = put(&mut entries, 2, 10_000, folder.path());
        assert_eq!(entries.look_up([1; 32], folder.path()).2, CacheResult::Hit);
        assert!(entries.shrink(20_000) <= 20_000);
        assert!(first.exists() && !second.exists());
    }

    #[test]
    fn a_program_in_use_keeps_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut entries = Entries::default();
        let path = put(&mut entries, 1, 10_000, folder.path());
        let held = entries
            .look_up([1; 32], folder.path())
            .0
            .program
            .get()
            .unwrap()
            .clone()
            .unwrap();
        entries.shrink(0);
        assert!(entries.by_key.is_empty() && path.exists());
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn a_script_that_everybody_gave_up_leaves_nothing() {
        let (mut entries, key) = (Entries::default(), [1; 32]);
        let (first, ..) = entries.look_up(key, std::path::Path::new("/nowhere"));
        let (second, ..) = entries.look_up(key, std::path::Path::new("/nowhere"));
        entries.forget(&key, first);
        assert_eq!(entries.by_key.len(), 1);
        entries.forget(&key, second);
        assert!(entries.by_key.is_empty());
        // One that has compiled stays.
        let folder = tempfile::tempdir().unwrap();
        put(&mut entries, 2, 10, folder.path());
        let (compiled, ..) = entries.look_up([2; 32], folder.path());
        entries.forget(&[2; 32], compiled);
        assert_eq!(entries.by_key.len(), 1);
    }

    #[test]
    fn what_still_compiles_stays() {
        let mut entries = Entries::default();
        entries.look_up([1; 32], std::path::Path::new("/nowhere"));
        assert_eq!(entries.shrink(0), ENTRY_BYTES);
        assert_eq!(
            entries.look_up([1; 32], std::path::Path::new("/nowhere")).2,
            CacheResult::Joined
        );
    }
}
