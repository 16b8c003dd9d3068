//! How many requests may be creating runs at a time. Beyond that a request is refused at once, before anything of it is
//! read: a node that is flooded answers what it has taken in, in the time it always takes, and says to the rest when to
//! come again. Waiting for a run's end does not count.

use awooop_core::ErrorCode;
use axum::extract::FromRequestParts;
use http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use crate::problem::Problem;
use crate::state::AppState;

/// Most requests that create runs at a time. More would only wait: they share transactions of 256 a project.
pub(crate) const MOST_CREATING: usize = 1024;

/// One of them, for as long as it lives.
pub(crate) struct Admitted {
    _permit: OwnedSemaphorePermit,
}

impl FromRequestParts<AppState> for Admitted {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let permit = state.creating.clone().try_acquire_owned();
        permit.map(|permit| Self { _permit: permit }).map_err(|_| {
            Problem::new(ErrorCode::Limit002, "this node is creating as many runs as it can hold at a time")
        })
    }
}
