//! Frames of any bytes, that come in any pieces.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use lambda_runtime::frame::{self, FrameError, Kind};
use proptest::prelude::*;
use tokio::io::{AsyncRead, ReadBuf};

/// Remembers the largest allocation of each thread.
struct Watched;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn remember(size: usize) {
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

// SAFETY: all is left to the system's allocator; what is remembered is a number that allocates nothing.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        remember(layout.size());
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        remember(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static WATCHED: Watched = Watched;

/// Bytes that come in pieces of these lengths, by turns, with a wait before each. It allocates nothing itself.
struct Pieces<'a> {
    left: &'a [u8],
    lengths: &'a [usize],
    turn: usize,
    waited: bool,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.waited = !self.waited;
        if self.waited {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let length = self.lengths[self.turn % self.lengths.len()];
        let (piece, left) = self
            .left
            .split_at(length.min(self.left.len()).min(buffer.remaining()));
        buffer.put_slice(piece);
        self.left = left;
        self.turn += 1;
        Poll::Ready(Ok(()))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Read {
    Frame(Kind, u64, Vec<u8>),
    Closed,
    TooLong,
    Malformed,
}

/// All frames until one is none, by `frame::read`.
fn read_all(bytes: &[u8], lengths: &[usize], most: u64) -> Vec<Read> {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    tokio.block_on(async {
        let mut from = Pieces {
            left: bytes,
            lengths,
            turn: 0,
            waited: false,
        };
        let mut all = Vec::new();
        loop {
            LARGEST.set(0);
            let read = frame::read(&mut from, most).await;
            // A vector that grows doubles; the first reservation is for short payloads.
            let allowed = 64 * 1024 + 2 * most.min(bytes.len() as u64) as usize;
            let largest = LARGEST.get();
            assert!(
                largest <= allowed,
                "{largest} bytes at once for {}",
                bytes.len()
            );
            let read = match read {
                Ok(frame) => Read::Frame(frame.kind, frame.elapsed_us, frame.payload),
                Err(FrameError::Closed) => Read::Closed,
                Err(FrameError::TooLong(_)) => Read::TooLong,
                Err(FrameError::Malformed) => Read::Malformed,
            };
            let more = matches!(read, Read::Frame(..));
            all.push(read);
            if !more {
                return all;
            }
        }
    })
}

const KINDS: [(u8, Kind); 7] = [
    (b'S', Kind::Started),
    (b'R', Kind::Result),
    (b'E', Kind::Error),
    (b'J', Kind::NotJson),
    (b'X', Kind::Exited),
    (b'M', Kind::Memory),
    (b'N', Kind::NotAgain),
];

/// The same, by the description at the head of frame.rs.
fn expected(mut bytes: &[u8], most: u64) -> Vec<Read> {
    let mut all = Vec::new();
    loop {
        let read = one(&mut bytes, most);
        let more = matches!(read, Read::Frame(..));
        all.push(read);
        if !more {
            return all;
        }
    }
}

fn one(bytes: &mut &[u8], most: u64) -> Read {
    let Some((header, rest)) = bytes.split_at_checked(13) else {
        return Read::Closed;
    };
    let Some((_, kind)) = KINDS.iter().find(|(byte, _)| *byte == header[0]) else {
        return Read::Malformed;
    };
    let elapsed = u64::from_le_bytes(header[1..9].try_into().unwrap());
    let length = u32::from_le_bytes(header[9..].try_into().unwrap());
    if u64::from(length) > most {
        return Read::TooLong;
    }
    let Some((payload, rest)) = rest.split_at_checked(length as usize) else {
        return Read::Closed;
    };
    *bytes = rest;
    Read::Frame(*kind, elapsed, payload.to_vec())
}

fn encoded(kind: u8, elapsed: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&elapsed.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let some = proptest::collection::vec(any::<u8>(), 0..300);
    // Beyond what is reserved at first.
    prop_oneof![9 => some, 1 => (60_000usize..200_000).prop_map(|length| vec![7; length])]
}

fn frames() -> impl Strategy<Value = Vec<(usize, u64, Vec<u8>)>> {
    proptest::collection::vec((0..KINDS.len(), any::<u64>(), payload()), 0..5)
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        proptest::collection::vec(1usize..40, 1..8),
        Just(vec![usize::MAX])
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_was_written_is_read(frames in frames(), lengths in lengths()) {
        let bytes: Vec<u8> = frames
            .iter()
            .flat_map(|(kind, elapsed, payload)| encoded(KINDS[*kind].0, *elapsed, payload))
            .collect();
        let mut written: Vec<_> = frames
            .into_iter()
            .map(|(kind, elapsed, payload)| Read::Frame(KINDS[kind].1, elapsed, payload))
            .collect();
        written.push(Read::Closed);
        prop_assert_eq!(read_all(&bytes, &lengths, 200_000), written);
    }

    /// Frames of which bytes were changed or left out: other kinds, lengths that lie, ends in the middle.
    #[test]
    fn broken_frames_are_read_as_described(
        frames in frames(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in any::<prop::sample::Index>(),
        lengths in lengths(),
        most in 0u64..1000,
    ) {
        let mut bytes: Vec<u8> = frames
            .iter()
            .flat_map(|(kind, elapsed, payload)| encoded(KINDS[*kind].0, *elapsed, payload))
            .collect();
        if !bytes.is_empty() {
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(end.index(bytes.len() + 1));
        }
        prop_assert_eq!(read_all(&bytes, &lengths, most), expected(&bytes, most));
    }

    #[test]
    fn any_bytes_are_read_as_described(
        kind in prop::sample::select(KINDS.map(|(byte, _)| byte).to_vec()),
        rest in proptest::collection::vec(any::<u8>(), 0..100),
        lengths in lengths(),
        most in prop_oneof![0u64..1000, Just(u64::from(u32::MAX))],
    ) {
        let bytes = [vec![kind], rest].concat();
        prop_assert_eq!(read_all(&bytes, &lengths, most), expected(&bytes, most));
        prop_assert_eq!(read_all(&bytes[1..], &lengths, most), expected(&bytes[1..], most));
    }

    #[test]
    fn a_message_is_text_of_bounded_length(payload in payload()) {
        let frame = frame::Frame { kind: Kind::Error, elapsed_us: 0, payload };
        let message = frame.message();
        // What is no UTF-8 grows to three bytes each.
        let cut = message.ends_with(char::REPLACEMENT_CHARACTER);
        prop_assert!(message.len() <= 3 * 8192 && !cut);
    }

    #[test]
    fn a_job_is_read_back(script in proptest::option::of("\\PC*|[\\x00-\\x7f]{0,50}"), number: i64) {
        let bytes = frame::job(&number.to_string(), "[null]", script.as_deref());
        let (length, body) = bytes.split_at(4);
        prop_assert_eq!(u32::from_le_bytes(length.try_into().unwrap()) as usize, body.len());
        let job: serde_json::Value = serde_json::from_slice(body).unwrap();
        prop_assert_eq!(job, serde_json::json!({"params": number, "context": [null], "script": script}));
    }
}
