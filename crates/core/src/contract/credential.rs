//! Where a credential lies. Contracts name credentials and never hold them; a reference is resolved when a
//! call is cleared (gate 5), and only below what the operator listed for the project.

use serde::{Deserialize, Serialize};

/// Where a credential lies. It is resolved at gate 5 and never stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CredentialRef {
    /// A variable of the server's environment that the operator listed for this project.
    Env(String),
    /// A file below the operator's secrets folder of this project.
    File(String),
    /// A value of a Secret in Kubernetes that the operator listed for this project.
    K8s {
        /// The Secret's namespace.
        namespace: String,
        /// The Secret's name.
        secret: String,
        /// The value's key in the Secret's data.
        key: String,
    },
}

impl TryFrom<String> for CredentialRef {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("env://") {
            return Ok(Self::Env(name.to_owned()));
        }
        if let Some(path) = text.strip_prefix("file://") {
            return Ok(Self::File(path.to_owned()));
        }
        let Some(place) = text.strip_prefix("k8s://") else {
            return Err("a credential reference begins with env://, file:// or k8s://".to_owned());
        };
        match place.split('/').collect::<Vec<_>>()[..] {
            [namespace, secret, key] if [namespace, secret, key].iter().all(|part| !part.is_empty()) => {
                let [namespace, secret, key] = [namespace, secret, key].map(str::to_owned);
                Ok(Self::K8s { namespace, secret, key })
            }
            _ => Err("a Secret in Kubernetes is named k8s://namespace/secret/key".to_owned()),
        }
    }
}

impl From<CredentialRef> for String {
    fn from(reference: CredentialRef) -> Self {
        match reference {
            CredentialRef::Env(name) => format!("env://{name}"),
            CredentialRef::File(path) => format!("file://{path}"),
            CredentialRef::K8s { namespace, secret, key } => format!("k8s://{namespace}/{secret}/{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_reads_as_it_was_written() {
        for text in ["env://SHOP_TOKEN", "file://shop/token", "k8s://shop/payment-gateway/api.token"] {
            let read = CredentialRef::try_from(text.to_owned()).unwrap();
            assert_eq!(String::from(read), text);
        }
        for wrong in
            ["token", "vault://a/b", "k8s://shop/token", "k8s://shop//key", "k8s://a/b/c/d", "k8s://"]
        {
            assert!(CredentialRef::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
