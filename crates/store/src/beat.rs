//! Heartbeats: one unlogged row per worker, never per run. Each beat also measures how far this machine's
//! clock is from the database's, and disciplines ours by it.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::claim::Worker;
use crate::error::StoreError;
use crate::figures::Slots;
use crate::pool::Store;

/// A clock that was off by more than this wrote a beat that misleads.
const WRONG: SignedDuration = SignedDuration::from_secs(1);
/// Nobody minds this much.
const NEGLIGIBLE: SignedDuration = SignedDuration::from_millis(5);

/// How often a clock is set where nothing beats.
const SET_EVERY: Duration = Duration::from_secs(5);

/// An acknowledged beat.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    /// When it was SENT: a worker fences itself by this, not by when the answer came.
    pub sent_at: Instant,
    /// How far the database's time may still be from ours: half the round trip.
    pub uncertainty: Duration,
}

impl Store {
    /// Sends a beat and disciplines the clock. A beat that bore a wrong time is sent again with the right
    /// one: to other nodes its worker would look silent.
    pub async fn beat(&self, me: &Worker) -> Result<Beat, StoreError> {
        let (beat, offset) = self.beat_and_measure(me, false).await?;
        if offset.abs() < WRONG {
            return Ok(beat);
        }
        tracing::warn!(
            offset_ms = offset.as_millis(),
            "this machine's clock was wrong; it follows the database's"
        );
        Ok(self.beat_and_measure(me, true).await?.0)
    }

    /// One beat, and by how much it moved the clock. `is_anew` forgets since when this row lives, which was
    /// told by the wrong clock.
    async fn beat_and_measure(
        &self,
        me: &Worker,
        is_anew: bool,
    ) -> Result<(Beat, SignedDuration), StoreError> {
        let sent_at = Instant::now();
        let before = self.inner.clock.now();
        let Slots { total, used } = self.inner.figures.slots().unwrap_or_default();
        let (slots, used) =
            (i32::try_from(total).unwrap_or(i32::MAX), i32::try_from(used).unwrap_or(i32::MAX));
        let rows = self
            .system(
                "INSERT INTO worker_beat AS b (worker_id, incarnation, first_at, beat_at, slots, slots_used)
                 VALUES ($1, $2, $3, $3, $5, $6)
                 ON CONFLICT (worker_id) DO UPDATE SET incarnation = $2, beat_at = $3, slots = $5, slots_used = $6,
                   first_at = CASE WHEN b.incarnation = $2 AND NOT $4 THEN b.first_at ELSE $3 END
                 RETURNING clock_timestamp()",
                &[&me.id, &me.incarnation, &before, &is_anew, &slots, &used],
            )
            .await?;
        let took = sent_at.elapsed();
        let moved = rows.first().map(|row| self.follow(before, row.get(0), took)).unwrap_or_default();
        Ok((Beat { sent_at, uncertainty: took / 2 }, moved))
    }

    /// Sets the clock by the database's, as every beat does.
    ///
    /// # Errors
    /// The database's; the clock stays as it was.
    pub async fn set_clock(&self) -> Result<(), StoreError> {
        let (sent_at, before) = (Instant::now(), self.inner.clock.now());
        let rows = self.system("SELECT clock_timestamp()", &[]).await?;
        if let Some(row) = rows.first() {
            self.follow(before, row.get(0), sent_at.elapsed());
        }
        Ok(())
    }

    /// Sets it again and again, for as long as this is polled: for a process without a worker, which has no beats.
    pub async fn keep_clock(self) {
        loop {
            tokio::time::sleep(SET_EVERY).await;
            if let Err(error) = self.set_clock().await {
                tracing::debug!(%error, "the database's time could not be asked for");
            }
        }
    }

    /// Moves the clock by what the journey of `took` cannot explain, and says by how much.
    fn follow(&self, before: Timestamp, theirs: Timestamp, took: Duration) -> SignedDuration {
        let moved = correction(before, theirs, took).unwrap_or_default();
        if !moved.is_zero() {
            self.inner.clock.discipline(moved);
        }
        moved
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

/// By how much the clock is to be moved when the database read `theirs` somewhere in the `took` after
/// `before`. Only what the journey's length cannot explain is evidence: a slow answer moves nothing.
fn correction(before: Timestamp, theirs: Timestamp, took: Duration) -> Option<SignedDuration> {
    let half = SignedDuration::try_from(took / 2).ok()?;
    let offset = theirs.duration_since(before) - half;
    (offset.abs() > half.max(NEGLIGIBLE)).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_journey_cannot_explain_moves_the_clock() {
        let before = Timestamp::from_second(1_800_000_000).unwrap();
        let correction = |theirs_ms: i64, took_ms: u64| {
            let theirs = before + SignedDuration::from_millis(theirs_ms);
            correction(before, theirs, Duration::from_millis(took_ms)).map(|d| d.as_millis())
        };
        assert_eq!(correction(1, 2), None);
        // read at the very end or the very beginning of a slow answer
        assert_eq!(correction(10_000, 10_000), None);
        assert_eq!(correction(0, 10_000), None);
        assert_eq!(correction(-3_600_000, 2), Some(-3_600_001));
        assert_eq!(correction(30_000, 10_000), Some(25_000));
    }
}
