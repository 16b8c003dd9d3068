//! What a schema cannot say about one manifest: that names are unique, that embedded schemas compile, that
//! addresses are addresses, that a redaction pattern finds what it claims to find.
//!
//! Every rule here is listed in `docs/contracts.md`; what needs other manifests is in `references`.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;

use super::constraints;
use super::credential_args::credentials_in_argument;
use super::personal_data::{BUILT_IN_CLASSES, PersonalDataSpec};
use super::policy::RedactionPattern;
use super::{AgentSpec, ApprovalRule, Manifest, PolicySpec, ProjectSpec, ProviderSpec, Spec, TransportSpec};
use crate::error::Violation;
use crate::ids::{AgentId, RESERVED_PROVIDER, ToolName};
use crate::lookalike::are_alike;
use crate::schedule::{Timetable, TimetableError};
use crate::schema::Schema;

/// Most memory a compiled redaction pattern may take, in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Checks a manifest that fits its schema and its type.
pub(super) fn check(manifest: &Manifest) -> Vec<Violation> {
    let mut found = Found::default();
    match &manifest.spec {
        Spec::Project(project) => check_project(manifest, project, &mut found),
        Spec::Provider(provider) => check_provider(&manifest.id, provider, &mut found),
        Spec::Agent(agent) => check_agent(&manifest.id, agent, &mut found),
        Spec::Policy(policy) => check_policy(policy, &mut found),
        Spec::Channel(_) => {}
    }
    found.0
}

/// Checks the addresses of a document that fits its schema: its pattern lets some pass that are none.
pub(super) fn check_addresses(document: &Value) -> Result<(), Vec<Violation>> {
    let wrong = |path: &str| {
        let text = document.pointer(path)?.as_str()?;
        let refused = url::Url::parse(text).err()?;
        Some(Violation::new(path, "format", format!("this is no address: {refused}")))
    };
    let places = ["/spec/url", "/spec/base_url", "/spec/auth/oauth/token_url"];
    let found: Vec<Violation> = places.into_iter().filter_map(wrong).collect();
    if found.is_empty() { Ok(()) } else { Err(found) }
}

#[derive(Default)]
struct Found(Vec<Violation>);

impl Found {
    fn refuse(&mut self, path: impl Into<String>, rule: &str, message: impl Into<String>) {
        self.0.push(Violation::new(path, rule, message));
    }

    /// Names that must differ; `path` gives the place of one by its index.
    fn unique<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a str>,
        path: impl Fn(usize) -> String,
        message: &str,
    ) {
        let mut seen = HashSet::new();
        for (i, name) in names.into_iter().enumerate() {
            if !seen.insert(name) {
                self.refuse(path(i), "unique", message);
            }
        }
    }

    fn compiles(&mut self, path: String, schema: Option<&Value>) {
        if let Some(Err(e)) = schema.map(Schema::compile) {
            self.refuse(path, "schema", e.to_string());
        }
    }
}

fn check_project(manifest: &Manifest, project: &ProjectSpec, found: &mut Found) {
    if manifest.id != manifest.project.as_str() {
        found.refuse("/id", "id", "a project contract's id is the project's own");
    }
    let activation = &project.activation;
    // whoever published does not sign, and a retirement then takes one more
    let others = usize::from(!activation.publisher_may_sign);
    let needed = usize::from(activation.signatures) + others;
    if activation.signers.as_ref().is_some_and(|s| s.len() < needed) {
        let message =
            format!("{needed} people are needed, publisher and retirements counted, and fewer may sign");
        found.refuse("/spec/activation/signers", "signers", message);
    }
    if let Some(personal_data) = &project.personal_data {
        check_allow_list(personal_data, found);
    }
}

/// What looks like a domain or a network is one: taken for a plain value it would let nothing through.
fn check_allow_list(personal_data: &PersonalDataSpec, found: &mut Found) {
    for (i, value) in personal_data.allow.iter().flatten().enumerate() {
        let wrong = match (value.strip_prefix('@'), value.split_once('/')) {
            (Some(domain), _) if !is_domain(domain) => "`@` is followed by a domain, such as @example.com",
            (None, Some((address, bits)))
                if address.parse::<IpAddr>().is_ok() && !is_network(address, bits) =>
            {
                "a network ends in its length, such as 203.0.113.0/24"
            }
            _ => continue,
        };
        found.refuse(format!("/spec/personal_data/allow/{i}"), "allow", wrong);
    }
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-');
    text.contains('.') && text.split('.').all(is_label)
}

fn is_network(address: &str, bits: &str) -> bool {
    let most = if address.contains(':') { 128 } else { 32 };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn check_provider(id: &str, provider: &ProviderSpec, found: &mut Found) {
    if id == RESERVED_PROVIDER || are_alike(id, RESERVED_PROVIDER) {
        let message = format!(
            "`{RESERVED_PROVIDER}` is where the platform's own tools are, and so is what looks like it"
        );
        found.refuse("/id", "reserved", message);
    }
    match provider {
        ProviderSpec::Llm(llm) => {
            let path = |i| format!("/spec/models/{i}/name");
            found.unique(llm.model_names(), path, "this model is listed twice");
        }
        ProviderSpec::Mcp(mcp) => {
            let path = |i| format!("/spec/tools/{i}/name");
            found.unique(mcp.tools.iter().map(|t| t.name.as_str()), path, "this tool is listed twice");
            let own = format!("{RESERVED_PROVIDER}__");
            for (i, _) in mcp.tools.iter().enumerate().filter(|(_, tool)| tool.name.starts_with(&own)) {
                found.refuse(
                    path(i),
                    "reserved",
                    format!("names that begin with `{own}` are the platform's own"),
                );
            }
            check_transport(&mcp.transport, found);
        }
    }
}

/// Arguments ask for credentials of the contract only, and each of those is asked for.
fn check_transport(transport: &TransportSpec, found: &mut Found) {
    let TransportSpec::Stdio { args, credentials, .. } = transport else { return };
    for (i, argument) in args.iter().enumerate() {
        if let Some(name) =
            credentials_in_argument(argument).into_iter().find(|name| !credentials.contains_key(*name))
        {
            let message = format!("`credentials` has no `{name}`");
            found.refuse(format!("/spec/args/{i}"), "credentials", message);
        }
    }
    for name in credentials.keys() {
        if !args.iter().any(|argument| credentials_in_argument(argument).contains(&name.as_str())) {
            let message = format!("no argument asks for it: write {{credential.{name}}} in one");
            found.refuse(format!("/spec/credentials/{name}"), "credentials", message);
        }
    }
}

fn check_agent(id: &str, agent: &AgentSpec, found: &mut Found) {
    if let Err(e) = AgentId::parse(id) {
        found.refuse("/id", "pattern", e.to_string());
    }
    if agent.model.is_some() && agent.provider_and_model().is_none() {
        found.refuse("/spec/model", "pattern", "model is <provider>/<model>");
    }
    found.compiles("/spec/output_schema".to_owned(), Some(&agent.output_schema));
    found.compiles("/spec/input_schema".to_owned(), agent.input_schema.as_ref());
    for (i, grant) in agent.grants.iter().enumerate() {
        if ToolName::parse(&grant.tool).is_none() {
            let message = "a tool's full name is <provider>__<tool>";
            found.refuse(format!("/spec/grants/{i}/tool"), "pattern", message);
        }
        check_constraints(format!("/spec/grants/{i}/constraints"), grant.constraints.as_ref(), found);
    }
    let path = |i| format!("/spec/grants/{i}/tool");
    found.unique(agent.grants.iter().map(|g| g.tool.as_str()), path, "this tool is granted twice");
    check_schedules(agent, found);
}

/// They are a schema, every word of them means something, and arguments may fit them.
fn check_constraints(path: String, constraints: Option<&Value>, found: &mut Found) {
    let Some(constraints) = constraints else { return };
    match Schema::compile(constraints) {
        Ok(_) => found.0.extend(constraints::check(&path, constraints)),
        Err(e) => found.refuse(path, "schema", e.to_string()),
    }
}

/// A schedule has times, asks for no more than the agent may do, and asks what the agent accepts: nobody is there to
/// read a refusal when it fires.
fn check_schedules(agent: &AgentSpec, found: &mut Found) {
    let path = |i| format!("/spec/schedules/{i}/id");
    found.unique(agent.schedules.iter().map(|s| s.id.as_str()), path, "this schedule's id is used twice");
    let input_schema = agent.input_schema.as_ref().and_then(|schema| Schema::compile(schema).ok());
    for (i, schedule) in agent.schedules.iter().enumerate() {
        let path = format!("/spec/schedules/{i}");
        // each on its own, so that a first mistake does not hide a second
        if let Err(e @ TimetableError::Cron(_)) = Timetable::parse(&schedule.cron, "UTC") {
            found.refuse(format!("{path}/cron"), "cron", e.to_string());
        }
        if let Err(e @ TimetableError::Zone) = Timetable::parse("* * * * *", &schedule.time_zone) {
            found.refuse(format!("{path}/time_zone"), "zone", e.to_string());
        }
        if schedule.mode.is_some_and(|mode| mode > agent.mode) {
            found.refuse(format!("{path}/mode"), "mode", "the agent's own mode is the highest there is");
        }
        let unfit = input_schema.as_ref().and_then(|schema| schema.validate(&schedule.input).err());
        for violation in unfit.into_iter().flatten() {
            let path = format!("{path}/input{}", violation.path);
            found.refuse(path, &violation.keyword, violation.message);
        }
    }
}

fn check_policy(policy: &PolicySpec, found: &mut Found) {
    for (i, rule) in policy.approvals.iter().flatten().enumerate() {
        check_escalation(i, rule, found);
    }
    let Some(redaction) = &policy.redaction else { return };
    let path = |i| format!("/spec/redaction/patterns/{i}/name");
    let names = redaction.patterns.iter().map(|p| p.name.as_str());
    found.unique(names, path, "this pattern's name is used twice");
    for (i, pattern) in redaction.patterns.iter().enumerate() {
        if BUILT_IN_CLASSES.contains(&pattern.name.as_str()) {
            found.refuse(path(i), "class", "the platform finds a class of this name by itself");
        }
        check_pattern(&format!("/spec/redaction/patterns/{i}"), pattern, found);
    }
}

fn check_escalation(i: usize, rule: &ApprovalRule, found: &mut Found) {
    if rule.escalate_after_s.is_some_and(|after| after >= rule.expires_in_s) {
        let message = "the request expires before it would be escalated";
        found.refuse(format!("/spec/approvals/{i}/escalate_after_s"), "escalation", message);
    }
}

/// A pattern compiles within bounds, never matches nothing at all (it would mask between every two letters),
/// and finds and misses what its author says.
fn check_pattern(path: &str, pattern: &RedactionPattern, found: &mut Found) {
    let hir = match regex_syntax::parse(&pattern.pattern) {
        Ok(hir) => hir,
        Err(_) => return found.refuse(format!("{path}/pattern"), "regex", "this is no regular expression"),
    };
    if hir.properties().minimum_len() == Some(0) {
        return found.refuse(format!("{path}/pattern"), "regex", "it must not match the empty text");
    }
    let mut builder = regex::RegexBuilder::new(&pattern.pattern);
    let Ok(regex) = builder.size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES).build() else {
        return found.refuse(format!("{path}/pattern"), "regex", "it takes more than 1 MiB when compiled");
    };
    for (i, _) in pattern.matches.iter().enumerate().filter(|(_, text)| !regex.is_match(text)) {
        found.refuse(format!("{path}/matches/{i}"), "regex", "the pattern does not find this");
    }
    let misses = pattern.misses.iter().flatten().enumerate();
    for (i, _) in misses.filter(|(_, text)| regex.is_match(text)) {
        found.refuse(format!("{path}/misses/{i}"), "regex", "the pattern finds this");
    }
}

#[cfg(test)]
mod tests;
