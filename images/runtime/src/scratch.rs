//! The private folder of a process: created empty, measured while the process runs, wiped after it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::random;

pub struct Scratch {
    path: PathBuf,
}

/// What a folder holds. Bytes are blocks taken, as du(1) counts: holes in sparse files cost nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub bytes: u64,
    pub entries: u64,
}

impl Scratch {
    /// A new folder under `root`, of a name that cannot be guessed: Landlock does not hide that a path exists.
    pub fn create(root: &Path) -> io::Result<Self> {
        let path = root.join(random::name());
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Scratch {
    /// Removes all that is in the folder, while its process stands still.
    pub fn empty(&self) -> io::Result<()> {
        empty(&self.path)
    }
}

/// Removes the folder. Only after its process is gone.
impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = wipe(&self.path) {
            tracing::error!(%error, "a private folder could not be wiped");
        }
    }
}

/// Empties `root` of what an earlier run left, and makes it if it is missing.
pub fn prepare(root: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(root)?;
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            wipe(&entry.path())?
        } else {
            fs::remove_file(entry.path())?
        }
    }
    Ok(())
}

/// Measures what is beneath `folder`, and stops early when it is more than `most`. A folder that cannot be read or searched, or
/// whose path has become too long to name, counts as too much: nothing that a script needs looks like this.
pub fn usage(folder: &Path, most: Usage) -> Usage {
    let mut usage = Usage::default();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) => {
                return Usage {
                    entries: u64::MAX,
                    ..usage
                };
            }
        };
        for entry in entries.flatten() {
            usage.entries += 1;
            match entry.metadata() {
                Ok(metadata) => {
                    usage.bytes += metadata.blocks() * 512;
                    if metadata.is_dir() {
                        folders.push(entry.path());
                    }
                }
                // Removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => usage.entries = u64::MAX,
            }
            if usage.bytes > most.bytes || usage.entries > most.entries {
                return usage;
            }
        }
    }
    usage
}

/// Removes a folder whatever a script has built in it. `fs::remove_dir_all` recurses with a descriptor a level, so a tree of
/// a hundred thousand levels would take the supervisor down. Here folders are moved up to the first level, and removed
/// there: no recursion, no path longer than three names, one rename a folder.
fn wipe(top: &Path) -> io::Result<()> {
    empty(top)?;
    fs::remove_dir(top)
}

fn empty(top: &Path) -> io::Result<()> {
    let moved = random::name();
    let mut count = 0u64;
    // A script owns its folder, and fchmod(2) is allowed.
    fs::set_permissions(top, Permissions::from_mode(0o700))?;
    loop {
        let mut folders = Vec::new();
        for entry in fs::read_dir(top)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path())
            } else {
                fs::remove_file(entry.path())?
            }
        }
        if folders.is_empty() {
            return Ok(());
        }
        for folder in folders {
            fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    // Moving a folder rewrites its "..", which takes the right to write to it (rename(2)).
                    fs::set_permissions(entry.path(), Permissions::from_mode(0o700))?;
                    fs::rename(entry.path(), top.join(format!("{moved}{count}")))?;
                    count += 1;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
            fs::remove_dir(&folder)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const MOST: Usage = Usage {
        bytes: 1 << 20,
        entries: 1000,
    };

    fn scratch() -> (Scratch, tempfile::TempDir) {
        let root = tempfile::tempdir().unwrap();
        (Scratch::create(root.path()).unwrap(), root)
    }

    #[test]
    fn usage_counts_what_takes_space_and_stops_at_the_most() {
        let (scratch, _root) = scratch();
        assert_eq!(usage(scratch.path(), MOST), Usage::default());
        fs::create_dir(scratch.path().join("folder")).unwrap();
        fs::write(scratch.path().join("folder/file"), vec![1; 100_000]).unwrap();
        let used = usage(scratch.path(), MOST);
        assert_eq!(used.entries, 2);
        assert!((100_000..200_000).contains(&used.bytes), "{used:?}");
        fs::File::create(scratch.path().join("sparse"))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        assert!(
            usage(scratch.path(), MOST).bytes < 200_000,
            "holes count nothing"
        );
        for number in 0..2000 {
            fs::write(scratch.path().join(number.to_string()), "").unwrap();
        }
        assert_eq!(usage(scratch.path(), MOST).entries, MOST.entries + 1);
    }

    #[test]
    fn a_hostile_tree_is_wiped_and_nothing_beside_it() {
        let (scratch, root) = scratch();
        let outside = root.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        symlink(&outside, scratch.path().join("link")).unwrap();
        symlink("/", scratch.path().join("root")).unwrap();
        // Longer than PATH_MAX (4096 bytes) allows to name.
        let level = "d".repeat(250);
        let script =
            "i=0; while [ $i -lt 40 ]; do mkdir $0 && cd -P $0 || exit 1; i=$((i+1)); done";
        let mut shell = std::process::Command::new("/bin/sh");
        let made = shell
            .args(["-c", script, &level])
            .current_dir(scratch.path())
            .status();
        assert!(made.unwrap().success());
        assert_eq!(
            usage(
                scratch.path(),
                Usage {
                    bytes: u64::MAX,
                    entries: u64::MAX - 1
                }
            )
            .entries,
            u64::MAX
        );
        let shut = scratch.path().join("shut");
        fs::create_dir_all(shut.join("inner")).unwrap();
        fs::write(shut.join("inner/file"), "x").unwrap();
        fs::set_permissions(shut.join("inner"), Permissions::from_mode(0o0)).unwrap();
        fs::set_permissions(&shut, Permissions::from_mode(0o0)).unwrap();

        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!path.exists());
        assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "kept");
    }

    #[test]
    fn what_an_earlier_run_left_is_removed() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("left/over")).unwrap();
        fs::write(root.path().join("file"), "x").unwrap();
        prepare(root.path()).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
