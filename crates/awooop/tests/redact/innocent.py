"""Texts in which everything must stay: they look like secrets or personal data and are none.

Ids that fail their checksum, identifiers, digests, numbers in logs, versions, placeholders, references, code.
"""

import base64
import json
import uuid

import personal
from values import ALNUM, DIGITS, HEX, LOWER, UPPER, grouped, luhn_digit, pick

PLACEHOLDERS = [
    "password=changeme", "api_key: <your-api-key>", "token=${API_TOKEN}", "secret: $SECRET", "password: ********",
    "client_secret=env://CLIENT_SECRET", "export TOKEN=xxxxxxxxxxxxxxxxxxxxxxxx",
    "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "password = os.environ['DB_PASSWORD']", "token: {{ .Values.token }}", "api_key=%(api_key)s", "secret=null",
    "postgres://user:${PGPASSWORD}@db/shop", "https://<user>:<password>@example.org/",
    "Authorization: Bearer <token>",
    "Authorization: Bearer ${TOKEN}", "password=[REDACTED]", "PASSWORD=!secret db_password", "key: ENC[AES256]",
    "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "AKIAXXXXXXXXXXXXXXXX", "token: ref+vault://secret/shop#token",
]
PROSE = [
    "請輸入密碼以繼續，若忘記密碼請聯絡客服。", "密碼長度至少需要 8 個字元，並包含英文與數字。", "本月營收 1,234,567 元，較去年同期成長 12.5%。",
    "第 3 季共 45 家門市，平均客單價 389 元，退貨率 0.8%。", "會議時間：2026/05/01 14:00-15:30，地點在三樓會議室。",
    "The password must be at least 12 characters long and is checked against a list.",
    "Please reset your password, then copy the token from the page into the form.",
    "Each API key belongs to one project; a key that leaks is revoked within minutes.",
    "Tokens are counted per call; 1,024 tokens in, 212 tokens out.", "The private key stays in the vault.",
    "Basic authentication is disabled; bearer tokens are required for all calls.",
    "The secret of good bread is time. The key to it is patience.", "Phone support is open from 9 to 18 o'clock.",
    "An IP address has four numbers; an e-mail address has an @ sign.", "身分證字號請勿寫在訂單備註欄位。",
]
CODE = [
    "fn login(user: &str, password: &str) -> Result<Token, Error> { session.token(user, password) }",
    "const token = await auth.getToken({ audience }); if (!token) throw new Error('no token');",
    "password = getpass.getpass('Password: ')", "self.api_key = api_key or settings.api_key",
    "SELECT password_hash, secret_id FROM account WHERE token_id = $1",
    "import { useToken, type SecretKey } from '@shop/auth'", "@media (max-width: 640px) { .card{margin:0 auto} }",
    "let key = (row.key(), column.key()); map.insert(key, value);", "user.password.should_not be_nil",
    "logo@2x.png icon@3x.webp react@18.2.0 @types/node@20.11.5",
    "impl Iterator<Item = Token<'a>> for Tokens<'a> {}",
    "!function(e,t){\"object\"==typeof exports?t(exports):t(e.a={})}(this,function(e){var n=1e3,r=6e4;e.key=n+r});",
    "std::net::Ipv4Addr::new(a, b, c, d)", "for i in 0..10 { x[i] = y[i - 1]::<u8>() }", "a::b::c::d",
    "Foo::Bar::baz",
    "max_tokens=4096&temperature=0.7&top_p=0.95", "grep -rn 'password' src | wc -l",
    "git@github.com:acme/shop.git", "ssh://git@code.example.org/acme/shop.git", "--password-file /run/secrets/db",
    "PASSWORD_MIN_LENGTH=12 PASSWORD_HASHER=argon2id TOKEN_TTL_SECONDS=3600",
    "primary_key=order_id sort_key=created_at",
]


def other_digit(rng, digit):
    return rng.choice([d for d in DIGITS if d != digit])


def bad_card(rng):
    body = rng.choice(["4", "51", "37", "6011"]) + pick(rng, DIGITS, 12)
    body = body[:15] if body[0] != "3" else body[:14]
    number = body + other_digit(rng, luhn_digit(body))
    return f"reference {rng.choice([number, grouped(number, [4], ' '), grouped(number, [4], '-')])} was booked"


def bad_iban(rng):
    text = personal.iban(rng, rng.choice(["DE", "GB", "FR", "NL", "PL"]))
    wrong = (int(text[2:4]) + rng.randrange(1, 90)) % 97 + 1  # another number of 1 to 97, 98 being no other
    return f"booking {text[:2]}{wrong:02}{text[4:]} failed its check"


def bad_national(rng):
    letter, body = rng.choice(UPPER.replace("I", "")), rng.choice("12") + pick(rng, DIGITS, 7)
    return f"身分證字號：{letter}{body}{other_digit(rng, personal.national_check(letter, body))} 檢查碼錯誤"


def bad_company(rng):
    while True:
        number = pick(rng, DIGITS, 8)
        total, is_seven = personal.company_total(number)
        if total % 5 and not (is_seven and (total + 1) % 5 == 0):
            return f"統一編號 {number} 檢查碼錯誤"


def unnamed_company(rng):
    return f"訂單 {20250000 + rng.randrange(9999)} 共 {pick(rng, DIGITS, 8)} 元"


def isbn(rng):
    body = "978" + pick(rng, DIGITS, 9)
    check = str(-sum(int(d) * (1 if at % 2 == 0 else 3) for at, d in enumerate(body)) % 10)
    return f"ISBN {body[:3]}-{body[3]}-{body[4:8]}-{body[8:]}-{check}"


def timestamps(rng):
    seconds = 1_700_000_000 + rng.randrange(10**8)
    return rng.choice([
        f"ts={seconds} next={seconds + 60}", f'{{"at":{seconds}{pick(rng, DIGITS, 3)},"n":2}}',
        f"{seconds}.{rng.randrange(1000):03}",
        f"2026-05-{rng.randrange(1, 29):02}T10:{rng.randrange(60):02}:07.{pick(rng, DIGITS, 6)}Z",
        f"202605{rng.randrange(10, 29)}101507",
        f"2026-05-01 10:00:{rng.randrange(60):02},123 INFO", "[01/May/2026:10:00:07 +0800]",
        f"{seconds}{pick(rng, DIGITS, 9)}",
    ])


def log_numbers(rng):
    n = lambda count: str(rng.randrange(1, 10)) + pick(rng, DIGITS, count - 1)
    return rng.choice([
        f"worker-{n(2)} pid={n(6)} rss={n(10)} bytes={n(8)} took {n(3)}.{n(3)} ms", f"offset {n(7)}-{n(7)}/{n(8)}",
        f"lsn 0/{pick(rng, UPPER[:6] + DIGITS, 8)} xid {n(7)}",
        f"at 0x{pick(rng, HEX, 12)} in main.rs:{n(3)}:{n(2)}",
        f"GET /orders/{n(7)}/items/{n(3)} 200 {n(5)}", f"trace {pick(rng, HEX, 32)} span {pick(rng, HEX, 16)}",
        f"range 10-20-3000 step 5", f"seq={n(12)} shard={n(2)} epoch={n(4)}",
        f"eta 00:{rng.randrange(10, 59)}:07 at {n(3)} MB/s",
        f"{n(3)} passed, {n(2)} failed, {n(1)} ignored in {n(2)}.{n(2)}s",
        f"batch 2026-05-{n(2)[:2]}-{n(4)} closed",
        f"0.{n(9)} 3.14159265358979 1.{n(8)}e-{n(1)} -{n(5)}.{n(4)}", f"ports 8080, 8443, 5432 and 15672",
    ])


def identifiers(rng):
    return rng.choice([
        f"order ORD-{pick(rng, DIGITS, 10)} shipped", f"SKU TW-{pick(rng, DIGITS, 4)}-{pick(rng, UPPER, 2)}",
        f"invoice INV/2026/{pick(rng, DIGITS, 6)}", f"ticket #{pick(rng, DIGITS, 6)}",
        f"發票號碼 AB-{pick(rng, DIGITS, 8)}",
        f"run {uuid.UUID(int=rng.getrandbits(128), version=4)}",
        f"\"id\":\"{uuid.UUID(int=rng.getrandbits(128), version=4)}\"",
        f"key_id: {uuid.UUID(int=rng.getrandbits(128), version=4)}", f"cust-{pick(rng, DIGITS, 5)}",
        f"msg_{pick(rng, DIGITS, 4)}",
        f"i-{pick(rng, HEX, 17)} in eu-west-1a", f"arn:aws:iam::{pick(rng, DIGITS, 12)}:role/shop",
        f"批號 L{pick(rng, DIGITS, 9)}",
        f"01{pick(rng, UPPER[:8] + DIGITS, 24)}", f"parcel {pick(rng, UPPER, 2)}{pick(rng, DIGITS, 9)}TW",
        f"料號{rng.choice('abcdxyz')}{pick(rng, DIGITS, 8)}", f"貨架{rng.choice('ABCDXYZ')}{pick(rng, DIGITS, 5)}",
    ])


def digests(rng):
    return rng.choice([
        f"commit {pick(rng, HEX, 40)}", f"sha256:{pick(rng, HEX, 64)}", f"md5 {pick(rng, HEX, 32)}",
        f"index {pick(rng, HEX, 7)}..{pick(rng, HEX, 7)}",
        f"image@sha256:{pick(rng, HEX, 64)}",
        f'"integrity": "sha512-{base64.b64encode(rng.randbytes(64)).decode()}"',
        f'"input_sha256": "{pick(rng, HEX, 64)}"', f"ETag: \"{pick(rng, HEX, 32)}\"",
        f"checksum = \"{pick(rng, HEX, 64)}\"",
        f"SHA256:{base64.b64encode(rng.randbytes(32)).decode().rstrip('=')} app@host (ED25519)",
    ])


def versions(rng):
    n = lambda: rng.randrange(10, 99)
    return rng.choice([
        f"Chrome/1{n()}.0.64{n()}.1{n()}", f"v{n()}.{n()}.{n()}", f"postgresql-15.{n()}-1.pgdg120+1",
        f"1.{n()}.0-rc.{n()}+build.{n()}",
        f"serde = \"1.0.{n()}\"", f"python 3.11.{n() % 9} on linux", f"kernel 6.1.0-{n()}-amd64",
        f"Mozilla/5.0 (X11; Linux x86_64; rv:1{n()}.0)",
        f"section 4.{n()}.2.1 of the contract", f"OID 1.3.6.1.4.1.{n()}311", f"version v{n()}.4.0.{n()}",
    ])


def images(rng):
    png = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + rng.randbytes(rng.randrange(200, 900))
    address = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return rng.choice([address, f"![x]({address})", json.dumps({"image": base64.b64encode(png).decode()})])


def prices(rng):
    n = rng.randrange(100, 999)
    return rng.choice([
        f"NT$ {n},{n % 900 + 100} 元", f"EUR {n}.50 for {n % 9 + 1} pieces", f"{n},{n % 900 + 100},000.00 TWD",
        f"1 USD = 31.{n} TWD",
        f"order_id,customer,amount\n00001,{19970000 + n},11.77\n00002,{19970000 + n + 1},12.00",
        f"{n} x 4 x 12 mm, 0.{n} kg",
    ])


def documents(rng):
    n = rng.randrange(10**6)
    return json.dumps(rng.choice([
        {"order_id": n, "total": n / 100, "items": [{"sku": f"TW-{n % 9999:04}", "quantity": 3}], "paid": True},
        {"type": "object", "properties": {"password": {"type": "string", "minLength": 8}},
            "required": ["password"]},
        {"usage": {"prompt_tokens": n % 9999, "total_tokens": n, "completion_tokens": 12},
            "finish_reason": "stop"},
        {"errors": {"password": "is required", "email": "is invalid", "token": "has expired"}},
        {"page": {"next_page_token": pick(rng, ALNUM, 24), "size": 50}},
        {"points": [[121.5654 + n % 7, 25.033], [120.3014, 22.6273]]},
        {"phone": None, "email": "", "card": "none on file", "ip": "unknown"},
        {"name": pick(rng, LOWER, 8), "age": n % 90},
    ]))


MAKERS = [
    (3, "placeholder", lambda rng: rng.choice(PLACEHOLDERS)), (3, "prose", lambda rng: rng.choice(PROSE)),
    (3, "code", lambda rng: rng.choice(CODE)), (2, "card that fails Luhn", bad_card),
    (1, "IBAN that fails mod 97", bad_iban),
    (1, "national id that fails its check", bad_national), (1, "company number that fails its check", bad_company),
    (1, "eight digits without a name", unnamed_company), (1, "ISBN", isbn), (3, "timestamp", timestamps),
    (5, "numbers in a log", log_numbers), (4, "identifier", identifiers), (3, "digest", digests),
    (3, "version", versions),
    (1, "image", images), (2, "price", prices), (3, "document", documents),
]


def choose(rng):
    """A kind and a text."""
    _, form, make = rng.choices(MAKERS, weights=[maker[0] for maker in MAKERS])[0]
    return form, make(rng)
