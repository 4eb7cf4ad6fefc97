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

    /// With TLS on a port of its own, beside the plain one for the test's questions.
    pub async fn start_encrypted(certificate: &Certificate) -> (Self, u16) {
        let (port, encrypted) = (free_port(), free_port());
        let options = certificate.options(encrypted);
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        (Redis::start_with(port, &options).await, encrypted)
    }

    /// That speaks and asks with TLS alone.
    pub async fn encrypted_sentinel(master: u16, certificate: &Certificate) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let file = folder.path().join("sentinel.conf");
        let options = certificate.options(port).join(" ").replace(" --", "\n");
        let settings = format!(
            "port 0\n{}\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 {master} 1\n",
            options.trim_start_matches("--")
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

/// For one name, signed by itself: it is its own authority.
pub struct Certificate {
    folder: TempDir,
}

impl Certificate {
    pub fn of(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
            .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", &format!("/CN={name}"), "-addext"])
            .arg(format!("subjectAltName=DNS:{name}"))
            // One that may sign is no server's to rustls.
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", "key.pem", "-out", "certificate.pem"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Certificate { folder }
    }

    pub fn file(&self) -> String {
        self.at("certificate.pem")
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn options(&self, port: u16) -> Vec<String> {
        [
            ("tls-port", port.to_string()),
            ("tls-cert-file", self.file()),
            ("tls-key-file", self.at("key.pem")),
            ("tls-ca-cert-file", self.file()),
            ("tls-auth-clients", "no".to_owned()),
            ("tls-replication", "yes".to_owned()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [format!("--{name}"), value])
        .collect()
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
