//! The table of operations in `docs/access.md`, made from the one that the API enforces. The test fails when it is stale.

use std::path::PathBuf;

use awooop_core::role::{ANY_SCOPE, OPERATIONS, Role, is_allowed};
use awooop_core::scopes::groups;

const BEGIN: &str = "AWOOOP_RENEW=1 cargo test -p awooop-core access_page -->\n";
const END: &str = "<!-- end -->";

/// A row for each scope and set of roles: what belongs together is read together.
fn table() -> String {
    let mut text = String::from(
        "\n| scope | operations | operator | approver | viewer | agent |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for scope in groups().into_iter().chain([ANY_SCOPE]) {
        let mut rows: Vec<(Vec<bool>, Vec<&str>)> = Vec::new();
        for (id, _, _) in OPERATIONS.iter().filter(|(_, group, _)| *group == scope) {
            let marks: Vec<bool> = Role::ALL[1..].iter().map(|role| is_allowed(*role, id)).collect();
            match rows.iter_mut().find(|(known, _)| *known == marks) {
                Some((_, ids)) => ids.push(*id),
                None => rows.push((marks, vec![*id])),
            }
        }
        for (marks, ids) in rows {
            let marks: Vec<&str> = marks.into_iter().map(|may| if may { "yes" } else { "" }).collect();
            let ids: Vec<String> = ids.into_iter().map(|id| format!("`{id}`")).collect();
            let scope = if scope == ANY_SCOPE { "every key".to_owned() } else { format!("`{scope}`") };
            text.push_str(&format!("| {scope} | {} | {} |\n", ids.join(", "), marks.join(" | ")));
        }
    }
    text.push('\n');
    text
}

#[test]
fn access_page_shows_the_table_that_is_enforced() {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../docs/access.md"].iter().collect();
    let kept = std::fs::read_to_string(&path).unwrap();
    let begin = kept.find(BEGIN).expect("where the table begins") + BEGIN.len();
    let end = begin + kept[begin..].find(END).expect("where it ends");
    let page = format!("{}{}{}", &kept[..begin], table(), &kept[end..]);
    if std::env::var_os("AWOOOP_RENEW").is_some() {
        std::fs::write(&path, &page).unwrap();
        return;
    }
    assert!(
        kept == page,
        "docs/access.md is stale; renew it with: AWOOOP_RENEW=1 cargo test -p awooop-core access_page"
    );
}
