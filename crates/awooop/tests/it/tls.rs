//! `awooop serve` behind TLS of its own: what it starts with, how a certificate is renewed under it, what those do to
//! others who come without a handshake, and that the command line reaches it. Certificates are made with the `openssl` of
//! the host.

use std::path::{Path, PathBuf};
use std::process::Command;

use awooop_gateway::http_client::http_client_trusting;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::scripted::until;
use crate::serving::{Empty, Node, Site, install, output};

/// A certificate of this machine's names and its key.
struct Pair {
    cert: PathBuf,
    key: PathBuf,
}

impl Pair {
    fn make(directory: &Path, name: &str, days: &str) -> Pair {
        let path = |ending: &str| directory.join(format!("{name}.{ending}"));
        let pair = Pair { cert: path("crt"), key: path("key") };
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-subj", &format!("/CN={name}"), "-days", days])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        let made = openssl.arg("-keyout").arg(&pair.key).arg("-out").arg(&pair.cert).output();
        let made = made.expect("this test makes certificates with the host's openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        pair
    }

    fn options(&self) -> [&str; 4] {
        ["--tls-cert", shown(&self.cert), "--tls-key", shown(&self.key)]
    }

    /// A client that trusts nobody else's certificate of this machine.
    fn client(&self) -> reqwest::Client {
        let authorities = CertificateDer::pem_file_iter(&self.cert).unwrap().map(Result::unwrap).collect();
        http_client_trusting(authorities).unwrap()
    }
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn health(client: &reqwest::Client, url: &str) -> Result<reqwest::Response, reqwest::Error> {
    client.get(format!("{url}/healthz")).send().await
}

fn port(url: &str) -> &str {
    url.rsplit(':').next().unwrap()
}

/// A command of the command line against the server, with the first key.
async fn cli(site: &Site, url: &str, arguments: &[&str]) -> (i32, String, String) {
    let mut command = site.home.command(&["whoami", "--url", url]);
    command.args(arguments).env("AWOOOP_KEY", &site.key);
    output(command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_renewed_certificate_is_taken_over_whole_and_open_connections_go_on() {
    let empty = Empty::new().await;
    let site = install(&empty.urls()).await;
    let (live, next) =
        (Pair::make(site.home.path(), "live", "90"), Pair::make(site.home.path(), "next", "365"));
    let options = [&live.options()[..], &["--public-hosts", "agents.internal,agents.example:443"]].concat();
    let node = site.serve_with("api", "api", &options).await;
    let url = node.url();
    assert!(url.starts_with("https://"), "{url}");
    let former = live.client();
    for (host, status) in [("agents.internal", 401), ("agents.example:443", 401), ("elsewhere.example", 403)]
    {
        let asked = former.post(format!("{url}/mcp")).header("Host", host).send().await.unwrap();
        assert_eq!(asked.status().as_u16(), status, "/mcp by the name {host}");
    }
    let answer = health(&former, &url).await.unwrap();
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "ok"));

    // the two files of a renewal come one after the other
    let another_of_former = live.client();
    std::fs::copy(&next.cert, &live.cert).unwrap();
    let refused = "the changed certificate is not taken";
    until("the half of a pair is seen", async || node.log().contains(refused)).await;
    assert!(node.log().contains("E-TLS-001"), "{}", node.log());
    health(&another_of_former, &url).await.expect("the former pair goes on");
    std::fs::copy(&next.key, &live.key).unwrap();
    until("the pair is taken", async || node.log().contains("certificate was renewed")).await;
    assert_eq!(node.log().matches(refused).count(), 1, "said once: {}", node.log());
    let renewed = next.client();
    health(&renewed, &url).await.expect("a new handshake gets the new certificate");
    health(&former, &url).await.expect("a connection that was open goes on");

    let figures = renewed.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
    let ends =
        figures.lines().find_map(|line| line.strip_prefix("awooop_tls_certificate_expires_in_seconds "));
    assert!(ends.unwrap().parse::<f64>().unwrap() > 300.0 * 86_400.0, "{ends:?}");
    let well = cli(&site, &url, &["--ca-file", shown(&next.cert)]).await;
    assert_eq!(well.0, 0, "{well:?}");
    let stranger = cli(&site, &url, &[]).await;
    assert!(stranger.0 == 4 && stranger.2.contains("--ca-file"), "{stranger:?}");
    let bad = cli(&site, &url, &["--ca-file", shown(&next.key)]).await;
    assert!(bad.0 == 2 && bad.2.contains("no certificate in PEM"), "{bad:?}");
    assert!(node.log().contains("client=127.0.0.1"), "{}", node.log());
    assert!(node.stop().await.success());
    empty.drop().await;
}

/// Everything until the server closes the connection.
async fn rest(mut tcp: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = tcp.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_who_makes_no_handshake_holds_one_connection_for_a_while_and_nobody_else() {
    let empty = Empty::new().await;
    let site = install(&empty.urls()).await;
    let pair = Pair::make(site.home.path(), "live", "90");
    let options = [&pair.options()[..], &["--max-connections-per-address", "40"]].concat();
    let node = site.serve_with("api", "api", &options).await;
    let url = node.url();
    let address = format!("127.0.0.1:{}", port(&url));
    let mut stalled = Vec::new();
    for beginning in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"] {
        for _ in 0..10 {
            let mut tcp = TcpStream::connect(&address).await.unwrap();
            tcp.write_all(beginning).await.unwrap();
            stalled.push(tcp);
        }
    }
    assert_eq!(health(&pair.client(), &url).await.unwrap().status(), 200, "nobody waits for them");
    let mut plain = TcpStream::connect(&address).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    plain.shutdown().await.unwrap();
    let told = rest(plain).await;
    assert!(told.starts_with("HTTP/1.1 400") && told.contains("use https://"), "{told}");
    let mut noise = TcpStream::connect(&address).await.unwrap();
    noise.write_all(b"\x16\x03\x03\x00\x05hello").await.unwrap();
    assert!(!rest(noise).await.contains("HTTP"), "an alert, then the end");
    // each ends by itself
    for tcp in stalled {
        assert!(!rest(tcp).await.contains("HTTP/1.1 200"));
    }
    versions(&node);
    assert!(node.stop().await.success());
    empty.drop().await;
}

/// TLS 1.2 and 1.3 are spoken, nothing older, and HTTP/1.1 is what is agreed on.
fn versions(node: &Node) {
    for (version, is_spoken) in [("-tls1_1", false), ("-tls1_2", true), ("-tls1_3", true)] {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-connect", &format!("127.0.0.1:{}", port(&node.url())), version]);
        openssl.args(["-alpn", "h2,http/1.1"]).stdin(std::process::Stdio::null());
        let said = openssl.output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout);
        assert_eq!(said.contains("ALPN protocol: http/1.1"), is_spoken, "{version}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_certificate_that_cannot_be_used_is_refused_before_anything_starts() {
    let empty = Empty::new().await;
    let site = install(&empty.urls()).await;
    let make = |name: &str, days: &str| Pair::make(site.home.path(), name, days);
    let (one, other, soon) = (make("one", "90"), make("other", "90"), make("soon", "5"));
    let (cert, key) = (shown(&one.cert), shown(&one.key));
    let absent = site.home.path().join("absent");
    for (options, said) in [
        (vec!["--tls-cert", cert, "--tls-key", shown(&other.key)], "E-TLS-001: the key in"),
        (vec!["--tls-cert", cert, "--tls-key", shown(&absent)], "E-TLS-001: "),
        (vec!["--tls-cert", key, "--tls-key", key], "holds no certificate in PEM"),
        (vec!["--tls-cert", cert], "--tls-cert needs --tls-key"),
        (vec!["--tls-key", key], "--tls-key needs --tls-cert"),
        (vec!["--trusted-proxies", "10.0.0.0/8,proxy"], "`proxy` is no address"),
    ] {
        let mut command = site.command("api");
        command.args(&options);
        let refused = output(command).await;
        assert!(refused.0 != 0 && refused.2.contains(said), "expected `{said}`, got {refused:?}");
        assert!(!refused.2.contains("AwoooP serves"), "{refused:?}");
    }
    let finding = async |pair: &Pair| {
        let mut command =
            site.home.command(&["config", "check", "--json", "--offline", "--role", "api", "--keys"]);
        command.arg(&site.keys).args(pair.options());
        let checked = output(command).await;
        let document: Value = serde_json::from_str(&checked.1).unwrap();
        let found = document["findings"].as_array().unwrap().iter().find(|f| f["subject"] == "certificate");
        (checked.0, found.expect("a finding")["status"].as_str().unwrap().to_owned())
    };
    assert_eq!(finding(&one).await, (0, "ok".to_owned()));
    assert_eq!(finding(&soon).await, (0, "warning".to_owned()));
    let mixed = Pair { cert: one.cert.clone(), key: other.key.clone() };
    assert_eq!(finding(&mixed).await, (2, "invalid".to_owned()));
    let doctor = async |pair: &Pair| {
        let mut command = site.home.command(&["doctor", "--keys"]);
        command.arg(&site.keys).env("AWOOOP_TLS_CERT", &pair.cert).env("AWOOOP_TLS_KEY", &pair.key);
        output(command).await
    };
    let well = doctor(&one).await;
    assert!(well.0 == 0 && well.1.contains("ok    certificate"), "{well:?}");
    let wrong = doctor(&soon).await;
    assert!(
        wrong.0 == 1 && wrong.1.contains("WRONG certificate") && wrong.1.contains("renew it"),
        "{wrong:?}"
    );
    empty.drop().await;
}
