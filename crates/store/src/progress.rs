//! What runs write while they are worked on, many in one transaction: holds, finished steps with their settlements and
//! calls, ends. Those of one project that come up while a commit is under way share the next ([`Lanes`]). The budget's
//! row is locked until its transaction is on disk, so this is also what lets a project have more than one run per two
//! commits.
//!
//! The flight keeps the lock order: budget, leases, then plain reads of the runs, whose takers must lock their lease
//! first. Each item is told its own result. One that runs alone goes the ways of `journal` and `budget`, and so does
//! each item of a batch that failed, and each hold for which a batch found no room: refusals and their words are made
//! there only. After a lost connection nothing is known of any item, and all are told so.

mod columns;

use std::collections::HashSet;

use awooop_core::{ProjectId, RunId};
use futures::future::join_all;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::budget::{self, Ask, Hold, ReserveError, Settlement};
use crate::claim::Ticket;
use crate::error::StoreError;
use crate::journal::{End, JournalRow, RecordError};
use crate::lane::Lanes;
use crate::pool::Store;
use crate::scope::{self, ProjectScope};
use crate::tx::Params;
use columns::{Batch, END, JOURNAL, LOCK_LEASES, RESERVE, SETTLE};

/// Most items of one transaction.
const MOST: usize = 256;
/// Items of a batch that failed that are tried again at a time.
const ALONE_AT_A_TIME: usize = 8;

/// The lanes of progress, one a project.
pub(crate) type Progress = Lanes<ProjectId, Write, Answer>;

/// Lanes with nothing in them.
pub(crate) fn lanes() -> Progress {
    Lanes::new("progress", MOST)
}

/// Something a claim writes.
#[derive(Debug)]
pub(crate) enum Write {
    /// A finished step, with what its model call is charged.
    Step(Ticket, Box<JournalRow>, Option<Settlement>),
    /// The end of the run.
    End(Ticket, Box<End>),
    /// A hold.
    Hold(Ask),
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Wrote {
    /// Of a step or an end.
    Recorded(Result<(), RecordError>),
    /// Of a hold.
    Held(Result<Hold, ReserveError>),
}

/// What came of an item, on its way to whoever asked. A hold that nobody takes is released: no call can be made with it.
pub(crate) struct Answer {
    wrote: Option<Wrote>,
    of: Option<(Store, ProjectScope)>,
}

impl Answer {
    fn new(store: &Store, scope: &ProjectScope, wrote: Wrote) -> Self {
        let of = matches!(wrote, Wrote::Held(Ok(_))).then(|| (store.clone(), scope.clone()));
        Self { wrote: Some(wrote), of }
    }

    fn take(mut self) -> Wrote {
        self.wrote.take().expect("it is taken once")
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let (Some(Wrote::Held(Ok(hold))), Some((store, scope))) = (self.wrote.take(), self.of.take()) else {
            return;
        };
        // without a runtime the process ends, and the reaper finds the hold
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let of = scope.clone();
        scope::spawn(&of, "release", async move {
            if let Err(error) = store.settle(&scope, &hold.settle(0, false)).await {
                tracing::warn!(%error, "a hold without a call could not be released; the reaper charges it");
            }
        });
    }
}

impl Write {
    fn ticket(&self) -> &Ticket {
        match self {
            Write::Step(run, ..) | Write::End(run, _) => run,
            Write::Hold(ask) => &ask.run,
        }
    }

    /// What it writes once: an end has the place 0, a step its ordinal.
    fn places(&self) -> Vec<(RunId, i32)> {
        match self {
            Write::Step(run, row, _) => vec![(run.run_id, row.step.n)],
            Write::End(run, end) => {
                let steps = end.step.iter().map(|row| (run.run_id, row.step.n));
                std::iter::once((run.run_id, 0)).chain(steps).collect()
            }
            Write::Hold(_) => Vec::new(),
        }
    }

    fn failed(&self, error: StoreError) -> Wrote {
        match self {
            Write::Step(..) | Write::End(..) => Wrote::Recorded(Err(error.into())),
            Write::Hold(_) => Wrote::Held(Err(error.into())),
        }
    }
}

impl Store {
    /// Writes a step or an end.
    pub(crate) async fn write(&self, scope: &ProjectScope, write: Write) -> Result<(), RecordError> {
        match self.next_batch(scope, write).await? {
            Wrote::Recorded(result) => result,
            Wrote::Held(_) => Err(StoreError::Corrupt("a hold answered for a step".into()).into()),
        }
    }

    /// Holds what is asked for.
    pub(crate) async fn hold(&self, scope: &ProjectScope, ask: Ask) -> Result<Hold, ReserveError> {
        match self.next_batch(scope, Write::Hold(ask)).await? {
            Wrote::Held(result) => result,
            Wrote::Recorded(_) => Err(StoreError::Corrupt("a step answered for a hold".into()).into()),
        }
    }

    async fn next_batch(&self, scope: &ProjectScope, write: Write) -> Result<Wrote, StoreError> {
        let (store, of) = (self.clone(), scope.clone());
        let work = move |items: Vec<Write>| {
            let (store, of) = (store.clone(), of.clone());
            async move {
                let wrote = store.write_all(&of, items).await;
                wrote.into_iter().map(|wrote| Answer::new(&store, &of, wrote)).collect()
            }
        };
        let wrote = self.inner.progress.run(scope, scope.project().clone(), write, work).await;
        wrote.map(Answer::take).map_err(|lost| StoreError::Unavailable(Box::new(lost)))
    }

    /// The answers in the order of the items.
    async fn write_all(&self, scope: &ProjectScope, items: Vec<Write>) -> Vec<Wrote> {
        if items.len() == 1 {
            return vec![self.write_alone(&items[0]).await];
        }
        // of two that write the same, the second comes after: one statement could not tell them apart
        let mut taken = HashSet::new();
        let is_first: Vec<bool> =
            items.iter().map(|item| item.places().into_iter().all(|place| taken.insert(place))).collect();
        let firsts = || items.iter().zip(&is_first).filter(|(_, is_first)| **is_first).map(|(item, _)| item);
        let batch = Batch::of(firsts());
        let found = match self.write_together(scope, &batch).await {
            Ok(found) => found,
            Err(error @ StoreError::Unavailable(_)) => {
                return items.iter().map(|item| item.failed(error.again())).collect();
            }
            Err(_) => Found::default(),
        };
        let mut answers = Vec::with_capacity(items.len());
        let places: Vec<(&Write, bool)> = items.iter().zip(is_first).collect();
        for some in places.chunks(ALONE_AT_A_TIME) {
            answers.extend(
                join_all(some.iter().map(|(item, is_first)| self.answer(&found, item, *is_first))).await,
            );
        }
        answers
    }

    async fn answer(&self, found: &Found, item: &Write, is_first: bool) -> Wrote {
        match found.answer(item).filter(|_| is_first) {
            Some(wrote) => wrote,
            None => self.write_alone(item).await,
        }
    }

    async fn write_alone(&self, item: &Write) -> Wrote {
        match item {
            Write::Step(run, row, settlement) => {
                Wrote::Recorded(self.record_alone(run, row, settlement.as_ref()).await)
            }
            Write::End(run, end) => Wrote::Recorded(self.end_alone(run, end).await),
            Write::Hold(ask) => Wrote::Held(self.reserve_alone(ask).await),
        }
    }

    async fn write_together(&self, scope: &ProjectScope, batch: &Batch<'_>) -> Result<Found, StoreError> {
        let project = scope.project().as_str();
        let now = self.inner.clock.now();
        let of_project: Params<'_> = &[&project];
        let leases: Params<'_> = &[&project, &batch.leases];
        let settlements = batch.settlements.params(&project, &now);
        let (steps, ends) = (batch.steps.params(&project), batch.ends.params(&project));
        let holds = batch.holds.params(&project, &now);
        // budget, leases, runs: the lock order
        let mut flight: Vec<(&str, Params<'_>)> = Vec::with_capacity(6);
        let (has_steps, has_ends) = (!batch.steps.runs.is_empty(), !batch.ends.runs.is_empty());
        let (has_holds, has_settlements) = (!batch.holds.ids.is_empty(), !batch.settlements.ids.is_empty());
        if has_settlements || has_holds {
            flight.push((budget::LOCK, of_project));
        }
        flight.push((LOCK_LEASES, leases));
        if has_settlements {
            flight.push((SETTLE, &settlements));
        }
        let first_answer = flight.len();
        flight.extend(has_steps.then_some((JOURNAL, steps.as_slice())));
        flight.extend(has_ends.then_some((END, ends.as_slice())));
        flight.extend(has_holds.then_some((RESERVE, holds.as_slice())));
        let mut answers = self.flight(scope, &flight).await?.into_iter().skip(first_answer);
        let mut answer = |is_there: bool| is_there.then(|| answers.next()).flatten().unwrap_or_default();
        let mut found = Found { is_whole: true, ..Found::default() };
        found.steps = answer(has_steps).iter().map(|row| (row.get(0), row.get(1))).collect();
        found.ends = answer(has_ends).iter().map(|row| row.get(0)).collect();
        found.holds(&answer(has_holds));
        Ok(found)
    }
}

/// What a flight wrote.
#[derive(Debug, Default)]
struct Found {
    is_whole: bool,
    steps: HashSet<(RunId, i32)>,
    ends: HashSet<RunId>,
    held: HashSet<Uuid>,
    no_room: HashSet<Uuid>,
}

impl Found {
    fn holds(&mut self, rows: &[Row]) {
        for row in rows {
            let is_held: bool = row.get(1);
            let of = if is_held { &mut self.held } else { &mut self.no_room };
            of.insert(row.get(0));
        }
    }

    /// What came of an item; `None` when it has to be asked for alone.
    fn answer(&self, item: &Write) -> Option<Wrote> {
        let fenced = |is_there: bool| if is_there { Ok(()) } else { Err(RecordError::Fenced) };
        if !self.is_whole {
            return None;
        }
        Some(match item {
            Write::Step(run, row, _) => {
                Wrote::Recorded(fenced(self.steps.contains(&(run.run_id, row.step.n))))
            }
            Write::End(run, _) => Wrote::Recorded(fenced(self.ends.contains(&run.run_id))),
            Write::Hold(ask) if self.no_room.contains(&ask.hold_id) => return None,
            Write::Hold(ask) if self.held.contains(&ask.hold_id) => Wrote::Held(Ok(ask.held())),
            Write::Hold(_) => Wrote::Held(Err(ReserveError::Fenced)),
        })
    }
}
