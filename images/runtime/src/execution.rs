//! One script in one process: hands over the job, waits for the frame that ends it, and says why when none comes.

use std::future::pending;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::frame::{self, Frame, FrameError, Kind};
use crate::json;
use crate::limits::Limits;
use crate::process::Process;
use crate::sandbox;
use crate::watch::{self, Breach};

/// What is kept of the output, from its end: interpreters say there why they die.
const LOG_BYTES: usize = 4096;
/// How long a process that has closed its channel may take to be gone.
const EXIT_WAIT: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Success {
    /// JSON.
    pub result: Vec<u8>,
    /// Of the script alone, by the worker's clock.
    pub elapsed: Duration,
    /// Peak resident memory of the process.
    pub memory_bytes: u64,
}

/// Why there is no result. Every kind but `Internal` is the script's doing.
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
    Compile,
    Timeout,
    CpuTime,
    Internal,
}

impl FailureKind {
    pub const ALL: [Self; 13] = [
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
        Self::Timeout,
        Self::CpuTime,
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
            Self::Timeout => "timeout",
            Self::CpuTime => "cpu_time",
            Self::Internal => "internal",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

/// The end of what a process printed, and how much that was.
#[derive(Default)]
pub struct Log {
    tail: Vec<u8>,
    total: u64,
}

impl Log {
    /// Reads on until the end, or until more than `most` bytes have come. Keeps the last ones.
    pub async fn read(&mut self, from: &mut (impl AsyncRead + Unpin), most: u64) {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            self.total += length as u64;
            self.tail.extend_from_slice(&buffer[..length]);
            let excess = self.tail.len().saturating_sub(LOG_BYTES);
            self.tail.drain(..excess);
            if self.total > most {
                return;
            }
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.tail).trim().to_owned()
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
            let mut log = Log::default();
            let _ = timeout(EXIT_WAIT, log.read(&mut process.pipes.log, 1 << 20)).await;
            Err(internal(format!("a process did not start: {}", log.text())))
        }
        Err(_) => Err(internal(format!(
            "a process did not start within {} s",
            limit.as_secs()
        ))),
    }
}

/// Runs `job` in a process that has started. `allowed` is the time that `deadline` came from, for the message.
pub async fn run(
    mut process: Process,
    job: Vec<u8>,
    limits: &Limits,
    deadline: Instant,
    allowed: Duration,
) -> Result<Success, Failure> {
    let begun = Instant::now();
    let (pid, folder) = (process.pid(), process.folder());
    let mut peak = 0;
    let mut log = Log::default();
    let pipes = &mut process.pipes;
    let end = tokio::select! {
        frame = exchange(&mut pipes.job, &mut pipes.frames, &job, limits.output_bytes) => End::Frame(frame),
        breach = watch::watch(pid, &folder, limits, &mut peak) => End::Breach(breach),
        () = overflow(&mut log, &mut pipes.log, limits.output_bytes) => End::Printed,
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
            let exit = timeout(EXIT_WAIT, process.exit()).await;
            let _ = timeout(
                EXIT_WAIT,
                log.read(&mut process.pipes.log, limits.output_bytes),
            )
            .await;
            Err(match exit {
                Ok(Ok(status)) => death(status, &log.text(), limits),
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
            format!(
                "the script ran longer than its time limit of {} s",
                allowed.as_secs_f64()
            ),
        )),
    }
}

/// Sends the job while it reads: a script may fail, and answer, before it has taken all of its job.
async fn exchange(
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    from: &mut (impl AsyncRead + Unpin),
    job: &[u8],
    most: u64,
) -> Result<Frame, FrameError> {
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

async fn overflow(log: &mut Log, from: &mut (impl AsyncRead + Unpin), most: u64) {
    log.read(from, most).await;
    if log.total <= most {
        pending::<()>().await;
    }
}

fn outcome(frame: Frame, wall: Duration, memory_bytes: u64) -> Result<Success, Failure> {
    let kind = match frame.kind {
        Kind::Result => {
            return match json::check(&frame.payload) {
                // The worker's clock, within what ours has seen: a script could have written the frame itself.
                Ok(()) => Ok(Success {
                    elapsed: Duration::from_micros(frame.elapsed_us).min(wall),
                    result: frame.payload,
                    memory_bytes,
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
        Kind::Started => return Err(wrote_to_channel()),
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

fn passed(breach: Breach, limits: &Limits) -> Failure {
    match breach {
        Breach::Memory => memory(limits),
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
    if status.code() == Some(i32::from(sandbox::FAILED)) && log.starts_with("sandbox:") {
        return Failure::new(
            FailureKind::Internal,
            format!("the process was not confined: {log}"),
        );
    }
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
        return Failure::new(
            FailureKind::CpuTime,
            format!(
                "the script used more than its processor time of {} s",
                limits.cpu_seconds
            ),
        );
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
