use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::controller::Controller;
use crate::support::eventually;
use crate::support::redis::Redis;
use crate::support::runtime::Runtime;

#[tokio::test]
async fn a_caller_that_goes_away_ends_its_execution() {
    let (redis, runtime) = (Redis::start().await, Runtime::start().await);
    let controller = Controller::start(&redis, &runtime).await;
    let id = controller.session("nodejs-x", "sleep 60000").await;
    let mut caller = TcpStream::connect(controller.address).await.unwrap();
    let request = format!(
        "POST /api/v1/execute/{id} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    caller.write_all(request.as_bytes()).await.unwrap();
    eventually("the execution runs", Duration::from_secs(2), async || {
        runtime.counts.started() == 1
    })
    .await;
    assert_eq!(runtime.counts.cancelled(), 0);
    drop(caller);
    eventually(
        "the execution is cancelled",
        Duration::from_secs(1),
        async || runtime.counts.cancelled() == 1,
    )
    .await;
    let cancelled =
        "lambda_controller_requests_total{route=\"execute\",method=\"POST\",status=\"cancelled\"}";
    assert_eq!(controller.metric(cancelled).await, 1.0);
    assert_eq!(
        controller
            .metric("lambda_controller_requests_in_flight ")
            .await,
        0.0
    );
    let calls = "lambda_controller_runtime_calls_total{language=\"nodejs\",outcome=\"cancelled\"}";
    assert_eq!(controller.metric(calls).await, 1.0);
    // Its places are free, and the next execution is not disturbed.
    let id = controller.session("nodejs-x", "echo").await;
    controller.execute(&id, json!({})).await.expect(200);
}
