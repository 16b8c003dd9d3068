//! A TCP proxy in front of PostgreSQL that sees the frontend's messages, counts the COMMITs of
//! transactions that wrote something, and can stop the world at the k-th of them.
//!
//! It can also cut every connection at once, at no point in particular ([`PgProxy::cut`]).
//!
//! Stopping means calling back, once, at one of two points: before the COMMIT is forwarded (it never
//! happens), or after the server has answered it and before the client learns of it (it has happened, and
//! nobody knows). The callback kills the client's process; afterwards that connection is closed.
//!
//! It reads the protocol only as far as it must: message frames, the text of `Parse`, the statement named
//! by `Bind`, simple queries, and `CommandComplete`. TLS is declined, so a client must not insist on it.
//! Fails by closing the connection.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::config::Host;

use crate::cluster::{ClusterUrls, conninfo};

const SSL_REQUEST: i32 = 80_877_103;
const GSS_REQUEST: i32 = 80_877_104;
/// No frontend message of ours is larger.
const MAX_FRAME_BYTES: usize = 256 * 1024 * 1024;

/// When to call back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The statement, BEGIN, COMMIT and ROLLBACK among them, was not forwarded and never will be. Statements
    /// are counted, not COMMITs.
    BeforeStatement,
    /// The COMMIT was not forwarded and never will be.
    BeforeForwarding,
    /// The server has done the COMMIT; the client has not been told.
    AfterAnswer,
}

type Callback = Box<dyn FnOnce() + Send>;

struct Trap {
    at: u64,
    point: Point,
    callback: Callback,
}

#[derive(Default)]
struct Counter {
    commits: u64,
    statements: u64,
    trap: Option<Trap>,
}

type Shared = Arc<Mutex<Counter>>;

/// A running proxy. Dropping it closes its port and its connections.
pub struct PgProxy {
    port: u16,
    counter: Shared,
    cuts: watch::Sender<u64>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone)]
enum Upstream {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl PgProxy {
    /// Listens on a free port of 127.0.0.1 in front of the server that `url` names.
    #[expect(clippy::disallowed_methods, reason = "test support: the proxy's tasks belong to no project")]
    pub async fn start(url: &str) -> anyhow::Result<PgProxy> {
        let config: tokio_postgres::Config = url.parse().context("a connection string does not parse")?;
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let upstream = match config.get_hosts().first() {
            Some(Host::Tcp(name)) => Upstream::Tcp(name.clone(), port),
            Some(Host::Unix(path)) => Upstream::Unix(path.join(format!(".s.PGSQL.{port}"))),
            None => anyhow::bail!("the connection string names no host"),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let counter = Shared::default();
        let cuts = watch::Sender::new(0);
        let task = tokio::spawn(accept(listener, upstream, counter.clone(), cuts.subscribe()));
        Ok(PgProxy { port, counter, cuts, task })
    }

    /// The connection strings with this proxy in the server's place.
    pub fn urls(&self, urls: &ClusterUrls) -> ClusterUrls {
        let through = |text: &String| {
            let old: tokio_postgres::Config = text.parse().expect("connection strings were checked");
            let mut new = tokio_postgres::Config::new();
            new.host("127.0.0.1").port(self.port);
            new.user(old.get_user().unwrap_or_default());
            new.password(old.get_password().unwrap_or_default());
            new.dbname(old.get_dbname().unwrap_or_default());
            conninfo(&new)
        };
        ClusterUrls {
            admin: through(&urls.admin),
            owner: through(&urls.owner),
            app: through(&urls.app),
            dispatch: through(&urls.dispatch),
            retention: through(&urls.retention),
            backup: through(&urls.backup),
        }
    }

    /// Begins to count anew, and calls back at the `at`-th COMMIT of a transaction that wrote, or the `at`-th
    /// statement of any (from 1).
    pub fn stop_at(&self, at: u64, point: Point, callback: impl FnOnce() + Send + 'static) {
        let trap = Trap { at, point, callback: Box::new(callback) };
        *self.counter.lock().unwrap_or_else(PoisonError::into_inner) =
            Counter { trap: Some(trap), ..Counter::default() };
    }

    /// Takes the trap away; returns whether it was still there, which means that it never went off.
    pub fn disarm(&self) -> bool {
        self.counter.lock().unwrap_or_else(PoisonError::into_inner).trap.take().is_some()
    }

    /// Cuts every connection there is; new ones are served.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// COMMITs of writing transactions since the last [`PgProxy::stop_at`].
    pub fn commits(&self) -> u64 {
        self.counter.lock().unwrap_or_else(PoisonError::into_inner).commits
    }
}

impl Drop for PgProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, upstream: Upstream, counter: Shared, cuts: watch::Receiver<u64>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let (upstream, counter, mut cuts) = (upstream.clone(), counter.clone(), cuts.clone());
                cuts.mark_unchanged();
                connections.spawn(async move {
                    tokio::select! {
                        // a broken connection is the client's to notice
                        _ = serve(client, &upstream, counter) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(client: TcpStream, upstream: &Upstream, counter: Shared) -> io::Result<()> {
    client.set_nodelay(true)?;
    match upstream {
        Upstream::Tcp(host, port) => {
            let server = TcpStream::connect((host.as_str(), *port)).await?;
            server.set_nodelay(true)?;
            let (from, to) = server.into_split();
            pump(client, from, to, counter).await
        }
        Upstream::Unix(path) => {
            let (from, to) = UnixStream::connect(path).await?.into_split();
            pump(client, from, to, counter).await
        }
    }
}

async fn pump<R, W>(client: TcpStream, from_server: R, to_server: W, counter: Shared) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = client.into_split();
    let mut to_server = to_server;
    if !start_up(&mut from_client, &mut to_client, &mut to_server).await? {
        return Ok(());
    }
    let awaits_answer = AtomicBool::new(false);
    // whichever direction ends first ends the connection
    tokio::select! {
        done = forward(from_client, to_server, &counter, &awaits_answer) => done,
        done = backward(from_server, to_client, &counter, &awaits_answer) => done,
    }
}

/// Passes the startup message on, after declining encryption. False when the client asked to cancel.
async fn start_up(
    from: &mut (impl AsyncRead + Unpin),
    back: &mut (impl AsyncWrite + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<bool> {
    loop {
        let length = from.read_i32().await?;
        let body = body(from, length).await?;
        match body.first_chunk::<4>().map(|code| i32::from_be_bytes(*code)) {
            Some(SSL_REQUEST | GSS_REQUEST) => back.write_all(b"N").await?,
            Some(_) => {
                to.write_all(&length.to_be_bytes()).await?;
                to.write_all(&body).await?;
                return Ok(true);
            }
            None => return Ok(false),
        }
    }
}

async fn body(from: &mut (impl AsyncRead + Unpin), length: i32) -> io::Result<Vec<u8>> {
    let size = usize::try_from(length).ok().and_then(|n| n.checked_sub(4));
    let size = size.filter(|&n| n <= MAX_FRAME_BYTES).ok_or(io::ErrorKind::InvalidData)?;
    let mut body = vec![0; size];
    from.read_exact(&mut body).await?;
    Ok(body)
}

async fn frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let tag = from.read_u8().await?;
    let length = from.read_i32().await?;
    Ok((tag, body(from, length).await?))
}

async fn write_frame(to: &mut (impl AsyncWrite + Unpin), tag: u8, body: &[u8]) -> io::Result<()> {
    let length = i32::try_from(body.len() + 4).map_err(|_| io::ErrorKind::InvalidData)?;
    to.write_u8(tag).await?;
    to.write_i32(length).await?;
    to.write_all(body).await
}

/// What one connection's statements do, as far as a COMMIT's meaning depends on it.
#[derive(Default)]
struct Statements {
    writing: HashSet<Vec<u8>>,
    has_written: bool,
}

impl Statements {
    /// Takes note of a frontend message; true for the COMMIT of a transaction that wrote.
    fn note(&mut self, tag: u8, body: &[u8]) -> bool {
        match tag {
            b'P' => {
                let (name, rest) = c_string(body);
                let (sql, _) = c_string(rest);
                self.writing.remove(name);
                if writes(sql) {
                    self.writing.insert(name.to_vec());
                }
            }
            b'B' => {
                let (_portal, rest) = c_string(body);
                let (name, _) = c_string(rest);
                self.has_written |= self.writing.contains(name);
            }
            b'Q' => {
                let (sql, _) = c_string(body);
                if sql.trim_ascii().eq_ignore_ascii_case(b"COMMIT") {
                    return std::mem::take(&mut self.has_written);
                }
                if sql.trim_ascii().eq_ignore_ascii_case(b"ROLLBACK") {
                    self.has_written = false;
                }
                self.has_written |= writes(sql);
            }
            _ => {}
        }
        false
    }
}

fn c_string(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

fn writes(sql: &[u8]) -> bool {
    let sql = String::from_utf8_lossy(sql);
    let mut words = sql.split(|c: char| !c.is_ascii_alphabetic());
    words.any(|word| ["INSERT", "UPDATE", "DELETE"].contains(&word))
}

/// Counts a statement, and whether it is the COMMIT of a transaction that wrote. Gives the callback when this
/// is the one to stop at before forwarding; tells by the flag that the answer is to be awaited.
fn count(counter: &Shared, awaits_answer: &AtomicBool, is_commit: bool) -> Option<Callback> {
    let mut counter = counter.lock().unwrap_or_else(PoisonError::into_inner);
    counter.statements += 1;
    counter.commits += u64::from(is_commit);
    let (statements, commits) = (counter.statements, counter.commits);
    let is_here = |trap: &mut Trap| match trap.point {
        Point::BeforeStatement => trap.at == statements,
        Point::BeforeForwarding | Point::AfterAnswer => is_commit && trap.at == commits,
    };
    let trap = counter.trap.take_if(is_here)?;
    match trap.point {
        Point::BeforeStatement | Point::BeforeForwarding => Some(trap.callback),
        Point::AfterAnswer => {
            counter.trap = Some(trap);
            awaits_answer.store(true, Ordering::SeqCst);
            None
        }
    }
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    counter: &Shared,
    awaits_answer: &AtomicBool,
) -> io::Result<()> {
    let mut from = tokio::io::BufReader::new(&mut from);
    let mut statements = Statements::default();
    loop {
        let (tag, body) = frame(&mut from).await?;
        let is_commit = statements.note(tag, &body);
        if matches!(tag, b'B' | b'Q')
            && let Some(callback) = count(counter, awaits_answer, is_commit)
        {
            callback();
            return Ok(());
        }
        write_frame(&mut to, tag, &body).await?;
        if from.buffer().is_empty() {
            to.flush().await?;
        }
    }
}

async fn backward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    counter: &Shared,
    awaits_answer: &AtomicBool,
) -> io::Result<()> {
    let mut from = tokio::io::BufReader::new(&mut from);
    loop {
        let (tag, body) = frame(&mut from).await?;
        let is_end = tag == b'C' && (body.starts_with(b"COMMIT") || body.starts_with(b"ROLLBACK"));
        if is_end && awaits_answer.load(Ordering::SeqCst) {
            let trap = counter.lock().unwrap_or_else(PoisonError::into_inner).trap.take();
            if let Some(trap) = trap {
                (trap.callback)();
            }
            return Ok(());
        }
        write_frame(&mut to, tag, &body).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;
    use crate::db::connect;

    #[test]
    fn only_transactions_that_wrote_are_counted() {
        let mut seen = Statements::default();
        assert!(!seen.note(b'Q', b"BEGIN\0"));
        seen.note(b'P', b"s0\0SELECT 1\0\0\0");
        seen.note(b'P', b"s1\0WITH x AS (DELETE FROM t) SELECT 1\0\0\0");
        seen.note(b'B', b"\0s0\0\0\0");
        assert!(!seen.note(b'Q', b"COMMIT\0"), "it only read");
        seen.note(b'B', b"\0s1\0\0\0");
        assert!(seen.note(b'Q', b"COMMIT\0"));
        assert!(!seen.note(b'Q', b"COMMIT\0"), "the next transaction wrote nothing");
        seen.note(b'B', b"\0s1\0\0\0");
        seen.note(b'Q', b"ROLLBACK\0");
        assert!(!seen.note(b'Q', b"COMMIT\0"));
        seen.note(b'B', b"");
        seen.note(b'Q', b"");
    }

    /// Writes one row through a proxy that stops at its COMMIT; is the row there afterwards?
    async fn is_written_when_stopped(point: Point) -> bool {
        let cluster = Cluster::get().await.unwrap();
        let urls = cluster.urls().in_database("postgres");
        let direct = connect(&urls.admin).await.unwrap();
        let table = format!("public.commits_{:016x}", rand::random::<u64>());
        direct.batch_execute(&format!("CREATE TABLE {table} (n int)")).await.unwrap();
        let proxy = PgProxy::start(&urls.admin).await.unwrap();
        let client = connect(&proxy.urls(&urls).admin).await.unwrap();
        let (told, heard) = tokio::sync::oneshot::channel();
        proxy.stop_at(2, point, move || told.send(()).expect("the test listens"));
        let insert = client.prepare(&format!("INSERT INTO {table} VALUES (1)")).await.unwrap();
        for attempt in 1..=2 {
            client.batch_execute("BEGIN").await.unwrap();
            client.execute(&insert, &[]).await.unwrap();
            let committed = client.batch_execute("COMMIT").await;
            assert_eq!(committed.is_ok(), attempt == 1, "{committed:?}");
        }
        heard.await.expect("the callback was called");
        assert!(!proxy.disarm(), "it went off");
        assert_eq!(proxy.commits(), 2);
        // the server notices a cut connection on its own time: a lock waits for that
        let sql = format!("BEGIN; LOCK TABLE {table}; COMMIT");
        direct.batch_execute(&sql).await.unwrap();
        let rows: i64 = direct.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0);
        direct.batch_execute(&format!("DROP TABLE {table}")).await.unwrap();
        rows == 2
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_a_commit_stopped_before_it_is_forwarded_never_happens() {
        assert!(!is_written_when_stopped(Point::BeforeForwarding).await);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_a_commit_stopped_after_its_answer_has_happened() {
        assert!(is_written_when_stopped(Point::AfterAnswer).await);
    }
}
