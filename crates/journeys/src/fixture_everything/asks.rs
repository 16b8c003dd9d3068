//! Questions back to the client, the same in both revisions: a tool or a prompt asks in rounds, and what
//! was answered so far travels in a signed state where the revision has no connection to keep it in.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Map, Value, json};

use super::catalog::filled;
use super::{Fault, Step};

/// Signs the states of one fixture.
pub(super) struct Signer(hmac::Key);

impl Signer {
    pub(super) fn new() -> Signer {
        let secret: [u8; 32] = rand::random();
        Signer(hmac::Key::new(hmac::HMAC_SHA256, &secret))
    }

    fn sign(&self, state: &Value) -> String {
        let text = URL_SAFE_NO_PAD.encode(state.to_string());
        let tag = hmac::sign(&self.0, text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    fn open(&self, signed: &str) -> Option<Value> {
        let (text, tag) = signed.split_once('.')?;
        hmac::verify(&self.0, text.as_bytes(), &URL_SAFE_NO_PAD.decode(tag).ok()?).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }
}

/// One request that may have to ask: what it is for, how its catalog entry says it asks, what came.
pub(super) struct Asking<'a> {
    pub(super) name: &'a str,
    pub(super) spec: &'a Value,
    pub(super) params: &'a Value,
    pub(super) capabilities: &'a Value,
    pub(super) signer: &'a Signer,
}

/// Everything was answered (in the order of the questions), or more is to be asked.
pub(super) enum Asked {
    Answers(Vec<(String, Value)>),
    More(Step),
}

impl Asking<'_> {
    /// Looks at what was answered. Fails with -32602 for a state that is not ours or answers that are no
    /// object, with -32021 when the client cannot answer what must be asked.
    pub(super) fn look(&self) -> Result<Asked, Fault> {
        let rounds: &[Value] = self.spec["asks"].as_array().map_or(&[], Vec::as_slice);
        let is_signed = self.spec["signs"] == true;
        let (round, mut answers) = self.state(is_signed)?;
        let questions = self.questions(rounds.get(round).unwrap_or(&Value::Null))?;
        let given = match &self.params["inputResponses"] {
            Value::Object(given) => given.clone(),
            Value::Null if self.params.get("inputResponses").is_none() => Map::new(),
            _ => return Err(Fault::invalid("inputResponses is no object")),
        };
        let may_answer = !is_signed || self.params.get("requestState").is_some();
        let is_answered = |(key, question): (&String, &Value)| answers_it(question, &given[key.as_str()]);
        let all_given = questions.keys().all(|key| given.contains_key(key));
        if !may_answer || !all_given || !questions.iter().all(is_answered) {
            return Ok(Asked::More(self.ask(round, questions, &answers, is_signed)));
        }
        answers.extend(questions.keys().map(|key| (key.clone(), given[key].clone())));
        if round + 1 < rounds.len() {
            let next = self.questions(&rounds[round + 1])?;
            return Ok(Asked::More(self.ask(round + 1, next, &answers, is_signed)));
        }
        Ok(Asked::Answers(answers.into_iter().collect()))
    }

    /// The round that the state says was asked last, and the answers of the rounds before it.
    fn state(&self, is_signed: bool) -> Result<(usize, Map<String, Value>), Fault> {
        let Some(state) = self.params["requestState"].as_str().filter(|_| is_signed) else {
            return Ok((0, Map::new()));
        };
        let opened = self.signer.open(state).filter(|state| state["for"] == self.name);
        let opened = opened.ok_or_else(|| Fault::invalid("the requestState is not one that was given"))?;
        let round = opened["round"].as_u64().and_then(|round| usize::try_from(round).ok());
        Ok((round.unwrap_or_default(), opened["answers"].as_object().cloned().unwrap_or_default()))
    }

    /// What a round asks of this client.
    fn questions(&self, round: &Value) -> Result<Map<String, Value>, Fault> {
        let none = Map::new();
        let arguments = self.params["arguments"].as_object().unwrap_or(&none);
        let mut questions = filled(round, arguments).as_object().cloned().unwrap_or_default();
        let can = |question: &Value| self.capabilities.get(capability(question)).is_some();
        if self.spec["adapts"] == true {
            questions.retain(|_, question| can(question));
        }
        match questions.values().find(|question| !can(question)) {
            Some(question) => Err(Fault::needs(capability(question))),
            None => Ok(questions),
        }
    }

    fn ask(
        &self,
        round: usize,
        questions: Map<String, Value>,
        answers: &Map<String, Value>,
        is_signed: bool,
    ) -> Step {
        let state =
            json!({"for": self.name, "round": round, "answers": answers, "once": rand::random::<u64>()});
        Step::Ask { questions, state: is_signed.then(|| self.signer.sign(&state)) }
    }
}

/// The client's capability that a question needs.
fn capability(question: &Value) -> &'static str {
    match question["method"].as_str().unwrap_or_default() {
        "elicitation/create" => "elicitation",
        "sampling/createMessage" => "sampling",
        _ => "roots",
    }
}

/// Has an answer the form that its question asks for?
fn answers_it(question: &Value, answer: &Value) -> bool {
    match capability(question) {
        "elicitation" => answer["action"].is_string(),
        "sampling" => answer["content"].is_object(),
        _ => answer["roots"].is_array(),
    }
}

/// The answers in words, a line each.
pub(super) fn told(answers: &[(String, Value)]) -> String {
    let line = |(key, answer): &(String, Value)| match answer {
        answer if answer["action"].is_string() => {
            format!(
                "{key}: action={}, content={}",
                answer["action"].as_str().unwrap_or_default(),
                answer["content"]
            )
        }
        answer if answer["content"].is_object() => {
            format!("{key}: LLM response: {}", answer["content"]["text"].as_str().unwrap_or_default())
        }
        answer => format!("{key}: {} root(s)", answer["roots"].as_array().map_or(0, Vec::len)),
    };
    answers.iter().map(line).collect::<Vec<_>>().join("\n")
}
