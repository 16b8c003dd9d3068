//! `./x demo`: the main job, end to end, with the real program and real orders. It starts a server in a
//! temporary directory, applies the example shop, asks its agent, shows that another project sees nothing
//! of it, and kills the server in the middle of a run.
//!
//! Everything shown is what happened: the times are measured, the figures are the server's. Whatever ends
//! the demo (its end, an error, Ctrl-C) stops the server and removes the directory. Exit code 1 says that
//! something was not as it should be, 3 that PostgreSQL is missing.
#![expect(clippy::print_stdout, reason = "the demo's output is its purpose")]

mod acts;
mod brain;
mod show;

use std::process::ExitCode;

use awooop_journeys::server::Home;
use awooop_store::embedded::find_postgres;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let bin = std::env::var_os("AWOOOP_PG_BIN").map(std::path::PathBuf::from);
    if let Err(missing) = find_postgres(bin.as_deref()) {
        eprintln!("demo: {missing}");
        return ExitCode::from(3);
    }
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else {
        eprintln!("demo: signals cannot be caught");
        return ExitCode::FAILURE;
    };
    // whichever comes first: what the others hold (server, directory) is dropped, and so stopped and removed
    let result = tokio::select! {
        result = play() => result,
        _ = interrupt.recv() => return stopped(130),
        _ = terminate.recv() => return stopped(143),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn stopped(code: u8) -> ExitCode {
    eprintln!("\ndemo: stopped; the server was stopped and its directory removed");
    ExitCode::from(code)
}

async fn play() -> anyhow::Result<()> {
    let began = std::time::Instant::now();
    // the demo's own server and database, whatever the environment names
    let home = Home::new()?;
    println!("AwoooP demo: a shop, its agent, its 6,919 real orders");
    let server = acts::start(&home).await?;
    let brain = brain::Brain::from_environment();
    acts::apply(&home, &brain).await?;
    let run_id = acts::ask(&home).await?;
    acts::keep_out(&server, &run_id).await?;
    let server = acts::kill_and_resume(&home, server).await?;
    acts::end(&home, server).await?;
    println!("\nEverything above took {:.1} s. Nothing was left running.", began.elapsed().as_secs_f64());
    show::next();
    Ok(())
}
