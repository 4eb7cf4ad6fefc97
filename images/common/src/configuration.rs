//! Environment variables, read once at the start. Every wrong one is told, so that one start shows them all.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// One wrong variable. Whoever reads a secret puts into `found` something else than its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub variable: String,
    pub found: String,
    pub expected: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigError {
            variable,
            found,
            expected,
        } = self;
        write!(formatter, "{variable}: found {found}, expected {expected}")
    }
}

/// The process's own variable.
pub fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Text as it is shown in `found`.
pub fn quoted(text: &str) -> String {
    format!("{text:?}")
}

pub struct Environment<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    errors: Vec<ConfigError>,
}

impl<'a> Environment<'a> {
    /// `lookup` gives a variable's value.
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Environment {
            lookup,
            errors: Vec::new(),
        }
    }

    /// What was read, or all that was wrong. `config` is None only where something was.
    pub fn finish<T>(self, config: Option<T>) -> Result<T, Vec<ConfigError>> {
        match config {
            Some(config) if self.errors.is_empty() => Ok(config),
            _ => Err(self.errors),
        }
    }

    pub fn wrong(&mut self, variable: &str, found: impl Into<String>, expected: &str) {
        self.errors.push(ConfigError {
            variable: variable.to_owned(),
            found: found.into(),
            expected: expected.to_owned(),
        });
    }

    /// Whether anything was wrong so far.
    pub fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Whether that variable was wrong, and so the value that was given for it is its default.
    pub fn is_wrong(&self, variable: &str) -> bool {
        self.errors.iter().any(|error| error.variable == variable)
    }

    /// An empty variable counts as one that is not set: that is what an unset template value turns into.
    pub fn value(&self, variable: &str) -> Option<String> {
        (self.lookup)(variable).filter(|value| !value.is_empty())
    }

    pub fn required(&mut self, variable: &str, expected: &str) -> Option<String> {
        let value = self.value(variable);
        if value.is_none() {
            self.wrong(variable, "nothing", expected);
        }
        value
    }

    pub fn parsed<T: FromStr>(&mut self, variable: &str, default: T, expected: &str) -> T {
        self.read(variable, default, expected, |text| text.parse().ok())
    }

    /// One of `choices`, by its word. None where it is wrong, or missing and there is no default.
    pub fn choice<T: Copy>(
        &mut self,
        variable: &str,
        default: Option<T>,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let expected = match words.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => words.join(""),
        };
        if default.is_none() {
            self.required(variable, &expected)?;
        }
        self.read(variable, default, &expected, |text| {
            let known = choices.iter().find(|(word, _)| *word == text);
            known.map(|(_, choice)| Some(*choice))
        })
    }

    pub fn flag(&mut self, variable: &str, default: bool) -> bool {
        let choices = [("true", true), ("false", false), ("1", true), ("0", false)];
        self.choice(variable, Some(default), &choices)
            .unwrap_or(default)
    }

    /// `default` may be computed, and is brought into the range.
    pub fn number(
        &mut self,
        variable: &str,
        default: u64,
        range: RangeInclusive<u64>,
        what: &str,
    ) -> u64 {
        let expected = format!("{what} from {} to {}", range.start(), range.end());
        let default = default.clamp(*range.start(), *range.end());
        self.read(variable, default, &expected, |text| {
            whole_number(text.trim()).filter(|number| range.contains(number))
        })
    }

    pub fn seconds(
        &mut self,
        variable: &str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Duration {
        let what = "a whole number of seconds";
        Duration::from_secs(self.number(variable, default, range, what))
    }

    /// A number of bytes, plain or with a unit as in Kubernetes' quantities.
    pub fn bytes(&mut self, variable: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let expected = format!(
            "a number of bytes from {} to {}, as in 1048576, 512Ki, 64Mi, 1Gi or 1M",
            with_unit(*range.start()),
            with_unit(*range.end())
        );
        let default = default.clamp(*range.start(), *range.end());
        self.read(variable, default, &expected, |text| {
            size(text.trim()).filter(|bytes| range.contains(bytes))
        })
    }

    fn read<T>(
        &mut self,
        variable: &str,
        default: T,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        let Some(text) = self.value(variable) else {
            return default;
        };
        parse(&text).unwrap_or_else(|| {
            self.wrong(variable, quoted(&text), expected);
            default
        })
    }
}

/// Digits alone: `parse` would take a sign, too.
fn whole_number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// The larger ones first, and the binary ones before those whose letter they begin with.
const UNITS: [(&str, u64); 8] = [
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

fn size(text: &str) -> Option<u64> {
    let with_unit = UNITS
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)));
    let (digits, unit) = with_unit.unwrap_or((text, 1));
    whole_number(digits)?.checked_mul(unit)
}

/// With the largest binary unit that leaves a whole number.
fn with_unit(bytes: u64) -> String {
    let fitting = UNITS[..4]
        .iter()
        .find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    match fitting {
        Some((suffix, unit)) => format!("{}{suffix}", bytes / unit),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `read` makes of one variable named NAME.
    fn with<T>(
        value: Option<&str>,
        read: impl FnOnce(&mut Environment) -> T,
    ) -> Result<T, Vec<ConfigError>> {
        let lookup =
            |name: &str| value.and_then(|value| (name == "NAME").then(|| value.to_owned()));
        let mut environment = Environment::new(&lookup);
        let read = read(&mut environment);
        environment.finish(Some(read))
    }

    fn error<T: fmt::Debug>(value: &str, read: impl FnOnce(&mut Environment) -> T) -> String {
        let errors = with(Some(value), read).expect_err("this value is wrong");
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors[0].to_string()
    }

    #[test]
    fn sizes_have_units() {
        let bytes = |value| {
            with(value, |environment| {
                environment.bytes("NAME", 7, 0..=1 << 50)
            })
        };
        for (text, expected) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("512Ki", 512 << 10),
            ("64Mi", 64 << 20),
            ("1Gi", 1 << 30),
            ("2Ti", 2 << 40),
            ("3k", 3000),
            ("1M", 1_000_000),
            ("5G", 5_000_000_000),
            (" 64Mi\n", 64 << 20),
        ] {
            assert_eq!(bytes(Some(text)), Ok(expected), "{text}");
        }
        assert_eq!(bytes(None), Ok(7));
        assert_eq!(bytes(Some("")), Ok(7));
        for wrong in [
            "Mi",
            "64mi",
            "64MB",
            "64K",
            "1.5Gi",
            "-1",
            "+1",
            "1e3",
            "0x10",
            "64 Mi",
            "100m",
            "18446744073709551615Gi",
            "18446744073709551616",
            "\u{661}",
        ] {
            assert!(bytes(Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_wrong_size_is_told_with_its_bounds() {
        let read = |environment: &mut Environment| environment.bytes("NAME", 0, 1024..=1 << 30);
        for wrong in ["5MB", "1023", "1025Mi"] {
            assert_eq!(
                error(wrong, read),
                format!(
                    "NAME: found {wrong:?}, expected a number of bytes from 1Ki to 1Gi, as in 1048576, 512Ki, 64Mi, 1Gi or 1M"
                )
            );
        }
    }

    #[test]
    fn numbers_have_bounds_and_no_units() {
        let read = |environment: &mut Environment| environment.number("NAME", 99, 1..=9, "a digit");
        assert_eq!(with(Some("5"), read), Ok(5));
        assert_eq!(with(None, read), Ok(9), "a computed default");
        for wrong in ["0", "10", "5Ki", "+5", "five"] {
            assert_eq!(
                error(wrong, read),
                format!("NAME: found {wrong:?}, expected a digit from 1 to 9")
            );
        }
    }

    #[test]
    fn a_choice_is_one_of_its_words() {
        let choices = [("a", 1), ("b", 2), ("c", 3)];
        let read = |environment: &mut Environment| environment.choice("NAME", None, &choices);
        assert_eq!(with(Some("b"), read), Ok(Some(2)));
        assert_eq!(error("", read), "NAME: found nothing, expected a, b or c");
        assert_eq!(error("d", read), "NAME: found \"d\", expected a, b or c");
        let flag = |environment: &mut Environment| environment.flag("NAME", true);
        assert_eq!(with(None, flag), Ok(true));
        assert_eq!(with(Some("0"), flag), Ok(false));
        assert_eq!(
            error("yes", flag),
            "NAME: found \"yes\", expected true, false, 1 or 0"
        );
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let lookup = |name: &str| (name != "C").then(|| "x".to_owned());
        let mut environment = Environment::new(&lookup);
        environment.number("A", 1, 0..=1, "a bit");
        environment.bytes("B", 1, 0..=1);
        environment.required("C", "something");
        assert!(environment.is_wrong("A") && !environment.is_wrong("D"));
        let errors = environment.finish(Some(())).unwrap_err();
        let names: Vec<_> = errors.iter().map(|error| error.variable.as_str()).collect();
        assert_eq!(names, ["A", "B", "C"]);
    }

    proptest! {
        #[test]
        fn a_size_is_its_number_times_its_unit(number: u64, unit in 0..=UNITS.len()) {
            let (suffix, unit) = UNITS.get(unit).copied().unwrap_or(("", 1));
            let exact = u128::from(number) * u128::from(unit);
            prop_assert_eq!(size(&format!("{number}{suffix}")).map(u128::from), u64::try_from(exact).ok().map(u128::from));
        }

        #[test]
        fn a_bound_is_shown_as_what_it_is(bytes: u64, shift in 0u32..50) {
            let bytes = bytes >> 14 >> shift << shift;
            prop_assert_eq!(size(&with_unit(bytes)), Some(bytes));
        }

        /// Whatever is set: a value within the range, or an error that names the variable and shows what was found.
        #[test]
        fn any_text_is_a_value_or_an_error(text in "[0-9]{0,12}[KMGTik]{0,2}|\\PC{0,20}", least in 0u64..1000, more in 0u64..1 << 40) {
            let range = least..=least + more;
            match with(Some(&text), |environment| environment.bytes("NAME", least, range.clone())) {
                Ok(bytes) => prop_assert!(range.contains(&bytes)),
                Err(errors) => {
                    prop_assert_eq!(errors.len(), 1);
                    let told = format!("NAME: found {text:?}, expected ");
                    prop_assert!(errors[0].to_string().starts_with(&told));
                }
            }
        }
    }
}
