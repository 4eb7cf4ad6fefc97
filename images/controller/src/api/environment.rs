//! A function's environment: names and texts that its script sees as `context.environment`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::ApiError;

const MOST_VARIABLES: usize = 100;
const LONGEST_VARIABLE: usize = 128;
const LARGEST_ENVIRONMENT: usize = 16 << 10;
const MEMBER: &str = "environment";

/// As its JSON text, which is the same for the same names and texts.
pub fn checked(environment: &BTreeMap<String, String>) -> Result<String, ApiError> {
    let wrong = |what: String| Err(ApiError::invalid(format!("environment {what}")));
    if environment.len() > MOST_VARIABLES {
        let names = environment.len();
        return wrong(format!(
            "has {names} names; at most {MOST_VARIABLES} are taken"
        ));
    }
    for name in environment.keys() {
        let plain = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let digit = name.bytes().next().is_none_or(|byte| byte.is_ascii_digit());
        if !plain || digit || name.len() > LONGEST_VARIABLE {
            return wrong(format!(
                "has the name {name:?}; a name is a letter or an underscore and then letters, digits and underscores, \
                 {LONGEST_VARIABLE} at most"
            ));
        }
    }
    let text = serde_json::to_string(environment).expect("texts are JSON");
    if text.len() > LARGEST_ENVIRONMENT {
        let size = text.len();
        return wrong(format!(
            "has {size} bytes as JSON; at most {LARGEST_ENVIRONMENT} are taken"
        ));
    }
    Ok(text)
}

/// The context with the environment in it, whatever it had there; all else keeps its text and order.
pub fn within<'a>(
    context: &'a RawValue,
    environment: Option<&RawValue>,
) -> Result<Cow<'a, RawValue>, ApiError> {
    let Some(environment) = environment else {
        return Ok(Cow::Borrowed(context));
    };
    let members: Members<'_> = serde_json::from_str(context.get()).map_err(|_| {
        ApiError::invalid("context must be an object, as this function has an environment")
    })?;
    let mut text = String::with_capacity(context.get().len() + environment.get().len() + 20);
    text.push('{');
    for (name, value) in members.0.iter().filter(|(name, _)| name != MEMBER) {
        text += &serde_json::to_string(name).expect("a text is JSON");
        text.push(':');
        text += value.get();
        text.push(',');
    }
    text += &format!("\"{MEMBER}\":{}}}", environment.get());
    let merged = RawValue::from_string(text).expect("members that are JSON make an object");
    Ok(Cow::Owned(merged))
}

/// An object's, in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        json.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_has_names_of_variables_and_a_bound() {
        let read =
            |name: &str, text: &str| checked(&BTreeMap::from([(name.to_owned(), text.to_owned())]));
        assert_eq!(read("_A1", "x\"\u{0}").unwrap(), r#"{"_A1":"x\"\u0000"}"#);
        let long = "N".repeat(129);
        for name in ["", "1A", "A-B", "A B", "\u{c4}", &long] {
            let error = read(name, "x").unwrap_err().message;
            assert!(error.contains("a name is"), "{error}");
        }
        let error = read("A", &"x".repeat(16 << 10)).unwrap_err().message;
        assert!(error.contains("at most 16384"), "{error}");
        let many = (0..101).map(|n| (format!("N{n}"), String::new())).collect();
        assert!(checked(&many).unwrap_err().message.contains("101 names"));
    }

    #[test]
    fn it_comes_into_the_context_and_nothing_else_changes() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let environment = raw(r#"{"A":"1"}"#);
        for (context, expected) in [
            ("{}", r#"{"environment":{"A":"1"}}"#),
            (
                r#"{ "b" : 1.0e2 , "a":"\u00e4" }"#,
                r#"{"b":1.0e2,"a":"\u00e4","environment":{"A":"1"}}"#,
            ),
            (
                r#"{"\u0065nvironment": 1, "x\"": [], "environment": 2}"#,
                r#"{"x\"":[],"environment":{"A":"1"}}"#,
            ),
        ] {
            let context = raw(context);
            let merged = within(&context, Some(&environment)).unwrap();
            assert_eq!(merged.get(), expected);
        }
        for other in ["[]", "1", "null", "\"x\""] {
            let other = raw(other);
            assert!(within(&other, Some(&environment)).is_err());
            assert_eq!(within(&other, None).unwrap().get(), other.get());
        }
    }
}
