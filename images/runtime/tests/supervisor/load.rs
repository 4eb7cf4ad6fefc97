//! More requests than the runtime takes.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    NODEJS, PYTHON, RUST, SlowWorker, Supervisor, eventually, half_sent, request,
};

#[test]
fn beyond_its_places_a_runtime_says_so_soon_and_goes_on() {
    let settings = [
        ("MAX_CONCURRENCY", "2"),
        ("MAX_QUEUE", "2"),
        ("QUEUE_SECONDS", "1"),
    ];
    let python = Supervisor::start(PYTHON, &settings);
    let answers = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let begun = Instant::now();
                    let answer = python.execute("import time\ntime.sleep(2)\nresult = 1");
                    (answer, begun.elapsed())
                })
            })
            .collect();
        calls
            .into_iter()
            .map(|call| call.join().unwrap())
            .collect::<Vec<_>>()
    });
    let (served, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|(answer, _)| answer.status == 200);
    assert_eq!((served.len(), refused.len()), (2, 6));
    for (answer, time) in refused {
        assert_eq!(
            (answer.error().0, answer.error().1.as_str()),
            (503, "UNAVAILABLE")
        );
        assert_eq!(answer.headers["retry-after"], "1");
        assert!(*time < Duration::from_millis(1800), "{time:?}");
    }
    assert_eq!(
        python.metric("lambda_runtime_executions_total{language=\"python\",outcome=\"rejected\"}"),
        6.0
    );
    assert_eq!(python.result("result = 2", json!({})), 2);
}

const LARGE: usize = 8 << 20;

#[test]
fn large_bodies_beyond_the_places_are_refused_unread() {
    let settings = [
        ("MAX_CONCURRENCY", "2"),
        ("MAX_QUEUE", "2"),
        ("QUEUE_SECONDS", "1"),
    ];
    let python = Supervisor::start(PYTHON, &settings);
    let params = "x".repeat(LARGE);
    let body = json!({"request_id": "r", "params": params, "script_content": "result = 1"});
    let body = body.to_string();
    let slow = "import time\ntime.sleep(10)\nresult = len(params)";
    std::thread::scope(|scope| {
        let served: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| python.result(slow, json!(params))))
            .collect();
        eventually("both run", Duration::from_secs(20), || {
            python.metric("lambda_runtime_running{") == 2.0
        });
        let before = python.peak_memory();

        // Who does not send more is answered all the same: nobody waits for it.
        let half = || half_sent(&python.api, &[], &[b' '; 1000], LARGE);
        let refused: Vec<_> = (0..20).map(|_| scope.spawn(half)).collect();
        for call in refused {
            let (status, time) = call.join().unwrap();
            assert_eq!(status, 503);
            assert!(time < Duration::from_secs(3), "{time:?}");
        }

        // Who sends all hears why not, and nothing of it was kept.
        let refused: Vec<_> = (0..40)
            .map(|_| scope.spawn(|| request(&python.api, "POST", "/execute", &[], body.as_bytes())))
            .collect();
        for call in refused {
            let answer = call.join().unwrap();
            let (status, code, message) = answer.error();
            assert_eq!((status, code.as_str()), (503, "UNAVAILABLE"), "{message}");
            assert!(message.contains("too many large requests"), "{message}");
            assert_eq!(answer.headers["retry-after"], "1");
        }
        let more = python.peak_memory() - before;
        assert!(more < 8 * LARGE, "{more} bytes for 40 refused bodies");
        for call in served {
            assert_eq!(call.join().unwrap(), LARGE);
        }
    });
    assert_eq!(
        python.metric("lambda_runtime_executions_total{language=\"python\",outcome=\"rejected\"}"),
        60.0
    );
    assert_eq!(python.result("result = len(params)", json!(params)), LARGE);
}

#[test]
fn a_body_that_comes_slowly_holds_no_place() {
    let python = Supervisor::start(PYTHON, &[("MAX_CONCURRENCY", "1")]);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| {
            let limit = [("x-timeout-seconds", "2")];
            half_sent(&python.api, &limit, &vec![b' '; 100_000], LARGE)
        });
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(python.result("result = 1", json!({})), 1);
        assert!(!slow.is_finished());
        let (status, time) = slow.join().unwrap();
        assert_eq!(status, 400);
        assert!(time < Duration::from_secs(4), "{time:?}");
    });
    let params = "x".repeat(LARGE);
    assert_eq!(python.result("result = len(params)", json!(params)), LARGE);
}

#[test]
fn interpreters_start_a_few_at_a_time() {
    let slow = SlowWorker::new(300);
    let settings = [
        ("WORKER", slow.path.to_str().unwrap()),
        ("WARM_PROCESSES", "0"),
        ("MAX_CONCURRENCY", "8"),
        ("START_CONCURRENCY", "2"),
    ];
    let node = Supervisor::start(NODEJS, &settings);
    let most = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| node.result("return 1", json!({}))))
            .collect();
        let mut most = 0;
        while !calls.iter().all(|call| call.is_finished()) {
            most = most.max(node.executions().len());
            std::thread::sleep(Duration::from_millis(5));
        }
        calls
            .into_iter()
            .for_each(|call| assert_eq!(call.join().unwrap(), 1));
        most
    });
    // Two that start, and some that have answered and are not gone yet.
    assert!((2..=5).contains(&most), "{most}");
}

#[test]
fn the_compile_cache_stays_within_its_size() {
    let rust = Supervisor::start(RUST, &[("COMPILE_CACHE_BYTES", "1048576")]);
    for number in 0..4 {
        let script = format!(
            "fn handle(_: Value, _: Value) -> Result<Value, String> {{ Ok(json!({number})) }}"
        );
        assert_eq!(rust.result(&script, json!({})), number);
        let programs = std::fs::read_dir(rust.scratch.join("programs")).unwrap();
        let bytes: u64 = programs
            .map(|program| program.unwrap().metadata().unwrap().len())
            .sum();
        assert!(bytes > 0 && bytes <= 1 << 20, "{bytes}");
    }
    assert!(rust.metric("lambda_runtime_compile_cache_bytes{") <= 1048576.0);
}

/// Executions a second when each client sends its next request at once, and their times at half of that rate: with a new
/// process each, and with processes that are used again.
#[test]
#[ignore = "measures for two minutes, with the whole machine"]
fn speed() {
    let rust = "fn handle(p: Value, _: Value) -> Result<Value, String> { Ok(p[\"a\"].clone()) }";
    for (language, script) in [
        (PYTHON, "result = params['a']"),
        (NODEJS, "return params.a"),
        (RUST, rust),
    ] {
        let settings = [("MAX_CONCURRENCY", "16"), ("QUEUE_SECONDS", "30")];
        let supervisor = Supervisor::start(language, &settings);
        assert_eq!(supervisor.result(script, json!({"a": 1})), 1);
        let mut rates = vec![];
        for (how, caller) in [
            ("a new process each", ""),
            ("used again", "x-caller: a\r\n"),
        ] {
            let saturated = clients(&supervisor, caller, script, Duration::ZERO);
            let rate = saturated.len() as f64 / SPAN.as_secs_f64();
            let interval = Duration::from_secs_f64(2.0 * CLIENTS as f64 / rate);
            let times = clients(&supervisor, caller, script, interval);
            let at = |part: f64| times[(times.len() as f64 * part) as usize];
            println!(
                "{language}, {how}: {rate:.0} executions/s; at half of that p50 {:.1} ms, p99 {:.1} ms, of which the script p50 {:.2} ms",
                at(0.5).0,
                at(0.99).0,
                at(0.5).1
            );
            rates.push(rate);
        }
        println!("{language}: {:.1} times", rates[1] / rates[0]);
    }
}

const CLIENTS: usize = 16;
const SPAN: Duration = Duration::from_secs(10);

/// For each request its time and that of its script, in ms, the shortest first. A client sends one every `interval`.
fn clients(
    supervisor: &Supervisor,
    caller: &str,
    script: &str,
    interval: Duration,
) -> Vec<(f64, f64)> {
    let body = json!({"request_id": "r", "params": {"a": 1}, "script_content": script}).to_string();
    let head = format!(
        "POST /execute HTTP/1.1\r\nhost: test\r\n{caller}content-length: {}\r\n\r\n",
        body.len()
    );
    let request = head + &body;
    let client = |number: usize| {
        let mut stream = TcpStream::connect(&supervisor.api).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        let begin = Instant::now() + interval * number as u32 / CLIENTS as u32;
        let mut next = begin;
        let mut times = vec![];
        while begin.elapsed() < SPAN {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            next += interval;
            let sent = Instant::now();
            stream.write_all(request.as_bytes()).unwrap();
            let script_ms = answer(&mut answers)["execution_time_ms"].as_f64().unwrap();
            times.push((sent.elapsed().as_secs_f64() * 1000.0, script_ms));
        }
        times
    };
    let mut times: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || client(number)))
            .collect();
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    });
    times.sort_by(|one, other| one.0.total_cmp(&other.0));
    times
}

fn answer(from: &mut impl BufRead) -> Value {
    let mut line = String::new();
    let mut length = 0;
    while line != "\r\n" {
        line.clear();
        from.read_line(&mut line).unwrap();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// One caller takes all that it can; another has its place all the same.
#[test]
fn no_caller_takes_every_place() {
    let settings = [
        ("MAX_CONCURRENCY", "4"),
        ("MAX_QUEUE", "4"),
        ("QUEUE_SECONDS", "1"),
    ];
    let python = Supervisor::start(PYTHON, &settings);
    let greedy = [("X-Account", "user greedy")];
    let slow = "import time\ntime.sleep(3)\nresult = 1";
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| python.execute_with(slow, json!({}), &greedy)))
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        for number in 0..10 {
            let begun = Instant::now();
            let account = format!("user modest-{number}");
            let answer = python.execute_with("result = 2", json!({}), &[("X-Account", &account)]);
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert!(
                begun.elapsed() < Duration::from_secs(1),
                "{:?}",
                begun.elapsed()
            );
        }
        let answers: Vec<_> = calls.into_iter().map(|call| call.join().unwrap()).collect();
        let served = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(served, 2, "its share of four");
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            let (status, code, message) = answer.error();
            assert_eq!((status, code.as_str()), (429, "RATE_LIMITED"), "{message}");
            assert!(message.contains("its share of 2 scripts"), "{message}");
            assert_eq!(answer.headers["retry-after"], "1");
        }
    });
}

/// However many scripts of one caller wait to be compiled, another's waits for one of them at most.
#[test]
fn callers_take_turns_at_the_compiler() {
    let settings = [
        ("MAX_QUEUE", "20"),
        ("MAX_TIMEOUT_SECONDS", "120"),
        ("TIMEOUT_SECONDS", "120"),
    ];
    let rust = Supervisor::start(RUST, &settings);
    let script = |number: usize| {
        // Some work for the compiler, a second or so.
        let functions: String = (0..400)
            .map(|index| format!("pub fn f{index}(n: u64) -> Vec<String> {{ (0..n).map(|i| format!(\"{{i}} {{}}\", i * {number} + {index})).collect() }}\n"))
            .collect();
        format!(
            "{functions}fn handle(_: Value, _: Value) -> Result<Value, String> {{ Ok(json!(f0(1))) }}"
        )
    };
    let compiled = |number: usize, account: &str| {
        let answer = rust.execute_with(&script(number), json!({}), &[("X-Account", account)]);
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    let compiled = &compiled;
    std::thread::scope(|scope| {
        let greedy: Vec<_> = (1..=8)
            .map(|number| scope.spawn(move || compiled(number, "user greedy")))
            .collect();
        std::thread::sleep(Duration::from_millis(200));
        compiled(100, "user modest");
        let before = greedy.into_iter().filter(|call| call.is_finished()).count();
        assert!(before <= 2, "{before} of the greedy caller's came first");
    });
}

/// The nice values of a process's threads: proc_pid_stat(5), field 19.
fn priorities(pid: i32) -> Vec<i32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter();
    threads
        .flatten()
        .flatten()
        .filter_map(|thread| {
            let text = std::fs::read_to_string(thread.path().join("stat")).ok()?;
            text.rsplit_once(')')?
                .1
                .split_whitespace()
                .nth(16)?
                .parse()
                .ok()
        })
        .collect()
}

#[test]
fn an_execution_that_takes_long_gives_way_with_all_its_threads() {
    for (language, long, short) in [
        (
            PYTHON,
            "import threading, time\ndef spin():\n  while time.process_time() < 3: pass\nt = threading.Thread(target=spin)\nt.start()\nspin()\nt.join()\nresult = 1",
            "import time\ntime.sleep(3)\nresult = 1",
        ),
        (
            NODEJS,
            "const end = Date.now() + 3000; while (Date.now() < end);",
            "await new Promise(done => setTimeout(done, 3000))",
        ),
    ] {
        let supervisor = Supervisor::start(language, &[("WARM_PROCESSES", "0")]);
        std::thread::scope(|scope| {
            let run = |caller: &'static str, script: &'static str| {
                let supervisor = &supervisor;
                scope.spawn(move || {
                    let headers = [("X-Caller", caller)];
                    let answer = supervisor.execute_with(script, json!({}), &headers);
                    assert_eq!(answer.status, 200, "{}", answer.body);
                })
            };
            let (long, short) = (run("long", long), run("short", short));
            let mut seen = Vec::new();
            eventually("one of two gives way", Duration::from_secs(5), || {
                let executions = supervisor.executions();
                seen = executions.iter().map(|pid| priorities(*pid)).collect();
                let of = |nice: i32| {
                    let all =
                        |one: &&Vec<i32>| !one.is_empty() && one.iter().all(|value| *value == nice);
                    seen.iter().filter(all).count()
                };
                (of(19), of(10)) == (1, 1)
            });
            long.join().unwrap();
            short.join().unwrap();
        });
    }
}
