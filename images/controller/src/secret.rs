use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// A secret by value or by file. A file is read at each use, so a rotated one is taken up without a restart.
#[derive(Clone)]
pub enum Secret {
    Value(String),
    File(PathBuf),
}

impl Secret {
    pub fn read(&self) -> io::Result<String> {
        match self {
            Secret::Value(value) => Ok(value.clone()),
            Secret::File(path) => read_line(path),
        }
    }
}

/// The file without the line end that editors and `echo` leave.
fn read_line(path: &Path) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file is empty",
        ));
    }
    Ok(text.to_owned())
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Value(_) => formatter.write_str("Value(..)"),
            Secret::File(path) => write!(formatter, "File({})", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_at_each_use_without_its_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let secret = Secret::File(path.clone());
        fs::write(&path, "first\n").unwrap();
        assert_eq!(secret.read().unwrap(), "first");
        fs::write(&path, "second \r\n").unwrap();
        assert_eq!(secret.read().unwrap(), "second ");
        fs::write(&path, "\n").unwrap();
        assert!(secret.read().is_err());
    }

    #[test]
    fn debug_does_not_show_the_value() {
        assert!(!format!("{:?}", Secret::Value("hunter2".into())).contains("hunter2"));
    }
}
