//! Processes that are used again: by whom, for what, and what is as new each time.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{NODEJS, PYTHON, RUST, Supervisor, eventually};

/// A script that counts how often its process has run it.
fn counter(language: &str) -> &'static str {
    match language {
        NODEJS => "globalThis.n = (globalThis.n ?? 0) + 1; return globalThis.n",
        PYTHON => "import builtins\nbuiltins.n = getattr(builtins, 'n', 0) + 1\nresult = builtins.n",
        _ => {
            "use std::sync::atomic::{AtomicU32, Ordering};
            static N: AtomicU32 = AtomicU32::new(0);
            fn handle(_: Value, _: Value) -> Result<Value, String> { Ok(json!(N.fetch_add(1, Ordering::Relaxed) + 1)) }"
        }
    }
}

fn run(supervisor: &Supervisor, caller: &str, script: &str, params: Value) -> Value {
    let headers = [("X-Caller", caller)];
    let answer = supervisor.execute_with(script, params, &headers);
    assert_eq!(answer.status, 200, "{script}\n{}", answer.body);
    answer.json()["result"].clone()
}

fn kept(supervisor: &Supervisor) -> usize {
    supervisor.metric("lambda_runtime_kept_processes") as usize
}

#[test]
fn a_process_runs_again_for_its_caller_and_its_script_alone() {
    for language in [NODEJS, PYTHON, RUST] {
        let supervisor = Supervisor::start(language, &[]);
        let script = counter(language);
        for expected in 1..=3 {
            assert_eq!(
                run(&supervisor, "alice", script, json!({})),
                expected,
                "{language}"
            );
        }
        assert_eq!(
            run(&supervisor, "bob", script, json!({})),
            1,
            "{language}: another caller"
        );
        let other = format!("{script}\n");
        assert_eq!(
            run(&supervisor, "alice", &other, json!({})),
            1,
            "{language}: another script"
        );
        for _ in 0..2 {
            assert_eq!(
                supervisor.result(script, json!({})),
                1,
                "{language}: nobody's"
            );
        }
        assert_eq!(
            run(&supervisor, "alice", script, json!({})),
            4,
            "{language}"
        );
        let series = r#"process_starts_total{language="LANGUAGE",from="kept"}"#
            .replace("LANGUAGE", language);
        assert_eq!(supervisor.metric(&format!("lambda_runtime_{series}")), 3.0);
    }
}

#[test]
fn params_and_context_are_those_of_each_execution() {
    for (language, script) in [
        (NODEJS, "return [params, context]"),
        (
            PYTHON,
            "def handle(params, context): return [params, context]",
        ),
        (
            RUST,
            "fn handle(params: Value, context: Value) -> Result<Value, String> { Ok(json!([params, context])) }",
        ),
    ] {
        let supervisor = Supervisor::start(language, &[]);
        for number in 0..20 {
            let params = json!({"number": number, "text": "é".repeat(number * 1000)});
            let expected = json!([params, {"c": 3}]);
            assert_eq!(run(&supervisor, "alice", script, params), expected);
        }
        assert_eq!(kept(&supervisor), 1);
    }
}

#[test]
fn where_it_is_off_each_process_is_used_once() {
    let supervisor = Supervisor::start(PYTHON, &[("REUSE", "none")]);
    for _ in 0..3 {
        assert_eq!(run(&supervisor, "alice", counter(PYTHON), json!({})), 1);
    }
    assert_eq!(kept(&supervisor), 0);
}

#[test]
fn what_is_not_as_it_was_is_not_used_again() {
    let python = Supervisor::start(PYTHON, &[]);
    let node = Supervisor::start(NODEJS, &[]);
    let rust = Supervisor::start(RUST, &[]);
    let count = counter(PYTHON);
    let count_js = "globalThis.n = (globalThis.n ?? 0) + 1;";
    for (what, supervisor, script) in [
        (
            "a thread",
            &python,
            format!(
                "{count}\nimport threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
            ),
        ),
        (
            "a thread that hides",
            &python,
            format!("{count}\nimport _thread, time\n_thread.start_new_thread(time.sleep, (9,))"),
        ),
        (
            "an open file",
            &python,
            format!("{count}\nbuiltins.f = open('f', 'w')"),
        ),
        (
            "a closed one",
            &python,
            format!("{count}\nimport os\nos.close(1)"),
        ),
        (
            "another folder",
            &python,
            format!("{count}\nimport os\nos.mkdir('d')\nos.chdir('d')"),
        ),
        (
            "memory",
            &python,
            format!("{count}\nbuiltins.kept = bytearray(b'x') * (90 << 20)"),
        ),
        (
            "a timer",
            &node,
            format!("{count_js} setInterval(() => {{}}, 1000); return globalThis.n"),
        ),
        (
            "a worker",
            &node,
            format!(
                "{count_js} const w = new (require('worker_threads').Worker)('for(;;);', {{ eval: true }}); await new Promise(done => w.on('online', done)); return globalThis.n"
            ),
        ),
        (
            "a thread",
            &rust,
            counter(RUST).replace(
                "Ok(json",
                "std::thread::spawn(|| loop { std::hint::black_box(0); }); Ok(json",
            ),
        ),
    ] {
        for _ in 0..2 {
            assert_eq!(run(supervisor, "alice", &script, json!({})), 1, "{what}");
        }
        assert_eq!(kept(supervisor), 0, "{what}");
    }
    eventually("nothing of them is left", Duration::from_secs(5), || {
        rust.executions().is_empty()
            && python.executions().len() == python.metric("lambda_runtime_warm_processes") as usize
    });
}

/// A script that writes its own result and says that it is ready, while it goes on: it stands still until its caller's next
/// execution, which it spoils, and nobody else's.
#[test]
fn who_pretends_to_be_ready_spoils_its_own_next_execution_alone() {
    let supervisor = Supervisor::start(PYTHON, &[("WARM_PROCESSES", "0")]);
    let script = "import os\nos.write(4, b'R' + bytes(8) + (1).to_bytes(4, 'little') + b'1' + b'S' + bytes(12))\nwhile True: pass";
    let mut kept = None;
    eventually("it stands still", Duration::from_secs(20), || {
        // On a busy machine it may take too long for the runtime, which ends it then.
        if kept.is_none() && supervisor.executions().is_empty() {
            assert_eq!(run(&supervisor, "alice", script, json!({})), 1);
        }
        kept = standing(&supervisor);
        kept.is_some()
    });
    assert_eq!(run(&supervisor, "bob", counter(PYTHON), json!({})), 1);
    let headers = [("X-Caller", "alice"), ("X-Timeout-Seconds", "0.5")];
    let (status, code, _) = supervisor.execute_with(script, json!({}), &headers).error();
    assert_eq!((status, code.as_str()), (504, "TIMEOUT"));
    assert_eq!(run(&supervisor, "bob", counter(PYTHON), json!({})), 2);
    eventually("it has ended", Duration::from_secs(2), || {
        !kept.is_some_and(|pid| supervisor.executions().contains(&pid))
    });
}

/// A process of an execution that has been stopped: proc_pid_stat(5), field 3.
fn standing(supervisor: &Supervisor) -> Option<i32> {
    supervisor.executions().into_iter().find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| {
            text.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    })
}

#[test]
fn an_error_or_a_limit_ends_it() {
    let supervisor = Supervisor::start(PYTHON, &[]);
    let script = format!(
        "{}\nif params.get('fail'): raise ValueError('asked for')\nif params.get('wait'):\n  import time\n  time.sleep(9)",
        counter(PYTHON)
    );
    for (params, status) in [(json!({"fail": true}), 422), (json!({"wait": true}), 504)] {
        assert_eq!(run(&supervisor, "alice", &script, json!({})), 1);
        assert_eq!(run(&supervisor, "alice", &script, json!({})), 2);
        let headers = [("X-Caller", "alice"), ("X-Timeout-Seconds", "0.5")];
        assert_eq!(
            supervisor.execute_with(&script, params, &headers).status,
            status
        );
        assert_eq!(kept(&supervisor), 0);
    }
}

#[test]
fn limits_and_the_folder_are_new_each_time() {
    let settings = [("CPU_LIMIT_SECONDS", "2")];
    let supervisor = Supervisor::start(PYTHON, &settings);
    let script = format!(
        "{}\nimport os, time
found = os.listdir('.')
with open('file', 'wb') as f: f.write(bytes(40_000_000))
os.makedirs('a/b')
end = time.process_time() + 1.2
while time.process_time() < end: pass
print('x' * 3_000_000)
result = [builtins.n, found]",
        counter(PYTHON)
    );
    // Five times 1.2 of 2 s, 40 of 64 MB of files, and 3 of 5 MB of output.
    for number in 1..=5 {
        assert_eq!(
            run(&supervisor, "alice", &script, json!({})),
            json!([number, []])
        );
    }
    // Who ignores the signal of it is ended all the same.
    for deaf in [
        "",
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\n",
    ] {
        let endless = format!("{}\n{deaf}while params.get('loop'): pass", counter(PYTHON));
        assert_eq!(run(&supervisor, "alice", &endless, json!({})), 1);
        let headers = [("X-Caller", "alice")];
        let (status, _, message) = supervisor
            .execute_with(&endless, json!({"loop": true}), &headers)
            .error();
        assert!(
            status == 504 && message.contains("processor time of 2 s"),
            "{message}"
        );
    }
}

#[test]
fn while_it_waits_it_stands_still_and_then_it_ends() {
    let supervisor = Supervisor::start(
        PYTHON,
        &[("REUSE_IDLE_SECONDS", "3"), ("WARM_PROCESSES", "0")],
    );
    assert_eq!(run(&supervisor, "alice", counter(PYTHON), json!({})), 1);
    eventually("it stands still", Duration::from_secs(2), || {
        standing(&supervisor).is_some()
    });
    eventually("it ends", Duration::from_secs(6), || {
        kept(&supervisor) == 0 && supervisor.executions().is_empty()
    });
    assert_eq!(run(&supervisor, "alice", counter(PYTHON), json!({})), 1);
}

#[test]
fn kept_processes_make_room() {
    let supervisor =
        Supervisor::start(PYTHON, &[("MAX_CONCURRENCY", "2"), ("WARM_PROCESSES", "0")]);
    for caller in ["a", "b", "c", "d"] {
        assert_eq!(run(&supervisor, caller, counter(PYTHON), json!({})), 1);
    }
    assert_eq!(kept(&supervisor), 2);
    // Those that waited longest have gone.
    assert_eq!(run(&supervisor, "d", counter(PYTHON), json!({})), 2);
    assert_eq!(run(&supervisor, "c", counter(PYTHON), json!({})), 2);
    assert_eq!(run(&supervisor, "a", counter(PYTHON), json!({})), 1);
    eventually(
        "no more processes than places",
        Duration::from_secs(2),
        || supervisor.executions().len() <= 2,
    );
}
