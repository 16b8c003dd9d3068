//! Manifests by project, each project's sent in one request, and its answer led back to the files.

use serde_json::{Value, json};

use crate::client::Client;
use crate::commands::manifests::Manifest;
use crate::failure::{Failure, Problem};

/// How many manifests one request takes.
const MOST: usize = 2000;

/// Manifests of one project; of the caller's where they name none.
pub(super) struct Group {
    /// The project.
    pub(super) project: Option<String>,
    /// In the order they were named.
    pub(super) manifests: Vec<Manifest>,
}

/// How to apply.
#[derive(Clone, Copy)]
pub(super) struct How {
    /// Change nothing.
    pub(super) is_dry_run: bool,
    /// Retire what no manifest names.
    pub(super) is_pruning: bool,
}

/// Groups manifests by the project they name; one that names none belongs to the caller's.
///
/// # Errors
/// [`Failure::Faults`] for a project that is none or not the wanted one; [`Failure::Invalid`] for a group that
/// fits in no request.
pub(super) fn by_project(manifests: Vec<Manifest>, wanted: Option<&str>) -> Result<Vec<Group>, Failure> {
    let mut groups: Vec<Group> = Vec::new();
    for manifest in manifests {
        let project = project_of(&manifest, wanted)?;
        match groups.iter_mut().find(|group| group.project == project) {
            Some(group) => group.manifests.push(manifest),
            None => groups.push(Group { project, manifests: vec![manifest] }),
        }
    }
    match groups.iter().find(|group| group.manifests.len() > MOST) {
        None => Ok(groups),
        Some(group) => Err(Failure::Invalid {
            message: format!(
                "{} manifests of project `{}`, and a request takes {MOST}; nothing was sent",
                group.manifests.len(),
                group.project.as_deref().unwrap_or("of the key"),
            ),
            hint: Some("apply them in parts, what others refer to first, and without --prune".to_owned()),
        }),
    }
}

fn project_of(manifest: &Manifest, wanted: Option<&str>) -> Result<Option<String>, Failure> {
    let Some(named) = manifest.document["project"].as_str() else { return Ok(wanted.map(str::to_owned)) };
    if let Some(wanted) = wanted.filter(|wanted| *wanted != named) {
        return Err(manifest.invalid("/project", format!("is of project `{named}`, not of `{wanted}`")));
    }
    match awooop_core::ProjectId::parse(named) {
        Ok(_) => Ok(Some(named.to_owned())),
        Err(e) => Err(manifest.invalid("/project", e.to_string())),
    }
}

impl Group {
    /// Applies the manifests and gives what became of each, with its project.
    ///
    /// # Errors
    /// The server's refusal, with places; [`Failure::Protocol`].
    pub(super) async fn send(&self, client: &Client, how: How) -> Result<Vec<Value>, Failure> {
        let documents: Vec<&Value> = self.manifests.iter().map(|m| &m.document).collect();
        let mut body = json!({ "manifests": documents });
        if how.is_dry_run {
            body["dry_run"] = true.into();
        }
        if how.is_pruning {
            body["prune"] = true.into();
        }
        let path = ["v1", "platform", "contracts"];
        let sent = client.in_project_or_own(self.project.as_deref())?.post(&path, &body).await;
        let mut answer = sent.map_err(|failure| with_places(failure, &self.manifests))?;
        let project_id = answer["project_id"].take();
        let Value::Array(mut items) = answer["items"].take() else {
            return Err(client.protocol("the answer has no `items`"));
        };
        for item in &mut items {
            item["project_id"] = project_id.clone();
        }
        Ok(items)
    }
}

/// Says of each violation where it stands: `/manifests/3/spec/x` becomes `/spec/x` with file and line.
fn with_places(failure: Failure, manifests: &[Manifest]) -> Failure {
    let Failure::Problem(mut problem) = failure else { return failure };
    let Problem { document, .. } = problem.as_mut();
    for error in document["errors"].as_array_mut().into_iter().flatten() {
        let located = error["path"].as_str().and_then(|path| {
            let rest = path.strip_prefix("/manifests/")?;
            let (index, inner) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            Some((manifests.get(index.parse::<usize>().ok()?)?, inner.to_owned()))
        });
        if let Some((manifest, path)) = located {
            manifest.mark(error, &path);
        }
    }
    Failure::Problem(problem)
}
