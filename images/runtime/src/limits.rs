//! What one execution may use.

use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
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

/// Memory that this container may use: its cgroup's limit (v2, then v1), else the machine's memory.
pub fn container_memory_bytes() -> u64 {
    let cgroup = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .find_map(|file| {
        std::fs::read_to_string(file)
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    });
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            text.lines().find_map(|line| {
                line.strip_prefix("MemTotal:")?
                    .trim()
                    .split(' ')
                    .next()?
                    .parse()
                    .ok()
            })
        })
        .map_or(u64::MAX, |kib: u64| kib * 1024);
    // cgroup v1 says "no limit" with a number near 2^63.
    cgroup.unwrap_or(u64::MAX).min(machine)
}

#[cfg(test)]
mod tests {
    #[test]
    fn container_memory_is_a_machine_s_size() {
        let bytes = super::container_memory_bytes();
        assert!((64 << 20..1 << 50).contains(&bytes), "{bytes}");
    }
}
