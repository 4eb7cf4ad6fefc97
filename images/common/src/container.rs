//! What this container may use.

/// Memory that this container may use: its cgroup's limit (v2, then v1), else the machine's memory.
pub fn memory_bytes() -> u64 {
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
    fn a_container_has_a_machine_s_memory_at_most() {
        let bytes = super::memory_bytes();
        assert!((64 << 20..1 << 50).contains(&bytes), "{bytes}");
    }
}
