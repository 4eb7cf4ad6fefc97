//! One script in one process: hands over the job, waits for the frame that ends it, and says why when none comes.

use std::future::pending;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use lambda_common::json;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout, timeout_at};

use crate::frame::{self, Frame, FrameError, Kind};
use crate::limits::Limits;
use crate::output::{Output, read_now};
use crate::process::{Fresh, MOST_USES, Process};
use crate::watch::{self, Breach, CpuTimes};

/// How long a process that has closed its channel may take to be gone, with its log.
const EXIT_WAIT: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Success {
    /// JSON.
    pub result: Vec<u8>,
    /// Of the script alone, by the worker's clock.
    pub elapsed: Duration,
    /// Peak resident memory of the process.
    pub memory_bytes: u64,
    /// The end of what the script printed.
    pub printed: String,
}

/// Why there is no result. Every kind but `Starved`, `Share` and `Internal` is the script's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    Exception,
    Exit,
    Signal,
    Memory,
    Output,
    Disk,
    Threads,
    NotJson,
    Channel,
    /// The compiler's own verdict.
    Compile,
    /// The script took more of something to compile than it may.
    CompileLimit,
    Timeout,
    CpuTime,
    /// The machine had not enough for it; nothing ran.
    Starved,
    /// The caller has its share of it already; nothing ran.
    Share,
    Internal,
}

impl FailureKind {
    pub const ALL: [Self; 16] = [
        Self::Exception,
        Self::Exit,
        Self::Signal,
        Self::Memory,
        Self::Output,
        Self::Disk,
        Self::Threads,
        Self::NotJson,
        Self::Channel,
        Self::Compile,
        Self::CompileLimit,
        Self::Timeout,
        Self::CpuTime,
        Self::Starved,
        Self::Share,
        Self::Internal,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exception => "exception",
            Self::Exit => "exit",
            Self::Signal => "signal",
            Self::Memory => "memory",
            Self::Output => "output",
            Self::Disk => "disk",
            Self::Threads => "threads",
            Self::NotJson => "not_json",
            Self::Channel => "channel",
            Self::Compile => "compile",
            Self::CompileLimit => "compile_limit",
            Self::Timeout => "timeout",
            Self::CpuTime => "cpu_time",
            Self::Starved => "starved",
            Self::Share => "share",
            Self::Internal => "internal",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
    /// The end of what the script printed, where it ran.
    pub printed: String,
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            printed: String::new(),
        }
    }
}

enum End {
    Frame(Result<Frame, FrameError>),
    Breach(Breach),
    Printed,
    Late,
}

/// Waits for the frame that says that the process has loaded all and waits for its job.
pub async fn started(process: &mut Process, limit: Duration) -> Result<(), Failure> {
    let internal = |message: String| Failure::new(FailureKind::Internal, message);
    match timeout(limit, frame::read(&mut process.pipes.frames, 0)).await {
        Ok(Ok(Frame {
            kind: Kind::Started,
            ..
        })) => Ok(()),
        Ok(_) => {
            let mut log = Output::default();
            let _ = timeout(EXIT_WAIT, log.read(&mut process.pipes.log, 1 << 20)).await;
            Err(internal(format!("a process did not start: {}", log.text())))
        }
        Err(_) => Err(internal(format!(
            "a process did not start within {} s",
            limit.as_secs()
        ))),
    }
}

/// Whose code a process has run when its job comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Only ours: it has started, and said so.
    Started,
    /// A compiled script's, which begins with its first instruction: before `main`, and before it says that it has started.
    Begins,
}

/// Processor time after which an execution is a long one. Its process stays at the lower priority when it is used again: to give
/// it back takes a privilege.
const LONG: Duration = Duration::from_millis(100);
/// Of a time limit, what is not worth a word.
const CLOCK: Duration = Duration::from_millis(50);

/// Runs `job` in a process. `allowed` is the time that `deadline` came from, for the message.
pub async fn run(
    process: &mut Process,
    state: State,
    job: Vec<u8>,
    limits: &Limits,
    deadline: Instant,
    allowed: Duration,
) -> Result<Success, Failure> {
    let mut log = Output::logged(limits.logged_bytes, process.refusal_prefix());
    let outcome = run_logged(process, state, job, limits, deadline, allowed, &mut log).await;
    // What was printed before the end is in the pipe by then.
    log.read_ready(&process.pipes.log, limits.output_bytes);
    let printed = log.tail();
    match outcome {
        Ok(success) => Ok(Success { printed, ..success }),
        // What the sandbox says is not the script's.
        Err(failure) if failure.kind == FailureKind::Internal => Err(failure),
        Err(failure) => Err(Failure { printed, ..failure }),
    }
}

async fn run_logged(
    process: &mut Process,
    state: State,
    job: Vec<u8>,
    limits: &Limits,
    deadline: Instant,
    allowed: Duration,
    log: &mut Output,
) -> Result<Success, Failure> {
    let begun = Instant::now();
    let left = deadline.saturating_duration_since(begun);
    let (pid, folder) = (process.pid(), process.folder());
    let mut peak = 0;
    // A new one's start counts as its execution's.
    let cpu_before = match process.uses {
        0 => Duration::ZERO,
        _ => watch::cpu_time(pid).unwrap_or_default(),
    };
    let cpu = CpuTimes {
        most: cpu_before + Duration::from_secs(limits.cpu_seconds + 2),
        long: Some(cpu_before + LONG),
    };
    process.uses += 1;
    let pipes = &mut process.pipes;
    let end = tokio::select! {
        frame = exchange(&mut pipes.job, &mut pipes.frames, state, &job, limits.output_bytes) => End::Frame(frame),
        breach = watch::watch(pid, &folder, limits, cpu, &mut peak) => End::Breach(breach),
        () = overflow(log, &mut pipes.log, limits.output_bytes) => End::Printed,
        () = tokio::time::sleep_until(deadline) => End::Late,
    };
    match end {
        End::Frame(Ok(frame)) => {
            let peak = watch::status(pid).map_or(peak, |status| status.peak.max(peak));
            outcome(frame, begun.elapsed(), peak)
        }
        End::Frame(Err(FrameError::TooLong(_))) => Err(too_much_output(limits)),
        End::Frame(Err(FrameError::Malformed)) => Err(wrote_to_channel()),
        End::Frame(Err(FrameError::Closed)) => {
            let gone = Instant::now() + EXIT_WAIT;
            let exit = timeout_at(gone, process.exit()).await;
            let rest = log.read(&mut process.pipes.log, limits.output_bytes);
            let _ = timeout_at(gone, rest).await;
            let log = log.text();
            if let Some(refusal) = process.refusal(&log) {
                let message = format!("the process was not confined: {refusal}");
                return Err(Failure::new(FailureKind::Internal, message));
            }
            Err(match exit {
                Ok(Ok(status)) => death(status, &log, limits),
                _ => Failure::new(
                    FailureKind::Channel,
                    "the script closed the channel that its result goes through",
                ),
            })
        }
        End::Breach(breach) => Err(passed(breach, limits)),
        End::Printed => Err(too_much_output(limits)),
        End::Late => Err(Failure::new(
            FailureKind::Timeout,
            if left + CLOCK >= allowed {
                format!(
                    "the script ran longer than its time limit of {} s",
                    allowed.as_secs_f64()
                )
            } else {
                format!(
                    "the script ran longer than the {:.1} s that waiting and compiling had left of its time limit of {} s",
                    left.as_secs_f64(),
                    allowed.as_secs_f64()
                )
            },
        )),
    }
}

/// How long a process may take, after its result, to say that it could take another job: one turn of its event loop, and the
/// tenths of a second for which a pod stands still that has used up its processor time.
const AGAIN_WAIT: Duration = Duration::from_millis(250);
/// How much more memory than at its beginning a process may keep, as a share of what an execution may have.
const KEPT_SHARE: u64 = 4;

/// What an interpreter has that has started and run nothing yet, for `again` to compare with. `more_threads` are those that
/// it adds by itself when a script first needs them, and that wait from then on.
pub fn look(process: &mut Process, more_threads: u64) {
    let pid = process.pid();
    process.fresh = watch::status(pid).and_then(|status| {
        Some(Fresh {
            memory: status.own,
            threads: status.threads + more_threads,
            open_files: watch::open_files(pid)?,
        })
    });
}

/// Makes a process that has given its result ready for another job, and stops it until then. False where anything is not as
/// before its first one: a thread or a timer still runs, a file is open, memory has grown.
pub async fn again(process: &mut Process, limits: &Limits) -> bool {
    let Some(fresh) = process.fresh else {
        return false;
    };
    let said = timeout(AGAIN_WAIT, frame::read(&mut process.pipes.frames, 0)).await;
    let ready = matches!(
        said,
        Ok(Ok(Frame {
            kind: Kind::Started,
            ..
        }))
    );
    // What it says is the script's word; what it has is looked at while it stands still, or is about to: with the signal
    // it executes nothing more, whenever the processor is next its own.
    if !ready || process.uses >= MOST_USES || !process.stand_still() {
        return false;
    }
    let (pid, folder) = (process.pid(), process.folder());
    let same = watch::status(pid).is_some_and(|status| {
        status.threads <= fresh.threads
            && status.own <= fresh.memory + limits.memory_bytes / KEPT_SHARE
    }) && watch::open_files(pid) == Some(fresh.open_files)
        && std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|current| current == folder);
    same && forget_output(&process.pipes.log)
        && process.scratch().empty().is_ok()
        // The peak of memory begins anew (proc_pid_clear_refs(5)).
        && std::fs::write(format!("/proc/{pid}/clear_refs"), "5").is_ok()
        && process.allow_processor_time(limits.cpu_seconds).is_ok()
}

/// Drops what has been printed, so that the next execution begins with an empty log.
fn forget_output(log: &pipe::Receiver) -> bool {
    let mut buffer = [0; 4096];
    for _ in 0..64 {
        match read_now(log, &mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error == Errno::EAGAIN,
        }
    }
    false
}

/// Sends the job while it reads: a script may fail, and answer, before it has taken all of its job.
async fn exchange(
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    from: &mut (impl AsyncRead + Unpin),
    state: State,
    job: &[u8],
    most: u64,
) -> Result<Frame, FrameError> {
    if state == State::Begins && frame::read(from, most).await?.kind != Kind::Started {
        return Err(FrameError::Malformed);
    }
    let send = async {
        // A broken pipe shows in the frame that does not come.
        let _ = to.write_all(job).await;
        pending::<()>().await
    };
    tokio::select! {
        frame = frame::read(from, most) => frame,
        () = send => unreachable!("it never ends"),
    }
}

async fn overflow(log: &mut Output, from: &mut (impl AsyncRead + Unpin), most: u64) {
    log.read(from, most).await;
    if log.total() <= most {
        pending::<()>().await;
    }
}

fn outcome(frame: Frame, wall: Duration, memory_bytes: u64) -> Result<Success, Failure> {
    let kind = match frame.kind {
        Kind::Result => {
            return match json::check(&frame.payload, json::DEEPEST) {
                // The worker's clock, within what ours has seen: a script could have written the frame itself.
                Ok(()) => Ok(Success {
                    elapsed: Duration::from_micros(frame.elapsed_us).min(wall),
                    result: frame.payload,
                    memory_bytes,
                    printed: String::new(),
                }),
                Err(error) => Err(Failure::new(
                    FailureKind::NotJson,
                    format!("the result is not JSON: {error}"),
                )),
            };
        }
        Kind::Error => FailureKind::Exception,
        Kind::NotJson => FailureKind::NotJson,
        Kind::Exited => FailureKind::Exit,
        Kind::Memory => FailureKind::Memory,
        Kind::Started | Kind::NotAgain => return Err(wrote_to_channel()),
    };
    Err(Failure::new(kind, frame.message()))
}

fn wrote_to_channel() -> Failure {
    Failure::new(
        FailureKind::Channel,
        "the script wrote to the channel that its result goes through",
    )
}

fn too_much_output(limits: &Limits) -> Failure {
    Failure::new(
        FailureKind::Output,
        format!(
            "the script's output is larger than its limit of {} bytes",
            limits.output_bytes
        ),
    )
}

fn memory(limits: &Limits) -> Failure {
    Failure::new(
        FailureKind::Memory,
        format!(
            "the script used more than its memory limit of {} MiB",
            limits.memory_bytes >> 20
        ),
    )
}

fn cpu_time(limits: &Limits) -> Failure {
    Failure::new(
        FailureKind::CpuTime,
        format!(
            "the script used more than its processor time of {} s",
            limits.cpu_seconds
        ),
    )
}

fn passed(breach: Breach, limits: &Limits) -> Failure {
    match breach {
        Breach::Memory => memory(limits),
        Breach::CpuTime => cpu_time(limits),
        Breach::Threads => Failure::new(
            FailureKind::Threads,
            format!(
                "the script started more threads than its limit of {}",
                limits.threads
            ),
        ),
        Breach::Disk => Failure::new(
            FailureKind::Disk,
            format!(
                "the script's files take more than the limit of {} MiB or {} entries",
                limits.scratch_bytes >> 20,
                limits.scratch_entries
            ),
        ),
    }
}

/// Words with which V8, glibc and Rust's allocator die when memory is refused.
const OUT_OF_MEMORY: [&str; 5] = [
    "heap out of memory",
    "Fatal process out of memory",
    "memory allocation of",
    "Allocation failed",
    "Cannot allocate memory",
];

/// Says how a process that gave no frame came to its end.
fn death(status: ExitStatus, log: &str, limits: &Limits) -> Failure {
    if OUT_OF_MEMORY.iter().any(|words| log.contains(words)) {
        return memory(limits);
    }
    if let Some(code) = status.code() {
        return Failure::new(
            FailureKind::Exit,
            format!("the script ended its process with exit status {code} before it gave a result"),
        );
    }
    let signal = status.signal().unwrap_or_default();
    let name = Signal::try_from(signal).map_or("an unknown signal", Signal::as_str);
    if signal == Signal::SIGXCPU as i32 {
        return cpu_time(limits);
    }
    let hint = if log.contains("overflowed its stack") || signal == Signal::SIGSEGV as i32 {
        " (a recursion without end overflows the stack and ends like this)"
    } else {
        ""
    };
    Failure::new(
        FailureKind::Signal,
        format!("the script's process was ended by {name}{hint}"),
    )
}
