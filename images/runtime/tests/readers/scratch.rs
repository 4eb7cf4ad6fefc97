//! Trees of any names, links, modes and depths.

use std::ffi::{CString, OsString};
use std::fs::{self, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lambda_runtime::scratch::{Scratch, Usage, prepare, usage};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Uid, mkfifo, setfsuid, symlinkat, write};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Node {
    File(usize),
    Link(Vec<u8>),
    Pipe,
    /// With the mode that it gets once it is built.
    Folder(u32, Vec<(Vec<u8>, Node)>),
    /// Folders in folders, with names of that length.
    Chain(usize, usize),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let short = proptest::collection::vec(any::<u8>(), 1..12);
    let long = any::<u8>().prop_map(|byte| vec![byte; 255]);
    let known = prop::sample::select(vec!["a", "...", "-rf", "*", "\n", " "]);
    prop_oneof![6 => short, 1 => long, 2 => known.prop_map(|name| name.into())].prop_map(
        |mut name| {
            for byte in &mut name {
                if [0, b'/'].contains(byte) {
                    *byte = b'_';
                }
            }
            match name.as_slice() {
                b"." | b".." => b"dots".to_vec(),
                _ => name,
            }
        },
    )
}

fn mode() -> impl Strategy<Value = u32> {
    prop_oneof![6 => Just(0o700u32), 4 => 0u32..0o1000]
}

fn node() -> impl Strategy<Value = Node> {
    let known = ["/", ".", "..", "../outside", "../outside/kept", "/nowhere"];
    let leaf = prop_oneof![
        4 => (0usize..20_000).prop_map(Node::File),
        2 => prop::sample::select(known.to_vec()).prop_map(|target| Node::Link(target.into())),
        1 => name().prop_map(Node::Link),
        1 => Just(Node::Pipe),
        1 => (1usize..60, 1usize..=255).prop_map(|(depth, length)| Node::Chain(depth, length)),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        let entries = proptest::collection::vec((name(), inner), 0..6);
        (mode(), entries).prop_map(|(mode, entries)| Node::Folder(mode, entries))
    })
}

/// What was built.
#[derive(Debug, Default)]
struct Built {
    entries: u64,
    bytes: u64,
    /// A folder that cannot be read or searched, or whose path is longer than 4096 bytes.
    unreadable: bool,
}

const FOLDER: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY);

/// By descriptors: the paths may be too long to name.
fn build(at: &impl AsFd, name: &[u8], node: &Node, built: &mut Built) {
    let name = CString::new(name).unwrap();
    let name = name.as_c_str();
    match node {
        Node::File(size) => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY;
            // A name that is there already stays what it is.
            if let Ok(file) = openat(at, name, flags, Mode::from_bits_truncate(0o600)) {
                write(&file, &vec![1; *size]).unwrap();
                built.bytes += *size as u64;
                built.entries += 1;
            }
        }
        Node::Link(target) => {
            let target = OsString::from_vec(target.clone());
            built.entries += u64::from(symlinkat(target.as_os_str(), at, name).is_ok());
        }
        Node::Pipe => {
            let path = format!(
                "/proc/self/fd/{}/",
                std::os::fd::AsRawFd::as_raw_fd(&at.as_fd())
            );
            let path = [path.as_bytes(), name.to_bytes()].concat();
            let made = mkfifo(path.as_slice(), Mode::S_IRUSR);
            built.entries += u64::from(made.is_ok());
        }
        Node::Folder(mode, entries) => {
            if let Some(inner) = make_folder(at, name, built) {
                for (name, node) in entries {
                    build(&inner, name, node, built);
                }
                fchmod(&inner, Mode::from_bits_truncate(*mode)).unwrap();
                let needed = if entries.is_empty() { 0o400 } else { 0o500 };
                built.unreadable |= mode & needed != needed;
            }
        }
        Node::Chain(depth, length) => {
            let level = CString::new(vec![b'd'; *length]).unwrap();
            let Some(mut inner) = make_folder(at, name, built) else {
                return;
            };
            for _ in 0..*depth {
                inner = make_folder(&inner, &level, built).unwrap();
            }
            // With the folder before, some 100 bytes, and folders around of 255 at most each.
            built.unreadable |= depth * (length + 1) > 4096;
        }
    }
}

fn make_folder(at: &impl AsFd, name: &std::ffi::CStr, built: &mut Built) -> Option<OwnedFd> {
    mkdirat(at, name, Mode::S_IRWXU).ok()?;
    built.entries += 1;
    Some(openat(at, name, FOLDER, Mode::empty()).unwrap())
}

/// As a runtime in a container, without root's right to read everything. Of this thread alone (setfsuid(2)).
fn as_anybody() {
    if Uid::effective().is_root() {
        setfsuid(Uid::from_raw(65534));
    }
}

/// A file and its folder beside the tree, which links lead to.
fn make_outside(root: &Path) {
    let outside = root.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "kept").unwrap();
    fs::set_permissions(outside.join("kept"), Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(&outside, Permissions::from_mode(0o750)).unwrap();
}

fn assert_outside(root: &Path) {
    let outside = root.join("outside");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(fs::read(outside.join("kept")).unwrap(), b"kept");
    assert_eq!(mode(&outside), 0o750);
    assert_eq!(mode(&outside.join("kept")), 0o640);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

const MOST: Usage = Usage {
    bytes: 1 << 30,
    entries: 100_000,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_tree_is_measured_and_wiped_and_nothing_beside_it(
        entries in proptest::collection::vec((name(), node()), 0..6),
        top in mode(),
        how in 0..3,
    ) {
        as_anybody();
        let root = tempfile::tempdir().unwrap();
        make_outside(root.path());
        let scratch = Scratch::create(root.path()).unwrap();
        let folder = nix::fcntl::open(scratch.path(), FOLDER, Mode::empty()).unwrap();
        let mut built = Built::default();
        for (name, node) in &entries {
            build(&folder, name, node, &mut built);
        }
        fchmod(&folder, Mode::from_bits_truncate(top)).unwrap();
        let needed = if entries.is_empty() { 0o400 } else { 0o500 };
        built.unreadable |= top & needed != needed;

        let used = usage(scratch.path(), MOST);
        if built.unreadable {
            prop_assert!(used.entries > MOST.entries, "{used:?} of {built:?}");
        } else if used.entries <= MOST.entries {
            prop_assert_eq!(used.entries, built.entries);
            prop_assert!(used.bytes >= built.bytes && used.bytes <= built.bytes + 16_384 * built.entries, "{used:?} of {built:?}");
            if built.entries > 1 {
                let less = usage(scratch.path(), Usage { entries: built.entries - 1, ..MOST });
                prop_assert_eq!(less.entries, built.entries, "it stops at the first that is too many");
            }
        }

        let path = scratch.path().to_owned();
        match how {
            0 => drop(scratch),
            1 => {
                scratch.empty().unwrap();
                prop_assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
                prop_assert_eq!(usage(&path, MOST), Usage::default());
                fs::write(path.join("next"), "the next execution's").unwrap();
                drop(scratch);
            }
            _ => {
                // As what an earlier run has left.
                std::mem::forget(scratch);
                let inner = root.path().join("executions");
                fs::create_dir(&inner).unwrap();
                fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
                let moved = inner.join("left");
                fs::rename(&path, &moved).unwrap();
                fs::set_permissions(&moved, Permissions::from_mode(top)).unwrap();
                prepare(&inner).unwrap();
                prop_assert_eq!(fs::read_dir(&inner).unwrap().count(), 0);
            }
        }
        prop_assert!(!path.exists());
        assert_outside(root.path());
    }
}
