//! How many requests may be creating runs at a time. Beyond that a request is refused at once, before anything of it is
//! read: a node that is flooded answers what it has taken in, in the time it always takes, and says to the rest when to
//! come again. Waiting for a run's end does not count.
//!
//! A project takes no more places than are left free. Alone it gets half of them, two at the same time a third each, and
//! however many flood the node there is room for another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use awooop_core::{ErrorCode, ProjectId};
use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::caller::Access;
use crate::problem::Problem;
use crate::state::AppState;

/// Most requests that create runs at a time. More would only wait: they share transactions of 256 a project.
pub(crate) const MOST_CREATING: usize = 1024;

/// The places of a node.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of: HashMap<ProjectId, usize>,
}

impl Places {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, taken: Mutex::default() }
    }

    /// A place for somebody, before it is known who it is.
    fn take(self: &Arc<Self>) -> Result<Place, Problem> {
        let mut taken = self.lock();
        if taken.all >= self.most {
            return Err(Problem::new(
                ErrorCode::Limit002,
                "this node is creating as many runs as it can hold at a time",
            ));
        }
        taken.all += 1;
        Ok(Place { places: self.clone(), project: None })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    project: Option<ProjectId>,
}

impl Place {
    /// The place is this project's, if its share has room for it.
    fn of(mut self, project: &ProjectId) -> Result<Self, Problem> {
        let mut taken = self.places.lock();
        let free = self.places.most - taken.all;
        let of_project = taken.of.entry(project.clone()).or_default();
        if *of_project > free {
            return Err(Problem::new(
                ErrorCode::Limit002,
                "this node is creating as many runs of the project as its share of places allows",
            ));
        }
        *of_project += 1;
        drop(taken);
        self.project = Some(project.clone());
        Ok(self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        let Some(project) = &self.project else { return };
        if let Some(n) = taken.of.get_mut(project) {
            *n -= 1;
            if *n == 0 {
                taken.of.remove(project);
            }
        }
    }
}

/// A caller who may create a run, with a place for it.
pub(crate) struct Admitted {
    /// Who it is.
    pub(crate) access: Access,
    /// Given back when it is dropped.
    pub(crate) place: Place,
}

impl FromRequestParts<AppState> for Admitted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let place = state.creating.take()?;
        let access = Access::from_request_parts(parts, state).await?;
        let place = place.of(access.scope().project())?;
        Ok(Self { access, place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(name: &str) -> ProjectId {
        ProjectId::parse(name).unwrap()
    }

    /// As many places of a project as it can get.
    fn flood(places: &Arc<Places>, name: &str) -> Vec<Place> {
        std::iter::from_fn(|| places.take().ok()?.of(&project(name)).ok()).collect()
    }

    #[test]
    fn one_more_than_there_is_room_for_is_refused_until_another_is_done() {
        let places = Arc::new(Places::new(2));
        let first = places.take().unwrap();
        let second = places.take().unwrap();
        let Err(refused) = places.take() else { panic!("there is no room") };
        assert_eq!((refused.code(), refused.status().as_u16()), (ErrorCode::Limit002, 429));
        drop(first);
        assert!(places.take().is_ok());
        drop(second);
        assert!(places.lock().of.is_empty());
    }

    #[test]
    fn a_project_takes_no_more_than_is_left_for_others() {
        let places = Arc::new(Places::new(1024));
        let mine = flood(&places, "mine");
        assert_eq!(mine.len(), 512);
        let Err(refused) = places.take().unwrap().of(&project("mine")) else { panic!("there is no room") };
        assert_eq!(refused.code(), ErrorCode::Limit002);
        let yours = flood(&places, "yours");
        assert_eq!(yours.len(), 256, "half of what was left");
        assert!(!flood(&places, "third").is_empty(), "there is room for another");
        drop(mine);
        assert_eq!(flood(&places, "yours").len(), 256, "it may have a half now");
        drop(yours);
        let taken = places.lock();
        assert_eq!((taken.all, taken.of.len()), (0, 0), "nothing is left behind");
    }
}
