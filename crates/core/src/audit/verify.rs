//! Checking a whole project: two streams, events by id and seals by number, are read side by side, and every
//! difference has a name. Nothing is kept but seals whose events are still to come, events that no seal has
//! claimed yet, and what came of it, so that memory does not grow with the audit.
//!
//! The caller feeds: before each event all seals while [`Verifier::needs_seal`], after the last event the rest
//! of the seals, then [`Verifier::finish`]. Where the events come from, a snapshot of the database or a file, is
//! not this module's to know.

use std::collections::HashMap;

use uuid::Uuid;

use super::WINDOW_US;
use super::event::{EXPIRE, Event, id_time_us};
use super::merkle::{self, Hash};
use super::report::{FindingKind, Report, Tampering};
use super::seal::{Anchor, NO_SEAL, PublicKeys, Seal, parse_hash};

/// Altered events that are compared with each other, to tell an exchange from a change.
const COMPARED: usize = 64;
/// Events without a seal after which further seals are read at once.
const MANY_STRAYS: usize = 10_000;
/// Events without a seal that are kept; more are counted only.
const MOST_STRAYS: usize = 1_000_000;

/// A seal whose events are still to come.
struct Open {
    n: i64,
    ids: Vec<Uuid>,
    leaves: Vec<Hash>,
    at: usize,
    missing: Vec<Uuid>,
}

/// Events of one seal that were not there: gone, or expired.
struct Gone {
    n: i64,
    ids: Vec<Uuid>,
}

/// Whole seals without any event: a run of their numbers, and how many events.
struct Emptied {
    from: i64,
    to: i64,
    events: u64,
}

/// An event that no seal had claimed when it was read.
struct Stray {
    leaf: Hash,
    is_genuine: Option<bool>,
    at_us: i64,
    claimed_by: Option<i64>,
}

/// An event that is not what its seal says, kept to be compared with others.
struct Changed {
    event: Event<'static>,
    expected: Hash,
    n: i64,
}

/// See the module.
pub struct Verifier<'a> {
    project: &'a str,
    keys: &'a PublicKeys,
    heads: Vec<&'a Anchor>,
    now_us: i64,
    newest_sealed_at_us: i64,
    open: Vec<Open>,
    strays: HashMap<Uuid, Stray>,
    more_strays: u64,
    changed: Vec<Changed>,
    gone: Vec<Gone>,
    emptied: Vec<Emptied>,
    last: Option<(i64, Hash, i64)>,
    reached: Uuid,
    position: Option<Uuid>,
    found: Vec<Tampering>,
    report: Report,
}

impl<'a> Verifier<'a> {
    /// A check of one project. `now_us` says how old an event without a seal is; without it the newest seal's
    /// time counts as now. Heads of other projects are left aside.
    pub fn new(project: &'a str, keys: &'a PublicKeys, heads: &'a [Anchor], now_us: Option<i64>) -> Self {
        Self {
            project,
            keys,
            heads: heads.iter().filter(|head| head.project == project).collect(),
            now_us: now_us.unwrap_or(i64::MIN),
            newest_sealed_at_us: i64::MIN,
            open: Vec::new(),
            strays: HashMap::new(),
            more_strays: 0,
            changed: Vec::new(),
            gone: Vec::new(),
            emptied: Vec::new(),
            last: None,
            reached: Uuid::nil(),
            position: None,
            found: Vec::new(),
            report: Report::new(project),
        }
    }

    /// Are further seals to be fed before the event `id`?
    pub fn needs_seal(&self, id: Uuid) -> bool {
        self.reached <= id || self.strays.len() > MANY_STRAYS
    }

    /// What was found since the last call.
    pub fn take_found(&mut self) -> Vec<Tampering> {
        std::mem::take(&mut self.found)
    }

    /// How many events were read so far.
    pub fn events(&self) -> u64 {
        self.report.events
    }

    fn tell(&mut self, kind: FindingKind, event_id: Option<Uuid>, seal: Option<i64>, message: String) {
        *self.report.findings.entry(kind.as_str()).or_default() += 1;
        self.report.is_whole = false;
        self.found.push(Tampering { kind, event_id, seal, message });
    }

    /// Takes the next seal, in the order of their numbers.
    pub fn seal(&mut self, seal: &Seal) {
        self.report.seals += 1;
        self.report.late_seals += u64::from(seal.is_late);
        self.judge_chain(seal);
        self.judge_seal(seal);
        self.newest_sealed_at_us = self.newest_sealed_at_us.max(seal.sealed_at_us);
        if let (Some(first), false) = (seal.event_ids.first(), seal.is_late) {
            self.reached = self.reached.max(*first);
        }
        let mut ids: Vec<(Uuid, Hash)> =
            seal.event_ids.iter().copied().zip(seal.leaves.iter().copied()).collect();
        ids.sort_unstable_by_key(|(id, _)| *id);
        let (ids, leaves) = ids.into_iter().unzip();
        let mut open = Open { n: seal.n, ids, leaves, at: 0, missing: Vec::new() };
        // what has gone by already is among the strays, or nowhere
        while let Some(id) =
            open.ids.get(open.at).copied().filter(|id| self.position.is_some_and(|p| *id <= p))
        {
            self.claim(&mut open, id);
            open.at += 1;
        }
        match open.at == open.ids.len() {
            true => self.close(open),
            false => self.open.push(open),
        }
    }

    /// A seal claims an event that was read before.
    fn claim(&mut self, open: &mut Open, id: Uuid) {
        let (n, expected) = (open.n, open.leaves[open.at]);
        let Some(stray) = self.strays.get_mut(&id) else { return open.missing.push(id) };
        let (is_same, before) = (stray.leaf == expected, stray.claimed_by.replace(n));
        if let Some(before) = before {
            let message = format!("the event {id} is in the seals {before} and {n}");
            return self.tell(FindingKind::Doubled, Some(id), Some(n), message);
        }
        self.report.verified += u64::from(is_same);
        if !is_same {
            let message = format!("the event {id} is not what seal {n} holds");
            self.tell(FindingKind::Altered, Some(id), Some(n), message);
        }
    }

    fn judge_chain(&mut self, seal: &Seal) {
        let (last_n, last_hash, last_total) = self.last.unwrap_or((0, NO_SEAL, 0));
        let (n, hash) = (seal.n, seal.said().hash());
        if n > last_n + 1 {
            let which = if n == last_n + 2 {
                format!("seal {}", n - 1)
            } else {
                format!("seals {} to {}", last_n + 1, n - 1)
            };
            let message = format!("{which} not there, before seal {n}");
            self.tell(FindingKind::MissingSeal, None, Some(last_n + 1), message);
        } else if n <= last_n || seal.prev_hash != last_hash {
            let message = format!("seal {n} does not follow from the one before it");
            self.tell(FindingKind::BrokenChain, None, Some(n), message);
        } else if seal.total != last_total + i64::from(seal.count) {
            let message = format!("seal {n} says {} events in all, and it is not so", seal.total);
            self.tell(FindingKind::BrokenChain, None, Some(n), message);
        }
        self.last = Some((n, hash, seal.total));
        let wrong: Vec<i64> = self
            .heads
            .iter()
            .filter(|h| h.n == n && parse_hash(&h.hash) != Some(hash))
            .map(|h| h.n)
            .collect();
        if !wrong.is_empty() {
            let message = format!("seal {n} is not the one that the head was taken of");
            self.tell(FindingKind::Rewritten, None, Some(n), message);
        }
    }

    fn judge_seal(&mut self, seal: &Seal) {
        let n = seal.n;
        let statement = seal.statement();
        let forged =
            |what: &str| Some((FindingKind::ForgedSeal, format!("seal {n} is not what was signed: {what}")));
        let problem = if seal.project != self.project {
            forged("it is another project's")
        } else if seal.is_shuffled() {
            Some((FindingKind::Reordered, format!("seal {n} lists its events in another order")))
        } else if crate::json::sha256(&statement) != seal.hash {
            forged("a column was changed")
        } else if !seal.fits_itself() {
            forged("its events do not make its root")
        } else if !self.keys.knows(&seal.key_id) {
            forged("no key of this id is known")
        } else if !self.keys.verify(&seal.key_id, &statement, &seal.signature) {
            forged("the signature is not the key's")
        } else {
            None
        };
        if let Some((kind, message)) = problem {
            self.tell(kind, None, Some(n), message);
        }
    }

    /// Takes the next event, in the order of ids. `line` is what is hashed; `is_genuine` judges the writer's
    /// MAC and is asked only of an event without a seal: `None` where the key is not at hand.
    pub fn event(&mut self, event: &Event<'_>, line: &[u8], is_genuine: impl FnOnce() -> Option<bool>) {
        self.report.events += 1;
        let (id, leaf) = (event.id, merkle::leaf(line));
        self.position = Some(id);
        let mut holders: Vec<(i64, Hash)> = Vec::with_capacity(1);
        let mut closed = Vec::new();
        for (place, open) in self.open.iter_mut().enumerate() {
            while open.ids.get(open.at).is_some_and(|next| *next < id) {
                open.missing.push(open.ids[open.at]);
                open.at += 1;
            }
            if open.ids.get(open.at) == Some(&id) {
                holders.push((open.n, open.leaves[open.at]));
                open.at += 1;
            }
            if open.at == open.ids.len() {
                closed.push(place);
            }
        }
        // from the back, so that places stay right, and told from the front
        let mut done: Vec<Open> = closed.into_iter().rev().map(|place| self.open.remove(place)).collect();
        while let Some(open) = done.pop() {
            self.close(open);
        }
        for pair in holders.windows(2) {
            let (first, n) = (pair[0].0, pair[1].0);
            let message = format!("the event {id} is in the seals {first} and {n}");
            self.tell(FindingKind::Doubled, Some(id), Some(n), message);
        }
        match holders.first() {
            Some(&(n, expected)) => self.compare(event, leaf, expected, n),
            None => self.stray(event, leaf, is_genuine()),
        }
    }

    fn compare(&mut self, event: &Event<'_>, leaf: Hash, expected: Hash, n: i64) {
        if leaf == expected && event.project == self.project {
            self.report.verified += 1;
            self.notice_expiry(event);
        } else if self.changed.len() < COMPARED {
            self.changed.push(Changed { event: event.clone().into_owned(), expected, n });
        } else {
            let message = format!("the event {} is not what seal {n} holds", event.id);
            self.tell(FindingKind::Altered, Some(event.id), Some(n), message);
        }
    }

    fn stray(&mut self, event: &Event<'_>, leaf: Hash, is_genuine: Option<bool>) {
        if is_genuine == Some(true) {
            self.notice_expiry(event);
        }
        if self.strays.len() >= MOST_STRAYS {
            self.more_strays += 1;
            return;
        }
        let at_us = id_time_us(event.id);
        self.strays.insert(event.id, Stray { leaf, is_genuine, at_us, claimed_by: None });
    }

    /// A record of what expired, believed only from an event that is proved otherwise.
    fn notice_expiry(&mut self, event: &Event<'_>) {
        if event.action == EXPIRE
            && let Ok(body) = serde_json::from_str::<serde_json::Value>(&event.body)
        {
            let through = body["through_seal"].as_i64().unwrap_or(0);
            self.report.expired_through = self.report.expired_through.max(through);
        }
    }

    /// Every event of a seal has gone by.
    fn close(&mut self, open: Open) {
        if open.missing.is_empty() {
            return;
        }
        let (n, events) = (open.n, open.missing.len() as u64);
        if open.missing.len() < open.ids.len() {
            self.gone.push(Gone { n, ids: open.missing });
            return;
        }
        match self.emptied.last_mut() {
            Some(last) if last.to + 1 == n => {
                last.to = n;
                last.events += events;
            }
            _ => self.emptied.push(Emptied { from: n, to: n, events }),
        }
    }

    /// The end of both streams: tells what only the whole shows, and how it all came out.
    pub fn finish(mut self) -> (Vec<Tampering>, Report) {
        for mut open in std::mem::take(&mut self.open) {
            open.missing.extend_from_slice(&open.ids[open.at..]);
            self.close(open);
        }
        self.judge_changed();
        self.judge_gone();
        self.judge_strays();
        let last = self.last;
        let beyond: Vec<i64> =
            self.heads.iter().map(|h| h.n).filter(|n| last.is_none_or(|(l, _, _)| *n > l)).collect();
        if let Some(n) = beyond.iter().max() {
            let at = last.map_or(0, |(n, _, _)| n);
            let message = format!("a head was taken of seal {n}, and the last one is {at}");
            self.tell(FindingKind::Truncated, None, Some(*n), message);
        }
        self.report.last_seal = last.map_or(0, |(n, _, _)| n);
        self.report.last_hash = last.map(|(_, hash, _)| crate::json::hex(&hash));
        (self.found, self.report)
    }

    /// Altered events: is the content of one that of another?
    fn judge_changed(&mut self) {
        let changed = std::mem::take(&mut self.changed);
        for one in &changed {
            let id = one.event.id;
            let moved = changed.iter().find(|other| {
                other.event.id != id && Event { id, ..other.event.clone() }.leaf() == one.expected
            });
            let (kind, message) = match moved {
                Some(other) => {
                    let under = other.event.id;
                    (FindingKind::Reordered, format!("the content of the event {id} stands under {under}"))
                }
                None => (FindingKind::Altered, format!("the event {id} is not what seal {} holds", one.n)),
            };
            self.tell(kind, Some(id), Some(one.n), message);
        }
    }

    fn judge_gone(&mut self) {
        let through = self.report.expired_through;
        for gone in std::mem::take(&mut self.gone) {
            if gone.n <= through {
                self.report.expired += gone.ids.len() as u64;
                continue;
            }
            for id in gone.ids {
                let message = format!("the event {id} of seal {} is gone", gone.n);
                self.tell(FindingKind::Missing, Some(id), Some(gone.n), message);
            }
        }
        for mut gone in std::mem::take(&mut self.emptied) {
            if gone.to <= through {
                self.report.expired += gone.events;
                continue;
            }
            gone.from = gone.from.max(through + 1);
            let which = match gone.from == gone.to {
                true => format!("all events of seal {}", gone.to),
                false => format!("all events of the seals {} to {}", gone.from, gone.to),
            };
            self.tell(FindingKind::Missing, None, Some(gone.from), format!("{which} are gone"));
        }
    }

    fn judge_strays(&mut self) {
        let now = self.now_us.max(self.newest_sealed_at_us);
        let mut left: Vec<(Uuid, Stray)> =
            std::mem::take(&mut self.strays).into_iter().filter(|(_, s)| s.claimed_by.is_none()).collect();
        left.sort_unstable_by_key(|(id, _)| *id);
        for (id, stray) in left {
            let is_over = stray.at_us < now.saturating_sub(WINDOW_US);
            let finding = match (stray.is_genuine, is_over) {
                (Some(false), _) => Some((FindingKind::Added, "was not written by a server with the key")),
                (None, true) => Some((FindingKind::Added, "is in no seal, though the time for it is over")),
                (Some(true), true) => {
                    Some((FindingKind::Unsealed, "is in no seal, though the time for it is over"))
                }
                (_, false) => None,
            };
            if let Some((kind, what)) = finding {
                self.tell(kind, Some(id), None, format!("the event {id} {what}"));
            }
            if stray.is_genuine != Some(false) {
                self.report.unsealed += 1;
                let oldest = self.report.oldest_unsealed_at_us.get_or_insert(stray.at_us);
                *oldest = (*oldest).min(stray.at_us);
            }
        }
        if self.more_strays > 0 {
            let message = format!("{} further events that no seal holds", self.more_strays);
            self.tell(FindingKind::Added, None, None, message);
        }
    }
}
