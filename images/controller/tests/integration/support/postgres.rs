//! A real PostgreSQL (Debian: postgresql) for each test, on a loopback port, with the database and the roles that the
//! platform makes; and PgBouncer (Debian: pgbouncer) in front of one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;

use super::{eventually, free_port};

pub const PASSWORD: &str = "hunter2-password";

/// What roles/data_services makes: the schema and the right to change it are migrator's alone.
const PREPARE: [&str; 6] = [
    "CREATE ROLE migrator LOGIN PASSWORD 'hunter2-password'",
    "CREATE ROLE controller LOGIN PASSWORD 'hunter2-password'",
    "CREATE DATABASE lambda",
    "\\connect lambda",
    "CREATE SCHEMA meta AUTHORIZATION migrator",
    "REVOKE ALL ON SCHEMA public FROM PUBLIC",
];

/// A prepared data directory, copied for each server: making one takes seconds.
struct Template {
    folder: TempDir,
}

static TEMPLATE: Mutex<Weak<Template>> = Mutex::new(Weak::new());

impl Template {
    fn get() -> Arc<Template> {
        let mut template = TEMPLATE.lock().unwrap();
        template.upgrade().unwrap_or_else(|| {
            let made = Arc::new(Template::make());
            *template = Arc::downgrade(&made);
            made
        })
    }

    fn make() -> Template {
        let folder = folder();
        fs::write(folder.path().join("password"), PASSWORD).unwrap();
        let data = folder.path().join("data");
        let data = data.to_str().unwrap();
        run(program("initdb")
            .args(["--pgdata", data, "--username", "postgres"])
            .args([
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "--wal-segsize=1",
                "--pwfile",
            ])
            .arg(folder.path().join("password")));
        // Single-user mode takes one statement a line and needs no server. It knows no \connect, so each database is its own run.
        let parts: Vec<_> = PREPARE.split(|line| line.starts_with('\\')).collect();
        for (database, statements) in ["postgres", "lambda"].into_iter().zip(parts) {
            let input = folder.path().join("statements");
            fs::write(&input, statements.join(";\n") + ";\n").unwrap();
            run(program("postgres")
                .args(["--single", "-F", "-D", data, database])
                .stdin(fs::File::open(&input).unwrap()));
        }
        Template { folder }
    }
}

pub struct Postgres {
    pub port: u16,
    child: Child,
    folder: TempDir,
    _template: Arc<Template>,
}

impl Postgres {
    pub async fn start() -> Self {
        Postgres::start_with(&[]).await
    }

    pub async fn start_with(settings: &[&str]) -> Self {
        let template = tokio::task::spawn_blocking(Template::get).await.unwrap();
        let folder = folder();
        run(Command::new("cp")
            .args(["--archive", "--reflink=auto"])
            .arg(template.folder.path().join("data"))
            .arg(folder.path()));
        let port = free_port();
        let mut postgres = Postgres {
            child: spawn(folder.path(), port, settings),
            port,
            folder,
            _template: template,
        };
        postgres.wait_until_up().await;
        postgres
    }

    /// One that offers TLS.
    pub async fn with_certificate(certificate: &Path, key: &Path) -> Self {
        let folder = folder();
        let copy = |from: &Path, name: &str| {
            let to = folder.path().join(name);
            fs::copy(from, &to).unwrap();
            if as_root() {
                run(Command::new("chown").arg("postgres:").arg(&to));
            }
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
            to.display().to_string()
        };
        let (certificate, key) = (copy(certificate, "crt"), copy(key, "key"));
        let certificate = format!("ssl_cert_file={certificate}");
        let key = format!("ssl_key_file={key}");
        Postgres::start_with(&["ssl=on", &certificate, &key]).await
    }

    /// One whose schema is there.
    pub async fn migrated() -> Self {
        let postgres = Postgres::start().await;
        postgres.migrate().await;
        postgres
    }

    pub async fn migrate(&self) {
        use lambda_controller::database::{maintenance, schema};
        let mut connection = self.connection("migrator").await.unwrap();
        schema::migrate(&mut connection, schema::migrations())
            .await
            .unwrap();
        maintenance::maintain(&mut connection, 90).await.unwrap();
    }

    pub fn url(&self, user: &str) -> String {
        format!(
            "postgresql://{user}:{PASSWORD}@127.0.0.1:{}/lambda?sslmode=disable",
            self.port
        )
    }

    pub async fn connection(&self, user: &str) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect(&self.url(user)).await
    }

    /// As the superuser.
    pub async fn execute(&self, statement: &str) {
        let mut connection = self.connection("postgres").await.unwrap();
        let statement = AssertSqlSafe(statement.to_owned());
        connection.execute(statement).await.unwrap();
    }

    /// The single number that `statement` gives.
    pub async fn count(&self, statement: &str) -> i64 {
        let mut connection = self.connection("postgres").await.unwrap();
        sqlx::query_scalar(AssertSqlSafe(statement.to_owned()))
            .fetch_one(&mut connection)
            .await
            .unwrap()
    }

    /// All that it has, as pg_dump writes it.
    pub fn dump(&self) -> String {
        let output = Command::new(newest_version().join("pg_dump"))
            .arg(self.url("postgres"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Every connection is cut; data stays.
    pub fn stop(&mut self) {
        let signal = Command::new("kill")
            .args(["-QUIT", &self.child.id().to_string()])
            .status();
        assert!(signal.unwrap().success());
        self.child.wait().unwrap();
    }

    pub async fn start_again(&mut self) {
        self.child = spawn(self.folder.path(), self.port, &[]);
        self.wait_until_up().await;
    }

    async fn wait_until_up(&mut self) {
        let url = self.url("postgres");
        eventually("postgres answers", Duration::from_secs(20), async || {
            assert!(
                self.child.try_wait().unwrap().is_none(),
                "postgres ended; is its port taken?"
            );
            PgConnection::connect(&url).await.is_ok()
        })
        .await;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.stop();
        }
    }
}

fn spawn(folder: &Path, port: u16, settings: &[&str]) -> Child {
    let mut command = program("postgres");
    command
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-p", &port.to_string(), "-F"])
        .args(["-c", "listen_addresses=127.0.0.1"])
        .args(["-c", "unix_socket_directories="])
        .args(["-c", "dynamic_shared_memory_type=mmap"])
        .args(["-c", "shared_buffers=4MB", "-c", "max_connections=30"]);
    for setting in settings {
        command.args(["-c", setting]);
    }
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A folder of the user that PostgreSQL's programs run as.
fn folder() -> TempDir {
    let folder = tempfile::Builder::new()
        .prefix("lambda-controller-postgres-")
        .tempdir_in("/tmp")
        .unwrap();
    if as_root() {
        run(Command::new("chown").arg("postgres:").arg(folder.path()));
    }
    folder
}

/// PostgreSQL refuses to run as root; Debian's package makes the user postgres.
fn as_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn program(name: &str) -> Command {
    let program = newest_version().join(name);
    if !as_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "--",
        ])
        .arg(program)
        .current_dir("/tmp");
    command
}

/// Debian keeps the server's programs apart from PATH, one folder a version.
fn newest_version() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("Debian's package postgresql");
    let newest = versions
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .max();
    PathBuf::from(format!(
        "/usr/lib/postgresql/{}/bin",
        newest.expect("a version of PostgreSQL")
    ))
}

fn run(command: &mut Command) {
    let output = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// PgBouncer as the platform runs it: transaction pooling, few server connections.
pub struct PgBouncer {
    port: u16,
    child: Child,
    _folder: TempDir,
}

impl PgBouncer {
    pub async fn before(postgres: &Postgres) -> Self {
        let folder = folder();
        let port = free_port();
        let settings = format!(
            "[databases]\nlambda = host=127.0.0.1 port={} dbname=lambda\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = plain\nauth_file = {folder}/users\n\
             pool_mode = transaction\ndefault_pool_size = 2\n",
            postgres.port,
            folder = folder.path().display(),
        );
        for (name, text) in [
            ("pgbouncer.ini", settings),
            ("users", format!("\"controller\" \"{PASSWORD}\"\n")),
        ] {
            let file = folder.path().join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let mut command = if as_root() {
            let mut command = Command::new("setpriv");
            command.args([
                "--reuid=postgres",
                "--regid=postgres",
                "--clear-groups",
                "--",
            ]);
            command.arg("/usr/sbin/pgbouncer");
            command
        } else {
            Command::new("/usr/sbin/pgbouncer")
        };
        let child = command
            .arg(folder.path().join("pgbouncer.ini"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's package pgbouncer");
        let bouncer = PgBouncer {
            port,
            child,
            _folder: folder,
        };
        eventually("pgbouncer answers", Duration::from_secs(5), async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_ok()
        })
        .await;
        bouncer
    }

    pub fn url(&self) -> String {
        format!(
            "postgresql://controller:{PASSWORD}@127.0.0.1:{}/lambda?sslmode=disable",
            self.port
        )
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
