//! How many requests may be creating runs at a time. Beyond that a request is refused at once, before anything of it is
//! read: a node that is flooded answers what it has taken in, in the time it always takes, and says to the rest when to
//! come again. Waiting for a run's end does not count.

use std::sync::Arc;

use awooop_core::ErrorCode;
use axum::extract::FromRequestParts;
use http::request::Parts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::Problem;
use crate::state::AppState;

/// Most requests that create runs at a time. More would only wait: they share transactions of 256 a project.
pub(crate) const MOST_CREATING: usize = 1024;

/// One of them, for as long as it lives.
pub(crate) struct Admitted {
    _permit: OwnedSemaphorePermit,
}

impl Admitted {
    fn to(creating: &Arc<Semaphore>) -> Result<Self, Problem> {
        let permit = creating.clone().try_acquire_owned();
        permit.map(|permit| Self { _permit: permit }).map_err(|_| {
            Problem::new(ErrorCode::Limit002, "this node is creating as many runs as it can hold at a time")
        })
    }
}

impl FromRequestParts<AppState> for Admitted {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        Self::to(&state.creating)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_than_there_is_room_for_is_refused_until_another_is_done() {
        let creating = Arc::new(Semaphore::new(2));
        let first = Admitted::to(&creating).unwrap();
        let second = Admitted::to(&creating).unwrap();
        let Err(refused) = Admitted::to(&creating) else { panic!("there is no room") };
        assert_eq!((refused.code(), refused.status().as_u16()), (ErrorCode::Limit002, 429));
        drop(first);
        assert!(Admitted::to(&creating).is_ok());
        drop(second);
    }
}
