//! Halts: what people hold back, and which work one covers. A pause lets nothing new begin: queued runs wait, and
//! what is under way goes on to its end. A stop cuts that too: no claim, no model call and no tool call begins, and
//! those under way are cut. Neither fails a run; what they hold back waits until the halt is lifted, but for calls of
//! a stopped tool, which are refused one by one.

use crate::ids::{AgentId, ProjectId, ProviderId, ToolName};

/// How much is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HaltKind {
    /// Nothing new begins; what is under way ends.
    Pause,
    /// Nothing begins, and what is under way is cut.
    Stop,
}

impl HaltKind {
    /// As the API and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Stop => "stop",
        }
    }

    /// Reads a kind back from its text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pause, Self::Stop].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What is held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every project; the operators' alone.
    All,
    /// One project.
    Project,
    /// One agent of it.
    Agent(AgentId),
    /// One provider of it: its models, or all of its tools.
    Provider(ProviderId),
    /// One tool of it.
    Tool(ToolName),
}

impl Target {
    /// What the API and the database call targets of this sort.
    pub fn sort(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Project => "project",
            Self::Agent(_) => "agent",
            Self::Provider(_) => "provider",
            Self::Tool(_) => "tool",
        }
    }

    /// The name of an agent, provider or tool; else empty.
    pub fn name(&self) -> String {
        match self {
            Self::All | Self::Project => String::new(),
            Self::Agent(id) => id.to_string(),
            Self::Provider(id) => id.to_string(),
            Self::Tool(name) => name.to_string(),
        }
    }

    /// Reads a target back from its two texts; `None` when they name nothing.
    pub fn parse(sort: &str, name: &str) -> Option<Self> {
        match sort {
            "all" if name.is_empty() => Some(Self::All),
            "project" if name.is_empty() => Some(Self::Project),
            "agent" => AgentId::parse(name).ok().map(Self::Agent),
            "provider" => ProviderId::parse(name).ok().map(Self::Provider),
            "tool" => ToolName::parse(name).map(Self::Tool),
            _ => None,
        }
    }

    /// May it be halted in this way? Calls are not queued, so of providers and tools there is no pause.
    pub fn allows(&self, kind: HaltKind) -> bool {
        kind == HaltKind::Stop || matches!(self, Self::Project | Self::Agent(_))
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("every project"),
            Self::Project => f.write_str("the project"),
            named => write!(f, "the {} `{}`", named.sort(), named.name()),
        }
    }
}

/// A piece of work that a halt may cover: a run, or one call of it or of an MCP client.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// Whose it is.
    pub project: &'a ProjectId,
    /// Who does it.
    pub agent: &'a AgentId,
    /// The provider that is called.
    pub provider: Option<&'a ProviderId>,
    /// The tool that is called.
    pub tool: Option<&'a ToolName>,
}

/// Where something is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The project it stands in; of [`Target::All`] the operators'.
    pub project: ProjectId,
    /// What is stopped.
    pub target: Target,
}

impl Stop {
    /// Does it hold this work back?
    pub fn covers(&self, work: Work<'_>) -> bool {
        let is_here = self.project == *work.project;
        match &self.target {
            Target::All => self.project.is_platform(),
            Target::Project => is_here,
            Target::Agent(agent) => is_here && agent == work.agent,
            Target::Provider(provider) => is_here && work.provider == Some(provider),
            Target::Tool(tool) => is_here && work.tool == Some(tool),
        }
    }

    /// Does it hold back every agent's calls of this tool?
    pub fn covers_tool(&self, project: &ProjectId, tool: &ToolName) -> bool {
        let is_here = self.project == *project;
        match &self.target {
            Target::All => self.project.is_platform(),
            Target::Project => is_here,
            Target::Agent(_) => false,
            Target::Provider(provider) => is_here && tool.provider() == provider,
            Target::Tool(stopped) => is_here && tool == stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(project: &str, sort: &str, name: &str) -> Stop {
        Stop { project: ProjectId::parse(project).unwrap(), target: Target::parse(sort, name).unwrap() }
    }

    #[test]
    fn a_stop_covers_its_own_work_and_nothing_of_another_project() {
        let (project, agent) = (ProjectId::parse("mine").unwrap(), AgentId::parse("clerk").unwrap());
        let tool = ToolName::parse("shop__orders").unwrap();
        let call =
            Work { project: &project, agent: &agent, provider: Some(tool.provider()), tool: Some(&tool) };
        let run = Work { provider: None, tool: None, ..call };
        for (sort, name, covers_run, covers_call) in [
            ("project", "", true, true),
            ("agent", "clerk", true, true),
            ("agent", "other", false, false),
            ("provider", "shop", false, true),
            ("provider", "other", false, false),
            ("tool", "shop__orders", false, true),
            ("tool", "shop__refunds", false, false),
        ] {
            let here = stop("mine", sort, name);
            assert_eq!((here.covers(run), here.covers(call)), (covers_run, covers_call), "{here:?}");
            let elsewhere = stop("theirs", sort, name);
            assert!(!elsewhere.covers(run) && !elsewhere.covers(call), "{elsewhere:?}");
        }
        assert!(stop("platform", "all", "").covers(run));
        assert!(!stop("theirs", "all", "").covers(run), "only the operators stop everything");
    }

    #[test]
    fn targets_read_back_and_only_runs_can_be_paused() {
        for (sort, name, may_pause) in [
            ("all", "", false),
            ("project", "", true),
            ("agent", "clerk", true),
            ("provider", "shop", false),
            ("tool", "shop__orders", false),
        ] {
            let target = Target::parse(sort, name).unwrap();
            assert_eq!((target.sort(), target.name().as_str()), (sort, name));
            assert_eq!((target.allows(HaltKind::Pause), target.allows(HaltKind::Stop)), (may_pause, true));
        }
        for (sort, name) in [("all", "x"), ("project", "x"), ("agent", ""), ("tool", "plain"), ("run", "ab")]
        {
            assert_eq!(Target::parse(sort, name), None, "{sort} {name}");
        }
    }
}
