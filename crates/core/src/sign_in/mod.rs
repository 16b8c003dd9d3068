//! Signing in by OpenID Connect: whom an access token proves, and what that person is in which project.
//!
//! The operator names one issuer, the audience its tokens must be meant for, and which group is which role in which
//! project. A person is the issuer and the subject together, never a name or an address that a provider may give to
//! somebody else; roles are the token's groups and no row. The signature is checked by `store`, keys are fetched by
//! `gateway`; the judgement of the claims lies in `claims`.

mod claims;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use url::Url;

pub use claims::{ClaimFault, Claims, LEEWAY_S, MOST_AGE_S, judge};

use crate::ids::{PersonId, PrincipalId, ProjectId};
use crate::role::{Role, Roles};

/// What the ids of people who sign in begin with. No other principal may have such a name.
pub const PREFIX: &str = "sso-";

/// How people sign in: `sign_in` of the operator's list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignIn {
    /// The issuer's identifier, exactly as its tokens say it in `iss`.
    pub issuer: String,
    /// The public client the command line signs in as.
    pub client_id: String,
    /// What the tokens must be meant for (`aud`).
    pub audience: String,
    /// Further clients whose tokens are taken.
    pub clients: Vec<String>,
    /// The claim that lists a person's groups; `groups` where it is left empty.
    pub groups_claim: String,
    /// What the command line asks for; `openid` and `offline_access` where it is left empty.
    pub scopes: Vec<String>,
    /// The names that subjects already have here, by `sub`: whoever has keys of their own stays one person.
    pub people: BTreeMap<String, PersonId>,
}

/// Why the operator's settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignInError {
    /// Needed and not there.
    #[error("`sign_in.{0}` is missing")]
    Missing(&'static str),
    /// Not an address at which an issuer can be.
    #[error(
        "`sign_in.issuer` must be an https:// address (http:// only on this machine) without query or fragment"
    )]
    Issuer,
    /// Tokens for the client are ID tokens, which are no proof towards an API.
    #[error("`sign_in.audience` must not be the client id: the API takes access tokens, not ID tokens")]
    Audience,
    /// A group cannot make an agent.
    #[error("the group `{group}` of project `{project}` may not have the role agent")]
    AgentRole {
        /// The project.
        project: ProjectId,
        /// The group.
        group: String,
    },
}

impl SignIn {
    /// Checks the settings.
    ///
    /// # Errors
    /// The first [`SignInError`].
    pub fn validate(&self) -> Result<(), SignInError> {
        let needed = [("issuer", &self.issuer), ("client_id", &self.client_id), ("audience", &self.audience)];
        if let Some((name, _)) = needed.iter().find(|(_, value)| value.is_empty()) {
            return Err(SignInError::Missing(name));
        }
        if self.audience == self.client_id {
            return Err(SignInError::Audience);
        }
        self.issuer_url().map(drop)
    }

    /// The issuer as an address.
    ///
    /// # Errors
    /// [`SignInError::Issuer`].
    pub fn issuer_url(&self) -> Result<Url, SignInError> {
        let url = Url::parse(&self.issuer).map_err(|_| SignInError::Issuer)?;
        let is_plain = url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_this_machine(&url));
        if is_plain && is_safe { Ok(url) } else { Err(SignInError::Issuer) }
    }

    /// The claim that lists groups.
    pub fn groups_claim(&self) -> &str {
        if self.groups_claim.is_empty() { "groups" } else { &self.groups_claim }
    }

    /// What the command line asks the issuer for.
    pub fn scopes(&self) -> Vec<String> {
        match self.scopes.is_empty() {
            true => ["openid", "offline_access"].map(str::to_owned).to_vec(),
            false => self.scopes.clone(),
        }
    }

    /// May a token be this client's?
    pub fn is_client(&self, client: &str) -> bool {
        client == self.client_id || self.clients.iter().any(|listed| listed == client)
    }

    /// The subject's id as a principal, the same in every project and for good.
    pub fn principal(&self, subject: &str) -> PrincipalId {
        let mut hash = Sha256::new();
        hash.update(self.issuer.as_bytes());
        hash.update([0]);
        hash.update(subject.as_bytes());
        let hash: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        PrincipalId::parse(&format!("{PREFIX}{hash}")).expect("letters, digits and a dash")
    }

    /// Who the subject is when people are counted: the name they have here, or their own id.
    pub fn person(&self, subject: &str) -> PersonId {
        match self.people.get(subject) {
            Some(name) => name.clone(),
            None => PersonId::parse(self.principal(subject).as_str()).expect("such an id is a name"),
        }
    }
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Which group is which role, by project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memberships(BTreeMap<ProjectId, BTreeMap<String, Role>>);

impl Memberships {
    /// Checks what the operator listed.
    ///
    /// # Errors
    /// [`SignInError::AgentRole`].
    pub fn new(listed: BTreeMap<ProjectId, BTreeMap<String, Role>>) -> Result<Self, SignInError> {
        for (project, groups) in &listed {
            if let Some((group, _)) = groups.iter().find(|(_, role)| **role == Role::Agent) {
                return Err(SignInError::AgentRole { project: project.clone(), group: group.clone() });
            }
        }
        Ok(Self(listed))
    }

    /// What somebody in these groups is, and where.
    pub fn of(&self, groups: &BTreeSet<String>) -> BTreeMap<ProjectId, Roles> {
        let in_project = |mapped: &BTreeMap<String, Role>| -> Roles {
            mapped.iter().filter(|(group, _)| groups.contains(*group)).map(|(_, role)| *role).collect()
        };
        self.0
            .iter()
            .map(|(project, mapped)| (project.clone(), in_project(mapped)))
            .filter(|(_, roles)| !roles.is_empty())
            .collect()
    }
}

/// Reads a JSON object in which no name stands twice: of two values, two readers may take different ones.
///
/// # Errors
/// `None` for anything else.
pub fn strict_object(bytes: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice::<StrictObject>(bytes).ok().map(|object| object.0)
}

struct StrictObject(Map<String, Value>);

impl<'de> Deserialize<'de> for StrictObject {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Map<String, Value>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut members: A,
            ) -> Result<Self::Value, A::Error> {
                let mut found = Map::new();
                while let Some((name, value)) = members.next_entry::<String, Value>()? {
                    if found.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("a name stands twice"));
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(Members).map(StrictObject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(issuer: &str) -> SignIn {
        SignIn {
            issuer: issuer.to_owned(),
            client_id: "cli".to_owned(),
            audience: "awooop".to_owned(),
            ..SignIn::default()
        }
    }

    #[test]
    fn an_issuer_is_reached_over_https_or_on_this_machine() {
        for good in ["https://id.example.com/realms/main", "http://127.0.0.1:8080", "http://localhost:8080/"]
        {
            assert_eq!(settings(good).validate(), Ok(()), "{good}");
        }
        for bad in ["http://id.example.com", "id.example.com", "https://u@h", "https://h/?q=1", "ftp://h"] {
            assert_eq!(settings(bad).validate(), Err(SignInError::Issuer), "{bad}");
        }
        let of_client = SignIn { audience: "cli".to_owned(), ..settings("https://h") };
        assert_eq!(of_client.validate(), Err(SignInError::Audience));
        assert_eq!(settings("").validate(), Err(SignInError::Missing("issuer")));
    }

    #[test]
    fn a_person_is_issuer_and_subject_unless_they_have_a_name_here() {
        let (here, there) = (settings("https://a"), settings("https://b"));
        assert_ne!(here.person("1"), there.person("1"));
        assert_ne!(here.person("1"), here.person("2"));
        assert_eq!(here.person("1").as_str(), here.principal("1").as_str());
        let ana = PersonId::parse("ana").unwrap();
        let linked = SignIn { people: BTreeMap::from([("1".to_owned(), ana.clone())]), ..here };
        assert_eq!((linked.person("1"), linked.person("2") == ana), (ana, false));
    }

    #[test]
    fn groups_give_roles_in_the_projects_that_list_them() {
        let project = |text: &str| ProjectId::parse(text).unwrap();
        let listed = |pairs: &[(&str, Role)]| {
            pairs.iter().map(|(group, role)| ((*group).to_owned(), *role)).collect::<BTreeMap<_, _>>()
        };
        let both = listed(&[("ops", Role::Operator), ("leads", Role::Approver)]);
        let rules = BTreeMap::from([
            (project("shop"), both),
            (project("platform"), listed(&[("root", Role::Admin)])),
        ]);
        let rules = Memberships::new(rules).unwrap();
        let of = |groups: &[&str]| rules.of(&groups.iter().map(|g| (*g).to_owned()).collect());
        let shop = of(&["ops", "leads", "others"]);
        assert_eq!(shop.keys().map(ProjectId::as_str).collect::<Vec<_>>(), ["shop"]);
        assert_eq!(shop[&project("shop")].to_string(), "operator, approver");
        assert!(of(&["Ops", "op", ""]).is_empty());
        let agents = BTreeMap::from([(project("shop"), listed(&[("bots", Role::Agent)]))]);
        assert!(Memberships::new(agents).is_err());
    }

    #[test]
    fn an_object_with_a_name_twice_is_none() {
        assert!(strict_object(br#"{"a":1,"b":{"c":2}}"#).is_some());
        for bad in [&br#"{"a":1,"a":1}"#[..], br#"{"a":1,"\u0061":2}"#, b"[]", b"{", b"{} {}", b""] {
            assert!(strict_object(bad).is_none(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
