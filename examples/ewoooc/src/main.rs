//! `ewoooc-shop`: serves the shop's tools over MCP on stdin and stdout.
//!
//! Stdout carries the protocol and nothing else; logs go to stderr. The end of stdin is the end of the
//! work: calls already read are answered, then it exits 0. It takes no settings: `--help` and `--version`
//! print and exit 0, any other argument exits 2.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use ewoooc_shop::{OrderBook, Shop};
use rmcp::ServiceExt;
use rmcp::service::ServerInitializeError;

const HELP: &str = "\
ewoooc-shop: an MCP server with four read-only tools over a music shop's orders.

Usage: ewoooc-shop

It speaks MCP on stdin and stdout and exits when stdin ends.

Options:
  --help     Print this text
  --version  Print the version
";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let done = match arguments.first().map(|argument| argument.to_string_lossy()).as_deref() {
        None => serve(),
        Some("--help" | "-h") => print(HELP),
        Some("--version" | "-V") => print(concat!("ewoooc-shop ", env!("CARGO_PKG_VERSION"), "\n")),
        Some(other) => {
            eprintln!("ewoooc-shop: unknown argument {other:?}; see ewoooc-shop --help");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ewoooc-shop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("stdout cannot be written")
}

#[tokio::main(flavor = "current_thread")]
async fn serve() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .init();
    let shop = Shop::new(OrderBook::embedded().context("the orders in this binary cannot be read")?);
    let running = match shop.serve(rmcp::transport::stdio()).await {
        Ok(running) => running,
        // A client that leaves before it said hello is no failure of the server.
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(error).context("the client did not initialize"),
    };
    running.waiting().await.context("the server task failed")?;
    Ok(())
}
