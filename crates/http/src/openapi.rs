//! The OpenAPI 3.1 document. Handlers state what is their own: operation id, request, success, special
//! refusals. What follows from the kind of an operation (it needs a key, has a body, a query, a path part)
//! is added here, so that no handler can forget it.

use std::collections::HashMap;
use std::sync::LazyLock;

use awooop_core::contract::Kind;
use awooop_core::role::{OPERATIONS, Role};
use axum::response::{IntoResponse, Response};
use http::{Method, header};
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr,
    Required, SecurityRequirement,
};
use utoipa::{PartialSchema, ToSchema};

use crate::problem::{PROBLEM_JSON, ProblemDocument, ProblemItem};

/// The document as served.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| awooop_core::json::to_value(&openapi()).to_string());

/// This document.
#[utoipa::path(get, path = "/openapi.json", operation_id = "get_openapi", tag = "server", security(()),
    responses((status = 200, description = "The document", body = Object, content_type = "application/json")))]
pub(crate) async fn get_openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

/// The document without any path.
pub(crate) fn base() -> OpenApi {
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("AwoooP")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "A control plane for AI agents that many projects share. Each refusal is a problem document \
             (RFC 9457) whose `type` is the page of its code.",
        ))
        .license(Some(license))
        .build();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A key: awp_<project>_<id>_<secret>"))
        .build();
    let person = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(
            "A person's access token, of the issuer that /v1/platform/sign-in names. It opens the projects that its \
             groups are mapped to.",
        ))
        .build();
    let components = ComponentsBuilder::new()
        .security_scheme("bearer", SecurityScheme::Http(bearer))
        .security_scheme("person", SecurityScheme::Http(person))
        .schema(ProblemDocument::name(), ProblemDocument::schema())
        .schema(ProblemItem::name(), ProblemItem::schema())
        .build();
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

/// The whole document.
pub fn openapi() -> OpenApi {
    let mut document = crate::router::table().into_openapi();
    for (path, item) in &mut document.paths.paths {
        for (_, operation) in operations_of(item) {
            complete(path, operation);
        }
    }
    document
}

/// The operation id of each method and path, in axum's spelling, which is OpenAPI's.
pub(crate) fn operations() -> HashMap<(Method, String), String> {
    let mut document = crate::router::table().into_openapi();
    let mut found = HashMap::new();
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations_of(item) {
            if let Some(id) = &operation.operation_id {
                found.insert((method, path.clone()), id.clone());
            }
        }
    }
    found
}

fn operations_of(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    [(Method::GET, &mut item.get), (Method::POST, &mut item.post), (Method::PUT, &mut item.put)]
        .into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Adds to an operation what follows from its kind.
fn complete(path: &str, operation: &mut Operation) {
    operation.parameters.iter_mut().flatten().for_each(without_null);
    let is_mcp = path.starts_with("/mcp");
    let is_open = operation.security.is_some();
    if !is_open {
        let ways = ["bearer", "person"];
        operation.security =
            Some(ways.map(|way| SecurityRequirement::new(way, Vec::<String>::new())).to_vec());
        add_project_header(operation);
        say_who_may(operation);
    }
    add(operation, "414", "E-REQ-010: path and query are too long");
    add(operation, "431", "E-REQ-009: the head is too large");
    if is_mcp {
        return complete_mcp(operation);
    }
    if !is_open {
        add(operation, "400", "E-REQ-001: malformed");
        add(operation, "401", "E-AUTH-001: no valid key or token");
        add(operation, "403", "E-AUTH-002: the role, E-AUTH-003: the project, or what the detail says");
        let often =
            "E-LIMIT-004: too many requests with the key; E-LIMIT-005: too many keys that are not valid";
        add(operation, "429", often);
        let away = "E-STORE-001: the database cannot answer; E-AUTH-004: nor the tokens' issuer; E-LIMIT-003: no room \
                    for the connection";
        add(operation, "503", away);
    }
    if operation.request_body.is_some() {
        let most = crate::router::max_body_bytes(path) >> 20;
        add(operation, "408", "E-REQ-008: the body came too slowly");
        add(operation, "413", &format!("E-REQ-002: larger than {most} MiB"));
    }
    if operation.request_body.is_some() || has_parameter_in(operation, ParameterIn::Query) {
        add(operation, "422", "Not valid: `errors` tells where and why");
    }
    if path.contains('{') {
        add(operation, "404", "E-REQ-004: not here");
        add_parts(path, operation);
    }
    give_problems(operation);
}

/// What the MCP endpoints answer besides a result: JSON-RPC errors.
const MCP_REFUSALS: [(&str, &str); 10] = [
    ("400", "Not a JSON-RPC message, or an unknown revision"),
    ("401", "E-MCP-GATE-001: no valid key"),
    ("403", "E-AUTH-002 or E-AUTH-003, or a foreign Host or Origin"),
    ("404", "Not here"),
    ("406", "Accept must name application/json and text/event-stream"),
    ("408", "E-REQ-008: the body came too slowly"),
    ("413", "E-REQ-002: larger than 1 MiB"),
    ("415", "Content-Type must be application/json"),
    ("429", "E-LIMIT-004: too many requests with the key; E-LIMIT-005: too many keys that are not valid"),
    ("503", "E-STORE-001: the database cannot answer"),
];

fn complete_mcp(operation: &mut Operation) {
    let object = || ObjectBuilder::new().schema_type(Type::Object);
    for (status, description) in MCP_REFUSALS {
        let content = ContentBuilder::new().schema(Some(object())).build();
        let response =
            ResponseBuilder::new().description(description).content("application/json", content).build();
        operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(response));
    }
    // what the edge refuses is no message yet
    give_problems(operation);
}

/// Who may call it, from the core's table: for machines as extensions, for people in the description.
fn say_who_may(operation: &mut Operation) {
    let id = operation.operation_id.as_deref();
    let Some((_, scope, roles)) = OPERATIONS.iter().find(|(row, _, _)| Some(*row) == id) else { return };
    let roles: Vec<&str> = [Role::Admin].iter().chain(*roles).map(|role| role.as_str()).collect();
    let said = format!("Roles: {}. Scope: {scope}.", roles.join(", "));
    operation.description = Some(match operation.description.take() {
        Some(text) => format!("{text}\n\n{said}"),
        None => said,
    });
    let extensions =
        ExtensionsBuilder::new().add("x-awooop-roles", roles).add("x-awooop-scope", *scope).build();
    operation.extensions.get_or_insert_default().merge(extensions);
}

/// A header or query value that is not given is absent; there is no null in a URL.
fn without_null(parameter: &mut RefOr<Parameter>) {
    let RefOr::T(Parameter { schema: Some(RefOr::T(Schema::Object(object))), .. }) = parameter else {
        return;
    };
    if let SchemaType::Array(types) = &object.schema_type
        && let Some(kind) = types.iter().find(|kind| **kind != Type::Null)
    {
        object.schema_type = SchemaType::Type(kind.clone());
    }
}

fn add(operation: &mut Operation, status: &str, description: &str) {
    let response = ResponseBuilder::new().description(description).build();
    operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(response));
}

/// Every refusal is a problem document.
fn give_problems(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if status.as_str() >= "400" && response.content.is_empty() {
            let schema = Ref::from_schema_name(ProblemDocument::name());
            response.content.insert(
                PROBLEM_JSON.to_owned(),
                RefOr::T(ContentBuilder::new().schema(Some(schema)).build()),
            );
        }
    }
}

fn has_parameter_in(operation: &Operation, place: ParameterIn) -> bool {
    operation
        .parameters
        .iter()
        .flatten()
        .any(|parameter| matches!(parameter, RefOr::T(p) if p.parameter_in == place))
}

fn add_project_header(operation: &mut Operation) {
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[a-z0-9][a-z0-9_-]{1,63}$"));
    let parameter = ParameterBuilder::new()
        .name("X-Awooop-Project")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "The project to act in: any for a platform admin, one of theirs for people who sign in; a key may name only \
             its own",
        ))
        .schema(Some(schema))
        .build();
    operation.parameters.get_or_insert_default().push(RefOr::T(parameter));
}

/// Path parts that several operations have, each with its shape.
fn add_parts(path: &str, operation: &mut Operation) {
    let name = "^[a-z0-9][a-z0-9_-]{1,63}$";
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let uuid = || text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)));
    let kind = text().enum_values(Some(Kind::ALL.map(Kind::as_str)));
    let ordinal = || {
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)))
            .minimum(Some(1))
    };
    let parts = [
        ("run_id", uuid(), "A run"),
        ("approval_id", uuid(), "An approval"),
        ("n", ordinal(), "The step, from 1"),
        ("event_id", uuid(), "An event of the audit"),
        ("agent_id", text().pattern(Some(name)), "An agent"),
        ("principal_id", text().pattern(Some(name)), "A principal"),
        ("schedule_id", text().pattern(Some(name)), "The schedule's id within its agent"),
        ("kind", kind, "What the contract configures"),
        ("id", text().pattern(Some(name)), "The contract's id within its kind"),
        ("version", ordinal(), "The version, from 1"),
    ];
    for (name, schema, description) in parts {
        if path.contains(&format!("{{{name}}}")) {
            let parameter = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .description(Some(description))
                .schema(Some(schema))
                .build();
            operation.parameters.get_or_insert_default().push(RefOr::T(parameter));
        }
    }
}
