//! Figures for a monitoring system, in Prometheus' text format. They are of the whole server and name no project,
//! so that the address can be open as the health checks are.

use std::fmt::Write;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;

use crate::problem::Problem;
use crate::state::AppState;

/// How the audit stands: what this process sealed since it began, and the oldest event without a seal.
#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics", tag = "server", security(()),
    responses(
        (status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain"),
        (status = 503, description = "E-STORE-001: the database does not answer")))]
pub(crate) async fn get_metrics(State(state): State<AppState>) -> Result<Response, Problem> {
    let counts = state.store.audit_counts();
    let now = state.store.clock().now().as_microsecond();
    let oldest = state.store.oldest_unsealed().await?;
    let age = oldest.map_or(0, |at| now.saturating_sub(at).max(0));
    let mut text = String::new();
    let mut one = |name: &str, kind: &str, help: &str, value: String| {
        // a string takes everything
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    };
    let counter = |n: u64| n.to_string();
    one(
        "awooop_audit_sealed_events_total",
        "counter",
        "Audit events that this process sealed.",
        counter(counts.sealed),
    );
    one(
        "awooop_audit_late_events_total",
        "counter",
        "Of them, events that came after their time.",
        counter(counts.late),
    );
    one(
        "awooop_audit_seals_total",
        "counter",
        "Passes in which this process made a seal.",
        counter(counts.seals),
    );
    one(
        "awooop_audit_forged_events_total",
        "counter",
        "Rows that no server with the key wrote.",
        counter(counts.forged),
    );
    one(
        "awooop_audit_cut_chains_total",
        "counter",
        "Chains that lost seals under this process.",
        counter(counts.rewritten),
    );
    one(
        "awooop_audit_oldest_unsealed_seconds",
        "gauge",
        "Age of the oldest event beyond its project's newest seal; 0 when there is none.",
        format!("{:.3}", age as f64 / 1e6),
    );
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
