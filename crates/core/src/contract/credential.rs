//! Where a credential lies. Contracts name credentials and never hold them; a reference is resolved when a
//! call is cleared (gate 5), and only below what the operator listed for the project.

use serde::{Deserialize, Serialize};

/// Where a credential lies. It is resolved at gate 5 and never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CredentialRef {
    /// A variable of the server's environment that the operator listed for this project.
    Env(String),
    /// A file below the operator's secrets folder of this project.
    File(String),
}

impl TryFrom<String> for CredentialRef {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("env://") {
            return Ok(Self::Env(name.to_owned()));
        }
        match text.strip_prefix("file://") {
            Some(path) => Ok(Self::File(path.to_owned())),
            None => Err("a credential reference begins with env:// or file://".to_owned()),
        }
    }
}

impl From<CredentialRef> for String {
    fn from(reference: CredentialRef) -> Self {
        match reference {
            CredentialRef::Env(name) => format!("env://{name}"),
            CredentialRef::File(path) => format!("file://{path}"),
        }
    }
}
