//! The platform's first admin key, and a further one for whoever holds the database and the keyring: they are an
//! operator anyway.

use awooop_core::ProjectId;
use awooop_core::ids::PrincipalId;
use awooop_core::role::Role;
use rand::distr::{Alphanumeric, SampleString};
use secrecy::SecretString;

use super::{ApiKey, CreateKeyError, NewKey};
use crate::pool::Store;
use crate::scope::ProjectScope;

impl Store {
    /// The first admin key of the platform, when it has none that works; `dev` and `migrate` call this.
    pub async fn bootstrap(&self) -> Result<Option<SecretString>, CreateKeyError> {
        let scope = ProjectScope::new(ProjectId::platform(), "platform/bootstrap");
        let now = self.inner.clock.now();
        self.once(
            &scope,
            "INSERT INTO project (project_id, display_name, created_at)
             VALUES ($1, 'Platform operators', $2) ON CONFLICT DO NOTHING",
            &[&scope.project().as_str(), &now],
        )
        .await?;
        self.once(
            &scope,
            "INSERT INTO budget (project_id, scope, unit) VALUES ($1, 'project', 'tokens') ON CONFLICT DO NOTHING",
            &[&scope.project().as_str()],
        )
        .await?;
        let keys = self.list_keys(&scope, None, 200).await?;
        let works = |k: &ApiKey| {
            k.revoked_at.is_none() && k.disabled_at.is_none() && k.expires_at.is_none_or(|at| at > now)
        };
        if keys.iter().any(|k| k.role == Some(Role::Admin) && k.scopes.is_none() && works(k)) {
            return Ok(None);
        }
        self.create_admin_key(&scope).await.map(Some)
    }

    /// A further admin key of the platform.
    pub async fn bootstrap_again(&self) -> Result<SecretString, CreateKeyError> {
        let scope = ProjectScope::new(ProjectId::platform(), "platform/bootstrap");
        self.create_admin_key(&scope).await
    }

    /// Of `admin`, or of a new principal where `admin` is disabled or no admin any more.
    async fn create_admin_key(&self, scope: &ProjectScope) -> Result<SecretString, CreateKeyError> {
        let name = |text: &str| PrincipalId::parse(text).expect("a valid name");
        match self.create_key(scope, &NewKey::of_service(name("admin"), Role::Admin)).await {
            Err(
                CreateKeyError::Disabled(_) | CreateKeyError::NoRole(_) | CreateKeyError::OtherRole { .. },
            ) => {
                let suffix = Alphanumeric.sample_string(&mut rand::rng(), 8).to_ascii_lowercase();
                let new = NewKey::of_service(name(&format!("admin-{suffix}")), Role::Admin);
                Ok(self.create_key(scope, &new).await?.0)
            }
            made => Ok(made?.0),
        }
    }
}
