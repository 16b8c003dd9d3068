//! Query values and path parts. A query value that is unknown, given twice or out of its range is 422
//! E-REQ-003 with its name; a path part that can name nothing is 404, as what it names is absent.

use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;
use uuid::Uuid;

use awooop_core::AgentId;
use awooop_core::run::StateName;

use crate::problem::Problem;
use crate::state::AppState;

/// Items of a page when the caller names no `limit`.
const DEFAULT_LIMIT: usize = 50;

/// A checked query.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(error) => {
                let told = error.body_text();
                let told = told.strip_prefix("Failed to deserialize query string: ").unwrap_or(&told);
                Err(Problem::invalid_at("", "query", told.chars().take(200).collect::<String>()))
            }
        }
    }
}

/// Which page of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    pub(crate) limit: Option<String>,
    /// `next_cursor` of the page before.
    pub(crate) cursor: Option<String>,
}

impl PageQuery {
    /// The number of items asked for.
    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        limit(self.limit.as_deref())
    }
}

/// Reads `limit`: 1 to 200.
pub(crate) fn limit(text: Option<&str>) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(DEFAULT_LIMIT) };
    let is_plain = text.bytes().all(|b| b.is_ascii_digit());
    let value = text.parse().ok().filter(|n| is_plain && (1..=200).contains(n));
    value.ok_or_else(|| Problem::invalid_at("/limit", "range", "limit is a number from 1 to 200"))
}

/// Reads an agent's id.
pub(crate) fn agent_id(text: Option<&str>) -> Result<Option<AgentId>, Problem> {
    let invalid =
        |_| Problem::invalid_at("/agent_id", "pattern", "an agent id matches ^[a-z0-9][a-z0-9_-]{1,63}$");
    text.map(AgentId::parse).transpose().map_err(invalid)
}

/// Reads a run's state.
pub(crate) fn state(text: Option<&str>) -> Result<Option<StateName>, Problem> {
    let names = || StateName::ALL.map(StateName::as_str).join(", ");
    let invalid = || Problem::invalid_at("/state", "enum", format!("a state is one of {}", names()));
    text.map(|t| StateName::parse(t).ok_or_else(invalid)).transpose()
}

/// The `{run_id}` of a path.
pub(crate) struct RunPath(pub(crate) Uuid);

impl FromRequestParts<AppState> for RunPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let PathPart(text) = PathPart::from_request_parts(parts, state).await?;
        let is_plain = text.len() == 36;
        text.parse().ok().filter(|_| is_plain).map(Self).ok_or_else(|| Problem::absent("run"))
    }
}

/// The one variable part of a path.
pub(crate) struct PathPart(pub(crate) String);

impl FromRequestParts<AppState> for PathPart {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let part = Path::<String>::from_request_parts(parts, state).await;
        part.map(|Path(text)| Self(text)).map_err(|_| Problem::absent("path"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_from_1_to_200() {
        assert_eq!(limit(None).unwrap(), 50);
        assert_eq!(limit(Some("1")).unwrap(), 1);
        assert_eq!(limit(Some("200")).unwrap(), 200);
        for bad in ["", "0", "201", "-1", "+5", "1.0", " 1", "null", "99999999999999999999999"] {
            assert!(limit(Some(bad)).is_err(), "{bad:?}");
        }
    }
}
