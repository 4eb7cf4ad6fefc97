//! What a compiled script is linked with: it waits for its job, calls `handle`, and writes what came of it. The frames are
//! described in images/runtime/src/frame.rs.

use std::fs::File;
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::time::Instant;

use serde_json::Value;

/// What a script has in scope without naming it.
pub mod prelude {
    pub use serde_json::{self, json, Value};
}

const JOB: i32 = 3;
const FRAMES: i32 = 4;

static PANIC: Mutex<String> = Mutex::new(String::new());

/// Runs the script, for one job after the other; never returns.
pub fn run(handle: fn(Value, Value) -> Result<Value, String>) -> ! {
    panic::set_hook(Box::new(|panic| {
        let line = panic.location().filter(|at| at.file().ends_with("script.rs")).map(|at| at.line());
        let text = panic.payload().downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.payload().downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "a value that cannot be shown".to_string());
        *PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = match line {
            Some(line) => format!("panicked: {text} (line {line})"),
            None => format!("panicked: {text}"),
        };
    }));
    loop {
        write(b'S', 0, b"");
        let length = u32::from_le_bytes(read(4).try_into().expect("four bytes"));
        let mut job: Value = serde_json::from_slice(&read(length as usize)).expect("the supervisor writes JSON");
        let (params, context) = (job["params"].take(), job["context"].take());
        drop(job);
        let begun = Instant::now();
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            handle(params, context).map(|value| serde_json::to_vec(&value).expect("a Value is JSON"))
        }));
        let elapsed = begun.elapsed().as_micros() as u64;
        // What was printed without an end of its line.
        let _ = std::io::stdout().flush();
        match outcome {
            Ok(Ok(result)) => write(b'R', elapsed, &result),
            Ok(Err(message)) => end(b'E', elapsed, message.as_bytes()),
            Err(_) => {
                let message = PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
                end(b'E', elapsed, message.as_bytes())
            }
        }
    }
}

/// The answer; then waits for the end, so that the supervisor can read the peak of memory.
fn end(kind: u8, elapsed: u64, payload: &[u8]) -> ! {
    write(kind, elapsed, payload);
    read(1);
    std::process::exit(0)
}

fn pipe(descriptor: i32) -> ManuallyDrop<File> {
    // SAFETY: open since the start, and not closed here.
    ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) })
}

fn read(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    if pipe(JOB).read_exact(&mut bytes).is_err() {
        std::process::exit(0);
    }
    bytes
}

fn write(kind: u8, elapsed: u64, payload: &[u8]) {
    let mut frame = Vec::with_capacity(13 + payload.len());
    frame.push(kind);
    frame.extend_from_slice(&elapsed.to_le_bytes());
    frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    frame.extend_from_slice(payload);
    if pipe(FRAMES).write_all(&frame).is_err() {
        std::process::exit(0);
    }
}
