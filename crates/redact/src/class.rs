//! The classes of what is found, in three families, and the masks that replace it.
//!
//! A class is what the reader of a log may know about what was there. The order of the variants is the order of
//! precision: of two finds over the same bytes the earlier variant names the mask.
//! Invariant: `as_str` is written into rows and never renamed.

use std::fmt;

/// Which rules a class obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Always masked: there is no switch.
    Credential,
    /// Allowed, masked, tagged or blocked, as the rules say.
    Personal,
    /// Found by a pattern that was added to the rules.
    Custom,
}

/// What kind of secret was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A PEM, OpenSSH, PGP or PuTTY private key block.
    PrivateKey,
    /// A key or run token of AwoooP itself (`awp_…`, `awr_…`).
    AwooopKey,
    /// An AWS access key id, or a secret access key beside one.
    AwsKey,
    /// A Google API key, OAuth access token or client secret.
    GoogleKey,
    /// An Azure storage or service-bus key, SAS signature or client secret.
    AzureKey,
    /// A GitHub token, classic or fine-grained.
    GithubToken,
    /// A GitLab token.
    GitlabToken,
    /// A token of a package registry: npm, PyPI, RubyGems, Docker Hub.
    RegistryToken,
    /// A key of a model provider: OpenAI, Anthropic, Groq, Hugging Face and others.
    ModelKey,
    /// A Telegram bot token.
    TelegramToken,
    /// A Slack token.
    SlackToken,
    /// The secret part of a chat webhook address.
    Webhook,
    /// A token of another service with a prefix of its own: Stripe, SendGrid, Vault and others.
    ServiceToken,
    /// A JSON Web Token, signed, unsigned or encrypted.
    Jwt,
    /// The password in `scheme://user:password@host`.
    UrlPassword,
    /// What follows the scheme in an `Authorization` header, or after `Bearer` or `Basic` elsewhere.
    Authorization,
    /// The value of a name that says it is secret: `password=`, `"client_secret":`, `--token`.
    Secret,
    /// An e-mail address.
    Email,
    /// An International Bank Account Number.
    Iban,
    /// The number of a payment card.
    Card,
    /// A national identification number: Taiwan's national id and resident certificates.
    NationalId,
    /// A company's registration number: Taiwan's unified business number.
    CompanyNumber,
    /// A telephone number.
    Phone,
    /// An IPv4 or IPv6 address.
    IpAddress,
    /// Found by a pattern of this name.
    Custom(CustomName),
}

impl Class {
    /// Every credential class, in the order of precision.
    pub const CREDENTIALS: [Class; 17] = [
        Class::PrivateKey,
        Class::AwooopKey,
        Class::AwsKey,
        Class::GoogleKey,
        Class::AzureKey,
        Class::GithubToken,
        Class::GitlabToken,
        Class::RegistryToken,
        Class::ModelKey,
        Class::TelegramToken,
        Class::SlackToken,
        Class::Webhook,
        Class::ServiceToken,
        Class::Jwt,
        Class::UrlPassword,
        Class::Authorization,
        Class::Secret,
    ];

    /// Every class of personal data, in the order of precision.
    pub const PERSONAL: [Class; 7] = [
        Class::Email,
        Class::Iban,
        Class::Card,
        Class::NationalId,
        Class::CompanyNumber,
        Class::Phone,
        Class::IpAddress,
    ];

    /// Which rules the class obeys.
    pub fn family(self) -> Family {
        match self {
            Class::Custom(_) => Family::Custom,
            class if class.personal_index().is_some() => Family::Personal,
            _ => Family::Credential,
        }
    }

    /// The class's place in [`Class::PERSONAL`].
    pub(crate) fn personal_index(self) -> Option<usize> {
        Class::PERSONAL.iter().position(|class| *class == self)
    }

    /// The class's name in capitals: `AWS_KEY`. Its plain mask is the name in brackets.
    pub fn as_str(&self) -> &str {
        match self {
            Class::PrivateKey => "PRIVATE_KEY",
            Class::AwooopKey => "AWOOOP_KEY",
            Class::AwsKey => "AWS_KEY",
            Class::GoogleKey => "GOOGLE_KEY",
            Class::AzureKey => "AZURE_KEY",
            Class::GithubToken => "GITHUB_TOKEN",
            Class::GitlabToken => "GITLAB_TOKEN",
            Class::RegistryToken => "REGISTRY_TOKEN",
            Class::ModelKey => "MODEL_KEY",
            Class::TelegramToken => "TELEGRAM_TOKEN",
            Class::SlackToken => "SLACK_TOKEN",
            Class::Webhook => "WEBHOOK",
            Class::ServiceToken => "SERVICE_TOKEN",
            Class::Jwt => "JWT",
            Class::UrlPassword => "URL_PASSWORD",
            Class::Authorization => "AUTHORIZATION",
            Class::Secret => "SECRET",
            Class::Email => "EMAIL",
            Class::Iban => "IBAN",
            Class::Card => "CARD",
            Class::NationalId => "NATIONAL_ID",
            Class::CompanyNumber => "COMPANY_NUMBER",
            Class::Phone => "PHONE",
            Class::IpAddress => "IP_ADDRESS",
            Class::Custom(name) => name.as_str(),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of an added pattern: 2 to 40 capitals, digits and `_`, a capital first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CustomName {
    len: u8,
    bytes: [u8; CustomName::MAX],
}

impl CustomName {
    const MAX: usize = 40;

    /// The name, unless it is no such name or that of a built-in class.
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; Self::MAX];
        let len = u8::try_from(name.len()).ok()?;
        let is_name = name.len() >= 2
            && name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        let is_taken = Class::CREDENTIALS.iter().chain(&Class::PERSONAL).any(|class| class.as_str() == name);
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        (is_name && !is_taken).then_some(CustomName { len, bytes })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("only ASCII gets in")
    }
}

impl fmt::Debug for CustomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}
