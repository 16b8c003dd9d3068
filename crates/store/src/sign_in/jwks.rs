//! The issuer's public keys (RFC 7517): those that sign, of the three kinds that are taken. Others in the document are
//! passed over: an issuer may have keys for other uses.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

/// Most keys that are kept of one document.
const MOST_KEYS: usize = 100;

/// How a token may be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "RS256" => Some(Algorithm::Rs256),
            "ES256" => Some(Algorithm::Es256),
            "EdDSA" => Some(Algorithm::EdDsa),
            _ => None,
        }
    }
}

/// Why a document holds no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoKeys {
    /// Not a JSON Web Key Set.
    #[error("it is no set of keys")]
    Form,
    /// No key in it is of a kind that is taken.
    #[error("no key in it signs in a way that is taken: RS256 of 2048 bits or more, ES256, EdDSA")]
    NoneUsable,
}

/// The issuer's keys. Never empty.
#[derive(Debug, Clone)]
pub struct IssuerKeys(Vec<IssuerKey>);

#[derive(Debug, Clone)]
pub(super) struct IssuerKey {
    kid: Option<String>,
    material: Material,
}

#[derive(Debug, Clone)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Entry {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl IssuerKeys {
    /// Reads a JSON Web Key Set.
    ///
    /// # Errors
    /// [`NoKeys`].
    pub fn parse(document: &[u8]) -> Result<Self, NoKeys> {
        let document: Document = serde_json::from_slice(document).map_err(|_| NoKeys::Form)?;
        let entries = document.keys.into_iter().filter_map(|entry| serde_json::from_value(entry).ok());
        let keys: Vec<IssuerKey> = entries.filter_map(IssuerKey::read).take(MOST_KEYS).collect();
        if keys.is_empty() { Err(NoKeys::NoneUsable) } else { Ok(Self(keys)) }
    }

    /// The key of this algorithm and id. A token without an id fits an issuer with one such key.
    pub(super) fn find(&self, algorithm: Algorithm, kid: Option<&str>) -> Option<&IssuerKey> {
        let mut found = self
            .0
            .iter()
            .filter(|key| key.algorithm() == algorithm && (kid.is_none() || key.kid.as_deref() == kid));
        match (found.next(), found.next()) {
            (Some(key), None) => Some(key),
            _ => None,
        }
    }
}

impl IssuerKey {
    fn read(entry: Entry) -> Option<Self> {
        if entry.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let part = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
        let coordinate = |text: Option<String>| part(text).filter(|bytes| bytes.len() == 32);
        let material = match (entry.kty.as_str(), entry.crv.as_deref()) {
            ("RSA", _) => Material::Rsa { n: whole(part(entry.n)?)?, e: whole(part(entry.e)?)? },
            ("EC", Some("P-256")) => {
                let (x, y) = (coordinate(entry.x)?, coordinate(entry.y)?);
                Material::P256([&[4][..], &x, &y].concat())
            }
            ("OKP", Some("Ed25519")) => Material::Ed25519(coordinate(entry.x)?),
            _ => return None,
        };
        let key = Self { kid: entry.kid, material };
        let agrees = entry.alg.is_none_or(|alg| Algorithm::parse(&alg) == Some(key.algorithm()));
        agrees.then_some(key)
    }

    fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// Is this the key's signature of the message? A modulus below 2048 bits or above 8192 signs nothing.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Rsa { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            Material::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            Material::Ed25519(point) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature).is_ok()
            }
        }
    }
}

/// A number without the zero bytes that some issuers write before it; `None` for zero.
fn whole(bytes: Vec<u8>) -> Option<Vec<u8>> {
    let begin = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes[begin..].to_vec())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(keys: serde_json::Value) -> Result<usize, NoKeys> {
        IssuerKeys::parse(json!({"keys": keys}).to_string().as_bytes()).map(|keys| keys.0.len())
    }

    #[test]
    fn keys_of_other_kinds_and_uses_are_passed_over() {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        let good = json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "1"});
        assert_eq!(parsed(json!([good])), Ok(1));
        let others = json!([
            {"kty": "oct", "k": "c2VjcmV0", "kid": "1"},
            {"kty": "EC", "crv": "P-384", "x": x, "y": x},
            {"kty": "EC", "crv": "P-256", "x": x},
            {"kty": "OKP", "crv": "Ed25519", "x": x, "use": "enc"},
            {"kty": "OKP", "crv": "Ed25519", "x": x, "alg": "RS256"},
            {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"},
            {"kty": "RSA", "n": "AAAA", "e": "AQAB"},
            {"kty": "RSA", "e": "AQAB"},
            {"kid": "1"},
            "nonsense"
        ]);
        assert_eq!(parsed(others), Err(NoKeys::NoneUsable));
        assert_eq!(IssuerKeys::parse(b"{}").map(drop), Err(NoKeys::Form));
        assert_eq!(IssuerKeys::parse(b"[]").map(drop), Err(NoKeys::Form));
    }

    #[test]
    fn a_point_of_p_256_signs() {
        use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
        let random = ring::rand::SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        let set = json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "x": x, "y": y}]});
        let keys = IssuerKeys::parse(set.to_string().as_bytes()).unwrap();
        let key = keys.find(Algorithm::Es256, None).unwrap();
        let signature = pair.sign(&random, b"said").unwrap();
        assert!(
            key.has_signed(b"said", signature.as_ref()) && !key.has_signed(b"unsaid", signature.as_ref())
        );
        assert!(!key.has_signed(b"said", &[0; 64]), "a signature of zeros is none");
    }

    #[test]
    fn a_token_without_a_key_id_fits_an_issuer_with_one_key() {
        let key = |kid: &str, byte: u8| json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([byte; 32]), "kid": kid});
        let keys = |entries: &[serde_json::Value]| {
            IssuerKeys::parse(json!({"keys": entries}).to_string().as_bytes()).unwrap()
        };
        let (one, two) = (keys(&[key("a", 1)]), keys(&[key("a", 1), key("b", 2)]));
        assert!(
            one.find(Algorithm::EdDsa, None).is_some() && one.find(Algorithm::EdDsa, Some("b")).is_none()
        );
        assert!(
            two.find(Algorithm::EdDsa, None).is_none() && two.find(Algorithm::EdDsa, Some("b")).is_some()
        );
        assert!(one.find(Algorithm::Rs256, Some("a")).is_none());
        // of two keys with one id neither is the one
        assert!(keys(&[key("a", 1), key("a", 2)]).find(Algorithm::EdDsa, Some("a")).is_none());
    }
}
