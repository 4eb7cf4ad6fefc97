//! Code that attacks. Each ends in a clear error for its own caller, while executions of others succeed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::{NODEJS, PYTHON, RUST, Supervisor, eventually};

/// Runs `attacks` while others' scripts run beside them, all of which must succeed; then, nothing is left of any.
fn beside_others(supervisor: &Supervisor, other: &str, attacks: impl FnOnce()) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let others = [(); 2].map(|()| {
            scope.spawn(|| {
                let mut count = 0;
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(supervisor.result(other, json!({"a": count})), count);
                    count += 1;
                }
                count
            })
        });
        // Also where an attack's own assertion fails; else the others would run for ever.
        let finished = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attacks));
        done.store(true, Ordering::Relaxed);
        let others = others.map(|other| other.join().expect("another caller's execution failed"));
        if let Err(failure) = finished {
            std::panic::resume_unwind(failure);
        }
        assert!(
            others.iter().all(|count| *count > 0),
            "others ran meanwhile: {others:?}"
        );
    });
    let executions = supervisor.scratch.join("executions");
    let warm = || supervisor.metric("lambda_runtime_warm_processes") as usize;
    eventually(
        "nothing is left but the processes that wait",
        Duration::from_secs(5),
        || {
            supervisor.children().len() == warm()
                && std::fs::read_dir(&executions).unwrap().count() == warm()
        },
    );
}

/// `(script, what its error says)`, each with a short time limit.
fn all_fail(supervisor: &Supervisor, attacks: &[(&str, &str)]) {
    for (script, expected) in attacks {
        let answer = supervisor.execute_with(script, json!({}), &[("X-Timeout-Seconds", "5")]);
        let (status, code, message) = answer.error();
        assert_eq!(
            (status, code.as_str()),
            (422, "RUNTIME_ERROR"),
            "{script}\n{}",
            answer.body
        );
        assert!(
            message.contains(expected),
            "{script}\nsays: {message}\nexpected: {expected}"
        );
    }
}

#[test]
fn python_code_that_takes_what_is_everybodys() {
    let python = Supervisor::start(PYTHON, &[]);
    beside_others(&python, "result = params['a']", || {
        all_fail(
            &python,
            &[
                (
                    "import os\nwhile True: os.fork()",
                    "Operation not permitted",
                ),
                (
                    "import subprocess\nsubprocess.run(['/bin/ls'])",
                    "Operation not permitted",
                ),
                (
                    "import threading, time\nthreading.stack_size(65536)\nwhile True: threading.Thread(target=time.sleep, args=(9,)).start()",
                    "more threads than its limit of 64",
                ),
                (
                    "a = []\nwhile True: a.append(bytearray(10_000_000))",
                    "memory limit",
                ),
                // Memory that a mapping shares does not count as the process's data; so there is none.
                (
                    "import mmap\nm = mmap.mmap(-1, 1 << 30)",
                    "Operation not permitted",
                ),
                (
                    "while True: print('x' * 100000)",
                    "output is larger than its limit",
                ),
                (
                    "result = 'x' * 10_000_000",
                    "output is larger than its limit",
                ),
                (
                    "import os\nos.write(4, b'R' + bytes(8) + b'\\xff\\xff\\xff\\xff')",
                    "output is larger than its limit",
                ),
                (
                    "i = 0\nwhile True:\n  i += 1\n  with open(str(i), 'wb') as f: f.write(bytes(1_000_000))",
                    "files take more than the limit",
                ),
                (
                    "import os, time\nfs = []\nfor _ in range(12):\n  fs.append(open('f', 'wb', 0)); os.unlink('f'); fs[-1].write(bytes(10_000_000))\ntime.sleep(60)",
                    "files take more than the limit",
                ),
                (
                    "i = 0\nwhile True:\n  i += 1\n  open(str(i), 'w').close()",
                    "files take more than the limit",
                ),
                (
                    "import os\nwhile True:\n  os.mkdir('d'); os.chdir('d')",
                    "files take more than the limit",
                ),
                ("open('f', 'wb').write(bytes(65 << 20))", "File too large"),
                (
                    "fs = []\nwhile True: fs.append(open('/dev/null'))",
                    "Too many open files",
                ),
                ("def f(): return f()\nf()", "RecursionError"),
            ],
        );
    });
}

#[test]
fn python_code_that_reaches_for_others() {
    let python = Supervisor::start(PYTHON, &[]);
    let supervisor = python.pid();
    // Another caller's script, which runs through all of this and tells its process id by the name of a file.
    let bystander = "import os, time
open(f'pid-{os.getpid()}', 'w').close()
while not os.path.exists('stop'): time.sleep(0.01)
result = 'untouched'";
    let executions = python.scratch.join("executions");
    let folder_and_pid = || {
        std::fs::read_dir(&executions)
            .unwrap()
            .flatten()
            .find_map(|folder| {
                std::fs::read_dir(folder.path())
                    .ok()?
                    .flatten()
                    .find_map(|file| {
                        let pid = file
                            .file_name()
                            .to_str()?
                            .strip_prefix("pid-")?
                            .parse::<i32>()
                            .ok()?;
                        Some((folder.path(), pid))
                    })
            })
    };
    beside_others(&python, "result = params['a']", || {
        std::thread::scope(|scope| {
            let bystander = scope.spawn(|| python.result(bystander, json!({})));
            eventually("the bystander runs", Duration::from_secs(5), || {
                folder_and_pid().is_some()
            });
            let (folder, sibling) = folder_and_pid().unwrap();
            reach_for_others(&python, supervisor, sibling, folder.to_str().unwrap());
            std::fs::write(folder.join("stop"), "").unwrap();
            assert_eq!(bystander.join().unwrap(), "untouched");
        });
    });
    assert!(!std::path::Path::new("/tmp/planted").exists());
}

fn reach_for_others(python: &Supervisor, supervisor: i32, sibling: i32, folder: &str) {
    let call = |number: libc::c_long, arguments: &str| {
        format!(
            "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nlibc.syscall.restype = ctypes.c_long\nif libc.syscall({number}, {arguments}) == -1: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\nresult = 'done'"
        )
    };
    let refused = "Operation not permitted";
    let mut attacks = vec![
        (format!("import os\nos.kill({supervisor}, 9)"), refused),
        (format!("import os\nos.kill({sibling}, 9)"), refused),
        ("import os\nos.kill(0, 9)".into(), refused),
        ("import os\nos.kill(-1, 9)".into(), refused),
        ("import os\nos.kill(os.getppid(), 9)".into(), refused),
        (
            format!(
                "import resource\nresource.prlimit({supervisor}, resource.RLIMIT_NOFILE, (3, 3))"
            ),
            refused,
        ),
        (
            format!("import os\nos.setpriority(os.PRIO_PROCESS, {supervisor}, 19)"),
            refused,
        ),
        // A signal by way of a pipe's owner.
        (
            format!(
                "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, {supervisor})"
            ),
            refused,
        ),
        (
            format!("open('/proc/{supervisor}/environ').read()"),
            "Permission denied",
        ),
        (
            format!("open('/proc/{sibling}/mem', 'rb').read(1)"),
            "Permission denied",
        ),
        (
            format!("import os\nos.listdir('/proc/{sibling}/fd')"),
            "Permission denied",
        ),
        ("import os\nos.listdir('/proc')".into(), "Permission denied"),
        ("open('/etc/passwd').read()".into(), "Permission denied"),
        (
            format!("import os\nos.listdir('{folder}')"),
            "Permission denied",
        ),
        (format!("open('{folder}/stop', 'w')"), "Permission denied"),
        ("import os\nos.listdir('..')".into(), "Permission denied"),
        (
            "import os\nos.symlink('/etc', 'l')\nopen('l/passwd')".into(),
            "Permission denied",
        ),
        (
            "import os\nos.symlink('../..', 'l')\nos.listdir('l')".into(),
            "Permission denied",
        ),
        ("open('/tmp/planted', 'w')".into(), "Permission denied"),
        ("import os\nos.rename('.', '../taken')".into(), ""),
        ("import os\nos.chmod('..', 0)".into(), refused),
        (
            "import os\nos.execv('/bin/ls', ['ls', '/'])".into(),
            "Permission denied",
        ),
    ];
    for (number, arguments) in [
        (libc::SYS_ptrace, format!("16, {sibling}, 0, 0")),
        (
            libc::SYS_process_vm_readv,
            format!("{sibling}, 0, 0, 0, 0, 0"),
        ),
        (libc::SYS_pidfd_open, format!("{supervisor}, 0")),
        (libc::SYS_unshare, format!("{}", libc::CLONE_NEWUSER)),
        (libc::SYS_setsid, "0".into()),
        (libc::SYS_memfd_create, "b'x', 0".into()),
        (libc::SYS_shmget, "0, 4096, 0o1600".into()),
        (libc::SYS_io_uring_setup, "8, 0".into()),
        (libc::SYS_bpf, "0, 0, 0".into()),
        (libc::SYS_mount, "0, 0, 0, 0, 0".into()),
    ] {
        attacks.push((call(number, &arguments), refused));
    }
    let attacks: Vec<_> = attacks
        .iter()
        .map(|(script, expected)| (script.as_str(), *expected))
        .collect();
    all_fail(python, &attacks);
    assert_eq!(
        python.result("import os\nresult = sorted(os.environ)", json!({})),
        json!(["HOME", "LANG", "TMPDIR", "TZ"])
    );
    assert_eq!(
        python.result("import os\nresult = os.listdir('.')", json!({})),
        json!([]),
        "an empty folder each time"
    );
    assert_eq!(
        python.result(
            "import os\nresult = sorted(map(int, os.listdir('/proc/self/fd')))[:5]",
            json!({})
        ),
        json!([0, 1, 2, 3, 4]),
        "no descriptor of the supervisor"
    );
}

/// No socket of any family can be made, so no packet leaves, whatever its address.
#[test]
fn python_code_has_no_network() {
    let python = Supervisor::start(PYTHON, &[]);
    let script = "import socket
made = []
for family in range(0, 48):
    for kind in (1, 2, 3, 5):
        try: socket.socket(family, kind); made.append([family, kind])
        except PermissionError: pass
try: socket.socketpair(); made.append('pair')
except PermissionError: pass
result = made";
    assert_eq!(python.result(script, json!({})), json!([]));
}

#[test]
fn python_code_that_ends_or_breaks_its_own_process() {
    let python = Supervisor::start(PYTHON, &[]);
    beside_others(&python, "result = params['a']", || {
        all_fail(
            &python,
            &[
                ("import os\nos._exit(4)", "exit status 4"),
                ("import os\nos.kill(os.getpid(), 11)", "SIGSEGV"),
                ("import ctypes\nctypes.string_at(0)", "SIGSEGV"),
                ("import os\nos.abort()", "SIGABRT"),
                ("import os\nos.closerange(0, 100)", ""),
                (
                    "import os, time\nos.close(4)\ntime.sleep(60)",
                    "closed the channel",
                ),
                (
                    "import os, time\nos.write(4, b'not a frame at all')\ntime.sleep(60)",
                    "wrote to the channel",
                ),
                (
                    "import os\nos.write(4, b'R' + bytes(8) + (3).to_bytes(4, 'little') + b'{,}')",
                    "not JSON",
                ),
                (
                    "import os\nos.write(4, b'R' + bytes(8) + (3).to_bytes(4, 'little') + b'\"\\xff\"')",
                    "not JSON",
                ),
                (
                    "import os\nos.write(4, b'E' + bytes(8) + (2).to_bytes(4, 'little') + b'\\xff\\xfe')",
                    "",
                ),
                ("result = float('nan')", "not JSON"),
                ("result = [float('inf')]", "not JSON"),
                ("result = lambda: 1", "not JSON"),
                ("result = []\nresult.append(result)", "not JSON"),
                ("result = '\\ud800'", "not JSON"),
                ("result = {1, 2}", "not JSON"),
                (
                    "result = []\nfor _ in range(500): result = [result]",
                    "not JSON",
                ),
                ("raise BaseException('\\udcff')", "BaseException"),
                (
                    "import json\njson.dumps = None\nraise SystemExit",
                    "sys.exit",
                ),
            ],
        );
    });
}

#[test]
fn nodejs_code_that_attacks() {
    let node = Supervisor::start(NODEJS, &[]);
    let supervisor = node.pid();
    let kill = format!("process.kill({supervisor}, 'SIGKILL')");
    let environ =
        format!("return require('fs').readFileSync('/proc/{supervisor}/environ', 'utf8')");
    let connect = "await new Promise((done, fail) => require('net').connect(9, '127.0.0.1').on('connect', done).on('error', fail))";
    beside_others(&node, "return params.a", || {
        all_fail(
            &node,
            &[
                (
                    "const a = []; for (;;) a.push(new Array(100000).fill(1.5))",
                    "memory limit",
                ),
                (
                    "const a = []; for (;;) a.push(Buffer.alloc(10000000, 1))",
                    "memory limit",
                ),
                (
                    "for (;;) require('fs').writeSync(1, 'x'.repeat(100000))",
                    "output is larger than its limit",
                ),
                (
                    "return 'x'.repeat(10000000)",
                    "output is larger than its limit",
                ),
                (
                    "for (let i = 0; ; i++) require('fs').writeFileSync(String(i), Buffer.alloc(1000000))",
                    "files take more",
                ),
                (
                    "const f = () => f(); f()",
                    "Maximum call stack size exceeded",
                ),
                ("require('child_process').execFileSync('/bin/ls')", "EPERM"),
                (connect, "EPERM"),
                (&kill, "EPERM"),
                (&environ, "EACCES"),
                ("return require('fs').readdirSync('/')", "EACCES"),
                ("process.abort()", "SIGABRT"),
                ("process.reallyExit(5)", "exit status 5"),
                (
                    "require('fs').closeSync(4); await new Promise(done => setTimeout(done, 9000))",
                    "closed the channel",
                ),
                ("return NaN", "not JSON"),
                ("return { f() {} }", "not JSON"),
                ("const o = {}; o.o = o; return o", "not JSON"),
                ("return 1n", "not JSON"),
                ("return '\\ud800'", "not JSON"),
                ("return { toJSON() { throw new Error('mine') } }", "mine"),
                (
                    "Promise.reject(new Error('nobody waits')); await new Promise(done => setTimeout(done, 9000))",
                    "nobody waits",
                ),
            ],
        );
    });
}

#[test]
fn rust_code_that_attacks() {
    let rust = Supervisor::start(RUST, &[("COMPILE_TIMEOUT_SECONDS", "8")]);
    let handle = |body: &str| {
        format!("fn handle(p: Value, _c: Value) -> Result<Value, String> {{ {body} }}")
    };
    let echo = handle("Ok(p[\"a\"].clone())");
    // Compiled before, so that it does not wait behind the attacks for the compiler.
    assert_eq!(rust.result(&echo, json!({"a": 1})), 1);
    beside_others(&rust, &echo, || {
        let attack = |script: &str, expected: &str| {
            let message = rust.failure(script);
            assert!(
                message.contains(expected),
                "{script}\nsays: {message}\nexpected: {expected}"
            );
        };
        attack(
            &handle("Ok(json!(include_str!(\"/etc/passwd\")))"),
            "Permission denied",
        );
        attack(
            &handle("Ok(json!(include_str!(\"/proc/self/environ\")))"),
            "Permission denied",
        );
        attack(
            &handle("Ok(json!(env!(\"SECRET_OF_THE_SUPERVISOR\")))"),
            "not defined",
        );
        attack(
            &format!(
                "#![allow(long_running_const_eval)]\nconst X: u64 = {{ let mut i = 0; while i < u64::MAX {{ i += 1 }} i }};\n{}",
                handle("Ok(json!(X))")
            ),
            "longer to compile than 8 s",
        );
        attack(
            &format!(
                "static B: [u8; 50_000_000] = [1; 50_000_000];\n{}",
                handle("Ok(json!(B[p[\"a\"].as_u64().unwrap() as usize]))")
            ),
            "compile",
        );
        attack(
            &format!(
                "#[proc_macro] pub fn m(t: u8) -> u8 {{ t }}\n{}",
                handle("Ok(p)")
            ),
            "proc_macro",
        );
        // Everything that a process does is held as for the other languages; here with one program for all.
        let script = handle(
            "match p[\"do\"].as_str().unwrap() {
                \"socket\" => std::net::TcpListener::bind(\"127.0.0.1:0\").map(|_| ()).map_err(|e| e.to_string())?,
                \"unix\" => std::os::unix::net::UnixStream::pair().map(|_| ()).map_err(|e| e.to_string())?,
                \"fork\" => std::process::Command::new(\"/bin/ls\").status().map(|_| ()).map_err(|e| e.to_string())?,
                \"read\" => std::fs::read(\"/etc/passwd\").map(|_| ()).map_err(|e| e.to_string())?,
                \"write\" => std::fs::write(std::env::current_exe().unwrap(), \"x\").map_err(|e| e.to_string())?,
                \"memory\" => { let mut v: Vec<Vec<u8>> = vec![]; loop { v.push(vec![1; 10_000_000]) } }
                \"recursion\" => { fn f(n: u64) -> u64 { if n == 0 { 0 } else { f(n + 1) + std::hint::black_box(n) } } f(1); }
                \"threads\" => loop { if let Ok(t) = std::thread::Builder::new().stack_size(16384).spawn(|| std::thread::sleep(std::time::Duration::from_secs(9))) { std::mem::forget(t) } },
                \"exit\" => std::process::exit(3),
                \"print\" => loop { println!(\"{}\", \"x\".repeat(100000)) },
                other => return Ok(json!(other)),
            } Ok(json!(1))",
        );
        for (what, expected) in [
            ("socket", "not permitted"),
            ("unix", "not permitted"),
            ("fork", "not permitted"),
            ("read", "Permission denied"),
            ("write", ""),
            ("memory", "memory limit"),
            ("recursion", "overflows the stack"),
            ("threads", "more threads than its limit"),
            ("exit", "exit status 3"),
            ("print", "output is larger than its limit"),
        ] {
            let (status, _, message) = rust.execute_with(&script, json!({"do": what}), &[]).error();
            assert_eq!(status, 422, "{what}: {message}");
            assert!(
                message.contains(expected),
                "{what} says: {message}\nexpected: {expected}"
            );
        }
    });
}
