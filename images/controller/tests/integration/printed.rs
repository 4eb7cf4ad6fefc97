//! What a script printed, for whom it asks.

use serde_json::json;

use crate::calls::Platform;
use crate::support::controller::JSON;

const TAIL: (&str, &str) = ("x-log-type", "tail");

#[tokio::test]
async fn what_was_printed_comes_with_the_answer_where_it_is_asked_for() {
    let platform = Platform::start().await;
    let (controller, counts) = (&platform.controller, &platform.runtime.counts);
    let sent = |name: &str| {
        let headers = counts.last_headers.lock().unwrap();
        let value = headers.get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let register = [JSON, ("x-user-id", "alice")];
    for (name, script) in [("nodejs-well", "echo"), ("nodejs-badly", "status 422 no")] {
        let (path, body) = (
            format!("/api/v1/functions/{name}"),
            json!({"script_content": script}).to_string(),
        );
        let put = controller.call("PUT", &path, &register, body.as_bytes());
        put.await.expect(201);
    }

    let well = controller.session("nodejs-mine", "echo").await;
    let late = controller.session("nodejs-mine", "status 504 late").await;
    let asked = [
        (format!("/api/v1/execute/{well}"), 200, "nodejs-mine"),
        (format!("/api/v1/execute/{late}"), 504, "nodejs-mine"),
        (
            "/api/v1/functions/nodejs-well".to_owned(),
            200,
            "alice/nodejs-well version 1",
        ),
        (
            "/api/v1/functions/alice/nodejs-badly".to_owned(),
            422,
            "alice/nodejs-badly version 1",
        ),
    ];
    for (path, status, function) in asked {
        let answer = controller.call("POST", &path, &[JSON, TAIL], b"{}").await;
        assert_eq!(answer.expect(status).json()["logs"], "printed\n", "{path}");
        assert_eq!(sent("x-function").as_deref(), Some(function));
        let answer = controller.call("POST", &path, &[JSON], b"{}").await;
        assert_eq!(answer.expect(status).json().get("logs"), None);
        assert_eq!(sent("x-log-type"), None);

        let ran = counts.started();
        let wrong = [JSON, ("x-log-type", "all")];
        let answer = controller.call("POST", &path, &wrong, b"{}").await;
        let answer = answer.expect(400);
        assert_eq!(answer.message(), "X-Log-Type must be tail; it is \"all\"");
        assert_eq!(counts.started(), ran, "nothing ran");
    }
}
