//! The gateway itself: what the worker and the HTTP room hold. Cheap to clone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use awooop_core::ProjectId;
use awooop_store::Store;
use tokio::sync::Mutex;

use crate::credential::Credentials;
use crate::issuer::Issuer;
use crate::model::openai::OpenAiClient;
use crate::operator::Operator;
use crate::pins::Looks;
use crate::stops::Stops;
use crate::upstream::{UpstreamConfig, Upstreams};

/// The one way out. Clones share connections.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) inner: Arc<Inner>,
}

/// By project and the provider's spec.
type ModelClients = HashMap<(ProjectId, String), (Instant, Arc<OpenAiClient>)>;

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) operator: Operator,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) upstreams: Upstreams,
    /// Model clients with the time they were made; they are made anew after a minute, so that a rotated
    /// credential and a changed address are followed.
    pub(crate) models: Mutex<ModelClients>,
    pub(crate) stops: Stops,
    pub(crate) looks: Looks,
    pub(crate) issuer: Option<Issuer>,
}

impl Gateway {
    /// A gateway that may reach what `operator` lists.
    pub fn new(store: Store, operator: Operator) -> Self {
        let observer = store.clone();
        let credentials = Arc::new(Credentials::new(operator.clone()));
        let values = Arc::clone(&credentials);
        let config = UpstreamConfig {
            redact: Arc::new(move |project, line| {
                observer.known_redactors(project).observed.redact_line(line).into_owned()
            }),
            known: Arc::new(move |project| values.known(project)),
            ..UpstreamConfig::default()
        };
        let (upstreams, models, stops) = (Upstreams::new(config), Mutex::default(), Stops::default());
        let issuer = Issuer::of(&operator, store.clock().clone());
        let looks = Looks::default();
        Self {
            inner: Arc::new(Inner { store, operator, credentials, upstreams, models, stops, looks, issuer }),
        }
    }

    /// Does the operator allow what the manifest names on the host? Asked before it is applied, and again
    /// at each use.
    pub fn check_manifest(
        &self,
        manifest: &awooop_core::contract::Manifest,
    ) -> Vec<awooop_core::error::Violation> {
        self.inner.operator.check_manifest(manifest)
    }

    /// The issuer that people sign in with, where the operator named one.
    pub fn issuer(&self) -> Option<&Issuer> {
        self.inner.issuer.as_ref()
    }

    /// Closes connections and ends children; calls under way fail.
    pub async fn shutdown(&self) {
        self.inner.upstreams.shutdown().await;
    }
}
