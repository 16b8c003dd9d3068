//! Figures for a monitoring system, in Prometheus' text format: what this process did, and what the rows say of all.
//! Names, units and what each costs are in docs/metrics.md.
//!
//! The address is open as the health checks are, so what it tells everybody names no project. With a key of the
//! platform it tells of projects as well, the fullest fifty by name and the others as one. The rows are looked at once a
//! second at most, however many ask (`fresh`); what this process did is told as it is now.

use std::fmt::Write;
use std::sync::Arc;

use awooop_store::Store;
use awooop_store::activity::{Queued, WorkerBeat};
use awooop_store::figures::{Figures, Histogram};
use awooop_store::vacuum::Holdback;
use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use jiff::Timestamp;

use crate::caller::{identify, not_allowed};
use crate::edge::{Client, Edge};
use crate::problem::Problem;
use crate::state::AppState;

/// Projects with series of their own.
const MOST_NAMED: usize = 50;
/// The project label of all others; no project can have this name.
const OTHERS: &str = "_others";

/// What this process did since it began, and what is queued, leased and waits; with a platform admin's key, by project.
#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics", tag = "server", security(()),
    responses(
        (status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain"),
        (status = 401, description = "E-AUTH-001: a key was given and is not valid"),
        (status = 403, description = "E-AUTH-002: a key was given and is no platform admin's"),
        (status = 503, description = "E-STORE-001: the database does not answer")))]
pub(crate) async fn get_metrics(
    State(state): State<AppState>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let is_by_project = headers.contains_key(header::AUTHORIZATION);
    if is_by_project {
        let access = identify(&headers, &client, &state).await?;
        if !access.caller.is_platform_admin() {
            return Err(not_allowed(&access.caller, "get_metrics"));
        }
        // the same figures by project as in /v1/platform/activity
        if !access.caller.may("get_activity") {
            return Err(not_allowed(&access.caller, "get_activity"));
        }
    }
    let store = state.store.clone();
    let looked = state.looked.get(async move || Looked::at(&store).await.map(Arc::new)).await?;
    let now = state.store.clock().now();
    let mut text = Exposition::default();
    audit(&mut text, &state.store, looked.oldest_unsealed);
    process(&mut text, state.store.figures());
    if let Some(is_away) = state.store.is_redis_away() {
        let help = "1 while this process counts rates by itself because Redis does not answer.";
        text.gauge("awooop_redis_away", help, f64::from(u8::from(is_away)));
    }
    at_the_edge(&mut text, &state.edge);
    rows(&mut text, &looked.queued, looked.queued_estimate, now);
    workers(&mut text, &looked.workers, now);
    vacuum(&mut text, &looked.holdbacks, now);
    if is_by_project {
        by_project(&mut text, looked.queued.clone(), now);
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.0).into_response())
}

/// What the rows say.
#[derive(Debug)]
pub(crate) struct Looked {
    /// In microseconds of the epoch.
    oldest_unsealed: Option<i64>,
    queued: Vec<Queued>,
    queued_estimate: i64,
    workers: Vec<WorkerBeat>,
    holdbacks: Vec<Holdback>,
}

impl Looked {
    async fn at(store: &Store) -> Result<Self, Problem> {
        Ok(Self {
            oldest_unsealed: store.oldest_unsealed().await?,
            queued: store.queued(None).await?,
            queued_estimate: store.queued_estimate().await?,
            workers: store.workers().await?,
            holdbacks: store.holdbacks().await?,
        })
    }
}

fn audit(text: &mut Exposition, store: &Store, oldest: Option<i64>) {
    let counts = store.audit_counts();
    let now = store.clock().now().as_microsecond();
    let age = oldest.map_or(0, |at| now.saturating_sub(at).max(0));
    text.counter("awooop_audit_sealed_events_total", "Audit events that this process sealed.", counts.sealed);
    text.counter(
        "awooop_audit_late_events_total",
        "Of them, events that came after their time.",
        counts.late,
    );
    text.counter("awooop_audit_seals_total", "Passes in which this process made a seal.", counts.seals);
    text.counter(
        "awooop_audit_forged_events_total",
        "Rows that no server with the key wrote.",
        counts.forged,
    );
    text.counter(
        "awooop_audit_cut_chains_total",
        "Chains that lost seals under this process.",
        counts.rewritten,
    );
    text.gauge(
        "awooop_audit_oldest_unsealed_seconds",
        "Age of the oldest event beyond its project's newest seal; 0 when there is none.",
        age as f64 / 1e6,
    );
}

/// What this process did.
fn process(text: &mut Exposition, figures: &Figures) {
    let created = [("api", figures.created.get()), ("schedule", figures.fired.get())];
    text.labelled(
        "awooop_runs_created_total",
        "counter",
        "Runs made, by what triggered them.",
        "trigger",
        &created,
    );
    text.counter(
        "awooop_runs_started_total",
        "Claims of runs; one claimed again counts again.",
        figures.started.get(),
    );
    let ended = [
        ("completed", figures.completed.get()),
        ("failed", figures.failed.get()),
        ("cancelled", figures.cancelled.get()),
        ("timeout", figures.timed_out.get()),
    ];
    text.labelled("awooop_runs_ended_total", "counter", "Runs that ended, by how.", "outcome", &ended);
    text.counter("awooop_runs_retried_total", "Runs put off until their next try.", figures.retried.get());
    text.counter("awooop_runs_reaped_total", "Runs taken back from silent workers.", figures.reaped.get());
    text.counter("awooop_runs_released_total", "Runs given back unharmed.", figures.released.get());
    text.counter("awooop_schedules_fired_total", "Runs that schedules began.", figures.fired.get());
    let late = "Of them, runs that began more than a minute after their time.";
    text.counter("awooop_schedules_late_total", late, figures.fired_late.get());
    let refused = "Times of schedules at which no run could begin.";
    text.counter("awooop_schedules_refused_total", refused, figures.fire_refused.get());
    text.histogram("awooop_claim_seconds", "How long one claim's statement took.", &figures.claim);
    text.histogram("awooop_run_start_seconds", "From a run's creation to its first start.", &figures.start);
    if let Some(slots) = figures.slots() {
        text.gauge("awooop_worker_slots", "Runs this process can hold at the same time.", slots.total as f64);
        text.gauge("awooop_worker_slots_used", "Runs this process holds.", slots.used as f64);
    }
}

/// What the listener holds, refuses and shows.
fn at_the_edge(text: &mut Exposition, edge: &Edge) {
    let (open, most) = edge.connections();
    text.gauge("awooop_http_connections", "Open connections.", open as f64);
    text.gauge("awooop_http_connections_max", "Connections that may be open.", most as f64);
    let help = "Connections and requests that the edge refused, by why.";
    text.labelled("awooop_http_refused_total", "counter", help, "reason", &edge.refused());
    if let Some(tls) = edge.tls() {
        let help = "How long the listener's certificate is still valid; negative when it has ended.";
        text.gauge("awooop_tls_certificate_expires_in_seconds", help, tls.ends_in_seconds());
    }
}

/// What the rows say of all projects together.
fn rows(text: &mut Exposition, queued: &[Queued], estimate: i64, now: Timestamp) {
    let sum = |of: fn(&Queued) -> i64| queued.iter().map(of).sum::<i64>() as f64;
    let oldest = |of: fn(&Queued) -> Option<Timestamp>| age(queued.iter().filter_map(of).min(), now);
    let help = "Runs in the queue, by PostgreSQL's statistics.";
    text.gauge("awooop_queue_runs_estimate", help, estimate as f64);
    let help = "Runs in the queue, counted up to 1000 a project and 100 projects.";
    text.gauge("awooop_queue_runs", help, sum(|q| q.queued));
    let help = "Age of the oldest run in the queue, from its creation.";
    text.gauge("awooop_queue_oldest_seconds", help, oldest(|q| q.oldest_at));
    let help =
        "Projects in which something is queued, leased or waits, or happened within a minute; at most 100.";
    text.gauge("awooop_projects_active", help, queued.len() as f64);
    text.gauge("awooop_leases", "Leases.", sum(|q| q.leases));
    text.gauge("awooop_lease_oldest_seconds", "Age of the oldest lease.", oldest(|q| q.oldest_lease_at));
    text.gauge("awooop_retrying_runs", "Runs that wait for their next try.", sum(|q| q.retrying));
    text.gauge("awooop_waiting_runs", "Runs that wait for a person or a result.", sum(|q| q.waiting));
    text.gauge("awooop_timers_due", "Times that have come and were not seen to yet.", sum(|q| q.timers_due));
}

fn workers(text: &mut Exposition, workers: &[WorkerBeat], now: Timestamp) {
    let oldest = workers.iter().map(|w| w.beat_at).min();
    text.gauge("awooop_workers", "Workers with a heartbeat.", workers.len() as f64);
    text.gauge(
        "awooop_worker_beat_oldest_seconds",
        "Age of the oldest of their last beats.",
        age(oldest, now),
    );
    let sum = |of: fn(&WorkerBeat) -> i32| workers.iter().map(of).map(f64::from).sum();
    text.gauge(
        "awooop_workers_slots",
        "Runs that all workers can hold, as their beats say.",
        sum(|w| w.slots),
    );
    text.gauge("awooop_workers_slots_used", "Runs that they hold.", sum(|w| w.slots_used));
}

fn vacuum(text: &mut Exposition, holdbacks: &[Holdback], now: Timestamp) {
    let oldest = holdbacks.iter().map(|h| h.age_xids).max().unwrap_or(0);
    let help = "Transactions that began after the oldest one which keeps rows from being vacuumed.";
    text.gauge("awooop_vacuum_held_back_transactions", help, f64::from(oldest));
    let longest = holdbacks.iter().filter_map(|h| h.age_s(now)).max().unwrap_or(0);
    let help = "Age of the oldest open transaction whose age this role may see.";
    text.gauge("awooop_vacuum_held_back_seconds", help, longest as f64);
}

/// The fullest projects by name, the others as one.
fn by_project(text: &mut Exposition, mut queued: Vec<Queued>, now: Timestamp) {
    queued.sort_by_key(|q| std::cmp::Reverse(q.queued + q.leases));
    let (named, others) = queued.split_at(queued.len().min(MOST_NAMED));
    let mut series = |name: &str, help: &str, of: &dyn Fn(&Queued) -> f64, fold: fn(f64, f64) -> f64| {
        let mut values: Vec<(&str, f64)> = named.iter().map(|q| (q.project.as_str(), of(q))).collect();
        values.extend(others.iter().map(of).reduce(fold).map(|value| (OTHERS, value)));
        text.labelled(name, "gauge", help, "project", &values);
    };
    let add: fn(f64, f64) -> f64 = |a, b| a + b;
    let help = "Runs in the project's queue; 1000 means that many or more.";
    series("awooop_project_queue_runs", help, &|q| q.queued as f64, add);
    let help = "Age of the oldest run in the project's queue.";
    series("awooop_project_queue_oldest_seconds", help, &|q| age(q.oldest_at, now), f64::max);
    series("awooop_project_leases", "The project's leases.", &|q| q.leases as f64, add);
    series(
        "awooop_project_retrying_runs",
        "Its runs that wait for their next try.",
        &|q| q.retrying as f64,
        add,
    );
    series(
        "awooop_project_waiting_runs",
        "Its runs that wait for a person or a result.",
        &|q| q.waiting as f64,
        add,
    );
}

/// Seconds since then; 0 for never.
fn age(at: Option<Timestamp>, now: Timestamp) -> f64 {
    at.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0))
}

/// Prometheus' text format. A string takes everything, so writing cannot fail.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, "gauge", help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn labelled<V: std::fmt::Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        values: &[(&str, V)],
    ) {
        self.head(name, kind, help);
        for (of, value) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{of}\"}} {value}");
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let (buckets, count, sum) = histogram.read();
        for (bound, below) in buckets {
            let _ = writeln!(self.0, "{name}_bucket{{le=\"{bound}\"}} {below}");
        }
        let _ =
            writeln!(self.0, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
    }
}
