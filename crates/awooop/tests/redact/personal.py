"""Personal data that passes its checks: mail, phones, Taiwan's ids, cards, IBANs, addresses of machines.

Sources: ITU-T E.164, Taiwan's and the North American numbering plan, the Ministry of the Interior's letter map,
the Ministry of Finance's rule for company numbers, ISO/IEC 7812 ranges, the IBAN registry's structures, RFC 5952.
"""

import ipaddress
import re

from values import DIGITS, LOWER, UPPER, Label, Value, grouped, luhn_digit, pick

MAIL = Label(("email", "contact", "user", "note"), ("e-mail address", "contact"), ("電子郵件", "信箱", "聯絡方式"))
PHONE = Label(("phone", "mobile", "tel", "contact_phone"), ("phone number", "mobile"), ("電話", "手機", "聯絡電話"))
NATIONAL = Label(("id_number", "national_id", "identity_no"), ("national ID", "ID number"),
                 ("身分證字號", "身份證號", "統一證號"))
RESIDENT = Label(("arc_number", "resident_id", "national_id"), ("ARC number", "resident ID"), ("居留證號", "統一證號"))
COMPANY = Label(("tax_id", "company_number", "ubn", "vat_number"), ("unified business number", "tax ID"), ("統一編號", "統編"))
CARD = Label(("card", "card_number", "pan", "note"), ("card number", "credit card"), ("卡號", "信用卡"))
NAMED_CARD = CARD._replace(keys=("card", "card_number", "pan"))
IBAN = Label(("iban", "account", "bank_account", "note"), ("IBAN", "account"), ("帳號", "銀行帳戶"))
ADDRESS = Label(("ip", "client_ip", "remote_addr", "host"), ("IP address", "client address"), ("IP 位址", "來源位址"))

# Taiwan's county letters and their numbers
LETTERS = {letter: number for number, letter in enumerate("ABCDEFGHJKLMNPQRSTUVXYWZIO", 10)}
# IIN range starts, lengths, groups
BRANDS = [
    ("Visa", ["4"], [13, 16, 19], [4]), ("Mastercard", ["51", "53", "55"], [16], [4]),
    ("Mastercard 2", ["2221", "2345", "2720"], [16], [4]), ("Amex", ["34", "37"], [15], [4, 6, 5]),
    ("Discover", ["6011", "644", "65"], [16], [4]), ("JCB", ["3528", "3589"], [16], [4]),
    ("Diners", ["300", "305", "36", "38"], [14], [4, 6, 4]), ("UnionPay", ["6221", "6250"], [16, 19], [4]),
    ("Maestro", ["5018", "5020", "6304", "6759", "6763"], [13, 16, 18, 19], [4]), ("Mir", ["2200", "2204"], [16], [4]),
]
# IBAN registry: the part behind the check digits
IBANS = {
    "AD": "8n12c", "AE": "19n", "AT": "16n", "BE": "12n", "BG": "4a6n8c", "BR": "23n1a1c", "CH": "5n12c", "CY": "8n16c",
    "CZ": "20n", "DE": "18n", "DK": "14n", "EE": "16n", "ES": "20n", "FI": "14n", "FR": "10n11c2n", "GB": "4a14n",
    "GR": "7n16c", "HR": "17n", "HU": "24n", "IE": "4a14n", "IL": "19n", "IS": "22n", "IT": "1a10n12c", "KW": "4a22c",
    "KZ": "3n13c", "LT": "16n", "LU": "3n13c", "LV": "4a13c", "MC": "10n11c2n", "MT": "4a5n18c", "NL": "4a10n",
    "NO": "11n", "PL": "24n", "PT": "21n", "QA": "4a21c", "RO": "4a16c", "SA": "2n18c", "SE": "20n", "SI": "15n",
    "SK": "20n", "SM": "1a10n12c", "TR": "6n16c", "UA": "6n19c",
}


def personal(cls, form, text, label, **more):
    return Value(cls, form, text, (text,), label, **more)


def mails(rng):
    row = lambda form, text: personal("EMAIL", form, text, MAIL)
    name, number = pick(rng, LOWER, 7), rng.randrange(10, 99)
    domain = pick(rng, LOWER, 6)
    yield row("plain", f"{name}@{domain}.com")
    yield row("dotted", f"{name}.chen{number}@{domain}.org")
    yield row("subdomain", f"{name}@mail.{domain}.com.tw")
    yield row("plus", f"{name}+orders{number}@{domain}.io")
    yield row("dashes", f"{name}-{number}@{domain}-group.co.uk")
    yield row("upper case", f"{name}@{domain}.net".upper())
    yield row("underscore", f"{name}_{number}@{domain}.edu.tw")
    yield row("long ending", f"{name}@{domain}.{rng.choice(['museum', 'technology', 'photography', 'app', 'dev'])}")
    yield row("short", f"{name[0]}{number}@{domain[:2]}.tw")
    yield row("apostrophe", f"o'{name}@{domain}.ie")
    yield row("punycode", f"{name}@xn--{domain}-9ua.de")
    yield row("angle brackets", f"<{name}@{domain}.com>")._replace(hidden=(f"{name}@{domain}.com",))
    yield row("mailto", f"mailto:{name}@{domain}.com?subject=hi")._replace(hidden=(f"{name}@{domain}.com",))
    yield row("digits", f"{rng.randrange(10**8, 10**9)}@{domain}.com")
    yield row("underscore and dots", f"_{name}.{number}.x@{domain}.info")


def phones(rng):
    d = lambda count: pick(rng, DIGITS, count)
    n = lambda count: str(rng.randrange(2, 9)) + d(count - 1)  # numbers that begin as subscribers do
    row = lambda form, text: personal("PHONE", form, text, PHONE, numeric=True, leak=6)
    a, b = rng.randrange(10, 100), d(6)
    yield row("TW mobile", f"09{a}{b}")
    yield row("TW mobile, dashes", f"09{a}-{b[:3]}-{b[3:]}")
    yield row("TW mobile, spaces", f"09{a} {b[:3]} {b[3:]}")
    yield row("TW mobile, one dash", f"09{a}-{b}")
    yield row("TW mobile, E.164", f"+8869{a}{b}")
    yield row("TW mobile, international", f"+886-9{a}-{b[:3]}-{b[3:]}")
    yield row("TW mobile, international spaces", f"+886 9{a} {b[:3]} {b[3:]}")
    yield row("TW mobile, trunk zero", f"+886 (0)9{a} {b[:3]} {b[3:]}")
    yield row("TW mobile, 00886", f"00886-9{a}-{b[:3]}-{b[3:]}")
    yield row("TW Taipei", f"(02) {n(4)}-{d(4)}")
    yield row("TW Taipei, dashes", f"02-{n(4)}-{d(4)}")
    yield row("TW Taipei, run", f"02-{n(4)}{d(4)}")
    yield row("TW Taichung", f"04-{n(4)}-{d(4)}")
    yield row("TW Kaohsiung", f"(07){n(3)}-{d(4)}")
    yield row("TW Nantou", f"049-{n(3)}-{d(4)}")
    yield row("TW Taipei, international", f"+886-2-{n(4)}-{d(4)}")
    yield row("TW extension", f"02-{n(4)}-{d(4)}#{d(3)}")
    yield row("TW extension word", f"(02) {n(4)}-{d(4)} 分機 {d(3)}")
    yield row("TW extension ext.", f"02-{n(4)}-{d(4)} ext. {d(3)}")
    yield row("TW toll-free", f"0800-{n(3)}-{d(3)}")
    area, middle, last = f"{rng.choice([212, 415, 503, 617, 905])}", n(3), d(4)
    yield row("NANP", f"({area}) {middle}-{last}")
    yield row("NANP, dashes", f"{area}-{middle}-{last}")
    yield row("NANP, dots", f"{area}.{middle}.{last}")
    yield row("NANP, +1", f"+1 {area} {middle} {last}")
    yield row("NANP, +1 dashes", f"+1-{area}-{middle}-{last}")
    yield row("NANP, 1-", f"1-{area}-{middle}-{last}")
    yield row("NANP, extension", f"{area}-{middle}-{last}x{d(4)}")
    yield row("NANP, 001", f"001-{area}-{middle}-{last}")
    yield row("DE, E.164", f"+49151{d(8)}")
    yield row("GB", f"+44 20 7946 0{d(3)}")
    yield row("FR", f"+33 6 {d(2)} {d(2)} {d(2)} {d(2)}")
    yield row("JP", f"+81-90-{n(4)}-{d(4)}")
    yield row("CN", f"+86 138 {d(4)} {d(4)}")
    yield row("HK", f"+852 {n(4)} {d(4)}")
    yield row("SG", f"+65 9{d(3)} {d(4)}")
    yield row("AU", f"+61 4{d(2)} {d(3)} {d(3)}")
    yield row("SE, trunk zero", f"+46 (0)8 {n(3)} {d(3)} {d(2)}")
    yield row("tel link", f"tel:+1-{area}-{middle}-{last}")


def national_check(letter, body):
    """The last digit of a Taiwan id; a letter as second character counts by its number's last digit."""
    number = LETTERS[letter]
    digits = [number // 10, number % 10, *(int(c) if c.isdigit() else LETTERS[c] % 10 for c in body)]
    total = sum(digit * weight for digit, weight in zip(digits, (1, 9, 8, 7, 6, 5, 4, 3, 2, 1)))
    return str(-total % 10)


def nationals(rng):
    def row(form, second, label, change=str):
        letter = rng.choice(list(LETTERS))
        body = second + pick(rng, DIGITS, 7)
        text = change(letter + body + national_check(letter, body))
        return personal("NATIONAL_ID", form, text, label, numeric=True, leak=6, needs_label=True)

    yield row("citizen, male", "1", NATIONAL)
    yield row("citizen, female", "2", NATIONAL)
    yield row("citizen, lower case", "1", NATIONAL, str.lower)
    yield row("resident, new", rng.choice("89"), RESIDENT)
    yield row("resident, old", rng.choice("ABCD"), RESIDENT)


def company_total(number):
    """Sums of digits, and whether the seventh digit is the 7 that may count one less."""
    products = [int(digit) * weight for digit, weight in zip(number, (1, 2, 1, 2, 1, 2, 4, 1))]
    return sum(product // 10 + product % 10 for product in products), number[6] == "7"


def companies(rng):
    def number(divisor, seven=False):
        while True:
            text = pick(rng, DIGITS, 6) + ("7" if seven else rng.choice("01234568")) + rng.choice(DIGITS)
            total, is_seven = company_total(text)
            if total % divisor == 0 or (is_seven and (total + 1) % divisor == 0):
                return text

    row = lambda form, text: personal("COMPANY_NUMBER", form, text, COMPANY, numeric=True, leak=6, needs_label=True)
    yield row("first rule", number(10))
    yield row("rule since 2023", number(5))
    yield row("seventh digit 7", number(10, seven=True))


def cards(rng):
    for brand, starts, lengths, sizes in BRANDS:
        for length in lengths:
            start = rng.choice(starts)
            body = start + pick(rng, DIGITS, length - len(start) - 1)
            text = body + luhn_digit(body)
            more = {"numeric": True, "leak": 7}
            # thirteen digits in one piece are an article's number as often as a card's: somebody has to say which
            is_common = length == 13
            label = NAMED_CARD if is_common else CARD
            yield personal("CARD", f"{brand} {length}", text, label, number=True, needs_label=is_common, **more)
            yield personal("CARD", f"{brand} {length}, spaces", grouped(text, sizes, " "), CARD, **more)
            yield personal("CARD", f"{brand} {length}, dashes", grouped(text, sizes, "-"), CARD, **more)


def iban(rng, country):
    sets = {"n": DIGITS, "a": UPPER, "c": UPPER + DIGITS}
    body = "".join(pick(rng, sets[kind], int(count)) for count, kind in re.findall(r"(\d+)(\w)", IBANS[country]))
    number = int("".join(str(int(c, 36)) for c in body + country + "00"))
    return f"{country}{98 - number % 97:02}{body}"


def ibans(rng):
    for country in IBANS:
        text = iban(rng, country)
        form, change = rng.choice([
            ("plain", str), ("grouped", lambda text: grouped(text, [4], " ")), ("lower case", str.lower),
            ("grouped, lower case", lambda text: grouped(text, [4], " ").lower()),
            ("dashes", lambda text: grouped(text, [4], "-")),
        ])
        yield personal("IBAN", f"{country}, {form}", change(text), IBAN, numeric=True, leak=8)


def machines(rng):
    row = lambda form, text: personal("IP_ADDRESS", form, text, ADDRESS, leak=7)
    v4 = ".".join(str(rng.randrange(*bounds)) for bounds in [(11, 100), (16, 255), (1, 255), (1, 255)])
    inner = f"10.{rng.randrange(255)}.{rng.randrange(255)}.{rng.randrange(1, 255)}"
    groups = [f"{rng.randrange(0x1000, 0x10000):x}" for _ in range(8)]
    full = ipaddress.IPv6Address(":".join(["2001", "db8", *groups[2:]]))
    short = f"2001:db8:{groups[2]}::{groups[3]}"
    yield row("v4", v4)
    yield row("v4, private", inner)
    yield row("v4, port", f"{v4}:8443")._replace(hidden=(v4,))
    yield row("v4, network", f"{v4}/32")._replace(hidden=(v4,))
    yield row("v4, URL", f"http://{v4}/health")._replace(hidden=(v4,))
    yield row("v6", str(full))
    yield row("v6, leading zeros", "2001:0db8:" + ":".join(f"0{group[:3]}" for group in groups[2:]))
    yield row("v6, upper case", str(full).upper())
    yield row("v6, compressed", short)
    yield row("v6, compressed end", f"2001:db8:{groups[4]}:{groups[5]}::")
    yield row("v6, port", f"[{short}]:8443")._replace(hidden=(short,))
    yield row("v6, zone", f"fe80::{groups[2]}:{groups[3]}%eth0")._replace(hidden=(f"fe80::{groups[2]}:{groups[3]}",))
    yield row("v6, network", f"{short}/128")._replace(hidden=(short,))
    yield row("v6, mapped", f"::ffff:{v4}")
    yield row("v6, link local", f"fe80::{groups[6]}:{groups[7]}")


def make(rng):
    """One value of every form."""
    for kind in (mails, phones, nationals, companies, cards, ibans, machines):
        yield from kind(rng)
