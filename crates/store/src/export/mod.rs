//! A project's export: every row that means something to its owner, as lines, all of one moment. One transaction reads
//! from one snapshot through cursors, a few rows at a time, so that its length costs no memory on either side.
//!
//! A line is `{"kind":"…","row":…}`, in this order and without spaces, so that a row's own bytes can be cut out: an audit
//! event's are what its leaf is made of. The first line says what is exported, the last how much it was; an export without
//! its last line is not whole.
//!
//! A transaction that lasts keeps tables from being vacuumed, so there is one export of a project at a time, over all nodes,
//! and few on one. It ends when it is dropped, or when nobody reads of it for half a minute, by PostgreSQL's own limit.

mod kinds;

pub use kinds::{KINDS, Kind, LEFT_OUT};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use self::kinds::Form;
use crate::audit::{self, Note};
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;
use crate::tx::ProjectTx;

/// Exports of one node at a time.
pub(crate) const MOST_EXPORTS: usize = 4;

/// Why no export began.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// One of this project is under way somewhere, or this node makes as many as it makes at a time.
    #[error("{0}")]
    TooMany(&'static str),
    /// The project has no contract yet, and so nothing to export.
    #[error("there is no such project")]
    Absent,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An export that is under way.
pub struct Export {
    tx: Option<ProjectTx>,
    project: String,
    place: Place,
    rows: Vec<(&'static str, u64)>,
    _room: OwnedSemaphorePermit,
}

/// What comes next.
#[derive(Clone, Copy)]
enum Place {
    Begin {
        at: Timestamp,
        schema: i64,
    },
    /// The rows of this kind; is its cursor open?
    Kind(usize, bool),
    End,
    Done,
}

impl Store {
    /// Begins an export of the scope's project, and records that somebody did. The record comes after the moment that the
    /// export shows, and only when there is one.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub async fn export_project(&self, scope: &ProjectScope) -> Result<Export, ExportError> {
        let room = std::sync::Arc::clone(&self.inner.exports).try_acquire_owned();
        let room = room
            .map_err(|_| ExportError::TooMany("this server makes as many exports as it makes at a time"))?;
        let project = scope.project().as_str();
        let mut first = self.begin(scope).await?;
        if first.rows("SELECT FROM project WHERE project_id = $1", &[&project]).await?.is_empty() {
            first.rollback().await?;
            return Err(ExportError::Absent);
        }
        let event = self.audit(scope, Note::new("project.export", format!("project/{project}"), json!({})));
        let at = event.at;
        audit::insert(&mut first, scope, &[event]).await?;
        let mut tx = self.begin_snapshot(scope).await?;
        let found = tx.rows(BEGIN, &[&project]).await?;
        let row = found.first().ok_or_else(|| StoreError::Corrupt("no schema version".into()))?;
        if !row.get::<_, bool>(0) {
            tx.rollback().await?;
            first.rollback().await?;
            return Err(ExportError::TooMany("an export of this project is under way"));
        }
        first.commit().await?;
        let place = Place::Begin { at, schema: row.get(1) };
        Ok(Export { tx: Some(tx), project: project.to_owned(), place, rows: Vec::new(), _room: room })
    }
}

impl Export {
    /// Some more lines; `None` at the end.
    ///
    /// # Errors
    /// The database's; then this export is at its end and not whole.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        loop {
            let lines = match self.place {
                Place::Begin { at, schema } => {
                    self.place = Place::Kind(0, false);
                    let begin = json!({"format": FORMAT, "project_id": self.project, "at": at,
                        "server_version": env!("CARGO_PKG_VERSION"), "schema_version": schema});
                    line("begin", begin.to_string().as_bytes())
                }
                Place::Kind(n, is_open) => self.some(n, is_open).await?,
                Place::End => {
                    self.place = Place::Done;
                    if let Some(tx) = self.tx.take() {
                        tx.rollback().await?;
                    }
                    let rows: serde_json::Map<String, Value> =
                        self.rows.iter().map(|(kind, n)| ((*kind).to_owned(), json!(n))).collect();
                    line("end", json!({"rows": rows}).to_string().as_bytes())
                }
                Place::Done => return Ok(None),
            };
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
        }
    }

    /// Some rows of a kind, or none at its end.
    async fn some(&mut self, n: usize, is_open: bool) -> Result<Vec<u8>, StoreError> {
        let Some(kind) = KINDS.get(n) else {
            self.place = Place::End;
            return Ok(Vec::new());
        };
        let tx =
            self.tx.as_mut().ok_or_else(|| StoreError::Corrupt("an export that is at its end".into()))?;
        if !is_open {
            tx.batch(&format!("DECLARE rows NO SCROLL CURSOR FOR {}", kind.select(&self.project))).await?;
            self.rows.push((kind.name, 0));
            self.place = Place::Kind(n, true);
        }
        let rows = tx.rows_once(&format!("FETCH {} FROM rows", kind.rows_at_once)).await?;
        if rows.is_empty() {
            tx.batch("CLOSE rows").await?;
            self.place = Place::Kind(n + 1, false);
        }
        if let Some((_, count)) = self.rows.last_mut() {
            *count += rows.len() as u64;
        }
        let mut lines = Vec::with_capacity(rows.iter().map(|row| 64 + row.raw_size_bytes()).sum());
        for row in &rows {
            match kind.form {
                Form::Json => add_line(&mut lines, kind.name, row.get::<_, &str>(0).as_bytes()),
                Form::Event => add_line(&mut lines, kind.name, &audit::row_line_of_event(row)),
                Form::Seal => add_line(&mut lines, kind.name, audit::row_line_of_seal(row).as_bytes()),
            }
        }
        Ok(lines)
    }
}

/// The name of this form of lines.
const FORMAT: &str = "awooop project export v1";

fn line(kind: &str, row: &[u8]) -> Vec<u8> {
    let mut line = Vec::new();
    add_line(&mut line, kind, row);
    line
}

fn add_line(lines: &mut Vec<u8>, kind: &str, row: &[u8]) {
    for part in [b"{\"kind\":\"", kind.as_bytes(), b"\",\"row\":", row, b"}\n"] {
        lines.extend_from_slice(part);
    }
}

// the lock lasts as long as the transaction, whichever way that ends
const BEGIN: &str = "
SELECT pg_try_advisory_xact_lock(hashtextextended('awooop.export/' || $1, 0)), awooop.schema_version(),
  set_config('timezone', 'UTC', true)";
