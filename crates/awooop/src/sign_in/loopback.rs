//! The port of this machine that the browser is sent back to. It answers one path, tells the person to go back to
//! their terminal, and takes nothing that does not bear the state of this sign-in: any page of a browser can send
//! requests here.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// Largest head of a request.
const MOST_BYTES: usize = 16 * 1024;
/// How long a connection may take to say what it wants: browsers open some without a word.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at a time.
const MOST_CONNECTIONS: usize = 32;

const DONE: &str = "You are signed in. Close this window and go back to your terminal.";
const FAILED: &str = "You are not signed in. Your terminal says why.";

/// What the browser brought back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Returned {
    /// A code, and who says to have given it.
    Code { code: String, issuer: Option<String> },
    /// The issuer's refusal, in its own words.
    Refused(String),
}

/// A port that waits for the browser.
pub(super) struct Loopback {
    listener: TcpListener,
    redirect_uri: String,
}

impl Loopback {
    /// Listens on a free port.
    pub(super) async fn open() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let redirect_uri = format!("http://127.0.0.1:{}/callback", listener.local_addr()?.port());
        Ok(Self { listener, redirect_uri })
    }

    /// Where the issuer is to send the browser.
    pub(super) fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    /// Waits for the browser of this sign-in; whatever else comes is turned away.
    pub(super) async fn wait(&self, state: &str) -> std::io::Result<Returned> {
        let mut open = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if open.len() < MOST_CONNECTIONS => {
                    let (stream, _) = accepted?;
                    open.push(tokio::time::timeout(PATIENCE, serve(stream, state)));
                }
                Some(served) = open.next(), if !open.is_empty() => {
                    if let Ok(Ok(Some(returned))) = served {
                        return Ok(returned);
                    }
                }
            }
        }
    }
}

async fn serve(mut stream: TcpStream, state: &str) -> std::io::Result<Option<Returned>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        if head.len() > MOST_BYTES || stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    let returned = read(&String::from_utf8_lossy(&head), state);
    let (status, text) = match &returned {
        Some(Returned::Code { .. }) => ("200 OK", DONE),
        Some(Returned::Refused(_)) => ("200 OK", FAILED),
        None => ("404 Not Found", "There is nothing here."),
    };
    let page = format!("<!doctype html><meta charset=\"utf-8\"><title>AwoooP</title><p>{text}</p>\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n{page}",
        page.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(returned)
}

/// What a request's head brings, if it is the one that is waited for.
fn read(head: &str, state: &str) -> Option<Returned> {
    let mut words = head.lines().next()?.split(' ');
    let (Some("GET"), Some(target)) = (words.next(), words.next()) else { return None };
    let url = Url::parse("http://127.0.0.1").ok()?.join(target).ok()?;
    if url.path() != "/callback" {
        return None;
    }
    let one = |name: &str| {
        let mut values = url.query_pairs().filter(|(n, _)| n == name).map(|(_, value)| value.into_owned());
        values.next().filter(|_| values.next().is_none())
    };
    if one("state").as_deref() != Some(state) {
        return None;
    }
    if let Some(error) = one("error") {
        return Some(Returned::Refused(one("error_description").unwrap_or(error)));
    }
    Some(Returned::Code { code: one("code")?, issuer: one("iss") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_callback_with_the_state_of_this_sign_in_is_taken() {
        let get = |target: &str| read(&format!("GET {target} HTTP/1.1\r\n\r\n"), "s1");
        let code = Returned::Code { code: "c".to_owned(), issuer: None };
        assert_eq!(get("/callback?code=c&state=s1"), Some(code));
        let issuer = Some("https://id.example".to_owned());
        let with_issuer = Returned::Code { code: "c".to_owned(), issuer };
        assert_eq!(get("/callback?code=c&state=s1&iss=https%3A%2F%2Fid.example"), Some(with_issuer));
        assert_eq!(
            get("/callback?error=access_denied&state=s1"),
            Some(Returned::Refused("access_denied".into()))
        );
        for stray in [
            "/callback?code=c&state=s2",
            "/callback?code=c",
            "/callback?code=c&state=s1&state=s2",
            "/callback?code=c&code=d&state=s1",
            "/callback?error=access_denied",
            "/callback/?code=c&state=s1",
            "/favicon.ico",
            "/?code=c&state=s1",
        ] {
            assert_eq!(get(stray), None, "{stray}");
        }
        assert_eq!(read("POST /callback?code=c&state=s1 HTTP/1.1\r\n\r\n", "s1"), None);
        assert_eq!(read("", "s1"), None);
    }
}
