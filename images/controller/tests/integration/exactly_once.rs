//! A script never runs twice, whatever happens to the connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::controller::Controller;
use crate::support::free_port;
use crate::support::redis::Redis;
use crate::support::runtime::Runtime;

/// What a runtime does with a connection once it has read a whole request, which it may have begun to execute.
#[derive(Clone, Copy, Debug)]
enum Then {
    Close,
    Reset,
    AnswerInPart,
    AnswerAndClose,
    AnswerAndCloseAtTheNextRequest,
}

struct BrittleRuntime {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

impl BrittleRuntime {
    async fn start(then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = requests.clone();
        let mut server = JoinSet::new();
        server.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(act(stream, then, counter.clone()));
            }
        });
        BrittleRuntime {
            address,
            requests,
            _server: server,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn act(mut stream: TcpStream, then: Then, requests: Arc<AtomicUsize>) {
    let body = r#"{"result": 1, "execution_time_ms": 1, "memory_usage_bytes": 1}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    read_request(&mut stream).await;
    requests.fetch_add(1, Ordering::SeqCst);
    match then {
        Then::Close => {}
        Then::Reset => stream.set_zero_linger().unwrap(),
        Then::AnswerInPart => stream
            .write_all(&answer.as_bytes()[..answer.len() - 5])
            .await
            .unwrap(),
        Then::AnswerAndClose => stream.write_all(answer.as_bytes()).await.unwrap(),
        Then::AnswerAndCloseAtTheNextRequest => {
            stream.write_all(answer.as_bytes()).await.unwrap();
            read_request(&mut stream).await;
            requests.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Until the body's last byte: the bodies here end with the script, and a `}`.
async fn read_request(stream: &mut TcpStream) {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while !text.ends_with(b"\"marker\"}") {
        match stream.read(&mut buffer).await.unwrap() {
            0 => return,
            length => text.extend_from_slice(&buffer[..length]),
        }
    }
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_left_is_not_tried_again() {
    let redis = Redis::start().await;
    for then in [Then::Close, Then::Reset, Then::AnswerInPart] {
        let runtime = BrittleRuntime::start(then).await;
        let controller = Controller::start_with(&redis.url(), &runtime.url(), &[]).await;
        let id = controller.session("python-x", "marker").await;
        let answer = controller.execute(&id, json!({})).await.expect(500);
        assert_eq!(answer.code(), "INTERNAL_ERROR");
        assert!(
            answer
                .message()
                .contains("may have run and is not run again"),
            "{answer:?}"
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(runtime.requests(), 1, "{then:?}");
        assert_eq!(
            controller
                .metric("lambda_controller_runtime_retries_total{language=\"python\"}")
                .await,
            0.0
        );
    }
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced_without_a_failure() {
    let redis = Redis::start().await;
    let runtime = BrittleRuntime::start(Then::AnswerAndClose).await;
    let controller = Controller::start_with(
        &redis.url(),
        &runtime.url(),
        &[("RUNTIME_MAX_RETRIES", "0")],
    )
    .await;
    let id = controller.session("python-x", "marker").await;
    for executions in 1..=30 {
        controller.execute(&id, json!({})).await.expect(200);
        // Long enough for the end of the connection to arrive here before the next request leaves.
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(runtime.requests(), executions);
    }
}

#[tokio::test]
async fn a_kept_connection_that_closes_on_the_request_is_not_tried_again() {
    let redis = Redis::start().await;
    let runtime = BrittleRuntime::start(Then::AnswerAndCloseAtTheNextRequest).await;
    let controller = Controller::start_with(&redis.url(), &runtime.url(), &[]).await;
    let id = controller.session("python-x", "marker").await;
    controller.execute(&id, json!({})).await.expect(200);
    controller.execute(&id, json!({})).await.expect(500);
    assert_eq!(runtime.requests(), 2, "the second request was read once");
}

#[tokio::test]
async fn a_refused_connection_is_tried_again_as_often_as_configured() {
    let (redis, nobody) = (
        Redis::start().await,
        format!("http://127.0.0.1:{}", free_port()),
    );
    for retries in ["0", "3"] {
        let controller =
            Controller::start_with(&redis.url(), &nobody, &[("RUNTIME_MAX_RETRIES", retries)])
                .await;
        let id = controller.session("rust-x", "echo").await;
        let answer = controller.execute(&id, json!({})).await.expect(503);
        assert_eq!(
            (answer.code().as_str(), answer.retry_after()),
            ("UNAVAILABLE", 2)
        );
        assert!(answer.message().contains("did not run"));
        let counted = controller
            .metric("lambda_controller_runtime_retries_total{language=\"rust\"}")
            .await;
        assert_eq!(counted.to_string(), retries);
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_unavailable() {
    let redis = Redis::start().await;
    let controller =
        Controller::start_with(&redis.url(), "http://no-such-name.invalid:8080", &[]).await;
    let id = controller.session("rust-x", "echo").await;
    controller.execute(&id, json!({})).await.expect(503);
    assert_eq!(
        controller
            .metric("lambda_controller_runtime_retries_total{language=\"rust\"}")
            .await,
        3.0
    );
}

#[tokio::test]
async fn a_runtime_that_comes_up_between_the_retries_executes_once() {
    let (redis, port) = (Redis::start().await, free_port());
    let url = format!("http://127.0.0.1:{port}");
    let controller = Controller::start_with(&redis.url(), &url, &[]).await;
    let id = controller.session("nodejs-x", "echo").await;
    let runtime = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Runtime::start_on(TcpListener::bind(("127.0.0.1", port)).await.unwrap())
    };
    let (answer, runtime) = tokio::join!(controller.execute(&id, json!({})), runtime);
    answer.expect(200);
    assert_eq!(runtime.counts.started(), 1);
}

#[tokio::test]
async fn connections_are_kept_and_end_after_a_while() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    let id = controller.session("nodejs-x", "echo").await;
    let opened =
        "lambda_controller_runtime_connections_total{language=\"nodejs\",event=\"opened\"}";
    for _ in 0..20 {
        controller.execute(&id, json!({})).await.expect(200);
    }
    assert_eq!(controller.metric(opened).await, 1.0);
    tokio::time::sleep(Duration::from_millis(4200)).await;
    controller.execute(&id, json!({})).await.expect(200);
    assert_eq!(
        controller.metric(opened).await,
        2.0,
        "an idle connection ends before a runtime can close it"
    );
}
