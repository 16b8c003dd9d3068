//! Who this node is across restarts: an id that stays and an incarnation that grows with each start, so
//! that a restarted node recognises and reaps its own former leases at once.
//!
//! Kept in `node.json`. The new incarnation is durable before it is used, so none is used twice.

use rand::distr::{Alphanumeric, SampleString};
use serde::{Deserialize, Serialize};

use super::data_dir::{DataDir, DataDirError};
use super::files;

/// This node in this start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// `node-` and 12 random letters and digits; the same for the life of the data directory.
    pub id: String,
    /// 1 at the first start, one more at each.
    pub incarnation: i64,
}

impl DataDir {
    /// Begins a new incarnation of this node. Fails when `node.json` makes no sense: see [`DataDirError::Node`].
    pub fn next_incarnation(&self) -> Result<Node, DataDirError> {
        let path = self.path().join("node.json");
        let bad = |why: String| DataDirError::Node { path: path.clone(), why };
        let former = files::read_if_there(&path).map_err(DataDirError::io("read", &path))?;
        let node = match former {
            None => Node { id: new_id(), incarnation: 1 },
            Some(text) => next(&text).map_err(bad)?,
        };
        let text = serde_json::to_vec(&node).expect("a string and a number are JSON");
        self.write_private("node.json", &text)?;
        Ok(node)
    }
}

fn new_id() -> String {
    format!("node-{}", Alphanumeric.sample_string(&mut rand::rng(), 12).to_lowercase())
}

/// The node that follows the one written in `text`.
fn next(text: &[u8]) -> Result<Node, String> {
    let former: Node = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if former.id.is_empty() || former.incarnation < 1 {
        return Err("the id is empty or the incarnation is below 1".to_owned());
    }
    let incarnation = former.incarnation.checked_add(1).ok_or("the incarnations are used up")?;
    Ok(Node { id: former.id, incarnation })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_id_stays_and_the_incarnation_grows_across_opens() {
        let parent = tempfile::Builder::new()
            .permissions(PermissionsExt::from_mode(0o711))
            .tempdir()
            .expect("a directory");
        let mut seen = Vec::new();
        for _ in 0..3 {
            let dir = DataDir::open(parent.path()).expect("free");
            seen.push(dir.next_incarnation().expect("a node"));
        }
        assert!(seen.iter().all(|node| node.id == seen[0].id && node.id.len() == 17));
        assert_eq!(seen.iter().map(|node| node.incarnation).collect::<Vec<_>>(), [1, 2, 3]);
        std::fs::write(parent.path().join("node.json"), "{\"id\":").expect("a torn file");
        let dir = DataDir::open(parent.path()).expect("free");
        let message = dir.next_incarnation().expect_err("torn").to_string();
        assert!(message.contains("remove it to begin a new one"), "{message}");
    }

    #[test]
    fn a_former_node_without_sense_is_refused() {
        for text in [
            "",
            "{}",
            "[1]",
            r#"{"id":"","incarnation":1}"#,
            r#"{"id":"n","incarnation":0}"#,
            r#"{"id":"n","incarnation":9223372036854775807}"#,
            r#"{"id":"n","incarnation":1,"x":2}"#,
        ] {
            next(text.as_bytes()).expect_err(text);
        }
    }
}
