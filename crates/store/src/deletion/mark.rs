//! The mark's MAC: by it a sweep knows that a server was asked for the deletion. It is made under a key that may be rotated
//! and retired while the deletion waits, so each sweep signs a mark again that an older key signed; and one that can be
//! believed no more is signed again when a platform admin asks once more.

use awooop_core::ProjectId;
use jiff::Timestamp;
use serde_json::json;

use super::DeletionState;
use crate::audit::{self, Note};
use crate::auth::Caller;
use crate::error::StoreError;
use crate::keyring::{KeyName, SignatureProblem};
use crate::pool::Store;
use crate::scope::ProjectScope;
use crate::tx::ProjectTx;

/// What the MAC of a mark is taken of.
pub(super) struct Mark<'a> {
    pub(super) project: &'a ProjectId,
    pub(super) at: Timestamp,
    pub(super) by: &'a str,
    pub(super) reason: &'a str,
}

impl Mark<'_> {
    pub(super) fn text(&self) -> Vec<u8> {
        let said = json!({"project": self.project, "requested_at_us": self.at.as_microsecond(),
            "requested_by": self.by, "reason": self.reason, "statement": "this project is to be deleted"});
        awooop_core::json::canonical(&said).into_bytes()
    }
}

/// What lies in the row.
struct Signed {
    text: Vec<u8>,
    key_id: String,
    mac: Vec<u8>,
}

impl Store {
    /// Was the project marked by a server with this keyring?
    pub(super) async fn check_mark(&self, scope: &ProjectScope) -> Result<(), StoreError> {
        self.judge_mark(scope, &self.signed(scope).await?)
    }

    /// The same, and puts it under the key that is current now.
    pub(super) async fn keep_mark(&self, scope: &ProjectScope) -> Result<(), StoreError> {
        let signed = self.signed(scope).await?;
        self.judge_mark(scope, &signed)?;
        if signed.key_id != self.inner.keyring.current_id(KeyName::KeyPepper) {
            let mut tx = self.begin(scope).await?;
            self.sign_again(&mut tx, scope, &signed).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Signs a mark that cannot be believed, by a platform admin's word, which the operators' audit then holds.
    pub(super) async fn confirm_mark(
        &self,
        by: &Caller,
        project: &ProjectId,
        reason: &str,
    ) -> Result<(), StoreError> {
        let is_open = |state| state != DeletionState::Deleted;
        if !self.find_deletion(project).await?.is_some_and(|found| is_open(found.state)) {
            return Ok(());
        }
        let scope = ProjectScope::of_deleted(project.clone(), by.scope().actor());
        let signed = self.signed(&scope).await?;
        if self.judge_mark(&scope, &signed).is_ok() {
            return Ok(());
        }
        let platform = ProjectScope::new(ProjectId::platform(), by.scope().actor());
        let reason = self.clean_reason(&platform, reason).await?;
        let mut tx = self.begin(&scope).await?;
        if !self.sign_again(&mut tx, &scope, &signed).await? {
            return tx.rollback().await;
        }
        tx.go_on_in(&platform).await?;
        let said = json!({"reason": reason, "is_confirmed": true});
        let note = Note::new("project.delete", format!("project/{project}"), said);
        audit::insert(&mut tx, &platform, &[self.audit(&platform, note)]).await?;
        tx.commit().await?;
        self.inner.deletion_asked.notify_one();
        Ok(())
    }

    async fn signed(&self, scope: &ProjectScope) -> Result<Signed, StoreError> {
        let sql = "SELECT requested_at, requested_by, reason, key_id, mac FROM project_deletion WHERE project_id = $1";
        let rows = self.once(scope, sql, &[&scope.project().as_str()]).await?;
        let row = rows.first().ok_or_else(|| StoreError::Corrupt("no such deletion".into()))?;
        let mark = Mark { project: scope.project(), at: row.get(0), by: row.get(1), reason: row.get(2) };
        Ok(Signed { text: mark.text(), key_id: row.get(3), mac: row.get(4) })
    }

    fn judge_mark(&self, scope: &ProjectScope, signed: &Signed) -> Result<(), StoreError> {
        let judged = self.inner.keyring.verify(KeyName::KeyPepper, &signed.key_id, &signed.text, &signed.mac);
        let what = || format!("the deletion of project {}", scope.project());
        judged.map_err(|problem: SignatureProblem| StoreError::Untrusted { what: what(), problem })
    }

    /// False when somebody else was quicker, or the deletion is done.
    async fn sign_again(
        &self,
        tx: &mut ProjectTx,
        scope: &ProjectScope,
        was: &Signed,
    ) -> Result<bool, StoreError> {
        let (key_id, mac) = self.inner.keyring.sign(KeyName::KeyPepper, &was.text);
        let sql = "UPDATE project_deletion SET key_id = $2, mac = $3
            WHERE project_id = $1 AND key_id = $4 AND mac = $5 AND state <> 'deleted' RETURNING 1";
        let project = scope.project().as_str();
        Ok(!tx.rows(sql, &[&project, &key_id, &mac, &was.key_id, &was.mac]).await?.is_empty())
    }
}
