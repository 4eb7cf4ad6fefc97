//! What a worker and the supervisor say to each other, over pipes that nothing else writes to.
//!
//! To the worker: a length (u32, little-endian) and that many bytes of JSON, `{"params", "context", "script"}`; the
//! script is null where the worker has it from its execution before.
//! From the worker, a frame each: kind (one byte), elapsed microseconds (u64), length (u32), payload. First `S` when it is
//! ready for its script, then one of the others; after a result, `S` again when it could take another job, or `N`.

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes before a frame's payload.
const HEADER: usize = 13;
/// Longest message of an error frame that is passed on.
const MESSAGE_BYTES: usize = 8 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ready for a script.
    Started,
    /// The payload is the result, as JSON.
    Result,
    /// The script threw; the payload is the message.
    Error,
    /// What the script returned is not JSON; the payload says why.
    NotJson,
    /// The script ended the process by a call that the worker sees.
    Exited,
    /// The script asked for more memory than it may have, and the language noticed.
    Memory,
    /// Something that the script began still runs after its result.
    NotAgain,
}

#[derive(Debug)]
pub struct Frame {
    pub kind: Kind,
    pub elapsed_us: u64,
    pub payload: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the channel was closed")]
    Closed,
    #[error("a frame of {0} bytes is longer than allowed")]
    TooLong(u64),
    #[error("what came is not a frame")]
    Malformed,
}

/// Reads one frame whose payload has at most `most` bytes.
pub async fn read(from: &mut (impl AsyncRead + Unpin), most: u64) -> Result<Frame, FrameError> {
    let mut header = [0; HEADER];
    from.read_exact(&mut header)
        .await
        .map_err(|_| FrameError::Closed)?;
    let kind = match header[0] {
        b'S' => Kind::Started,
        b'R' => Kind::Result,
        b'E' => Kind::Error,
        b'J' => Kind::NotJson,
        b'X' => Kind::Exited,
        b'M' => Kind::Memory,
        b'N' => Kind::NotAgain,
        _ => return Err(FrameError::Malformed),
    };
    let elapsed_us = u64::from_le_bytes(header[1..9].try_into().expect("eight bytes"));
    let length = u64::from(u32::from_le_bytes(
        header[9..].try_into().expect("four bytes"),
    ));
    if length > most {
        return Err(FrameError::TooLong(length));
    }
    // Grown as it comes: the length is the script's word, the memory would be ours.
    let mut payload = Vec::with_capacity(length.min(64 * 1024) as usize);
    from.take(length)
        .read_to_end(&mut payload)
        .await
        .map_err(|_| FrameError::Closed)?;
    if payload.len() as u64 != length {
        return Err(FrameError::Closed);
    }
    Ok(Frame {
        kind,
        elapsed_us,
        payload,
    })
}

impl Frame {
    /// The payload as a message for the caller: of bounded length, and valid text whatever the script wrote.
    pub fn message(&self) -> String {
        let text = String::from_utf8_lossy(&self.payload[..self.payload.len().min(MESSAGE_BYTES)]);
        text.trim_end_matches('\u{fffd}').to_owned()
    }
}

/// A job: `params` and `context` are JSON text already. Without a script it is for a process that has it from before.
pub fn job(params: &str, context: &str, script: Option<&str>) -> Vec<u8> {
    let script = serde_json::to_string(&script).expect("a string is always JSON");
    let body = format!(r#"{{"params":{params},"context":{context},"script":{script}}}"#);
    let mut bytes = Vec::with_capacity(4 + body.len());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&42u64.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    #[tokio::test]
    async fn a_frame_is_read_and_the_rest_is_left() {
        let mut bytes: &[u8] = &[frame(b'R', 4, b"null"), frame(b'E', 2, b"no")].concat();
        let first = read(&mut bytes, 100).await.unwrap();
        assert_eq!(
            (first.kind, first.elapsed_us, first.payload.as_slice()),
            (Kind::Result, 42, &b"null"[..])
        );
        assert_eq!(read(&mut bytes, 100).await.unwrap().message(), "no");
        assert!(matches!(
            read(&mut bytes, 100).await,
            Err(FrameError::Closed)
        ));
    }

    #[tokio::test]
    async fn a_lying_length_costs_nothing() {
        let mut long: &[u8] = &frame(b'R', u32::MAX, b"x");
        assert!(
            matches!(read(&mut long, 100).await, Err(FrameError::TooLong(length)) if length == u64::from(u32::MAX))
        );
        let mut short: &[u8] = &frame(b'R', 50, b"x");
        assert!(matches!(
            read(&mut short, 100).await,
            Err(FrameError::Closed)
        ));
        let mut noise: &[u8] = b"GET / HTTP/1.1\r\n";
        assert!(matches!(
            read(&mut noise, 100).await,
            Err(FrameError::Malformed)
        ));
    }

    #[test]
    fn a_message_is_valid_text_of_bounded_length() {
        let frame = |payload| Frame {
            kind: Kind::Error,
            elapsed_us: 0,
            payload,
        };
        assert_eq!(frame(b"bad \xff\xfe".to_vec()).message(), "bad ");
        assert!(frame("é".repeat(100_000).into_bytes()).message().len() <= MESSAGE_BYTES);
    }

    #[test]
    fn a_job_holds_the_script_whatever_is_in_it() {
        let bytes = job("{}", "null", Some("\"\\\n\u{0}é"));
        let value: serde_json::Value = serde_json::from_slice(&bytes[4..]).unwrap();
        assert_eq!(value["script"], "\"\\\n\u{0}é");
        assert_eq!(
            u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize,
            bytes.len() - 4
        );
    }
}
