//! What a process gives up before a script runs in it. README.md has the table of what each part stops.

pub mod filesystem;
pub mod syscalls;

use std::path::Path;

use serde::{Deserialize, Serialize};

/// Whose code the process runs, and so how much it is trusted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// A caller's script, in a process that still has to become its interpreter: one process, threads allowed.
    Script,
    /// A caller's script, in a process that was forked with its interpreter: as above, and nothing else is ever started.
    Forked,
    /// The compiler: our own program on a caller's text. It starts the linker, so it may make processes.
    Compiler,
}

/// What the kernel offers, asked at start.
#[derive(Clone, Debug, Serialize)]
pub struct Kernel {
    /// 0 where Landlock is missing or off.
    pub landlock_abi: u32,
    pub seccomp: bool,
    /// Whether this container's users are others outside of it (user_namespaces(7)).
    pub user_namespace: bool,
    /// 1 or 2; 0 where none is to be seen.
    pub cgroup: u32,
    /// What is not enforced for lack of kernel support, in words.
    pub missing: Vec<&'static str>,
}

impl Kernel {
    pub fn ask() -> Self {
        let landlock_abi = filesystem::abi();
        let seccomp = syscalls::available();
        let mut missing = Vec::new();
        if !seccomp {
            missing.push("seccomp filters: no script is run without them");
        }
        if landlock_abi < 1 {
            missing.push(
                "Landlock: scripts can read the files of this container, and those of other executions under way",
            );
        } else if landlock_abi < 6 {
            missing.push(
                "Landlock signal scoping (ABI 6): seccomp alone keeps signals from other processes",
            );
        }
        Self {
            landlock_abi,
            seccomp,
            user_namespace: std::fs::read_to_string("/proc/self/uid_map")
                .is_ok_and(|map| in_user_namespace(&map)),
            cgroup: cgroup_version(Path::new("/sys/fs/cgroup")),
            missing,
        }
    }

    /// What is in force, by the name of each part.
    pub fn parts(&self) -> [(&'static str, bool); 5] {
        [
            ("seccomp", self.seccomp),
            ("landlock", self.landlock_abi > 0),
            ("landlock_signals", self.landlock_abi >= 6),
            ("user_namespace", self.user_namespace),
            ("cgroup_v2", self.cgroup == 2),
        ]
    }
}

/// Outside of all of them every user is itself.
fn in_user_namespace(uid_map: &str) -> bool {
    let fields: Vec<_> = uid_map.split_whitespace().collect();
    fields != ["0", "0", "4294967295"]
}

fn cgroup_version(root: &Path) -> u32 {
    if root.join("cgroup.controllers").exists() {
        2
    } else if root.join("memory").is_dir() || root.join("pids").is_dir() {
        1
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_namespace_is_told_by_its_map() {
        assert!(!in_user_namespace("         0          0 4294967295\n"));
        assert!(in_user_namespace("         0     524288      65536\n"));
        assert!(in_user_namespace("0 0 1000\n1000 1000 1\n"));
    }

    #[test]
    fn the_version_of_cgroups_is_told_by_their_files() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(cgroup_version(root.path()), 0);
        std::fs::create_dir(root.path().join("memory")).unwrap();
        assert_eq!(cgroup_version(root.path()), 1);
        std::fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        assert_eq!(cgroup_version(root.path()), 2);
    }
}
