//! Looks at a running process for what the kernel cannot be asked to limit without privilege: resident memory, threads,
//! and the sum of what lies in its folder. Between two looks, RLIMIT_DATA and RLIMIT_FSIZE bound what can happen.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::limits::Limits;
use crate::sandbox;
use crate::scratch::{self, Usage};

const INTERVAL: Duration = Duration::from_millis(10);
/// A folder is walked less often than a process is looked at: it costs more, and disks fill slower than memory.
const LOOKS_PER_WALK: u32 = 5;

/// A limit that was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    Memory,
    Threads,
    Disk,
    CpuTime,
}

/// From /proc/PID/status (proc_pid_status(5)); bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Status {
    /// Most that was ever resident, shared libraries included.
    pub peak: u64,
    /// Resident now and not backed by a file: what the process alone costs.
    pub own: u64,
    pub threads: u64,
}

/// None when the process is gone, or a zombie, which has no memory any more.
pub fn status(pid: i32) -> Option<Status> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| -> Option<u64> {
        text.lines()
            .find_map(|line| line.strip_prefix(name))?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    };
    Some(Status {
        peak: field("VmHWM:")? * 1024,
        own: (field("RssAnon:")? + field("RssShmem:")?) * 1024,
        threads: field("Threads:")?,
    })
}

/// Processor time of a process, all its threads together (proc_pid_stat(5)).
pub fn cpu_time(pid: i32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, is the script's choice, and comes before.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    // USER_HZ is 100 on every processor that runs this.
    Some(Duration::from_millis((ticks()? + ticks()?) * 10))
}

/// How many files a process has open.
pub fn open_files(pid: i32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// Processor time of a process, from its start on.
pub struct CpuTimes {
    /// After which it is over; the kernel has told it a second before.
    pub most: Duration,
    /// After which it gives way to others.
    pub long: Option<Duration>,
}

/// Returns when a limit is passed, and never if none is. Records the peak of resident memory in `peak`.
pub async fn watch(
    pid: i32,
    folder: &Path,
    limits: &Limits,
    mut cpu: CpuTimes,
    peak: &mut u64,
) -> Breach {
    let most = Usage {
        bytes: limits.scratch_bytes,
        entries: limits.scratch_entries,
    };
    let mut looks = 0u32;
    loop {
        tokio::time::sleep(INTERVAL).await;
        looks = looks.wrapping_add(1);
        if let Some(status) = status(pid) {
            *peak = status.peak.max(*peak);
            if status.own > limits.memory_bytes {
                return Breach::Memory;
            }
            if status.threads > limits.threads {
                return Breach::Threads;
            }
        }
        if looks.is_multiple_of(LOOKS_PER_WALK) {
            let used = cpu_time(pid).unwrap_or_default();
            if used > cpu.most {
                return Breach::CpuTime;
            }
            if cpu.long.is_some_and(|long| used > long) {
                cpu.long = None;
                sandbox::give_way(pid);
            }
            let folder = folder.to_owned();
            let walk = tokio::task::spawn_blocking(move || {
                let mut used = scratch::usage(&folder, most);
                used.bytes += unlinked_bytes(pid);
                used
            });
            if walk
                .await
                .is_ok_and(|used| used.bytes > most.bytes || used.entries > most.entries)
            {
                return Breach::Disk;
            }
        }
    }
}

/// Space of files that are open and have no name any more, so that no folder shows them.
fn unlinked_bytes(pid: i32) -> u64 {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return 0;
    };
    descriptors
        .flatten()
        .filter_map(|descriptor| fs::metadata(descriptor.path()).ok())
        .filter(|metadata| metadata.is_file() && metadata.nlink() == 0)
        .map(|metadata| metadata.blocks() * 512)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn status_is_that_of_the_process() {
        let status = status(std::process::id() as i32).unwrap();
        assert!(
            status.threads >= 1 && status.peak >= status.own && status.own > 100_000,
            "{status:?}"
        );
        assert!(super::status(i32::MAX).is_none());
    }

    #[test]
    fn processor_time_is_that_of_the_process() {
        let before = cpu_time(std::process::id() as i32).unwrap();
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(200) {
            std::hint::black_box(0);
        }
        let used = cpu_time(std::process::id() as i32).unwrap() - before;
        assert!(
            used > Duration::ZERO && used < Duration::from_secs(60),
            "{used:?}"
        );
        assert!(cpu_time(i32::MAX).is_none());
    }

    #[test]
    fn unlinked_files_count() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![1; 3 << 20]).unwrap();
        assert!(unlinked_bytes(std::process::id() as i32) >= 3 << 20);
    }
}
