//! `/errors/{code}`: what a code means and what to do, the page a problem's `type` points to. The match
//! has no wildcard and the pages are compiled in, so a code without its page does not compile.

use awooop_core::ErrorCode;
use axum::response::{IntoResponse, Response};
use http::header;

use crate::problem::Problem;
use crate::query::PathPart;

/// What a code means and what to do about it, as Markdown.
#[utoipa::path(get, path = "/errors/{code}", operation_id = "get_error_page", tag = "server", security(()),
    params(("code" = String, Path, description = "A code, such as E-RUN-002")),
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/markdown"),
        (status = 404, description = "E-REQ-004: there is no such code")))]
pub(crate) async fn get_error_page(PathPart(code): PathPart) -> Result<Response, Problem> {
    let code = ErrorCode::parse(&code).ok_or_else(|| Problem::absent("error code"))?;
    Ok(([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], page(code)).into_response())
}

macro_rules! page {
    ($code:literal) => {
        include_str!(concat!("../../../docs/errors/", $code, ".md"))
    };
}

/// The page of a code.
fn page(code: ErrorCode) -> &'static str {
    use ErrorCode as C;
    match code {
        C::Auth001 => page!("E-AUTH-001"),
        C::Auth002 => page!("E-AUTH-002"),
        C::Auth003 => page!("E-AUTH-003"),
        C::Auth004 => page!("E-AUTH-004"),
        C::Access001 => page!("E-ACCESS-001"),
        C::Access002 => page!("E-ACCESS-002"),
        C::Req001 => page!("E-REQ-001"),
        C::Req002 => page!("E-REQ-002"),
        C::Req003 => page!("E-REQ-003"),
        C::Req004 => page!("E-REQ-004"),
        C::Req005 => page!("E-REQ-005"),
        C::Req006 => page!("E-REQ-006"),
        C::Req007 => page!("E-REQ-007"),
        C::Req008 => page!("E-REQ-008"),
        C::Req009 => page!("E-REQ-009"),
        C::Req010 => page!("E-REQ-010"),
        C::Run001 => page!("E-RUN-001"),
        C::Run002 => page!("E-RUN-002"),
        C::Run003 => page!("E-RUN-003"),
        C::Run010 => page!("E-RUN-010"),
        C::Run011 => page!("E-RUN-011"),
        C::Run012 => page!("E-RUN-012"),
        C::Run013 => page!("E-RUN-013"),
        C::Run014 => page!("E-RUN-014"),
        C::Approval001 => page!("E-APPROVAL-001"),
        C::Approval002 => page!("E-APPROVAL-002"),
        C::Approval003 => page!("E-APPROVAL-003"),
        C::Redact001 => page!("E-REDACT-001"),
        C::Schema001 => page!("E-SCHEMA-001"),
        C::Budget001 => page!("E-BUDGET-001"),
        C::Budget002 => page!("E-BUDGET-002"),
        C::Limit002 => page!("E-LIMIT-002"),
        C::Limit003 => page!("E-LIMIT-003"),
        C::Limit004 => page!("E-LIMIT-004"),
        C::Limit005 => page!("E-LIMIT-005"),
        C::Limit006 => page!("E-LIMIT-006"),
        C::Contract001 => page!("E-CONTRACT-001"),
        C::Contract002 => page!("E-CONTRACT-002"),
        C::Contract003 => page!("E-CONTRACT-003"),
        C::Contract004 => page!("E-CONTRACT-004"),
        C::Contract005 => page!("E-CONTRACT-005"),
        C::Contract006 => page!("E-CONTRACT-006"),
        C::Contract007 => page!("E-CONTRACT-007"),
        C::Gate001 => page!("E-MCP-GATE-001"),
        C::Gate002 => page!("E-MCP-GATE-002"),
        C::Gate003 => page!("E-MCP-GATE-003"),
        C::Gate004 => page!("E-MCP-GATE-004"),
        C::Gate005 => page!("E-MCP-GATE-005"),
        C::Gate006 => page!("E-MCP-GATE-006"),
        C::Gate007 => page!("E-MCP-GATE-007"),
        C::Gate008 => page!("E-MCP-GATE-008"),
        C::Gate009 => page!("E-MCP-GATE-009"),
        C::Upstream001 => page!("E-MCP-UPSTREAM-001"),
        C::Upstream002 => page!("E-MCP-UPSTREAM-002"),
        C::Upstream003 => page!("E-MCP-UPSTREAM-003"),
        C::Project001 => page!("E-PROJECT-001"),
        C::Project002 => page!("E-PROJECT-002"),
        C::Stop001 => page!("E-STOP-001"),
        C::Audit001 => page!("E-AUDIT-001"),
        C::Tls001 => page!("E-TLS-001"),
        C::Store001 => page!("E-STORE-001"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_about_its_own_code() {
        for &code in ErrorCode::ALL {
            let title = page(code).lines().next().unwrap_or_default();
            assert_eq!(title, format!("# {code} {}", code.title()), "docs/errors/{code}.md");
        }
    }
}
