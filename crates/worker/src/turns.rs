//! Whose turn it is: weighted round robin over the projects with due runs. In its turn a project may take as many
//! slots as it has weight; a turn that was cut short, because no slot was free, goes on first. So between the
//! enqueuing of a run and its project's turn every other project has at most one turn, however many runs it has.
//!
//! What a project does not use of its share others get at the next look. One that waits for a cap is left out for
//! [`REST`], so that the others do not pay for looking at it again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use awooop_core::ProjectId;
use awooop_store::claim::Due;

/// How long a project that waits for a cap is left out, unless a run of it ends here.
pub(crate) const REST: Duration = Duration::from_millis(100);

/// The order of turns.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    after: String,
    cut_short: Option<(ProjectId, usize)>,
}

impl Turns {
    /// The project that had the last turn, or `""`: the next to look at come after it.
    pub(crate) fn after(&self) -> &str {
        &self.after
    }

    /// Shares `free` slots out. `due` are the next projects with due runs, in the order of their turns; `is_whole` says
    /// that there are no others, so that they may have more than one turn.
    pub(crate) fn share(&mut self, due: &[Due], is_whole: bool, free: usize) -> Vec<(ProjectId, usize)> {
        let (mut left, mut shares) = (free, Vec::<(ProjectId, usize)>::new());
        if let Some((project, rest)) = self.cut_short.take() {
            self.turn(&mut shares, &mut left, project, rest);
        }
        while left > 0 && !due.is_empty() {
            for next in due {
                if left == 0 {
                    break;
                }
                self.after = next.project.to_string();
                self.turn(&mut shares, &mut left, next.project.clone(), next.weight);
            }
            if !is_whole {
                break;
            }
        }
        shares
    }

    fn turn(
        &mut self,
        shares: &mut Vec<(ProjectId, usize)>,
        left: &mut usize,
        project: ProjectId,
        wants: usize,
    ) {
        let gets = wants.min(*left);
        *left -= gets;
        self.cut_short = (gets < wants).then(|| (project.clone(), wants - gets));
        match shares.iter_mut().find(|(known, _)| *known == project) {
            Some((_, share)) => *share += gets,
            None => shares.push((project, gets)),
        }
    }

    /// The project had fewer runs than its share: what is left of its turn is gone.
    pub(crate) fn end(&mut self, project: &ProjectId) {
        self.cut_short.take_if(|(cut, _)| cut == project);
    }
}

/// Projects that wait for a cap. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resting(Arc<Mutex<HashMap<ProjectId, Instant>>>);

impl Resting {
    /// Leaves the project out for a while.
    pub(crate) fn rest(&self, project: ProjectId) {
        self.0.lock().expect("no panic while held").insert(project, Instant::now());
    }

    /// There may be room for another of its runs.
    pub(crate) fn wake(&self, project: &ProjectId) {
        self.0.lock().expect("no panic while held").remove(project);
    }

    /// Those that are left out now.
    pub(crate) fn now(&self) -> Vec<ProjectId> {
        let mut resting = self.0.lock().expect("no panic while held");
        resting.retain(|_, since| since.elapsed() < REST);
        resting.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(weights: &[(&str, usize)]) -> Vec<Due> {
        let due = |(id, weight): &(&str, usize)| Due { project: project(id), weight: *weight };
        weights.iter().map(due).collect()
    }

    fn project(id: &str) -> ProjectId {
        ProjectId::parse(id).unwrap()
    }

    /// The ring of `all` from the turn that is next, as discovery would answer.
    fn ring(turns: &Turns, all: &[Due]) -> Vec<Due> {
        let (before, after): (Vec<_>, Vec<_>) =
            all.iter().cloned().partition(|d| d.project.as_str() <= turns.after());
        after.into_iter().chain(before).collect()
    }

    #[test]
    fn slots_are_shared_by_weight_whatever_their_number_at_a_time() {
        let all = due(&[("a1", 1), ("b1", 3), ("c1", 2)]);
        for free in [1, 2, 5, 6, 7, 64] {
            let (mut turns, mut had) = (Turns::default(), HashMap::<ProjectId, usize>::new());
            let mut given = 0;
            while given < 6 * 64 {
                let free = free.min(6 * 64 - given);
                for (project, share) in turns.share(&ring(&turns, &all), true, free) {
                    *had.entry(project).or_default() += share;
                    given += share;
                }
            }
            let counts = ["a1", "b1", "c1"].map(|id| had[&project(id)]);
            assert_eq!(counts, [64, 192, 128], "with {free} free at a time");
        }
    }

    #[test]
    fn between_two_turns_of_a_project_every_other_has_one() {
        let all = due(&[("a1", 5), ("b1", 1)]);
        let (mut turns, mut order) = (Turns::default(), String::new());
        for _ in 0..12 {
            let shares = turns.share(&ring(&turns, &all)[..1], false, 1);
            order.push_str(&shares[0].0.as_str()[..1]);
        }
        assert_eq!(order, "aaaaabaaaaab");
    }

    #[test]
    fn a_turn_ends_with_the_projects_last_run() {
        let all = due(&[("a1", 9), ("b1", 1)]);
        let mut turns = Turns::default();
        assert_eq!(turns.share(&all, true, 2), [(project("a1"), 2)]);
        turns.end(&project("a1"));
        assert_eq!(turns.share(&ring(&turns, &all), true, 1), [(project("b1"), 1)]);
    }

    #[test]
    fn a_project_alone_gets_everything() {
        let all = due(&[("a1", 3)]);
        assert_eq!(Turns::default().share(&all, true, 64), [(project("a1"), 64)]);
        assert!(Turns::default().share(&[], true, 64).is_empty());
    }

    #[test]
    fn a_project_that_was_woken_rests_no_longer() {
        let resting = Resting::default();
        resting.rest(project("a1"));
        assert_eq!(resting.now(), [project("a1")]);
        resting.wake(&project("a1"));
        assert!(resting.now().is_empty());
    }
}
