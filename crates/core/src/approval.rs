//! Approvals: which calls wait for people, and what their decision allows. Pure decisions over facts; the store
//! loads them with the gates' facts, gate 5 asks [`clearance`].
//!
//! An approval is bound to one action: this tool, these arguments, this step of this run, under this version of the
//! tool's contract. Deciding and executing are two things: an approval that was given is used up by the intent of the
//! one call it allows.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::contract::{PolicySpec, Risk, UntrustedAction};
use crate::error::ErrorCode;
use crate::gate::Refusal;
use crate::ids::{AgentId, ProjectId, RunId};
use crate::run::Mode;

/// How long a request waits where no rule says otherwise, in seconds: one day.
pub const DEFAULT_EXPIRES_IN_S: u32 = 86_400;

/// What people are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalKind {
    /// May this call be made?
    Call,
    /// This call was begun and nobody knows whether it happened: what is to be done?
    Outcome,
}

impl ApprovalKind {
    /// As the API and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            ApprovalKind::Call => "call",
            ApprovalKind::Outcome => "outcome",
        }
    }

    /// Reads a kind back from its text.
    pub fn parse(text: &str) -> Option<Self> {
        [ApprovalKind::Call, ApprovalKind::Outcome].into_iter().find(|k| k.as_str() == text)
    }
}

/// Where an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Its run waits for it.
    Pending,
    /// Enough people said yes; the call was not begun yet.
    Approved,
    /// Somebody said no.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// Its run ended before anybody decided.
    Withdrawn,
    /// The call it allowed was begun, or the outcome was recorded.
    Consumed,
}

impl ApprovalState {
    /// All six.
    pub const ALL: [ApprovalState; 6] = [
        ApprovalState::Pending,
        ApprovalState::Approved,
        ApprovalState::Denied,
        ApprovalState::Expired,
        ApprovalState::Withdrawn,
        ApprovalState::Consumed,
    ];

    /// As the API and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            ApprovalState::Pending => "pending",
            ApprovalState::Approved => "approved",
            ApprovalState::Denied => "denied",
            ApprovalState::Expired => "expired",
            ApprovalState::Withdrawn => "withdrawn",
            ApprovalState::Consumed => "consumed",
        }
    }

    /// Reads a state back from its text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// What a person says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Make the call; of an unknown outcome: make it again, under the same key.
    Approve,
    /// Do not; the agent is told why. Of an unknown outcome: the run ends.
    Deny,
    /// Of an unknown outcome: this is what the call gave.
    Record,
}

impl Decision {
    /// As the API and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Approve => "approve",
            Decision::Deny => "deny",
            Decision::Record => "record",
        }
    }

    /// Reads a decision back from its text.
    pub fn parse(text: &str) -> Option<Self> {
        [Decision::Approve, Decision::Deny, Decision::Record].into_iter().find(|d| d.as_str() == text)
    }
}

/// Why a call waits, for how many people and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// What people are asked.
    pub kind: ApprovalKind,
    /// What asks: `mode suggest`, `policy <id>`, `untrusted output of step <n> (<tool>)`, or `outcome unknown`.
    pub asked_by: String,
    /// Distinct people who must say yes, 1 to 10.
    pub needed: u8,
    /// How long the request waits, in seconds.
    pub expires_in_s: u32,
}

impl Demand {
    /// What is asked of one person when nobody knows whether a call happened.
    pub fn of_outcome() -> Self {
        Self::of_one(ApprovalKind::Outcome, "outcome unknown")
    }

    fn of_one(kind: ApprovalKind, asked_by: &str) -> Self {
        Self { kind, asked_by: asked_by.to_owned(), needed: 1, expires_in_s: DEFAULT_EXPIRES_IN_S }
    }

    /// What the project's policies ask for a call in `live`: of all rules that match, the most signatures and the
    /// shortest wait. `None` when no rule matches.
    pub fn of_policies<'a>(
        policies: impl IntoIterator<Item = (&'a str, &'a PolicySpec)>,
        tool: &str,
        risk: Risk,
    ) -> Option<Self> {
        let mut found: Option<Demand> = None;
        for (id, policy) in policies {
            for rule in policy.approval_rules(tool, risk) {
                let asked_by = format!("policy {id}");
                found = Some(match found {
                    None => Demand {
                        kind: ApprovalKind::Call,
                        asked_by,
                        needed: rule.signatures,
                        expires_in_s: rule.expires_in_s,
                    },
                    Some(before) => Demand {
                        asked_by: if rule.signatures > before.needed { asked_by } else { before.asked_by },
                        needed: before.needed.max(rule.signatures),
                        expires_in_s: before.expires_in_s.min(rule.expires_in_s),
                        ..before
                    },
                });
            }
        }
        found
    }

    /// What is asked for an open-world effect in `live` after untrusted output, where no policy asks for more and none
    /// lets it pass: one person. `None` when a policy that speaks of the call lets it pass, and none asks for it.
    pub fn of_untrusted_output<'a>(
        policies: impl IntoIterator<Item = &'a PolicySpec>,
        agent: &AgentId,
        tool: &str,
        taint: &Taint,
    ) -> Option<Self> {
        let said = policies.into_iter().filter_map(|p| p.after_untrusted_output(agent, tool)).max();
        let is_asked = said.unwrap_or(UntrustedAction::Approve) == UntrustedAction::Approve;
        is_asked.then(|| Self::of_one(ApprovalKind::Call, &taint.to_string()))
    }
}

/// The first step by which a run read untrusted output: what a tool answered whose contract does not say that its output
/// is trusted. A run that another started has read what that one has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// The step.
    pub n: i32,
    /// The tool's full name.
    pub tool: String,
    /// The run whose step it is, where it is an ancestor's.
    pub of_ancestor: Option<RunId>,
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "untrusted output of step {} ({})", self.n, self.tool)?;
        self.of_ancestor.map_or(Ok(()), |run_id| write!(f, " of run {run_id}"))
    }
}

/// The last approval that was asked for a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its id.
    pub approval_id: Uuid,
    /// What was asked.
    pub kind: ApprovalKind,
    /// Where it stands.
    pub state: ApprovalState,
    /// The action it is bound to.
    pub action_sha256: String,
    /// What whoever decided said.
    pub reason: Option<String>,
    /// It was given, and the time to make the call is over.
    pub is_lapsed: bool,
}

/// What has happened to a step before its call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepFacts {
    /// The call was begun by an earlier claim, and has no result.
    pub is_intended: bool,
    /// The last approval that was asked for it.
    pub asked: Option<Asked>,
}

impl StepFacts {
    /// Was its call begun, and did no person say that it may be made again?
    pub fn is_undecided(&self) -> bool {
        let may_be_made_again =
            |a: &Asked| a.kind == ApprovalKind::Outcome && a.state == ApprovalState::Approved && !a.is_lapsed;
        self.is_intended && !self.asked.as_ref().is_some_and(may_be_made_again)
    }
}

/// What gate 5 knows of a call.
#[derive(Debug, Clone, Copy)]
pub struct CallClass<'a> {
    /// What the tool does to the world.
    pub risk: Risk,
    /// May it be called again under the same key without doing anything twice?
    pub is_idempotent: bool,
    /// The run's mode.
    pub mode: Mode,
    /// What the policies ask for.
    pub demand: Option<&'a Demand>,
    /// The action, see [`action_sha256`].
    pub action_sha256: &'a str,
}

/// What gate 5 lets happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clearance {
    /// The call is made. An effect is announced before.
    Go,
    /// The call was begun before and is made once more under the same key.
    Again,
    /// The call is made by this approval, which is used up with its intent.
    Use(Uuid),
    /// People are asked first.
    Ask(Demand),
}

/// Gate 5: does the call need people, and did they allow it?
///
/// # Errors
/// E-MCP-GATE-008 when they did not.
pub fn clearance(call: CallClass<'_>, step: &StepFacts) -> Result<Clearance, Refusal> {
    let asked = step.asked.as_ref().filter(|asked| asked.action_sha256 == call.action_sha256);
    if step.is_intended {
        return Ok(match asked {
            _ if call.is_idempotent || call.risk == Risk::ReadOnly => Clearance::Again,
            Some(asked) if !step.is_undecided() => Clearance::Use(asked.approval_id),
            _ => Clearance::Ask(Demand::of_outcome()),
        });
    }
    if call.risk == Risk::ReadOnly {
        return Ok(Clearance::Go);
    }
    if let Some(asked) = asked.filter(|a| a.kind == ApprovalKind::Call) {
        let refuse = |why: String| Err(Refusal::new(5, ErrorCode::Gate008, why));
        match asked.state {
            ApprovalState::Approved if !asked.is_lapsed => return Ok(Clearance::Use(asked.approval_id)),
            ApprovalState::Approved => {
                return refuse("the call was approved, and not made in time".to_owned());
            }
            ApprovalState::Denied => {
                let reason = asked.reason.as_deref().unwrap_or("no reason was given");
                return refuse(format!("a person denied the call: {reason}"));
            }
            ApprovalState::Expired => return refuse("nobody approved the call in time".to_owned()),
            ApprovalState::Pending | ApprovalState::Withdrawn | ApprovalState::Consumed => {}
        }
    }
    Ok(match (call.mode, call.demand) {
        (_, Some(demand)) => Clearance::Ask(demand.clone()),
        (Mode::Live, None) => Clearance::Go,
        (Mode::Shadow | Mode::Suggest, None) => {
            Clearance::Ask(Demand::of_one(ApprovalKind::Call, "mode suggest"))
        }
    })
}

/// The hash an approval is bound to, 64 hexadecimal digits: over the canonical JSON of what would be done. Another
/// argument, step, run or version of the tool's contract is another action.
pub fn action_sha256(
    project: &ProjectId,
    run_id: RunId,
    n: i32,
    tool: &str,
    provider_version: Uuid,
    arguments: &Map<String, Value>,
) -> String {
    crate::json::sha256_hex(&json!({
        "project": project.as_str(), "run_id": run_id, "n": n, "tool": tool,
        "provider_version": provider_version, "arguments": arguments,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: Value) -> PolicySpec {
        serde_json::from_value(json!({"approvals": rules})).unwrap()
    }

    fn asked(kind: ApprovalKind, state: ApprovalState) -> StepFacts {
        let asked = Asked {
            approval_id: Uuid::nil(),
            kind,
            state,
            action_sha256: "a".to_owned(),
            reason: Some("too much".to_owned()),
            is_lapsed: false,
        };
        StepFacts { is_intended: false, asked: Some(asked) }
    }

    fn call(mode: Mode, demand: Option<&Demand>) -> CallClass<'_> {
        CallClass { risk: Risk::Write, is_idempotent: false, mode, demand, action_sha256: "a" }
    }

    fn is_ask(clearance: &Result<Clearance, Refusal>, kind: ApprovalKind, by: &str) -> bool {
        matches!(clearance, Ok(Clearance::Ask(d)) if d.kind == kind && d.asked_by == by)
    }

    #[test]
    fn the_strictest_rules_of_all_policies_count() {
        let (a, b) = (
            policy(json!([{"risk": "write", "tools": ["shop__*"], "signatures": 1, "expires_in_s": 60}])),
            policy(json!([{"risk": "write", "signatures": 3}])),
        );
        let both = [("a", &a), ("b", &b)];
        let demand = Demand::of_policies(both, "shop__refund", Risk::Write).unwrap();
        assert_eq!((demand.needed, demand.expires_in_s, demand.asked_by.as_str()), (3, 60, "policy b"));
        let other = Demand::of_policies(both, "mail__send", Risk::Write).unwrap();
        assert_eq!((other.needed, other.expires_in_s), (3, DEFAULT_EXPIRES_IN_S));
        assert_eq!(Demand::of_policies([("a", &a)], "mail__send", Risk::Write), None);
        assert_eq!(Demand::of_policies(both, "shop__refund", Risk::ReadOnly), None);
    }

    #[test]
    fn untrusted_output_asks_one_person_unless_every_policy_that_speaks_of_the_call_lets_it_pass() {
        let rules = |rules: Value| -> PolicySpec {
            serde_json::from_value(json!({"after_untrusted_output": rules})).unwrap()
        };
        let allow = rules(json!([{"action": "allow", "tools": ["mail__*"]}]));
        let strict = rules(json!([{"action": "approve", "agents": ["clerk"]}]));
        let taint = Taint { n: 3, tool: "web__search".to_owned(), of_ancestor: None };
        let asked = |policies: &[&PolicySpec], agent: &str, tool| {
            let agent = AgentId::parse(agent).unwrap();
            Demand::of_untrusted_output(policies.iter().copied(), &agent, tool, &taint)
        };
        let demand = asked(&[], "clerk", "mail__send").unwrap();
        assert_eq!((demand.needed, demand.kind), (1, ApprovalKind::Call));
        assert_eq!(demand.asked_by, "untrusted output of step 3 (web__search)");
        assert!(asked(&[&allow], "clerk", "mail__send").is_none());
        assert!(asked(&[&allow], "clerk", "shop__refund").is_some());
        assert!(asked(&[&allow, &strict], "clerk", "mail__send").is_some());
        assert!(asked(&[&allow, &strict], "buyer", "mail__send").is_none());
        let above = Taint { of_ancestor: Some(RunId::nil()), ..taint };
        assert!(above.to_string().ends_with("(web__search) of run 00000000-0000-0000-0000-000000000000"));
    }

    #[test]
    fn an_effect_asks_people_by_mode_or_by_policy_and_reading_asks_nobody() {
        let nothing = StepFacts::default();
        let demand = Demand::of_one(ApprovalKind::Call, "policy p");
        assert_eq!(clearance(call(Mode::Live, None), &nothing), Ok(Clearance::Go));
        assert!(is_ask(
            &clearance(call(Mode::Live, Some(&demand)), &nothing),
            ApprovalKind::Call,
            "policy p"
        ));
        let suggested = clearance(call(Mode::Suggest, None), &nothing);
        assert!(is_ask(&suggested, ApprovalKind::Call, "mode suggest"));
        let reads = CallClass { risk: Risk::ReadOnly, ..call(Mode::Suggest, Some(&demand)) };
        assert_eq!(clearance(reads, &nothing), Ok(Clearance::Go));
    }

    #[test]
    fn a_decision_counts_for_the_very_action_it_was_asked_for_and_once() {
        let decided = |state| clearance(call(Mode::Suggest, None), &asked(ApprovalKind::Call, state));
        assert_eq!(decided(ApprovalState::Approved), Ok(Clearance::Use(Uuid::nil())));
        let denied = decided(ApprovalState::Denied).unwrap_err();
        assert_eq!((denied.gate, denied.code), (5, ErrorCode::Gate008));
        assert!(denied.message.ends_with("too much"), "{denied}");
        assert_eq!(decided(ApprovalState::Expired).unwrap_err().code, ErrorCode::Gate008);
        assert!(is_ask(&decided(ApprovalState::Consumed), ApprovalKind::Call, "mode suggest"));
        let other = CallClass { action_sha256: "b", ..call(Mode::Suggest, None) };
        let of_other = clearance(other, &asked(ApprovalKind::Call, ApprovalState::Approved));
        assert!(is_ask(&of_other, ApprovalKind::Call, "mode suggest"));
        let mut lapsed = asked(ApprovalKind::Call, ApprovalState::Approved);
        lapsed.asked.as_mut().unwrap().is_lapsed = true;
        assert_eq!(clearance(call(Mode::Live, None), &lapsed).unwrap_err().code, ErrorCode::Gate008);
    }

    #[test]
    fn a_call_cut_in_flight_is_made_again_only_where_that_is_harmless_or_a_person_says_so() {
        let cut = |mut facts: StepFacts, class: CallClass<'_>| {
            facts.is_intended = true;
            clearance(class, &facts)
        };
        let live = call(Mode::Live, None);
        let unknown = cut(StepFacts::default(), live);
        assert!(is_ask(&unknown, ApprovalKind::Outcome, "outcome unknown"));
        let harmless = CallClass { is_idempotent: true, ..live };
        assert_eq!(cut(StepFacts::default(), harmless), Ok(Clearance::Again));
        // that the call was allowed says nothing of making it twice
        let allowed = cut(asked(ApprovalKind::Call, ApprovalState::Approved), live);
        assert!(is_ask(&allowed, ApprovalKind::Outcome, "outcome unknown"));
        let again = cut(asked(ApprovalKind::Outcome, ApprovalState::Approved), live);
        assert_eq!(again, Ok(Clearance::Use(Uuid::nil())));
        let used = cut(asked(ApprovalKind::Outcome, ApprovalState::Consumed), live);
        assert!(is_ask(&used, ApprovalKind::Outcome, "outcome unknown"));
    }

    #[test]
    fn every_part_of_an_action_changes_its_hash() {
        let (project, run, version) = (ProjectId::platform(), Uuid::nil(), Uuid::nil());
        let arguments = |v: Value| v.as_object().cloned().unwrap();
        let one = arguments(json!({"to": "a", "n": 1}));
        let base = action_sha256(&project, run, 2, "x__y", version, &one);
        assert_eq!(
            base,
            action_sha256(&project, run, 2, "x__y", version, &arguments(json!({"n": 1, "to": "a"})))
        );
        for other in [
            action_sha256(&ProjectId::parse("other").unwrap(), run, 2, "x__y", version, &one),
            action_sha256(&project, Uuid::max(), 2, "x__y", version, &one),
            action_sha256(&project, run, 3, "x__y", version, &one),
            action_sha256(&project, run, 2, "x__z", version, &one),
            action_sha256(&project, run, 2, "x__y", Uuid::max(), &one),
            action_sha256(&project, run, 2, "x__y", version, &arguments(json!({"to": "b", "n": 1}))),
        ] {
            assert_ne!(other, base);
        }
    }
}
