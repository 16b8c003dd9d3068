//! `Prefer: wait=N`: an answer that waits for the run's end, at most a minute (RFC 7240). A preference
//! that cannot be read is ignored, as the standard asks.

use std::time::Duration;

use awooop_core::RunId;
use awooop_core::run::StateName;
use awooop_store::run::Run;
use awooop_store::{ProjectScope, StoreError};
use http::HeaderMap;

use crate::sse::changed;
use crate::state::AppState;

/// Longest wait, in seconds.
const MAX_WAIT_S: u64 = 60;
/// Longest time between two reads of the run.
const POLL: Duration = Duration::from_millis(500);

/// Seconds to wait, 1 to 60; `None` when the caller does not ask for it.
pub(super) fn preferred(headers: &HeaderMap) -> Option<u64> {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut waits = values.flat_map(|text| text.split(',')).filter_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let value = value.trim().trim_matches('"');
        let is_wait = name.trim().eq_ignore_ascii_case("wait") && value.bytes().all(|b| b.is_ascii_digit());
        is_wait.then(|| value.parse::<u64>().unwrap_or(MAX_WAIT_S)).filter(|_| !value.is_empty())
    });
    waits.next().map(|seconds| seconds.min(MAX_WAIT_S)).filter(|seconds| *seconds > 0)
}

/// The run as it is when it ended or waits for people, when `seconds` are over or when the server drains, whichever is
/// first.
pub(super) async fn until_ended(
    state: &AppState,
    scope: &ProjectScope,
    run_id: RunId,
    seconds: u64,
) -> Result<Option<Run>, StoreError> {
    let mut wakes = state.store.wake().runs();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds);
    loop {
        let run = state.store.find_run(scope, run_id).await?;
        let is_settled = |run: &Run| run.state.is_terminal() || run.state == StateName::WaitingApproval;
        let is_ended = run.as_ref().is_none_or(is_settled);
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if is_ended || left.is_zero() || state.draining.is_cancelled() {
            return Ok(run);
        }
        tokio::select! {
            () = state.draining.cancelled() => {}
            () = changed(&mut wakes, run_id, POLL.min(left)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_out_of_any_preferences_and_capped() {
        let check = |values: &[&str], expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("prefer", value.parse().unwrap());
            }
            assert_eq!(preferred(&headers), expected, "{values:?}");
        };
        check(&["wait=30"], Some(30));
        check(&["respond-async, Wait = \"5\"; x=y"], Some(5));
        check(&["handling=strict", "wait=7"], Some(7));
        check(&["wait=3600"], Some(60));
        check(&["wait=99999999999999999999999999"], Some(60));
        for ignored in ["", "wait", "wait=", "wait=0", "wait=-1", "wait=1.5", "wait=soon", "=5"] {
            check(&[ignored], None);
        }
    }
}
