//! Who answers for what is used: places to run, and what is kept in Redis.

use axum::http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};

/// A user, or a caller without one, known by its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    name: String,
    anonymous: bool,
}

impl Account {
    /// The user's, or without one that of the address which the edge has seen.
    pub fn of(headers: &HeaderMap, user_id: Option<&str>) -> Account {
        if let Some(user_id) = user_id {
            return Account {
                name: format!("user {user_id}"),
                anonymous: false,
            };
        }
        // Envoy appends the peer's address to what the peer itself may have sent.
        let forwarded = headers
            .get("x-forwarded-for")
            .and_then(|value| value.to_str().ok()?.rsplit(',').next());
        Account {
            name: format!("anonymous {}", forwarded.unwrap_or_default().trim()),
            anonymous: true,
        }
    }

    pub const fn is_anonymous(&self) -> bool {
        self.anonymous
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn header(&self) -> HeaderValue {
        HeaderValue::try_from(&self.name).expect("both parts were visible ASCII")
    }

    /// For the names of keys.
    pub fn digest(&self) -> String {
        sha256([self.name.as_bytes()])
    }
}

/// In hexadecimal digits. Each part counts with its length, so that no other parts give the same.
pub fn sha256<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_without_a_user_is_the_address_that_the_edge_saw() {
        let mut headers = HeaderMap::new();
        let account = |headers: &HeaderMap| Account::of(headers, None);
        assert_eq!(account(&headers).header(), "anonymous ");
        headers.insert(
            "x-forwarded-for",
            HeaderValue::from_static("9.9.9.9, 10.0.0.1"),
        );
        assert_eq!(account(&headers).header(), "anonymous 10.0.0.1");
        assert!(account(&headers).is_anonymous());
        let user = Account::of(&headers, Some("10.0.0.1"));
        assert_eq!(
            (user.header(), user.is_anonymous()),
            (HeaderValue::from_static("user 10.0.0.1"), false)
        );
        assert_ne!(user.digest(), account(&headers).digest());
    }

    #[test]
    fn other_parts_have_another_digest() {
        assert_ne!(sha256([&b"ab"[..], b"c"]), sha256([&b"a"[..], b"bc"]));
        assert_eq!(sha256([&b"ab"[..]]).len(), 64);
    }
}
