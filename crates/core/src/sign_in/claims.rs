//! What the claims of an access token whose signature is genuine prove, and why they may prove nothing.
//!
//! Everything is asked, in one order: by whom, for whom, by which client, what sort of token, since when and until
//! when, about whom, in which groups. An ID token, a logout token, a refresh token and a token that is bound to a
//! key of its holder are other things than an access token that whoever bears it may use, and are refused.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::SignIn;

/// How far apart the issuer's clock and ours may be, in seconds.
pub const LEEWAY_S: i64 = 30;
/// How long a token counts after it was issued, in seconds, whatever it says itself: half a day.
pub const MOST_AGE_S: i64 = 43_200;
/// Longest subject, in bytes.
const MOST_SUBJECT: usize = 255;
/// Most groups.
const MOST_GROUPS: usize = 1000;
/// Latest time that is believed, in seconds since 1970: the year 3000.
const LATEST: i64 = 32_503_680_000;

/// Why claims prove nothing. For the server's log: a caller is told only that the token is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimFault {
    /// `iss` is not the operator's issuer.
    #[error("issued by somebody else")]
    Issuer,
    /// `aud` does not hold the operator's audience.
    #[error("meant for somebody else")]
    Audience,
    /// `azp` or `client_id` is no client that the operator listed.
    #[error("given to another client")]
    Client,
    /// An ID token, a logout token, a refresh token.
    #[error("not an access token")]
    Sort,
    /// Only the holder of a key may use it, and we cannot tell who holds it.
    #[error("bound to a key of its holder")]
    Bound,
    /// A time is missing or no number.
    #[error("a time is missing or not a number")]
    Time,
    /// `exp` has passed.
    #[error("expired")]
    Expired,
    /// `nbf` or `iat` lies ahead.
    #[error("not yet valid")]
    Early,
    /// Issued longer ago than [`MOST_AGE_S`].
    #[error("issued too long ago")]
    Old,
    /// `sub` is missing, empty or too long.
    #[error("about nobody")]
    Subject,
    /// The groups are neither a text nor a list of texts, or too many.
    #[error("its groups cannot be read")]
    Groups,
}

/// What the claims prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who, in the issuer's words.
    pub subject: String,
    /// The groups they are in.
    pub groups: BTreeSet<String>,
    /// Until when, in seconds since 1970: as the token says, at most [`MOST_AGE_S`] after it was issued.
    pub until: i64,
}

/// Judges the claims of a genuine token at `now`, in seconds since 1970.
///
/// # Errors
/// The first [`ClaimFault`].
pub fn judge(settings: &SignIn, claims: &Map<String, Value>, now: i64) -> Result<Claims, ClaimFault> {
    if claims.get("iss").and_then(Value::as_str) != Some(settings.issuer.as_str()) {
        return Err(ClaimFault::Issuer);
    }
    if !is_meant_for(claims.get("aud"), &settings.audience) {
        return Err(ClaimFault::Audience);
    }
    for name in ["azp", "client_id"] {
        let is_ours = |client: &Value| client.as_str().is_some_and(|client| settings.is_client(client));
        if !claims.get(name).is_none_or(is_ours) {
            return Err(ClaimFault::Client);
        }
    }
    check_sort(claims)?;
    let until = check_times(claims, now)?;
    let subject = claims.get("sub").and_then(Value::as_str).ok_or(ClaimFault::Subject)?;
    if subject.is_empty() || subject.len() > MOST_SUBJECT || subject.contains(char::is_control) {
        return Err(ClaimFault::Subject);
    }
    let groups = groups(claims.get(settings.groups_claim()))?;
    Ok(Claims { subject: subject.to_owned(), groups, until })
}

fn is_meant_for(audience: Option<&Value>, ours: &str) -> bool {
    match audience {
        Some(Value::String(one)) => one == ours,
        Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(ours)),
        _ => false,
    }
}

fn check_sort(claims: &Map<String, Value>) -> Result<(), ClaimFault> {
    // Keycloak says the sort in the claims; the others are claims that only ID and logout tokens have
    let is_access = |sort: &Value| sort.as_str().is_some_and(|sort| sort.eq_ignore_ascii_case("bearer"));
    if !claims.get("typ").is_none_or(is_access) {
        return Err(ClaimFault::Sort);
    }
    if ["nonce", "at_hash", "c_hash", "s_hash", "events"].iter().any(|name| claims.contains_key(*name)) {
        return Err(ClaimFault::Sort);
    }
    if claims.contains_key("cnf") { Err(ClaimFault::Bound) } else { Ok(()) }
}

fn check_times(claims: &Map<String, Value>, now: i64) -> Result<i64, ClaimFault> {
    let expires = time(claims.get("exp"))?.ok_or(ClaimFault::Time)?;
    let issued = time(claims.get("iat"))?.ok_or(ClaimFault::Time)?;
    let begins = time(claims.get("nbf"))?.unwrap_or(issued);
    if issued.max(begins) > now + LEEWAY_S {
        return Err(ClaimFault::Early);
    }
    if expires <= now - LEEWAY_S {
        return Err(ClaimFault::Expired);
    }
    let until = (expires + LEEWAY_S).min(issued + MOST_AGE_S);
    if until > now { Ok(until) } else { Err(ClaimFault::Old) }
}

/// Seconds since 1970, a fraction of one cut off.
fn time(value: Option<&Value>) -> Result<Option<i64>, ClaimFault> {
    let Some(value) = value else { return Ok(None) };
    let whole = value.as_i64().or_else(|| value.as_f64().filter(|t| t.is_finite()).map(|t| t as i64));
    whole.filter(|t| (0..=LATEST).contains(t)).map(Some).ok_or(ClaimFault::Time)
}

fn groups(claim: Option<&Value>) -> Result<BTreeSet<String>, ClaimFault> {
    match claim {
        None | Some(Value::Null) => Ok(BTreeSet::new()),
        Some(Value::String(one)) => Ok(BTreeSet::from([one.clone()])),
        Some(Value::Array(several)) if several.len() <= MOST_GROUPS => {
            several.iter().map(|one| one.as_str().map(str::to_owned).ok_or(ClaimFault::Groups)).collect()
        }
        Some(_) => Err(ClaimFault::Groups),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    /// What comes of a good token's claims with these changes; null takes a claim away.
    fn judged(changes: Value) -> Result<Claims, ClaimFault> {
        let settings = SignIn {
            issuer: "https://id.example".to_owned(),
            client_id: "cli".to_owned(),
            audience: "awooop".to_owned(),
            clients: vec!["ci".to_owned()],
            ..SignIn::default()
        };
        let mut claims = json!({"iss": "https://id.example", "aud": "awooop", "azp": "cli", "sub": "1",
            "iat": NOW - 10, "exp": NOW + 300, "groups": ["ops"]});
        for (name, value) in changes.as_object().expect("changes") {
            let members = claims.as_object_mut().expect("claims");
            match value {
                Value::Null => drop(members.remove(name)),
                value => drop(members.insert(name.clone(), value.clone())),
            }
        }
        judge(&settings, claims.as_object().expect("claims"), NOW)
    }

    #[test]
    fn a_good_token_proves_its_subject_and_groups() {
        let ops = BTreeSet::from(["ops".to_owned()]);
        let good = Claims { subject: "1".to_owned(), groups: ops, until: NOW + 300 + LEEWAY_S };
        assert_eq!(judged(json!({})), Ok(good.clone()));
        for harmless in [
            json!({"aud": ["other", "awooop"]}),
            json!({"azp": "ci"}),
            json!({"azp": null, "client_id": "cli"}),
            json!({"typ": "Bearer"}),
            json!({"nbf": NOW + LEEWAY_S}),
            json!({"iat": NOW + 1}),
            json!({"email": "root@example.com", "email_verified": true}),
        ] {
            assert_eq!(judged(harmless.clone()).as_ref(), Ok(&good), "{harmless}");
        }
    }

    #[test]
    fn each_claim_that_is_wrong_is_refused() {
        use ClaimFault as F;
        for (changes, fault) in [
            (json!({"iss": "https://id.example/"}), F::Issuer),
            (json!({"iss": null}), F::Issuer),
            (json!({"iss": ["https://id.example"]}), F::Issuer),
            (json!({"aud": "awooop "}), F::Audience),
            (json!({"aud": []}), F::Audience),
            (json!({"aud": null}), F::Audience),
            (json!({"azp": "another"}), F::Client),
            (json!({"azp": ["cli"]}), F::Client),
            (json!({"client_id": "another"}), F::Client),
            (json!({"typ": "ID"}), F::Sort),
            (json!({"typ": "Refresh"}), F::Sort),
            (json!({"nonce": "n"}), F::Sort),
            (json!({"events": {}}), F::Sort),
            (json!({"cnf": {"jkt": "x"}}), F::Bound),
            (json!({"exp": null}), F::Time),
            (json!({"exp": "tomorrow"}), F::Time),
            (json!({"exp": 1e300}), F::Time),
            (json!({"exp": -1}), F::Time),
            (json!({"iat": null}), F::Time),
            (json!({"exp": NOW - LEEWAY_S}), F::Expired),
            (json!({"nbf": NOW + LEEWAY_S + 1}), F::Early),
            (json!({"iat": NOW + LEEWAY_S + 1}), F::Early),
            (json!({"iat": NOW - MOST_AGE_S, "exp": NOW + 86_400}), F::Old),
            (json!({"sub": null}), F::Subject),
            (json!({"sub": ""}), F::Subject),
            (json!({"sub": 1}), F::Subject),
            (json!({"sub": "x".repeat(256)}), F::Subject),
            (json!({"sub": "a\u{0}"}), F::Subject),
            (json!({"groups": {"ops": true}}), F::Groups),
            (json!({"groups": [["ops"]]}), F::Groups),
            (json!({"groups": vec!["g"; 1001]}), F::Groups),
        ] {
            assert_eq!(judged(changes.clone()), Err(fault), "{changes}");
        }
    }

    #[test]
    fn groups_may_be_a_list_one_text_or_none() {
        let groups = |changes: Value| judged(changes).map(|claims| claims.groups.len());
        assert_eq!(groups(json!({"groups": ["a", "b", "a"]})), Ok(2));
        assert_eq!(groups(json!({"groups": "a b"})), Ok(1));
        assert_eq!(groups(json!({"groups": null})), Ok(0));
    }
}
