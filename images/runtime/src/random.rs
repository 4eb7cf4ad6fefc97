//! Numbers that nobody can guess.

/// From getrandom(2), which for so few bytes neither fails nor gives less once the machine has booted.
pub fn bytes<const COUNT: usize>() -> [u8; COUNT] {
    let mut bytes = [0; COUNT];
    // SAFETY: writes so many bytes at most.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), COUNT, 0) };
    assert_eq!(count, COUNT as isize, "getrandom gives what is asked for");
    bytes
}

/// A name of 32 letters and digits.
pub fn name() -> String {
    bytes::<16>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
