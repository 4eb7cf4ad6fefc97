//! What a process gives up before a script runs in it. README.md has the table of what each part stops.

pub mod filesystem;
pub mod syscalls;

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
            missing,
        }
    }
}
