//! A signed token in its compact form (RFC 7515), read strictly and opened with the issuer's keys only.
//!
//! Three algorithms are known, and each key is of one: what the token says of its algorithm has to agree with the key,
//! so neither `none` nor a public key taken for a shared secret can pass. A header that names keys or addresses of its
//! own, or asks for what we do not know, is refused; nothing in a token is ever fetched.

use awooop_core::sign_in::{ClaimFault, strict_object};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::jwks::{Algorithm, IssuerKeys};

/// Largest token that is read, in bytes.
pub const MOST_TOKEN_BYTES: usize = 16 * 1024;
/// Longest key id, in bytes.
const MOST_KID: usize = 256;
/// Header parameters with which a token would bring its own key, or change how it is read.
const REFUSED: [&str; 7] = ["jku", "jwk", "x5u", "x5c", "crit", "b64", "zip"];

/// Why a token proves nothing. For the server's log: a caller is told only that the token is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Larger than [`MOST_TOKEN_BYTES`].
    #[error("too large")]
    Size,
    /// Not three parts of base64url, or not objects without doubles in them.
    #[error("not a signed token")]
    Form,
    /// `alg` is none of RS256, ES256, EdDSA.
    #[error("signed in a way that is not taken")]
    Algorithm,
    /// `typ` says that it is no access token.
    #[error("of a type that is not taken")]
    Type,
    /// The header brings a key or asks for an extension.
    #[error("its header brings a key or an extension")]
    Extension,
    /// The issuer has no key of this id and algorithm.
    #[error("signed with a key that the issuer does not have")]
    UnknownKey,
    /// The signature is not that of the key.
    #[error("its signature is not genuine")]
    Signature,
    /// The claims are not what is asked.
    #[error(transparent)]
    Claims(ClaimFault),
}

/// A token that could be genuine: its form is right, its signature is still to be checked.
pub struct Token {
    algorithm: Algorithm,
    kid: Option<String>,
    /// Header and claims as they were signed.
    signed: String,
    signature: Vec<u8>,
    claims: Vec<u8>,
}

impl Token {
    /// Reads a token's form and header.
    ///
    /// # Errors
    /// A [`TokenFault`] that no key could mend.
    pub fn read(text: &str) -> Result<Self, TokenFault> {
        if text.len() > MOST_TOKEN_BYTES {
            return Err(TokenFault::Size);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenFault::Form)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenFault::Form)?;
        let header = strict_object(&decode(header)?).ok_or(TokenFault::Form)?;
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::parse);
        let algorithm = algorithm.ok_or(TokenFault::Algorithm)?;
        if !header.get("typ").is_none_or(is_access_type) {
            return Err(TokenFault::Type);
        }
        if REFUSED.iter().any(|name| header.contains_key(*name)) {
            return Err(TokenFault::Extension);
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= MOST_KID => Some(kid.clone()),
            Some(_) => return Err(TokenFault::Form),
        };
        let (claims, signature) = (decode(claims)?, decode(signature)?);
        Ok(Self { algorithm, kid, signed: signed.to_owned(), signature, claims })
    }

    /// The claims, once the signature is found genuine.
    pub(super) fn open(&self, keys: &IssuerKeys) -> Result<Map<String, Value>, TokenFault> {
        let key = keys.find(self.algorithm, self.kid.as_deref()).ok_or(TokenFault::UnknownKey)?;
        if !key.has_signed(self.signed.as_bytes(), &self.signature) {
            return Err(TokenFault::Signature);
        }
        strict_object(&self.claims).ok_or(TokenFault::Form)
    }
}

/// Is this the type of an access token (RFC 9068), or one that says nothing?
fn is_access_type(typ: &Value) -> bool {
    let Some(typ) = typ.as_str() else { return false };
    ["jwt", "at+jwt", "application/at+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known))
}

/// Base64url without padding, in its one spelling; never empty.
fn decode(text: &str) -> Result<Vec<u8>, TokenFault> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenFault::Form)?;
    if bytes.is_empty() { Err(TokenFault::Form) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7515, appendix A.2: its modulus, and the token, each in pieces of a line.
    const MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL\
        -yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS\
        -UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkM\
        Ls91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    const SIGNED: [&str; 2] = [
        "eyJhbGciOiJSUzI1NiJ9",
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
    ];
    const SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5juj\
        Gbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eS\
        N9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkW\
        ywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

    fn keys(n: &str) -> IssuerKeys {
        let set = serde_json::json!({"keys": [{"kty": "RSA", "n": n, "e": "AQAB"}]});
        IssuerKeys::parse(set.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_standard_s_own_example_opens_with_its_key_and_no_other() {
        let text = format!("{}.{SIGNATURE}", SIGNED.join("."));
        let token = Token::read(&text).unwrap();
        let claims = token.open(&keys(MODULUS)).unwrap();
        assert_eq!(claims["iss"], "joe");
        let other = MODULUS.replacen('o', "p", 1);
        assert_eq!(token.open(&keys(&other)).map(drop), Err(TokenFault::Signature));
        // a number with zeros before it is the same number
        let padded = URL_SAFE_NO_PAD.encode([&[0][..], &URL_SAFE_NO_PAD.decode(MODULUS).unwrap()].concat());
        assert!(token.open(&keys(&padded)).is_ok());
        let small = URL_SAFE_NO_PAD.encode([0xc1; 128]);
        assert_eq!(token.open(&keys(&small)).map(drop), Err(TokenFault::Signature), "1024 bits are too few");
    }
}
