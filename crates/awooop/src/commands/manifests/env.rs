//! `env` in a manifest: the variables of the caller's environment that `${NAME}` in its texts stands for.
//!
//! Only what a document declares is replaced, only in texts that are values, and once: what comes in is never
//! read again, and a text stays a text. `$${NAME}` stands for `${NAME}` itself. A name that is declared and
//! not used is an error, for it is mostly a misspelt one. The member `env` is the command line's own and is
//! not sent. An empty variable counts as absent, as everywhere. Values end up in contracts, which everybody
//! in the project may read, so the settings of this program that hold secrets cannot be declared.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::node::{Member, Node, Place, Shape};
use crate::server::reference;

/// What is wrong: where, below which pointer, and why.
pub(super) type Wrong = (Place, String, String);

/// A declared name.
struct Declared {
    place: Place,
    path: String,
    /// What stands for it; `None` when nothing does, which is reported already.
    value: Option<String>,
    is_used: bool,
}

/// Replaces what the document declares and takes `env` away.
///
/// # Errors
/// Everything that is wrong with it: a declaration of another shape, a name that cannot be one, is not set or
/// is not used, a value with control characters.
pub(super) fn substitute(
    document: &mut Node,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<(), Vec<Wrong>> {
    let Some(env) = document.remove("env") else { return Ok(()) };
    let mut wrong = Vec::new();
    let mut declared = BTreeMap::new();
    for Declaration { place, path, name, default } in declarations(&env, &mut wrong) {
        if declared.contains_key(&name) {
            wrong.push((place, path, format!("{name} is declared twice")));
            continue;
        }
        let value = resolve(&name, default, &variable);
        let value = value.map_err(|why| wrong.push((place, path.clone(), why))).ok();
        declared.insert(name, Declared { place, path, value, is_used: false });
    }
    document.for_each_text(&mut |text| {
        if let Some(replaced) = replace(text, &mut declared) {
            *text = replaced;
        }
    });
    let unused = declared.into_iter().filter(|(_, found)| !found.is_used && found.value.is_some());
    wrong.extend(unused.map(|(name, found)| {
        let message = format!("nothing in this document says ${{{name}}}: is the name misspelt?");
        (found.place, found.path, message)
    }));
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// One entry of `env`.
struct Declaration {
    place: Place,
    path: String,
    name: String,
    default: Option<String>,
}

/// The entries: a list of names, or a map from names to defaults.
fn declarations(env: &Member, wrong: &mut Vec<Wrong>) -> Vec<Declaration> {
    let mut found = Vec::new();
    match &env.value.shape {
        Shape::List(items) => {
            for (index, item) in items.iter().enumerate() {
                let (place, path) = (item.place, format!("/env/{index}"));
                match &item.shape {
                    Shape::Text(name) => {
                        found.push(Declaration { place, path, name: name.clone(), default: None });
                    }
                    _ => wrong.push((place, path, "must be a name".to_owned())),
                }
            }
        }
        Shape::Map(members) => {
            for Member { key, place, value } in members {
                let (place, path) = (*place, format!("/env/{key}"));
                let default = match &value.shape {
                    Shape::Null => None,
                    Shape::Text(default) => Some(default.clone()),
                    _ => {
                        let message = format!("the default of {key} must be text: put it in quotes");
                        wrong.push((place, path.clone(), message));
                        Some(String::new())
                    }
                };
                found.push(Declaration { place, path, name: key.clone(), default });
            }
        }
        _ => {
            let message = "must be a list of names, or a map from names to defaults".to_owned();
            wrong.push((env.place, "/env".to_owned(), message));
        }
    }
    found
}

fn resolve(
    name: &str,
    default: Option<String>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<String, String> {
    if !is_name(name) {
        return Err(format!("`{name}` cannot be a name: it has A-Z, 0-9 and _, and begins with no digit"));
    }
    if reference::is_secret(name) {
        return Err(format!("{name} is a secret of this program, and contracts are no place for secrets"));
    }
    let value = match variable(name).filter(|value| !value.is_empty()) {
        Some(value) => value.into_string().map_err(|_| format!("the variable {name} is not UTF-8"))?,
        None => default.ok_or_else(|| {
            format!("the variable {name} is not set, and there is no default: export {name}=…")
        })?,
    };
    if value.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(format!("the value of {name} holds control characters"));
    }
    Ok(value)
}

fn is_name(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_uppercase() || c == '_';
    text.starts_with(is_letter) && text.chars().all(|c| is_letter(c) || c.is_ascii_digit())
}

/// The text with every declared name replaced; `None` where it says none.
fn replace(text: &str, declared: &mut BTreeMap<String, Declared>) -> Option<String> {
    let mut made = String::new();
    let mut is_changed = false;
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        let name = from["${".len()..].split_once('}').map(|(name, _)| name);
        let Some((name, found)) = name.and_then(|name| Some((name, declared.get_mut(name)?))) else {
            // the first of the two characters only, so that `${${NAME}` is read from its second `$`
            made.push_str(&rest[..=at]);
            rest = &rest[at + 1..];
            continue;
        };
        is_changed = true;
        match before.strip_suffix('$') {
            Some(before) => made.push_str(&format!("{before}${{{name}}}")),
            None => {
                found.is_used = true;
                made.push_str(before);
                made.push_str(found.value.as_deref().unwrap_or_default());
            }
        }
        rest = &from[name.len() + "${}".len()..];
    }
    made.push_str(rest);
    is_changed.then_some(made)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::yaml;
    use super::*;

    const SET: [(&str, &str); 6] = [
        ("HOST", "h:1"),
        ("TRICK", "${HOST} {\"x\": 1}\n- y"),
        ("EMPTY", ""),
        ("BELL", "a\u{7}"),
        ("PORT", "80"),
        ("AWOOOP_KEY", "awp_x"),
    ];

    fn run(text: &str) -> Result<Value, Vec<(u64, String, String)>> {
        let mut document = yaml::parse(text).unwrap().remove(0);
        let variable =
            |name: &str| SET.iter().find(|(set, _)| *set == name).map(|(_, value)| OsString::from(value));
        match substitute(&mut document, variable) {
            Ok(()) => Ok(document.to_json()),
            Err(wrong) => Err(wrong.into_iter().map(|(at, path, why)| (at.line, path, why)).collect()),
        }
    }

    #[test]
    fn only_declared_names_in_texts_are_replaced() {
        let check = |text: &str, expected: Value| assert_eq!(run(text), Ok(expected), "{text}");
        check("a: ${HOST}\n", json!({"a": "${HOST}"}));
        check("env: [HOST]\na: http://${HOST}/${OTHER}\n", json!({"a": "http://h:1/${OTHER}"}));
        check("env: [HOST]\na: [{b: '${HOST}${HOST}'}]\n", json!({"a": [{"b": "h:1h:1"}]}));
        check("env: [HOST]\n${HOST}: ${HOST}\n", json!({"${HOST}": "h:1"}));
        check(
            "env: [HOST]\na: $HOST ${host} ${ HOST } ${HOST\nb: ${HOST}\n",
            json!({"a": "$HOST ${host} ${ HOST } ${HOST", "b": "h:1"}),
        );
        check("env: []\na: ${HOST}\n", json!({"a": "${HOST}"}));
    }

    #[test]
    fn what_comes_in_is_not_read_again_and_a_text_stays_a_text() {
        let check = |text: &str, expected: Value| assert_eq!(run(text), Ok(expected), "{text}");
        check(
            "env: [TRICK, HOST]\na: ${TRICK}\nb: ${HOST}\n",
            json!({"a": "${HOST} {\"x\": 1}\n- y", "b": "h:1"}),
        );
        check("env: [PORT]\na: ${PORT}\n", json!({"a": "80"}));
        check("env: {HOST: null, NONE: '${HOST}'}\na: ${NONE}${HOST}\n", json!({"a": "${HOST}h:1"}));
        check("env: [HOST]\na: '${${HOST}}'\n", json!({"a": "${h:1}"}));
    }

    #[test]
    fn a_doubled_dollar_stands_for_the_words_themselves() {
        let check = |text: &str, expected: Value| assert_eq!(run(text), Ok(expected), "{text}");
        check("env: [HOST]\na: $${HOST} ${HOST}\n", json!({"a": "${HOST} h:1"}));
        check("env: [HOST]\na: $${OTHER} ${HOST}\n", json!({"a": "$${OTHER} h:1"}));
    }

    #[test]
    fn a_default_stands_for_what_is_not_set_or_empty() {
        let check = |text: &str, expected: Value| assert_eq!(run(text), Ok(expected), "{text}");
        check("env: {NONE: 'x', HOST: 'y'}\na: ${NONE} ${HOST}\n", json!({"a": "x h:1"}));
        check("env: {EMPTY: 'x'}\na: ${EMPTY}\n", json!({"a": "x"}));
        check("env: {NONE: ''}\na: <${NONE}>\n", json!({"a": "<>"}));
    }

    #[test]
    fn what_is_wrong_is_said_with_line_and_name() {
        let check = |text: &str, line: u64, path: &str, expected: &str| {
            let wrong = run(text).expect_err(text);
            assert_eq!((wrong.len(), wrong[0].0, wrong[0].1.as_str()), (1, line, path), "{text}: {wrong:?}");
            assert!(wrong[0].2.contains(expected), "{text}: {wrong:?}");
        };
        check("a: ${NONE}\nenv:\n  NONE:\n", 3, "/env/NONE", "NONE is not set");
        check("env:\n  - HOST\n  - NONE\na: ${NONE}${HOST}\n", 3, "/env/1", "export NONE=");
        check("env: [EMPTY]\na: ${EMPTY}\n", 1, "/env/0", "is not set");
        check("a: 1\nenv: [HOST]\n", 2, "/env/0", "misspelt");
        check("a: $${HOST}\nenv: [HOST]\n", 2, "/env/0", "misspelt");
        check("env: [BELL]\na: ${BELL}\n", 1, "/env/0", "control characters");
        check("env: {X: \"\\a\"}\na: ${X}\n", 1, "/env/X", "control characters");
        check("env: [HOST, HOST]\na: ${HOST}\n", 1, "/env/1", "twice");
        check("env: [host]\na: ${host}\n", 1, "/env/0", "A-Z");
        check("env: [1]\n", 1, "/env/0", "must be a name");
        check("env: {HOST: 1}\na: ${HOST}\n", 1, "/env/HOST", "in quotes");
        check("env: HOST\n", 1, "/env", "a list of names");
        check("env: [AWOOOP_KEY]\na: ${AWOOOP_KEY}\n", 1, "/env/0", "secret");
        assert_eq!(run("env: [NONE, MORE]\na: x\n").expect_err("two").len(), 2, "one thing is said of each");
    }
}
