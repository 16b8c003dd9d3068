//! What the gates would say of a call, without making it: the same gates, in rehearsal, which proves nothing. Nothing goes upstream but
//! the question which tools there are, and nothing is written, not even the pin of a first sight.

use awooop_core::approval::Demand;
use awooop_core::gate::{GATES, Reach, Refusal, verdicts};
use awooop_core::{AgentId, ErrorCode, Mode};
use awooop_store::{ProjectScope, StoreError};
use serde_json::{Map, Value};

use crate::call::stopped;
use crate::gateway::Gateway;
use crate::pipeline::{self, Rehearsal, Request, Stopped};
use crate::upstream::UpstreamError;

/// What would become of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prospect {
    /// It would go upstream.
    Call,
    /// It would be answered in the tool's place.
    Stub,
    /// People would be asked first.
    Ask,
    /// A gate refuses it.
    Refused,
    /// People hold it back, with all that they stopped or paused.
    Stopped,
    /// The tool's server cannot say what it offers.
    Unreachable,
}

impl Prospect {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Prospect::Call => "call",
            Prospect::Stub => "stub",
            Prospect::Ask => "ask",
            Prospect::Refused => "refused",
            Prospect::Stopped => "stopped",
            Prospect::Unreachable => "unreachable",
        }
    }
}

/// One gate's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The gate's name.
    pub gate: &'static str,
    /// `pass`, `stub`, `ask`, `refuse`, or `unknown` where the tool's server did not answer; `not_asked` after one that
    /// did not let the call through.
    pub verdict: &'static str,
    /// The code that a call would get.
    pub code: Option<ErrorCode>,
    /// Why it does not pass, or what it passes as, in a sentence that repeats no argument.
    pub reason: Option<String>,
}

/// What every gate would say.
#[derive(Debug, Clone)]
pub struct Why {
    /// What would become of the call.
    pub prospect: Prospect,
    /// All five gates, in order.
    pub gates: Vec<Word>,
    /// What people would be asked.
    pub demand: Option<Demand>,
}

impl Gateway {
    /// What the gates would say of a first call of a run in this mode.
    ///
    /// # Errors
    /// The database's.
    pub async fn why(
        &self,
        scope: &ProjectScope,
        agent: &AgentId,
        mode: Mode,
        name: &str,
        arguments: Map<String, Value>,
    ) -> Result<Why, StoreError> {
        let arguments = Ok(arguments);
        let request = Request { scope, agent, step: None, mode, name, arguments, deadline: None };
        Ok(match Box::pin(pipeline::rehearse(self, &request)).await {
            Ok(rehearsal) => Why::of(rehearsal),
            Err(Stopped::Refused(refusal)) => Why::ended(Prospect::Refused, &refusal),
            Err(Stopped::Halted(halt)) => Why::ended(Prospect::Stopped, &stopped(Some(&halt))),
            Err(Stopped::Upstream(error)) => Why::unreachable(&error),
            Err(Stopped::Store(error)) => return Err(error),
            Err(Stopped::Asks(_)) => {
                unreachable!("a rehearsal tells what people would be asked, and asks nobody")
            }
        })
    }
}

impl Why {
    fn of(rehearsal: Rehearsal) -> Self {
        let Rehearsal { reach, demand, hints, asks_after_untrusted } = rehearsal;
        let mut why = match (reach, demand) {
            (Reach::Stub, _) => Self::passing(Prospect::Stub, true),
            (Reach::Call, None) => Self::passing(Prospect::Call, false),
            (Reach::Call, Some(demand)) => Self::asking(demand),
        };
        if let Some((risk, hint)) = hints.risk {
            let said = format!("its own definition says `{hint}`: it counts as {} at least", risk.as_str());
            let word = &mut why.gates[2];
            word.reason = Some(word.reason.take().map_or(said.clone(), |known| format!("{known}; {said}")));
        }
        if asks_after_untrusted {
            let said = "once the run has read untrusted output, a person must allow it first";
            why.gates[GATES.len() - 1].reason = Some(said.to_owned());
        }
        why
    }

    fn passing(prospect: Prospect, is_stub: bool) -> Self {
        let word = |v: awooop_core::gate::Verdict| Word {
            gate: v.gate,
            verdict: v.verdict,
            code: v.code,
            reason: None,
        };
        let mut gates: Vec<Word> = verdicts(None, is_stub).into_iter().map(word).collect();
        if is_stub {
            gates[2].reason =
                Some("in shadow, what changes something is answered in the tool's place".into());
        }
        Self { prospect, gates, demand: None }
    }

    fn asking(demand: Demand) -> Self {
        let mut why = Self::passing(Prospect::Ask, false);
        let last = &mut why.gates[GATES.len() - 1];
        (last.verdict, last.code) = ("ask", Some(ErrorCode::Gate008));
        let people = match demand.needed {
            1 => "a person".to_owned(),
            n => format!("{n} distinct people"),
        };
        last.reason = Some(format!("{}: {people} must allow it first", demand.asked_by));
        why.demand = Some(demand);
        why
    }

    fn ended(prospect: Prospect, refusal: &Refusal) -> Self {
        Self::at(prospect, usize::from(refusal.gate), "refuse", refusal.code, refusal.message.clone())
    }

    /// Gate 2 asks the server what it offers.
    fn unreachable(error: &UpstreamError) -> Self {
        Self::at(Prospect::Unreachable, 2, "unknown", error.code(), error.to_string())
    }

    fn at(prospect: Prospect, gate: usize, verdict: &'static str, code: ErrorCode, reason: String) -> Self {
        let mut why = Self::passing(prospect, false);
        for (n, word) in (1..).zip(&mut why.gates) {
            if n == gate {
                (word.verdict, word.code, word.reason) = (verdict, Some(code), Some(reason.clone()));
            } else if n > gate {
                word.verdict = "not_asked";
            }
        }
        why
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gate_has_a_word_and_those_after_the_one_that_refuses_were_not_asked() {
        let verdicts = |why: &Why| why.gates.iter().map(|word| word.verdict).collect::<Vec<_>>();
        let refused = Why::ended(Prospect::Refused, &Refusal::new(3, ErrorCode::Gate004, "no"));
        assert_eq!(verdicts(&refused), ["pass", "pass", "refuse", "not_asked", "not_asked"]);
        assert_eq!(refused.gates[2].reason.as_deref(), Some("no"));
        assert_eq!(verdicts(&Why::passing(Prospect::Stub, true)), ["pass", "pass", "stub", "pass", "pass"]);
        let asking = Why::asking(Demand::of_outcome());
        assert_eq!(verdicts(&asking), ["pass", "pass", "pass", "pass", "ask"]);
        assert_eq!(asking.gates[4].reason.as_deref(), Some("outcome unknown: a person must allow it first"));
    }
}
