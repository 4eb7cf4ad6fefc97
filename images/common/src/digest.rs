//! What stands in a log for text that must not be there: whoever has the id of a session without a user may execute it.

use sha2::{Digest, Sha256};

/// The first 16 hexadecimal digits of the SHA-256: the same for the same text, so that log lines can be joined by it. That is
/// one-way only for text that cannot be guessed, as a random UUID.
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes())[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::digest;

    #[test]
    fn a_digest_is_the_beginning_of_the_sha_256() {
        // FIPS 180-4's example, and `printf '' | sha256sum`.
        assert_eq!(digest("abc"), "ba7816bf8f01cfea");
        assert_eq!(digest(""), "e3b0c44298fc1c14");
    }
}
