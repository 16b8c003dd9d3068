//! Measures AwoooP beside a peer on this machine: `awooop-bench`, which `bench/run` builds and calls.
//!
//! Every round floods the server with runs of one project, then of sixteen, trickles runs in, and lets the
//! peer do the like, so that both see the same weather. Printed are all rounds, their best and the ratios;
//! other processes' use of the cores stands beside each figure. Everything lies in temporary directories
//! and sockets, is bounded, and ends with this process, also on Ctrl-C. Exit codes: 0 measured, 1 failed,
//! 2 wrong usage, 130 interrupted. `awooop-bench schema` measures the validation of outputs instead,
//! `awooop-bench contracts` how long it takes to put 1,000 contracts into force, `awooop-bench audit` what writing,
//! sealing and checking audit events costs, `awooop-bench engine FILE` the engine alone beside queues, into a report,
//! `awooop-bench redact` how fast the redactor reads a text, `awooop-bench tenancy PROJECTS` what separating projects costs.
#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]

mod audit;
mod contracts;
mod cpu;
mod disk;
mod engine;
mod load;
mod memory;
mod peer;
mod profile;
mod redact;
mod report;
mod schema;
mod site;
mod stats;
mod tenancy;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use awooop_journeys::client::Api;
use awooop_journeys::cluster::Cluster;
use tokio::signal::unix::{SignalKind, signal};

use engine::Sizes;
use profile::Profile;
use report::{OurFlood, OurTrickle, Report};
use site::Site;
use stats::Options;

/// How many projects the second flood is spread over.
const PROJECTS: usize = 16;
/// Runs before anything is measured: connections, caches, statistics.
const WARM_UP: usize = 400;

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["schema"] => return ended(schema::measure()),
        ["contracts"] => return ended(contracts::measure().await),
        ["engine", file, ref rest @ ..] => return engine(file, rest).await,
        ["audit"] => return ended(audit::measure().await),
        ["tenancy", projects] => {
            let Ok(projects) = projects.parse() else { return wrong("how many idle projects?") };
            return unless_interrupted(tenancy::measure(projects)).await;
        }
        ["redact", file, seconds] => return ended(redact::measure(file, seconds)),
        ["redact-spans"] => return ended(redact::spans()),
        _ => {}
    }
    let options = match Options::parse(words) {
        Ok(options) => options,
        Err(error) => return wrong(&error),
    };
    unless_interrupted(measure(&options)).await
}

fn wrong(error: &str) -> ExitCode {
    eprintln!(
        "awooop-bench: {error}\nusage: awooop-bench [--runs N] [--callers N] [--rounds N] [--rate N] \
         [--seconds N] [--profile]\n       awooop-bench schema|contracts|audit|redact FILE SECONDS|redact-spans\n       \
         awooop-bench tenancy PROJECTS\n       \
         awooop-bench engine FILE [--quick] [--rounds N] [--queued N] [--only PEER,…]"
    );
    ExitCode::from(2)
}

async fn engine(file: &str, arguments: &[&str]) -> ExitCode {
    match Sizes::parse(arguments) {
        Ok(sizes) => unless_interrupted(engine::measure(Path::new(file), &sizes)).await,
        Err(error) => wrong(&error),
    }
}

/// Ends a measurement and all it started on a signal.
async fn unless_interrupted(measuring: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else {
        eprintln!("awooop-bench: signals cannot be caught");
        return ExitCode::FAILURE;
    };
    tokio::select! {
        measured = measuring => ended(measured),
        _ = interrupt.recv() => ExitCode::from(130),
        _ = terminate.recv() => ExitCode::from(130),
    }
}

fn ended(measured: anyhow::Result<()>) -> ExitCode {
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("awooop-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> anyhow::Result<()> {
    let peer = match std::env::var_os(peer::VARIABLE) {
        Some(_) => Some(Cluster::start().await.context("the peer's cluster")?),
        None => None,
    };
    let mut site = Site::start().await?;
    let mut projects = Vec::new();
    for n in 1..=PROJECTS {
        projects.push(site.make_project(&format!("measured-{n}")).await?);
    }
    report::print_machine(&site.facts().await?, options, peer.is_some());
    load::flood(&projects, WARM_UP, options.callers).await.context("warming up")?;
    let mut report = Report::default();
    for round in 1..=options.rounds {
        report::print_round(round, options)?;
        let one = flood(&mut site, &projects[..1], options).await.context("a flood in one project")?;
        report.add_flood("1 project", one);
        let many = flood(&mut site, &projects, options).await.context("a flood in all projects")?;
        report.add_flood("16 projects", many);
        report.add_trickle(trickle(&mut site, &projects[0], options).await.context("a trickle")?);
        if let Some(cluster) = &peer {
            report.add_peer(peer::measure(cluster, options).await.context("the peer")?);
        }
    }
    report.print_summary(options);
    Ok(())
}

async fn flood(site: &mut Site, projects: &[Api], options: &Options) -> anyhow::Result<OurFlood> {
    let profile = match options.is_profiled {
        true => Some(Profile::start(site.connect().await?)),
        false => None,
    };
    let before = site.read().await?;
    let flood = load::flood(projects, options.runs, options.callers).await?;
    let spent = before.until(&site.read().await?, options.runs);
    if let Some(profile) = profile {
        for line in profile.lines().await? {
            println!("    {line}");
        }
    }
    Ok(OurFlood { runs: options.runs, flood, spent })
}

async fn trickle(site: &mut Site, project: &Api, options: &Options) -> anyhow::Result<OurTrickle> {
    let before = site.read().await?;
    let trickle = load::trickle(project, options).await?;
    let runs = trickle.sent_to_start.len();
    let spent = before.until(&site.read().await?, runs);
    Ok(OurTrickle { trickle, spent })
}
