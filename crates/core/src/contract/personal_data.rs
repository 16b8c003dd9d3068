//! What a project contract says of personal data: for each direction and class whether it is let through, tagged,
//! masked or stops what carries it, and which values are nobody's secret.
//!
//! Credentials are not spoken of here: no contract can let one through. What is not named is let through, in the four
//! directions that can be named; logs, spans and the audit cannot, and always hold tags.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Names of masks that a project's own pattern cannot take, because the platform finds these classes by itself.
pub const BUILT_IN_CLASSES: [&str; 24] = [
    "PRIVATE_KEY",
    "AWOOOP_KEY",
    "AWS_KEY",
    "GOOGLE_KEY",
    "AZURE_KEY",
    "GITHUB_TOKEN",
    "GITLAB_TOKEN",
    "REGISTRY_TOKEN",
    "MODEL_KEY",
    "TELEGRAM_TOKEN",
    "SLACK_TOKEN",
    "WEBHOOK",
    "SERVICE_TOKEN",
    "JWT",
    "URL_PASSWORD",
    "AUTHORIZATION",
    "SECRET",
    "EMAIL",
    "IBAN",
    "CARD",
    "NATIONAL_ID",
    "COMPANY_NUMBER",
    "PHONE",
    "IP_ADDRESS",
];

/// What is done with a find. Ordered: a later one says less of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataAction {
    /// It stays.
    Allow,
    /// `[CLASS:tag]` stands in its place, equal values under equal tags.
    Tag,
    /// `[CLASS]` stands in its place.
    Mask,
    /// What carries it is refused.
    Block,
}

impl DataAction {
    /// As manifests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            DataAction::Allow => "allow",
            DataAction::Tag => "tag",
            DataAction::Mask => "mask",
            DataAction::Block => "block",
        }
    }
}

/// A class of personal data, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataClass {
    /// Every class that is not named.
    All,
    /// E-mail addresses.
    Email,
    /// Telephone numbers.
    Phone,
    /// National identification numbers.
    NationalId,
    /// Companies' registration numbers.
    CompanyNumber,
    /// Numbers of payment cards.
    Card,
    /// International bank account numbers.
    Iban,
    /// IPv4 and IPv6 addresses.
    IpAddress,
}

impl DataClass {
    /// The classes themselves, without `All`.
    pub const EACH: [DataClass; 7] = [
        DataClass::Email,
        DataClass::Phone,
        DataClass::NationalId,
        DataClass::CompanyNumber,
        DataClass::Card,
        DataClass::Iban,
        DataClass::IpAddress,
    ];

    /// As manifests spell it; in capitals it is the mask's name.
    pub fn as_str(self) -> &'static str {
        match self {
            DataClass::All => "all",
            DataClass::Email => "email",
            DataClass::Phone => "phone",
            DataClass::NationalId => "national_id",
            DataClass::CompanyNumber => "company_number",
            DataClass::Card => "card",
            DataClass::Iban => "iban",
            DataClass::IpAddress => "ip_address",
        }
    }
}

/// What is done in one direction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DirectionSpec(BTreeMap<DataClass, DataAction>);

impl DirectionSpec {
    /// What is done with finds of `class`: its own action, or that of all, or nothing.
    pub fn action(&self, class: DataClass) -> DataAction {
        let named = self.0.get(&class).or_else(|| self.0.get(&DataClass::All));
        named.copied().unwrap_or(DataAction::Allow)
    }
}

/// What is done with personal data, by direction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonalDataSpec {
    /// Messages to models, and tool results to MCP clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_model: Option<DirectionSpec>,
    /// Arguments of tool calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_tool: Option<DirectionSpec>,
    /// Inputs, steps and outputs as they are kept. A run goes on from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_journal: Option<DirectionSpec>,
    /// Outputs, errors and steps in answers of the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_people: Option<DirectionSpec>,
    /// Values, `@` and domains, and networks that are let through in all four directions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
}

impl PersonalDataSpec {
    /// The four directions by name.
    pub fn directions(&self) -> [(&'static str, Option<&DirectionSpec>); 4] {
        [
            ("to_model", self.to_model.as_ref()),
            ("to_tool", self.to_tool.as_ref()),
            ("to_journal", self.to_journal.as_ref()),
            ("to_people", self.to_people.as_ref()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_class_has_its_own_action_or_that_of_all_or_none() {
        let direction: DirectionSpec =
            serde_json::from_value(json!({"all": "tag", "card": "block"})).unwrap();
        assert_eq!(direction.action(DataClass::Card), DataAction::Block);
        assert_eq!(direction.action(DataClass::Email), DataAction::Tag);
        assert_eq!(DirectionSpec::default().action(DataClass::Email), DataAction::Allow);
        for class in DataClass::EACH {
            assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
            assert!(BUILT_IN_CLASSES.contains(&class.as_str().to_uppercase().as_str()));
        }
    }
}
