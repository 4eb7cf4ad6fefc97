use std::fmt;

use serde::{Deserialize, Serialize};

/// The languages that have a runtime. A session names one, and metrics use it as a label, so the set is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    Nodejs,
    Python,
    Rust,
}

impl Language {
    pub const ALL: [Language; 3] = [Language::Nodejs, Language::Python, Language::Rust];

    pub const fn name(self) -> &'static str {
        match self {
            Language::Nodejs => "nodejs",
            Language::Python => "python",
            Language::Rust => "rust",
        }
    }

    pub fn from_name(name: &str) -> Option<Language> {
        Language::ALL
            .into_iter()
            .find(|language| language.name() == name)
    }
}

impl fmt::Display for Language {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// One value for each language.
#[derive(Clone, Debug)]
pub struct PerLanguage<T> {
    pub nodejs: T,
    pub python: T,
    pub rust: T,
}

impl<T> PerLanguage<T> {
    pub fn get(&self, language: Language) -> &T {
        match language {
            Language::Nodejs => &self.nodejs,
            Language::Python => &self.python,
            Language::Rust => &self.rust,
        }
    }

    pub fn map<U>(self, mut f: impl FnMut(Language, T) -> U) -> PerLanguage<U> {
        PerLanguage {
            nodejs: f(Language::Nodejs, self.nodejs),
            python: f(Language::Python, self.python),
            rust: f(Language::Rust, self.rust),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for language in Language::ALL {
            assert_eq!(Language::from_name(language.name()), Some(language));
        }
        assert_eq!(Language::from_name("NodeJS"), None);
        assert_eq!(Language::from_name(""), None);
    }
}
