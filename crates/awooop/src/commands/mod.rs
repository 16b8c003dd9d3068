//! The commands that are clients of a server, one file each, and the frame they share.
//!
//! Each takes its arguments and gives a reply or a failure; [`client`] prints it and watches for Ctrl-C.
//! Invariant: no command prints to stdout itself (completions apart, which is no document).

pub(crate) mod access;
pub(crate) mod apply;
pub(crate) mod approvals;
pub(crate) mod audit;
mod bulk;
mod change;
pub(crate) mod completions;
pub(crate) mod contract;
pub(crate) mod describe;
pub(crate) mod get;
pub(crate) mod halt;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod login;
mod manifests;
pub(crate) mod mcp;
mod progress;
pub(crate) mod project;
pub(crate) mod redact;
mod report;
pub(crate) mod retire;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schedules;
pub(crate) mod tools;
mod top;
mod wait;
pub(crate) mod whoami;

use std::process::ExitCode;
use std::sync::OnceLock;

use crate::cli::{
    ApplyArgs, ApprovalsCommand, AuditCommand, ContractCommand, DiffArgs, GetArgs, HaltsArgs, KeyCommand,
    LoginArgs, LogoutArgs, McpCommand, NamedArgs, PauseArgs, PrincipalsCommand, ProjectCommand, ResumeArgs,
    RolesCommand, RunArgs, RunsCommand, SchedulesCommand, StartArgs, StopArgs, ToolsCommand, WhoamiArgs,
};
use crate::failure::Failure;
use crate::output::{Reply, finish};

/// What Ctrl-C has to know: the run that was started or is watched.
#[derive(Default)]
pub(crate) struct Session {
    run_id: OnceLock<String>,
}

impl Session {
    /// From now on an interrupt names this run.
    pub(crate) fn follows(&self, run_id: &str) {
        // One command follows one run.
        let _ = self.run_id.set(run_id.to_owned());
    }
}

/// Arguments that say in which shape the result is wanted.
pub(crate) trait HasJson {
    /// Is one JSON document wanted?
    fn is_json(&self) -> bool;
}

/// Runs a command to its end or to Ctrl-C, and prints what came of it.
pub(crate) async fn client<A: HasJson>(
    command: impl AsyncFnOnce(A, &Session) -> Result<Reply, Failure>,
    args: A,
) -> ExitCode {
    let session = Session::default();
    let is_json = args.is_json();
    let result = tokio::select! {
        // The handler has to stand before the command's first request: an interrupt right after it must still
        // name the run.
        biased;
        Ok(()) = tokio::signal::ctrl_c() => {
            Err(Failure::Interrupted { run_id: session.run_id.get().cloned() })
        }
        result = Box::pin(command(args, &session)) => result,
    };
    finish(result, is_json)
}

macro_rules! json_of_client {
    ($($args:ident),+) => {
        $(impl HasJson for $args {
            fn is_json(&self) -> bool {
                self.client.json
            }
        })+
    };
}

json_of_client!(ApplyArgs, DiffArgs, GetArgs, NamedArgs, RunArgs);
json_of_client!(WhoamiArgs);
json_of_client!(PauseArgs, ResumeArgs, StopArgs, StartArgs, HaltsArgs);

impl HasJson for ContractCommand {
    fn is_json(&self) -> bool {
        match self {
            ContractCommand::Draft(args) => args.client.json,
            ContractCommand::Publish(args) => args.client.json,
            ContractCommand::Sign(args) => args.client.json,
            ContractCommand::Activate(args) => args.client.json,
            ContractCommand::Versions(args) => args.client.json,
            ContractCommand::Diff(args) => args.client.json,
            ContractCommand::Pin(args) => args.client.json,
            ContractCommand::Rematerialise(args) => args.client.json,
            ContractCommand::Resign(args) => args.client.json,
            ContractCommand::Schema(args) => args.json,
        }
    }
}

impl HasJson for ApprovalsCommand {
    fn is_json(&self) -> bool {
        match self {
            ApprovalsCommand::List(args) => args.client.json,
            ApprovalsCommand::Get(args) => args.client.json,
            ApprovalsCommand::Approve(args) => args.approval.client.json,
            ApprovalsCommand::Deny(args) => args.approval.client.json,
            ApprovalsCommand::Record(args) => args.approval.client.json,
        }
    }
}

impl HasJson for RunsCommand {
    fn is_json(&self) -> bool {
        match self {
            RunsCommand::List(args) => args.client.json,
            RunsCommand::Cancel(args) => args.client.json,
            RunsCommand::Retry(args) => args.client.json,
            RunsCommand::Get(args) | RunsCommand::Watch(args) => args.client.json,
            RunsCommand::Top(args) => args.client.json,
            RunsCommand::Expire(args) => args.json,
        }
    }
}

impl HasJson for SchedulesCommand {
    fn is_json(&self) -> bool {
        match self {
            SchedulesCommand::List(args) => args.client.json,
            SchedulesCommand::Fire(args) => args.client.json,
        }
    }
}

impl HasJson for ProjectCommand {
    fn is_json(&self) -> bool {
        match self {
            ProjectCommand::Export(args) => args.client.json,
            ProjectCommand::Delete(args) => args.client.json,
            ProjectCommand::Deletions(args) => args.client.json,
        }
    }
}

impl HasJson for ToolsCommand {
    fn is_json(&self) -> bool {
        match self {
            ToolsCommand::List(args) => args.client.json,
            ToolsCommand::Diff(args) => args.client.json,
            ToolsCommand::Why(args) => args.client.json,
        }
    }
}

impl HasJson for KeyCommand {
    fn is_json(&self) -> bool {
        match self {
            KeyCommand::Create(args) => args.client.json,
            KeyCommand::List(args) => args.client.json,
            KeyCommand::Rotate(args) => args.client.json,
            KeyCommand::Revoke(args) => args.client.json,
        }
    }
}

impl HasJson for PrincipalsCommand {
    fn is_json(&self) -> bool {
        match self {
            PrincipalsCommand::List(args) => args.client.json,
            PrincipalsCommand::Get(args) | PrincipalsCommand::Enable(args) => args.client.json,
            PrincipalsCommand::Disable(args) => args.client.json,
        }
    }
}

impl HasJson for RolesCommand {
    fn is_json(&self) -> bool {
        match self {
            RolesCommand::List(args) => args.client.json,
            RolesCommand::Grant(args) => args.client.json,
            RolesCommand::Revoke(args) => args.client.json,
        }
    }
}

impl HasJson for LoginArgs {
    fn is_json(&self) -> bool {
        self.json
    }
}

impl HasJson for LogoutArgs {
    fn is_json(&self) -> bool {
        self.json
    }
}

impl HasJson for AuditCommand {
    fn is_json(&self) -> bool {
        match self {
            AuditCommand::Search(args) => args.client.json,
            AuditCommand::Export(args) => args.client.json,
            AuditCommand::Head(args) => args.client.json,
            AuditCommand::Verify(args) => args.client.json,
            AuditCommand::Prove(args) => args.client.json,
            AuditCommand::Expire(args) => args.json,
        }
    }
}

impl HasJson for McpCommand {
    fn is_json(&self) -> bool {
        match self {
            McpCommand::Config(args) => args.json,
            McpCommand::Stdio(_) => false,
        }
    }
}
