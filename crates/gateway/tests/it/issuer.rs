//! Tokens against an issuer that is strict, and against one that is not: what is forged, what is another's, what is
//! too old, and what an issuer can do to us.

use std::time::{Duration, Instant};

use awooop_core::ProjectId;
use awooop_core::role::Role;
use awooop_gateway::issuer::{Issuer, Pace, ProveError};
use awooop_gateway::{HostRules, Operator};
use awooop_journeys::fixture_issuer::{Behaviour, FixtureIssuer};
use awooop_store::Clock;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};

/// An issuer asked again at once, and kept for an hour.
const EAGER: Pace = Pace {
    fresh: Duration::from_secs(300),
    keep: Duration::from_secs(3600),
    floor: Duration::ZERO,
    patience: Duration::from_secs(5),
};

fn operator(fixture: &FixtureIssuer) -> Operator {
    let mut list = Operator { sign_in: Some(fixture.settings()), ..Operator::default() };
    let groups = [("ops".to_owned(), Role::Operator), ("leads".to_owned(), Role::Approver)];
    let rules = HostRules { groups: groups.into(), ..HostRules::default() };
    list.projects.insert(ProjectId::parse("shop").unwrap(), rules);
    list.validate().unwrap();
    list
}

fn issuer(fixture: &FixtureIssuer, pace: Pace) -> Issuer {
    Issuer::with(&operator(fixture), Clock::system(), pace).unwrap()
}

async fn refused(issuer: &Issuer, token: &str) {
    let found = issuer.prove(token).await.map(|proven| proven.subject().to_owned());
    assert_eq!(found, Err(ProveError::Refused), "{token}");
}

#[tokio::test]
async fn a_token_proves_a_person_and_their_groups_roles() {
    let fixture = FixtureIssuer::start().await.unwrap();
    let issuer = issuer(&fixture, EAGER);
    let proven = issuer.prove(&fixture.token("7", &["ops", "leads", "cooks"])).await.unwrap();
    assert_eq!((proven.subject(), proven.person().as_str()), ("7", proven.principal().as_str()));
    let shop = ProjectId::parse("shop").unwrap();
    assert_eq!(proven.projects()[&shop].to_string(), "operator, approver");
    let one = issuer.prove(&fixture.token_with(json!({"groups": "ops"}))).await.unwrap();
    assert_eq!(one.projects()[&shop].to_string(), "operator");
    for nowhere in [json!({"groups": null}), json!({"groups": []}), json!({"groups": "ops leads"})] {
        assert!(issuer.prove(&fixture.token_with(nowhere)).await.unwrap().projects().is_empty());
    }
    assert_eq!(fixture.asked(), 2, "its document and its keys, once");
}

#[tokio::test]
async fn a_token_that_is_not_the_issuer_s_or_not_for_us_is_refused() {
    let (fixture, stranger) = (FixtureIssuer::start().await.unwrap(), FixtureIssuer::start().await.unwrap());
    let issuer = issuer(&fixture, EAGER);
    let now = Clock::system().now().as_second();
    refused(&issuer, &stranger.token_with(json!({"iss": fixture.url()}))).await;
    for changes in [
        json!({"iss": stranger.url()}),
        json!({"aud": "awooop-cli"}),
        json!({"aud": null}),
        json!({"azp": "another"}),
        json!({"exp": now - 60}),
        json!({"nbf": now + 3600}),
        json!({"iat": now + 3600}),
        json!({"iat": now - 86_400, "exp": now + 86_400}),
        json!({"sub": null}),
        json!({"nonce": "an ID token has one"}),
        json!({"typ": "ID"}),
        json!({"cnf": {"jkt": "another's"}}),
        json!({"groups": {"ops": true}}),
    ] {
        refused(&issuer, &fixture.token_with(changes)).await;
    }
}

#[tokio::test]
async fn a_header_that_is_a_trick_is_refused() {
    let fixture = FixtureIssuer::start().await.unwrap();
    let issuer = issuer(&fixture, EAGER);
    let (kid, claims) = (fixture.kid(), fixture.claims().to_string());
    let good = json!({"alg": "EdDSA", "kid": kid});
    issuer.prove(&fixture.sign(&good, &claims)).await.unwrap();
    let asked = fixture.asked();
    let trick = format!("{}/keys", fixture.url());
    for header in [
        json!({"alg": "none", "kid": kid}),
        json!({"alg": "NONE", "kid": kid}),
        json!({"alg": "HS256", "kid": kid}),
        json!({"alg": "RS512", "kid": kid}),
        json!({"alg": ["EdDSA"], "kid": kid}),
        json!({"kid": kid}),
        json!({"alg": "EdDSA", "kid": 7}),
        json!({"alg": "EdDSA", "kid": "k".repeat(257)}),
        json!({"alg": "EdDSA", "kid": kid, "typ": "id+jwt"}),
        json!({"alg": "EdDSA", "kid": kid, "typ": "logout+jwt"}),
        json!({"alg": "EdDSA", "kid": kid, "jku": trick}),
        json!({"alg": "EdDSA", "kid": kid, "x5u": trick}),
        json!({"alg": "EdDSA", "kid": kid, "jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AA"}}),
        json!({"alg": "EdDSA", "kid": kid, "crit": ["b64"], "b64": false}),
    ] {
        refused(&issuer, &fixture.sign(&header, &claims)).await;
    }
    assert_eq!(fixture.asked(), asked, "nobody was asked for keys because of them");
    for kid in
        ["../../etc/passwd", "/dev/null", "' OR 1=1 --", "key-0\u{0}", "KEY-0", "", "http://127.0.0.1/"]
    {
        refused(&issuer, &fixture.sign(&json!({"alg": "EdDSA", "kid": kid}), &claims)).await;
        refused(&issuer, &fixture.sign(&json!({"alg": "RS256", "kid": kid}), &claims)).await;
    }
}

#[tokio::test]
async fn the_public_key_is_no_shared_secret() {
    let fixture = FixtureIssuer::start().await.unwrap();
    // any odd number of 2048 bits does for a key nobody has the other half of
    let modulus: Vec<u8> = (0..256).map(|i| (i * 7 + 129) as u8 | 1).collect();
    let n = URL_SAFE_NO_PAD.encode(&modulus);
    fixture.show_key(json!({"kty": "RSA", "kid": "rsa", "alg": "RS256", "n": n, "e": "AQAB"}));
    fixture.show_key(json!({"kty": "oct", "kid": "shared", "alg": "HS256", "k": n}));
    let issuer = issuer(&fixture, EAGER);
    issuer.prove(&fixture.token("1", &[])).await.unwrap();
    for (kid, secret) in [("rsa", modulus.clone()), ("rsa", n.clone().into_bytes()), ("shared", modulus)] {
        for alg in ["HS256", "RS256", "none"] {
            let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "kid": kid}).to_string());
            let claims = URL_SAFE_NO_PAD.encode(fixture.claims().to_string());
            let signed = format!("{header}.{claims}");
            let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&secret).unwrap();
            mac.update(signed.as_bytes());
            let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
            refused(&issuer, &format!("{signed}.{signature}")).await;
            refused(&issuer, &format!("{signed}.")).await;
            refused(&issuer, &signed).await;
        }
    }
}

#[tokio::test]
async fn text_that_is_no_token_is_refused_without_asking_anybody() {
    let fixture = FixtureIssuer::start().await.unwrap();
    let issuer = issuer(&fixture, EAGER);
    let good = fixture.token("1", &["ops"]);
    let [header, claims, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let huge = fixture.token_with(json!({"groups": vec!["g".repeat(20); 1000]}));
    assert!(huge.len() > 16 * 1024);
    for text in [
        "",
        ".",
        "..",
        "a.b.c",
        &format!("{header}.{claims}"),
        &format!("{header}.{claims}.{signature}.{signature}"),
        &format!("{header}.{claims}.{signature}="),
        &format!("{header} .{claims}.{signature}"),
        &format!("{claims}.{claims}.{signature}"),
        &huge,
        &"x".repeat(1_000_000),
    ] {
        refused(&issuer, text).await;
    }
    assert_eq!(fixture.asked(), 0);
    let other = if signature.starts_with('A') { "B" } else { "A" };
    for text in [
        format!("{header}.{claims}.{other}{}", &signature[1..]),
        format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(fixture.claims().to_string())),
        fixture.sign(&json!({"alg": "EdDSA", "kid": fixture.kid()}), "[]"),
        fixture.sign(&json!({"alg": "EdDSA", "kid": fixture.kid()}), "{"),
    ] {
        refused(&issuer, &text).await;
    }
}

#[tokio::test]
async fn a_claim_that_stands_twice_is_refused_whichever_would_be_taken() {
    let fixture = FixtureIssuer::start().await.unwrap();
    let issuer = issuer(&fixture, EAGER);
    let header = json!({"alg": "EdDSA", "kid": fixture.kid()});
    let claims = fixture.claims().to_string();
    let with = |more: &str| format!("{{{more},{}", &claims[1..]);
    issuer.prove(&fixture.sign(&header, &with(r#""more":1"#))).await.unwrap();
    for more in [r#""sub":"admin""#, r#""sub":"1""#, r#""aud":"awooop""#, r#""s\u0075b":"admin""#] {
        refused(&issuer, &fixture.sign(&header, &with(more))).await;
    }
    let twice = format!(r#"{{"alg":"EdDSA","alg":"EdDSA","kid":"{}"}}"#, fixture.kid());
    let text = format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(twice), URL_SAFE_NO_PAD.encode(&claims));
    refused(&issuer, &text).await;
}

#[tokio::test]
async fn a_new_key_of_the_issuer_is_found_and_a_former_one_counts_no_more() {
    let fixture = FixtureIssuer::start().await.unwrap();
    let issuer = issuer(&fixture, EAGER);
    let before = fixture.token("1", &["ops"]);
    issuer.prove(&before).await.unwrap();
    fixture.rotate();
    issuer.prove(&fixture.token("1", &["ops"])).await.unwrap();
    refused(&issuer, &before).await;
}

#[tokio::test]
async fn strangers_tokens_make_the_issuer_no_work() {
    let fixture = FixtureIssuer::start().await.unwrap();
    let issuer = issuer(&fixture, Pace { floor: Duration::from_secs(3600), ..EAGER });
    issuer.prove(&fixture.token("1", &["ops"])).await.unwrap();
    let asked = fixture.asked();
    let claims = fixture.claims().to_string();
    let flood = (0..200).map(|i| {
        let token = fixture.sign(&json!({"alg": "EdDSA", "kid": format!("made-up-{i}")}), &claims);
        let issuer = issuer.clone();
        async move { refused(&issuer, &token).await }
    });
    futures::future::join_all(flood).await;
    assert_eq!(fixture.asked(), asked);
    issuer.prove(&fixture.token("1", &["ops"])).await.unwrap();
}

#[tokio::test]
async fn many_first_tokens_share_one_question() {
    let fixture = FixtureIssuer::start().await.unwrap();
    fixture.behave(Behaviour::Slow(Duration::from_millis(50)));
    let issuer = issuer(&fixture, EAGER);
    let token = fixture.token("1", &["ops"]);
    let all = futures::future::join_all((0..50).map(|_| issuer.prove(&token))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(fixture.asked(), 2);
}

#[tokio::test]
async fn while_the_issuer_is_away_its_keys_go_on_for_their_time_and_no_longer() {
    let fixture = FixtureIssuer::start().await.unwrap();
    let token = fixture.token("1", &["ops"]);
    let stale = Pace { fresh: Duration::ZERO, ..EAGER };
    let lasting = issuer(&fixture, stale);
    let forgetful = issuer(&fixture, Pace { keep: Duration::ZERO, ..stale });
    let never = issuer(&fixture, EAGER);
    lasting.prove(&token).await.unwrap();
    fixture.behave(Behaviour::Down);
    for _ in 0..3 {
        lasting.prove(&token).await.unwrap();
    }
    for without in [&forgetful, &never] {
        assert_eq!(without.prove(&token).await.map(drop), Err(ProveError::Away));
        // what is no token is refused as ever
        refused(without, "nonsense").await;
    }
    fixture.behave(Behaviour::Good);
    never.prove(&token).await.unwrap();
}

#[tokio::test]
async fn an_issuer_that_misbehaves_gives_no_keys_and_takes_no_time() {
    let fixture = FixtureIssuer::start().await.unwrap();
    let token = fixture.token("1", &["ops"]);
    // a server within, which must not be asked though it would answer
    let inside = FixtureIssuer::start().await.unwrap();
    let at = |url: &str| Behaviour::KeysAt(url.to_owned());
    let port = inside.url().rsplit(':').next().unwrap().to_owned();
    let hasty = Pace { patience: Duration::from_millis(200), ..EAGER };
    for behaviour in [
        Behaviour::Down,
        Behaviour::Impostor,
        Behaviour::Slow(Duration::from_secs(60)),
        Behaviour::Redirecting(format!("{}/.well-known/openid-configuration", inside.url())),
        at(&format!("{}/keys", inside.url())),
        at(&format!("http://localhost:{port}/keys")),
        at(&format!("http://[::ffff:127.0.0.1]:{port}/keys")),
        at(&format!("http://2130706433:{port}/keys")),
        at("http://169.254.169.254/latest/meta-data"),
        at("https://10.0.0.1/keys"),
        at("file:///etc/passwd"),
        at("ftp://127.0.0.1/keys"),
        Behaviour::Keys(String::new()),
        Behaviour::Keys("[]".to_owned()),
        Behaviour::Keys(json!({"keys": []}).to_string()),
        Behaviour::Keys(" ".repeat(300 * 1024)),
    ] {
        fixture.behave(behaviour.clone());
        let began = Instant::now();
        let found = issuer(&fixture, hasty).prove(&token).await.map(drop);
        assert_eq!(found, Err(ProveError::Away), "{behaviour:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{behaviour:?}");
    }
    assert_eq!(inside.asked(), 0);
}

#[tokio::test]
async fn keys_elsewhere_are_fetched_where_the_operator_listed_the_address() {
    let (fixture, elsewhere) = (FixtureIssuer::start().await.unwrap(), FixtureIssuer::start().await.unwrap());
    fixture.behave(Behaviour::KeysAt(format!("{}/keys", elsewhere.url())));
    let mut list = operator(&fixture);
    let address = elsewhere.url().trim_start_matches("http://").to_owned();
    list.private_addresses = vec![address];
    let issuer = Issuer::with(&list, Clock::system(), EAGER).unwrap();
    let token = elsewhere.token_with(json!({"iss": fixture.url()}));
    issuer.prove(&token).await.unwrap();
}

#[test]
fn a_list_without_an_issuer_signs_nobody_in() {
    assert!(Issuer::of(&Operator::default(), Clock::system()).is_none());
    let bad: Result<Operator, _> = serde_json::from_value(json!({"sign_in": {"isuer": "https://h"}}));
    assert!(bad.is_err());
    let empty: Operator =
        serde_json::from_value(json!({"sign_in": Value::Object(Default::default())})).unwrap();
    assert!(empty.validate().is_err());
}
