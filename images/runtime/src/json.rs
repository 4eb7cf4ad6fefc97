//! JSON that is passed on as text: checked without building a tree, since a tree of 5 MiB of JSON can take 100 MiB.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Checks that every JSON reader takes `text` as it is: valid syntax, nesting within serde_json's 128, numbers within
/// range and strings of valid Unicode (an escaped lone surrogate is JSON by RFC 8259 section 8.2, but not interoperable).
///
/// serde_json's own RawValue checks the syntax alone.
pub fn check(text: &[u8]) -> Result<(), serde_json::Error> {
    let text =
        std::str::from_utf8(text).map_err(|error| serde_json::Error::custom(error.to_string()))?;
    serde_json::from_str::<Interoperable>(text).map(|_| ())
}

struct Interoperable;

impl<'de> Deserialize<'de> for Interoperable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Interoperable {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self, A::Error> {
        while sequence.next_element::<Self>()?.is_some() {}
        Ok(self)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn what_any_reader_takes_is_accepted() {
        for text in [
            r#"{"a":[1,-2.5e3,"é\n😀",true,null,{}]}"#,
            "0",
            r#""\ud83d\ude00""#,
            " [ ] ",
        ] {
            check(text.as_bytes()).unwrap();
        }
    }

    #[test]
    fn what_some_reader_refuses_is_refused() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        for text in [
            "",
            "NaN",
            "[1,]",
            "{1:2}",
            "1e999",
            r#""\ud800""#,
            "1 2",
            "{\"a\"",
            deep.as_str(),
        ] {
            assert!(check(text.as_bytes()).is_err(), "{text}");
        }
        assert!(check(b"\"\xff\"").is_err());
    }
}
