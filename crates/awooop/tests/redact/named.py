"""Secrets known by what stands around them: private key blocks, addresses, headers, names.

Blocks have the layout of RFC 7468, OpenSSH, RFC 4880 (with its CRC-24), RFC 4716 and PuTTY, in the shapes in which
they travel: escaped, quoted line by line, concatenated, indented, cited, or cut off.
"""

import base64

from values import ALNUM, DIGITS, HEX, LOWER, Label, Value, phrase, pick, token

SCHEMES = [
    "postgres", "postgresql", "mysql", "mongodb", "mongodb+srv", "redis", "rediss", "amqp", "amqps", "ftp", "sftp",
    "smtp", "smtps", "https", "http", "mssql", "clickhouse", "nats", "ldap", "postgresql+asyncpg",
]
SECRET_LABELS = Label(
    ("password", "Password", "PASSWORD", "db_password", "DB_PASSWORD", "dbPassword",
     "passwd", "pwd", "client_secret", "clientSecret",
     "client-secret", "api_key", "apiKey", "X-Api-Key", "API_KEY", "access_token", "accessToken", "refresh_token",
     "auth_token", "secret", "secret_key", "SECRET_KEY", "signing_key", "encryption_key", "private_key", "passphrase",
     "SMTP_PASS", "spring.datasource.password", "redis.password", "credentials", "webhook_secret"),
    ("password", "API key", "access token", "passphrase", "client secret"),
    ("密碼", "密码", "口令", "金鑰", "密鑰", "API 金鑰"),
)
# form, text around the value
SPELLINGS = [
    ("flag", "deploy --host db --password {} --verbose"),
    ("flag with equals", "deploy --password={} --host db"),
    ("export", "export API_KEY={}"),
    ("Ruby symbol", ":password => \"{}\","),
    ("Go assignment", "password := \"{}\""),
    ("XML attribute", "<user name=\"app\" password=\"{}\"/>"),
    ("XML pair", "<add key=\"Password\" value=\"{}\"/>"),
    ("HTML field", "<input type=\"hidden\" name=\"password\" value=\"{}\">"),
    ("netrc", "machine db.example.org login app password {}"),
    ("connection string", "Server=db;Database=shop;User Id=app;Password={};Encrypt=yes"),
    ("libpq", "host=db user=app password={} dbname=shop"),
    ("libpq quoted", "host=db password='{}' dbname=shop"),
    ("JDBC", "jdbc:sqlserver://db:1433;user=app;password={};encrypt=true"),
    ("pair of members", '{"name": "DB_PASSWORD", "value": "{}"}'),
    ("pair, value first", '{"value": "{}", "name": "DB_PASSWORD"}'),
    ("subscript", 'config["password"] = "{}"'),
    ("setter", 'client.setPassword("{}")'),
    ("argument", 'connect(host="db", password="{}")'),
    ("SQL", "ALTER ROLE app WITH PASSWORD '{}';"),
    ("SQL identified", "CREATE USER 'app'@'%' IDENTIFIED BY '{}';"),
    ("curl user", "curl -u app:{} https://api.example.org/"),
    ("sshpass", "sshpass -p {} ssh app@host"),
    ("set command", "git config --global http.password {}"),
    ("arrow", "password -> {}"),
    ("Chinese colon", "密碼：{}，請勿外流"),
    ("Chinese is", "資料庫的密碼是 {}，請勿外流"),
    ("Chinese simplified", "数据库密码为 {}，请勿外传"),
    ("Japanese", "パスワード：{}"),
    ("Korean", "비밀번호: {}"),
    ("German", "Passwort: {}"),
    ("Spanish", "contraseña: {}"),
    ("French", "mot de passe : {}"),
    ("TOML", "password = \"{}\""),
    ("npmrc", "//registry.example.org/:_authToken={}"),
    ("PHP", "define('DB_PASSWORD', '{}');"),
    ("Terraform", "  admin_password = \"{}\""),
    ("log of an object", "User(id=7, name=app, password={}, active=true)"),
    ("bracketed log", "login failed [user=app] [password={}]"),
    ("question and answer", "Q: the password? A: password is {}"),
]


def folded(text, width):
    return "\n".join(text[at : at + width] for at in range(0, len(text), width))


def crc24(data):
    """RFC 4880, 6.1."""
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc & 0xFFFFFF


def blocks(rng):
    """Form, head, body lines, tail of every kind of block."""
    der = lambda size: folded(base64.b64encode(b"\x30\x82\x02\x5c\x02\x01\x00" + rng.randbytes(size)).decode(), 64)
    for name, size in [("RSA", 320), ("EC", 114), ("DSA", 300)]:
        yield name, f"-----BEGIN {name} PRIVATE KEY-----\n", der(size), f"\n-----END {name} PRIVATE KEY-----"
    yield "PKCS8", "-----BEGIN PRIVATE KEY-----\n", der(310), "\n-----END PRIVATE KEY-----"
    yield ("PKCS8 encrypted", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n", der(330),
           "\n-----END ENCRYPTED PRIVATE KEY-----")
    iv = pick(rng, DIGITS + "ABCDEF", 32)
    yield ("RSA encrypted", f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{iv}\n\n",
           der(320), "\n-----END RSA PRIVATE KEY-----")
    ssh = folded(base64.b64encode(b"openssh-key-v1\x00" + rng.randbytes(360)).decode(), 70)
    yield "OpenSSH", "-----BEGIN OPENSSH PRIVATE KEY-----\n", ssh, "\n-----END OPENSSH PRIVATE KEY-----"
    packet = b"\x95\x01\xfe" + rng.randbytes(500)
    check = base64.b64encode(crc24(packet).to_bytes(3, "big")).decode()
    yield ("PGP", "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n\n",
           folded(base64.b64encode(packet).decode(), 64), f"\n={check}\n-----END PGP PRIVATE KEY BLOCK-----")
    yield ("SSH2", '---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nComment: "app"\n', der(300),
           "\n---- END SSH2 ENCRYPTED PRIVATE KEY ----")
    public, private = (base64.b64encode(rng.randbytes(n)).decode() for n in (96, 180))
    yield ("PuTTY", "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: app\nPublic-Lines: 2\n"
           + folded(public, 64) + "\nPrivate-Lines: 4\n", folded(private, 64), f"\nPrivate-MAC: {pick(rng, HEX, 64)}")


def block_shapes(rng, name, head, body, tail):
    """A block in the shapes in which it travels."""
    text, lines = head + body + tail, (head + body + tail).split("\n")
    shape = lambda how, text: block(name, how, text, body)
    yield shape("lines", text)
    yield shape("CRLF", text.replace("\n", "\r\n"))
    yield shape("escaped", text.replace("\n", "\\n"))
    yield shape("escaped twice", text.replace("\n", "\\\\n"))
    yield shape("quoted lines", "\n".join(f'"{line}\\n"' for line in lines))
    yield shape("concatenated", " +\n".join(f'"{line}\\n"' for line in lines))
    yield shape("single quotes", "\n".join(f"'{line}\\n' \\" for line in lines))
    yield shape("array of lines", "[" + ", ".join(f'"{line}"' for line in lines) + "]")
    yield shape("indented", "\n".join("      " + line for line in lines))
    yield shape("cited", "\n".join("> " + line for line in lines))
    yield shape("commented", "\n".join("# " + line for line in lines))
    yield shape("diff", "\n".join("+" + line for line in lines))
    yield shape("numbered", "\n".join(f"{n:4} {line}" for n, line in enumerate(lines, 1)))
    yield shape("log lines", "\n".join(f"2026-05-01T10:00:00Z INFO {line}" for line in lines))
    yield shape("blank lines between", "\n\n".join(lines))
    if name not in ("PuTTY", "SSH2"):
        yield shape("on one line", text.replace("\n", " "))
        yield shape("without breaks", text.replace("\n", ""))
        yield shape("cut off", head + body[: len(body) * 2 // 3])
        yield shape("HTML breaks", text.replace("\n", "<br>\n"))


def block(name, how, text, body):
    whole = [line for line in body.split("\n") if line in text and len(line) > 40]
    hidden = tuple(whole) or (body.split("\n")[0],)
    return Value("PRIVATE_KEY", f"{name}, {how}", text, hidden, leak=16, lines=True)


def addresses(rng):
    """`scheme://user:password@host` and its relatives."""
    for scheme in SCHEMES:
        secret = rng.choice([
            pick(rng, ALNUM, 12), pick(rng, ALNUM, 10) + "%21" + pick(rng, ALNUM, 4), pick(rng, LOWER, 9) + "!7",
            "$" + pick(rng, ALNUM, 11), pick(rng, ALNUM, 6) + ":" + pick(rng, ALNUM, 6), pick(rng, HEX, 32),
        ])
        user = rng.choice(["app", "shop.writer", "svc-orders", "app%40acme"])
        host = rng.choice(["db", "db.internal:5432", "10.1.2.3", "db.example.org"])
        yield phrase("URL_PASSWORD", scheme, f"{scheme}://{user}:{secret}@{host}/shop", secret)
    secret = pick(rng, ALNUM, 16)
    yield phrase("URL_PASSWORD", "no user", f"redis://:{secret}@cache:6379/0", secret)
    yield phrase("URL_PASSWORD", "IPv6 host", f"postgres://app:{secret}@[2001:db8::7]:5432/shop", secret)
    yield phrase("URL_PASSWORD", "several hosts", f"mongodb://app:{secret}@a:27017,b:27017/shop?w=1", secret)
    long = pick(rng, ALNUM, 32)
    yield phrase("URL_PASSWORD", "token as user", f"https://{long}@git.example.org/acme/shop.git", long)
    yield phrase("URL_PASSWORD", "token as password", f"https://oauth2:{long}@git.example.org/acme/shop.git", long)
    yield phrase("URL_PASSWORD", "JDBC parameter", f"jdbc:postgresql://db/shop?user=app&password={secret}", secret)
    yield phrase("URL_PASSWORD", "escaped slashes", f"mysql:\\/\\/app:{secret}@db\\/shop", secret)


def headers(rng):
    """What follows `Authorization:`, and the same in other places."""
    bearer, pair = pick(rng, ALNUM, 40), f"app:{pick(rng, ALNUM, 12)}"
    basic = base64.b64encode(pair.encode()).decode()
    row = lambda form, text, *hidden: phrase("AUTHORIZATION", form, text, *hidden)
    yield row("Bearer", f"Authorization: Bearer {bearer}", bearer)
    yield row("bearer", f"authorization: bearer {bearer}", bearer)
    yield row("BEARER", f"AUTHORIZATION: BEARER {bearer}", bearer)
    yield row("Basic", f"Authorization: Basic {basic}", basic)
    yield row("Proxy Basic", f"Proxy-Authorization: Basic {basic}", basic)
    for scheme in ("Token", "Bot", "ApiKey", "Negotiate", "SSWS", "GenieKey", "Klaviyo-API-Key"):
        yield row(scheme, f"Authorization: {scheme} {bearer}", bearer)
    yield row("no scheme", f"Authorization: {bearer}", bearer)
    response = pick(rng, HEX, 32)
    yield row("Digest", 'Authorization: Digest username="app", realm="shop", nonce="7ypf/xlj9XXwfDPEoM4URrv/", '
              f'uri="/orders", response="{response}", opaque="5ccc069c"', response)
    mac = pick(rng, HEX, 64)
    yield row("AWS4", "Authorization: AWS4-HMAC-SHA256 Credential=20260501/eu-west-1/s3/aws4_request, "
              f"SignedHeaders=host;x-amz-date, Signature={mac}", mac)
    yield row("token parameter", f'Authorization: Token token="{bearer}"', bearer)
    yield row("OAuth 1", f'Authorization: OAuth oauth_consumer_key="app", oauth_signature="{bearer}"', bearer)
    yield row("curl", f"curl -H 'Authorization: Bearer {bearer}' https://api.example.org/", bearer)
    yield row("curl, double quotes", f'curl -H "Authorization: Basic {basic}" https://api.example.org/', basic)
    yield row("dict", f"{{'Authorization': 'Bearer {bearer}'}}", bearer)
    yield row("assignment", f"headers['Authorization'] = 'Bearer {bearer}'", bearer)
    yield row("prose", f"the gateway sent Bearer {bearer} to us", bearer)
    yield row("environment", f"HTTP_AUTHORIZATION=Bearer {bearer}", bearer)
    yield row("percent", f"authorization=Bearer%20{bearer}", bearer)
    yield row("header pairs", f'[("authorization", "Bearer {bearer}")]', bearer)
    yield row("HTTP/2 dump", f":method: GET\nauthorization: Bearer {bearer}\naccept: */*", bearer)


def secret_value(rng):
    """A password as people and programs make them."""
    word = lambda: rng.choice(["Harbor", "sunset", "Tiger", "quartz", "Maple", "ember", "Falcon"])
    return rng.choice([
        lambda: pick(rng, ALNUM, rng.randrange(10, 25)),
        lambda: f"{word()}{rng.randrange(10, 9999)}{rng.choice('!?#*')}",
        lambda: f"{word()}-{word()}-{rng.randrange(10, 99)}",
        lambda: pick(rng, HEX, 32),
        lambda: base64.b64encode(rng.randbytes(32)).decode(),
        lambda: pick(rng, ALNUM, 6) + rng.choice("@^+~") + pick(rng, ALNUM, 7),
    ])()


def named(rng):
    """Values of names that say they are secret."""
    for _ in range(12):
        yield token("SECRET", "named", secret_value(rng), label=SECRET_LABELS, needs_label=True)
    for form, around in SPELLINGS:
        secret = secret_value(rng)
        yield phrase("SECRET", form, around.replace("{}", secret), secret)


def make(rng):
    """One value of every form; a block in five of its shapes, which change with the seed."""
    for name, head, body, tail in blocks(rng):
        yield from rng.sample(list(block_shapes(rng, name, head, body, tail)), 5)
    yield from addresses(rng)
    yield from headers(rng)
    yield from named(rng)
