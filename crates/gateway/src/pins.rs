//! Gate 2's look at definitions, one way for calls and lists: how each stands, which are pinned now because they are seen
//! for the first time, and what people can compare later.
//!
//! A look is recorded when it is news: once a process for a definition that is the pinned one, every ten minutes at most for
//! any other. What is stored is masked as people see it and cut to a bound; what is judged is as the server wrote it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use awooop_core::ProjectId;
use awooop_core::ids::ToolName;
use awooop_core::json::sha256_hex;
use awooop_core::pin::{Pin, PinnedBy, Quarantine, Seen, Standing, standing};
use awooop_core::scan::{Find, ToolNames};
use awooop_redact::Redactor;
use awooop_store::definition::{Found, LONGEST_KEPT, Sighting};
use awooop_store::tool::ToolFacts;
use awooop_store::{ProjectScope, StoreError};
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::pipeline::Sight;
use crate::upstream::ToolDefinition;

/// Definitions recorded in one transaction.
const AT_ONCE: usize = 50;
/// Before a definition that is not the pinned one is recorded again.
const NEWS_AFTER: Duration = Duration::from_secs(600);
/// Looks remembered of one tool, and tools remembered.
const MOST_LOOKS: usize = 8;
const MOST_TOOLS: usize = 20_000;
/// What a long text is cut to, in characters, until the definition fits.
const CUTS: [usize; 3] = [8_192, 1_024, 128];

/// A tool, and its definition as its server gives it now.
pub(crate) type Look<'a> = (&'a ToolFacts, &'a ToolDefinition);

impl Gateway {
    /// How each definition stands, in order. With [`Sight::Pins`] it is remembered, and first sights are pinned; where
    /// another node was faster, its pin counts. `all` are the names of the project's tools, where they are known.
    pub(crate) async fn judge(
        &self,
        scope: &ProjectScope,
        looks: &[Look<'_>],
        all: Option<&[ToolName]>,
        sight: Sight,
    ) -> Result<Vec<Standing>, StoreError> {
        let names = match looks.iter().any(|(tool, _)| tool.pin.is_none() && tool.only_listed_by.is_none()) {
            true => Some(self.tool_names(scope, all).await?),
            false => None,
        };
        let finds: Vec<Vec<Find>> = looks.iter().map(|look| finds(look, names.as_ref())).collect();
        let mut judged: Vec<Standing> = looks
            .iter()
            .zip(&finds)
            .map(|((tool, definition), finds)| judge_one(tool.pin.as_ref(), tool, definition, finds))
            .collect();
        if sight == Sight::LeavesNoTrace {
            return Ok(judged);
        }
        let pins = self.record(scope, looks, &judged, &finds).await?;
        // whoever was slower has another's pin now: that is recorded as the drift it is
        let mut slower = Vec::new();
        for (i, (tool, definition)) in looks.iter().enumerate() {
            let Some((_, sha256)) = pins.iter().find(|(name, _)| *name == tool.name) else { continue };
            let pin = Pin { by: PinnedBy::FirstSight, sha256: sha256.clone() };
            judged[i] = judge_one(Some(&pin), tool, definition, &finds[i]);
            if matches!(judged[i], Standing::Drifted { .. }) {
                slower.push(i);
            }
        }
        if !slower.is_empty() {
            let looks: Vec<Look<'_>> = slower.iter().map(|i| looks[*i]).collect();
            let standings: Vec<Standing> = slower.iter().map(|i| judged[*i].clone()).collect();
            let finds: Vec<Vec<Find>> = slower.iter().map(|i| finds[*i].clone()).collect();
            self.record(scope, &looks, &standings, &finds).await?;
        }
        Ok(judged)
    }

    /// What is told of a definition to people: finds in its texts, and the names of other servers' tools.
    pub(crate) fn finds_of(tool: &ToolName, definition: &ToolDefinition, names: &ToolNames) -> Vec<Find> {
        let mut found = definition.seen().finds.to_vec();
        found.extend(names.in_definition(tool, &definition.raw));
        found
    }

    async fn tool_names(
        &self,
        scope: &ProjectScope,
        all: Option<&[ToolName]>,
    ) -> Result<ToolNames, StoreError> {
        match all {
            Some(all) => Ok(ToolNames::new(all)),
            None => {
                let tools = self.inner.store.list_tools(scope, None).await?;
                Ok(ToolNames::new(tools.iter().map(|tool| &tool.name)))
            }
        }
    }

    /// Writes down what is news of it, and tells the pins of those that were seen for the first time.
    async fn record(
        &self,
        scope: &ProjectScope,
        looks: &[Look<'_>],
        judged: &[Standing],
        finds: &[Vec<Find>],
    ) -> Result<Vec<(ToolName, String)>, StoreError> {
        let project = scope.project();
        let is_news =
            |(look, standing): (&Look<'_>, &Standing)| self.inner.looks.is_news(project, look, standing);
        let news: Vec<usize> =
            looks.iter().zip(judged).enumerate().filter(|(_, seen)| is_news(*seen)).map(|(i, _)| i).collect();
        let mut pins = Vec::new();
        if news.is_empty() {
            return Ok(pins);
        }
        let redactors = self.inner.store.redactors(scope).await?;
        let to_people = redactors.to_people.redactor();
        for some in news.chunks(AT_ONCE) {
            let seen = some.iter().map(|i| sighting(looks[*i], &judged[*i], &finds[*i], to_people)).collect();
            pins.extend(self.inner.store.record_sightings(scope, seen).await?);
        }
        for i in news {
            self.inner.looks.remember(project, &looks[i], &judged[i]);
        }
        Ok(pins)
    }
}

/// What speaks against a definition. Names of other tools count until it is pinned: which tools there are changes.
fn finds((tool, definition): &Look<'_>, names: Option<&ToolNames>) -> Vec<Find> {
    match names {
        Some(names) if tool.pin.is_none() => Gateway::finds_of(&tool.name, definition, names),
        _ => definition.seen().finds.to_vec(),
    }
}

fn judge_one(pin: Option<&Pin>, tool: &ToolFacts, definition: &ToolDefinition, finds: &[Find]) -> Standing {
    standing(pin, tool.only_listed_by.as_deref(), Seen { finds, ..definition.seen() })
}

fn sighting(
    (tool, definition): Look<'_>,
    standing: &Standing,
    finds: &[Find],
    to_people: &Redactor,
) -> Sighting {
    let seen = definition.seen();
    let clean = |find: &Find| Find { path: to_people.clean(&find.path).into_inner(), ..find.clone() };
    Sighting {
        name: tool.name.clone(),
        sha256: seen.whole_sha256.to_owned(),
        plain_sha256: seen.plain_sha256.to_owned(),
        found: match standing {
            Standing::Pinned(_) => Found::Pinned,
            Standing::New => Found::First,
            Standing::Drifted { pinned, .. } => Found::Drifted(pinned.clone()),
            Standing::Quarantined(Quarantine::NotListed(_)) => Found::Quarantined("not_listed"),
            Standing::Quarantined(Quarantine::Suspicious) => Found::Quarantined("suspicious"),
        },
        definition: kept(&to_people.clean_json(definition.raw.clone()).into_inner()),
        finds: finds.iter().map(clean).collect(),
    }
}

/// A definition as JSON text of at most [`LONGEST_KEPT`] bytes: where it is longer its texts are cut, and where that is not
/// enough only its hash is left.
pub(crate) fn kept(definition: &Value) -> String {
    let whole = definition.to_string();
    if whole.len() <= LONGEST_KEPT {
        return whole;
    }
    let fits =
        |longest: &usize| Some(cut(definition, *longest).to_string()).filter(|t| t.len() <= LONGEST_KEPT);
    CUTS.iter().find_map(fits).unwrap_or_else(|| {
        json!({"omitted": format!("{} bytes, sha256 {}", whole.len(), sha256_hex(definition))}).to_string()
    })
}

/// The value with every text of more than `longest` characters cut; what follows tells two of them apart.
fn cut(value: &Value, longest: usize) -> Value {
    match value {
        Value::String(text) if text.chars().count() > longest => {
            let head: String = text.chars().take(longest).collect();
            let (all, sha256) = (text.chars().count(), sha256_hex(value));
            Value::String(format!("{head} [cut: {longest} of {all} characters, sha256 {sha256}]"))
        }
        Value::Array(items) => items.iter().map(|item| cut(item, longest)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, inner)| (name.clone(), cut(inner, longest))).collect()
        }
        other => other.clone(),
    }
}

/// What this process has recorded lately.
#[derive(Default)]
pub(crate) struct Looks(Mutex<HashMap<(ProjectId, ToolName), Vec<Looked>>>);

/// The hash of a definition, and when it was recorded last.
type Looked = (u64, Instant);

impl Looks {
    fn is_news(&self, project: &ProjectId, look: &Look<'_>, standing: &Standing) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = mark(look, standing);
        let of_tool = known.get(&(project.clone(), look.0.name.clone()));
        let is_lasting = matches!(standing, Standing::Pinned(_));
        !of_tool.is_some_and(|of| {
            of.iter().any(|(m, at)| *m == mark && (is_lasting || at.elapsed() < NEWS_AFTER))
        })
    }

    fn remember(&self, project: &ProjectId, look: &Look<'_>, standing: &Standing) {
        // what was new is pinned or drifted now: the next look says which
        if *standing == Standing::New {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_TOOLS {
            known.clear();
        }
        let of_tool = known.entry((project.clone(), look.0.name.clone())).or_default();
        let mark = mark(look, standing);
        of_tool.retain(|(m, _)| *m != mark);
        if of_tool.len() >= MOST_LOOKS {
            of_tool.remove(0);
        }
        of_tool.push((mark, Instant::now()));
    }
}

fn mark((tool, definition): &Look<'_>, standing: &Standing) -> u64 {
    let mut hasher = DefaultHasher::new();
    let kind = std::mem::discriminant(standing);
    (definition.sha256_hex(), kind, tool.pin.as_ref().map(|pin| &pin.sha256)).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_definition_is_bounded_and_two_long_texts_stay_apart() {
        let small = json!({"name": "a", "description": "short"});
        assert_eq!(kept(&small), small.to_string());
        let long = |tail: &str| json!({"name": "a", "description": "x".repeat(100_000) + tail});
        let (one, other) = (kept(&long("1")), kept(&long("2")));
        assert!(one.len() <= LONGEST_KEPT && one.contains("[cut: 8192 of 100001 characters") && one != other);
        let many: Value = (0..5_000)
            .map(|i| (format!("p{i}"), json!("y".repeat(50))))
            .collect::<serde_json::Map<_, _>>()
            .into();
        assert!(kept(&many).len() < 200 && kept(&many).contains("omitted"));
    }
}
