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
    use proptest::prelude::*;
    use serde_json::{Map, Value};

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

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(8, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::vec((any::<String>(), inner), 0..5)
                    .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    fn levels(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(levels).max().unwrap_or(0),
            Value::Object(members) => 1 + members.values().map(levels).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// What serde_json makes a tree of is accepted, unless it is too deep; nothing else is.
    fn agrees(text: &[u8], deepest: usize) {
        let tree: Result<Value, _> = serde_json::from_slice(text);
        let expected = tree.is_ok_and(|tree| levels(&tree) <= deepest);
        let found = check(text, deepest);
        assert_eq!(found.is_ok(), expected, "{found:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn a_value_is_accepted_within_its_levels(value in value()) {
            let levels = levels(&value);
            for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
                prop_assert!(check(text.as_bytes(), levels).is_ok());
                prop_assert!(levels == 0 || check(text.as_bytes(), levels - 1).is_err());
            }
        }

        #[test]
        fn a_changed_value_is_taken_as_serde_json_takes_it(
            value in value(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"[]{},:\"\\0e-+.dDu \xff\x00".to_vec())), 1..4),
            deepest in 0usize..10,
        ) {
            let mut text = serde_json::to_vec(&value).unwrap();
            for (at, byte) in changes {
                let at = at.index(text.len());
                text[at] = byte;
            }
            agrees(&text, deepest);
        }

        #[test]
        fn pieces_of_json_are_taken_as_serde_json_takes_them(
            pieces in proptest::collection::vec(prop::sample::select(vec![
                "[", "]", "{", "}", ",", ":", "\"a\"", "\"", "1", "-", "0.5e", "9", "e999", "true", "nul", "\\ud83d", "\\u0041", " ", "\n", "[[[[", "]]]]",
            ]), 0..12),
            deepest in 0usize..10,
        ) {
            agrees(pieces.concat().as_bytes(), deepest);
        }

        #[test]
        fn any_bytes_are_taken_as_serde_json_takes_them(text in proptest::collection::vec(any::<u8>(), 0..100)) {
            agrees(&text, DEEPEST);
        }
    }
}
