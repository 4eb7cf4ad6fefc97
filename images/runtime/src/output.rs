//! What a process prints: its end is kept, for whom it may tell something, and its lines go to the runtime's own log as they come.

use std::os::fd::AsFd;

use nix::errno::Errno;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;

/// What is kept of it, from its end: interpreters say there why they die.
pub const TAIL_BYTES: usize = 4096;
/// A longer line is logged in parts.
const LINE_BYTES: usize = 8192;

#[derive(Default)]
pub struct Output {
    tail: Vec<u8>,
    total: u64,
    logged: Option<Logged>,
}

/// What of it goes to the log.
struct Logged {
    /// The line that has not ended.
    line: Vec<u8>,
    /// How many bytes may still be logged.
    left: u64,
    most: u64,
    /// What a line begins with that is the sandbox's.
    not_a_scripts: Option<String>,
}

impl Output {
    /// A script's, of which the first `most` bytes are logged.
    pub fn logged(most: u64, not_a_scripts: Option<&str>) -> Self {
        let logged = (most > 0).then(|| Logged {
            line: Vec::new(),
            left: most,
            most,
            not_a_scripts: not_a_scripts.map(str::to_owned),
        });
        Self {
            tail: Vec::new(),
            total: 0,
            logged,
        }
    }

    /// Reads on until the end, or until more than `most` bytes have come. Keeps the last ones.
    pub async fn read(&mut self, from: &mut (impl AsyncRead + Unpin), most: u64) {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            self.take(&buffer[..length]);
            if self.total > most {
                return;
            }
        }
    }

    /// Reads what is there, up to `most` bytes in all, and no more.
    pub fn read_ready(&mut self, from: &pipe::Receiver, most: u64) {
        let mut buffer = [0; 4096];
        while self.total <= most {
            match read_now(from, &mut buffer) {
                Ok(length @ 1..) => self.take(&buffer[..length]),
                _ => return,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        self.tail.extend_from_slice(bytes);
        let excess = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
        if let Some(logged) = &mut self.logged {
            logged.take(bytes);
        }
    }

    pub const fn total(&self) -> u64 {
        self.total
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.tail).trim().to_owned()
    }

    /// Its end as it was printed, for the caller. A character that the cut goes through is left out.
    pub fn tail(&self) -> String {
        let cut = self.total > self.tail.len() as u64;
        let broken = |byte: &&u8| cut && **byte & 0b1100_0000 == 0b1000_0000;
        let begin = self.tail.iter().take(3).take_while(broken).count();
        String::from_utf8_lossy(&self.tail[begin..]).into_owned()
    }
}

/// What is there, EAGAIN where nothing is. Not `try_read`, which knows of it only once the event loop has heard of it.
pub fn read_now(from: &pipe::Receiver, buffer: &mut [u8]) -> nix::Result<usize> {
    loop {
        match nix::unistd::read(from.as_fd(), buffer) {
            Err(Errno::EINTR) => {}
            answer => return answer,
        }
    }
}

impl Drop for Output {
    /// The last line may have no end; an execution may end anywhere.
    fn drop(&mut self) {
        if let Some(logged) = &mut self.logged {
            logged.end_line();
        }
    }
}

impl Logged {
    fn take(&mut self, bytes: &[u8]) {
        if self.left == 0 {
            return;
        }
        let fits = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        self.left -= fits as u64;
        for part in bytes[..fits].split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() >= LINE_BYTES {
                self.end_line();
            }
        }
        if self.left == 0 {
            self.end_line();
            tracing::info!(bytes = self.most, "no more of what it prints is logged");
        }
    }

    fn end_line(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        let text = text.trim_end_matches(['\r', '\n']);
        let ours = (self.not_a_scripts.as_deref()).is_some_and(|begin| text.starts_with(begin));
        if !text.is_empty() && !ours {
            tracing::info!(output = text, "printed");
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(parts: &[&[u8]]) -> Output {
        let mut output = Output::default();
        parts.iter().for_each(|part| output.take(part));
        output
    }

    #[test]
    fn the_end_is_kept_and_begins_with_a_whole_character() {
        assert_eq!(taken(&[b" a\n", b"b\n"]).tail(), " a\nb\n");
        let long = "é".repeat(TAIL_BYTES);
        assert_eq!(
            taken(&[b"x", long.as_bytes()]).tail(),
            "é".repeat(TAIL_BYTES / 2)
        );
        assert_eq!(
            taken(&[long.as_bytes(), b"x"]).tail(),
            "é".repeat(TAIL_BYTES / 2 - 1) + "x"
        );
        // Nothing was cut: what is no text is the script's own.
        assert_eq!(taken(&[b"\x80a"]).tail(), "\u{fffd}a");
    }

    #[tokio::test]
    async fn what_is_there_is_read_without_waiting_for_more() {
        let (sender, receiver) = pipe::pipe().unwrap();
        let mut output = Output::default();
        output.read_ready(&receiver, 100);
        assert_eq!(output.total(), 0);
        sender.writable().await.unwrap();
        sender.try_write(&[b'a'; 9000]).unwrap();
        output.read_ready(&receiver, 100);
        // As much as one look gives, once it is beyond.
        assert_eq!(output.total(), 4096);
        output.read_ready(&receiver, 1 << 20);
        assert_eq!(output.total(), 9000);
    }
}
