//! Attacks on the API, each a row: what is sent, and what has to come back. They reach the server as anybody on the
//! network would, most of them byte by byte, because a client of good manners cannot send them.
//!
//! After its rows every table asks the same of the server: it answers, it did not panic, it did not grow, and the doctor
//! finds nothing.

mod bodies;
mod callers;
mod cursors;
mod headers;
mod keys;
mod paths;
mod smuggling;
mod strangers;
mod wire;

use awooop_journeys::client::Api;
use awooop_journeys::fixture_mcp::FixtureMcp;

use crate::operations::{Furnished, MINE};
use crate::scripted::Stage;
use crate::support::make_project;
use wire::Wire;

const OTHER: &str = "tenant-other";
/// Most that a table of attacks may leave the server larger by, in KiB.
const MOST_GROWTH_KIB: u64 = 200 * 1024;

/// A server with two projects: the one that is attacked, and a stranger's.
struct Ground {
    stage: Stage,
    furnished: Furnished,
    /// The admin of another project.
    other: Api,
    wire: Wire,
    kib_before: u64,
    _fixture: FixtureMcp,
}

impl Ground {
    async fn start() -> Ground {
        let stage = Stage::start(&[], None).await;
        let fixture = FixtureMcp::start().await.unwrap();
        let furnished = Furnished::make(stage.server.api(), &fixture).await;
        let other = make_project(stage.server.api(), OTHER, &fixture, "fail").await;
        let wire = Wire::to(stage.server.url());
        let mut ground = Ground { stage, furnished, other, wire, kib_before: 0, _fixture: fixture };
        ground.kib_before = ground.resident_kib();
        ground
    }

    /// A key of [`MINE`] made with this body, as text.
    async fn key(&self, body: serde_json::Value) -> String {
        self.stage.api(MINE).create_key(&body).await.unwrap()
    }

    /// How many runs of this agent there are, in any project.
    async fn runs_of(&self, agent: &str) -> i64 {
        let admin = self.stage.database.admin().await;
        let sql = "SELECT count(*) FROM awooop.run_state WHERE agent_id = $1";
        admin.query_one(sql, &[&agent]).await.unwrap().get(0)
    }

    fn resident_kib(&self) -> u64 {
        let pid = self.stage.server.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// What has to be true after any attack.
    async fn assert_unharmed(&self) {
        let admin = self.stage.server.api();
        assert_eq!(admin.get("/readyz").await.unwrap().status, 200);
        admin.get("/v1/platform/whoami").await.unwrap().expect(200).unwrap();
        let log = self.stage.home.log();
        let panicked = log.lines().find(|line| line.contains("panicked"));
        assert_eq!(panicked, None);
        let grown = self.resident_kib().saturating_sub(self.kib_before);
        assert!(grown < MOST_GROWTH_KIB, "the server grew by {grown} KiB");
        self.stage.assert_well().await;
    }
}
