//! JSON whose objects keep the order in which their members were written: a schema is written in the order
//! in which it is to be read.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// A JSON value.
#[derive(Debug, Clone)]
pub(super) enum Ordered {
    /// Members in their order.
    Object(Vec<(String, Ordered)>),
    /// Items.
    Array(Vec<Ordered>),
    /// Anything else.
    Plain(Value),
}

impl Ordered {
    /// A member of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Ordered> {
        self.members().iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// An object's members; none of anything else.
    pub(super) fn members(&self) -> &[(String, Ordered)] {
        match self {
            Ordered::Object(members) => members,
            _ => &[],
        }
    }

    /// An array's items; none of anything else.
    pub(super) fn items(&self) -> &[Ordered] {
        match self {
            Ordered::Array(items) => items,
            _ => &[],
        }
    }

    /// A member that is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Ordered::Plain(Value::String(text))) => Some(text),
            _ => None,
        }
    }

    /// A member that is a number, as it is written.
    pub(super) fn number(&self, name: &str) -> Option<String> {
        match self.get(name) {
            Some(Ordered::Plain(Value::Number(number))) => Some(number.to_string()),
            _ => None,
        }
    }

    /// What a reference such as `#/$defs/tool` leads to, in this document.
    pub(super) fn at(&self, reference: &str) -> &Ordered {
        let parts = reference.trim_start_matches("#/").split('/');
        parts.fold(self, |value, part| value.get(part).unwrap_or_else(|| panic!("{reference}")))
    }

    /// As JSON text in one line.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap()
    }
}

impl Serialize for Ordered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Ordered::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
            Ordered::Array(items) => items.serialize(serializer),
            Ordered::Plain(value) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Ordered;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Ordered::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ordered, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Ordered::Array(items))
    }

    fn visit_str<E>(self, text: &str) -> Result<Ordered, E> {
        Ok(Ordered::Plain(text.into()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Ordered, E> {
        Ok(Ordered::Plain(Value::Null))
    }
}
