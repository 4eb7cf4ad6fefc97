//! What differs between the languages: which program runs, with which arguments, and which files it may see.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use crate::config::{Config, LanguageName};
use crate::isolation::Profile;
use crate::isolation::filesystem::Paths;
use crate::limits::ProcessLimits;
use crate::process;
use crate::sandbox::{Confinement, Spec};

const MIB: u64 = 1024 * 1024;

/// What every process has in its environment.
const ENVIRONMENT: [(&str, &str); 2] = [("LANG", "C.UTF-8"), ("TZ", "UTC")];

/// An interpreter or compiler as it is installed here.
#[derive(Clone, Debug)]
pub struct Language {
    pub name: LanguageName,
    /// As the interpreter says it.
    pub version: String,
    program: PathBuf,
    /// Folder of its libraries.
    prefix: PathBuf,
    /// Node.js with its worker loaded, which processes begin with.
    snapshot: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Answer {
    version: String,
    program: PathBuf,
    prefix: PathBuf,
}

impl Language {
    /// Asks the interpreter who it is: what PATH finds may be a link or a wrapper, and the sandbox needs the program itself.
    pub fn probe(config: &Config) -> Result<Self, String> {
        let ask = |arguments: &[&str]| -> Result<String, String> {
            let program = config.interpreter.display();
            let output = Command::new(&config.interpreter)
                .args(arguments)
                .output()
                .map_err(|error| format!("{program} cannot be started: {error}. To do: install it, or set INTERPRETER"))?;
            if !output.status.success() {
                return Err(format!(
                    "{program} fails: {}",
                    String::from_utf8_lossy(&output.stderr)
                ));
            }
            String::from_utf8(output.stdout)
                .map_err(|error| format!("{program} answers with {error}"))
        };
        let answer = match config.language {
            LanguageName::Nodejs => ask(&[
                "-p",
                "JSON.stringify({version: process.versions.node, program: process.execPath, \
                 prefix: path.dirname(path.dirname(process.execPath))})",
            ])?,
            LanguageName::Python => ask(&[
                "-I",
                "-c",
                "import json, platform, sys; print(json.dumps(dict(version=platform.python_version(), \
                 program=sys.executable, prefix=sys.base_prefix)))",
            ])?,
            LanguageName::Rust => {
                let version = ask(&["--version"])?;
                let sysroot = ask(&["--print", "sysroot"])?.trim().to_owned();
                let version = version.split(' ').nth(1).unwrap_or_default();
                let program = Path::new(&sysroot).join("bin/rustc");
                serde_json::json!({"version": version, "program": program, "prefix": sysroot})
                    .to_string()
            }
        };
        let answer: Answer = serde_json::from_str(&answer).map_err(|error| {
            format!(
                "{} answers {answer:?}: {error}",
                config.interpreter.display()
            )
        })?;
        Ok(Self {
            name: config.language,
            version: answer.version,
            program: answer.program.canonicalize().unwrap_or(answer.program),
            prefix: answer.prefix.canonicalize().unwrap_or(answer.prefix),
            snapshot: None,
        })
    }

    /// Has Node.js load the worker once and keep its heap in `file`. Debian's Node.js 18 brings neither a snapshot nor a
    /// cache of its own library's code, and compiles it at each start: from this file it starts with half of the processor
    /// time (docs/notes/performance.md). Made here and not in the image, as V8 takes it on the same kind of processor only.
    pub fn make_snapshot(&mut self, config: &Config, file: &Path) -> Result<(), String> {
        let output = Command::new(&self.program)
            .args(node_arguments(config))
            .arg("--snapshot-blob")
            .arg(file)
            .arg("--build-snapshot")
            .arg(&config.worker)
            .env_clear()
            .envs(ENVIRONMENT)
            .output()
            .map_err(|error| format!("{} cannot be started: {error}", self.program.display()))?;
        if !output.status.success() || !file.is_file() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!(
                "--build-snapshot ended with {}: {}",
                output.status,
                said.trim()
            ));
        }
        self.snapshot = Some(file.to_owned());
        Ok(())
    }

    /// A process of Node.js that waits for its script.
    pub fn worker(&self, config: &Config, folder: &Path) -> Spec {
        let mut arguments = node_arguments(config).to_vec();
        let mut paths = self.paths(folder);
        if let Some(snapshot) = &self.snapshot {
            arguments.extend(["--snapshot-blob".into(), snapshot.display().to_string()]);
            paths.read.push(snapshot.clone());
        }
        // With a snapshot it is not read, and is process.argv[1] all the same.
        arguments.push(config.worker.display().to_string());
        paths.read.push(config.worker.clone());
        // Measured: Node.js 18 starts with 28 MiB of private writable mappings; the stacks of libuv's four threads add
        // 32 MiB when a script first uses them. What is touched of it counts in the memory limit as well.
        let confinement = self.confinement(config, Profile::Script, folder, paths, 96 * MIB);
        Spec {
            program: self.program.clone(),
            arguments,
            confinement,
        }
    }

    /// How long a process is not ended for another caller's that waits: what a few starts take.
    pub fn worth_keeping(&self) -> Duration {
        Duration::from_millis(match self.name {
            LanguageName::Nodejs => 100,
            LanguageName::Python | LanguageName::Rust => 20,
        })
    }

    /// Threads that the interpreter starts when a script first needs them: libuv's four.
    pub fn more_threads(&self) -> u64 {
        match self.name {
            LanguageName::Nodejs => 4,
            LanguageName::Python | LanguageName::Rust => 0,
        }
    }

    /// The process of Python that others are forked from.
    pub fn fork_server(&self, config: &Config) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(["-I", "-B"])
            .arg(&config.worker)
            .env_clear()
            .envs(ENVIRONMENT);
        command
    }

    /// A process of Python that waits for its script.
    pub fn fork(&self, config: &Config, folder: &Path) -> Confinement {
        let mut paths = self.paths(folder);
        // Tracebacks show its lines.
        paths
            .read
            .extend(config.worker.parent().map(Path::to_owned));
        self.confinement(config, Profile::Forked, folder, paths, 16 * MIB)
    }

    /// A compiled Rust script.
    pub fn program(&self, config: &Config, program: &Path, folder: &Path) -> Spec {
        let mut paths = self.paths(folder);
        paths.execute.push(program.to_owned());
        Spec {
            program: program.to_owned(),
            arguments: vec![],
            confinement: self.confinement(config, Profile::Script, folder, paths, 16 * MIB),
        }
    }

    /// The compiler, at work in `folder`.
    pub fn compiler(&self, config: &Config, arguments: Vec<String>, folder: &Path) -> Spec {
        let mut paths = self.paths(folder);
        paths.execute.push("/usr/bin".into());
        paths.read.push(config.worker.clone());
        // A script's `include_str!` would show it; the compiler does without.
        paths.own_process = false;
        let mut confinement = self.confinement(config, Profile::Compiler, folder, paths, 0);
        confinement
            .environment
            .push(("PATH".into(), "/usr/bin".into()));
        confinement.limits = ProcessLimits {
            cpu_seconds: config.compile.timeout.as_secs(),
            cpu_seconds_most: config.compile.timeout.as_secs() + 1,
            data_bytes: config.compile.memory_bytes,
            file_bytes: config.compile.program_bytes,
            open_files: 256,
            stack_bytes: 8 * MIB,
        };
        Spec {
            program: self.program.clone(),
            arguments,
            confinement,
        }
    }

    fn paths(&self, folder: &Path) -> Paths {
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
        let mut execute = paths(&["/usr/lib", "/usr/lib64", "/usr/libexec", "/lib", "/lib64"]);
        execute.push(self.program.clone());
        execute.push(self.prefix.join("lib"));
        if self.name == LanguageName::Rust {
            execute.push(self.prefix.join("bin"));
        }
        let mut read = paths(&[
            "/usr/share",
            "/usr/include",
            "/etc/ld.so.cache",
            "/etc/localtime",
            "/etc/ssl/openssl.cnf",
            "/dev/urandom",
            "/dev/random",
        ]);
        read.push(self.prefix.join("share"));
        Paths {
            execute,
            read,
            own: vec![folder.to_owned()],
            write: paths(&["/dev/null"]),
            own_process: true,
        }
    }

    fn confinement(
        &self,
        config: &Config,
        profile: Profile,
        folder: &Path,
        paths: Paths,
        headroom: u64,
    ) -> Confinement {
        let limits = &config.limits;
        let own = folder.display().to_string();
        let environment = [("HOME", own.as_str()), ("TMPDIR", &own)];
        Confinement {
            profile,
            environment: environment
                .into_iter()
                .chain(ENVIRONMENT)
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            directory: folder.to_owned(),
            paths,
            limits: ProcessLimits {
                cpu_seconds: limits.cpu_seconds,
                cpu_seconds_most: match config.reuse {
                    Some(_) => (limits.cpu_seconds + 1) * u64::from(process::MOST_USES),
                    None => limits.cpu_seconds + 1,
                },
                data_bytes: limits.memory_bytes + headroom,
                file_bytes: limits.scratch_bytes,
                open_files: limits.open_files,
                stack_bytes: 8 * MIB,
            },
            require_landlock: config.require_landlock,
        }
    }
}

/// Of the processes that wait for scripts; a snapshot serves those alone that are started with the same.
fn node_arguments(config: &Config) -> [String; 3] {
    // What is outside of the old generation (young generation, code, stacks, Node.js itself) takes up to 64 MiB.
    let heap = (config.limits.memory_bytes / MIB)
        .saturating_sub(64)
        .max(32);
    [
        format!("--max-old-space-size={heap}"),
        // A core or so is there; each of V8's helper threads has a stack and an arena.
        "--v8-pool-size=1".into(),
        "--no-addons".into(),
    ]
}
