//! JSON that is passed on as text: checked without building a tree, since a tree of 5 MiB of JSON can take 100 MiB.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Levels of arrays and objects that every language's reader takes: serde_json's own limit is 128, and what a job puts
/// around params and context takes some of it.
pub const DEEPEST: usize = 100;

/// Checks that every JSON reader takes `text` as it is: valid syntax, at most `deepest` levels, numbers within the range of
/// a double and strings of valid Unicode (an escaped lone surrogate is JSON by RFC 8259, section 8.2, and not interoperable).
///
/// serde_json's own RawValue checks the syntax alone.
pub fn check(text: &[u8], deepest: usize) -> Result<(), serde_json::Error> {
    let text =
        std::str::from_utf8(text).map_err(|error| serde_json::Error::custom(error.to_string()))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    Interoperable {
        left: deepest,
        most: deepest,
    }
    .deserialize(&mut reader)?;
    reader.end()
}

#[derive(Clone, Copy)]
struct Interoperable {
    left: usize,
    most: usize,
}

impl Interoperable {
    fn inner<E: Error>(self) -> Result<Self, E> {
        let left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| E::custom(format!("it is nested deeper than {} levels", self.most)))?;
        Ok(Self { left, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Interoperable {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Interoperable {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while sequence.next_element_seed(inner)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        // A key is a string, and so is checked as one.
        while map.next_key_seed(inner)?.is_some() {
            map.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{DEEPEST, check};

    fn nested(levels: usize) -> String {
        "[".repeat(levels) + &"]".repeat(levels)
    }

    #[test]
    fn what_any_reader_takes_is_accepted() {
        for text in [
            r#"{"a":[1,-2.5e3,"é\n😀",true,null,{}]}"#,
            "0",
            r#""\ud83d\ude00""#,
            " [ ] ",
            "1e308",
            "1e-999",
            "123456789012345678901234567890",
            r#"{"[[[[":"\"[[[["}"#,
            nested(DEEPEST).as_str(),
        ] {
            check(text.as_bytes(), DEEPEST).unwrap();
        }
    }

    #[test]
    fn what_some_reader_refuses_is_refused() {
        for text in [
            "",
            "NaN",
            "[1,]",
            "{1:2}",
            "1e999",
            "-1e999",
            r#"{"a":[0,1e999]}"#,
            r#""\ud800""#,
            r#"{"\udc00":1}"#,
            r#"["\ude00\ud83d"]"#,
            "1 2",
            "{\"a\"",
            nested(DEEPEST + 1).as_str(),
            nested(10_000).as_str(),
        ] {
            assert!(check(text.as_bytes(), DEEPEST).is_err(), "{text}");
        }
        assert!(check(b"\"\xff\"", DEEPEST).is_err());
    }

    #[test]
    fn too_deep_is_said_so() {
        let error = check(nested(3).as_bytes(), 2).unwrap_err().to_string();
        assert!(error.contains("deeper than 2 levels"), "{error}");
        check(br#"{"a":{"b":1}}"#, 2).unwrap();
        assert!(check(br#"{"a":{"b":[]}}"#, 2).is_err());
    }
}
