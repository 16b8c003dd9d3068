//! The binary `awooop`: the server's start and the command line that talks to it.
//!
//! Reads the words, runs one command, turns its end into an exit code. The commands in `commands` are
//! clients of the HTTP API and nothing more: what they can do, any program with a key can do. Ctrl-C ends
//! a client command at once with 130 and leaves a run that it waits for alone; the server's own commands
//! see to their signals themselves.

mod cli;
mod client;
mod commands;
mod failure;
mod output;
mod seclusion;
mod server;
mod settings;
mod sign_in;
mod sse;

use std::process::ExitCode;

use clap::Parser;
use cli::{AuditCommand, Cli, Command, ConfigCommand, RunsCommand};
use failure::Failure;
use serde_json::json;

fn main() -> ExitCode {
    seclusion::seclude();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("error: the runtime cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(Box::pin(dispatch(cli.command)));
    // Nothing is waited for: a thread may still sit in a read of stdin.
    runtime.shutdown_background();
    code
}

async fn dispatch(command: Command) -> ExitCode {
    let ended = match command {
        Command::Dev(args) => server::dev::run(args).await,
        Command::Serve(args) => server::serve::run(args).await,
        Command::Migrate(args) => server::migrate::run(args).await,
        Command::Backup(args) => server::backup::run(args).await,
        Command::Restore(args) => server::restore::run(args).await,
        Command::Doctor(args) => server::doctor::run(args).await,
        Command::Config(ConfigCommand::Check(args)) => server::config::run(args).await,
        Command::Init(args) => Ok(commands::init::run(&args)),
        Command::Redact(args) => Ok(commands::redact::run(&args)),
        Command::Completions(args) => Ok(commands::completions::run(&args)),
        Command::Apply(args) => Ok(commands::client(commands::apply::run, args).await),
        Command::Diff(args) => Ok(commands::client(commands::apply::diff, args).await),
        Command::Get(args) => Ok(commands::client(commands::get::run, args).await),
        Command::Describe(args) => Ok(commands::client(commands::describe::run, args).await),
        Command::Retire(args) => Ok(commands::client(commands::retire::run, args).await),
        Command::Contract(command) => Ok(commands::client(commands::contract::run, command).await),
        Command::Keys(command) => Ok(server::keys::run(command)),
        Command::Run(args) => Ok(commands::client(commands::run::run, args).await),
        Command::Runs(RunsCommand::Expire(args)) => server::retention::run_expire(args).await,
        Command::Approvals(command) => Ok(commands::client(commands::approvals::run, command).await),
        Command::Runs(command) => Ok(commands::client(commands::runs::run, command).await),
        Command::Pause(args) => Ok(commands::client(commands::halt::pause, args).await),
        Command::Resume(args) => Ok(commands::client(commands::halt::resume, args).await),
        Command::Stop(args) => Ok(commands::client(commands::halt::stop, args).await),
        Command::Start(args) => Ok(commands::client(commands::halt::start, args).await),
        Command::Halts(args) => Ok(commands::client(commands::halt::list, args).await),
        Command::Schedules(command) => Ok(commands::client(commands::schedules::run, command).await),
        Command::Project(command) => Ok(commands::client(commands::project::run, command).await),
        Command::Tools(command) => Ok(commands::client(commands::tools::run, command).await),
        Command::Key(command) => Ok(commands::client(commands::key::run, command).await),
        Command::Principals(command) => Ok(commands::client(commands::access::principals, command).await),
        Command::Roles(command) => Ok(commands::client(commands::access::roles, command).await),
        Command::Login(args) => Ok(commands::client(commands::login::login, args).await),
        Command::Logout(args) => Ok(commands::client(commands::login::logout, args).await),
        Command::Whoami(args) => Ok(commands::client(commands::whoami::run, args).await),
        Command::Audit(AuditCommand::Expire(args)) => server::audit::run_expire(args).await,
        Command::Audit(command) => Ok(commands::client(commands::audit::run, command).await),
        Command::Mcp(command) => Ok(commands::client(commands::mcp::run, command).await),
    };
    ended.unwrap_or_else(|error| {
        output::note(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

/// Help and version go to stdout and are no error; wrong usage goes to stderr, and with `--json` also as the
/// one document on stdout.
fn usage(error: &clap::Error) -> ExitCode {
    // A closed stream leaves nobody to tell.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    if std::env::args_os().any(|arg| arg == "--json") {
        let rendered = error.render().to_string();
        let detail = rendered.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        output::write_document(&json!({ "error": Failure::invalid(detail).document() }));
    }
    failure::Exit::Invalid.into()
}
