//! Envelope encryption of secrets (XChaCha20-Poly1305, draft-irtf-cfrg-xchacha). Each has a data key of its own, which a
//! key of the platform's wraps; when that is turned, the data keys alone are wrapped anew.

use std::io;

use chacha20poly1305::aead::{Aead, Generate, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};

use crate::config::SecretsConfig;

/// Of random characters, so that no search finds the key.
pub const SHORTEST_KEY: usize = 32;
const NONCE_BYTES: usize = 24;

/// A key of the platform's. It is made of the text in its file.
pub struct WrappingKey {
    /// Tells keys apart and says nothing of the key.
    pub id: String,
    cipher: XChaCha20Poly1305,
}

impl WrappingKey {
    pub fn new(text: &str) -> Self {
        let id = hash(b"id", text);
        WrappingKey {
            id: id[..8].iter().map(|byte| format!("{byte:02x}")).collect(),
            cipher: XChaCha20Poly1305::new(&Key::from(hash(b"key", text))),
        }
    }
}

fn hash(what: &[u8], text: &str) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(b"lambda-controller secrets ");
    digest.update(what);
    digest.update([0]);
    digest.update(text);
    digest.finalize().into()
}

/// Those that are there now.
pub struct Keys {
    pub current: WrappingKey,
    /// The one before, while rows may be wrapped by it.
    pub previous: Option<WrappingKey>,
}

/// A secret as it is stored.
pub struct Sealed {
    pub key_id: String,
    pub wrapped_key: Vec<u8>,
    pub content: Vec<u8>,
}

/// Why a secret cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The key of this id is not there.
    NoKey(String),
    /// It is not what was written for this owner and name.
    Broken,
}

impl Unreadable {
    /// For the log.
    pub fn cause(&self) -> String {
        match self {
            Unreadable::NoKey(id) => {
                format!(
                    "a secret is wrapped by the key {id}, which is neither SECRETS_KEY nor SECRETS_KEY_PREVIOUS"
                )
            }
            Unreadable::Broken => "a secret in the database is not what was written".to_owned(),
        }
    }
}

impl Keys {
    /// The files are read anew, so a key that was turned is there as soon as its file is.
    pub fn read(config: &SecretsConfig) -> io::Result<Keys> {
        let read =
            |secret: &crate::secret::Secret| Ok::<_, io::Error>(WrappingKey::new(&secret.read()?));
        Ok(Keys {
            current: read(&config.key)?,
            previous: config.previous.as_ref().map(read).transpose()?,
        })
    }

    fn of(&self, id: &str) -> Result<&WrappingKey, Unreadable> {
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|key| key.id == id)
            .ok_or_else(|| Unreadable::NoKey(id.to_owned()))
    }

    pub fn open(&self, place: &Place<'_>, sealed: &Sealed) -> Result<Vec<u8>, Unreadable> {
        let data_key = self.unwrap(place, sealed)?;
        decrypt(
            &XChaCha20Poly1305::new(&data_key),
            &place.bound(b"content"),
            &sealed.content,
        )
    }

    /// The same, wrapped by the current key.
    pub fn wrap_anew(&self, place: &Place<'_>, sealed: &Sealed) -> Result<Vec<u8>, Unreadable> {
        let data_key = self.unwrap(place, sealed)?;
        Ok(encrypt(
            &self.current.cipher,
            &place.bound(b"key"),
            &data_key,
        ))
    }

    fn unwrap(&self, place: &Place<'_>, sealed: &Sealed) -> Result<Key, Unreadable> {
        let key = self.of(&sealed.key_id)?;
        let data_key = decrypt(&key.cipher, &place.bound(b"key"), &sealed.wrapped_key)?;
        Key::try_from(&*data_key).map_err(|_| Unreadable::Broken)
    }
}

/// Whose secret it is, to which what is written is bound: moved to another row it cannot be read.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub owner: &'a str,
    pub name: &'a str,
}

impl Place<'_> {
    fn bound(&self, what: &[u8]) -> Vec<u8> {
        let parts = [what, self.owner.as_bytes(), self.name.as_bytes()];
        // Neither an owner nor a name has U+0000.
        parts.join(&0)
    }

    pub fn seal(&self, with: &WrappingKey, text: &[u8]) -> Sealed {
        let data_key = Key::generate();
        let content = encrypt(
            &XChaCha20Poly1305::new(&data_key),
            &self.bound(b"content"),
            text,
        );
        Sealed {
            key_id: with.id.clone(),
            wrapped_key: encrypt(&with.cipher, &self.bound(b"key"), &data_key),
            content,
        }
    }
}

/// The nonce and what it made. A random one of 24 bytes never comes twice.
fn encrypt(cipher: &XChaCha20Poly1305, bound: &[u8], text: &[u8]) -> Vec<u8> {
    let nonce = XNonce::generate();
    let payload = Payload {
        msg: text,
        aad: bound,
    };
    let sealed = cipher.encrypt(&nonce, payload);
    let mut whole = nonce.to_vec();
    whole.extend(sealed.expect("it is far shorter than 256 GiB"));
    whole
}

fn decrypt(cipher: &XChaCha20Poly1305, bound: &[u8], whole: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let (nonce, msg) = whole
        .split_first_chunk::<NONCE_BYTES>()
        .ok_or(Unreadable::Broken)?;
    let payload = Payload { msg, aad: bound };
    cipher
        .decrypt(&XNonce::from(*nonce), payload)
        .map_err(|_| Unreadable::Broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place {
        owner: "alice",
        name: "TOKEN",
    };

    fn keys(current: &str, previous: Option<&str>) -> Keys {
        Keys {
            current: WrappingKey::new(current),
            previous: previous.map(WrappingKey::new),
        }
    }

    #[test]
    fn what_is_sealed_is_opened_by_its_key_alone() {
        let first = keys("first", None);
        let sealed = PLACE.seal(&first.current, b"hunter2");
        assert_eq!(first.open(&PLACE, &sealed).unwrap(), b"hunter2");
        let again = PLACE.seal(&first.current, b"hunter2");
        assert!(again.content != sealed.content && again.wrapped_key != sealed.wrapped_key);
        let second = keys("second", None);
        let missing = Unreadable::NoKey(first.current.id.clone());
        assert_eq!(second.open(&PLACE, &sealed), Err(missing));
        let texts = [&sealed.content, &sealed.wrapped_key];
        assert!(
            texts
                .iter()
                .all(|text| !text.windows(7).any(|part| part == b"hunter2"))
        );
    }

    #[test]
    fn a_turned_key_wraps_anew_and_the_content_stays() {
        let first = keys("first", None);
        let mut sealed = PLACE.seal(&first.current, b"hunter2");
        let both = keys("second", Some("first"));
        assert_eq!(both.open(&PLACE, &sealed).unwrap(), b"hunter2");
        sealed.wrapped_key = both.wrap_anew(&PLACE, &sealed).unwrap();
        sealed.key_id.clone_from(&both.current.id);
        let second = keys("second", None);
        assert_eq!(second.open(&PLACE, &sealed).unwrap(), b"hunter2");
        assert!(first.open(&PLACE, &sealed).is_err());
    }

    #[test]
    fn what_was_moved_or_changed_is_not_read() {
        let keys = keys("first", None);
        let sealed = || PLACE.seal(&keys.current, b"hunter2");
        for (owner, name) in [("bob", "TOKEN"), ("alice", "OTHER")] {
            let place = Place { owner, name };
            assert_eq!(keys.open(&place, &sealed()), Err(Unreadable::Broken));
        }
        for change in [
            |sealed: &mut Sealed| *sealed.content.last_mut().unwrap() ^= 1,
            |sealed: &mut Sealed| sealed.wrapped_key[30] ^= 1,
            |sealed: &mut Sealed| sealed.content.truncate(20),
            |sealed: &mut Sealed| sealed.wrapped_key.clear(),
        ] {
            let mut changed = sealed();
            change(&mut changed);
            assert_eq!(keys.open(&PLACE, &changed), Err(Unreadable::Broken));
        }
        // Content and data key of two rows.
        let (mut one, other) = (sealed(), sealed());
        one.content = other.content;
        assert_eq!(keys.open(&PLACE, &one), Err(Unreadable::Broken));
    }
}
