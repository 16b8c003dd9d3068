//! A schema as a graph: which subschemas meet at one place of a document, and which one level below.
//!
//! Walked before the validator is built, because building and validating follow references. Refused here,
//! each with the JSON Pointer of the culprit: references that leave the document, lead nowhere or lead back
//! to themselves in place, a base URI that changes inside, dynamic references, other dialects, and more
//! patterns than [`MAX_PATTERNS`]. Values of `enum`, `const` and unknown keywords are no schemas and are
//! walked only when a reference points into them. Shapes are not checked here: the meta-schema does that.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{MAX_PATTERNS, SchemaError};

/// Index of a [`Node`].
pub(super) type Id = usize;

/// One subschema. Children lie one level deeper in the document, branches at the same place.
#[derive(Default)]
pub(super) struct Node<'s> {
    /// Where it stands.
    pub(super) pointer: String,
    /// Comparisons its own keywords make at one place.
    pub(super) own: u64,
    /// Everything that applies at the same place.
    pub(super) branches: Vec<Branches>,
    /// `properties`.
    pub(super) named: Vec<(&'s str, Id)>,
    /// `patternProperties`: may apply to any property.
    pub(super) matching: Vec<Id>,
    /// `additionalProperties`: never applies to a property that `properties` names.
    pub(super) additional: Option<Id>,
    /// `propertyNames`.
    pub(super) names: Option<Id>,
    /// `unevaluatedProperties`.
    pub(super) unevaluated_properties: Option<Id>,
    /// `prefixItems`.
    pub(super) prefix: Vec<Id>,
    /// `items`.
    pub(super) items: Option<Id>,
    /// `contains`.
    pub(super) contains: Option<Id>,
    /// `unevaluatedItems`.
    pub(super) unevaluated_items: Option<Id>,
    /// `uniqueItems: true`.
    pub(super) is_unique: bool,
}

impl Node<'_> {
    /// How many `unevaluated…` keywords it has; each asks its branches again.
    pub(super) fn unevaluated(&self) -> u64 {
        u64::from(self.unevaluated_properties.is_some()) + u64::from(self.unevaluated_items.is_some())
    }

    /// Every subschema that applies one level below.
    pub(super) fn children(&self) -> impl Iterator<Item = Id> {
        let one = [
            self.additional,
            self.names,
            self.unevaluated_properties,
            self.items,
            self.contains,
            self.unevaluated_items,
        ];
        let many = self.named.iter().map(|(_, id)| id).chain(&self.matching).chain(&self.prefix).copied();
        many.chain(one.into_iter().flatten())
    }
}

/// The branches of one keyword that apply at the same place.
pub(super) struct Branches {
    pub(super) how: How,
    pub(super) ids: Vec<Id>,
}

/// How branches are asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// All must hold: `$ref`, `allOf`, `then`, `else`, `dependentSchemas`.
    All,
    /// Alternatives: `anyOf`, `oneOf`. What each expected is collected when none holds.
    Choice,
    /// Asked for yes or no only: `not`, `if`.
    Test,
}

/// A walked schema. The root is node 0.
pub(super) struct Graph<'s> {
    pub(super) nodes: Vec<Node<'s>>,
    /// All nodes, each after every branch of its own.
    pub(super) order: Vec<Id>,
    /// Patterns in `pattern` and `patternProperties`.
    pub(super) patterns: usize,
}

impl<'s> Graph<'s> {
    /// Walks a schema whose depth is bounded.
    pub(super) fn walk(schema: &'s Value) -> Result<Self, SchemaError> {
        let mut walk = Walk::new(schema);
        walk.subschema(schema, String::new())?;
        while let Some((from, reference, at)) = walk.references.pop() {
            let (target, pointer) = walk.resolve(reference, &at)?;
            let id = walk.subschema(target, pointer)?;
            walk.nodes[from].branches.push(Branches { how: How::All, ids: vec![id] });
        }
        if walk.patterns > MAX_PATTERNS {
            return Err(SchemaError::TooManyPatterns);
        }
        let order = in_place_order(&walk.nodes)?;
        Ok(Self { nodes: walk.nodes, order, patterns: walk.patterns })
    }
}

struct Walk<'s> {
    root: &'s Value,
    nodes: Vec<Node<'s>>,
    ids: HashMap<*const Value, Id>,
    anchors: HashMap<&'s str, (&'s Value, String)>,
    references: Vec<(Id, &'s str, String)>,
    patterns: usize,
}

impl<'s> Walk<'s> {
    fn new(root: &'s Value) -> Self {
        let (ids, anchors) = (HashMap::new(), HashMap::new());
        Self { root, nodes: Vec::new(), ids, anchors, references: Vec::new(), patterns: 0 }
    }

    /// Recursion is as deep as the JSON, which is bounded; references wait in a list.
    fn subschema(&mut self, schema: &'s Value, pointer: String) -> Result<Id, SchemaError> {
        if let Some(&id) = self.ids.get(&std::ptr::from_ref(schema)) {
            return Ok(id);
        }
        let id = self.nodes.len();
        self.ids.insert(std::ptr::from_ref(schema), id);
        self.nodes.push(Node { pointer: pointer.clone(), own: 1, ..Node::default() });
        if let Value::Object(map) = schema {
            self.identity(schema, map, &pointer)?;
            self.assertions(id, map);
            self.in_place(id, map, &pointer)?;
            self.of_objects(id, map, &pointer)?;
            self.of_arrays(id, map, &pointer)?;
            for keyword in ["$defs", "definitions"] {
                self.each(map, keyword, &pointer)?;
            }
        }
        Ok(id)
    }

    /// What names the schema or refers to another.
    fn identity(
        &mut self,
        schema: &'s Value,
        map: &'s Map<String, Value>,
        pointer: &str,
    ) -> Result<(), SchemaError> {
        for keyword in ["$dynamicRef", "$recursiveRef"] {
            if map.contains_key(keyword) {
                return Err(SchemaError::Unsupported { at: below(pointer, keyword) });
            }
        }
        if map.contains_key("$id") && !pointer.is_empty() {
            return Err(SchemaError::Unsupported { at: below(pointer, "$id") });
        }
        if let Some(Value::String(dialect)) = map.get("$schema")
            && !is_known_dialect(dialect)
        {
            return Err(SchemaError::Dialect { at: below(pointer, "$schema") });
        }
        for keyword in ["$anchor", "$dynamicAnchor"] {
            if let Some(Value::String(name)) = map.get(keyword) {
                self.anchors.insert(name, (schema, pointer.to_owned()));
            }
        }
        if let Some(Value::String(reference)) = map.get("$ref") {
            let from = self.ids[&std::ptr::from_ref(schema)];
            self.references.push((from, reference, below(pointer, "$ref")));
        }
        Ok(())
    }

    /// What the schema's own keywords cost at one place.
    fn assertions(&mut self, id: Id, map: &'s Map<String, Value>) {
        let length = |keyword: &str| match map.get(keyword) {
            Some(Value::Array(items)) => items.len(),
            Some(Value::Object(members)) => members.len(),
            _ => 0,
        };
        let options = match map.get("enum") {
            // strings, integers and null are looked up, anything else is compared one by one
            Some(Value::Array(items)) if items.iter().any(is_compared) => items.len(),
            _ => 0,
        };
        let dependent = match map.get("dependentRequired") {
            Some(Value::Object(members)) => {
                members.values().map(|names| 1 + names.as_array().map_or(0, Vec::len)).sum()
            }
            _ => 0,
        };
        let own = 1 + length("properties") + length("required") + options + dependent;
        self.nodes[id].own = own as u64;
        self.nodes[id].is_unique = map.get("uniqueItems") == Some(&Value::Bool(true));
        self.patterns += usize::from(map.contains_key("pattern")) + length("patternProperties");
    }

    fn in_place(&mut self, id: Id, map: &'s Map<String, Value>, pointer: &str) -> Result<(), SchemaError> {
        let keywords = [
            ("allOf", How::All),
            ("anyOf", How::Choice),
            ("oneOf", How::Choice),
            ("not", How::Test),
            ("if", How::Test),
            ("then", How::All),
            ("else", How::All),
            ("dependentSchemas", How::All),
            ("dependencies", How::All),
        ];
        for (keyword, how) in keywords {
            let ids = match map.get(keyword) {
                Some(Value::Object(_)) if matches!(keyword, "dependentSchemas" | "dependencies") => {
                    self.each(map, keyword, pointer)?.into_iter().map(|(_, id)| id).collect()
                }
                Some(Value::Array(_)) => self.list(map, keyword, pointer)?,
                _ => self.one(map, keyword, pointer)?.into_iter().collect(),
            };
            if !ids.is_empty() {
                self.nodes[id].branches.push(Branches { how, ids });
            }
        }
        Ok(())
    }

    fn of_objects(&mut self, id: Id, map: &'s Map<String, Value>, pointer: &str) -> Result<(), SchemaError> {
        self.nodes[id].named = self.each(map, "properties", pointer)?;
        let matching = self.each(map, "patternProperties", pointer)?;
        self.nodes[id].matching = matching.into_iter().map(|(_, id)| id).collect();
        self.nodes[id].additional = self.one(map, "additionalProperties", pointer)?;
        self.nodes[id].names = self.one(map, "propertyNames", pointer)?;
        self.nodes[id].unevaluated_properties = self.one(map, "unevaluatedProperties", pointer)?;
        Ok(())
    }

    fn of_arrays(&mut self, id: Id, map: &'s Map<String, Value>, pointer: &str) -> Result<(), SchemaError> {
        self.nodes[id].prefix = self.list(map, "prefixItems", pointer)?;
        self.nodes[id].items = self.one(map, "items", pointer)?;
        self.nodes[id].contains = self.one(map, "contains", pointer)?;
        self.nodes[id].unevaluated_items = self.one(map, "unevaluatedItems", pointer)?;
        Ok(())
    }

    fn one(
        &mut self,
        map: &'s Map<String, Value>,
        keyword: &str,
        pointer: &str,
    ) -> Result<Option<Id>, SchemaError> {
        map.get(keyword).map(|schema| self.subschema(schema, below(pointer, keyword))).transpose()
    }

    fn list(
        &mut self,
        map: &'s Map<String, Value>,
        keyword: &str,
        pointer: &str,
    ) -> Result<Vec<Id>, SchemaError> {
        let Some(Value::Array(schemas)) = map.get(keyword) else { return Ok(Vec::new()) };
        let at = |n: usize| below(&below(pointer, keyword), &n.to_string());
        schemas.iter().enumerate().map(|(n, schema)| self.subschema(schema, at(n))).collect()
    }

    fn each(
        &mut self,
        map: &'s Map<String, Value>,
        keyword: &str,
        pointer: &str,
    ) -> Result<Vec<(&'s str, Id)>, SchemaError> {
        let Some(Value::Object(schemas)) = map.get(keyword) else { return Ok(Vec::new()) };
        let at = |name: &str| below(&below(pointer, keyword), name);
        let one =
            |(name, schema): (&'s String, &'s Value)| Ok((name.as_str(), self.subschema(schema, at(name))?));
        schemas.iter().map(one).collect()
    }

    /// The target of a `$ref` that stands at `at`.
    fn resolve(&self, reference: &str, at: &str) -> Result<(&'s Value, String), SchemaError> {
        let Some(fragment) = reference.strip_prefix('#') else {
            return Err(SchemaError::ForeignRef { at: at.to_owned() });
        };
        let dangling = || SchemaError::DanglingRef { at: at.to_owned() };
        let fragment = percent_decoded(fragment).ok_or_else(dangling)?;
        if fragment.is_empty() || fragment.starts_with('/') {
            return self.root.pointer(&fragment).map(|target| (target, fragment)).ok_or_else(dangling);
        }
        self.anchors.get(fragment.as_str()).cloned().ok_or_else(dangling)
    }
}

/// Every node after the branches it asks in place; an error where that is impossible.
fn in_place_order(nodes: &[Node<'_>]) -> Result<Vec<Id>, SchemaError> {
    let branches = |id: Id| nodes[id].branches.iter().flat_map(|b| &b.ids).copied();
    let (mut entered, mut done) = (vec![false; nodes.len()], vec![false; nodes.len()]);
    let mut order = Vec::with_capacity(nodes.len());
    for start in 0..nodes.len() {
        let mut open = vec![(start, false)];
        while let Some((id, is_left)) = open.pop() {
            if is_left {
                done[id] = true;
                order.push(id);
            } else if !entered[id] {
                entered[id] = true;
                open.push((id, true));
                if let Some(again) = branches(id).find(|&b| entered[b] && !done[b]) {
                    return Err(SchemaError::RefCycle { at: nodes[again].pointer.clone() });
                }
                open.extend(branches(id).filter(|&b| !entered[b]).map(|b| (b, false)));
            }
        }
    }
    Ok(order)
}

/// `pointer` with one more segment, escaped as RFC 6901 says.
fn below(pointer: &str, segment: &str) -> String {
    format!("{pointer}/{}", segment.replace('~', "~0").replace('/', "~1"))
}

/// Undoes RFC 3986 percent-encoding; `None` where it is broken or no UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let hex = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

/// Is an option of `enum` found by comparison only?
fn is_compared(option: &Value) -> bool {
    !(option.is_string() || option.is_null() || option.as_i64().is_some())
}

/// The published drafts of JSON Schema. All are read as 2020-12.
fn is_known_dialect(uri: &str) -> bool {
    let Some((_, path)) = uri.split_once("://json-schema.org/") else { return false };
    let path = path.trim_end_matches('#');
    matches!(
        path,
        "schema"
            | "draft-03/schema"
            | "draft-04/schema"
            | "draft-06/schema"
            | "draft-07/schema"
            | "draft/2019-09/schema"
            | "draft/2020-12/schema"
    )
}
