//! Code that attacks. Each ends in a clear error for its own caller, while 20 other callers' executions all succeed.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, NODEJS, PYTHON, RUST, Supervisor, eventually};

const OTHERS: usize = 20;
const AT_A_TIME: usize = 4;

/// A place for everybody, so that nobody is refused for want of one: what an attack takes from others shows in failures
/// and time limits only.
const PLACES: [(&str, &str); 2] = [("MAX_CONCURRENCY", "26"), ("QUEUE_SECONDS", "30")];

/// For which a machine may be too busy to start a process, or to tell a script that takes too long to compile from one that
/// does not. Nothing ran then, as 503 says.
const BUSY_FOR: Duration = Duration::from_secs(60);

struct Attack {
    script: String,
    params: Value,
    /// Seconds.
    limit: &'static str,
    status: u16,
    /// What the message says; one of these where the kernel and the language race to notice.
    says: &'static [&'static str],
}

/// Ends in 422 RUNTIME_ERROR.
fn fails(script: impl Into<String>, says: &'static [&'static str]) -> Attack {
    Attack {
        script: script.into(),
        params: json!({}),
        limit: "20",
        status: 422,
        says,
    }
}

/// Ends in 504 TIMEOUT.
fn endless(script: impl Into<String>) -> Attack {
    Attack {
        limit: "0.5",
        status: 504,
        ..fails(script, &["time limit of 0.5 s"])
    }
}

/// Runs the attacks, some at a time, while others' scripts run, which all must succeed; then, nothing is left of any.
fn withstands(supervisor: &Supervisor, other: &str, attacks: &[Attack]) {
    for attacks in attacks.chunks(AT_A_TIME) {
        beside_others(supervisor, other, attacks);
    }
    let executions = supervisor.scratch.join("executions");
    let warm = || supervisor.metric("lambda_runtime_warm_processes") as usize;
    eventually(
        "nothing is left but the processes that wait",
        Duration::from_secs(5),
        || {
            supervisor.executions().len() == warm()
                && std::fs::read_dir(&executions).unwrap().count() == warm()
        },
    );
}

impl Attack {
    fn check(&self, answer: &Answer) {
        let (status, code, message) = answer.error();
        let expected = match self.status {
            504 => "TIMEOUT",
            _ => "RUNTIME_ERROR",
        };
        let Self { script, params, .. } = self;
        assert_eq!(
            (status, code.as_str()),
            (self.status, expected),
            "{script}\n{params}\n{}",
            answer.body
        );
        assert!(
            self.says.iter().any(|says| message.contains(says)),
            "{script}\n{params}\nsays: {message}\nexpected: {:?}",
            self.says
        );
        assert!(!message.trim().is_empty(), "{script}");
    }
}

/// Starts the attacks and a script of each of the others together; they go on for as long as any attack.
fn beside_others(supervisor: &Supervisor, other: &str, attacks: &[Attack]) {
    let together = Barrier::new(OTHERS + attacks.len());
    let under_way = AtomicUsize::new(attacks.len());
    let (together, under_way) = (&together, &under_way);
    std::thread::scope(|scope| {
        let attacking = attacks.iter().map(|attack| {
            scope.spawn(move || {
                together.wait();
                let headers = [("X-Timeout-Seconds", attack.limit)];
                let ask =
                    || supervisor.execute_with(&attack.script, attack.params.clone(), &headers);
                let mut answer = ask();
                let asked = Instant::now();
                while answer.status == 503 && asked.elapsed() < BUSY_FOR {
                    std::thread::sleep(Duration::from_millis(500));
                    answer = ask();
                }
                under_way.fetch_sub(1, Ordering::Relaxed);
                answer
            })
        });
        let attacking: Vec<_> = attacking.collect();
        for number in 0..OTHERS {
            scope.spawn(move || {
                together.wait();
                loop {
                    assert_eq!(supervisor.result(other, json!({"a": number})), number);
                    if under_way.load(Ordering::Relaxed) == 0 {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
        }
        for (attack, attacking) in attacks.iter().zip(attacking) {
            attack.check(&attacking.join().expect("the supervisor answers"));
        }
    });
}

const REFUSED: &[&str] = &["Operation not permitted"];
const DENIED: &[&str] = &["Permission denied"];
const MEMORY: &[&str] = &["memory limit"];
const OUTPUT: &[&str] = &["output is larger than its limit"];
const FILES: &[&str] = &["files take more than the limit"];
const NOT_JSON: &[&str] = &["not JSON"];
/// An error of whatever words.
const ANY: &[&str] = &[""];

const PYTHON_OTHER: &str = "result = params['a']";
const NODEJS_OTHER: &str = "return params.a";

#[test]
fn python_code_that_takes_what_is_everybodys() {
    let python = Supervisor::start(PYTHON, &PLACES);
    withstands(
        &python,
        PYTHON_OTHER,
        &[
            endless("while True: pass"),
            endless("import re\nre.match('(a+)+$', 'a' * 64 + 'b')"),
            endless(
                "import time\nwhile True:\n  try: time.sleep(60)\n  except BaseException: pass",
            ),
            endless("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.pause()"),
            // The fork bomb, by each way to make a process.
            fails("import os\nwhile True: os.fork()", REFUSED),
            fails("import os\nos.posix_spawn('/bin/ls', ['ls'], {})", REFUSED),
            fails(
                "import subprocess\nwhile True: subprocess.Popen(['/bin/ls'])",
                REFUSED,
            ),
            fails(
                "import multiprocessing\nmultiprocessing.Process(target=print).start()",
                REFUSED,
            ),
            fails(
                "import threading, time\nthreading.stack_size(65536)\nwhile True: threading.Thread(target=time.sleep, args=(9,)).start()",
                &["more threads than its limit of 64"],
            ),
            fails(
                "a = []\nwhile True: a.append(bytearray(10_000_000))",
                MEMORY,
            ),
            fails("a = 'x'\nwhile True: a += a", MEMORY),
            // Memory that a mapping shares does not count as the process's data; so there is none.
            fails("import mmap\nm = mmap.mmap(-1, 1 << 30)", REFUSED),
            // Nor does a mapping that grows downwards, like a stack.
            call(libc::SYS_mmap, "0, 1 << 30, 3, 0x122, -1, 0"),
            // 2 GB and more, printed, as a result, and by the channel itself.
            fails("for _ in range(20000): print('x' * 100000)", OUTPUT),
            fails(
                "import os\nfor _ in range(20000): os.write(2, b'x' * 100000)",
                OUTPUT,
            ),
            fails("result = 'x' * 10_000_000", OUTPUT),
            fails("result = ['x' * 1_000_000] * 2000", MEMORY),
            fails(
                "import os\nos.write(4, b'R' + bytes(8) + (2 << 30).to_bytes(4, 'little'))\nwhile True: os.write(4, bytes(65536))",
                OUTPUT,
            ),
            fails(
                "i = 0\nwhile True:\n  i += 1\n  with open(str(i), 'wb') as f: f.write(bytes(1_000_000))",
                FILES,
            ),
            fails(
                "import os, time\nfs = []\nfor _ in range(12):\n  fs.append(open('f', 'wb', 0)); os.unlink('f'); fs[-1].write(bytes(10_000_000))\ntime.sleep(60)",
                FILES,
            ),
            fails(
                "i = 0\nwhile True:\n  i += 1\n  open(str(i), 'w').close()",
                FILES,
            ),
            // Faster than anybody can look.
            fails(
                "import os\nfor i in range(40): os.posix_fallocate(os.open(str(i), os.O_RDWR | os.O_CREAT), 0, 60_000_000)",
                REFUSED,
            ),
            fails(
                "import os\nwhile True:\n  os.mkdir('d'); os.chdir('d')",
                FILES,
            ),
            fails(
                "open('f', 'wb').write(bytes(65 << 20))",
                &["File too large"],
            ),
            fails(
                "fs = []\nwhile True: fs.append(open('/dev/null'))",
                &["Too many open files"],
            ),
            fails("def f(): return f()\nf()", &["RecursionError"]),
            fails(
                "import sys\nsys.setrecursionlimit(1 << 30)\nclass A:\n  def __getattr__(self, name): return getattr(self, name)\nA().a",
                &["SIGSEGV", "RecursionError", "memory limit"],
            ),
        ],
    );
}

#[test]
fn python_code_that_reaches_for_others() {
    let python = Supervisor::start(
        PYTHON,
        &[
            PLACES[0],
            PLACES[1],
            ("MAX_TIMEOUT_SECONDS", "120"),
            ("TIMEOUT_SECONDS", "120"),
        ],
    );
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
    std::thread::scope(|scope| {
        let bystander = scope.spawn(|| python.result(bystander, json!({})));
        eventually("the bystander runs", Duration::from_secs(5), || {
            folder_and_pid().is_some()
        });
        let (folder, sibling) = folder_and_pid().unwrap();
        let attacks = reaching_for_others(&python, sibling, folder.to_str().unwrap());
        let attacked = std::panic::catch_unwind(|| {
            for attacks in attacks.chunks(AT_A_TIME) {
                beside_others(&python, PYTHON_OTHER, attacks);
            }
        });
        std::fs::write(folder.join("stop"), "").unwrap();
        assert_eq!(bystander.join().unwrap(), "untouched");
        if let Err(failure) = attacked {
            std::panic::resume_unwind(failure);
        }
    });
    withstands(&python, PYTHON_OTHER, &[]);
    assert!(!std::path::Path::new("/tmp/planted").exists());
    assert_eq!(
        python.result("import os\nresult = sorted(os.environ)", json!({})),
        json!(["HOME", "LANG", "TMPDIR", "TZ"])
    );
    // What the process was started with, whatever it has made of it since.
    let environment = python.result(
        "import ctypes
stack = next(line for line in open('/proc/self/maps') if '[stack]' in line)
memory = ctypes.string_at(*(lambda a, b: (a, b - a))(*(int(x, 16) for x in stack.split()[0].split('-'))))
result = [b'hunter2' in memory, b'LANG=C.UTF-8\\0TZ=UTC' in memory]",
        json!({}),
    );
    assert_eq!(environment, json!([false, true]));
    assert_eq!(
        python.result(
            "import os\nresult = os.getpriority(os.PRIO_PROCESS, 0)",
            json!({})
        ),
        10,
        "below the supervisor"
    );
    assert_eq!(
        python.result("import os\nresult = os.listdir('.')", json!({})),
        json!([]),
        "an empty folder each time"
    );
    assert_eq!(
        python.result(
            "import os
def is_open(descriptor):
    try: return bool(os.fstat(descriptor))
    except OSError: return False
result = [descriptor for descriptor in range(128) if is_open(descriptor)]",
            json!({})
        ),
        json!([0, 1, 2, 3, 4]),
        "no descriptor of the supervisor"
    );
}

fn reaching_for_others(python: &Supervisor, sibling: i32, folder: &str) -> Vec<Attack> {
    let supervisor = python.pid();
    let fork_server = python.fork_server();
    let mut attacks = vec![
        // A signal by way of a pipe's owner.
        fails(
            format!(
                "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, {supervisor})"
            ),
            REFUSED,
        ),
        fails("import os\nos.kill(0, 9)", REFUSED),
        fails("import os\nos.kill(-1, 9)", REFUSED),
        fails("import os\nos.kill(os.getppid(), 9)", REFUSED),
        fails(format!("import os\nos.listdir('{folder}')"), DENIED),
        fails(format!("open('{folder}/stop', 'w')"), DENIED),
        fails(format!("import os\nos.rename('{folder}', 'mine')"), ANY),
    ];
    for other in [supervisor, fork_server, sibling] {
        attacks.extend([
            fails(format!("import os\nos.kill({other}, 9)"), REFUSED),
            fails(
                format!(
                    "import resource\nresource.prlimit({other}, resource.RLIMIT_NOFILE, (3, 3))"
                ),
                REFUSED,
            ),
            fails(
                format!("import os\nos.setpriority(os.PRIO_PROCESS, {other}, 19)"),
                REFUSED,
            ),
            fails(format!("open('/proc/{other}/environ').read()"), DENIED),
            fails(format!("open('/proc/{other}/cmdline').read()"), DENIED),
            fails(format!("open('/proc/{other}/mem', 'r+b').read(1)"), DENIED),
            fails(format!("import os\nos.listdir('/proc/{other}/fd')"), DENIED),
            fails(
                format!("import os\nos.listdir('/proc/{other}/cwd')"),
                DENIED,
            ),
            call(libc::SYS_ptrace, &format!("16, {other}, 0, 0")),
            call(
                libc::SYS_process_vm_readv,
                &format!("{other}, 0, 0, 0, 0, 0"),
            ),
            call(libc::SYS_pidfd_open, &format!("{other}, 0")),
        ]);
    }
    for path in [
        "net/tcp",
        "net/route",
        "mountinfo",
        "cgroup",
        "environ",
        "cmdline",
    ] {
        attacks.push(fails(format!("open('/proc/self/{path}').read()"), DENIED));
    }
    for path in [
        "/etc/passwd",
        "../../../../../../../../etc/passwd",
        "/proc/self/root/etc/passwd",
        "/proc/self/cwd/../../../../../../etc/passwd",
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
    ] {
        let says: &[&str] = &["Permission denied", "No such file"];
        attacks.push(fails(format!("open('{path}').read()"), says));
    }
    attacks.extend([
        fails("import os\nos.listdir('/proc')", DENIED),
        fails("import os\nos.listdir('/')", DENIED),
        fails("import os\nos.listdir('..')", DENIED),
        fails(
            "import os\nos.symlink('/etc', 'l')\nopen('l/passwd')",
            DENIED,
        ),
        fails(
            "import os\nos.symlink('../..', 'l')\nos.listdir('l')",
            DENIED,
        ),
        fails(
            "import os\nos.link('/etc/passwd', 'l')",
            &[
                "Permission denied",
                "Invalid cross-device link",
                "Operation not permitted",
            ],
        ),
        fails("open('/tmp/planted', 'w')", DENIED),
        // By a path whose address is 0 in its lower half.
        fails(
            format!(
                "import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
at = libc.mmap(ctypes.c_void_p(1 << 32), ctypes.c_size_t(4096), 3, 0x100022, -1, ctypes.c_long(0))
ctypes.memmove(at, b'..', 3)
if libc.syscall({}, -100, ctypes.c_void_p(at), None, 0) == -1: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
result = hex(at)",
                libc::SYS_utimensat
            ),
            REFUSED,
        ),
        fails(
            "open('/proc/self/oom_score_adj', 'w').write('-1000')",
            DENIED,
        ),
        fails("import os\nos.rename('.', '../taken')", ANY),
        fails("import os\nos.chmod('..', 0)", REFUSED),
        fails("import os\nos.mkfifo('pipe')", REFUSED),
        fails("import os\nos.chroot('.')", REFUSED),
        fails("import os\nos.execv('/bin/ls', ['ls', '/'])", REFUSED),
        fails(
            "import os, sys\nos.execv(sys.executable, ['python3'])",
            REFUSED,
        ),
    ]);
    for (number, arguments) in [
        (
            libc::SYS_unshare,
            format!("{}", libc::CLONE_NEWUSER | libc::CLONE_NEWNET),
        ),
        (libc::SYS_setsid, "0".into()),
        (libc::SYS_memfd_create, "b'x', 0".into()),
        (libc::SYS_shmget, "0, 4096, 0o1600".into()),
        (libc::SYS_io_uring_setup, "8, 0".into()),
        (libc::SYS_bpf, "0, 0, 0".into()),
        (libc::SYS_mount, "0, 0, 0, 0, 0".into()),
        (libc::SYS_prctl, "4, 0, 0, 0, 0".into()),
    ] {
        attacks.push(call(number, &arguments));
    }
    attacks
}

/// A system call that must be refused.
fn call(number: libc::c_long, arguments: &str) -> Attack {
    fails(
        format!(
            "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nlibc.syscall.restype = ctypes.c_long\nif libc.syscall({number}, {arguments}) == -1: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\nresult = 'done'"
        ),
        REFUSED,
    )
}

/// No socket of any family can be made, so no packet leaves, whatever its address.
#[test]
fn python_code_has_no_network() {
    let python = Supervisor::start(PYTHON, &PLACES);
    let every_family = "import socket
made = []
for family in range(0, 48):
    for kind in (1, 2, 3, 5):
        try: socket.socket(family, kind); made.append([family, kind])
        except PermissionError: pass
try: socket.socketpair(); made.append('pair')
except PermissionError: pass
result = made";
    assert_eq!(python.result(every_family, json!({})), json!([]));
    // As a script would reach for Redis, the API server, the runtime itself and a name; loopback stands for them all.
    let connect = |host: &str, port: &str| {
        fails(
            format!("import socket\nsocket.create_connection(('{host}', {port}), 1)"),
            REFUSED,
        )
    };
    let own = python.api.rsplit_once(':').unwrap().1;
    withstands(
        &python,
        PYTHON_OTHER,
        &[
            connect("127.0.0.1", "6379"),
            connect("127.0.0.1", "443"),
            connect("127.0.0.1", own),
            connect("::1", "6379"),
            fails(
                "import urllib.request\nurllib.request.urlopen('https://127.0.0.1:443/api')",
                REFUSED,
            ),
            fails(
                "import socket\nsocket.socket(fileno=3)",
                &["not permitted", "non-socket"],
            ),
        ],
    );
}

#[test]
fn python_code_that_ends_or_breaks_its_own_process() {
    let python = Supervisor::start(PYTHON, &PLACES);
    let frame = |kind: char, length: usize, payload: &str| {
        format!(
            "import os, time\nos.write(4, b'{kind}' + bytes(8) + ({length}).to_bytes(4, 'little') + {payload})\ntime.sleep(60)"
        )
    };
    withstands(
        &python,
        PYTHON_OTHER,
        &[
            fails("import os\nos._exit(4)", &["exit status 4"]),
            // As the sandbox itself speaks where it fails.
            fails(
                "import os\nos.write(2, b'sandbox: not confined')\nos._exit(125)",
                &["exit status 125"],
            ),
            fails("raise SystemExit(3)", &["sys.exit(3)"]),
            fails("import os\nos.kill(os.getpid(), 9)", &["SIGKILL"]),
            fails("import os\nos.kill(os.getpid(), 11)", &["SIGSEGV"]),
            fails("import ctypes\nctypes.string_at(0)", &["SIGSEGV"]),
            fails("import os\nos.abort()", &["SIGABRT"]),
            fails("import os\nos.closerange(0, 100)", ANY),
            fails(
                "import os, time\nos.close(4)\ntime.sleep(60)",
                &["closed the channel"],
            ),
            fails(
                "import os, time\nos.write(4, b'not a frame at all')\ntime.sleep(60)",
                &["wrote to the channel"],
            ),
            fails(frame('S', 0, "b''"), ANY),
            fails(frame('R', 3, "b'{,}'"), NOT_JSON),
            fails(frame('R', 3, r#"b'"\xff"'"#), NOT_JSON),
            fails(frame('E', 4, r"b'a\xff\xfea'"), &["a\u{fffd}"]),
            fails(
                "import sys\nsys.stderr.buffer.write(b'\\xff\\xfe')\nraise ValueError('\\udcff')",
                &["ValueError"],
            ),
            fails(
                "result = b'\\xff'.decode('utf-8', 'surrogateescape')",
                NOT_JSON,
            ),
            fails("result = '\\ud800'", NOT_JSON),
            fails("result = float('nan')", NOT_JSON),
            fails("result = [float('inf')]", NOT_JSON),
            fails("result = lambda: 1", NOT_JSON),
            fails("result = []\nresult.append(result)", NOT_JSON),
            fails("result = {1, 2}", NOT_JSON),
            fails(
                "result = []\nfor _ in range(500): result = [result]",
                NOT_JSON,
            ),
            fails("result = 10 ** 400", NOT_JSON),
            fails("raise BaseException('\\udcff')", &["BaseException"]),
            fails(
                "import json\njson.dumps = None\nraise SystemExit",
                &["sys.exit"],
            ),
            fails("import worker\nworker.dumps = None\nresult = 1", NOT_JSON),
        ],
    );
}

#[test]
fn nodejs_code_that_attacks() {
    let node = Supervisor::start(NODEJS, &PLACES);
    let supervisor = node.pid();
    let refused: &[&str] = &["EPERM", "not permitted"];
    let denied: &[&str] = &["EACCES"];
    let connect = |port: &str| {
        fails(
            format!(
                "await new Promise((done, fail) => require('net').connect({port}, '127.0.0.1').on('connect', done).on('error', fail))"
            ),
            &["EPERM"],
        )
    };
    let own = node.api.rsplit_once(':').unwrap().1;
    let snapshot = |attack: &str| {
        format!(
            "const fs = require('fs'), {{ execArgv }} = process; \
             const snapshot = execArgv[execArgv.indexOf('--snapshot-blob') + 1]; {attack}"
        )
    };
    withstands(
        &node,
        NODEJS_OTHER,
        &[
            endless("for (;;);"),
            fails("require('os').setPriority(0)", &["EPERM"]),
            endless("await new Promise(() => setInterval(() => {}, 1))"),
            endless(
                "const next = () => process.nextTick(next); next(); await new Promise(() => {})",
            ),
            endless("return /(a+)+$/.test('a'.repeat(64) + 'b')"),
            fails(
                "for (;;) require('child_process').spawn(process.execPath, ['-e', '0'])",
                refused,
            ),
            fails(
                "for (;;) require('child_process').fork('script.js')",
                refused,
            ),
            fails("require('child_process').execFileSync('/bin/ls')", refused),
            fails("for (;;) require('cluster').fork()", refused),
            // Each thread is a V8 of its own: descriptors or memory may be used up before the threads are.
            fails(
                "const { Worker } = require('worker_threads'); for (;;) { new Worker('for(;;);', { eval: true }); await new Promise(setImmediate) }",
                &["more threads than its limit", "memory limit", "EMFILE"],
            ),
            fails(
                "const a = []; for (;;) a.push(new Array(100000).fill(1.5))",
                MEMORY,
            ),
            fails(
                "const a = []; for (;;) a.push(Buffer.alloc(10000000, 1))",
                MEMORY,
            ),
            fails(
                "new Uint8Array(new WebAssembly.Memory({ initial: 16384 }).buffer).fill(1)",
                &["memory limit", "could not allocate memory"],
            ),
            fails(
                "for (;;) require('fs').writeSync(1, 'x'.repeat(100000))",
                OUTPUT,
            ),
            fails("return 'x'.repeat(10000000)", OUTPUT),
            fails(
                "return Array(2000).fill('x'.repeat(1000000))",
                &["memory limit", "Invalid string length"],
            ),
            fails(
                "require('fs').writeSync(4, Buffer.from([82, 0,0,0,0,0,0,0,0, 0,0,0,128]))",
                OUTPUT,
            ),
            fails(
                "for (let i = 0; ; i++) require('fs').writeFileSync(String(i), Buffer.alloc(1000000))",
                FILES,
            ),
            fails(
                "require('fs').writeFileSync('f', Buffer.alloc(65 << 20))",
                &["EFBIG"],
            ),
            fails(
                "const f = () => f(); f()",
                &["Maximum call stack size exceeded"],
            ),
            connect("6379"),
            connect("443"),
            connect(own),
            fails(
                "await new Promise((done, fail) => require('net').createServer().on('error', fail).listen('socket', done))",
                &["EPERM"],
            ),
            fails(
                "await new Promise((done, fail) => require('dgram').createSocket('udp4').on('error', fail).bind(0, '127.0.0.1', done))",
                &["EPERM"],
            ),
            fails(format!("process.kill({supervisor}, 'SIGKILL')"), refused),
            fails("process.kill(process.ppid, 'SIGKILL')", refused),
            fails("process.kill(0, 'SIGKILL')", refused),
            fails("process.kill(-1, 'SIGKILL')", refused),
            fails("process.kill(process.pid, 'SIGKILL')", &["SIGKILL"]),
            fails(
                format!("return require('fs').readFileSync('/proc/{supervisor}/environ', 'utf8')"),
                denied,
            ),
            fails("return require('fs').readdirSync('/proc')", denied),
            fails("return require('fs').readdirSync('/')", denied),
            fails("return require('fs').readdirSync('..')", denied),
            // What every later process starts from.
            fails(snapshot("fs.writeFileSync(snapshot, 'x')"), denied),
            fails(snapshot("fs.truncateSync(snapshot)"), denied),
            fails(snapshot("fs.unlinkSync(snapshot)"), denied),
            fails(
                snapshot("fs.writeFileSync('x', 'x'); fs.renameSync('x', snapshot)"),
                &["EACCES", "EXDEV"],
            ),
            fails(
                "const fs = require('fs'); fs.symlinkSync('/etc/passwd', 'l'); return fs.readFileSync('l', 'utf8')",
                denied,
            ),
            fails(
                "return require('fs').readFileSync('../../../../../../../../etc/passwd', 'utf8')",
                denied,
            ),
            fails(
                "require('fs').linkSync('/etc/passwd', 'l')",
                &["EACCES", "EXDEV", "EPERM"],
            ),
            fails("process.abort()", &["SIGABRT"]),
            fails("process.exit(4)", &["exit status 4"]),
            fails("process.reallyExit(5)", &["exit status 5"]),
            fails(
                "require('fs').writeSync(2, 'sandbox: not confined'); process.reallyExit(125)",
                &["exit status 125"],
            ),
            fails(
                "return require('fs').readFileSync('/proc/self/net/tcp', 'utf8')",
                denied,
            ),
            fails(
                "return require('fs').readFileSync('/proc/self/mountinfo', 'utf8')",
                denied,
            ),
            fails(
                "for (let i = 0; i < 100; i++) try { require('fs').closeSync(i) } catch {}",
                ANY,
            ),
            fails(
                "require('fs').closeSync(4); await new Promise(done => setTimeout(done, 9000))",
                &["closed the channel"],
            ),
            fails(
                "require('fs').writeSync(4, Buffer.from([82, 0,0,0,0,0,0,0,0, 3,0,0,0, 34, 255, 34]))",
                NOT_JSON,
            ),
            fails("return '\\ud800'", NOT_JSON),
            fails("return NaN", NOT_JSON),
            fails("return [Infinity]", NOT_JSON),
            fails("return () => 1", NOT_JSON),
            fails("return { f() {} }", NOT_JSON),
            fails("const o = {}; o.o = o; return o", NOT_JSON),
            fails("return 1n", NOT_JSON),
            fails("return { toJSON() { throw new Error('mine') } }", &["mine"]),
            fails(
                "throw { get message() { throw 1 }, toJSON() { throw 2 } }",
                &["cannot be shown"],
            ),
            fails(
                "Promise.reject(new Error('nobody waits')); await new Promise(done => setTimeout(done, 9000))",
                &["nobody waits"],
            ),
        ],
    );
}

#[test]
fn rust_code_that_attacks() {
    let rust = Supervisor::start(
        RUST,
        &[
            PLACES[0],
            PLACES[1],
            ("COMPILE_TIMEOUT_SECONDS", "4"),
            ("MAX_TIMEOUT_SECONDS", "120"),
        ],
    );
    let handle = |body: &str| {
        format!("fn handle(p: Value, _c: Value) -> Result<Value, String> {{ {body} }}")
    };
    let echo = handle("Ok(p[\"a\"].clone())");
    // Compiled before, so that it does not wait behind the attacks for the compiler.
    assert_eq!(rust.result(&echo, json!({"a": 1})), 1);

    // Reaching for files, and for programs of their own, while they are compiled.
    let with = |item: &str| format!("{item}\n{}", handle("Ok(p)"));
    let mut attacks = vec![
        fails(handle("Ok(json!(include_str!(\"/etc/passwd\")))"), DENIED),
        fails(
            handle("Ok(json!(include_str!(\"/proc/self/environ\")))"),
            DENIED,
        ),
        fails(
            handle("Ok(json!(include_bytes!(\"/proc/1/environ\").len()))"),
            DENIED,
        ),
        fails(with("#[path = \"/etc/passwd\"] mod passwd;"), DENIED),
        fails(
            with("core::arch::global_asm!(\".incbin \\\"/etc/passwd\\\"\");"),
            &["incbin"],
        ),
        fails(
            handle("Ok(json!(env!(\"SECRET_OF_THE_SUPERVISOR\")))"),
            &["not defined"],
        ),
        // A build script belongs to a package, which a single file declares like this (RFC 3502).
        fails(
            with("---\n[package]\nbuild = \"script.rs\"\n---"),
            &["frontmatter", "expected item"],
        ),
        fails(
            handle("include!(concat!(env!(\"OUT_DIR\"), \"/built.rs\"))"),
            &["not defined"],
        ),
        fails(
            with("#[proc_macro] pub fn m(t: u8) -> u8 { t }"),
            &["proc_macro"],
        ),
        fails(
            with(
                "#![crate_type = \"proc-macro\"]\nextern crate proc_macro;\n#[proc_macro] pub fn m(t: proc_macro::TokenStream) -> proc_macro::TokenStream { t }",
            ),
            &["proc-macro"],
        ),
        fails(
            with(
                "#![allow(long_running_const_eval)]\nconst X: u64 = { let mut i = 0; while i < u64::MAX { i += 1 } i };\npub static Y: u64 = X;",
            ),
            &["more than 4 s of processor time to compile"],
        ),
        fails(
            format!(
                "static B: [u8; 50_000_000] = [1; 50_000_000];\n{}",
                handle("Ok(json!(B[p[\"a\"].as_u64().unwrap() as usize]))")
            ),
            &["compile"],
        ),
        fails(
            with("macro_rules! twice { () => { twice!(); twice!() } }\ntwice!{}"),
            &["recursion limit"],
        ),
    ];
    // What runs before `main`, and before the process says that it has started.
    let before_main = |body: &str| {
        with(&format!(
            "extern \"C\" fn first() {{ {body} }}\n#[used] #[link_section = \".init_array\"] static FIRST: extern \"C\" fn() = first;"
        ))
    };
    let write = "extern \"C\" { fn write(to: i32, from: *const u8, count: usize) -> isize; fn _exit(status: i32) -> !; } ";
    attacks.extend([
        Attack {
            limit: "6",
            status: 504,
            ..fails(
                before_main("loop { std::hint::black_box(0); }"),
                &["its time limit of 6 s"],
            )
        },
        Attack {
            limit: "6",
            status: 504,
            ..fails(
                format!("#![no_main]\nmod first {{ #[no_mangle] extern \"C\" fn main() -> i32 {{ loop {{ std::hint::black_box(0); }} }} }}\n{}", handle("Ok(p)")),
                &["its time limit of 6 s"],
            )
        },
        fails(
            before_main("let mut v: Vec<Vec<u8>> = vec![]; loop { v.push(vec![1; 10_000_000]) }"),
            MEMORY,
        ),
        fails(
            before_main(&format!("{write} loop {{ unsafe {{ write(2, [65u8; 65536].as_ptr(), 65536); }} }}")),
            OUTPUT,
        ),
        fails(
            before_main(&format!("{write} unsafe {{ write(2, b\"sandbox: not confined\".as_ptr(), 21); _exit(125) }}")),
            &["exit status 125"],
        ),
        fails(
            before_main(&format!("{write} unsafe {{ write(4, b\"R\\0\\0\\0\\0\\0\\0\\0\\0\\x01\\0\\0\\x001\".as_ptr(), 14); }}")),
            &["wrote to the channel"],
        ),
    ]);
    // Everything that a process does is held as for the other languages; here with one program for all.
    let script = format!(
        "unsafe extern \"C\" {{ fn kill(pid: i32, signal: i32) -> i32; fn close(descriptor: i32) -> i32; fn fork() -> i32; fn _exit(status: i32) -> !; }}
        fn text<T>(result: std::io::Result<T>) -> Result<(), String> {{ result.map(|_| ()).map_err(|e| e.to_string()) }}
        fn called(status: i32) -> Result<(), String> {{ if status < 0 {{ text::<()>(Err(std::io::Error::last_os_error())) }} else {{ Ok(()) }} }}
        fn wait() {{ std::thread::sleep(std::time::Duration::from_secs(60)) }}
        {}",
        handle(
            "use std::io::Write;
            let other = p[\"other\"].as_i64().unwrap_or(0) as i32;
            let name = p[\"name\"].as_str().unwrap_or(\"/etc/passwd\");
            let channel = || std::mem::ManuallyDrop::new(unsafe { <std::fs::File as std::os::fd::FromRawFd>::from_raw_fd(4) });
            match p[\"do\"].as_str().unwrap() {
                \"loop\" => loop { std::hint::black_box(0); },
                \"socket\" => text(std::net::TcpListener::bind(\"127.0.0.1:0\"))?,
                \"connect\" => text(std::net::TcpStream::connect(name))?,
                \"unix\" => text(std::os::unix::net::UnixStream::pair())?,
                \"fork\" => loop { called(unsafe { fork() })? },
                \"spawn\" => text(std::process::Command::new(\"/bin/ls\").status())?,
                \"exec\" => text::<()>(Err(std::os::unix::process::CommandExt::exec(&mut std::process::Command::new(std::env::current_exe().unwrap()))))?,
                \"kill\" => called(unsafe { kill(other, 9) })?,
                \"read\" => text(std::fs::read(name))?,
                \"list\" => text(std::fs::read_dir(name))?,
                \"link\" => { std::os::unix::fs::symlink(\"/etc\", \"l\").unwrap(); text(std::fs::read(\"l/passwd\"))? }
                \"write\" => text(std::fs::write(std::env::current_exe().unwrap(), \"x\"))?,
                \"fill\" => for i in 0.. { std::fs::write(i.to_string(), vec![1; 1_000_000]).unwrap() },
                \"memory\" => { let mut v: Vec<Vec<u8>> = vec![]; loop { v.push(vec![1; 10_000_000]) } }
                \"result\" => return Ok(json!(\"x\".repeat(10_000_000))),
                \"recursion\" => { fn f(n: u64) -> u64 { if n == 0 { 0 } else { f(n + 1) + std::hint::black_box(n) } } f(1); }
                \"threads\" => loop { if let Ok(t) = std::thread::Builder::new().stack_size(16384).spawn(wait) { std::mem::forget(t) } },
                \"exit\" => std::process::exit(3),
                \"_exit\" => unsafe { _exit(4) },
                \"abort\" => std::process::abort(),
                \"null\" => unsafe { std::ptr::null_mut::<u8>().write_volatile(1) },
                \"print\" => loop { println!(\"{}\", \"x\".repeat(100000)) },
                \"close\" => { for i in 0..100 { unsafe { close(i) }; } wait() }
                \"utf-8\" => { channel().write_all(b\"R\\0\\0\\0\\0\\0\\0\\0\\0\\x03\\0\\0\\0\\\"\\xff\\\"\").unwrap(); wait() }
                \"lie\" => { channel().write_all(b\"R\\0\\0\\0\\0\\0\\0\\0\\0\\xff\\xff\\xff\\xff\").unwrap(); wait() }
                other => return Ok(json!(other)),
            } Ok(json!(1))"
        )
    );
    let deed = |params: Value, says: &'static [&'static str]| Attack {
        params,
        ..fails(script.clone(), says)
    };
    let supervisor = rust.pid();
    attacks.extend([
        Attack {
            params: json!({"do": "loop"}),
            ..endless(script.clone())
        },
        deed(json!({"do": "socket"}), REFUSED),
        deed(json!({"do": "connect", "name": "127.0.0.1:6379"}), REFUSED),
        deed(json!({"do": "connect", "name": rust.api}), REFUSED),
        deed(json!({"do": "unix"}), REFUSED),
        deed(json!({"do": "fork"}), REFUSED),
        deed(json!({"do": "spawn"}), REFUSED),
        deed(json!({"do": "exec"}), REFUSED),
        deed(json!({"do": "kill", "other": supervisor}), REFUSED),
        deed(json!({"do": "kill", "other": 0}), REFUSED),
        deed(json!({"do": "kill", "other": -1}), REFUSED),
        deed(json!({"do": "read"}), DENIED),
        deed(
            json!({"do": "read", "name": "../../../../../../../../etc/passwd"}),
            DENIED,
        ),
        deed(
            json!({"do": "read", "name": format!("/proc/{supervisor}/environ")}),
            DENIED,
        ),
        deed(json!({"do": "list", "name": ".."}), DENIED),
        deed(json!({"do": "list", "name": "/proc"}), DENIED),
        deed(json!({"do": "link"}), DENIED),
        deed(json!({"do": "write"}), ANY),
        deed(json!({"do": "fill"}), FILES),
        deed(json!({"do": "memory"}), MEMORY),
        deed(json!({"do": "result"}), OUTPUT),
        deed(json!({"do": "recursion"}), &["overflows the stack"]),
        deed(json!({"do": "threads"}), &["more threads than its limit"]),
        deed(json!({"do": "exit"}), &["exit status 3"]),
        deed(json!({"do": "_exit"}), &["exit status 4"]),
        deed(json!({"do": "abort"}), &["SIGABRT"]),
        deed(json!({"do": "null"}), &["SIGSEGV"]),
        deed(json!({"do": "print"}), OUTPUT),
        deed(json!({"do": "close"}), &["closed the channel"]),
        deed(json!({"do": "utf-8"}), NOT_JSON),
        deed(json!({"do": "lie"}), OUTPUT),
    ]);
    // Compiled with the default time, before the endless loop's half second.
    assert_eq!(rust.result(&script, json!({"do": "nothing"})), "nothing");
    for attack in &mut attacks {
        // They wait for each other's compilations, which a busy machine makes long.
        if attack.limit == "20" {
            attack.limit = "100";
        }
    }
    withstands(&rust, &echo, &attacks);
}
