//! Connections: accepted, seated by the [`Edge`], encrypted where that is asked, answered by the router, and ended when
//! their time is up. Whoever sends the head of a request slowly, or opens a connection and sends nothing, is cut after
//! [`HEAD_WITHIN`](crate::HEAD_WITHIN); slow bodies are `body`'s. So what a slow caller holds is one connection, for a
//! bounded time.
//!
//! A connection that waits for its next request counts the same: clients keep theirs for reuse, and open another when it
//! is closed. The loop that accepts waits for nobody: a handshake, and the answer to whoever finds no seat, are made in
//! the connection's own task.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use awooop_store::scope;
use axum::Router;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::edge::{Edge, Peer, Refused};

/// Between two tries when no connection can be accepted, such as when the process has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// Longest head that is read at all, in bytes. Beyond it the answer is a bare 431; the bound with a problem document is
/// half of it (`edge/guard.rs`).
const MAX_READ_BYTES: usize = 64 * 1024;
/// Most headers that are read at all.
const MAX_READ_HEADERS: usize = 200;
/// Longest time that whoever is turned away has for all of it, from the handshake to the end of the answer.
const TURNED_AWAY_WITHIN: Duration = Duration::from_secs(5);

/// Serves until `stop`, then takes no further connection and waits until those that are open have had their answers.
pub async fn serve(listener: TcpListener, router: Router, edge: Edge, stop: CancellationToken) {
    let open = GracefulShutdown::new();
    loop {
        let (tcp, address) = tokio::select! {
            () = stop.cancelled() => break,
            Ok(accepted) = accept(&listener) => accepted,
        };
        let Some(seat) = edge.seat(address) else { continue };
        let peer = Peer { address, is_tls: edge.tls().is_some(), seat: Arc::new(seat) };
        let service = Connected { router: TowerToHyperService::new(router.clone()), peer };
        let connection = connection(tcp, service, edge.clone(), open.watcher(), stop.clone());
        scope::spawn_service(scope::Service::Connection, async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection was cut");
            }
        });
    }
    drop(listener);
    open.shutdown().await;
}

/// What carries a request to the router, with whom it came from.
struct Connected {
    router: TowerToHyperService<Router>,
    peer: Peer,
}

impl hyper::service::Service<Request<Incoming>> for Connected {
    type Response = Response;
    type Error = Infallible;
    type Future = <TowerToHyperService<Router> as hyper::service::Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.router.call(request)
    }
}

type Cut = Box<dyn std::error::Error + Send + Sync>;

/// One connection from its beginning to its end.
async fn connection(
    tcp: TcpStream,
    service: Connected,
    edge: Edge,
    watcher: Watcher,
    stop: CancellationToken,
) -> Result<(), Cut> {
    let is_turned_away = service.peer.seat.turned_away().is_some();
    let all = talk_as_agreed(tcp, service, &edge, watcher, stop);
    match is_turned_away {
        true => tokio::time::timeout(edge.head_within().min(TURNED_AWAY_WITHIN), all).await?,
        false => all.await,
    }
}

/// The handshake, where there is one, and the requests.
async fn talk_as_agreed(
    tcp: TcpStream,
    service: Connected,
    edge: &Edge,
    watcher: Watcher,
    stop: CancellationToken,
) -> Result<(), Cut> {
    let http = protocol(&service, edge);
    let Some(tls) = edge.tls() else { return talk(&http, tcp, service, watcher).await };
    let handshake = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        made = tls.accept(tcp) => made,
    };
    let stream = handshake.inspect_err(|_| edge.count(Refused::Handshake))?;
    talk(&http, stream, service, watcher).await
}

async fn talk<T>(http: &http1::Builder, stream: T, service: Connected, watcher: Watcher) -> Result<(), Cut>
where
    T: 'static,
    TokioIo<T>: Read + Write + Unpin,
{
    Ok(watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await?)
}

/// HTTP/1.1 with each of its limits.
fn protocol(service: &Connected, edge: &Edge) -> http1::Builder {
    let is_turned_away = service.peer.seat.turned_away().is_some();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(edge.head_within())
        .keep_alive(!is_turned_away)
        .half_close(false)
        .max_headers(MAX_READ_HEADERS)
        .max_header_size(MAX_READ_BYTES)
        .max_buf_size(MAX_READ_BYTES);
    http
}

async fn accept(listener: &TcpListener) -> Result<(TcpStream, IpAddr), Infallible> {
    loop {
        match listener.accept().await {
            Ok((tcp, address)) => {
                // event streams would wait 40 ms for an acknowledgement otherwise
                let _ = tcp.set_nodelay(true);
                // an IPv4 client of an IPv6 listener is who it is
                return Ok((tcp, address.ip().to_canonical()));
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
    use crate::edge::EdgeConfig;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn server(head_within: Duration) -> (std::net::SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let router = Router::new().route("/", get(|| async { "hello" }));
        let edge = Edge::new(EdgeConfig { head_within, ..EdgeConfig::default() });
        scope::spawn_service(scope::Service::Http, serve(listener, router, edge, stop.clone()));
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
    async fn who_is_turned_away_is_cut_in_time_even_while_an_answer_is_made() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (asked, mut is_asked) = tokio::sync::mpsc::channel::<()>(2);
        let never = move || async move {
            asked.send(()).await.unwrap();
            std::future::pending::<&str>().await
        };
        let router = Router::new().route("/", get(never));
        let head_within = Duration::from_millis(300);
        let edge = Edge::new(EdgeConfig { head_within, max_connections: 1, ..EdgeConfig::of_this_machine() });
        scope::spawn_service(scope::Service::Http, serve(listener, router, edge, stop.clone()));
        let ask = async || {
            let mut tcp = TcpStream::connect(address).await.unwrap();
            tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            tcp
        };
        let seated = ask().await;
        is_asked.recv().await.unwrap();
        let mut turned_away = ask().await;
        is_asked.recv().await.unwrap();
        assert_eq!(rest(&mut turned_away).await, "", "its time was up");
        let error = seated.try_read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "who has a seat waits on");
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
        let server = scope::spawn_service(
            scope::Service::Http,
            serve(listener, router, Edge::new(EdgeConfig::default()), stop.clone()),
        );
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
