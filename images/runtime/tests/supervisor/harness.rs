//! Starts a supervisor on ports of its own and talks HTTP to it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub const NODEJS: &str = "nodejs";
pub const PYTHON: &str = "python";
pub const RUST: &str = "rust";

pub struct Supervisor {
    process: Child,
    pub api: String,
    pub metrics: String,
    _scratch: tempfile::TempDir,
    pub scratch: PathBuf,
    log: Arc<Mutex<Vec<String>>>,
}

pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// `(status, code, message)` of an error.
    pub fn error(&self) -> (u16, String, String) {
        let text = |name| {
            self.json()["error"][name]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        (self.status, text("code"), text("message"))
    }
}

impl Supervisor {
    /// A supervisor that is ready. `settings` override the tests' own.
    pub fn start(language: &str, settings: &[(&str, &str)]) -> Self {
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let worker = match language {
            NODEJS => images.join("runtime-nodejs/worker.js"),
            PYTHON => images.join("runtime-python/fork_server.py"),
            _ => LIBRARIES.clone(),
        };
        let temporary = tempfile::tempdir().unwrap();
        let scratch = temporary.path().join("lambda");
        let process = Command::new(env!("CARGO_BIN_EXE_lambda-runtime"))
            .envs([
                ("HOST", "127.0.0.1"),
                ("PORT", "0"),
                ("METRICS_PORT", "0"),
                ("DRAIN_SECONDS", "0"),
            ])
            .env("RUNTIME_LANGUAGE", language)
            .env("WORKER", worker)
            .env("SCRATCH_DIR", &scratch)
            .envs(settings.iter().copied())
            .env("SECRET_OF_THE_SUPERVISOR", "hunter2")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // From here on it is ended with the test, whatever fails.
        let mut supervisor = Self {
            process,
            api: String::new(),
            metrics: String::new(),
            _scratch: temporary,
            scratch,
            log: Arc::default(),
        };
        let mut log = BufReader::new(supervisor.process.stdout.take().unwrap()).lines();
        for line in log.by_ref() {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            assert_ne!(line["level"], "ERROR", "{line}");
            match line["message"].as_str() {
                Some("listening") => {
                    supervisor.api = line["api"].as_str().unwrap().to_owned();
                    supervisor.metrics = line["metrics"].as_str().unwrap().to_owned();
                }
                Some("ready") => break,
                _ => {}
            }
        }
        assert!(
            !supervisor.api.is_empty(),
            "the supervisor of {language} did not start: is its interpreter installed?"
        );
        // Read on, so that the supervisor never waits for a full pipe.
        let lines = supervisor.log.clone();
        std::thread::spawn(move || log.for_each(|line| lines.lock().unwrap().extend(line)));
        supervisor
    }

    /// The lines since it was ready, of which one has to be `message`.
    pub fn log_with(&self, message: &str) -> (Value, String) {
        let mut found = None;
        eventually(message, Duration::from_secs(5), || {
            let lines = self.log.lock().unwrap();
            let mut parsed = lines
                .iter()
                .map(|line| serde_json::from_str::<Value>(line).unwrap());
            found = parsed.rfind(|line| line["message"] == message);
            found.is_some()
        });
        (found.unwrap(), self.log.lock().unwrap().join("\n"))
    }

    pub fn pid(&self) -> i32 {
        self.process.id() as i32
    }

    pub fn execute(&self, script: &str) -> Answer {
        self.execute_with(script, json!({}), &[])
    }

    pub fn execute_with(&self, script: &str, params: Value, headers: &[(&str, &str)]) -> Answer {
        let body = json!({"request_id": "test", "params": params, "context": {"c": 3}, "script_content": script});
        request(
            &self.api,
            "POST",
            "/execute",
            headers,
            body.to_string().as_bytes(),
        )
    }

    /// The result of a script that must succeed.
    pub fn result(&self, script: &str, params: Value) -> Value {
        let answer = self.execute_with(script, params, &[]);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["result"].clone()
    }

    /// The message of a script that must fail with 422.
    pub fn failure(&self, script: &str) -> String {
        let (status, code, message) = self.execute(script).error();
        assert_eq!((status, code.as_str()), (422, "RUNTIME_ERROR"), "{message}");
        message
    }

    pub fn metric(&self, name: &str) -> f64 {
        let text = request(&self.metrics, "GET", "/metrics", &[], b"").body;
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// The most memory that the supervisor itself ever took, in bytes.
    pub fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.unwrap().trim().split(' ').next().unwrap();
        kib.parse::<usize>().unwrap() * 1024
    }

    /// Sends SIGTERM and gives the exit status.
    pub fn stop(mut self) -> Option<i32> {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.pid()),
            nix::sys::signal::Signal::SIGTERM,
        )
        .unwrap();
        self.process.wait().unwrap().code()
    }

    /// Processes that run scripts, or wait for one: each leads a session.
    pub fn executions(&self) -> Vec<i32> {
        let mut children = self.children();
        children.retain(|pid| session(*pid) == Some(*pid));
        children
    }

    /// The process that Python's are forked from.
    pub fn fork_server(&self) -> i32 {
        let own = session(self.pid());
        let mut children = self.children();
        children.retain(|pid| session(*pid) == own);
        *children.first().expect("one is there from the start on")
    }

    fn children(&self) -> Vec<i32> {
        let children =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid())).unwrap();
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid()))
            .unwrap()
            .flatten();
        let all = threads
            .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
        let all = all.fold(children, |all, more| all + " " + &more);
        let mut pids: Vec<i32> = all
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// proc_pid_stat(5), field 6.
fn session(pid: i32) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    fields.split(' ').nth(3)?.parse().ok()
}

/// One request over a connection of its own.
pub fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(180)))
        .unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    // A body that is refused by its length may be cut off while it is sent.
    let _ = stream.write_all(body);
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer from {path}: {text:?}"));
    let mut lines = head.lines();
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Answer {
        status,
        headers: headers.collect(),
        body: body.to_owned(),
    }
}

/// A request of which only the head and `part` of a body of `length` bytes are sent, then the answer's status and how long
/// it took.
pub fn half_sent(
    address: &str,
    headers: &[(&str, &str)],
    part: &[u8],
    length: usize,
) -> (u16, Duration) {
    let mut stream = TcpStream::connect(address).unwrap();
    let limit = Some(Duration::from_secs(60));
    stream.set_read_timeout(limit).unwrap();
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let head = format!(
        "POST /execute HTTP/1.1\r\nhost: test\r\n{headers}content-length: {length}\r\n\r\n"
    );
    let begun = Instant::now();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(part).unwrap();
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status).unwrap();
    let status = status.split(' ').nth(1).expect("an answer").parse();
    (status.unwrap(), begun.elapsed())
}

/// Node.js's worker, which takes some time more to start.
pub struct SlowWorker {
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}

impl SlowWorker {
    pub fn new(milliseconds: u32) -> Self {
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let worker = std::fs::read_to_string(images.join("runtime-nodejs/worker.js")).unwrap();
        let begin = "function main() {";
        assert!(worker.contains(begin));
        let wait = format!(
            "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, {milliseconds});"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.js");
        std::fs::write(&path, worker.replace(begin, &format!("{begin} {wait}"))).unwrap();
        Self {
            path,
            _folder: folder,
        }
    }
}

/// Waits until `done`, for at most `limit`.
pub fn eventually(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !done() {
        assert!(
            Instant::now() < end,
            "not within {} s: {what}",
            limit.as_secs()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// serde_json and the Rust worker, compiled by this machine's cargo as the image's build does with Debian's.
static LIBRARIES: LazyLock<PathBuf> = LazyLock::new(|| {
    static ONCE: Mutex<()> = Mutex::new(());
    let _once = ONCE.lock().unwrap();
    let worker = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("runtime-rust/worker");
    // A copy: cargo writes a lock file beside the sources, which would then be another image's.
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join("worker-source");
    std::fs::create_dir_all(source.join("src")).unwrap();
    for file in ["Cargo.toml", "src/lib.rs"] {
        std::fs::copy(worker.join(file), source.join(file)).unwrap();
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("worker");
    let libraries = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libraries");
    let built = Command::new("cargo")
        .args(["build", "--release", "--quiet", "--target-dir"])
        .arg(&target)
        .current_dir(&source)
        .status()
        .expect("cargo runs the tests, so it is there");
    assert!(built.success(), "the Rust worker was not built");
    let _ = std::fs::remove_dir_all(&libraries);
    std::fs::create_dir_all(&libraries).unwrap();
    let triple = std::fs::read_dir(&target)
        .unwrap()
        .flatten()
        .map(|entry| entry.path().join("release/deps"));
    let deps = triple
        .chain([target.join("release/deps")])
        .find(|path| path.is_dir())
        .expect("a folder of libraries");
    for file in std::fs::read_dir(deps)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
    {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".rlib") || name.ends_with(".rmeta") {
            std::fs::copy(&file, libraries.join(&name)).unwrap();
            for library in ["libserde_json", "liblambda_worker"] {
                if name.starts_with(&format!("{library}-")) && name.ends_with(".rlib") {
                    std::fs::copy(&file, libraries.join(format!("{library}.rlib"))).unwrap();
                }
            }
        }
    }
    libraries
});
