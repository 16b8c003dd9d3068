//! Models: a provider is asked only with a budget hold in hand, and only what passed the project's rules of what may
//! go to a model. There is no other way to a client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use awooop_core::contract::{LlmSpec, ProviderSpec};
use awooop_core::halt::Work;
use awooop_core::{ErrorCode, ProjectId, ProviderId};
use awooop_redact::{Clean, CleanJson};
use awooop_store::StoreError;
use awooop_store::budget::Hold;
use awooop_store::claim::ClaimedRun;
use awooop_store::redaction::{Blocked, Direction};

use crate::gateway::Gateway;
use crate::http_client::http_client_pinned;
use crate::model::offline::OfflineModel;
use crate::model::openai::OpenAiClient;
use crate::model::{Message, ModelError, ModelReply, ModelRequest, ToolCall};
use crate::upstream::address::pin;

const CLIENT_KEPT: Duration = Duration::from_secs(60);

/// A request as it may go to the project's models. Only [`Gateway::pass`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct PassedRequest(ModelRequest);

impl PassedRequest {
    /// What is asked.
    pub fn request(&self) -> &ModelRequest {
        &self.0
    }
}

/// Why a request does not go to a model.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// A message holds what may not go there.
    #[error("a message to the model is stopped: {0}")]
    Blocked(#[from] Blocked),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a model gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CompleteError {
    /// The agent's provider or model is not there any more, or may not be reached.
    #[error("the model provider cannot be used: {0}")]
    NotAvailable(String),
    /// The provider failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The agent allows one step less time than the call took.
    #[error("the model took longer than the {after_ms} ms that the agent allows one step")]
    StepTimeout {
        /// The agent's limit.
        after_ms: u64,
    },
    /// The run's project, agent or provider is stopped: the run is to wait.
    #[error("the call was stopped")]
    Stopped {
        /// May the request have reached the provider?
        has_begun: bool,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CompleteError {
    /// The code of a run that ends by it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotAvailable(_) | Self::StepTimeout { .. } => ErrorCode::Run013,
            Self::Model(e) => e.code(),
            Self::Stopped { .. } => ErrorCode::Stop001,
            Self::Store(e) => e.code(),
        }
    }

    /// May the same request succeed later without a change, and was nothing billed for this one that anybody knows
    /// of? An answer that was cut off or came too late may be on the bill: it is not asked for again, but where the
    /// agent itself limits its steps, which is to say that another try is worth its price.
    pub fn may_pass(&self) -> bool {
        use ModelError as E;
        matches!(
            self,
            Self::Model(E::RateLimited { .. } | E::Server { .. } | E::Connect) | Self::StepTimeout { .. }
        )
    }

    /// How long the provider asked to wait.
    pub fn asked_to_wait(&self) -> Option<Duration> {
        match self {
            Self::Model(ModelError::RateLimited { retry_after_ms }) => {
                retry_after_ms.map(Duration::from_millis)
            }
            _ => None,
        }
    }

    /// Can the provider not have billed anything?
    pub fn is_unbilled(&self) -> bool {
        match self {
            Self::NotAvailable(_) | Self::Store(_) => true,
            Self::StepTimeout { .. } => false,
            Self::Stopped { has_begun } => !has_begun,
            Self::Model(
                ModelError::RateLimited { .. } | ModelError::Connect | ModelError::Unauthorized { .. },
            ) => true,
            Self::Model(ModelError::Rejected { .. }) => true,
            Self::Model(
                ModelError::Server { .. }
                | ModelError::Interrupted
                | ModelError::Timeout { .. }
                | ModelError::Malformed { .. }
                | ModelError::TooLarge { .. },
            ) => false,
        }
    }
}

impl Gateway {
    /// The request as the project's contracts let it go to a model, as they are now: credentials are masked, personal
    /// data and matches of the project's patterns are what `to_model` says.
    pub async fn pass(&self, run: &ClaimedRun, request: ModelRequest) -> Result<PassedRequest, PassError> {
        let redactors = self.inner.store.redactors(run.scope()).await?;
        let way = &redactors.to_model;
        let messages = request.messages.into_iter().map(|message| passed(way, message));
        // definitions passed when they were listed
        Ok(PassedRequest(ModelRequest { messages: messages.collect::<Result<_, _>>()?, ..request }))
    }

    /// Asks the run's model: the only way to one.
    ///
    /// ```compile_fail,E0603
    /// use awooop_gateway::model::openai::OpenAiClient;
    /// ```
    ///
    /// A hold comes from the budget alone, and a request from [`Gateway::pass`]:
    ///
    /// ```compile_fail,E0423
    /// fn made_up(request: awooop_gateway::model::ModelRequest) -> awooop_gateway::PassedRequest {
    ///     awooop_gateway::PassedRequest(request)
    /// }
    /// ```
    ///
    /// It does so unless a stop covers the call or comes to. The hold proves that the budget has room for the
    /// answer; the caller settles it. `begins` is told when the call begins: until then nothing was sent.
    pub async fn complete(
        &self,
        run: &ClaimedRun,
        hold: &Hold,
        request: &PassedRequest,
        begins: impl FnOnce(),
    ) -> Result<ModelReply, CompleteError> {
        debug_assert!(hold.amount() > 0);
        let request = request.request();
        let agent = run.agent.as_ref().map_err(|problem| CompleteError::NotAvailable(problem.to_string()))?;
        let Some((provider, model)) = agent.provider_and_model() else {
            return Err(CompleteError::NotAvailable("the agent names no provider".into()));
        };
        let mut ear = self.inner.stops.listen();
        let facts = self.inner.store.model_facts(run.scope(), &run.agent_id, &provider).await?;
        if facts.halt.is_some() {
            return Err(CompleteError::Stopped { has_begun: false });
        }
        let project = run.scope().project();
        let work = Work { project, agent: &run.agent_id, provider: Some(&provider), tool: None };
        let asked = self.ask(project, facts.provider, &provider, model, request);
        let limit = agent.step_timeout();
        let timed = async {
            begins();
            match limit {
                Some(limit) => tokio::time::timeout(limit, asked).await.ok(),
                None => Some(asked.await),
            }
        };
        match ear.unless(work, timed).await {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                Err(CompleteError::StepTimeout { after_ms: agent.step_timeout_ms.unwrap_or_default() })
            }
            Err(cut) => Err(CompleteError::Stopped { has_begun: cut.has_begun }),
        }
    }

    async fn ask(
        &self,
        project: &ProjectId,
        spec: Option<ProviderSpec>,
        provider: &ProviderId,
        model: &str,
        request: &ModelRequest,
    ) -> Result<ModelReply, CompleteError> {
        match spec {
            Some(ProviderSpec::Llm(LlmSpec::Offline { models })) => {
                let listed = models.into_iter().find(|m| m.name == model);
                let Some(listed) = listed else { return Err(no_model(provider, model)) };
                Ok(OfflineModel { delay_ms: listed.delay_ms }.complete(request).await)
            }
            Some(ProviderSpec::Llm(LlmSpec::Openai { models, .. }))
                if !models.iter().any(|m| m.name == model) =>
            {
                Err(no_model(provider, model))
            }
            Some(ProviderSpec::Llm(spec)) => Ok(self.openai(project, &spec).await?.complete(request).await?),
            _ => Err(CompleteError::NotAvailable(format!("there is no model provider `{provider}`"))),
        }
    }

    /// The client of a server, made anew after a minute: a rotated credential and a changed address count.
    async fn openai(&self, project: &ProjectId, spec: &LlmSpec) -> Result<Arc<OpenAiClient>, CompleteError> {
        let LlmSpec::Openai { base_url, credential, timeout_ms, .. } = spec else {
            return Err(CompleteError::NotAvailable("the planner has no server".into()));
        };
        let key = (project.clone(), awooop_core::json::to_value(spec).to_string());
        {
            let mut clients = self.inner.models.lock().await;
            clients.retain(|_, (made, _)| made.elapsed() < CLIENT_KEPT);
            if let Some((_, client)) = clients.get(&key) {
                return Ok(client.clone());
            }
        }
        // not under the lock: a name that resolves slowly keeps no other project waiting
        let unavailable = |why: String| CompleteError::NotAvailable(why);
        let allowed = self.inner.operator.private_addresses(project);
        let pinned =
            pin(base_url, &allowed).await.map_err(|_| unavailable("its name does not resolve".into()))?;
        let pinned = pinned.map_err(|e| unavailable(e.to_string()))?;
        let http = http_client_pinned(Some(&pinned)).map_err(|e| unavailable(e.to_string()))?;
        let api_key = match credential {
            None => None,
            Some(reference) => {
                let resolved = self.inner.credentials.resolve(project, reference).await;
                Some(resolved.map_err(|e| unavailable(e.to_string()))?)
            }
        };
        let client = OpenAiClient::new(base_url.clone(), api_key, http)?;
        let client = Arc::new(client.with_total_timeout(Duration::from_millis(*timeout_ms)));
        self.inner.models.lock().await.insert(key, (Instant::now(), client.clone()));
        Ok(client)
    }
}

/// A message with everything in it that is text for the model as it may go there.
fn passed(way: &Direction, message: Message) -> Result<Message, Blocked> {
    let text = |text: String| way.text(&text).map(Clean::into_inner);
    let call =
        |call: ToolCall| Ok(ToolCall { name: text(call.name)?, arguments: text(call.arguments)?, ..call });
    Ok(match message {
        Message::System(content) => Message::System(text(content)?),
        Message::User(content) => Message::User(text(content)?),
        Message::Assistant { content, tool_calls } => Message::Assistant {
            content: content.map(text).transpose()?,
            tool_calls: tool_calls.into_iter().map(call).collect::<Result<_, _>>()?,
        },
        Message::Tool { call_id, name, text: result, structured, is_error } => Message::Tool {
            name: text(name)?,
            text: text(result)?,
            structured: structured.map(|v| way.json(v).map(CleanJson::into_inner)).transpose()?,
            call_id,
            is_error,
        },
    })
}

fn no_model(provider: &ProviderId, model: &str) -> CompleteError {
    CompleteError::NotAvailable(format!("`{provider}` lists no model `{model}`"))
}
