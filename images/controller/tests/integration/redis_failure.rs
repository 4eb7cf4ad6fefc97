use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::support::controller::Controller;
use crate::support::redis::{Certificate, Redis};
use crate::support::runtime::Runtime;
use crate::support::{eventually, free_port};

#[tokio::test]
async fn without_redis_a_request_waits_its_time_and_then_is_unavailable() {
    let (runtime, port) = (Runtime::start().await, free_port());
    let url = format!("redis://127.0.0.1:{port}");
    let controller =
        Controller::start_with(&url, &runtime.url(), &[("REDIS_TIMEOUT_SECONDS", "1")]).await;
    let start = Instant::now();
    let answer = controller.initialize("nodejs-x", "echo").await.expect(503);
    assert_eq!(
        (answer.code().as_str(), answer.retry_after()),
        ("UNAVAILABLE", 2)
    );
    let waited = start.elapsed().as_secs_f64();
    assert!((0.9..1.5).contains(&waited), "{waited}");
    controller.get("/ready").await.expect(503);
    controller.get("/health").await.expect(200);
    // A request that waits is answered as soon as Redis is there.
    let redis = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Redis::start_with(port, &[]).await
    };
    let (answer, _redis) = tokio::join!(controller.initialize("nodejs-x", "echo"), redis);
    answer.expect(200);
    controller.get("/ready").await.expect(200);
}

#[tokio::test]
async fn a_redis_that_is_restarted_is_found_again() {
    let (mut redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    controller.session("nodejs-x", "echo").await;
    let port = redis.port;
    redis.kill();
    let restart = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Redis::start_with(port, &[]).await
    };
    let (answer, _redis) = tokio::join!(controller.initialize("nodejs-x", "echo"), restart);
    answer.expect(200);
    assert!(
        controller
            .metric("lambda_controller_redis_errors_total")
            .await
            > 0.0
    );
}

#[tokio::test]
async fn a_redis_that_does_not_answer_is_given_up_in_time() {
    // Accepts connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let runtime = Runtime::start().await;
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let controller = Controller::start_with(&url, &runtime.url(), &[]).await;
    let start = Instant::now();
    controller.initialize("nodejs-x", "echo").await.expect(503);
    assert!(start.elapsed() < Duration::from_millis(3500));
}

/// A proxy that leads new connections to one port after another, and leaves the old ones where they are: HAProxy, a
/// moment after a failover.
async fn proxy(first: u16) -> (SocketAddr, Arc<AtomicU16>) {
    let target = Arc::new(AtomicU16::new(first));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let current = target.clone();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let port = current.load(Ordering::SeqCst);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    (address, target)
}

#[tokio::test]
async fn a_demoted_master_is_left_for_the_new_one() {
    let (old, runtime) = (Redis::start().await, Runtime::start().await);
    let new = Redis::replica_of(&old).await;
    let (address, target) = proxy(old.port).await;
    let controller =
        Controller::start_with(&format!("redis://{address}"), &runtime.url(), &[]).await;
    let id = controller.session("nodejs-x", "echo").await;
    eventually(
        "the replica has the session",
        Duration::from_secs(3),
        async || {
            new.ask::<bool>(&["EXISTS", &format!("lambda:session:{id}")])
                .await
                == Some(true)
        },
    )
    .await;
    new.ask::<String>(&["REPLICAOF", "NO", "ONE"])
        .await
        .unwrap();
    old.ask::<String>(&["REPLICAOF", "127.0.0.1", &new.port.to_string()])
        .await
        .unwrap();
    let switch = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        target.store(new.port, Ordering::SeqCst);
    };
    let (answer, ()) = tokio::join!(controller.initialize("nodejs-x", "echo"), switch);
    answer.expect(200);
    controller.execute(&id, json!({})).await.expect(200);
    assert!(
        controller
            .metric("lambda_controller_redis_errors_total{kind=\"not_master\"}")
            .await
            > 0.0
    );
}

#[tokio::test]
async fn a_confirmed_session_survives_a_failover_by_sentinels() {
    let (mut master, runtime) = (Redis::start().await, Runtime::start().await);
    let replicas = [
        Redis::replica_of(&master).await,
        Redis::replica_of(&master).await,
    ];
    eventually(
        "both replicas are connected",
        Duration::from_secs(10),
        async || {
            let replication: String = master.ask(&["INFO", "replication"]).await.unwrap();
            replication.matches("state=online").count() == 2
        },
    )
    .await;
    let sentinels = [
        Redis::sentinel(&master).await,
        Redis::sentinel(&master).await,
        Redis::sentinel(&master).await,
    ];
    for sentinel in &sentinels {
        eventually(
            "the Sentinels know each other and the replicas",
            Duration::from_secs(10),
            async || {
                let others: Vec<redis::Value> = sentinel
                    .ask(&["SENTINEL", "SENTINELS", "mymaster"])
                    .await
                    .unwrap();
                let known: Vec<redis::Value> = sentinel
                    .ask(&["SENTINEL", "REPLICAS", "mymaster"])
                    .await
                    .unwrap();
                others.len() == 2 && known.len() == 2
            },
        )
        .await;
    }
    // One that is not there costs nothing.
    let list = sentinels
        .iter()
        .map(|sentinel| sentinel.port)
        .chain([free_port()]);
    let list = list
        .map(|port| format!("127.0.0.1:{port}"))
        .collect::<Vec<_>>()
        .join(",");
    let changes = [
        ("REDIS_URL", ""),
        ("REDIS_SENTINELS", list.as_str()),
        ("REDIS_CONFIRM_REPLICAS", "1"),
    ];
    let controller = Controller::start_with("", &runtime.url(), &changes).await;
    let mut confirmed = Vec::new();
    // Until so many more are confirmed; a request that is held up is the fault, not a machine with other work.
    let mut confirm = async |count: usize| {
        let (wanted, ends) = (
            confirmed.len() + count,
            Instant::now() + Duration::from_secs(40),
        );
        let mut longest = Duration::ZERO;
        while confirmed.len() < wanted {
            assert!(Instant::now() < ends, "requests go on after the failover");
            let start = Instant::now();
            let answer = controller.initialize("nodejs-x", "echo").await;
            longest = longest.max(start.elapsed());
            match answer.status.as_u16() {
                200 => confirmed.push(answer.json()["request_id"].as_str().unwrap().to_owned()),
                503 => assert_eq!(answer.code(), "UNAVAILABLE"),
                other => panic!("{other}: {answer:?}"),
            }
        }
        longest
    };
    confirm(20).await;
    master.kill();
    let longest = confirm(20).await;
    assert!(longest < Duration::from_secs(10), "{longest:?}");
    for id in &confirmed {
        controller
            .get(&format!("/api/v1/sessions/{id}"))
            .await
            .expect(200);
    }
    assert!(replicas.len() == 2);
    controller.get("/ready").await.expect(200);
}

#[tokio::test]
async fn a_session_that_no_replica_has_is_not_confirmed() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let changes = [
        ("REDIS_CONFIRM_REPLICAS", "1"),
        ("REDIS_TIMEOUT_SECONDS", "1"),
    ];
    let controller = Controller::start_with(&redis.url(), &runtime.url(), &changes).await;
    controller.initialize("nodejs-x", "echo").await.expect(503);
    let _replica = Redis::replica_of(&redis).await;
    eventually(
        "the replica takes part",
        Duration::from_secs(5),
        async || controller.initialize("nodejs-x", "echo").await.status == 200,
    )
    .await;
}

#[tokio::test]
async fn a_password_comes_from_a_file_and_is_taken_up_when_it_changes() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    // The rights that the README names, and no others.
    let acl = [
        "ACL",
        "SETUSER",
        "controller",
        "on",
        ">right",
        "resetkeys",
        "~lambda:*",
        "-@all",
    ];
    let commands = "+eval +get +set +unlink +ttl +expire +zadd +zcard +zrange +zrangebyscore +zrem +hget +hmget +hset +hdel \
                    +hincrby +time +info +wait +ping";
    let acl: Vec<_> = acl.into_iter().chain(commands.split(' ')).collect();
    redis.ask::<String>(&acl).await.unwrap();
    redis
        .ask::<String>(&["ACL", "SETUSER", "default", "off"])
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "wrong\n").unwrap();
    let changes = [
        ("REDIS_USERNAME", "controller"),
        ("REDIS_PASSWORD_FILE", file.to_str().unwrap()),
        ("REDIS_TIMEOUT_SECONDS", "1"),
    ];
    let controller = Controller::start_with(&redis.url(), &runtime.url(), &changes).await;
    controller.initialize("nodejs-x", "echo").await.expect(503);
    let message = controller.get("/ready").await.expect(503).message();
    assert!(
        message.contains("the username or the password"),
        "{message}"
    );
    assert!(
        controller
            .metric("lambda_controller_redis_errors_total{kind=\"auth\"}")
            .await
            > 0.0
    );
    fs::write(&file, "right\n").unwrap();
    eventually(
        "the new password is used",
        Duration::from_secs(3),
        async || controller.get("/ready").await.status == 200,
    )
    .await;
    controller.session("nodejs-x", "echo").await;
}

#[tokio::test]
async fn a_full_redis_is_unavailable_at_once() {
    let runtime = Runtime::start().await;
    let redis = Redis::start_with(
        free_port(),
        &["--maxmemory", "1", "--maxmemory-policy", "noeviction"],
    )
    .await;
    let controller = Controller::start(&redis, &runtime).await;
    let start = Instant::now();
    controller.initialize("nodejs-x", "echo").await.expect(503);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(
        controller
            .metric("lambda_controller_kept_refused_total{reason=\"full\"}")
            .await,
        1.0
    );
}

#[tokio::test]
async fn with_tls_a_server_is_believed_whose_authority_is_known() {
    let runtime = Runtime::start().await;
    let (certificate, other) = (Certificate::of("localhost"), Certificate::of("localhost"));
    let (_redis, port) = Redis::start_encrypted(&certificate).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    fs::copy(other.file(), &file).unwrap();
    let changes = [
        ("REDIS_CA_FILE", file.to_str().unwrap()),
        ("REDIS_TIMEOUT_SECONDS", "1"),
    ];
    let url = format!("rediss://localhost:{port}");
    let controller = Controller::start_with(&url, &runtime.url(), &changes).await;
    controller.initialize("nodejs-x", "echo").await.expect(503);
    let message = controller.get("/ready").await.expect(503).message();
    assert!(message.contains("certificate"), "{message}");
    // Both, as while authorities change: what is added is taken up without a restart.
    let both = [other.file(), certificate.file()].map(|file| fs::read_to_string(file).unwrap());
    fs::write(&file, both.concat()).unwrap();
    eventually(
        "the new authority is believed",
        Duration::from_secs(5),
        async || controller.get("/ready").await.status == 200,
    )
    .await;
    controller.session("nodejs-x", "echo").await;
}

#[tokio::test]
async fn a_name_that_is_not_in_the_certificate_is_not_believed() {
    let runtime = Runtime::start().await;
    let certificate = Certificate::of("redis.test");
    let (_redis, port) = Redis::start_encrypted(&certificate).await;
    let authority = certificate.file();
    let changes = [
        ("REDIS_CA_FILE", authority.as_str()),
        ("REDIS_TIMEOUT_SECONDS", "1"),
    ];
    let url = format!("rediss://localhost:{port}");
    let controller = Controller::start_with(&url, &runtime.url(), &changes).await;
    controller.initialize("nodejs-x", "echo").await.expect(503);
}

#[tokio::test]
async fn sentinels_and_the_master_that_they_name_by_address_are_checked_by_name() {
    let runtime = Runtime::start().await;
    let certificate = Certificate::of("redis.test");
    let (_redis, port) = Redis::start_encrypted(&certificate).await;
    let sentinel = Redis::encrypted_sentinel(port, &certificate).await;
    let (list, authority) = (format!("127.0.0.1:{}", sentinel.port), certificate.file());
    let changes = [
        ("REDIS_URL", ""),
        ("REDIS_SENTINELS", list.as_str()),
        ("REDIS_CA_FILE", authority.as_str()),
        ("REDIS_SENTINEL_TLS_NAME", "redis.test"),
    ];
    let controller = Controller::start_with("", &runtime.url(), &changes).await;
    controller.session("nodejs-x", "echo").await;
    let changes = [
        changes[0],
        changes[1],
        changes[2],
        ("REDIS_SENTINEL_TLS_NAME", "another.test"),
        ("REDIS_TIMEOUT_SECONDS", "1"),
    ];
    let controller = Controller::start_with("", &runtime.url(), &changes).await;
    controller.initialize("nodejs-x", "echo").await.expect(503);
}
