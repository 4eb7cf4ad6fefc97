//! Real Redis servers and Sentinels on loopback ports.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{eventually, free_port};

pub struct Redis {
    pub port: u16,
    child: Child,
    _folder: TempDir,
}

impl Redis {
    pub async fn start() -> Self {
        Redis::start_with(free_port(), &[]).await
    }

    pub async fn start_with(port: u16, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let arguments = [
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--repl-diskless-sync-delay",
            "0",
            "--repl-ping-replica-period",
            "1",
        ];
        let child = spawn(
            &folder,
            arguments.iter().copied().chain(options.iter().copied()),
        );
        let mut redis = Redis {
            port,
            child,
            _folder: folder,
        };
        redis.wait_until_up().await;
        redis
    }

    pub async fn replica_of(master: &Redis) -> Self {
        let port = master.port.to_string();
        Redis::start_with(free_port(), &["--replicaof", "127.0.0.1", &port]).await
    }

    pub async fn sentinel(master: &Redis) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let file = folder.path().join("sentinel.conf");
        let settings = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 3000\n",
            master.port
        );
        fs::write(&file, settings).unwrap();
        let child = spawn(&folder, [file.to_str().unwrap(), "--sentinel"]);
        let mut sentinel = Redis {
            port,
            child,
            _folder: folder,
        };
        sentinel.wait_until_up().await;
        sentinel
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// One command; `None` if the server is not there.
    pub async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> Option<T> {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        let mut asked = redis::cmd(command[0]);
        asked.arg(&command[1..]);
        asked.query_async(&mut connection).await.ok()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn wait_until_up(&mut self) {
        let port = self.port;
        eventually(
            &format!("redis-server answers on port {port}"),
            Duration::from_secs(5),
            async || {
                assert!(
                    self.child.try_wait().unwrap().is_none(),
                    "redis-server ended; is port {port} taken?"
                );
                tokio::net::TcpStream::connect(("127.0.0.1", port))
                    .await
                    .is_ok()
            },
        )
        .await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn<'a>(folder: &TempDir, arguments: impl IntoIterator<Item = &'a str>) -> Child {
    Command::new("redis-server")
        .args(arguments)
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("redis-server does not start ({error}); on Debian: apt-get install redis-server")
        })
}
