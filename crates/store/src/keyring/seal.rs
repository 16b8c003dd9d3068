//! What the key `audit_seal` does: its secret is the seed of an Ed25519 key that signs seals, so that others can
//! check them with the public half; and a key derived from it makes the MACs of events, which only servers check.
//!
//! Both are made once, when the keyring is read. A retired key signs and checks no MAC any more; its public half
//! stays.

use awooop_core::audit::PublicKeys;
use awooop_core::json::hex;
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::{KeyName, Keyring, SECRET_BYTES, SignatureProblem};

/// Parts the MAC's key from everything else that is made of the secret.
const MAC_LABEL: &[u8] = b"awooop-audit-event-mac-v1";

/// What is made of one secret.
pub(super) struct Sealing {
    signing: SigningKey,
    mac: Hmac<Sha256>,
}

impl Sealing {
    /// Of a key of the audit that has a secret; `None` for every other.
    pub(super) fn of(name: KeyName, secret: &[u8]) -> Option<Self> {
        let mut label = Hmac::<Sha256>::new_from_slice(secret).ok()?;
        label.update(MAC_LABEL);
        let derived = label.finalize().into_bytes();
        let mac = Hmac::<Sha256>::new_from_slice(&derived).ok()?;
        Some(Self { signing: signing_key(name, secret)?, mac })
    }

    fn mac(&self, message: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(message);
        mac
    }
}

fn signing_key(name: KeyName, secret: &[u8]) -> Option<SigningKey> {
    if name != KeyName::AuditSeal || secret.len() < SECRET_BYTES {
        return None;
    }
    // a secret of another length was put there by hand
    let seed: [u8; 32] = secret.try_into().unwrap_or_else(|_| Sha256::digest(secret).into());
    Some(SigningKey::from_bytes(&seed))
}

/// The public half in hexadecimal; `None` for keys that sign for nobody else.
pub(super) fn public_key(name: KeyName, secret: &[u8]) -> Option<String> {
    signing_key(name, secret).map(|key| hex(key.verifying_key().as_bytes()))
}

impl Keyring {
    /// The MAC of an event, and the id of its key. The statement names that id, so it is made from it.
    pub(crate) fn audit_mac(&self, statement: impl FnOnce(&str) -> Vec<u8>) -> (String, Vec<u8>) {
        self.read(|ring| {
            let key = ring.current(KeyName::AuditSeal);
            let sealing = key.sealing.as_ref().expect("the current key of the audit has a secret");
            (key.info.id.clone(), sealing.mac(&statement(&key.info.id)).finalize().into_bytes().to_vec())
        })
    }

    /// Is this the MAC of the statement under the key it names?
    pub(crate) fn check_audit_mac(
        &self,
        id: &str,
        statement: &[u8],
        mac: &[u8],
    ) -> Result<(), SignatureProblem> {
        self.learn(KeyName::AuditSeal, id);
        self.read(|ring| {
            let key = ring.find(KeyName::AuditSeal, id).ok_or(SignatureProblem::UnknownKey)?;
            let sealing = key.sealing.as_ref().ok_or(SignatureProblem::RetiredKey)?;
            sealing.mac(statement).verify_slice(mac).map_err(|_| SignatureProblem::Mismatch)
        })
    }

    /// Signs a seal with the current key. The statement names that key's id, so it is made from it.
    pub(crate) fn sign_seal(&self, statement: impl FnOnce(&str) -> Vec<u8>) -> Vec<u8> {
        self.read(|ring| {
            let key = ring.current(KeyName::AuditSeal);
            let sealing = key.sealing.as_ref().expect("the current key of the audit has a secret");
            sealing.signing.sign(&statement(&key.info.id)).to_bytes().to_vec()
        })
    }

    /// The public halves of all keys that ever sealed the audit, retired ones too.
    pub fn audit_public_keys(&self) -> PublicKeys {
        let mut keys = PublicKeys::default();
        for info in self.keys().into_iter().filter(|k| k.name == KeyName::AuditSeal) {
            if let Some(public_key) = &info.public_key {
                keys.add(&info.id, public_key);
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn what_a_retired_key_sealed_can_still_be_checked() {
        let directory = tempfile::tempdir().unwrap();
        let ring = Keyring::load_or_create(directory.path(), Timestamp::UNIX_EPOCH).unwrap();
        let mut old = String::new();
        let signature = ring.sign_seal(|id| {
            id.clone_into(&mut old);
            b"statement".to_vec()
        });
        let (mac_key, mac) = ring.audit_mac(|_| b"event".to_vec());
        assert_eq!(mac_key, old);
        assert_eq!(ring.check_audit_mac(&old, b"event", &mac), Ok(()));
        assert_eq!(ring.check_audit_mac(&old, b"other", &mac), Err(SignatureProblem::Mismatch));
        Keyring::rotate(directory.path(), KeyName::AuditSeal, Timestamp::UNIX_EPOCH).unwrap();
        Keyring::retire(directory.path(), KeyName::AuditSeal, &old).unwrap();
        ring.refresh().unwrap();
        let again = Keyring::load(directory.path()).unwrap();
        for ring in [ring, again] {
            assert_eq!(ring.check_audit_mac(&old, b"event", &mac), Err(SignatureProblem::RetiredKey));
            let keys = ring.audit_public_keys();
            assert!(keys.verify(&old, b"statement", &signature) && !keys.verify(&old, b"other", &signature));
            assert_eq!(keys.list().count(), 2);
        }
    }
}
