//! Properties of personal data: valid numbers are found in any surrounding, noise is not, documents stay documents.

use awooop_redact::{Action, Class, Redactor, Rules};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Digits to which `last` adds the one that makes the whole pass `is_valid`.
fn with_check_digit(digits: &str, is_valid: impl Fn(&str) -> bool) -> String {
    let all = (0..10).map(|last| format!("{digits}{last}"));
    all.into_iter().find(|number| is_valid(number)).expect("one of ten digits fits")
}

fn is_luhn(number: &str) -> bool {
    let digits = number.bytes().rev().map(|b| u32::from(b - b'0')).enumerate();
    digits.map(|(i, d)| if i % 2 == 0 { d } else { d * 2 / 10 + d * 2 % 10 }).sum::<u32>().is_multiple_of(10)
}

fn card() -> impl Strategy<Value = String> {
    ("(4[0-9]{2}|5[1-5][0-9]|353|62[0-9])[0-9]{12}", 0..3_usize).prop_map(|(digits, gap)| {
        let number = with_check_digit(&digits, is_luhn);
        let groups: Vec<&str> = (0..4).map(|n| &number[4 * n..4 * n + 4]).collect();
        groups.join(["", " ", "-"][gap])
    })
}

fn iban() -> impl Strategy<Value = String> {
    ("[A-Z]{4}[0-9]{14}", any::<bool>()).prop_map(|(account, is_spaced)| {
        let value = |text: &str| {
            text.chars().fold(0, |sum: u32, c| {
                let n = c.to_digit(36).expect("letters and digits only");
                (if n > 9 { sum * 100 } else { sum * 10 } + n) % 97
            })
        };
        let number = format!("GB{:02}{account}", 98 - value(&format!("{account}GB00")));
        let groups: Vec<&str> =
            number.as_bytes().chunks(4).map(|c| std::str::from_utf8(c).expect("ASCII")).collect();
        groups.join(if is_spaced { " " } else { "" })
    })
}

fn national_id() -> impl Strategy<Value = String> {
    "[A-H][12][0-9]{7}".prop_map(|head| {
        let weights = [8, 7, 6, 5, 4, 3, 2, 1, 1];
        with_check_digit(&head, |id| {
            let letter = u32::from(id.as_bytes()[0] - b'A') + 10;
            let sum: u32 = id.bytes().skip(1).zip(weights).map(|(d, w)| u32::from(d - b'0') * w).sum();
            (letter / 10 + letter % 10 * 9 + sum).is_multiple_of(10)
        })
    })
}

/// Values of every class that are known without a word before them.
fn personal() -> impl Strategy<Value = (Class, String)> {
    prop_oneof![
        "[a-z]{1,8}[.]?[a-z0-9]{1,8}@[a-z0-9]{1,10}[.](org|com[.]tw|xn--kpry57d)".prop_map(|v| (Class::Email, v)),
        iban().prop_map(|v| (Class::Iban, v)),
        card().prop_map(|v| (Class::Card, v)),
        national_id().prop_map(|v| (Class::NationalId, v)),
        "09[0-9]{2}-[0-9]{3}-[0-9]{3}|[(]02[)] [2-8][0-9]{3}-[0-9]{4}|[+]886 9[0-9]{8}|[+]1 [2-9][0-9]{2} [2-9][0-9]{2} [0-9]{4}"
            .prop_map(|v| (Class::Phone, v)),
        any::<[u8; 3]>().prop_map(|[a, b, c]| (Class::IpAddress, format!("198.{a}.{b}.{c}"))),
        any::<[u16; 7]>().prop_map(|g| {
            (Class::IpAddress, std::net::Ipv6Addr::new(0x2001, g[0], g[1], g[2], g[3], g[4], g[5], g[6]).to_string())
        }),
    ]
}

/// A document with strings and numbers in it that may be personal data.
fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        card().prop_map(|text| text.parse::<u64>().map_or(json!(text), Value::from)),
        (900_000_000..999_999_999_u64).prop_map(Value::from),
        personal().prop_map(|(_, text)| json!(text)),
        "[ -~]{0,12}|[,:\\[{\"' 0-9\\\\n]{0,20}|: 4111111111111111|, 0912345678".prop_map(Value::from),
    ];
    let key = || "[a-z]{1,5}|phone|\"|電話|a:|card";
    let tree = leaf.prop_recursive(3, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-z]{1,5}|phone|\"|電話|a:|card", tree, 1..5)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// Whether `b` is `a` with some strings and numbers masked: the same shape, keys and values otherwise.
fn is_masked_form(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_masked_form(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|((ka, a), (kb, b))| (ka == kb || kb.contains('[')) && is_masked_form(a, b))
        }
        (Value::Number(_) | Value::String(_), Value::String(mask)) if a != b => {
            mask.contains('[') && mask.contains(']')
        }
        _ => a == b,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn personal_data_is_found_in_any_surrounding(
        (class, value) in personal(),
        before in "[bgjkqwzBGJ ]{0,20}|[\u{4e00}-\u{4eff}]{0,9}",
        (open, close) in prop::sample::select(vec![(" ", " "), ("\n", "\n"), (" \"", "\","), ("（", "）"), ("： ", "。"), ("\"\\n", "\\n\""), (" <", ">")]),
        after in "[bgjkqwzBGJ ]{0,20}|[\u{4e00}-\u{4eff}]{0,9}",
    ) {
        let text = format!("{before}{open}{value}{close}{after}");
        let redactor = Redactor::with(Rules::everything(Action::Mask));
        let once = redactor.redact(&text);
        prop_assert!(!once.text.contains(&value), "{class} {text} -> {}", once.text);
        prop_assert_eq!(&redactor.redact(&once.text).text, &once.text);
        let only = Redactor::with(Rules::credentials().personal(class, Action::Mask)).redact(&text).findings;
        prop_assert!(only.iter().any(|f| f.class == class && &text[f.start..f.end] == value.as_str()), "{text}: {only:?}");
    }

    #[test]
    fn documents_stay_documents_and_only_finds_change(value in document(), is_pretty in any::<bool>()) {
        let text = if is_pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        // As it is read back: a float may print as another.
        let value: Value = serde_json::from_str(&text).unwrap();
        let redactor = Redactor::with(Rules::everything(Action::Mask));
        let redacted = redactor.redact(&text);
        prop_assert_eq!(redacted.findings.is_empty(), matches!(redacted.text, std::borrow::Cow::Borrowed(_)));
        let masked: Value = serde_json::from_str(&redacted.text).map_err(|e| TestCaseError::fail(format!("{e}: {} of {text}", redacted.text)))?;
        prop_assert!(is_masked_form(&value, &masked), "{text} -> {}", redacted.text);
        let mut in_place = value.clone();
        redactor.redact_json(&mut in_place);
        prop_assert!(is_masked_form(&value, &in_place), "{value} -> {in_place}");
    }
}

/// Of numbers that are nobody's hardly any is taken for a person's: ids, amounts, times, versions, in the usual forms.
#[test]
fn noise_of_digits_is_almost_never_personal_data() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let redactor = Redactor::with(Rules::everything(Action::Mask));
    let (mut found, total) = (0, 12_000);
    for n in 0..total {
        let digits = next();
        let text = match n % 8 {
            0 => format!("order_id={:016}", digits % 10_u64.pow(16)),
            1 => format!("order {:010} shipped", digits % 10_u64.pow(10)),
            2 => format!("{:08}", digits % 10_u64.pow(8)),
            3 => format!("took {}.{} ms", digits % 1000, digits % 1_000_003),
            4 => format!("{:012}", digits % 10_u64.pow(12)),
            5 => format!("{{\"id\":{}, \"n\":{}}}", digits >> 1, digits % 10_007),
            6 => format!(
                "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
                digits as u32,
                digits % 65_521,
                digits % 4093,
                digits % 4091,
                digits >> 16
            ),
            _ => format!(
                "v{}.{}.{} at 17{:08}",
                digits % 10,
                digits % 30,
                digits % 100,
                digits % 10_u64.pow(8)
            ),
        };
        found += usize::from(!redactor.redact(&text).findings.is_empty());
    }
    assert!(found * 500 < total, "{found} of {total}");
}
