//! How a tool's server is reached: the transport of its contract with its credentials in place, as far as the operator
//! allows all of it, and what happens when the server refuses a credential.
//!
//! A refusal (HTTP 401 or 403) lets go of what is kept of the credential, so that the next call resolves it anew. A 401
//! says that the request was not applied (RFC 9110, section 15.5.2): where another credential is there by then, the
//! request is made once more with it; a list also after a 403.

use std::sync::Arc;
use std::time::{Duration, Instant};

use awooop_core::ProjectId;
use awooop_core::contract::{AuthSpec, CredentialRef, HeaderSpec, OauthSpec, TransportSpec, fill_argument};
use awooop_store::tool::Server;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::gateway::Gateway;
use crate::upstream::{
    CallFailure, ToolCallRequest, ToolDefinition, ToolResult, Transport, UpstreamError, UpstreamSpec,
};

/// A header with its value.
type Header = (HeaderName, SecretString);

impl Gateway {
    /// How a server is reached, with its credential, if the operator still allows all of it. The error is for the
    /// caller and names references only.
    pub(crate) async fn upstream_spec(
        &self,
        project: &ProjectId,
        server: &Server,
    ) -> Result<UpstreamSpec, String> {
        let transport = match &server.spec.transport {
            TransportSpec::Stdio { .. } => self.stdio(project, &server.spec.transport).await?,
            TransportSpec::Http { url, auth } => {
                let header = match auth {
                    None => None,
                    Some(AuthSpec::Header(spec)) => Some(self.header(project, spec).await?),
                    Some(AuthSpec::Oauth(auth)) => Some(self.bearer(project, &auth.oauth).await?),
                };
                let allowed_private = self.inner.operator.private_addresses(project);
                Transport::Http { url: url.clone(), header, allowed_private }
            }
        };
        let (project, provider) = (project.clone(), server.provider.clone());
        Ok(UpstreamSpec { project, provider, version: server.version_id, transport })
    }

    async fn stdio(&self, project: &ProjectId, spec: &TransportSpec) -> Result<Transport, String> {
        let TransportSpec::Stdio { command, args, env, credentials } = spec else {
            unreachable!("the caller looked")
        };
        let operator = &self.inner.operator;
        let program = operator
            .command(project, command)
            .ok_or_else(|| format!("the operator lists no command `{command}` for this project"))?;
        if !credentials.is_empty() && !operator.allows_credential_arguments(project) {
            return Err("the operator allows no credentials in arguments for this project".to_owned());
        }
        let mut resolved = Vec::with_capacity(env.len());
        for (name, reference) in env {
            resolved.push((name.clone(), self.resolve(project, reference).await?));
        }
        let mut named = Vec::with_capacity(credentials.len());
        for (name, reference) in credentials {
            named.push((name.as_str(), self.resolve(project, reference).await?));
        }
        let args = args.iter().map(|argument| filled(argument, &named)).collect();
        Ok(Transport::Stdio { program, args, uid: operator.child_uid(project)?, env: resolved })
    }

    async fn resolve(&self, project: &ProjectId, reference: &CredentialRef) -> Result<SecretString, String> {
        self.inner.credentials.resolve(project, reference).await.map_err(|error| error.to_string())
    }

    async fn header(&self, project: &ProjectId, spec: &HeaderSpec) -> Result<Header, String> {
        let value = self.resolve(project, &spec.credential).await?;
        let name = spec.header.parse();
        let name: HeaderName = name.map_err(|_| "the credential's header has no valid name".to_owned())?;
        Ok((name, header_value(&spec.prefix, &value)?))
    }

    async fn bearer(&self, project: &ProjectId, spec: &OauthSpec) -> Result<Header, String> {
        let token = self.inner.credentials.token(project, spec).await.map_err(|error| error.to_string())?;
        Ok((AUTHORIZATION, header_value("Bearer ", &token)?))
    }

    /// What a server offers.
    pub(crate) async fn ask_tools(
        &self,
        server: &Server,
        spec: &UpstreamSpec,
    ) -> Result<Arc<Vec<ToolDefinition>>, UpstreamError> {
        match self.inner.upstreams.list_tools(spec).await {
            Err(refused @ UpstreamError::CredentialRefused(_)) => {
                Box::pin(self.ask_again(server, spec)).await.unwrap_or(Err(refused))
            }
            answer => answer,
        }
    }

    /// The same with another credential; `None` where there is no other.
    async fn ask_again(
        &self,
        server: &Server,
        refused: &UpstreamSpec,
    ) -> Option<Result<Arc<Vec<ToolDefinition>>, UpstreamError>> {
        let renewed = self.renewed(server, refused).await?;
        Some(self.inner.upstreams.list_tools(&renewed).await)
    }

    /// Makes a call, once: what a server refused with a 401 was not made.
    pub(crate) async fn call_tool(
        &self,
        server: &Server,
        spec: &UpstreamSpec,
        call: ToolCallRequest,
    ) -> Result<ToolResult, CallFailure> {
        let began = Instant::now();
        let answer = Box::pin(self.inner.upstreams.call_tool(spec, call.clone())).await;
        let Err(CallFailure { error: UpstreamError::CredentialRefused(status), .. }) = &answer else {
            return answer;
        };
        let again = Box::pin(self.call_again(server, spec, call, began, *status == 401)).await;
        again.unwrap_or(answer)
    }

    /// The same with another credential, within what is left of the call's time; `None` where it is not made again.
    async fn call_again(
        &self,
        server: &Server,
        refused: &UpstreamSpec,
        call: ToolCallRequest,
        began: Instant,
        was_not_made: bool,
    ) -> Option<Result<ToolResult, CallFailure>> {
        let left = || call.timeout.map(|limit| limit.saturating_sub(began.elapsed()));
        let renewed = self.renewed(server, refused);
        let renewed = tokio::time::timeout(left().unwrap_or(Duration::MAX), renewed).await.ok()??;
        if !was_not_made {
            return None;
        }
        let timeout = left();
        Some(self.inner.upstreams.call_tool(&renewed, ToolCallRequest { timeout, ..call }).await)
    }

    /// Lets go of the credentials that a server refused, and says how it is reached with others, where there are others.
    async fn renewed(&self, server: &Server, refused: &UpstreamSpec) -> Option<UpstreamSpec> {
        let (project, credentials) = (&refused.project, &self.inner.credentials);
        let TransportSpec::Http { auth: Some(auth), .. } = &server.spec.transport else { return None };
        let Transport::Http { header: Some((_, value)), .. } = &refused.transport else { return None };
        match auth {
            AuthSpec::Header(spec) => credentials.forget(project, &spec.credential).await,
            AuthSpec::Oauth(auth) => {
                let token = value.expose_secret().trim_start_matches("Bearer ");
                credentials.forget_token(project, &auth.oauth, &SecretString::from(token)).await;
            }
        }
        let renewed = self.upstream_spec(project, server).await.ok()?;
        (!renewed.is_same_connection(refused)).then_some(renewed)
    }
}

/// An argument with the credentials that it names.
fn filled(argument: &str, named: &[(&str, SecretString)]) -> SecretString {
    let value = |name: &str| {
        let found = named.iter().find(|(known, _)| *known == name);
        Ok::<_, std::convert::Infallible>(found.map(|(_, value)| value.expose_secret().to_owned()))
    };
    match fill_argument(argument, value) {
        Ok(filled) => SecretString::from(filled),
        Err(never) => match never {},
    }
}

fn header_value(prefix: &str, value: &SecretString) -> Result<SecretString, String> {
    let text = format!("{prefix}{}", value.expose_secret());
    match HeaderValue::from_str(&text) {
        Ok(_) => Ok(text.into()),
        Err(_) => Err("the credential is no valid header value".to_owned()),
    }
}
