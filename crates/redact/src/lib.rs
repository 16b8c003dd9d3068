//! The redactor: finds credentials and personal data in text and JSON and puts a tag such as `[JWT]` in their place.
//!
//! Why its own crate: it depends on nothing of ours, so every room may use it, and what audit and journal
//! write can demand [`Clean`] and [`CleanJson`], which only a [`Redactor`] can make.
//! How: one pass of literal anchors, then a bounded scanner and a validator around each anchor; another over digits,
//! colons and `@` where the rules ask for personal data.
//! Invariants: time is linear in the text; offsets lie on character borders; a JSON document stays one;
//! redacting twice gives what redacting once gave; overlapping finds become one mask, never a gap.
//! How it fails: it cannot. Where a validator has no budget left, the candidate is masked.
//! A text that comes in pieces goes through a [`Stream`], which masks what the whole text would have had masked.
//! Deliberately absent: any switch that turns the redactor off.

mod anchors;
mod bare;
mod beside;
mod class;
mod clean;
mod command;
mod document;
mod encoded;
mod header;
mod ident;
mod json;
mod judge;
mod keyed;
mod known;
mod list;
mod mask;
mod open;
mod pair;
mod pem;
mod personal;
mod quote;
mod random;
mod redactor;
mod rounds;
mod rules;
mod scan;
mod shaped;
mod stream;
mod text;
mod token;
mod url;
mod view;
mod work;
mod zones;

pub use class::{Class, CustomName, Family};
pub use clean::{Clean, CleanJson};
pub use json::JsonFinding;
pub use known::{Known, SHORTEST as SHORTEST_KNOWN};
pub use mask::TagKey;
pub use redactor::{Finding, Redacted, Redactor};
pub use rules::{Action, PatternError, Rules};
pub use stream::{RedactWriter, Stream, StreamSet};
