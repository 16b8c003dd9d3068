//! Transactions. The transaction type is the wall in the code; row security is the wall in the database.
//!
//! - `ProjectTx`: one project's rows, opened from a `ProjectScope`. Two forms: `Store::flight` sends
//!   BEGIN, `set_project`, the statements and COMMIT in one go; `Store::begin` is for work that must
//!   read before it writes.
//! - `Store::flight_of_each`: several projects' statements in one transaction, each section bound to its project. Only
//!   for statements without a business failure, such as claims; who gets an error repeats each alone.
//! - `SystemTx` (`Store::system`): discovery and heartbeats, no tenant's content.
//!
//! Two traps of pipelining, both handled here or by rule: a pipelined COMMIT answers Ok after a failed
//! statement, so every result is checked; and "0 rows" is no error, so a guard heads ONE statement whose
//! other writes select from it. A transaction that is dropped midway takes its connection out of the
//! pool: the server rolls it back and nobody inherits its settings.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use deadpool_postgres::Object;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;

/// A statement's parameters.
pub(crate) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Text that is not ours as PostgreSQL can hold it: it has no NUL character, and a model or an MCP client may
/// name a tool with one. (JSON text escapes it and needs no help.)
pub(crate) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

const SET_PROJECT: &str = "SELECT awooop.set_project($1)";
const SET_DELETED_PROJECT: &str = "SELECT awooop.set_deleted_project($1)";

/// The statement that binds a transaction to a scope's project.
fn set_project(scope: &ProjectScope) -> &'static str {
    if scope.is_deleted() { SET_DELETED_PROJECT } else { SET_PROJECT }
}

const TRIES: u32 = 3;

/// A connection that leaves the pool when it is dropped inside a transaction.
struct Guarded {
    object: Option<Object>,
    is_open: bool,
}

impl Guarded {
    fn client(&self) -> &Object {
        self.object.as_ref().expect("taken only on drop")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.is_open
            && let Some(object) = self.object.take()
        {
            drop(Object::take(object));
        }
    }
}

/// An open transaction bound to one project.
pub struct ProjectTx {
    connection: Guarded,
}

impl Store {
    /// Opens a transaction in the scope's project, for work that reads before it writes.
    pub(crate) async fn begin(&self, scope: &ProjectScope) -> Result<ProjectTx, StoreError> {
        self.begin_as(scope, "BEGIN").await
    }

    /// The same for reading only, all of it from one snapshot.
    pub(crate) async fn begin_snapshot(&self, scope: &ProjectScope) -> Result<ProjectTx, StoreError> {
        self.begin_as(scope, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    async fn begin_as(&self, scope: &ProjectScope, begin: &str) -> Result<ProjectTx, StoreError> {
        let mut connection = Guarded { object: Some(self.app().await?), is_open: true };
        let opened = {
            let client = connection.client();
            let set = client.prepare_cached(set_project(scope)).await?;
            let project = scope.project().as_str();
            let params: [&(dyn ToSql + Sync); 1] = [&project];
            let (begin, set) = futures::join!(client.batch_execute(begin), client.query(&set, &params));
            begin.and(set.map(drop))
        };
        match opened {
            Ok(()) => Ok(ProjectTx { connection }),
            Err(e) => {
                connection.is_open = connection.client().batch_execute("ROLLBACK").await.is_err();
                Err(e.into())
            }
        }
    }

    /// One whole transaction in one flight. Statements whose guard finds nothing must write nothing.
    /// Deadlocks and serialisation failures are retried, 3 times in all.
    pub(crate) async fn flight(
        &self,
        scope: &ProjectScope,
        statements: &[(&str, Params<'_>)],
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        let mut tries = 1;
        loop {
            match self.fly(scope, statements).await {
                Err(e) if e.is_transient() && tries < TRIES => {
                    let jitter = rand::random_range(1..=10 * tries);
                    tokio::time::sleep(Duration::from_millis(u64::from(jitter))).await;
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    /// A flight of one statement.
    pub(crate) async fn once(
        &self,
        scope: &ProjectScope,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut all = self.flight(scope, &[(sql, params)]).await?;
        Ok(all.pop().unwrap_or_default())
    }

    async fn fly(
        &self,
        scope: &ProjectScope,
        statements: &[(&str, Params<'_>)],
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        let mut all = self.flight_of_each(&[Section { scope, statements }]).await?;
        Ok(all.pop().unwrap_or_default())
    }

    /// One transaction of several projects' sections in one flight, the rows of each statement of each section. A
    /// failure anywhere undoes all of it.
    pub(crate) async fn flight_of_each(
        &self,
        sections: &[Section<'_>],
    ) -> Result<Vec<Vec<Vec<Row>>>, StoreError> {
        let mut connection = Guarded { object: Some(self.app().await?), is_open: true };
        let results = {
            let client = connection.client();
            let mut set = Vec::with_capacity(sections.len());
            let mut prepared = Vec::with_capacity(sections.len());
            for section in sections {
                set.push(client.prepare_cached(set_project(section.scope)).await?);
                for (sql, _) in section.statements {
                    prepared.push(client.prepare_cached(sql).await?);
                }
            }
            let projects: Vec<&str> = sections.iter().map(|s| s.scope.project().as_str()).collect();
            let bind: Vec<[&(dyn ToSql + Sync); 1]> =
                projects.iter().map(|project| -> [&(dyn ToSql + Sync); 1] { [project] }).collect();
            let mut prepared = prepared.iter();
            // join_all polls in order, and the driver sends a request at its first poll
            let mut flight: Vec<Flying<'_>> = Vec::with_capacity(prepared.len() + sections.len() + 2);
            flight.push(Box::pin(async { client.batch_execute("BEGIN").await.map(|()| vec![]) }));
            for ((section, project), set) in sections.iter().zip(&bind).zip(&set) {
                flight.push(Box::pin(client.query(set, project)));
                for ((_, params), statement) in section.statements.iter().zip(prepared.by_ref()) {
                    flight.push(Box::pin(client.query(statement, params)));
                }
            }
            flight.push(Box::pin(async { client.batch_execute("COMMIT").await.map(|()| vec![]) }));
            futures::future::join_all(flight).await
        };
        let failed = results.iter().any(Result::is_err);
        if !failed {
            connection.is_open = false;
        } else if let Some(object) = &connection.object {
            // after a failed statement the pipelined COMMIT has rolled back already
            connection.is_open = object.is_closed() || object.batch_execute("ROLLBACK").await.is_err();
        }
        let rows: Vec<Vec<Row>> = results.into_iter().collect::<Result<_, _>>()?;
        let mut rows = rows.into_iter().skip(1);
        let rows_of =
            |section: &Section<'_>| rows.by_ref().take(section.statements.len() + 1).skip(1).collect();
        Ok(sections.iter().map(rows_of).collect())
    }
}

/// One project's part of a transaction.
pub(crate) struct Section<'a> {
    pub(crate) scope: &'a ProjectScope,
    pub(crate) statements: &'a [(&'a str, Params<'a>)],
}

type Flying<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, tokio_postgres::Error>> + Send + 'a>>;

impl ProjectTx {
    /// Runs a statement and returns its rows.
    pub(crate) async fn rows(&mut self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, StoreError> {
        self.rows_beside(sql, params).await
    }

    /// The same for reading, while another statement of this transaction may be under way.
    pub(crate) async fn rows_beside(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, StoreError> {
        let client = self.connection.client();
        let statement = client.prepare_cached(sql).await?;
        Ok(client.query(&statement, params).await?)
    }

    /// Runs what has neither parameters nor rows.
    pub(crate) async fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        Ok(self.connection.client().batch_execute(sql).await?)
    }

    /// The rows of a statement that no other transaction of the connection runs again, such as one about a cursor.
    pub(crate) async fn rows_once(&mut self, sql: &str) -> Result<Vec<Row>, StoreError> {
        Ok(self.connection.client().query(sql, &[]).await?)
    }

    /// Goes on in another project: what records there what was done here.
    pub(crate) async fn go_on_in(&mut self, scope: &ProjectScope) -> Result<(), StoreError> {
        self.rows(set_project(scope), &[&scope.project().as_str()]).await.map(drop)
    }

    /// Makes everything durable.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        self.connection.client().batch_execute("COMMIT").await?;
        self.connection.is_open = false;
        Ok(())
    }

    /// Undoes everything and gives the connection back.
    pub(crate) async fn rollback(mut self) -> Result<(), StoreError> {
        self.connection.client().batch_execute("ROLLBACK").await?;
        self.connection.is_open = false;
        Ok(())
    }
}

impl Store {
    /// A statement of the dispatcher: discovery and beats, autocommitted, no tenant's content.
    pub(crate) async fn system(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, StoreError> {
        let mut connection = Guarded { object: Some(self.dispatch().await?), is_open: true };
        let client = connection.client();
        let statement = client.prepare_cached(sql).await?;
        let rows = client.query(&statement, params).await;
        // whoever gave up waiting leaves no connection behind that may never answer
        connection.is_open = false;
        Ok(rows?)
    }
}
