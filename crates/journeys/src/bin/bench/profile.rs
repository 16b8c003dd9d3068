//! Where PostgreSQL's sessions are while a load runs: samples of `pg_stat_activity`.
//!
//! Sampling costs a little itself, so it is off unless asked for. A sample is a session of a server's role
//! that is in a transaction, told apart by what it waits for and the statement it is at.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

const EVERY: Duration = Duration::from_millis(10);

const SQL: &str = "SELECT state, coalesce(wait_event_type || ':' || wait_event, 'on CPU or runnable'),
       regexp_replace(left(query, 400), '\\s+', ' ', 'g')
FROM pg_stat_activity
WHERE usename LIKE 'awooop\\_%' AND pid <> pg_backend_pid() AND state <> 'idle'";

/// Sampling under way.
pub(crate) struct Profile {
    stop: oneshot::Sender<()>,
    task: JoinHandle<(usize, HashMap<String, usize>)>,
}

impl Profile {
    /// Begins to sample.
    #[expect(clippy::disallowed_methods, reason = "a sampler belongs to no project")]
    pub(crate) fn start(client: Client) -> Profile {
        let (stop, stopped) = oneshot::channel();
        Profile { stop, task: tokio::spawn(sample(client, stopped)) }
    }

    /// Ends it. Lines with the average number of sessions at a place, most first.
    pub(crate) async fn lines(self) -> anyhow::Result<Vec<String>> {
        // a sampler that failed has ended by itself
        let _ = self.stop.send(());
        let (samples, counts) = self.task.await?;
        let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let line = |(place, count): (String, usize)| {
            format!("{:6.2} sessions  {place}", count as f64 / samples.max(1) as f64)
        };
        Ok(counts.into_iter().take(14).map(line).collect())
    }
}

async fn sample(client: Client, mut stopped: oneshot::Receiver<()>) -> (usize, HashMap<String, usize>) {
    let (mut samples, mut counts) = (0, HashMap::new());
    let mut due = tokio::time::interval(EVERY);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = &mut stopped => return (samples, counts),
            _ = due.tick() => {}
        }
        let Ok(rows) = client.query(SQL, &[]).await else { return (samples, counts) };
        samples += 1;
        for row in rows {
            let (state, wait, query): (String, String, String) = (row.get(0), row.get(1), row.get(2));
            let head: String = query.chars().take(90).collect();
            *counts.entry(format!("{state:<19} {wait:<28} {head}")).or_insert(0) += 1;
        }
    }
}
