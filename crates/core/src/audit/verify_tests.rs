//! The verifier against every kind of tampering, in memory. What an attacker does to a real database is tested
//! in the store.

use ed25519_dalek::{Signer, SigningKey};
use uuid::Uuid;

use super::merkle;
use super::{EVENT_FORMAT, Event, Head, NO_SEAL, PublicKeys, Report, Seal, Tampering, Verifier, first_id_at};
use crate::json::hex;

const START_US: i64 = 1_800_000_000_000_000;

fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn keys() -> PublicKeys {
    let mut keys = PublicKeys::default();
    assert!(keys.add("k1", &hex(signing_key().verifying_key().as_bytes())));
    keys
}

/// Event number `i`, a second after the one before it.
fn event(i: u128) -> Event<'static> {
    let at_us = START_US + i64::try_from(i).unwrap() * 1_000_000;
    Event {
        action: "run.create".into(),
        actor: "shop/ana".into(),
        at_us,
        body: format!("{{\"i\":{i}}}").into(),
        id: Uuid::from_u128(first_id_at(at_us).as_u128() | i),
        key_id: "k1".into(),
        mac: vec![1],
        project: "shop".into(),
        run_id: None,
        subject: "run/x".into(),
        trace_id: None,
        format: EVENT_FORMAT.into(),
    }
}

fn sign(seal: &mut Seal) {
    seal.hash = seal.said().hash();
    seal.signature = signing_key().sign(&seal.statement()).to_bytes().to_vec();
}

fn seal(before: Option<&Seal>, events: &[Event<'_>]) -> Seal {
    let leaves: Vec<_> = events.iter().map(Event::leaf).collect();
    let count = i32::try_from(events.len()).unwrap();
    let mut seal = Seal {
        project: "shop".into(),
        n: before.map_or(1, |s| s.n + 1),
        event_ids: events.iter().map(|e| e.id).collect(),
        count,
        total: before.map_or(0, |s| s.total) + i64::from(count),
        root: merkle::root(&leaves),
        leaves,
        prev_hash: before.map_or(NO_SEAL, |s| s.hash),
        hash: NO_SEAL,
        sealed_at_us: events.last().unwrap().at_us + 1_000_000,
        is_late: false,
        key_id: "k1".into(),
        signature: vec![],
    };
    sign(&mut seal);
    seal
}

/// 30 events in 6 seals of 5.
fn site() -> (Vec<Event<'static>>, Vec<Seal>) {
    let events: Vec<_> = (0..30).map(event).collect();
    let mut seals: Vec<Seal> = Vec::new();
    for some in events.chunks(5) {
        let next = seal(seals.last(), some);
        seals.push(next);
    }
    (events, seals)
}

fn check(events: &[Event<'_>], seals: &[Seal], heads: &[Head]) -> (Vec<Tampering>, Report) {
    let keys = keys();
    let mut events: Vec<_> = events.to_vec();
    events.sort_by_key(|e| e.id);
    let heads: Vec<_> = heads.iter().map(Head::anchor).collect();
    let mut verifier = Verifier::new("shop", &keys, &heads, Some(START_US + 3_600_000_000));
    let mut seals = seals.iter();
    for event in &events {
        while verifier.needs_seal(event.id) {
            let Some(seal) = seals.next() else { break };
            verifier.seal(seal);
        }
        verifier.event(event, &event.line(), || Some(event.mac == [1]));
    }
    seals.for_each(|seal| verifier.seal(seal));
    let mut found = verifier.take_found();
    let (rest, report) = verifier.finish();
    found.extend(rest);
    assert_eq!(found.is_empty(), report.is_whole);
    (found, report)
}

fn kinds(events: &[Event<'_>], seals: &[Seal]) -> Vec<(String, Option<Uuid>, Option<i64>)> {
    let found = check(events, seals, &[]).0;
    found.into_iter().map(|f| (f.kind.as_str().to_owned(), f.event_id, f.seal)).collect()
}

fn one(kind: &str, event: Option<&Event<'_>>, seal: Option<i64>) -> Vec<(String, Option<Uuid>, Option<i64>)> {
    vec![(kind.to_owned(), event.map(|e| e.id), seal)]
}

#[test]
fn an_untouched_audit_is_whole() {
    let (events, seals) = site();
    let (found, report) = check(&events, &seals, &[seals[3].head(), seals[5].head()]);
    assert_eq!(found, vec![]);
    assert_eq!((report.events, report.verified, report.seals, report.last_seal), (30, 30, 6, 6));
    assert!(check(&[], &[], &[]).1.is_whole);
}

#[test]
fn an_altered_a_deleted_and_an_added_event_are_named() {
    let (events, seals) = site();
    let mut edited = events.clone();
    edited[7].body = "{}".into();
    assert_eq!(kinds(&edited, &seals), one("altered", Some(&events[7]), Some(2)));
    let mut fewer = events.clone();
    let gone = fewer.remove(7);
    assert_eq!(kinds(&fewer, &seals), one("missing", Some(&gone), Some(2)));
    let mut emptied = events.clone();
    emptied.drain(5..15);
    assert_eq!(kinds(&emptied, &seals), one("missing", None, Some(2)));
    for (mac, kind) in [(vec![2], "added"), (vec![1], "unsealed")] {
        let mut more = events.clone();
        more.push(Event { id: Uuid::from_u128(events[7].id.as_u128() + 1), mac, ..events[7].clone() });
        assert_eq!(kinds(&more, &seals), one(kind, more.last(), None));
    }
}

#[test]
fn two_events_that_were_exchanged_are_named_as_such() {
    let (mut events, seals) = site();
    let (one, two) = (events[3].clone(), events[21].clone());
    events[3] = Event { id: one.id, ..two.clone() };
    events[21] = Event { id: two.id, ..one.clone() };
    let found = kinds(&events, &seals);
    let named = |event: &Event<'_>, n| ("reordered".to_owned(), Some(event.id), Some(n));
    assert_eq!(found, [named(&one, 1), named(&two, 5)]);
}

#[test]
fn every_changed_member_of_a_seal_is_named() {
    let (events, seals) = site();
    let changes: [fn(&mut Seal); 12] = [
        |s| s.project = "other".into(),
        |s| s.count = 4,
        |s| s.total += 1,
        |s| s.root[0] ^= 1,
        |s| s.prev_hash[0] ^= 1,
        |s| s.hash[0] ^= 1,
        |s| s.sealed_at_us += 1,
        |s| s.is_late = true,
        |s| s.key_id = "k2".into(),
        |s| s.signature[0] ^= 1,
        |s| s.leaves[2][0] ^= 1,
        |s| s.event_ids[4] = Uuid::from_u128(s.event_ids[4].as_u128() + 1),
    ];
    for (place, change) in changes.iter().enumerate() {
        let mut seals = seals.clone();
        change(&mut seals[2]);
        let found = kinds(&events, &seals);
        assert!(found.iter().any(|f| f.0 == "forged_seal" && f.2 == Some(3)), "{place}: {found:?}");
    }
    let mut shuffled = seals.clone();
    shuffled[2].event_ids.swap(0, 1);
    shuffled[2].leaves.swap(0, 1);
    let found = kinds(&events, &shuffled);
    assert!(found.iter().any(|f| f.0 == "reordered" && f.2 == Some(3)), "{found:?}");
}

#[test]
fn seals_that_are_gone_exchanged_or_chained_anew_are_named() {
    let (events, seals) = site();
    let mut fewer = seals.clone();
    fewer.remove(2);
    let found = kinds(&events, &fewer);
    assert_eq!(found[0], ("missing_seal".to_owned(), None, Some(3)));
    assert_eq!(found.iter().filter(|f| f.0 == "unsealed").count(), 5);
    let mut swapped = seals.clone();
    (swapped[1].n, swapped[2].n) = (3, 2);
    swapped.swap(1, 2);
    assert!(kinds(&events, &swapped).iter().filter(|f| f.0 == "forged_seal").count() >= 2);
    // whoever has no key can make hashes fit, and no signature
    let mut chained = seals.clone();
    let mut edited = events.clone();
    edited[12].body = "{}".into();
    chained[2].leaves[2] = edited[12].leaf();
    chained[2].root = merkle::root(&chained[2].leaves);
    for i in 2..6 {
        chained[i].prev_hash = chained[i - 1].hash;
        chained[i].hash = chained[i].said().hash();
    }
    let found = kinds(&edited, &chained);
    assert_eq!(found.iter().filter(|f| f.0 == "forged_seal").count(), 4, "{found:?}");
}

#[test]
fn what_was_cut_off_shows_against_a_head() {
    let (events, seals) = site();
    let head = seals[5].head();
    let found = check(&events[..20], &seals[..4], std::slice::from_ref(&head)).0;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind.as_str(), "truncated");
    // and so does another end, however well it was signed
    let mut other = seals[..4].to_vec();
    other.push(seal(Some(&seals[3]), &events[20..22]));
    other.push(seal(other.last(), &events[22..30]));
    let found = check(&events, &other, &[head]).0;
    assert_eq!(found.iter().map(|f| f.kind.as_str()).collect::<Vec<_>>(), ["rewritten"]);
}

#[test]
fn late_events_are_found_in_the_seal_that_came_later() {
    let (events, _) = site();
    let mut on_time = events.clone();
    let late = on_time.remove(3);
    let mut seals: Vec<Seal> = Vec::new();
    for some in on_time.chunks(5) {
        let next = seal(seals.last(), some);
        seals.push(next);
    }
    let mut last = seal(seals.last(), std::slice::from_ref(&late));
    last.is_late = true;
    sign(&mut last);
    seals.push(last);
    let (found, report) = check(&events, &seals, &[]);
    assert_eq!((found, report.late_seals, report.verified), (vec![], 1, 30));
    // claimed twice
    let mut again = seal(seals.last(), &events[4..5]);
    again.is_late = true;
    sign(&mut again);
    seals.push(again);
    assert!(!check(&events, &seals, &[]).1.is_whole);
}

#[test]
fn what_expired_is_told_from_what_was_deleted() {
    let (mut events, mut seals) = site();
    let record = Event { action: super::EXPIRE.into(), body: r#"{"through_seal":2}"#.into(), ..event(30) };
    seals.push(seal(seals.last(), std::slice::from_ref(&record)));
    events.push(record);
    let (found, report) = check(&events[10..], &seals, &[]);
    assert_eq!((found, report.expired, report.expired_through), (vec![], 10, 2));
    let found = check(&events[15..], &seals, &[]).0;
    assert_eq!(found.iter().map(|f| (f.kind.as_str(), f.seal)).collect::<Vec<_>>(), [("missing", Some(3))]);
    // a record that nobody with the key wrote says nothing
    let last = events.len() - 1;
    events[last] = Event { body: r#"{"through_seal":3}"#.into(), ..events[last].clone() };
    let found = check(&events[15..], &seals, &[]).0;
    assert!(found.iter().any(|f| f.kind.as_str() == "missing" && f.seal == Some(1)), "{found:?}");
}

#[test]
fn a_proof_leads_from_an_event_to_a_head_and_nothing_else_does() {
    use super::{Proof, ProofProblem};
    let (events, seals) = site();
    let chain: Vec<_> = seals[2..].iter().map(Seal::said).collect();
    let proof = Proof::new(&events[8], &seals[1], chain, &keys()).unwrap();
    let head = seals[5].head();
    assert_eq!(proof.check(&keys(), Some(&head)), Ok(()));
    assert_eq!(proof.event_id(), Some(events[8].id));
    let altered = Proof { event: proof.event.replace("shop/ana", "shop/bob"), ..proof.clone() };
    assert_eq!(altered.check(&keys(), None), Err(ProofProblem::NotInSeal));
    assert_eq!(proof.check(&PublicKeys::default(), None), Err(ProofProblem::Signature));
    assert_eq!(proof.check(&keys(), Some(&seals[4].head())), Err(ProofProblem::Chain));
    assert_eq!(Proof::new(&events[8], &seals[2], vec![], &keys()), None);
}

#[test]
fn a_seal_s_line_reads_back() {
    let (_, seals) = site();
    assert_eq!(Seal::parse(seals[2].line().as_bytes()).as_ref(), Ok(&seals[2]));
    assert!(Seal::parse(b"{}").is_err());
}
