//! What one execution may use.

use std::path::Path;
use std::time::Duration;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// Limits of one execution. Bytes and seconds, unless the name says otherwise.
#[derive(Clone, Debug)]
pub struct Limits {
    pub wall_default: Duration,
    pub wall_max: Duration,
    pub cpu_seconds: u64,
    pub memory_bytes: u64,
    /// Of the result, and of what is printed.
    pub output_bytes: u64,
    /// Of what is printed, how much goes to the runtime's own log.
    pub logged_bytes: u64,
    pub scratch_bytes: u64,
    pub scratch_entries: u64,
    pub open_files: u64,
    pub threads: u64,
}

/// What the kernel itself holds a process to, from setrlimit(2). Set before any code of a caller is there.
///
/// RLIMIT_NPROC is not among them: it counts every process of the UID on the node, those of other pods included
/// (setrlimit(2)), so whether a script may start a thread would depend on strangers. seccomp forbids new processes and
/// the watch counts threads instead.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessLimits {
    pub cpu_seconds: u64,
    /// As far as the supervisor may raise the former, for a process that is used again.
    pub cpu_seconds_most: u64,
    /// Private writable memory (RLIMIT_DATA, which since Linux 4.7 counts mmap too). Unlike RLIMIT_AS it leaves out what
    /// is only reserved: V8 reserves gigabytes of addresses that it never touches.
    pub data_bytes: u64,
    pub file_bytes: u64,
    pub open_files: u64,
    /// Also the size of a thread's stack by glibc's default (pthread_create(3)), so it counts in `data_bytes`.
    pub stack_bytes: u64,
}

impl ProcessLimits {
    pub fn apply(&self) -> nix::Result<()> {
        self.all()
            .into_iter()
            .try_for_each(|(resource, soft, hard)| setrlimit(resource, soft, hard))
    }

    /// Resource, soft limit, hard limit.
    pub fn all(&self) -> [(Resource, u64, u64); 8] {
        let both = |resource, value| (resource, value, value);
        [
            // SIGXCPU at the soft limit, which names the cause; SIGKILL at the hard one for what ignores it. Of a process that
            // is used again that is far off, and the watch looks at its time.
            (
                Resource::RLIMIT_CPU,
                self.cpu_seconds,
                self.cpu_seconds_most,
            ),
            both(Resource::RLIMIT_DATA, self.data_bytes),
            both(Resource::RLIMIT_FSIZE, self.file_bytes),
            both(Resource::RLIMIT_NOFILE, self.open_files),
            both(Resource::RLIMIT_STACK, self.stack_bytes),
            both(Resource::RLIMIT_CORE, 0),
            both(Resource::RLIMIT_MEMLOCK, 0),
            both(Resource::RLIMIT_MSGQUEUE, 0),
        ]
    }
}

/// How many processes and threads this container may have, and what says so. None where nothing does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessCount {
    pub most: u64,
    pub source: String,
}

impl ProcessCount {
    /// The least of the cgroup's limit (v2, then v1) and the user's. The limit of a pod whose container has none of its own is
    /// not to be seen from inside.
    pub fn ask() -> Option<Self> {
        // SAFETY: it takes nothing and cannot fail.
        let root = unsafe { libc::getuid() } == 0;
        let user = getrlimit(Resource::RLIMIT_NPROC).map(|(soft, _)| soft);
        // Root has no such limit (setrlimit(2)).
        let user = user.ok().filter(|most| !root && *most != RLIM_INFINITY);
        Self::least(Path::new("/sys/fs/cgroup"), user)
    }

    fn least(cgroup: &Path, user: Option<u64>) -> Option<Self> {
        let cgroup = ["pids.max", "pids/pids.max"].iter().find_map(|file| {
            let file = cgroup.join(file);
            // "max" is no number.
            let most = std::fs::read_to_string(&file).ok()?.trim().parse().ok()?;
            let source = file.display().to_string();
            Some(Self { most, source })
        });
        let user = user.map(|most| Self {
            most,
            source: "RLIMIT_NPROC".into(),
        });
        cgroup
            .into_iter()
            .chain(user)
            .min_by_key(|count| count.most)
    }
}

#[cfg(test)]
mod tests {
    use super::ProcessCount;

    #[test]
    fn the_least_number_of_processes_counts() {
        let cgroup = tempfile::tempdir().unwrap();
        let least = |user| {
            let least = ProcessCount::least(cgroup.path(), user);
            least.map(|count| {
                (
                    count.most,
                    count.source.rsplit('/').next().unwrap().to_owned(),
                )
            })
        };
        assert_eq!(least(None), None);
        assert_eq!(least(Some(7)), Some((7, "RLIMIT_NPROC".into())));
        std::fs::create_dir(cgroup.path().join("pids")).unwrap();
        std::fs::write(cgroup.path().join("pids/pids.max"), "5\n").unwrap();
        assert_eq!(least(Some(7)), Some((5, "pids.max".into())));
        assert_eq!(least(Some(3)), Some((3, "RLIMIT_NPROC".into())));
        std::fs::write(cgroup.path().join("pids/pids.max"), "max\n").unwrap();
        assert_eq!(least(None), None);
        std::fs::write(cgroup.path().join("pids.max"), "9\n").unwrap();
        assert_eq!(least(None), Some((9, "pids.max".into())));
    }
}
