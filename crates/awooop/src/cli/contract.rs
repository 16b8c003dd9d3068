//! The words about contracts, and about the keys that sign them.
//!
//! A contract is named `KIND/ID`, one of its versions `KIND/ID@N`. Names are read here, so that nothing which
//! could not be a name becomes part of an address.

use std::path::PathBuf;
use std::str::FromStr;

use awooop_core::contract::Kind;
use awooop_store::keyring::KeyName;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};

use super::{ClientArgs, parse_from};

/// A contract, and where one is wanted a version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContractName {
    /// Its kind.
    pub(crate) kind: Kind,
    /// Its id.
    pub(crate) id: String,
    /// The version, from 1.
    pub(crate) version: Option<i32>,
}

impl std::fmt::Display for ContractName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}

impl FromStr for ContractName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || "expected KIND/ID or KIND/ID@N, such as agent/clerk@3".to_owned();
        let (kind, rest) = text.split_once('/').ok_or_else(shape)?;
        let (id, version) = match rest.split_once('@') {
            Some((id, number)) => (id, Some(parse_version(number)?)),
            None => (rest, None),
        };
        let is_id = !id.is_empty()
            && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
        if !is_id {
            return Err("an id is made of a-z, 0-9, `-` and `_`".to_owned());
        }
        Ok(Self { kind: parse_kind(kind)?, id: id.to_owned(), version })
    }
}

/// A kind, or one contract of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// All of a kind.
    Kind(Kind),
    /// One.
    One(ContractName),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') { text.parse().map(Which::One) } else { parse_kind(text).map(Which::Kind) }
    }
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    let names = || Kind::ALL.map(Kind::as_str).join(", ");
    Kind::parse(text).ok_or_else(|| format!("a kind is one of {}", names()))
}

fn parse_version(text: &str) -> Result<i32, String> {
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let version = text.parse().ok().filter(|&n: &i32| is_plain && n >= 1);
    version.ok_or_else(|| "a version is a number from 1".to_owned())
}

/// A name that says which version.
fn parse_versioned(text: &str) -> Result<ContractName, String> {
    let name: ContractName = text.parse()?;
    if name.version.is_some() { Ok(name) } else { Err(format!("say which version: {name}@N")) }
}

/// A name of no version in particular.
fn parse_plain(text: &str) -> Result<ContractName, String> {
    let name: ContractName = text.parse()?;
    if name.version.is_none() { Ok(name) } else { Err(format!("this is about the whole contract: {name}")) }
}

fn parse_provider(text: &str) -> Result<ContractName, String> {
    let name = parse_plain(text)?;
    if name.kind == Kind::Provider { Ok(name) } else { Err("only a provider has tools to pin".to_owned()) }
}

/// Which manifests.
#[derive(Args)]
pub(crate) struct FilesArgs {
    /// A manifest file (YAML or JSON), a directory (its *.yaml, *.yml and *.json, not deeper), or `-` for
    /// standard input. May be given several times
    #[arg(short, long = "file", value_name = "FILE|DIR", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// `awooop apply`.
#[derive(Args)]
#[command(
    after_help = "Exit code 5: the changes are published and wait for other people's signatures. Nothing of them is in \
force before all of them have enough. Each project's manifests are taken whole or not at all."
)]
pub(crate) struct ApplyArgs {
    /// Which manifests.
    #[command(flatten)]
    pub(crate) manifests: FilesArgs,
    /// Check everything, print the differences, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Retire every active contract of the manifests' projects that no manifest names; a project's own stays.
    /// See first what that would be with --dry-run
    #[arg(long)]
    pub(crate) prune: bool,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop diff`.
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 nothing differs, 1 something does (or the server could not tell), others as ever. \
Lines: `+` added, `-` removed, `~` changed, `!` could break whoever relies on it."
)]
pub(crate) struct DiffArgs {
    /// Which manifests.
    #[command(flatten)]
    pub(crate) manifests: FilesArgs,
    /// Show also what `apply --prune` would retire
    #[arg(long)]
    pub(crate) prune: bool,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop get`.
#[derive(Args)]
#[command(after_help = "`awooop get KIND/ID` prints the manifest as YAML, ready for `awooop apply -f -`.")]
pub(crate) struct GetArgs {
    /// All contracts of a kind, or the manifest of one [default: everything that is active]
    #[arg(value_name = "KIND[/ID[@N]]", value_parser = parse_from::<Which>)]
    pub(crate) which: Option<Which>,
    /// This version instead of the active one
    #[arg(long = "version", value_name = "N", value_parser = parse_version, requires = "which")]
    pub(crate) version: Option<i32>,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// A contract without a version.
#[derive(Args)]
pub(crate) struct NamedArgs {
    /// The contract, such as agent/clerk
    #[arg(value_name = "KIND/ID", value_parser = parse_plain)]
    pub(crate) name: ContractName,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// A version of a contract.
#[derive(Args)]
pub(crate) struct VersionArgs {
    /// The version, such as agent/clerk@3
    #[arg(value_name = "KIND/ID@N", value_parser = parse_versioned)]
    pub(crate) name: ContractName,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop contract …`.
#[derive(Subcommand)]
pub(crate) enum ContractCommand {
    /// Save drafts: versions that may still change and that nobody uses
    Draft(DraftArgs),
    /// Fix a draft, so that people can sign for it
    Publish(PublishArgs),
    /// Sign, as the key's person, for what a version does
    Sign(SignArgs),
    /// Put a version into force that enough people signed for; an older one, too: that is going back
    Activate(VersionArgs),
    /// List a contract's versions, newest first
    Versions(NamedArgs),
    /// Show what a version changes, and what that could break
    Diff(VersionDiffArgs),
    /// Draft a tool server's contract with the tool definitions that the server shows now
    Pin(PinArgs),
    /// Repair: make anew the rows that the gates read, from the active contracts
    Rematerialise(ProjectArgs),
    /// Put everything that loads under the current signing key, before the former one is retired
    Resign(ResignArgs),
    /// Print the JSON Schema of a kind; needs no server
    Schema(SchemaArgs),
}

/// `awooop contract draft`.
#[derive(Args)]
pub(crate) struct DraftArgs {
    /// Which manifests.
    #[command(flatten)]
    pub(crate) manifests: FilesArgs,
    /// Take the place of a draft that says something else
    #[arg(long)]
    pub(crate) replace: bool,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop contract publish`.
#[derive(Args)]
pub(crate) struct PublishArgs {
    /// The contract's draft; with @N the draft only if it is that version
    #[arg(value_name = "KIND/ID[@N]", value_parser = parse_from::<ContractName>)]
    pub(crate) name: ContractName,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// What a signature is for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SignedAct {
    /// That the version becomes active.
    Activate,
    /// That the contract ends, of which this is the active version.
    Retire,
}

impl SignedAct {
    /// As the API spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            SignedAct::Activate => "activate",
            SignedAct::Retire => "retire",
        }
    }
}

/// `awooop contract sign`.
#[derive(Args)]
pub(crate) struct SignArgs {
    /// The version, such as agent/clerk@3
    #[arg(value_name = "KIND/ID@N", value_parser = parse_versioned)]
    pub(crate) name: ContractName,
    /// What to sign for
    #[arg(long, value_enum, default_value = "activate")]
    pub(crate) act: SignedAct,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop contract diff`.
#[derive(Args)]
pub(crate) struct VersionDiffArgs {
    /// The newer version [default: the newest]
    #[arg(value_name = "KIND/ID[@N]", value_parser = parse_from::<ContractName>)]
    pub(crate) name: ContractName,
    /// The older version [default: the active one]
    #[arg(long, value_name = "M", value_parser = parse_version)]
    pub(crate) from: Option<i32>,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop contract pin`.
#[derive(Args)]
pub(crate) struct PinArgs {
    /// The tool server, such as provider/shop
    #[arg(value_name = "provider/ID", value_parser = parse_provider)]
    pub(crate) name: ContractName,
    /// Take the place of a draft that says something else
    #[arg(long)]
    pub(crate) replace: bool,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// A whole project.
#[derive(Args)]
pub(crate) struct ProjectArgs {
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop contract resign`.
#[derive(Args)]
pub(crate) struct ResignArgs {
    /// In every project; needs a platform admin's key
    #[arg(long, conflicts_with = "project")]
    pub(crate) all: bool,
    /// Server, key, output.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `awooop contract schema`.
#[derive(Args)]
pub(crate) struct SchemaArgs {
    /// The kind
    #[arg(value_parser = ["project", "provider", "agent", "policy", "channel", "runtime_run_state"])]
    pub(crate) kind: String,
    /// A schema is one JSON document either way
    #[arg(long)]
    pub(crate) json: bool,
}

/// `awooop keys …`.
#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// List the keyring's keys, without secrets
    List(KeysListArgs),
    /// Make a new current key; the former one still verifies
    Rotate(KeysRotateArgs),
    /// Erase a former key for good: what it signed verifies no more
    Retire(KeysRetireArgs),
}

/// Where a keyring is.
#[derive(Args)]
pub(crate) struct KeyringArgs {
    /// The keyring's directory [default: `keys` in the data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// The data directory of `awooop dev` [default: as for dev]
    #[arg(long, value_name = "PATH", conflicts_with = "keys")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print exactly one JSON document on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// `awooop keys list`.
#[derive(Args)]
pub(crate) struct KeysListArgs {
    /// Where.
    #[command(flatten)]
    pub(crate) keyring: KeyringArgs,
}

/// `awooop keys rotate`.
#[derive(Args)]
#[command(
    after_help = "A running server takes the change over within a second. Where several nodes have copies of a keyring, all of them \
need the new one: a node without the key believes nothing that is signed with it."
)]
pub(crate) struct KeysRotateArgs {
    /// What the key is for
    #[arg(value_parser = key_names())]
    pub(crate) name: KeyName,
    /// Where.
    #[command(flatten)]
    pub(crate) keyring: KeyringArgs,
}

/// `awooop keys retire`.
#[derive(Args)]
pub(crate) struct KeysRetireArgs {
    /// What the key is for
    #[arg(value_parser = key_names())]
    pub(crate) name: KeyName,
    /// The key's id, as `keys list` shows it
    pub(crate) id: String,
    /// Where.
    #[command(flatten)]
    pub(crate) keyring: KeyringArgs,
}

fn key_names() -> impl TypedValueParser<Value = KeyName> {
    PossibleValuesParser::new(KeyName::ALL.map(KeyName::as_str)).map(|text| {
        let found = KeyName::ALL.into_iter().find(|name| name.as_str() == text);
        found.expect("only these names are possible")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contract_is_named_by_kind_and_id_and_a_version_by_its_number() {
        let name: ContractName = "agent/clerk@12".parse().unwrap();
        assert_eq!((name.kind, name.id.as_str(), name.version), (Kind::Agent, "clerk", Some(12)));
        assert_eq!(name.to_string(), "agent/clerk");
        assert_eq!("policy".parse(), Ok(Which::Kind(Kind::Policy)));
        for bad in
            ["agent", "agent/", "robot/x", "agent/..", "agent/A", "agent/x@", "agent/x@0", "agent/x@+1"]
        {
            assert!(bad.parse::<ContractName>().is_err(), "{bad}");
        }
        assert!(parse_versioned("agent/x").is_err() && parse_plain("agent/x@1").is_err());
        assert!(parse_provider("agent/x").is_err());
    }
}
