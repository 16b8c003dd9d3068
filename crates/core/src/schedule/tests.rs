//! Times of schedules, through the changes of clocks and through downtimes.

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The times after `after`, as the zone's clock and its distance from UTC show them.
fn check(cron: &str, zone: &str, after: &str, expected: &[&str]) {
    let table = Timetable::parse(cron, zone).unwrap();
    let mut now = at(after);
    let mut found = Vec::new();
    for _ in expected {
        now = table.next_after(now).unwrap();
        found.push(now.to_zoned(table.zone.clone()).strftime("%m-%dT%H:%M%:z").to_string());
    }
    assert_eq!(found, expected, "{cron} in {zone}");
}

#[test]
fn a_time_that_does_not_exist_fires_at_the_first_moment_after_the_gap() {
    let after = "2026-03-28T12:00:00Z";
    check("30 2 * * *", "Europe/Berlin", after, &["03-29T03:00+02:00", "03-30T02:30+02:00"]);
    // two times in the gap, and the one after it, are one moment
    check(
        "0,30 2,3 * * *",
        "Europe/Berlin",
        after,
        &["03-29T03:00+02:00", "03-29T03:30+02:00", "03-30T02:00+02:00"],
    );
    check(
        "15 2,14 * * *",
        "America/New_York",
        "2026-03-08T00:00:00Z",
        &["03-08T03:00-04:00", "03-08T14:15-04:00"],
    );
    // a gap at midnight, and one of half an hour
    check("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00:00Z", &["04-24T01:00+03:00", "04-25T00:00+03:00"]);
    check(
        "10 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T12:00:00Z",
        &["10-04T02:30+11:00", "10-05T02:10+11:00"],
    );
}

#[test]
fn a_time_that_exists_twice_fires_once() {
    let after = "2026-10-24T12:00:00Z";
    check("30 2 * * *", "Europe/Berlin", after, &["10-25T02:30+02:00", "10-26T02:30+01:00"]);
    check(
        "*/30 1-3 * * *",
        "America/New_York",
        "2026-11-01T04:00:00Z",
        &["11-01T01:00-04:00", "11-01T01:30-04:00", "11-01T02:00-05:00", "11-01T02:30-05:00"],
    );
    // asked within the second of both hours
    check("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", &["10-26T02:30+01:00"]);
}

#[test]
fn what_names_no_hour_goes_by_elapsed_time() {
    check(
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-10-25T00:00:00Z",
        &["10-25T02:30+02:00", "10-25T02:00+01:00", "10-25T02:30+01:00", "10-25T03:00+01:00"],
    );
    check(
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-03-29T00:00:00Z",
        &["03-29T01:30+01:00", "03-29T03:00+02:00"],
    );
}

#[test]
fn a_zone_without_changes_and_the_days_of_a_line_are_plain() {
    check("30 2 * * *", "Asia/Taipei", "2026-03-28T12:00:00Z", &["03-29T02:30+08:00", "03-30T02:30+08:00"]);
    check("0 9 * * MON-FRI", "Asia/Taipei", "2026-05-01T02:00:00Z", &["05-04T09:00+08:00"]);
    // a day of the month or a day of the week, where both are given
    check("0 0 13 * 5", "UTC", "2026-05-01T12:00:00Z", &["05-08T00:00+00:00", "05-13T00:00+00:00"]);
    check("0 0 29 2 *", "UTC", "2026-05-01T12:00:00Z", &["02-29T00:00+00:00"]);
    check("59 23 L * *", "UTC", "2026-02-01T12:00:00Z", &["02-28T23:59+00:00"]);
}

#[test]
fn what_is_no_cron_line_or_no_zone_is_told_so() {
    let told = |cron: &str, zone: &str| Timetable::parse(cron, zone).unwrap_err();
    for bad in [
        "",
        "* * * *",
        "0 0 * * * *",
        "@daily",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "a * * * *",
        "0 0 30 2 *",
    ] {
        assert!(matches!(told(bad, "UTC"), TimetableError::Cron(_)), "{bad}");
    }
    assert!(told("* * * *", "UTC").to_string().contains("five fields"));
    for bad in ["", "Berlin", "Europe/Berlin2", "+01:00", "CEST", "../UTC"] {
        assert_eq!(told("* * * * *", bad), TimetableError::Zone, "{bad}");
    }
}

fn times(due: &Due) -> Vec<String> {
    due.fire.iter().map(|at| at.strftime("%dT%H:%M").to_string()).collect()
}

#[test]
fn a_time_that_has_just_come_fires_whatever_the_policy() {
    let table = Timetable::parse("0 * * * *", "UTC").unwrap();
    for policy in [CatchUp::Skip, CatchUp::Last, CatchUp::All] {
        assert_eq!(table.due(at("2026-05-01T10:00:00Z"), at("2026-05-01T09:59:59.999Z"), policy), None);
        let due = table.due(at("2026-05-01T10:00:00Z"), at("2026-05-01T10:00:41Z"), policy).unwrap();
        assert_eq!(
            (times(&due), due.is_missed, due.next_at),
            (vec!["01T10:00".into()], false, at("2026-05-01T11:00:00Z"))
        );
    }
}

#[test]
fn what_was_missed_is_left_out_stands_for_all_or_is_made_up() {
    let table = Timetable::parse("0 * * * *", "UTC").unwrap();
    let due = |now: &str, policy| table.due(at("2026-05-01T10:00:00Z"), at(now), policy).unwrap();
    let skipped = due("2026-05-01T13:30:00Z", CatchUp::Skip);
    assert_eq!((times(&skipped), skipped.is_missed), (vec![], true));
    assert_eq!(skipped.next_at, at("2026-05-01T14:00:00Z"));
    // back just after a time: that one is no missed one
    assert_eq!(times(&due("2026-05-01T13:00:10Z", CatchUp::Skip)), ["01T13:00"]);
    let last = due("2026-05-01T13:30:00Z", CatchUp::Last);
    assert_eq!((times(&last), last.is_missed), (vec!["01T13:00".into()], true));
    let all = due("2026-05-01T13:30:00Z", CatchUp::All);
    assert_eq!((times(&all).len(), times(&all)[0].as_str(), all.is_missed), (4, "01T10:00", false));
    let bounded = due("2026-05-04T13:30:00Z", CatchUp::All);
    assert_eq!((bounded.fire.len(), bounded.is_missed), (MOST_CAUGHT_UP, true));
    assert_eq!((times(&bounded)[0].as_str(), times(&bounded)[23].as_str()), ("03T14:00", "04T13:00"));
}

#[test]
fn years_without_a_server_are_counted_backwards() {
    let table = Timetable::parse("* * * * *", "Europe/Berlin").unwrap();
    let due = table.due(at("2006-05-01T10:00:00Z"), at("2026-05-01T10:00:30Z"), CatchUp::All).unwrap();
    assert_eq!((due.fire.len(), due.fire[23]), (MOST_CAUGHT_UP, at("2026-05-01T10:00:00Z")));
    let yearly = Timetable::parse("0 0 1 1 *", "UTC").unwrap();
    let due = yearly.due(at("2020-01-01T00:00:00Z"), at("2026-05-01T10:00:30Z"), CatchUp::All).unwrap();
    assert_eq!((due.fire.len(), due.is_missed), (7, false));
}
