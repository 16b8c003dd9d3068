//! Providers whose ids look like one another, within one project: a person who grants `sh0p__refund` may have meant `shop`.
//! Checked whenever contracts come into force together; a pair that is in force already is left as it is.
//!
//! Only providers are refused. The same tool of two servers (`search`, `get_user`) is ordinary, and grants name tools in
//! full, so a tool that looks like another is shown to people instead.

use super::references::Active;
use super::{Kind, Manifest};
use crate::error::Violation;
use crate::lookalike::are_alike;

/// One violation for each provider of the request that looks like another one of it, or like one that stays active.
pub(super) fn of_providers(
    new: &[&Manifest],
    active: &[Active],
    retired: &[(Kind, String)],
) -> Vec<Violation> {
    let is_retired = |id: &str| retired.iter().any(|(kind, of)| *kind == Kind::Provider && of == id);
    let standing: Vec<&str> = active
        .iter()
        .filter(|a| a.spec.kind() == Kind::Provider && !is_retired(&a.id))
        .map(|a| a.id.as_str())
        .collect();
    let mut found = Vec::new();
    let mut before = standing.clone();
    for (i, manifest) in new.iter().enumerate().filter(|(_, m)| m.spec.kind() == Kind::Provider) {
        if standing.contains(&manifest.id.as_str()) {
            continue;
        }
        if let Some(other) = before.iter().find(|id| are_alike(id, &manifest.id)) {
            let message = format!("`{}` looks like the provider `{other}`: give it another id", manifest.id);
            found.push(Violation::new(format!("/manifests/{i}/id"), "lookalike", message));
        }
        before.push(&manifest.id);
    }
    found
}
