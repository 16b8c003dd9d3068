//! Heartbeats: one unlogged row per worker, never per run. Each beat also measures how far this machine's
//! clock is from the database's, and disciplines ours by it.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::claim::Worker;
use crate::error::StoreError;
use crate::pool::Store;

/// An acknowledged beat.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    /// When it was SENT: a worker fences itself by this, not by when the answer came.
    pub sent_at: Instant,
    /// How far the database's time may still be from ours: half the round trip.
    pub uncertainty: Duration,
}

impl Store {
    /// Sends a beat and disciplines the clock.
    pub async fn beat(&self, me: &Worker) -> Result<Beat, StoreError> {
        let sent_at = Instant::now();
        let before = self.inner.clock.now();
        let rows = self
            .system(
                "INSERT INTO worker_beat AS b (worker_id, incarnation, first_at, beat_at) VALUES ($1, $2, $3, $3)
                 ON CONFLICT (worker_id) DO UPDATE SET incarnation = $2, beat_at = $3,
                   first_at = CASE WHEN b.incarnation = $2 THEN b.first_at ELSE $3 END
                 RETURNING clock_timestamp()",
                &[&me.id, &me.incarnation, &before],
            )
            .await?;
        let took = sent_at.elapsed();
        if let Some(row) = rows.first() {
            let theirs: Timestamp = row.get(0);
            let half = SignedDuration::try_from(took / 2).unwrap_or(SignedDuration::ZERO);
            let offset = theirs.duration_since(before) - half;
            if offset.abs() > SignedDuration::from_millis(5) {
                self.inner.clock.discipline(offset);
            }
        }
        Ok(Beat { sent_at, uncertainty: took / 2 })
    }

    /// Takes this worker's beat away at the end of a clean stop.
    pub async fn end_beat(&self, me: &Worker) -> Result<(), StoreError> {
        self.system(
            "DELETE FROM worker_beat WHERE worker_id = $1 AND incarnation = $2",
            &[&me.id, &me.incarnation],
        )
        .await?;
        Ok(())
    }
}
