//! The run state machine: the eight states of the contract `runtime_run_state`, and which event may
//! follow which. SQL repeats the guards (every UPDATE names the state it leaves); this is the model
//! those guards are read against.
//!
//! A run that waits for people or for a result never goes straight back to running: it becomes pending, and whoever
//! claims it next goes on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;

/// The name of a state, spelled as the API and the database spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// Queued, or waiting for the time of its next try.
    Pending,
    /// Claimed by a worker under a lease.
    Running,
    /// Parked until a person decides.
    WaitingApproval,
    /// Parked until a result is delivered.
    WaitingTool,
    /// Ended with an output.
    Completed,
    /// Ended with an error code.
    Failed,
    /// Ended by a caller.
    Cancelled,
    /// Ended by the clock.
    Timeout,
}

impl StateName {
    /// All eight, in the contract's order.
    pub const ALL: [StateName; 8] = [
        StateName::Pending,
        StateName::Running,
        StateName::WaitingApproval,
        StateName::WaitingTool,
        StateName::Completed,
        StateName::Failed,
        StateName::Cancelled,
        StateName::Timeout,
    ];

    /// As the API and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            StateName::Pending => "pending",
            StateName::Running => "running",
            StateName::WaitingApproval => "waiting_approval",
            StateName::WaitingTool => "waiting_tool",
            StateName::Completed => "completed",
            StateName::Failed => "failed",
            StateName::Cancelled => "cancelled",
            StateName::Timeout => "timeout",
        }
    }

    /// Reads a state back from its text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Has the run ended?
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Timeout)
    }
}

/// What a parked run waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wait {
    /// A person's decision. The run's own time stands still meanwhile.
    Approval,
    /// A result that its tool delivers later. The run's own time goes on.
    Tool,
}

impl Wait {
    /// The state of a run that waits so.
    pub fn state(self) -> StateName {
        match self {
            Wait::Approval => StateName::WaitingApproval,
            Wait::Tool => StateName::WaitingTool,
        }
    }
}

/// A run's state with what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Due; `attempt` counts the claims so far.
    Pending {
        /// Claims so far.
        attempt: u32,
        /// Grows with every claim and every taking back; an effect under an older one is refused.
        epoch: u64,
    },
    /// Held by a worker.
    Running {
        /// This claim's ordinal, from 1.
        attempt: u32,
        /// The epoch every write of this claim must carry.
        epoch: u64,
    },
    /// Held by nobody until what it waits for has come.
    Waiting {
        /// For what.
        wait: Wait,
        /// Claims so far; the one that parked it does not count.
        attempt: u32,
        /// As in `Pending`.
        epoch: u64,
    },
    /// Ended with an output.
    Completed,
    /// Ended with a code.
    Failed(ErrorCode),
    /// Ended by a caller.
    Cancelled,
    /// Ended by the clock, code E-RUN-011.
    Timeout,
}

/// What can happen to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A worker took it.
    Claimed,
    /// The agent answered and the output fits.
    Completed,
    /// It cannot go on.
    Failed(ErrorCode),
    /// A caller ended it.
    Cancelled,
    /// Its time is over.
    TimedOut,
    /// Its worker fell silent; tried again until `max_attempts` claims were made.
    Reaped {
        /// Claims the agent allows.
        max_attempts: u32,
    },
    /// Its worker gave it back unharmed (a drain): the claim does not count as an attempt.
    Released,
    /// It failed in a way that may pass: due again after a while, if another claim is allowed.
    Retried {
        /// Claims the agent allows.
        max_attempts: u32,
    },
    /// It cannot go on before somebody else did something: the claim does not count as an attempt.
    Parked(Wait),
    /// What it waited for has come, or will not come any more.
    Resumed,
}

/// An event that the state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a run that is {} cannot take {event:?}", state.as_str())]
pub struct Forbidden {
    /// The state the run is in.
    pub state: StateName,
    /// What was tried.
    pub event: Event,
}

impl RunState {
    /// The state's name.
    pub fn name(self) -> StateName {
        match self {
            RunState::Pending { .. } => StateName::Pending,
            RunState::Running { .. } => StateName::Running,
            RunState::Waiting { wait, .. } => wait.state(),
            RunState::Completed => StateName::Completed,
            RunState::Failed(_) => StateName::Failed,
            RunState::Cancelled => StateName::Cancelled,
            RunState::Timeout => StateName::Timeout,
        }
    }

    /// The state after `event`, or why there is none. Terminal states take nothing.
    pub fn apply(self, event: Event) -> Result<RunState, Forbidden> {
        use Event as E;
        use RunState as S;
        match (self, event) {
            (S::Pending { attempt, epoch }, E::Claimed) => {
                Ok(S::Running { attempt: attempt + 1, epoch: epoch + 1 })
            }
            (S::Pending { .. } | S::Running { .. } | S::Waiting { .. }, E::Cancelled) => Ok(S::Cancelled),
            (S::Pending { .. } | S::Running { .. } | S::Waiting { wait: Wait::Tool, .. }, E::TimedOut) => {
                Ok(S::Timeout)
            }
            (S::Running { .. }, E::Completed) => Ok(S::Completed),
            // a person may find that a run cannot go on
            (S::Running { .. } | S::Waiting { wait: Wait::Approval, .. }, E::Failed(code)) => {
                Ok(S::Failed(code))
            }
            (S::Running { attempt, epoch }, E::Reaped { max_attempts }) if attempt < max_attempts => {
                Ok(S::Pending { attempt, epoch: epoch + 1 })
            }
            (S::Running { .. }, E::Reaped { .. }) => Ok(S::Failed(ErrorCode::Run010)),
            (S::Running { attempt, epoch }, E::Retried { max_attempts }) if attempt < max_attempts => {
                Ok(S::Pending { attempt, epoch: epoch + 1 })
            }
            (S::Running { attempt, epoch }, E::Released) => {
                Ok(S::Pending { attempt: attempt - 1, epoch: epoch + 1 })
            }
            (S::Running { attempt, epoch }, E::Parked(wait)) => {
                Ok(S::Waiting { wait, attempt: attempt - 1, epoch: epoch + 1 })
            }
            (S::Waiting { attempt, epoch, .. }, E::Resumed) => Ok(S::Pending { attempt, epoch: epoch + 1 }),
            (state, event) => Err(Forbidden { state: state.name(), event }),
        }
    }
}

/// The pause before the second try.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that is not asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How long a run that failed in its `attempt`th try (from 1) waits before the next: 1 s, doubled with every try, at
/// most 5 minutes, of which `jitter` (0 to 1, random) takes up to half away, so that runs which failed together do not
/// come back together. Where the one that failed said how long to wait (`asked`), not less than that and not more
/// than half as much again.
pub fn retry_pause(attempt: u32, asked: Option<Duration>, jitter: f64) -> Duration {
    let jitter = jitter.clamp(0.0, 1.0);
    let doubled =
        FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1))).min(LONGEST_PAUSE);
    let own = doubled.mul_f64(1.0 - jitter / 2.0);
    asked.map_or(own, |asked| own.max(asked.saturating_add(asked.mul_f64(jitter / 2.0))))
}

/// How far a run's effects may go. Ordered: a run never acts above its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Models and read-only tools run; every effect is recorded and answered with a stub.
    #[default]
    Shadow,
    /// Every effect waits for a person.
    Suggest,
    /// Policy decides.
    Live,
}

impl Mode {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Shadow => "shadow",
            Mode::Suggest => "suggest",
            Mode::Live => "live",
        }
    }

    /// Reads a mode back from its text.
    pub fn parse(text: &str) -> Option<Self> {
        [Mode::Shadow, Mode::Suggest, Mode::Live].into_iter().find(|m| m.as_str() == text)
    }

    /// The mode a new run gets: what was asked for, else the agent's; never above the agent's or the
    /// parent's.
    ///
    /// # Errors
    /// E-RUN-003 when more is asked for.
    pub fn resolve(requested: Option<Mode>, agent: Mode, parent: Option<Mode>) -> Result<Mode, ErrorCode> {
        let ceiling = parent.map_or(agent, |p| p.min(agent));
        match requested {
            Some(mode) if mode > ceiling => Err(ErrorCode::Run003),
            Some(mode) => Ok(mode),
            None => Ok(ceiling),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => Just(Event::Claimed),
            1 => Just(Event::Completed),
            1 => Just(Event::Failed(ErrorCode::Run013)),
            1 => Just(Event::Cancelled),
            1 => Just(Event::TimedOut),
            3 => (1u32..4).prop_map(|max_attempts| Event::Reaped { max_attempts }),
            2 => Just(Event::Released),
            3 => (1u32..4).prop_map(|max_attempts| Event::Retried { max_attempts }),
            2 => prop_oneof![Just(Wait::Approval), Just(Wait::Tool)].prop_map(Event::Parked),
            3 => Just(Event::Resumed),
        ]
    }

    fn numbers(state: RunState) -> Option<(u32, u64)> {
        match state {
            RunState::Pending { attempt, epoch }
            | RunState::Running { attempt, epoch }
            | RunState::Waiting { attempt, epoch, .. } => Some((attempt, epoch)),
            _ => None,
        }
    }

    proptest! {
        #[test]
        fn no_sequence_of_events_revives_an_ended_run_or_turns_an_epoch_back(
            sequence in prop::collection::vec(events(), 0..40)
        ) {
            let mut state = RunState::Pending { attempt: 0, epoch: 0 };
            for event in sequence {
                let next = state.apply(event);
                if state.name().is_terminal() {
                    prop_assert!(next.is_err());
                }
                if matches!(state, RunState::Waiting { .. }) {
                    let goes_on_itself = matches!(next, Ok(RunState::Running { .. } | RunState::Completed));
                    prop_assert!(!goes_on_itself);
                }
                let Ok(next) = next else { continue };
                if let (Some((_, before)), Some((_, after))) = (numbers(state), numbers(next)) {
                    prop_assert!(after > before);
                }
                if let Event::Reaped { max_attempts } | Event::Retried { max_attempts } = event {
                    prop_assert!(numbers(next).is_none_or(|(attempt, _)| attempt < max_attempts));
                }
                state = next;
            }
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_respect_what_was_asked() {
        let pause = |attempt, asked: Option<u64>, jitter| {
            retry_pause(attempt, asked.map(Duration::from_secs), jitter).as_millis()
        };
        assert_eq!([1, 2, 3, 9].map(|n| pause(n, None, 0.0)), [1000, 2000, 4000, 256_000]);
        assert_eq!(pause(10, None, 0.0), 300_000);
        assert_eq!(pause(u32::MAX, None, 0.0), 300_000);
        assert_eq!(pause(1, None, 1.0), 500);
        assert_eq!(pause(1, Some(60), 0.0), 60_000);
        assert_eq!(pause(1, Some(60), 1.0), 90_000);
        assert_eq!(pause(9, Some(1), 0.0), 256_000);
        assert_eq!(pause(1, None, f64::INFINITY), 500);
    }

    #[test]
    fn a_mode_is_never_raised() {
        use Mode::*;
        assert_eq!(Mode::resolve(None, Live, None), Ok(Live));
        assert_eq!(Mode::resolve(None, Live, Some(Shadow)), Ok(Shadow));
        assert_eq!(Mode::resolve(Some(Shadow), Live, None), Ok(Shadow));
        assert_eq!(Mode::resolve(Some(Live), Shadow, None), Err(ErrorCode::Run003));
        assert_eq!(Mode::resolve(Some(Live), Live, Some(Shadow)), Err(ErrorCode::Run003));
        assert_eq!(Mode::resolve(Some(Suggest), Live, None), Ok(Suggest));
        assert_eq!(Mode::resolve(Some(Suggest), Live, Some(Shadow)), Err(ErrorCode::Run003));
        assert_eq!(Mode::default(), Shadow);
    }

    #[test]
    fn states_are_spelled_as_the_contract_spells_them() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../../contracts/runtime_run_state/schema.json")).unwrap();
        let names: Vec<&str> = schema["properties"]["state"]["enum"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_str().unwrap())
            .collect();
        assert_eq!(names, StateName::ALL.map(StateName::as_str));
    }
}
