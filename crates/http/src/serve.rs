//! Connections: accepted, answered by the router, and ended when their time is up. Whoever sends the head of a request
//! slowly, or opens a connection and sends nothing, is cut after [`HEAD_WITHIN`]; slow bodies are `body`'s. So what a
//! slow caller holds is one connection, for a bounded time.
//!
//! A connection that waits for its next request counts the same: clients keep theirs for reuse, and open another when it
//! is closed.

use std::convert::Infallible;
use std::time::Duration;

use awooop_store::scope;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Longest time from the moment a connection can take a request until its head is there.
pub const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// Between two tries when no connection can be accepted, such as when the process has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Serves until `stop`, then takes no further connection and waits until those that are open have had their answers.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, head_within: Duration) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_within);
    let open = GracefulShutdown::new();
    loop {
        let tcp = tokio::select! {
            () = stop.cancelled() => break,
            Ok(tcp) = accept(&listener) => tcp,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = open.watch(http.serve_connection(TokioIo::new(tcp), service));
        scope::spawn_service("connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection was cut");
            }
        });
    }
    drop(listener);
    open.shutdown().await;
}

async fn accept(listener: &TcpListener) -> Result<TcpStream, Infallible> {
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => {
                // event streams would wait 40 ms for an acknowledgement otherwise
                let _ = tcp.set_nodelay(true);
                return Ok(tcp);
            }
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn server(head_within: Duration) -> (std::net::SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let router = Router::new().route("/", get(|| async { "hello" }));
        scope::spawn_service("test", serve(listener, router, stop.clone(), head_within));
        (address, stop)
    }

    /// Everything until the server closes the connection.
    async fn rest(tcp: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        let _ = tcp.read_to_end(&mut bytes).await;
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_sends_a_head_slowly_or_not_at_all_is_cut_and_others_are_answered() {
        let (address, stop) = server(Duration::from_millis(300)).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow:").await.unwrap();
        let mut quick = TcpStream::connect(address).await.unwrap();
        quick.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        // also closed once it was answered and asks nothing more
        assert!(rest(&mut quick).await.ends_with("hello"));
        assert!(!rest(&mut slow).await.contains("hello"));
        assert!(!rest(&mut silent).await.contains("hello"));
        stop.cancel();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stop_waits_for_open_answers_and_takes_nothing_new() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (asked, mut is_asked) = tokio::sync::mpsc::channel::<()>(1);
        let answer = std::sync::Arc::new(tokio::sync::Notify::new());
        let wait = answer.clone();
        let router = Router::new().route(
            "/",
            get(move || async move {
                asked.send(()).await.unwrap();
                wait.notified().await;
                "hello"
            }),
        );
        let server = scope::spawn_service("test", serve(listener, router, stop.clone(), HEAD_WITHIN));
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        is_asked.recv().await.unwrap();
        stop.cancel();
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        answer.notify_one();
        assert!(rest(&mut tcp).await.ends_with("hello"));
        server.await.unwrap();
    }
}
