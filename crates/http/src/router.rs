//! The table of contents: every path of the server, each handler with its operation id beside it. The same
//! list makes the OpenAPI document, so neither can know what the other does not.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::problem::Problem;
use crate::state::AppState;
use crate::{edge, errors_page, framing, health, mcp, metrics, openapi, telemetry, v1};

/// Largest request body, but for manifests: 1 MiB.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Largest body of a request to this path, in bytes.
pub(crate) fn max_body_bytes(path: &str) -> usize {
    match path {
        v1::contracts::apply::PATH => v1::contracts::apply::MAX_BODY_BYTES,
        _ => MAX_BODY_BYTES,
    }
}

/// All paths with their handlers and documents.
pub(crate) fn table() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(v1::runs::create::create_run, v1::runs::list::list_runs))
        .routes(routes!(v1::runs::bulk_cancel::bulk_cancel_runs))
        .routes(routes!(v1::runs::bulk_retry::bulk_retry_runs))
        .routes(routes!(v1::runs::get::get_run))
        .routes(routes!(v1::runs::cancel::cancel_run))
        .routes(routes!(v1::runs::steps::list_steps))
        .routes(routes!(v1::runs::watch::watch_run))
        .routes(routes!(v1::schedules::list::list_schedules))
        .routes(routes!(v1::schedules::fire::fire_schedule))
        .routes(routes!(v1::runs::deliver::deliver_result))
        .routes(routes!(v1::approvals::list::list_approvals))
        .routes(routes!(v1::approvals::get::get_approval))
        .routes(routes!(v1::approvals::decide::decide_approval))
        .merge(contracts())
        .routes(routes!(v1::halts::create::create_halt, v1::halts::list::list_halts))
        .routes(routes!(v1::halts::lift::lift_halt))
        .routes(routes!(v1::projects::list::list_projects))
        .routes(routes!(v1::projects::delete::delete_project))
        .routes(routes!(v1::projects::deletions::list_deletions))
        .routes(routes!(v1::projects::export::export_project))
        .routes(routes!(v1::tools::list::list_tools))
        .routes(routes!(v1::tools::why::explain_tool_call))
        .routes(routes!(v1::tools::diff::diff_tool))
        .routes(routes!(v1::keys::create::create_key, v1::keys::list::list_keys))
        .routes(routes!(v1::keys::revoke::revoke_key))
        .routes(routes!(v1::keys::rotate::rotate_key))
        .routes(routes!(v1::principals::list::list_principals))
        .routes(routes!(v1::principals::get::get_principal))
        .routes(routes!(v1::principals::disable::disable_principal))
        .routes(routes!(v1::principals::enable::enable_principal))
        .routes(routes!(v1::principals::grant::grant_role))
        .routes(routes!(v1::principals::revoke::revoke_role))
        .routes(routes!(v1::whoami::get_whoami))
        .routes(routes!(v1::sign_in::get_sign_in))
        .routes(routes!(v1::budgets::get::get_budget))
        .routes(routes!(v1::activity::get_activity))
        .routes(routes!(v1::audit::search::search_audit))
        .routes(routes!(v1::audit::export::export_audit))
        .routes(routes!(v1::audit::head::get_audit_head))
        .routes(routes!(v1::audit::verify::verify_audit))
        .routes(routes!(v1::audit::prove::prove_audit_event))
        .routes(routes!(mcp::use_mcp))
        .routes(routes!(mcp::use_mcp_of_provider))
        .merge(health())
        .routes(routes!(errors_page::get_error_page))
        .routes(routes!(openapi::get_openapi))
}

/// Contracts; applying takes larger bodies than anything else.
fn contracts() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(v1::contracts::apply::apply_contracts, v1::contracts::list::list_contracts))
        .layer(DefaultBodyLimit::max(v1::contracts::apply::MAX_BODY_BYTES))
        .routes(routes!(v1::contracts::get::get_contract))
        .routes(routes!(v1::contracts::diff::diff_contract))
        .routes(routes!(v1::contracts::draft::save_draft))
        .routes(routes!(v1::contracts::versions::list_versions))
        .routes(routes!(v1::contracts::versions::get_version))
        .routes(routes!(v1::contracts::publish::publish_version))
        .routes(routes!(v1::contracts::sign::sign_version))
        .routes(routes!(v1::contracts::activate::activate_version))
        .routes(routes!(v1::contracts::retire::retire_contract))
        .routes(routes!(v1::contracts::pin::pin_tools))
        .routes(routes!(v1::contracts::rematerialise::rematerialise_contracts))
        .routes(routes!(v1::contracts::resign::resign_contracts))
}

/// The whole server as one service.
pub fn router(state: AppState) -> Router {
    let (router, _) = table().split_for_parts();
    service(router, state)
}

/// What a process answers that serves nobody: whether it lives, whether it can work, and its figures.
pub fn health_router(state: AppState) -> Router {
    let (router, _) = health().split_for_parts();
    service(router, state)
}

/// Health and figures.
fn health() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(health::get_health))
        .routes(routes!(health::get_readiness))
        .routes(routes!(metrics::get_metrics))
}

fn service(router: Router<AppState>, state: AppState) -> Router {
    router
        .fallback(async || Problem::absent("path"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(axum::middleware::from_fn_with_state(state.clone(), edge::guard))
        .layer(axum::middleware::from_fn(framing::read_one_way))
        .layer(axum::middleware::from_fn_with_state(state.clone(), telemetry::trace))
        .with_state(state)
}
