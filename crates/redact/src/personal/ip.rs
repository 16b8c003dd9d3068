//! IP addresses: IPv4 in four decimal parts, IPv6 in every form of RFC 4291.
//!
//! Which count: every address that a host can have, private (10/8, fc00::/7), link-local and documentation
//! (192.0.2.0/24, 2001:db8::/32) ones too, since inside a company those name a person's machine and examples look the
//! same. Which do not: unspecified, loopback, multicast, broadcast and netmasks (IPv4 from 224 on), and IPv6 outside
//! the ranges that IANA has given out, which keeps `a::b` and `dead::beef` in code as they are.
//! Versions (`v1.2.3.4`, `1.2.3.4.5`, `Chrome/120.0.0.0`, `==1.2.3.4`, `section 1.2.3.4`) are no addresses.

use std::net::{IpAddr, Ipv6Addr};

use super::Span;
use super::context::Topic;
use crate::Class;
use crate::scan::Scanner;
use crate::work;

/// The longest text form of an IPv6 address.
const MAX_IPV6: usize = 45;
/// The longest zone that is taken with its address, in bytes.
const MAX_ZONE: usize = 16;

impl Scanner<'_> {
    /// The IPv4 address that begins at `start`.
    pub(super) fn ipv4(&self, start: usize) -> Option<Span> {
        if !self.is_open_before(start) || self.byte_before(start) == b'.' {
            return None;
        }
        let mut at = start;
        let mut parts = [0; 4];
        for (n, part) in parts.iter_mut().enumerate() {
            if n > 0 {
                at += (self.text.at(at) == b'.').then_some(1)?;
            }
            let digits = self.text.bytes[at..].iter().take(4).take_while(|b| b.is_ascii_digit()).count();
            let is_plain = digits == 1 || (matches!(digits, 2 | 3) && self.text.at(at) != b'0');
            *part = self.text.str[at..at + digits].parse::<u8>().ok().filter(|_| is_plain)?;
            at += digits;
        }
        let goes_on = matches!(self.text.at(at), b'.' | b'-') && self.text.at(at + 1).is_ascii_alphabetic();
        let is_host = parts[0] != 0 && parts[0] != 127 && parts[0] < 224;
        let is_address = is_host && self.ends_address(at) && !goes_on && !self.is_version(start);
        is_address.then_some((start, at))
    }

    /// Whether neither word nor another part follows; a range's dash may.
    fn ends_address(&self, at: usize) -> bool {
        let after = self.text.at(at);
        let is_fifth = after == b'.' && self.text.at(at + 1).is_ascii_digit();
        !(after.is_ascii_alphanumeric() || after == b'_' || is_fifth)
    }

    /// Whether what stands before four numbers makes a version of them.
    fn is_version(&self, start: usize) -> bool {
        let before = &self.text.bytes[start.saturating_sub(2)..start];
        let is_product = matches!(before, [letter, b'/'] if letter.is_ascii_alphanumeric());
        let is_bound = matches!(before, [b'=' | b'<' | b'>' | b'~' | b'!', b'='] | [.., b'^' | b'~']);
        is_product || is_bound || self.word_before(start).is_some_and(|word| word.is_about(Topic::Version))
    }

    /// Looks for an IPv6 address around the first colon of a run of hexadecimal digits and colons: up to where colons
    /// need no second look, and the end of what was found.
    pub(super) fn ipv6(&mut self, colon: usize) -> (usize, Option<usize>) {
        let bytes = self.text.bytes;
        let (before, after) = (self.byte_before(colon), self.text.at(colon + 1));
        if after != b':' && !(before.is_ascii_hexdigit() && after.is_ascii_hexdigit()) {
            return (colon, None);
        }
        let head = bytes[..colon].iter().rev().take(5).take_while(|b| b.is_ascii_hexdigit()).count();
        let run = bytes[colon..].iter().take_while(|b| b.is_ascii_hexdigit() || **b == b':').count();
        work::count(run);
        let found =
            if head <= 4 && run + head <= MAX_IPV6 { self.ipv6_at(colon - head, colon + run) } else { None };
        if let Some((start, end)) = found {
            self.push_personal(Class::IpAddress, start, end);
        }
        (colon + run, found.map(|span| span.1))
    }

    /// The IPv6 address that begins at `start`; its hexadecimal digits and colons end at `end`.
    fn ipv6_at(&self, start: usize, mut end: usize) -> Option<Span> {
        let run = &self.text.bytes[start..end];
        let last_colon = start + run.iter().rposition(|b| *b == b':')?;
        if run.iter().filter(|b| **b == b':').count() < 2 || !self.is_open_before(start) {
            return None;
        }
        if self.text.at(end) == b'.'
            && let Some(dotted) = self.dotted_end(last_colon + 1)
        {
            end = dotted;
        } else if last_colon + 1 == end && self.text.at(end - 2) != b':' {
            // `2001:db8::1:` ends a clause.
            end -= 1;
        }
        let value = &self.text.str[start..end];
        let address: Ipv6Addr = value.parse().ok()?;
        let is_host = is_given_out(address) || is_written_out(value);
        let is_found = self.ends_address(end) && is_host && !is_eui64(value);
        is_found.then(|| (start, self.zone_end(end)))
    }

    /// Where the dotted tail of an IPv6 address ends.
    fn dotted_end(&self, start: usize) -> Option<usize> {
        let is_part = |b: &&u8| b.is_ascii_digit() || **b == b'.';
        let len = self.text.bytes[start..].iter().take(16).take_while(is_part).count();
        let tail = self.text.str[start..start + len].trim_end_matches('.');
        tail.parse::<std::net::Ipv4Addr>().ok().map(|_| start + tail.len())
    }

    /// The end of the zone (`%eth0`) behind an address that ends at `end`, or `end`.
    fn zone_end(&self, end: usize) -> usize {
        let is_zone = |b: &&u8| b.is_ascii_alphanumeric() || matches!(**b, b'_' | b'.' | b'-');
        let rest = self.text.bytes.get(end + 1..).unwrap_or_default();
        let len = rest.iter().take(MAX_ZONE).take_while(is_zone).count();
        if self.text.at(end) == b'%' && len > 0 { end + 1 + len } else { end }
    }
}

/// Whether hosts have addresses in this range: 2000::/3, fc00::/7, fe80::/10, 64:ff9b::/96, and IPv4 in IPv6.
fn is_given_out(address: Ipv6Addr) -> bool {
    let first = address.segments()[0];
    match address.to_canonical() {
        IpAddr::V4(v4) => !(v4.is_loopback() || v4.is_unspecified() || v4.octets()[0] >= 224),
        IpAddr::V6(_) => {
            matches!(first, 0x2000..=0x3fff | 0xfc00..=0xfdff | 0xfe80..=0xfebf)
                || address.segments()[..2] == [0x64, 0xff9b]
        }
    }
}

/// Eight groups, most of three digits or four, are an address whatever its range.
fn is_written_out(value: &str) -> bool {
    let long = value.split(':').filter(|group| group.len() >= 3).count();
    long >= 5 && value.split(':').all(|group| !group.is_empty())
}

/// Eight pairs are the number of a network card.
fn is_eui64(value: &str) -> bool {
    value.split(':').all(|group| group.len() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ranges_that_hosts_have_count() {
        for (address, counts) in [
            ("2001:db8::1", true),
            ("fe80::1", true),
            ("fd00::1", true),
            ("::ffff:10.0.0.1", true),
            ("64:ff9b::1.2.3.4", true),
            ("::1", false),
            ("::", false),
            ("a::b", false),
            ("dead::beef", false),
            ("::ffff:127.0.0.1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_given_out(address.parse().unwrap()), counts, "{address}");
        }
    }
}
