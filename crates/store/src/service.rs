//! The one table of the tasks that a node runs for itself. None belongs to a project: what one does for a project, it
//! does in a scope of that project. A new one does not compile until it stands here, and the test that starts them
//! all beside two projects does not compile until it says what it checks of it.

/// Makes the table and everything that goes through all of it.
macro_rules! services {
    ($($(#[doc = $doc:literal])+ $service:ident = $name:literal,)+) => {
        /// A task of the node itself.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Service {
            $($(#[doc = $doc])+ $service,)+
        }

        impl Service {
            /// All of them.
            pub const ALL: &[Service] = &[$(Service::$service),+];

            /// Its name in logs and spans.
            pub fn name(self) -> &'static str {
                match self {
                    $(Service::$service => $name,)+
                }
            }
        }
    };
}

services! {
    /// Says that this worker lives, for all its leases at once.
    Heartbeat = "heartbeat",
    /// Takes queued runs and carries them out.
    Claimer = "claimer",
    /// Gives back what dead workers held, ends what is over time, wakes what waits.
    Reaper = "reaper",
    /// Follows changes of the keyring.
    Keyring = "keyring",
    /// Passes wake-ups on between processes.
    Wakes = "wakes",
    /// Keeps the clock at the database's, where no heartbeat does.
    Clock = "clock",
    /// Counts what projects have stored.
    Storage = "storage",
    /// Seals the audit.
    Sealer = "sealer",
    /// Writes the newest seals where nobody who can write to the database reaches them.
    AuditHeads = "audit heads",
    /// Deletes audit events that need not be kept any longer.
    AuditRetention = "audit retention",
    /// Deletes runs that their projects keep no longer.
    RunRetention = "run retention",
    /// Deletes the rows of deleted projects.
    ProjectDeletion = "project deletion",
    /// Cuts calls that somebody stops.
    Stops = "stops",
    /// Follows a renewed certificate.
    Certificate = "certificate",
    /// Takes connections.
    Http = "http",
    /// Serves one connection.
    Connection = "connection",
    /// Asks the database once for all who want to know the same.
    Ask = "ask",
    /// Asks the issuer of people's tokens for its keys.
    Issuer = "issuer",
    /// Keeps one connection to a tool server, or its child process.
    Upstream = "upstream",
    /// Keeps the process that carries runs out, where that is another one.
    SeparateWorker = "separate worker",
}
