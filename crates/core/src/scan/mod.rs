//! A look at what a tool's definition says to the model that reads it: characters nobody sees, markup nobody is shown,
//! instructions that are none of a description's business, and the names of other servers' tools.
//!
//! Every text of the definition is read, the names of members too, wherever it stands: a schema's `default` reaches a model
//! as its description does. The look is no proof. It finds the known ways to poison a description, is wrong rarely enough
//! that people heed it, and what it misses is held by what comes after: grants, constraints, modes and approvals.

mod phrases;

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::ToolName;
use crate::lookalike::{is_confusable, is_invisible, latin};

/// Longest single text, in characters: more than any honest description needs, and enough to bury something in.
pub const LONGEST_TEXT: usize = 8_192;
/// Most finds told of one definition; one is reason enough to look.
pub const MOST_FINDS: usize = 20;
/// Longest path told, in characters: the server chose it.
const LONGEST_PATH: usize = 200;
/// Shortest tool's own name that is recognised without its provider before it.
const SHORTEST_BARE_NAME: usize = 8;

/// Something in a definition that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Find {
    /// What kind of thing.
    pub kind: FindKind,
    /// Where: a JSON Pointer into the definition, with `~` at its end for the name of a member. At most 200
    /// characters, without control characters.
    pub path: String,
    /// What, in our words: code points, the pattern's name, another tool's name.
    pub detail: String,
}

/// What a look can find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindKind {
    /// Characters that leave no mark: zero-width, bidirectional, tag characters and the like.
    InvisibleCharacters,
    /// Control characters, such as those that begin a terminal's escape sequences.
    ControlCharacters,
    /// Comments, hidden elements, images that are fetched, marks of a conversation's roles.
    HiddenMarkup,
    /// Instructions to the model.
    Instructions,
    /// The name of another server's tool.
    OtherTool,
    /// A word of Latin letters and others that look like them.
    MixedAlphabets,
    /// A text that is longer than [`LONGEST_TEXT`].
    TooLong,
}

impl FindKind {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            FindKind::InvisibleCharacters => "invisible_characters",
            FindKind::ControlCharacters => "control_characters",
            FindKind::HiddenMarkup => "hidden_markup",
            FindKind::Instructions => "instructions",
            FindKind::OtherTool => "other_tool",
            FindKind::MixedAlphabets => "mixed_alphabets",
            FindKind::TooLong => "too_long",
        }
    }
}

/// What the texts of a definition hold, whichever tools there are besides. At most [`MOST_FINDS`], in the order of the
/// definition; the same definition gives the same.
pub fn scan(definition: &Value) -> Vec<Find> {
    let mut found = Vec::new();
    each_text(definition, &mut |path, text| look_at(path, text, &mut found));
    found.truncate(MOST_FINDS);
    found
}

/// The names of a project's tools, as they are recognised in a text of another server.
#[derive(Debug, Clone, Default)]
pub struct ToolNames {
    /// By full name, and by own name where it is no ordinary word: the full names.
    names: HashMap<String, Vec<ToolName>>,
    own: HashSet<ToolName>,
}

impl ToolNames {
    /// Of these tools.
    pub fn new<'a>(tools: impl IntoIterator<Item = &'a ToolName>) -> Self {
        let mut names: HashMap<String, Vec<ToolName>> = HashMap::new();
        let mut own = HashSet::new();
        for tool in tools {
            own.insert(tool.clone());
            names.entry(tool.to_string()).or_default().push(tool.clone());
            if is_recognisable(tool.tool()) {
                names.entry(tool.tool().to_owned()).or_default().push(tool.clone());
            }
        }
        Self { names, own }
    }

    /// Where the definition of `of` names tools of other providers. A name that its own provider has as well means that
    /// one.
    pub fn in_definition(&self, of: &ToolName, definition: &Value) -> Vec<Find> {
        let mut found = Vec::new();
        each_text(definition, &mut |path, text| {
            for word in text.split(|c: char| !is_of_name(c)) {
                let word = word.trim_matches(['.', '-']);
                let Some(meant) = self.names.get(word) else { continue };
                let is_ours = |tool: &ToolName| tool.provider() == of.provider();
                if meant.iter().any(is_ours) || self.own.contains(&ToolName::new(of.provider().clone(), word))
                {
                    continue;
                }
                let names: Vec<String> = meant.iter().take(3).map(ToolName::to_string).collect();
                tell(&mut found, FindKind::OtherTool, path, names.join(", "));
            }
        });
        found.truncate(MOST_FINDS);
        found
    }
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Is a tool's own name no word of any language? `search` is one; `send_invoice` and `sendInvoice` are not.
fn is_recognisable(name: &str) -> bool {
    let has_hump = name.as_bytes().windows(2).any(|w| w[0].is_ascii_lowercase() && w[1].is_ascii_uppercase());
    name.len() >= SHORTEST_BARE_NAME && (has_hump || name.contains('_'))
}

/// Every text below `value` with its path, names of members included.
fn each_text(value: &Value, look: &mut impl FnMut(&str, &str)) {
    fn below(path: &mut String, value: &Value, look: &mut impl FnMut(&str, &str)) {
        let length = path.len();
        match value {
            Value::String(text) => look(path, text),
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    path.push('/');
                    path.push_str(&i.to_string());
                    below(path, item, look);
                    path.truncate(length);
                }
            }
            Value::Object(members) => {
                for (name, inner) in members {
                    path.push('/');
                    path.push_str(&name.replace('~', "~0").replace('/', "~1"));
                    look(&format!("{path}~"), name);
                    below(path, inner, look);
                    path.truncate(length);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    below(&mut String::new(), value, look);
}

fn tell(found: &mut Vec<Find>, kind: FindKind, path: &str, detail: String) {
    let path: String =
        path.chars().filter(|c| !c.is_control() && !is_invisible(*c)).take(LONGEST_PATH).collect();
    let find = Find { kind, path, detail };
    if found.len() < MOST_FINDS && !found.contains(&find) {
        found.push(find);
    }
}

fn look_at(path: &str, text: &str, found: &mut Vec<Find>) {
    if found.len() >= MOST_FINDS {
        return;
    }
    let chars: Vec<char> = text.chars().collect();
    let hidden = |i: &usize| is_invisible(chars[*i]) && !is_of_script(&chars, *i);
    let invisible: Vec<char> = (0..chars.len()).filter(hidden).map(|i| chars[i]).collect();
    if !invisible.is_empty() {
        tell(found, FindKind::InvisibleCharacters, path, code_points(&invisible));
    }
    let is_control = |c: &char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    let control: Vec<char> = chars.iter().copied().filter(is_control).collect();
    if !control.is_empty() {
        tell(found, FindKind::ControlCharacters, path, code_points(&control));
    }
    if let Some(word) = text.split(|c: char| !c.is_alphabetic()).find(|word| is_mixed(word)) {
        let strange: Vec<char> = word.chars().filter(|c| is_confusable(*c)).collect();
        tell(found, FindKind::MixedAlphabets, path, code_points(&strange));
    }
    // a picture is read by people, and is long by nature
    if chars.len() > LONGEST_TEXT && !text.starts_with("data:image/") {
        tell(found, FindKind::TooLong, path, format!("{} characters", chars.len()));
    }
    for (kind, name) in phrases::found_in(&as_read(&chars)) {
        tell(found, kind, path, name.to_owned());
    }
}

/// A text as a reader takes it: without what is not seen, in plain letters, with single spaces.
fn as_read(chars: &[char]) -> String {
    let mut text = String::with_capacity(chars.len());
    for c in chars.iter().copied().filter(|c| !is_invisible(*c)).map(latin) {
        match c.is_whitespace() || c.is_control() {
            true if text.ends_with(' ') => {}
            true => text.push(' '),
            false => text.push(c),
        }
    }
    text
}

/// Does an invisible character do there what its script has it for? Joiners between letters of scripts that are joined,
/// and between the parts of an emoji; a variation selector after something that has variants.
fn is_of_script(chars: &[char], i: usize) -> bool {
    let is_joined =
        |c: &char| matches!(*c, '\u{600}'..='\u{8ff}' | '\u{900}'..='\u{dff}' | '\u{1000}'..='\u{109f}');
    let is_pictured = |c: &char| {
        matches!(*c, '\u{2190}'..='\u{2bff}' | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}'
            | '\u{1f000}'..='\u{1faff}' | '\u{fe0f}' | '0'..='9' | '#' | '*' | '\u{a9}' | '\u{ae}')
    };
    let (before, after) = (i.checked_sub(1).map(|i| &chars[i]), chars.get(i + 1));
    match chars[i] {
        '\u{200c}' | '\u{200d}' if before.is_some_and(is_joined) && after.is_some_and(is_joined) => true,
        '\u{200d}' => before.is_some_and(is_pictured) && after.is_some_and(is_pictured),
        '\u{fe0e}' | '\u{fe0f}' => before.is_some_and(is_pictured),
        _ => false,
    }
}

fn is_mixed(word: &str) -> bool {
    word.chars().any(is_confusable) && word.chars().filter(char::is_ascii_alphabetic).count() >= 2
}

/// `U+200B, U+202E`: each once, at most eight.
fn code_points(chars: &[char]) -> String {
    let mut different: Vec<char> = Vec::new();
    for c in chars {
        if !different.contains(c) {
            different.push(*c);
        }
    }
    let shown: Vec<String> = different.iter().take(8).map(|c| format!("U+{:04X}", u32::from(*c))).collect();
    let more = if different.len() > 8 { format!(" and {} more", different.len() - 8) } else { String::new() };
    shown.join(", ") + &more
}

#[cfg(test)]
mod tests;
