//! The values that were handed out, by project, to be masked in whatever comes back. A server of one project is judged
//! by that project's values only: masking another's would tell it when a guess was right.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use awooop_core::ProjectId;
use awooop_redact::Known;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// Values remembered of a project; the oldest goes for a new one.
const MOST: usize = 256;

/// The values of all projects.
#[derive(Default)]
pub(super) struct Remembered(RwLock<HashMap<ProjectId, Values>>);

#[derive(Default)]
struct Values {
    values: VecDeque<([u8; 32], SecretString)>,
    known: Arc<Known>,
}

impl Remembered {
    /// What is masked for the project.
    pub(super) fn of(&self, project: &ProjectId) -> Arc<Known> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(project).map(|values| Arc::clone(&values.known)).unwrap_or_default()
    }

    /// From now on this value is masked too.
    pub(super) fn add(&self, project: &ProjectId, value: &SecretString) {
        let print: [u8; 32] = Sha256::digest(value.expose_secret().as_bytes()).into();
        {
            let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if all.get(project).is_some_and(|values| values.has(&print)) {
                return;
            }
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let values = all.entry(project.clone()).or_default();
        if values.has(&print) {
            return;
        }
        if values.values.len() >= MOST {
            values.values.pop_front();
        }
        values.values.push_back((print, value.clone()));
        values.known = Arc::new(Known::new(values.values.iter().map(|(_, value)| value.expose_secret())));
    }
}

impl Values {
    fn has(&self, print: &[u8; 32]) -> bool {
        self.values.iter().any(|(known, _)| known == print)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_masked_for_its_project_alone_and_an_older_one_too() {
        let remembered = Remembered::default();
        let [mine, other] = ["mine", "other"].map(|name| ProjectId::parse(name).unwrap());
        for value in ["first-value-7", "second-value-7", "second-value-7"] {
            remembered.add(&mine, &SecretString::from(value));
        }
        let text = "first-value-7 second-value-7";
        assert_eq!(remembered.of(&mine).mask(text), "[SECRET] [SECRET]");
        assert_eq!(remembered.of(&other).mask(text), text);
        for n in 0..MOST {
            remembered.add(&mine, &SecretString::from(format!("later-value-{n:03}")));
        }
        assert_eq!(remembered.of(&mine).mask("second-value-7"), "second-value-7");
    }
}
