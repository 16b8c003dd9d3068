//! The Secrets of a cluster: versions, conflicts, and what is refused.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// Why a request failed, as a `Status` says it.
pub(super) struct Failure {
    code: u16,
    reason: &'static str,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into() }
    }

    pub(super) fn forbidden(account: &str, verb: &str, namespace: &str, name: Option<&str>) -> Self {
        let name = name.map(|name| format!(" \"{name}\"")).unwrap_or_default();
        let message = format!(
            "secrets{name} is forbidden: User \"system:serviceaccount:{account}\" cannot {verb} resource \
             \"secrets\" in API group \"\" in the namespace \"{namespace}\""
        );
        Self::new(403, "Forbidden", message)
    }

    fn absent(name: &str) -> Self {
        Self::new(404, "NotFound", format!("secrets \"{name}\" not found"))
    }

    fn conflict(name: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on secrets \"{name}\": the object has been modified; please apply \
             your changes to the latest version and try again"
        );
        Self::new(409, "Conflict", message)
    }

    fn invalid(what: &str) -> Self {
        Self::new(422, "Invalid", format!("Secret is invalid: {what}"))
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(super) fn document(&self) -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "details": {"kind": "secrets"}, "code": self.code})
    }
}

/// All Secrets, with the version of the last change.
#[derive(Default)]
pub(super) struct Secrets {
    version: u64,
    /// Versions before this one are forgotten.
    oldest: u64,
    by_place: BTreeMap<(String, String), Value>,
}

impl Secrets {
    pub(super) fn compact(&mut self) {
        self.version += 1;
        self.oldest = self.version;
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Result<Value, Failure> {
        let found = self.by_place.get(&(namespace.to_owned(), name.to_owned()));
        found.cloned().ok_or_else(|| Failure::absent(name))
    }

    /// As of now, or where the reader goes on from a version that is remembered.
    pub(super) fn list(
        &self,
        namespace: &str,
        version: Option<&str>,
        from: Option<&str>,
    ) -> Result<Value, Failure> {
        let asked = version.or(from).filter(|version| *version != "0" && !version.is_empty());
        let asked: Option<u64> = asked
            .map(|version| version.parse())
            .transpose()
            .map_err(|_| Failure::new(400, "BadRequest", "no such resource version"))?;
        if asked.is_some_and(|asked| asked < self.oldest) {
            return Err(Failure::new(
                410,
                "Expired",
                "The resourceVersion for the provided list is too old.",
            ));
        }
        let items: Vec<&Value> =
            self.by_place.iter().filter(|((n, _), _)| n == namespace).map(|(_, secret)| secret).collect();
        Ok(json!({"kind": "SecretList", "apiVersion": "v1",
            "metadata": {"resourceVersion": self.version.to_string()}, "items": items}))
    }

    pub(super) fn create(&mut self, namespace: &str, document: Value) -> Result<Value, Failure> {
        let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if !is_name(&name) {
            return Err(Failure::invalid("metadata.name"));
        }
        if document["metadata"].get("resourceVersion").is_some() {
            return Err(Failure::new(
                400,
                "BadRequest",
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let place = (namespace.to_owned(), name.clone());
        if self.by_place.contains_key(&place) {
            return Err(Failure::new(409, "AlreadyExists", format!("secrets \"{name}\" already exists")));
        }
        let mut secret = checked(namespace, document)?;
        secret["metadata"]["uid"] = json!(format!("{:032x}", rand::random::<u128>()));
        secret["metadata"]["creationTimestamp"] = json!("2026-05-04T10:00:00Z");
        if secret.get("type").is_none() {
            secret["type"] = json!("Opaque");
        }
        Ok(self.store(place, secret))
    }

    pub(super) fn replace(&mut self, namespace: &str, name: &str, document: Value) -> Result<Value, Failure> {
        let before = self.get(namespace, name)?;
        if document["metadata"]["name"] != name {
            return Err(Failure::new(400, "BadRequest", "the name of the object does not match the URL"));
        }
        let expected = document["metadata"].get("resourceVersion").filter(|version| **version != "");
        if expected.is_some_and(|version| *version != before["metadata"]["resourceVersion"]) {
            return Err(Failure::conflict(name));
        }
        if before["immutable"] == true {
            return Err(Failure::invalid("data: Forbidden: field is immutable when `immutable` is set"));
        }
        let mut secret = checked(namespace, document)?;
        for member in ["uid", "creationTimestamp"] {
            secret["metadata"][member] = before["metadata"][member].clone();
        }
        Ok(self.store((namespace.to_owned(), name.to_owned()), secret))
    }

    /// RFC 7386; a strategic patch of a Secret is the same, since it has no lists to merge.
    pub(super) fn patch(&mut self, namespace: &str, name: &str, patch: &Value) -> Result<Value, Failure> {
        let mut document = self.get(namespace, name)?;
        merge(&mut document, patch);
        self.replace(namespace, name, document)
    }

    pub(super) fn delete(&mut self, namespace: &str, name: &str) -> Result<Value, Failure> {
        let removed = self.by_place.remove(&(namespace.to_owned(), name.to_owned()));
        let removed = removed.ok_or_else(|| Failure::absent(name))?;
        self.version += 1;
        Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {"name": name, "kind": "secrets", "uid": removed["metadata"]["uid"]}}))
    }

    fn store(&mut self, place: (String, String), mut secret: Value) -> Value {
        self.version += 1;
        secret["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.by_place.insert(place, secret.clone());
        secret
    }
}

/// A Secret as it is kept: `stringData` goes into `data`, whose values are Base64.
fn checked(namespace: &str, mut document: Value) -> Result<Value, Failure> {
    if document["kind"] != "Secret" || document["apiVersion"] != "v1" {
        return Err(Failure::new(400, "BadRequest", "the object is no v1 Secret"));
    }
    if document["metadata"].get("namespace").is_some_and(|named| named != namespace) {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Failure::new(400, "BadRequest", message));
    }
    document["metadata"]["namespace"] = json!(namespace);
    let members = document.as_object_mut().ok_or_else(|| Failure::invalid("no object"))?;
    let plain = members.remove("stringData");
    let mut data: Map<String, Value> =
        members.remove("data").and_then(|data| data.as_object().cloned()).unwrap_or_default();
    for (key, value) in plain.as_ref().and_then(Value::as_object).into_iter().flatten() {
        data.insert(key.clone(), json!(STANDARD.encode(value.as_str().unwrap_or_default())));
    }
    for (key, value) in &data {
        let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !is_key || value.as_str().is_none_or(|text| STANDARD.decode(text).is_err()) {
            return Err(Failure::invalid("data"));
        }
    }
    members.insert("data".to_owned(), Value::Object(data));
    Ok(document)
}

fn is_name(name: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    !name.is_empty() && name.len() <= 253 && name.bytes().all(is_inner)
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in members {
        match value {
            Value::Null => {
                target.as_object_mut().map(|members| members.remove(name));
            }
            value => merge(&mut target[name.as_str()], value),
        }
    }
}
