//! Lists: `{"items", "next_cursor"}`. A cursor is opaque: base64url of the last row's key with a checksum
//! over list, project and key, so that a changed cursor, or one of another list or project, is refused
//! (400 E-REQ-007) and never means something else.

use awooop_core::{ErrorCode, ProjectId};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::Problem;

const CHECK_BYTES: usize = 8;
/// 1970 to 3000: no row of ours was made at another time, and PostgreSQL and jiff end at different ones.
const MICROSECONDS: std::ops::RangeInclusive<i64> = 0..=32_503_680_000_000_000;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T: ToSchema> {
    /// The rows.
    pub(crate) items: Vec<T>,
    /// Give this as `cursor` for the next page; null on the last.
    pub(crate) next_cursor: Option<String>,
}

/// A list of one project: cursors of one are none of another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List<'a> {
    /// What is listed, with its parent where it has one.
    pub(crate) name: &'a str,
    /// Whose rows.
    pub(crate) project: &'a ProjectId,
}

impl List<'_> {
    /// The cursor after the row with this key.
    pub(crate) fn cursor(self, key: &str) -> String {
        let mut bytes = self.check(key).to_vec();
        bytes.extend_from_slice(key.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a cursor with `parse`; `None` for the first page.
    pub(crate) fn read<K>(
        self,
        cursor: Option<&str>,
        parse: impl FnOnce(&str) -> Option<K>,
    ) -> Result<Option<K>, Problem> {
        let Some(text) = cursor else { return Ok(None) };
        self.open(text)
            .and_then(|key| parse(&key))
            .map(Some)
            .ok_or_else(|| Problem::new(ErrorCode::Req007, "the cursor is not one that this list gave"))
    }

    /// One page out of `rows`, of which one more than `limit` were asked for.
    pub(crate) fn page<R, T: ToSchema>(
        self,
        mut rows: Vec<R>,
        limit: usize,
        key: impl Fn(&R) -> String,
        view: impl Fn(R) -> T,
    ) -> Page<T> {
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| has_more).map(|row| self.cursor(&key(row)));
        Page { items: rows.into_iter().map(view).collect(), next_cursor }
    }

    fn open(self, text: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (check, key) = bytes.split_at_checked(CHECK_BYTES)?;
        // anybody can compute the check, so a key may still be one that no row has; PostgreSQL takes no NUL
        let key = std::str::from_utf8(key).ok().filter(|key| !key.contains('\0'))?;
        (check == self.check(key)).then(|| key.to_owned())
    }

    fn check(self, key: &str) -> [u8; CHECK_BYTES] {
        let text = format!("{}\n{}\n{key}", self.name, self.project);
        let hash = awooop_core::json::sha256(text.as_bytes());
        std::array::from_fn(|i| hash[i])
    }
}

/// The key of a row in a list by time: microseconds and an id.
pub(crate) fn time_and_id(key: &str) -> Option<(Timestamp, String)> {
    let (at, id) = key.split_once('/')?;
    let at = at.parse().ok().filter(|at| MICROSECONDS.contains(at))?;
    Some((Timestamp::from_microsecond(at).ok()?, id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_no_row_has_is_no_cursor() {
        assert!(time_and_id("1767225600000000/a").is_some_and(|(_, id)| id == "a"));
        for key in ["", "1", "x/a", "-1/a", "-377705023201000000/a", "9223372036854775807/a"] {
            assert!(time_and_id(key).is_none(), "{key}");
        }
    }

    #[test]
    fn a_cursor_reads_back_in_its_own_list_and_nowhere_else() {
        let (mine, other) = (ProjectId::parse("mine").unwrap(), ProjectId::parse("other").unwrap());
        let list = List { name: "runs", project: &mine };
        let cursor = list.cursor("key");
        let read = |list: List<'_>, text: &str| list.read(Some(text), |k| Some(k.to_owned()));
        assert_eq!(read(list, &cursor).unwrap().as_deref(), Some("key"));
        assert!(read(List { project: &other, ..list }, &cursor).is_err());
        assert!(read(List { name: "keys", ..list }, &cursor).is_err());
        for i in 0..cursor.len() {
            let mut bad = cursor.clone();
            let replacement = if &cursor[i..=i] == "A" { "B" } else { "A" };
            bad.replace_range(i..=i, replacement);
            assert!(read(list, &bad).is_err(), "{bad}");
        }
        assert!(read(list, &list.cursor("a\0b")).is_err(), "a NUL, with the right check");
        for nonsense in ["", "A", "%%", "null", &"A".repeat(10_000)] {
            assert!(read(list, nonsense).is_err(), "{nonsense}");
        }
    }
}
