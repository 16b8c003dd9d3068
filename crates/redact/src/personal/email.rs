//! E-mail addresses: a local part, `@`, labels of a domain, and a last label that can be a top-level domain.
//!
//! Sources: RFC 5321 (4.1.2 and the lengths of 4.5.3.1) for the ASCII form, without quoted local parts; RFC 6531 and
//! RFC 5890 for others. In Chinese text nothing parts an address from the words around it, so there a local part
//! ends where ASCII does, and a Chinese top-level domain must be one of those that exist.
//! No addresses: `image@2x.png` and other file names, `user@host`, `pkg@1.2.3`, `git@host:path`, and what stands behind
//! the user information of a URL.

use super::Span;
use crate::Class;
use crate::scan::Scanner;

/// Most bytes of a local part and of a domain.
const MAX_LOCAL: usize = 64;
const MAX_DOMAIN: usize = 255;
const MAX_LABEL: usize = 63;

/// Endings of file names that no top-level domain has, in the order of the alphabet.
const FILE_ENDINGS: &[&str] = &[
    "apk", "avif", "bak", "bmp", "bz", "cfg", "class", "conf", "cpp", "css", "csv", "dll", "dmg", "doc",
    "docx", "exe", "gif", "gz", "heic", "hpp", "htm", "html", "ico", "ini", "ipynb", "jar", "java", "jpeg",
    "jpg", "js", "json", "jsx", "lock", "log", "map", "mjs", "mp", "pdf", "php", "png", "rb", "service",
    "socket", "sql", "svg", "tar", "target", "tgz", "timer", "tmp", "toml", "ts", "tsx", "ttf", "txt",
    "webm", "webp", "whl", "woff", "xls", "xlsx", "xml", "yaml", "yml",
];

/// Top-level domains in Chinese characters (IANA, root zone database).
const CHINESE: &[&str] = &[
    "中文网",
    "中國",
    "中国",
    "中信",
    "佛山",
    "信息",
    "健康",
    "八卦",
    "公司",
    "公益",
    "台湾",
    "台灣",
    "商城",
    "商店",
    "商标",
    "嘉里",
    "在线",
    "大拿",
    "娱乐",
    "家電",
    "广东",
    "微博",
    "慈善",
    "我爱你",
    "手机",
    "招聘",
    "政务",
    "政府",
    "新加坡",
    "新闻",
    "时尚",
    "書籍",
    "机构",
    "淡马锡",
    "游戏",
    "澳門",
    "移动",
    "组织机构",
    "网址",
    "网店",
    "网站",
    "网络",
    "联通",
    "谷歌",
    "购物",
    "集团",
    "電訊盈科",
    "食品",
    "餐厅",
    "香格里拉",
    "香港",
];

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'-')
}

impl Scanner<'_> {
    /// Finds the addresses whose sign is in the zones.
    pub(super) fn emails(&mut self) {
        let bytes = self.text.bytes;
        let zones = self.zones.clone();
        let signs = zones
            .iter()
            .flat_map(|(from, to)| memchr::memchr_iter(b'@', &bytes[*from..*to]).map(move |at| from + at));
        for at in signs {
            if self.userinfo_ends.binary_search(&at).is_err()
                && let Some((start, end)) = self.email_around(at)
            {
                self.push_personal(Class::Email, start, end);
            }
        }
    }

    /// The address whose sign is at `at`.
    fn email_around(&self, at: usize) -> Option<Span> {
        let start = self.local_start(at)?;
        let end = self.domain_end(at + 1)?;
        let is_remote = self.text.has(start, "git@") && matches!(self.text.at(end), b':' | b'/');
        (!is_remote).then_some((start, end))
    }

    /// Where the local part before `at` begins.
    fn local_start(&self, at: usize) -> Option<usize> {
        let head = &self.text.str[..at];
        if head.chars().next_back().is_some_and(|c| !c.is_ascii() && c.is_alphanumeric()) {
            let is_local = |c: &char| c.is_alphanumeric() || (c.is_ascii() && is_local(*c as u8));
            return Some(
                at - head
                    .chars()
                    .rev()
                    .take(MAX_LOCAL / 4)
                    .take_while(is_local)
                    .map(char::len_utf8)
                    .sum::<usize>(),
            );
        }
        let len = head.bytes().rev().take(MAX_LOCAL + 1).take_while(|b| is_local(*b)).count();
        let mut start = at - len;
        let escape = self.escape_len(start);
        if len > MAX_LOCAL || escape >= len {
            return None;
        }
        start += escape;
        // Punctuation before an address is not part of it, a dot directly before the sign shows that it is none.
        start += head[start..].bytes().take_while(|b| matches!(b, b'.' | b'-' | b'+')).count();
        (start < at && !head.ends_with('.') && !head[start..].contains("..")).then_some(start)
    }

    /// How many characters at `start` belong to an escape that begins before it: `\n`, `\u0020`, `%20`.
    fn escape_len(&self, start: usize) -> usize {
        match (self.byte_before(start), self.text.at(start)) {
            (b'\\', b'u') => 5,
            (b'\\', b'n' | b'r' | b't' | b'b' | b'f') => 1,
            (b'%', first) if first.is_ascii_hexdigit() => 2,
            _ => 0,
        }
    }

    /// Where the domain that begins at `start` ends, if it is one.
    fn domain_end(&self, start: usize) -> Option<usize> {
        let limit = self.text.str.floor_char_boundary((start + MAX_DOMAIN).min(self.text.str.len()));
        let rest = &self.text.str[start..limit];
        let mut at = 0;
        // The end of the address, if the label read last is a top-level domain.
        let mut end = None;
        loop {
            let label = label(&rest[at..]);
            if label.is_empty() || label.len() > MAX_LABEL || label.starts_with('-') {
                break;
            }
            end = if at > 0 { top_level(label).map(|len| at + len) } else { None };
            let next = at + label.len();
            let is_cut = end.is_some_and(|end| end < next);
            let goes_on = rest[next..]
                .strip_prefix('.')
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_alphanumeric()));
            if is_cut || !goes_on {
                break;
            }
            at = next + 1;
        }
        let end = start + end?;
        let after = self.text.at(end);
        (!matches!(after, b'@' | b'_' | b'(')).then_some(end)
    }
}

/// The label that begins `rest`: letters, digits and hyphens of ASCII, or letters of any script.
fn label(rest: &str) -> &str {
    let is_ascii = rest.starts_with(|c: char| c.is_ascii());
    let belongs = |c: char| {
        if c.is_ascii() { c.is_ascii_alphanumeric() || c == '-' } else { !is_ascii && c.is_alphanumeric() }
    };
    let label = &rest[..rest.find(|c| !belongs(c)).unwrap_or(rest.len())];
    label.trim_end_matches('-')
}

/// How much of `label` is a top-level domain.
fn top_level(label: &str) -> Option<usize> {
    let lower = label.to_ascii_lowercase();
    if label.is_ascii() {
        let is_word = label.len() >= 2 && label.bytes().all(|b| b.is_ascii_alphabetic());
        let is_domain = is_word && FILE_ENDINGS.binary_search(&lower.as_str()).is_err();
        return (is_domain || (lower.starts_with("xn--") && label.len() > 5)).then_some(label.len());
    }
    let is_chinese = label.starts_with(|c| ('\u{3400}'..='\u{9fff}').contains(&c));
    if is_chinese {
        return CHINESE.iter().find(|domain| label.starts_with(**domain)).map(|domain| domain.len());
    }
    (label.chars().count() >= 2 && label.chars().all(char::is_alphabetic)).then_some(label.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_endings_are_sorted() {
        assert!(FILE_ENDINGS.is_sorted());
    }

    #[test]
    fn a_last_label_is_a_top_level_domain_or_not() {
        for (label, len) in [
            ("org", Some(3)),
            ("xn--kpry57d", Some(11)),
            ("台灣謝謝", Some(6)),
            ("рф", Some(4)),
            ("png", None),
            ("謝謝", None),
            ("c", None),
            ("2x", None),
        ] {
            assert_eq!(top_level(label), len, "{label}");
        }
    }
}
