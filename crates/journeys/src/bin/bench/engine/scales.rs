//! Ours alone, at other sizes: many projects, many queued runs. Queued runs are created as callers create them, in the
//! batches that form by themselves, so each has its audit event; what is measured of many queued runs is working some of
//! them off while the rest waits.

use std::fmt;

use super::{Measured, Sizes};
use crate::engine::site::Site;

/// Runs that are worked off while others wait.
const SOME: usize = 10_000;

/// One size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    projects: usize,
    queued: usize,
}

/// The sizes to measure beside one project with an empty queue.
pub(super) fn of(sizes: &Sizes) -> Vec<Scale> {
    let wide = [10, sizes.projects].map(|projects| Scale { projects, queued: sizes.jobs });
    let deep = [10_000, 100_000].into_iter().filter(|queued| *queued < sizes.queued).chain([sizes.queued]);
    wide.into_iter().chain(deep.map(|queued| Scale { projects: 1, queued })).collect()
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let projects = if self.projects == 1 { "project" } else { "projects" };
        write!(f, "{} {projects}, {} queued", self.projects, self.queued)
    }
}

impl Scale {
    pub(super) async fn measure(self, sizes: &Sizes) -> anyhow::Result<Vec<Measured>> {
        let site = Site::start(self.projects).await?;
        if self.projects > 1 {
            return site.measure(self.queued, sizes.seconds).await;
        }
        site.measure_deep(self.queued, SOME.min(self.queued / 2)).await
    }
}
