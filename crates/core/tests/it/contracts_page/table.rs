//! A schema as a table: one row a field, with its path, type and limits, default and description.

use super::ordered::Ordered;

/// The table of everything below `schema`, whose own path is `path`. `describe` gives the description of a
/// field, by its path and its schema.
pub(super) fn table(
    schema: &Ordered,
    root: &Ordered,
    path: &str,
    describe: &dyn Fn(&str, &Ordered) -> String,
) -> String {
    let mut rows = String::from("| Field | Type | Default | Description |\n| --- | --- | --- | --- |\n");
    fields(schema, root, path, &mut |path, field, is_required| {
        let default = match field.get("default") {
            _ if is_required => "**required**".to_owned(),
            Some(Ordered::Plain(serde_json::Value::String(text))) if !text.is_empty() => code(text),
            Some(value) => code(&value.json()),
            None => "none".to_owned(),
        };
        let cells =
            [code(path), kind(field, root), default, describe(path, field)].map(|c| c.replace('|', "\\|"));
        rows.push_str(&format!("| {} |\n", cells.join(" | ")));
    });
    rows
}

/// Calls `row` for every field, each before those inside it.
pub(super) fn fields(
    schema: &Ordered,
    root: &Ordered,
    path: &str,
    row: &mut dyn FnMut(&str, &Ordered, bool),
) {
    let required: Vec<String> =
        schema.get("required").map_or(Vec::new(), |r| r.items().iter().map(Ordered::json).collect());
    for (name, given) in schema.get("properties").map_or(&[][..], Ordered::members) {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let field = merged(given, root);
        row(&path, &field, required.contains(&format!("\"{name}\"")));
        fields(&field, root, &path, row);
        if let Some(items) = field.get("items") {
            let items = merged(items, root);
            fields(&items, root, &format!("{path}[]"), row);
        }
    }
}

/// What a reference leads to, with what stands beside it in front.
fn merged(schema: &Ordered, root: &Ordered) -> Ordered {
    let Some(reference) = schema.text("$ref") else { return schema.clone() };
    let own = schema.members().iter().filter(|(name, _)| name != "$ref");
    Ordered::Object(own.chain(root.at(reference).members()).cloned().collect())
}

/// A field's type and limits.
fn kind(field: &Ordered, root: &Ordered) -> String {
    if let Some(value) = field.get("const") {
        return code(&plain(value));
    }
    if let Some(values) = field.get("enum") {
        let values: Vec<String> = values.items().iter().map(|v| code(&plain(v))).collect();
        let (last, others) = values.split_last().unwrap();
        return if others.is_empty() { last.clone() } else { format!("{} or {last}", others.join(", ")) };
    }
    match field.get("type") {
        Some(Ordered::Array(names)) => {
            let names: Vec<String> = names.iter().map(|name| name.json().replace('"', "")).collect();
            match names.join(" or ").as_str() {
                "object or boolean" => "JSON Schema".to_owned(),
                "object or array or string or number or boolean or null" => "any JSON".to_owned(),
                other => with_pattern(field, other.to_owned()),
            }
        }
        _ => match field.text("type").unwrap_or("one of the tables below") {
            "integer" => format!("integer{}", range(field, "minimum", "maximum", "")),
            "string" => with_pattern(
                field,
                format!("string{}", range(field, "minLength", "maxLength", " characters")),
            ),
            "array" => {
                let differ = field.get("uniqueItems").map_or("", |_| ", all different");
                let items = range(field, "minItems", "maxItems", " items");
                format!("list{items}{differ}{}", each(field.get("items"), root))
            }
            "object" if field.get("properties").is_none() => {
                let members = range(field, "minProperties", "maxProperties", " members");
                format!("map{members}{}", each(field.get("additionalProperties"), root))
            }
            other => other.to_owned(),
        },
    }
}

/// What each item of a list or member of a map is; nothing of objects, whose fields have rows of their own.
fn each(inner: Option<&Ordered>, root: &Ordered) -> String {
    let inner = inner.map(|inner| merged(inner, root)).filter(|inner| inner.text("type") != Some("object"));
    inner.map_or(String::new(), |inner| format!("; each: {}", kind(&inner, root)))
}

fn with_pattern(field: &Ordered, kind: String) -> String {
    match field.text("pattern") {
        Some(pattern) if kind.contains(' ') => format!("{kind}, like {}", code(pattern)),
        Some(pattern) => format!("{kind} like {}", code(pattern)),
        None => kind,
    }
}

fn range(field: &Ordered, least: &str, most: &str, unit: &str) -> String {
    match (field.number(least), field.number(most)) {
        (Some(least), Some(most)) => format!(", {least} to {most}{unit}"),
        (Some(least), None) => format!(", at least {least}{unit}"),
        (None, Some(most)) => format!(", at most {most}{unit}"),
        (None, None) => String::new(),
    }
}

/// A value as YAML spells it.
fn plain(value: &Ordered) -> String {
    value.json().trim_matches('"').to_owned()
}

/// Text as Markdown code, with as many backticks as it needs.
fn code(text: &str) -> String {
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}
