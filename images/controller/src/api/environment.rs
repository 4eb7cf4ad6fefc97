//! What a function has for its scripts' context: its environment, names and texts that they see as `context.environment`, and
//! its secrets.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::request::{VARIABLE_NAME, is_variable_name};
use crate::error::ApiError;

const MOST_VARIABLES: usize = 100;
const LARGEST_ENVIRONMENT: usize = 16 << 10;

/// As its JSON text, which is the same for the same names and texts.
pub fn checked(environment: &BTreeMap<String, String>) -> Result<String, ApiError> {
    let wrong = |what: String| Err(ApiError::invalid(format!("environment {what}")));
    if environment.len() > MOST_VARIABLES {
        let names = environment.len();
        return wrong(format!(
            "has {names} names; at most {MOST_VARIABLES} are taken"
        ));
    }
    if let Some(name) = environment.keys().find(|name| !is_variable_name(name)) {
        return wrong(format!("has the name {name:?}; a name is {VARIABLE_NAME}"));
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

/// A context's member that is the platform's, where a function has it, whatever the caller's context has there.
pub type Member<'a> = (&'static str, &'a RawValue);

/// The context with these members in it; all else keeps its text and order.
pub fn within<'a>(
    context: &'a RawValue,
    own: &[Member<'_>],
) -> Result<Cow<'a, RawValue>, ApiError> {
    if own.is_empty() {
        return Ok(Cow::Borrowed(context));
    }
    let named: Vec<_> = own.iter().map(|(name, _)| *name).collect();
    let members: Members<'_> = serde_json::from_str(context.get()).map_err(|_| {
        ApiError::invalid(format!(
            "context must be an object, as this function has: {}",
            named.join(", ")
        ))
    })?;
    let added: usize = own.iter().map(|(_, value)| value.get().len() + 20).sum();
    let mut text = String::with_capacity(context.get().len() + added);
    text.push('{');
    let kept = members.0.iter().map(|(name, value)| (&**name, *value));
    let kept = kept.filter(|(name, _)| !named.contains(name));
    for (number, (name, value)) in kept.chain(own.iter().copied()).enumerate() {
        if number > 0 {
            text.push(',');
        }
        text += &serde_json::to_string(name).expect("a text is JSON");
        text.push(':');
        text += value.get();
    }
    text.push('}');
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
            let merged = within(&context, &[("environment", &environment)]).unwrap();
            assert_eq!(merged.get(), expected);
        }
        let context = raw(r#"{"secrets":0,"a":1,"environment":2}"#);
        let both = [("environment", &*environment), ("secrets", &environment)];
        assert_eq!(
            within(&context, &both).unwrap().get(),
            r#"{"a":1,"environment":{"A":"1"},"secrets":{"A":"1"}}"#
        );
        for other in ["[]", "1", "null", "\"x\""] {
            let other = raw(other);
            assert!(within(&other, &[("environment", &environment)]).is_err());
            assert_eq!(within(&other, &[]).unwrap().get(), other.get());
        }
    }
}
