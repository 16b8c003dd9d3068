//! What the words before a number say about it: `tel`, `統編`, `order`.
//!
//! Only the nearest listed word counts, only on the same line and within [`LOOK_BACK`] bytes before the number, so a
//! stream can keep that much and be as wise as one who has the whole text. Of `{"phone":…}` and `phone=` the name is
//! such a word. A value that stands alone, such as a JSON string, brings its member's key with it.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::LOOK_BACK;
use crate::mask::mask_len;
use crate::scan::Scanner;
use crate::work;

/// What a word says that a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// A telephone number.
    Phone,
    /// A company's number.
    Company,
    /// A person's id.
    NationalId,
    /// A payment card.
    Card,
    /// A version or a section.
    Version,
    /// A number of a thing.
    Thing,
    /// Some id, maybe a person's.
    Id,
}

const WORDS: &[(Topic, &[&str])] = &[
    (
        Topic::Phone,
        &[
            "tel",
            "telephone",
            "phone",
            "phone_no",
            "mobile",
            "desk",
            "cell",
            "cellphone",
            "cellular",
            "call",
            "calling",
            "called",
            "fax",
            "dial",
            "sms",
            "whatsapp",
            "msisdn",
            "contact",
            "hotline",
            "reach",
            "answering at",
            "ring",
            "電話",
            "电话",
            "手機",
            "手机",
            "聯絡",
            "联络",
            "聯繫",
            "联系",
            "行動",
            "傳真",
            "传真",
            "撥打",
            "拨打",
            "來電",
            "市話",
            "專線",
            "致電",
            "致电",
        ],
    ),
    (
        Topic::Company,
        &[
            "統編",
            "统编",
            "統一編號",
            "统一编号",
            "公司編號",
            "tax id",
            "tax_id",
            "tax-id",
            "taxid",
            "vat",
            "vat id",
            "vat_id",
            "vatid",
            "vat no",
            "vat_no",
            "vat number",
            "vat_number",
            "vatnumber",
            "ubn",
            "company number",
            "company_number",
            "company-number",
            "companynumber",
            "company no",
            "company_no",
            "company id",
            "company_id",
            "companyid",
            "business number",
            "business_number",
            "businessnumber",
            "business id",
            "business_id",
            "tax number",
            "tax_number",
            "taxnumber",
        ],
    ),
    (
        Topic::NationalId,
        &[
            "national id",
            "national_id",
            "national-id",
            "nationalid",
            "id card",
            "id_card",
            "idcard",
            "id number",
            "id_number",
            "idnumber",
            "id no",
            "id_no",
            "identity",
            "身分證",
            "身份證",
            "身份证",
            "居留證",
            "居留证",
            "證號",
            "arc",
            "resident",
        ],
    ),
    (
        Topic::Card,
        &[
            "card",
            "card number",
            "card_number",
            "cardnumber",
            "cc",
            "visa",
            "mir",
            "mastercard",
            "maestro",
            "amex",
            "jcb",
            "unionpay",
            "discover",
            "diners",
            "credit",
            "debit",
            "pan",
            "信用卡",
            "卡號",
            "卡号",
            "金融卡",
            "刷卡",
        ],
    ),
    (
        Topic::Version,
        &[
            "oid",
            "objectidentifier",
            "version",
            "ver",
            "release",
            "build",
            "rev",
            "revision",
            "section",
            "chapter",
            "clause",
            "figure",
            "firmware",
            "版本",
            "章節",
            "章节",
            "韌體",
            "版",
            "章",
            "節",
        ],
    ),
    (
        Topic::Thing,
        &[
            "order",
            "order no",
            "order_no",
            "order number",
            "order_number",
            "ordernumber",
            "invoice",
            "serial",
            "sku",
            "isbn",
            "ean",
            "imei",
            "trace",
            "span",
            "request",
            "session",
            "timestamp",
            "time",
            "ts",
            "epoch",
            "pid",
            "port",
            "size",
            "bytes",
            "amount",
            "price",
            "total",
            "qty",
            "quantity",
            "count",
            "seq",
            "nonce",
            "offset",
            "length",
            "txn",
            "transaction",
            "tracking",
            "batch",
            "ticket",
            "case",
            "row",
            "account",
            "item",
            "parcel",
            "sn",
            "hash",
            "checksum",
            "duration",
            "訂單",
            "订单",
            "單號",
            "单号",
            "編號",
            "编号",
            "序號",
            "序号",
            "發票",
            "发票",
            "金額",
            "金额",
            "數量",
            "数量",
            "帳號",
            "账号",
            "流水號",
            "批號",
            "批号",
            "料號",
            "料号",
            "貨號",
            "货号",
            "lot",
            "時間",
            "时间",
        ],
    ),
    (Topic::Id, &["id", "uuid", "guid"]),
];

/// Words between a thing's name and its number that say nothing.
const FILLERS: &[&str] = &["", "no", "nr", "num", "number", "id", "is", "was", "code"];

struct Words {
    automaton: AhoCorasick,
    topics: Vec<Topic>,
}

static COMPILED: LazyLock<Words> = LazyLock::new(|| {
    let all = || WORDS.iter().flat_map(|(topic, words)| words.iter().map(move |word| (*topic, *word)));
    let automaton = AhoCorasick::builder()
        .kind(Some(AhoCorasickKind::DFA))
        .match_kind(MatchKind::LeftmostLongest)
        .ascii_case_insensitive(true)
        .build(all().map(|(_, word)| word))
        .expect("some short words fit an automaton");
    Words { automaton, topics: all().map(|(topic, _)| topic).collect() }
});

/// The nearest word before a number.
pub(super) struct Word<'a> {
    pub(super) topic: Topic,
    /// What stands between the word and the number.
    gap: &'a str,
}

impl Word<'_> {
    /// Whether the word is about this number: no other number and no other clause stand between.
    pub(super) fn is_about(&self, topic: Topic) -> bool {
        let has = |test: fn(char) -> bool| self.gap.contains(test);
        let another = has(|c| c.is_ascii_digit())
            || has(|c| matches!(c, ',' | ';' | '{' | '}' | '|' | '\t' | '。' | '；' | '，'));
        self.topic == topic && !(another && has(char::is_alphabetic))
    }

    /// Whether the word directly names the number as that of one of these: `order_id=`, `invoice no.`
    fn names(&self, topics: &[Topic]) -> bool {
        let between = self.gap.trim_matches(|c: char| !c.is_alphabetic());
        topics.contains(&self.topic) && FILLERS.iter().any(|filler| filler.eq_ignore_ascii_case(between))
    }
}

impl Scanner<'_> {
    /// The nearest listed word before `start`.
    pub(super) fn word_before(&self, start: usize) -> Option<Word<'_>> {
        let from = self.text.str.floor_char_boundary(start.saturating_sub(LOOK_BACK));
        let window = &self.text.str[from..start];
        work::count(window.len());
        let bytes = window.as_bytes();
        let is_break =
            |n: &usize| bytes[*n] == b'\n' || (bytes[*n] == b'n' && *n > 0 && bytes[*n - 1] == b'\\');
        let name = name_start(bytes);
        let number =
            bytes.len() - bytes.iter().rev().take_while(|b| matches!(b, b' ' | b'\t' | b'+' | b'(')).count();
        // `Phone:` may stand on the line before.
        let own = if ends_in_colon(&bytes[..number]) { number - 1 } else { number };
        let line = (name..own.max(name)).rev().find(is_break).map_or(name, |n| n + 1);
        let here = nearest(&window[line..]);
        if here.is_some() || from + line > 0 || self.name.is_empty() {
            return here;
        }
        let named = nearest(self.name)?;
        Some(Word { topic: named.topic, gap: window })
    }

    /// Whether the nearest word is about `topic`.
    pub(super) fn is_about(&self, topic: Topic, start: usize) -> bool {
        self.word_before(start).is_some_and(|word| word.is_about(topic))
    }

    /// Whether the number at `start` is said to be that of an order, a session, a version.
    pub(super) fn is_of_thing(&self, start: usize) -> bool {
        self.word_before(start).is_some_and(|word| word.names(&[Topic::Thing, Topic::Version]))
    }

    /// The same, where any id counts as a thing too.
    pub(super) fn is_of_thing_or_id(&self, start: usize) -> bool {
        self.word_before(start).is_some_and(|word| word.names(&[Topic::Thing, Topic::Version, Topic::Id]))
    }
}

/// Whether a line ends in a colon at the end of `window`.
fn ends_in_colon(window: &[u8]) -> bool {
    let line = window.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    line.is_some_and(|line| line.ends_with(b":") || line.ends_with("：".as_bytes()))
}

/// Where the name begins whose `=` ends `window`; of other windows the beginning. What such a value is, its name says.
fn name_start(window: &[u8]) -> usize {
    let Some(name) = window.strip_suffix(b"=") else { return 0 };
    let is_name = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | 0x80..);
    name.len() - name.iter().rev().take_while(is_name).count()
}

/// The last word of the table in `window`.
fn nearest(window: &str) -> Option<Word<'_>> {
    let bytes = window.as_bytes();
    // Between numbers there is often no word at all.
    if !bytes.iter().any(|b| b.is_ascii_alphabetic() || !b.is_ascii()) {
        return None;
    }
    let is_whole = |start: usize, end: usize| {
        let first = bytes[start];
        if !first.is_ascii() {
            return true;
        }
        let before = start.checked_sub(1).map_or(0, |at| bytes[at]);
        let is_hump = first.is_ascii_uppercase() && before.is_ascii_lowercase();
        let rest = &bytes[end..];
        let plural = usize::from(rest.first().is_some_and(|b| matches!(b, b's' | b'S')));
        let ends = |n: usize| {
            rest.get(n).is_none_or(|b| {
                !b.is_ascii_alphabetic() || (b.is_ascii_uppercase() && bytes[end - 1].is_ascii_lowercase())
            })
        };
        let is_mask = before == b'[' && mask_len(&bytes[start - 1..]).is_some();
        (is_hump || !before.is_ascii_alphabetic()) && (ends(0) || ends(plural)) && !is_mask
    };
    let last = COMPILED.automaton.find_iter(window).filter(|m| is_whole(m.start(), m.end())).last()?;
    Some(Word { topic: COMPILED.topics[last.pattern().as_usize()], gap: &window[last.end()..] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_whole_word_counts() {
        for (before, topic) in [
            ("phone: ", Some(Topic::Phone)),
            ("homePhone=", Some(Topic::Phone)),
            ("phones ", Some(Topic::Phone)),
            ("phoneNumber\":\"", Some(Topic::Phone)),
            ("hotel ", None),
            ("telegram ", None),
            ("call order ", Some(Topic::Thing)),
            ("call_id=", Some(Topic::Id)),
            ("公司統一編號：", Some(Topic::Company)),
            ("tax id ", Some(Topic::Company)),
            ("[PHONE] ", None),
            ("[PHONE:0123456789ab] ", None),
        ] {
            assert_eq!(nearest(before).map(|word| word.topic), topic, "{before}");
        }
    }

    #[test]
    fn a_word_is_about_the_next_number_only() {
        let is_about = |window: &str| nearest(window).unwrap().is_about(Topic::Phone);
        assert!(is_about("phone of the shop is "));
        assert!(is_about("phone: 2345-6789, "));
        assert!(!is_about("phone\":null,\"qty\":"));
        assert!(!is_about("call at 5 and take "));
    }
}
