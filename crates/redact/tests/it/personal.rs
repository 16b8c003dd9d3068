//! Personal data: what is found in each class, what only looks like it, and what masks do to their surroundings.

use awooop_redact::{Action, Class, Redactor, Rules};

/// The masked form of `text`, which must be the same when masked again.
fn masked(text: &str) -> String {
    let redactor = Redactor::with(Rules::everything(Action::Mask));
    let once = redactor.redact(text).text.into_owned();
    assert_eq!(redactor.redact(&once).text, once, "masking twice differs for {text}");
    once
}

fn check(text: &str, expected: &str) {
    assert_eq!(masked(text), expected, "for {text}");
}

fn stays(texts: &[&str]) {
    for text in texts {
        check(text, text);
    }
}

#[test]
fn addresses_of_mail_are_found_in_every_surrounding() {
    for (text, expected) in [
        ("write to bob.smith+news@mail.example.co.uk.", "write to [EMAIL]."),
        ("Bob <bob@example.org>, ann@example.com", "Bob <[EMAIL]>, [EMAIL]"),
        ("請寄到bob@example.org謝謝", "請寄到[EMAIL]謝謝"),
        ("信箱：王小明@例子.台灣。", "信箱：[EMAIL]。"),
        ("信箱bob@例子.台灣謝謝", "信箱[EMAIL]謝謝"),
        ("bob@xn--fsqu00a.xn--kpry57d", "[EMAIL]"),
        (r#"{"mail":"a@b.tw","n":1}"#, r#"{"mail":"[EMAIL]","n":1}"#),
        (r#"{"log":"line\nbob@example.org\n"}"#, r#"{"log":"line\n[EMAIL]\n"}"#),
        (r#""\u4fe1bob@example.org""#, r#""\u4fe1[EMAIL]""#),
        ("mailto:bob@example.org?subject=x", "mailto:[EMAIL]?subject=x"),
        ("email: bob@example.org\nname: Bob", "email: [EMAIL]\nname: Bob"),
        ("user=bob@example.org ip=203.0.113.9", "user=[EMAIL] ip=[IP_ADDRESS]"),
        ("?to=bob@example.org&x=1", "?to=[EMAIL]&x=1"),
        ("0912345678@example.org", "[EMAIL]"),
    ] {
        check(text, expected);
    }
    check("postgres://app:s3cr3t@db.example.org/shop", "postgres://app:[URL_PASSWORD]@db.example.org/shop");
    check("smtp://bob@example.org:s3cr3t@mail.example.org", "smtp://[EMAIL]:[URL_PASSWORD]@mail.example.org");
}

#[test]
fn what_only_has_the_sign_of_an_address_stays() {
    stays(&[
        "logo@2x.png icon@3x.webp",
        "ssh deploy@build-host uptime",
        "npm i react@18.2.0 left-pad@latest",
        "@app.route('/x') @Override @media",
        "git@github.com:shop/app.git ssh://git@github.com/shop/app.git",
        "https://user@example.org/ postgres://u@db.example.org/x",
        "a@b @example.org x@ y@.org name@example..org me@example.c",
        "systemctl status getty@tty1.service",
        "訂單@台北 於@例子",
    ]);
}

#[test]
fn telephone_numbers_of_taiwan_and_others_are_found() {
    for (text, expected) in [
        ("手機0912345678。", "手機[PHONE]。"),
        ("0912-345-678 or 0912 345 678", "[PHONE] or [PHONE]"),
        ("市話 (02) 2345-6789", "市話 [PHONE]"),
        ("02-23456789#123, 04-2345-6789 轉 12", "[PHONE], [PHONE]"),
        ("07-223-4567 037-223456 049-2345678 0800-000-123", "[PHONE] [PHONE] [PHONE] [PHONE]"),
        ("+886 912-345-678 +886-2-2345-6789 00886912345678", "[PHONE] [PHONE] [PHONE]"),
        (
            "+14155552671, (415) 555-2671, 415-555-2671, 1-415-555-2671 x22",
            "[PHONE], [PHONE], [PHONE], [PHONE]",
        ),
        ("+44 20 7946 0958 +49 30 901820 +33 1 42 68 53 00", "[PHONE] [PHONE] [PHONE]"),
        ("001-415-555-2671", "[PHONE]"),
        ("call 2345-6789 now", "call [PHONE] now"),
        ("tel: 5552671; fax 555-2672", "tel: [PHONE]; fax [PHONE]"),
        ("聯絡電話：23456789", "聯絡電話：[PHONE]"),
        (r#"{"phone": "23456789", "qty": 12345678}"#, r#"{"phone": "[PHONE]", "qty": 12345678}"#),
        (
            "customer:\n  mobile: 0223456789\n  id: 0223456789\n",
            "customer:\n  mobile: [PHONE]\n  id: 0223456789\n",
        ),
        ("Phone:\n0490 75 40 81\nMobile: (08) 8747 6301", "Phone:\n[PHONE]\nMobile: [PHONE]"),
        ("phone:\r\n  60-56-85-91", "phone:\r\n  [PHONE]"),
        ("desk: 5403926876, not answering at 079 2718 1155", "desk: [PHONE], not answering at [PHONE]"),
        ("+1-984-182-0190 and +1-903-140-4508x769", "[PHONE] and [PHONE]"),
        (r#""\u96fb\u8a710912345678""#, r#""\u96fb\u8a71[PHONE]""#),
    ] {
        check(text, expected);
    }
}

#[test]
fn numbers_of_other_things_are_no_telephone_numbers() {
    stays(&[
        "2026-05-04T10:20:30.123456Z took 12345 ms",
        "order 0912345678, order_id=0912345678",
        "訂單編號：0912345678",
        "call 5 of 12 at 10:30, call_id=23456789",
        "pi is 3.14159265358979, e is 2.718281828",
        "version 415.555.2671.1",
        "12345678 87654321 20260504 1714800000 1714800000123",
        "03-05-2026 02-28-2026 10:00 09-28-2026 10:11",
        "call on 2026-05-04, dial 05/04/2026",
        "\"00 61 00 74 00 65\" in early 07:00:00.123456789-04 took 13,178,002.113936031",
        "tels 2002 - 2007 +262142-12-31 +255959.999",
        "reference 4667 0063 4063 34 was booked",
        "arn:aws:iam::005612343458:role/shop",
        "phone:\n  count: 12345678\nphone: none\n12345678",
        "ISBN 978-3-16-148410-0 tel",
        "+1000 points, +08:00, a+0912345678",
        "550e8400-e29b-41d4-a716-446655440000",
        "1,234,567.89 USD 100-200-3000",
        r#"{"phone": null, "qty": 12345678}"#,
        r#"{"phone": -23456789}"#,
    ]);
}

#[test]
fn ids_of_persons_and_companies_are_found_by_their_check_digit() {
    for (text, expected) in [
        ("身分證 A123456789，謝謝", "身分證 [NATIONAL_ID]，謝謝"),
        (
            "id A123456789 and A800000014 and AC01234567",
            "id [NATIONAL_ID] and [NATIONAL_ID] and [NATIONAL_ID]",
        ),
        ("身分證字號a123456789", "身分證字號[NATIONAL_ID]"),
        (r#"{"id":"A123456789"}"#, r#"{"id":"[NATIONAL_ID]"}"#),
        ("統一編號：04595257", "統一編號：[COMPANY_NUMBER]"),
        ("公司統編 22099131 ok", "公司統編 [COMPANY_NUMBER] ok"),
        (r#"{"統編": "04595257", "qty": "04595257"}"#, r#"{"統編": "[COMPANY_NUMBER]", "qty": "04595257"}"#),
        ("tax_id: 04595257", "tax_id: [COMPANY_NUMBER]"),
    ] {
        check(text, expected);
    }
    stays(&[
        "A123456788 A323456789 XA123456789 A123456789B",
        "sku A123456789",
        "批號 A123456789 料號：A123456789 lot A123456789",
        "commit a123456789",
        "22099131 04595257",
        "統編 04595253",
        "order 22099131",
    ]);
}

#[test]
fn card_numbers_are_found_in_pieces_and_in_one() {
    for (text, expected) in [
        ("4111111111111111", "[CARD]"),
        ("card 4111 1111 1111 1111 exp 12/27", "card [CARD] exp 12/27"),
        ("5555-5555-5555-4444, 3782 822463 10005", "[CARD], [CARD]"),
        ("信用卡4111111111111111。", "信用卡[CARD]。"),
        ("pay with 4111 1111 1111 1111 123", "pay with [CARD] 123"),
        (r#"{"card":"6011111111111117"}"#, r#"{"card":"[CARD]"}"#),
        ("30569309025904 3530111333300000 6200000000000005", "[CARD] [CARD] [CARD]"),
        ("card 4222222222222", "card [CARD]"),
        ("2200123456789019 2200-1234-5678-9019", "[CARD] [CARD]"),
        ("4000123456789012343 6304123456782 501812345678901236", "[CARD] [CARD] [CARD]"),
        ("card no 180016070420458, cc 3598899323053410", "card no [CARD], cc [CARD]"),
        ("credit card 630427373398", "credit card [CARD]"),
        ("GET /cards/4111111111111111/charge", "GET /cards/[CARD]/charge"),
    ] {
        check(text, expected);
    }
    stays(&[
        "4111111111111112",
        "order 4111111111111111 order_id=4111111111111111",
        "訂單4111111111111111",
        "14836045474406130394,\n    4654005815464502513,",
        "0.4111111111111111 4111111111111111.5 x4111111111111111 4111111111111111_1",
        "4222222222222 180016070420458 3598899323053410 630427373398",
        "12345678-4111-1111-1111-111111111111",
        "4111 1111 1111 1111 1111 1111",
        "1-4111-1111-1111-1111 4111-1111-1111-1111-22",
        "https://example.org/posts/4111111111111111",
        "1714800000123456 20260504101010",
        "4111-1111 1111-1111",
    ]);
}

#[test]
fn account_numbers_are_found_in_any_case_and_grouping() {
    for (text, expected) in [
        ("GB82WEST12345698765432", "[IBAN]"),
        ("pay to GB82 WEST 1234 5698 7654 32 today", "pay to [IBAN] today"),
        ("de89370400440532013000, DE89-3704-0044-0532-0130-00.", "[IBAN], [IBAN]."),
        ("帳號FR1420041010050500013M02606。", "帳號[IBAN]。"),
        (r#"{"iban":"NO9386011117947"}"#, r#"{"iban":"[IBAN]"}"#),
        ("\"\\nGB82WEST12345698765432\\n\"", "\"\\n[IBAN]\\n\""),
    ] {
        check(text, expected);
    }
    stays(&[
        "GB82WEST12345698765433",
        "GB82WEST123456987654321",
        "XGB82WEST12345698765432",
        "US82WEST12345698765432",
        "GB82WEST1234569876543",
    ]);
}

#[test]
fn addresses_of_hosts_are_found_in_every_form() {
    for (text, expected) in [
        ("from 203.0.113.9:443 to 10.1.2.3.", "from [IP_ADDRESS]:443 to [IP_ADDRESS]."),
        ("http://192.168.1.10/x 10.0.0.0/8", "http://[IP_ADDRESS]/x [IP_ADDRESS]/8"),
        (
            "2001:db8::1, fe80::1%eth0 and [2001:db8::2]:443",
            "[IP_ADDRESS], [IP_ADDRESS] and [[IP_ADDRESS]]:443",
        ),
        ("2001:0db8:0000:0000:0000:ff00:0042:8329", "[IP_ADDRESS]"),
        ("6e40:4041:c617:e898:c11:40d2:c669:2eb4", "[IP_ADDRESS]"),
        ("::ffff:203.0.113.9 64:ff9b::203.0.113.9", "[IP_ADDRESS] [IP_ADDRESS]"),
        ("client: 8.8.8.8, 位址1.2.3.4。", "client: [IP_ADDRESS], 位址[IP_ADDRESS]。"),
        (r#"{"ip":"198.51.100.7"}"#, r#"{"ip":"[IP_ADDRESS]"}"#),
        ("addr 2001:db8::1: refused", "addr [IP_ADDRESS]: refused"),
    ] {
        check(text, expected);
    }
    stays(&[
        "0.0.0.0 127.0.0.1 ::1 :: 255.255.255.255 255.255.255.0 224.0.0.1 [::]:80 127.0.0.1:5432",
        "v1.2.3.4 1.2.3.4.5 1.2.3.4-beta pkg==1.2.3.4 Chrome/120.0.0.0 openssl-1.0.2.4 1.2.3.4.tar.gz",
        "ObjectIdentifier(\"2.5.29.18\") OID 2.5.4.6",
        "version 1.2.3.4, section 10.2.3.4, 版本 1.2.3.4",
        "256.1.1.1 01.2.3.4 1.2.3 1.2.3.4a",
        "std::fmt::Display a::b dead::beef Vec::<u8>::new() ::std",
        "10:20:30 2026-05-04T10:20:30 00:1a:2b:3c:4d:5e 00:11:22:33:44:55:66:77",
        "a:b:c:d {1:2} 1:2:3:4:5:6:7 1:2:3:4:5:6:7:8 6e40:4041:c617:e898:c11:40d2:c669:2eb4:1",
    ]);
}

#[test]
fn a_credential_names_the_mask_of_what_it_overlaps() {
    check("password=bob@example.org", "password=[SECRET]");
    check("token=bob@example.org", "token=[EMAIL]");
    check(r#"{"password": "5105105105105100"}"#, r#"{"password": "[SECRET]"}"#);
    check("secret: see bob@example.org for it", "secret: see [EMAIL] for it");
}

#[test]
fn a_class_that_is_allowed_stays() {
    let rules = Rules::everything(Action::Mask).personal(Class::Email, Action::Allow).allow("10.0.0.0/8");
    let text = "bob@example.org 10.1.2.3 11.1.2.3";
    assert_eq!(Redactor::with(rules).redact(text).text, "bob@example.org 10.1.2.3 [IP_ADDRESS]");
    let text = "bob@example.org 0912345678 A123456789 4111111111111111 GB82WEST12345698765432 203.0.113.9";
    assert_eq!(Redactor::new().redact(text).text, text);
}

#[test]
fn the_digits_of_a_tag_are_nobody_s() {
    stays(&["[PHONE:091234567890]", "phone [PHONE:123456789012] [CARD:411111111111]"]);
}

#[test]
fn an_extension_behind_a_fine_blank_belongs_to_the_number() {
    let redactor = Redactor::with(Rules::everything(Action::Mask));
    let text = redactor.redact("mobile 02\u{2010}7393\u{2010}0463\u{a0}ext.\u{a0}537, and").text.into_owned();
    assert_eq!(text, "mobile [PHONE], and");
}
