//! Which changes of a contract can hurt somebody who relied on it, or loosen what was agreed: they ask for
//! more care when a version is activated. Each rule stands by itself, with its path in the newer version.
//!
//! Where two versions cannot be compared, the change counts as breaking. Not breaking: more steps, longer
//! time limits, other instructions, another model, anything that is only text for people.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::narrowing::narrowings;
use super::{
    ActivationSpec, AgentSpec, AnomalyRule, ApprovalRule, ChannelSpec, DataClass, DirectionSpec, Grant,
    LlmSpec, McpSpec, PersonalDataSpec, PolicySpec, ProjectSpec, ProviderSpec, RatePer, RateRule,
    RedactionPattern, Risk, Spec, ToolPattern, TransportSpec, UntrustedAction, UntrustedRule,
};
use crate::ids::AgentId;

/// One breaking change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Breaking {
    /// The rule's name: one of [`RULES`].
    pub rule: &'static str,
    /// JSON Pointer into the newer version, as if its defaults were written out; into the older one for what
    /// is gone; `""` for all of it.
    pub path: String,
    /// What changed, for people.
    pub message: String,
}

/// Every rule, with what it says.
pub const RULES: [(&str, &str); 18] = [
    ("retired", "the contract is retired"),
    ("output_schema_narrowed", "answers that were valid may no longer be"),
    ("input_schema_narrowed", "input that was accepted may be refused"),
    ("tool_removed", "a provider lists a tool no longer, or an agent's grant is gone"),
    ("model_removed", "a provider lists a model no longer"),
    ("risk_lowered", "a tool or a grant counts as less grave than before"),
    ("definition_changed", "another definition of a tool is pinned, or none"),
    ("grant_widened", "an agent may call a tool it could not, or with arguments it could not use"),
    ("budget_lowered", "less may be used than before"),
    ("limit_lowered", "fewer runs may be under way, or wait, than before"),
    ("schedule_dropped", "runs that began by themselves no longer do"),
    ("retention_shortened", "runs are deleted sooner than before"),
    ("mode_raised", "an agent's runs may have effects they could not have"),
    ("endpoint_changed", "another address, command, header or credential is used"),
    ("activation_weakened", "fewer or other people can put contracts into force"),
    ("personal_data_loosened", "personal data goes where it did not, or less of it is hidden there"),
    (
        "policy_weakened",
        "something that was forbidden, asked for, masked, watched or limited is so no longer",
    ),
    ("channel_widened", "more people are heard"),
];

/// The breaking changes from one version of a contract to the next; `to` is `None` when it is retired. Empty
/// when there are none.
pub fn breaking(from: &Spec, to: Option<&Spec>) -> Vec<Breaking> {
    let mut found = Found::default();
    match (from, to) {
        (Spec::Project(from), Some(Spec::Project(to))) => found.project(from, to),
        (Spec::Provider(from), Some(Spec::Provider(to))) => found.provider(from, to),
        (Spec::Agent(from), Some(Spec::Agent(to))) => found.agent(from, to),
        (Spec::Policy(from), Some(Spec::Policy(to))) => found.policy(from, to),
        (Spec::Channel(from), Some(Spec::Channel(to))) => found.channel(from, to),
        (from, _) => found.add("retired", "", format!("the {} is retired", from.kind())),
    }
    found.0
}

/// What the first version of a contract loosens of what holds without it; empty when nothing.
pub fn breaking_first(to: &Spec) -> Vec<Breaking> {
    match to {
        Spec::Policy(_) => breaking(&Spec::Policy(PolicySpec::default()), Some(to)),
        Spec::Project(_) | Spec::Provider(_) | Spec::Agent(_) | Spec::Channel(_) => Vec::new(),
    }
}

#[derive(Default)]
struct Found(Vec<Breaking>);

impl Found {
    fn add(&mut self, rule: &'static str, path: impl Into<String>, message: impl Into<String>) {
        debug_assert!(RULES.iter().any(|(name, _)| *name == rule), "{rule} is in the table");
        self.0.push(Breaking { rule, path: path.into(), message: message.into() });
    }

    fn project(&mut self, from: &ProjectSpec, to: &ProjectSpec) {
        if let Some(budget) = &to.budget {
            match &from.budget {
                None => self.add("budget_lowered", "/spec/budget", "use was not limited before"),
                Some(before) if budget.tokens < before.tokens => {
                    let message = format!("from {} to {} tokens", before.tokens, budget.tokens);
                    self.add("budget_lowered", "/spec/budget/tokens", message);
                }
                Some(_) => {}
            }
        }
        let limits = |spec: &ProjectSpec| spec.limits.clone().unwrap_or_default();
        let (before, after) = (limits(from), limits(to));
        self.limit("limits/max_running_runs", "runs", before.max_running_runs, after.max_running_runs);
        self.limit("limits/max_queued_runs", "runs", before.max_queued_runs, after.max_queued_runs);
        self.limit("limits/max_storage_bytes", "bytes", before.max_storage_bytes, after.max_storage_bytes);
        if let Some(after) = &to.retention {
            let is_sooner = from.retention.as_ref().is_none_or(|before| after.runs_days < before.runs_days);
            if is_sooner {
                let message = format!("runs are deleted {} days after their end", after.runs_days);
                self.add("retention_shortened", "/spec/retention/runs_days", message);
            }
        }
        self.activation(&from.activation, &to.activation);
        self.personal_data(from.personal_data.as_ref(), to.personal_data.as_ref());
    }

    /// A limit that is new, or lower than it was.
    fn limit<N: PartialOrd + fmt::Display>(
        &mut self,
        member: &str,
        of: &str,
        from: Option<N>,
        to: Option<N>,
    ) {
        let Some(now) = to.filter(|now| from.as_ref().is_none_or(|before| now < before)) else { return };
        let before = from.map_or("any number".to_owned(), |before| before.to_string());
        self.add("limit_lowered", format!("/spec/{member}"), format!("from {before} to {now} {of}"));
    }

    /// Each class in each direction is hidden as well as before, and no more values are let through.
    fn personal_data(&mut self, from: Option<&PersonalDataSpec>, to: Option<&PersonalDataSpec>) {
        let (none, unnamed) = (PersonalDataSpec::default(), DirectionSpec::default());
        let (from, to) = (from.unwrap_or(&none), to.unwrap_or(&none));
        for ((name, before), (_, after)) in from.directions().into_iter().zip(to.directions()) {
            let (before, after) = (before.unwrap_or(&unnamed), after.unwrap_or(&unnamed));
            for class in DataClass::EACH {
                let (was, is) = (before.action(class), after.action(class));
                if is < was {
                    let path = format!("/spec/personal_data/{name}/{}", class.as_str());
                    let message = format!("`{}` where it was `{}`", is.as_str(), was.as_str());
                    self.add("personal_data_loosened", path, message);
                }
            }
        }
        let listed = from.allow.as_deref().unwrap_or_default();
        for (i, value) in to.allow.iter().flatten().enumerate().filter(|(_, value)| !listed.contains(value)) {
            let path = format!("/spec/personal_data/allow/{i}");
            self.add("personal_data_loosened", path, format!("`{value}` is let through"));
        }
    }

    fn activation(&mut self, from: &ActivationSpec, to: &ActivationSpec) {
        let mut weaker = |member: &str, message: String| {
            self.add("activation_weakened", format!("/spec/activation{member}"), message);
        };
        if to.signatures < from.signatures {
            let message = format!("{} signatures are enough, not {}", to.signatures, from.signatures);
            weaker("/signatures", message);
        }
        match (&from.signers, &to.signers) {
            (Some(_), None) => weaker("", "the list of signers is gone".to_owned()),
            (Some(before), Some(after)) => {
                for (i, person) in after.iter().enumerate().filter(|(_, p)| !before.contains(p)) {
                    weaker(&format!("/signers/{i}"), format!("`{person}` may sign"));
                }
            }
            (None, _) => {}
        }
        if to.publisher_may_sign && !from.publisher_may_sign {
            weaker("/publisher_may_sign", "the publisher's own signature counts".to_owned());
        }
        if to.window_s > from.window_s {
            weaker("/window_s", format!("signatures count for {} s, not {}", to.window_s, from.window_s));
        }
    }

    fn provider(&mut self, from: &ProviderSpec, to: &ProviderSpec) {
        match (from, to) {
            (ProviderSpec::Llm(from), ProviderSpec::Llm(to)) => self.llm(from, to),
            (ProviderSpec::Mcp(from), ProviderSpec::Mcp(to)) => self.mcp(from, to),
            (ProviderSpec::Llm(_), ProviderSpec::Mcp(_)) => {
                self.add("model_removed", "/spec/type", "it serves tools, and no models any more");
                self.add("endpoint_changed", "/spec/type", "it is another server");
            }
            (ProviderSpec::Mcp(_), ProviderSpec::Llm(_)) => {
                self.add("tool_removed", "/spec/type", "it serves models, and no tools any more");
                self.add("endpoint_changed", "/spec/type", "it is another server");
            }
        }
    }

    fn llm(&mut self, from: &LlmSpec, to: &LlmSpec) {
        let left = to.model_names();
        for (i, model) in from.model_names().into_iter().enumerate().filter(|(_, m)| !left.contains(m)) {
            self.add("model_removed", format!("/spec/models/{i}"), format!("the model `{model}` is gone"));
        }
        match (from, to) {
            (LlmSpec::Offline { .. }, LlmSpec::Offline { .. }) => {}
            (
                LlmSpec::Openai { base_url, credential, .. },
                LlmSpec::Openai { base_url: new_url, credential: new_credential, .. },
            ) => {
                self.endpoint("/spec/base_url", "address", base_url == new_url);
                self.endpoint("/spec/credential", "credential", credential == new_credential);
            }
            _ => self.endpoint("/spec/dialect", "dialect", false),
        }
    }

    fn endpoint(&mut self, path: &str, what: &str, is_same: bool) {
        if !is_same {
            self.add("endpoint_changed", path, format!("the {what} changed"));
        }
    }

    fn mcp(&mut self, from: &McpSpec, to: &McpSpec) {
        self.transport(&from.transport, &to.transport);
        for (i, tool) in from.tools.iter().enumerate() {
            let Some((j, now)) = to.tools.iter().enumerate().find(|(_, t)| t.name == tool.name) else {
                self.add(
                    "tool_removed",
                    format!("/spec/tools/{i}"),
                    format!("the tool `{}` is gone", tool.name),
                );
                continue;
            };
            self.risk(&format!("/spec/tools/{j}/risk"), &tool.name, Some(tool.risk), Some(now.risk));
            if now.idempotent == Some(true) && tool.idempotent != Some(true) {
                let message =
                    format!("a call of `{}` whose outcome is unknown is made again unasked", tool.name);
                self.add("risk_lowered", format!("/spec/tools/{j}/idempotent"), message);
            }
            if tool.is_open_world() && !now.is_open_world() {
                let message =
                    format!("effects of `{}` after untrusted output ask nobody any more", tool.name);
                self.add("risk_lowered", format!("/spec/tools/{j}/open_world"), message);
            }
            if now.is_output_trusted() && !tool.is_output_trusted() {
                let message =
                    format!("what `{}` answers is trusted: no effect after it asks for people", tool.name);
                self.add("risk_lowered", format!("/spec/tools/{j}/trusted_output"), message);
            }
            // a first pin over none names the definition that was reviewed
            if tool.definition_sha256.is_some() && now.definition_sha256 != tool.definition_sha256 {
                let message = format!("the tool `{}` is pinned to another definition, or to none", tool.name);
                self.add("definition_changed", format!("/spec/tools/{j}"), message);
            }
        }
    }

    fn transport(&mut self, from: &TransportSpec, to: &TransportSpec) {
        match (from, to) {
            (
                TransportSpec::Stdio { command, args, env, credentials },
                TransportSpec::Stdio {
                    command: new_command,
                    args: new_args,
                    env: new_env,
                    credentials: new_credentials,
                },
            ) => {
                self.endpoint("/spec/command", "command", command == new_command);
                self.endpoint("/spec/args", "command's arguments", args == new_args);
                self.endpoint("/spec/env", "environment's credentials", env == new_env);
                self.endpoint("/spec/credentials", "arguments' credentials", credentials == new_credentials);
            }
            (TransportSpec::Http { url, auth }, TransportSpec::Http { url: new_url, auth: new_auth }) => {
                self.endpoint("/spec/url", "address", url == new_url);
                self.endpoint("/spec/auth", "way to show who calls, or its credential", auth == new_auth);
            }
            _ => self.endpoint("/spec/transport", "transport", false),
        }
    }

    /// A missing risk is the lowest: a grant's counts only upward from the tool's own.
    fn risk(&mut self, path: &str, tool: &str, from: Option<Risk>, to: Option<Risk>) {
        if to < from {
            let now = to.map_or("what the tool's own contract says", Risk::as_str);
            self.add("risk_lowered", path, format!("`{tool}` counts as {now}"));
        }
    }

    fn agent(&mut self, from: &AgentSpec, to: &AgentSpec) {
        self.schema("output_schema_narrowed", "output_schema", &from.output_schema, &to.output_schema);
        let input = |agent: &AgentSpec| agent.input_schema.clone().unwrap_or(Value::Bool(true));
        self.schema("input_schema_narrowed", "input_schema", &input(from), &input(to));
        if to.mode > from.mode {
            let message = format!("from {} to {}", from.mode.as_str(), to.mode.as_str());
            self.add("mode_raised", "/spec/mode", message);
        }
        self.limit("concurrency", "runs", from.concurrency, to.concurrency);
        for (i, grant) in from.grants.iter().enumerate() {
            if !to.grants.iter().any(|g| g.tool == grant.tool) {
                let message = format!("`{}` is no longer granted", grant.tool);
                self.add("tool_removed", format!("/spec/grants/{i}"), message);
            }
        }
        for (i, schedule) in from.schedules.iter().enumerate().filter(|(_, s)| s.enabled) {
            let message = match to.schedules.iter().find(|s| s.id == schedule.id) {
                Some(now) if now.enabled => continue,
                Some(_) => format!("the schedule `{}` is switched off", schedule.id),
                None => format!("the schedule `{}` is gone", schedule.id),
            };
            self.add("schedule_dropped", format!("/spec/schedules/{i}"), message);
        }
        for (i, grant) in to.grants.iter().enumerate() {
            let path = format!("/spec/grants/{i}");
            match from.grants.iter().find(|g| g.tool == grant.tool) {
                None => self.add("grant_widened", path, format!("`{}` is granted", grant.tool)),
                Some(before) => self.grant(&path, before, grant),
            }
        }
    }

    fn schema(&mut self, rule: &'static str, member: &str, from: &Value, to: &Value) {
        for narrowing in narrowings(from, to) {
            self.add(rule, format!("/spec/{member}{}", narrowing.path), narrowing.message);
        }
    }

    /// Constraints may only grow tighter: what the newer ones accept, the older ones must accept too.
    fn grant(&mut self, path: &str, from: &Grant, to: &Grant) {
        self.risk(path, &to.tool, from.risk, to.risk);
        let Some(before) = &from.constraints else { return };
        let looser = narrowings(to.constraints.as_ref().unwrap_or(&Value::Bool(true)), before);
        let Some(first) = looser.first() else { return };
        if to.constraints.is_none() {
            self.add("grant_widened", path, format!("the constraints of `{}` are gone", to.tool));
        } else {
            let place = if first.path.is_empty() { String::new() } else { format!(" (at {})", first.path) };
            let message =
                format!("the constraints of `{}` are not provably as tight as before{place}", to.tool);
            self.add("grant_widened", format!("{path}/constraints"), message);
        }
    }

    fn policy(&mut self, from: &PolicySpec, to: &PolicySpec) {
        let denied = to.deny.as_deref().unwrap_or_default();
        for (i, pattern) in from.deny.iter().flatten().enumerate() {
            if !denied.iter().any(|d| d.covers(pattern)) {
                let message = format!("`{pattern}` is no longer denied");
                self.add("policy_weakened", format!("/spec/deny/{i}"), message);
            }
        }
        if from.pins.is_some() && to.pins.is_none() {
            let message = "tools are pinned at first sight again";
            self.add("policy_weakened", "/spec/pins", message);
        }
        self.kept("approvals", &from.approvals, &to.approvals, asks_as_much);
        self.kept("anomalies", &from.anomalies, &to.anomalies, watches_as_much);
        self.kept("rates", &from.rates, &to.rates, limits_as_much);
        self.after_untrusted_output(from, to);
        let after: Vec<_> = to.redaction.iter().flat_map(|r| &r.patterns).collect();
        for (i, pattern) in from.redaction.iter().flat_map(|r| &r.patterns).enumerate() {
            let is_kept = |p: &&RedactionPattern| {
                p.name == pattern.name && p.pattern == pattern.pattern && p.action >= pattern.action
            };
            if !after.iter().any(is_kept) {
                let message = format!("the pattern `{}` is gone, another or hides less", pattern.name);
                self.add("policy_weakened", format!("/spec/redaction/patterns/{i}"), message);
            }
        }
    }

    /// Every older rule has a newer one that is as strict.
    fn kept<T>(
        &mut self,
        section: &str,
        from: &Option<Vec<T>>,
        to: &Option<Vec<T>>,
        is_as_strict: fn(&T, &T) -> bool,
    ) {
        for (i, before) in from.iter().flatten().enumerate() {
            if !to.iter().flatten().any(|after| is_as_strict(after, before)) {
                let message = "the rule is gone or looser";
                self.add("policy_weakened", format!("/spec/{section}/{i}"), message);
            }
        }
    }

    /// Nothing more is let through after untrusted output, and what was asked for in spite of that still is.
    fn after_untrusted_output(&mut self, from: &PolicySpec, to: &PolicySpec) {
        let rules = |spec: &PolicySpec, action| -> Vec<(usize, UntrustedRule)> {
            let all = spec.after_untrusted_output.iter().flatten().cloned().enumerate();
            all.filter(|(_, rule)| rule.action == action).collect()
        };
        let covered = |by: &[(usize, UntrustedRule)], rule: &UntrustedRule| {
            by.iter().any(|(_, r)| covers(&r.tools, &rule.tools) && covers_agents(&r.agents, &rule.agents))
        };
        let (allowed, asked) = (rules(from, UntrustedAction::Allow), rules(to, UntrustedAction::Approve));
        let path = |i: usize| format!("/spec/after_untrusted_output/{i}");
        for (i, rule) in rules(to, UntrustedAction::Allow) {
            if !covered(&allowed, &rule) {
                self.add("policy_weakened", path(i), "effects after untrusted output ask nobody");
            }
        }
        for (i, rule) in rules(from, UntrustedAction::Approve) {
            if !covered(&asked, &rule) {
                self.add("policy_weakened", path(i), "the rule is gone or looser");
            }
        }
    }

    fn channel(&mut self, from: &ChannelSpec, to: &ChannelSpec) {
        match (from, to) {
            (ChannelSpec::Telegram(from), ChannelSpec::Telegram(to)) => {
                self.endpoint("/spec/bot_token", "credential", from.bot_token == to.bot_token);
                self.endpoint("/spec/webhook_secret", "credential", from.webhook_secret == to.webhook_secret);
                self.heard("/spec/allow_chats", Some(&from.allow_chats), Some(&to.allow_chats));
            }
            (ChannelSpec::Webhook(from), ChannelSpec::Webhook(to)) => {
                self.endpoint("/spec/url", "address", from.url == to.url);
                self.endpoint("/spec/signing_secret", "credential", from.signing_secret == to.signing_secret);
                self.heard("/spec/allow_senders", from.allow_senders.as_ref(), to.allow_senders.as_ref());
            }
            _ => {
                self.endpoint("/spec/type", "type", false);
                self.add("channel_widened", "/spec/type", "other people are heard");
            }
        }
    }

    /// An allow-list may only shrink; without one everyone is heard.
    fn heard<T: PartialEq>(&mut self, path: &str, from: Option<&Vec<T>>, to: Option<&Vec<T>>) {
        match (from, to) {
            (None, _) => {}
            (Some(_), None) => self.add("channel_widened", path, "the allow-list is gone"),
            (Some(before), Some(after)) => {
                for (i, _) in after.iter().enumerate().filter(|(_, one)| !before.contains(one)) {
                    self.add("channel_widened", format!("{path}/{i}"), "one more is heard");
                }
            }
        }
    }
}

/// Every tool the older rule speaks of is one the newer speaks of.
fn covers(after: &Option<Vec<ToolPattern>>, before: &Option<Vec<ToolPattern>>) -> bool {
    let Some(after) = after else { return true };
    let Some(before) = before else { return after.iter().any(|p| p.covers(&ToolPattern::new("*"))) };
    before.iter().all(|b| after.iter().any(|a| a.covers(b)))
}

fn asks_as_much(after: &ApprovalRule, before: &ApprovalRule) -> bool {
    after.risk <= before.risk
        && covers(&after.tools, &before.tools)
        && after.signatures >= before.signatures
        && after.expires_in_s <= before.expires_in_s
}

fn watches_as_much(after: &AnomalyRule, before: &AnomalyRule) -> bool {
    after.kind == before.kind
        && after.action >= before.action
        && after.count <= before.count
        && after.window_s >= before.window_s
}

/// Every agent the older rule speaks of is one the newer speaks of.
fn covers_agents(after: &Option<Vec<AgentId>>, before: &Option<Vec<AgentId>>) -> bool {
    match (after, before) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(after), Some(before)) => before.iter().all(|agent| after.contains(agent)),
    }
}

/// One count for the project is at least as strict as one for each agent or each tool. A rule
/// with a window and a bound is kept by one that has both.
fn limits_as_much(after: &RateRule, before: &RateRule) -> bool {
    let rate = |rule: &RateRule| rule.calls.zip(rule.window_s);
    let is_rate_kept = rate(before).is_none_or(|(calls, window_s)| {
        rate(after).is_some_and(|(now, now_s)| now <= calls && now_s >= window_s)
    });
    let is_bound_kept = before.concurrent.is_none_or(|most| after.concurrent.is_some_and(|now| now <= most));
    (after.per == before.per || after.per == RatePer::Project)
        && covers(&after.tools, &before.tools)
        && is_rate_kept
        && is_bound_kept
}

#[cfg(test)]
mod tests;
