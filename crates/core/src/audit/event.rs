//! An event as it is written down for hashing: one JSON object (RFC 8785) of every column of its row. A line of
//! an export is exactly these bytes, so that whoever checks a leaf hashes the line and parses nothing.
//!
//! The writer's MAC covers the same object without `mac`. It names project, id and key, so that it stands under
//! no other row.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::merkle::{self, Hash};

/// What an event's object says it is.
pub const EVENT_FORMAT: &str = "awooop-audit-event-v1";
/// The action of events that record what retention deleted.
pub const EXPIRE: &str = "audit.expire";

/// An event's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event<'a> {
    /// What happened, such as `run.create`.
    #[serde(borrow)]
    pub action: Cow<'a, str>,
    /// Who did it: `<project>/<principal>`.
    #[serde(borrow)]
    pub actor: Cow<'a, str>,
    /// When, in microseconds since 1970.
    pub at_us: i64,
    /// More about it: canonical JSON as text.
    #[serde(borrow)]
    pub body: Cow<'a, str>,
    /// Its id, a UUID v7.
    pub id: Uuid,
    /// The key of the MAC.
    #[serde(borrow)]
    pub key_id: Cow<'a, str>,
    /// The writer's HMAC-SHA256 over everything else.
    #[serde(with = "hexadecimal", default)]
    pub mac: Vec<u8>,
    /// The project it belongs to.
    #[serde(borrow)]
    pub project: Cow<'a, str>,
    /// The run it is about.
    pub run_id: Option<Uuid>,
    /// What it was done to, such as `run/…`.
    #[serde(borrow)]
    pub subject: Cow<'a, str>,
    /// The W3C trace.
    #[serde(borrow)]
    pub trace_id: Option<Cow<'a, str>>,
    /// [`EVENT_FORMAT`].
    #[serde(borrow, default)]
    pub format: Cow<'a, str>,
}

impl Event<'_> {
    /// The object with everything: what a leaf is made of, and a line of an export.
    pub fn line(&self) -> Vec<u8> {
        self.write(true)
    }

    /// What the writer's MAC is made of.
    pub fn statement(&self) -> Vec<u8> {
        self.write(false)
    }

    /// Its leaf in a seal's tree.
    pub fn leaf(&self) -> Hash {
        merkle::leaf(&self.line())
    }

    /// Members in the order of RFC 8785, by hand: this runs once for every event that is written, sealed or
    /// checked, and a general canonicaliser takes ten times as long.
    fn write(&self, with_mac: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(360 + self.body.len() + self.subject.len() + self.actor.len());
        text(&mut out, b"{\"action\":", &self.action);
        text(&mut out, b",\"actor\":", &self.actor);
        out.extend_from_slice(b",\"at_us\":");
        json(&mut out, &self.at_us);
        text(&mut out, b",\"body\":", &self.body);
        text(&mut out, b",\"format\":", EVENT_FORMAT);
        id(&mut out, b",\"id\":", Some(self.id));
        text(&mut out, b",\"key_id\":", &self.key_id);
        if with_mac {
            text(&mut out, b",\"mac\":", &crate::json::hex(&self.mac));
        }
        text(&mut out, b",\"project\":", &self.project);
        id(&mut out, b",\"run_id\":", self.run_id);
        text(&mut out, b",\"subject\":", &self.subject);
        out.extend_from_slice(b",\"trace_id\":");
        json(&mut out, &self.trace_id);
        out.push(b'}');
        out
    }

    /// The same, owning what it says.
    pub fn into_owned(self) -> Event<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Event {
            action: own(self.action),
            actor: own(self.actor),
            at_us: self.at_us,
            body: own(self.body),
            id: self.id,
            key_id: own(self.key_id),
            mac: self.mac,
            project: own(self.project),
            run_id: self.run_id,
            subject: own(self.subject),
            trace_id: self.trace_id.map(own),
            format: own(self.format),
        }
    }
}

fn text(out: &mut Vec<u8>, name: &[u8], value: &str) {
    out.extend_from_slice(name);
    json(out, &value);
}

fn id(out: &mut Vec<u8>, name: &[u8], value: Option<Uuid>) {
    out.extend_from_slice(name);
    let Some(id) = value else { return out.extend_from_slice(b"null") };
    out.push(b'"');
    out.extend_from_slice(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
    out.push(b'"');
}

/// Texts, whole numbers and null are written by `serde_json` as RFC 8785 has them.
fn json<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("a text or number is JSON, and a vector takes it");
}

/// The time in the first 48 bits of a UUID v7, in microseconds since 1970.
pub fn id_time_us(id: Uuid) -> i64 {
    let ms = id.as_u128() >> 80;
    i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1000)
}

/// The least id that a UUID v7 of this time can have; times before 1970 count as 1970.
pub fn first_id_at(at_us: i64) -> Uuid {
    let ms = u128::try_from(at_us / 1000).unwrap_or(0).min((1 << 48) - 1);
    Uuid::from_u128(ms << 80)
}

/// Bytes as lower-case hexadecimal in JSON.
pub(super) mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&crate::json::hex(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        crate::json::unhex(&text).ok_or_else(|| serde::de::Error::custom("not hexadecimal"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> Event<'static> {
        Event {
            action: "run.create".into(),
            actor: "shop/\u{1}\"\\\u{7f}é\u{10ffff}".into(),
            at_us: 1_800_000_000_123_456,
            body: r#"{"a":"b\n"}"#.into(),
            id: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_00ab),
            key_id: "0a0b0c0d".into(),
            mac: vec![0xab; 32],
            project: "shop".into(),
            run_id: None,
            subject: "run/1\t\u{8}\u{c}\r".into(),
            trace_id: Some("00".into()),
            format: EVENT_FORMAT.into(),
        }
    }

    #[test]
    fn a_line_is_canonical_json_and_reads_back() {
        let event = event();
        let line = event.line();
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(line, crate::json::canonical(&value).into_bytes());
        assert_eq!(value["mac"], json!("ab".repeat(32)));
        let back: Event<'_> = serde_json::from_slice(&line).unwrap();
        assert_eq!(back.line(), line);
        let mut bare = value;
        bare.as_object_mut().unwrap().remove("mac");
        assert_eq!(event.statement(), crate::json::canonical(&bare).into_bytes());
    }

    #[test]
    fn every_column_changes_the_leaf_and_all_but_the_mac_the_statement() {
        let one = event();
        let changed = [
            Event { action: "x".into(), ..one.clone() },
            Event { actor: "x".into(), ..one.clone() },
            Event { at_us: 0, ..one.clone() },
            Event { body: "{}".into(), ..one.clone() },
            Event { id: Uuid::nil(), ..one.clone() },
            Event { key_id: "x".into(), ..one.clone() },
            Event { project: "x".into(), ..one.clone() },
            Event { run_id: Some(Uuid::nil()), ..one.clone() },
            Event { subject: "x".into(), ..one.clone() },
            Event { trace_id: None, ..one.clone() },
        ];
        for other in changed {
            assert!(one.leaf() != other.leaf() && one.statement() != other.statement(), "{other:?}");
        }
        assert_ne!(one.leaf(), Event { mac: vec![], ..one.clone() }.leaf());
    }

    #[test]
    fn an_id_and_its_time_agree() {
        let id = event().id;
        assert!(first_id_at(id_time_us(id)) <= id && id < first_id_at(id_time_us(id) + 1000));
        assert_eq!(first_id_at(i64::MIN), Uuid::nil());
    }
}
