//! The project's budget as it stands.

use awooop_store::budget::Budget;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::Access;
use crate::page::Page;
use crate::problem::Problem;
use crate::query::{PageQuery, Params};
use crate::state::AppState;

/// A budget as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BudgetItem {
    /// Always `project`.
    scope: String,
    /// Always `tokens`.
    unit: String,
    /// Null when use is recorded and not limited.
    limit: Option<i64>,
    /// Charged so far.
    settled: i64,
    /// Held by calls under way.
    held: i64,
    /// What a new call may still hold; null without a limit.
    #[schema(minimum = 0)]
    free: Option<i64>,
}

/// The project's budgets.
#[utoipa::path(get, path = "/v1/platform/budgets", operation_id = "get_budget", tag = "budgets",
    params(PageQuery),
    responses((status = 200, description = "The budgets", body = Page<BudgetItem>)))]
pub(crate) async fn get_budget(
    State(state): State<AppState>,
    access: Access,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<BudgetItem>>, Problem> {
    query.limit()?;
    // one page holds all, so no cursor was ever given
    let list = crate::page::List { name: "budgets", project: access.scope().project() };
    list.read::<()>(query.cursor.as_deref(), |_| None)?;
    let budgets = state.store.list_budgets(access.scope()).await?;
    Ok(Json(Page { items: budgets.into_iter().map(item).collect(), next_cursor: None }))
}

fn item(budget: Budget) -> BudgetItem {
    let used = budget.settled.saturating_add(budget.held);
    BudgetItem {
        scope: budget.scope,
        unit: budget.unit,
        limit: budget.limit,
        settled: budget.settled,
        held: budget.held,
        free: budget.limit.map(|limit| limit.saturating_sub(used).max(0)),
    }
}
