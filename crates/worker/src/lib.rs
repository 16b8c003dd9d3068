//! Whatever happens without a caller: heartbeat, claimer, runtime, reaper. Talks to the HTTP room only
//! through rows.
//!
//! Architecture Invariant: a worker does nothing for a run it does not hold. It fences itself when its own
//! beats are no longer acknowledged, before anybody else may take its runs.

mod claimer;
mod config;
mod heartbeat;
mod held;
mod reaper;
mod runtime;
mod services;
mod turns;
mod vacuum_watch;

pub use config::WorkerConfig;
pub use services::{Running, start};
