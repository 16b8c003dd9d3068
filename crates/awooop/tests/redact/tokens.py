"""Tokens that carry their own mark, by the vendors' published formats.

A row is a class, a form's name, and a template: `{set:count}` is random material of that set. Formats with a
checksum or a structure have a function. Cloud secrets without a mark of their own come with their name or id.
"""

import base64
import hashlib
import hmac
import json
import re
import zlib

import values
from values import ALNUM, BASE32, BASE64, DIGITS, HEX, LOWER, URLSAFE, Label, phrase, pick, token

SETS = {
    "A": ALNUM, "u": URLSAFE, "h": HEX, "d": DIGITS, "b": BASE64, "B": BASE32, "U": values.UPPER + DIGITS,
    "a": LOWER + DIGITS, "l": LOWER, "H": DIGITS + "ABCDEF",
}
PIECE = re.compile(r"\{(\w):(\d+)\}")

# class, form, template
TEMPLATES = [
    ("AWOOOP_KEY", "key", "awp_my_shop_{A:12}_{A:43}"),
    ("AWOOOP_KEY", "run token", "awr_{u:43}"),
    ("AWS_KEY", "access key id", "AKIA{B:16}"),
    ("AWS_KEY", "temporary key id", "ASIA{B:16}"),
    ("GOOGLE_KEY", "API key", "AIza{u:35}"),
    ("GOOGLE_KEY", "access token", "ya29.a0A{u:160}"),
    ("GOOGLE_KEY", "client secret", "GOCSPX-{u:28}"),
    ("GOOGLE_KEY", "refresh token", "1//0g{u:98}"),
    ("AZURE_KEY", "client secret", "{A:3}8Q~{u:34}"),
    ("AZURE_KEY", "DevOps token", "{A:76}AZDO{A:4}"),
    ("GITHUB_TOKEN", "fine-grained", "github_pat_{A:22}_{A:59}"),
    ("GITLAB_TOKEN", "personal", "glpat-{u:20}"),
    ("GITLAB_TOKEN", "routable", "glpat-{u:27}.01.0w{a:7}"),
    ("GITLAB_TOKEN", "deploy", "gldt-{u:20}"),
    ("GITLAB_TOKEN", "runner", "glrt-t1_{u:20}"),
    ("GITLAB_TOKEN", "trigger", "glptt-{h:40}"),
    ("GITLAB_TOKEN", "job", "glcbt-64_{u:20}"),
    ("GITLAB_TOKEN", "feed", "glft-{u:20}"),
    ("GITLAB_TOKEN", "incoming mail", "glimt-{a:25}"),
    ("GITLAB_TOKEN", "agent", "glagent-{u:50}"),
    ("GITLAB_TOKEN", "application", "gloas-{h:64}"),
    ("GITLAB_TOKEN", "SCIM", "glsoat-{u:20}"),
    ("GITLAB_TOKEN", "feature flags", "glffct-{u:20}"),
    ("REGISTRY_TOKEN", "PyPI", "pypi-AgEIcHlwaS5vcmc{u:150}"),
    ("REGISTRY_TOKEN", "RubyGems", "rubygems_{h:48}"),
    ("REGISTRY_TOKEN", "Docker Hub", "dckr_pat_{u:27}"),
    ("REGISTRY_TOKEN", "Docker Hub organisation", "dckr_oat_{u:32}"),
    ("REGISTRY_TOKEN", "crates.io", "cio{A:32}"),
    ("REGISTRY_TOKEN", "NuGet", "oy2{a:43}"),
    ("REGISTRY_TOKEN", "Clojars", "CLOJARS_{h:60}"),
    ("REGISTRY_TOKEN", "Artifactory", "AKCp8{A:68}"),
    ("MODEL_KEY", "OpenAI classic", "sk-{A:20}T3BlbkFJ{A:20}"),
    ("MODEL_KEY", "OpenAI project", "sk-proj-{u:74}T3BlbkFJ{u:74}"),
    ("MODEL_KEY", "OpenAI service account", "sk-svcacct-{u:74}T3BlbkFJ{u:74}"),
    ("MODEL_KEY", "OpenAI admin", "sk-admin-{u:74}T3BlbkFJ{u:74}"),
    ("MODEL_KEY", "Anthropic", "sk-ant-api03-{u:93}AA"),
    ("MODEL_KEY", "Anthropic OAuth", "sk-ant-oat01-{u:93}AA"),
    ("MODEL_KEY", "OpenRouter", "sk-or-v1-{h:64}"),
    ("MODEL_KEY", "DeepSeek", "sk-{h:32}"),
    ("MODEL_KEY", "Groq", "gsk_{A:52}"),
    ("MODEL_KEY", "Hugging Face", "hf_{A:34}"),
    ("MODEL_KEY", "Hugging Face organisation", "api_org_{A:34}"),
    ("MODEL_KEY", "xAI", "xai-{A:80}"),
    ("MODEL_KEY", "Perplexity", "pplx-{A:48}"),
    ("MODEL_KEY", "Replicate", "r8_{A:37}"),
    ("MODEL_KEY", "NVIDIA", "nvapi-{u:64}"),
    ("MODEL_KEY", "Together", "tgp_v1_{u:43}"),
    ("MODEL_KEY", "Cerebras", "csk-{a:48}"),
    ("MODEL_KEY", "Fireworks", "fw_{A:24}"),
    ("MODEL_KEY", "LangSmith", "lsv2_pt_{h:32}_{h:10}"),
    ("MODEL_KEY", "Voyage", "pa-{u:43}"),
    ("MODEL_KEY", "Jina", "jina_{h:32}{u:28}"),
    ("MODEL_KEY", "Tavily", "tvly-dev-{A:32}"),
    ("MODEL_KEY", "Pinecone", "pcsk_{A:6}_{A:63}"),
    ("TELEGRAM_TOKEN", "ten digits", "71{d:8}:AA{u:33}"),
    ("TELEGRAM_TOKEN", "nine digits", "5{d:8}:AA{u:33}"),
    ("SLACK_TOKEN", "bot", "xoxb-2{d:11}-3{d:12}-{A:24}"),
    ("SLACK_TOKEN", "user", "xoxp-2{d:11}-3{d:11}-4{d:12}-{h:32}"),
    ("SLACK_TOKEN", "legacy workspace", "xoxa-2-2{d:11}-3{d:11}-{h:32}"),
    ("SLACK_TOKEN", "refresh", "xoxe-1-{A:146}"),
    ("SLACK_TOKEN", "rotated", "xoxe.xoxp-1-{A:160}"),
    ("SLACK_TOKEN", "browser", "xoxc-2{d:11}-3{d:11}-4{d:12}-{h:64}"),
    ("SLACK_TOKEN", "cookie", "xoxd-{A:40}%2B{A:40}%2F{A:20}%3D"),
    ("SLACK_TOKEN", "application", "xapp-1-A0{U:9}-4{d:12}-{h:64}"),
    ("SLACK_TOKEN", "workflow", "xwfp-2{d:11}-3{d:12}-{A:24}"),
    ("SERVICE_TOKEN", "Stripe", "sk_live_51{A:97}"),
    ("SERVICE_TOKEN", "Stripe short", "sk_live_{A:24}"),
    ("SERVICE_TOKEN", "Stripe restricted", "rk_live_{A:24}"),
    ("SERVICE_TOKEN", "Stripe webhook", "whsec_{A:32}"),
    ("SERVICE_TOKEN", "SendGrid", "SG.{u:22}.{u:43}"),
    ("SERVICE_TOKEN", "Vault", "hvs.CAESI{u:90}"),
    ("SERVICE_TOKEN", "Vault batch", "hvb.AAAAAQ{u:130}"),
    ("SERVICE_TOKEN", "DigitalOcean", "dop_v1_{h:64}"),
    ("SERVICE_TOKEN", "DigitalOcean OAuth", "doo_v1_{h:64}"),
    ("SERVICE_TOKEN", "Shopify", "shpat_{h:32}"),
    ("SERVICE_TOKEN", "Shopify secret", "shpss_{h:32}"),
    ("SERVICE_TOKEN", "Mailgun", "key-{h:32}"),
    ("SERVICE_TOKEN", "Mailchimp", "{h:32}-us12"),
    ("SERVICE_TOKEN", "Databricks", "dapi{h:32}-2"),
    ("SERVICE_TOKEN", "Doppler", "dp.pt.{A:43}"),
    ("SERVICE_TOKEN", "Grafana", "glsa_{A:32}_{h:8}"),
    ("SERVICE_TOKEN", "Linear", "lin_api_{A:40}"),
    ("SERVICE_TOKEN", "Notion", "ntn_{d:11}{A:35}"),
    ("SERVICE_TOKEN", "Atlassian", "ATATT3xFfGF0{u:172}={H:8}"),
    ("SERVICE_TOKEN", "Postman", "PMAK-{h:24}-{h:34}"),
    ("SERVICE_TOKEN", "New Relic", "NRAK-{U:27}"),
    ("SERVICE_TOKEN", "Sentry", "sntryu_{h:64}"),
    ("SERVICE_TOKEN", "Square", "sq0csp-{u:43}"),
    ("SERVICE_TOKEN", "Terraform Cloud", "{A:14}.atlasv1.{u:67}"),
    ("SERVICE_TOKEN", "Pulumi", "pul-{h:40}"),
    ("SERVICE_TOKEN", "Supabase", "sbp_{h:40}"),
    ("SERVICE_TOKEN", "PlanetScale", "pscale_tkn_{u:43}"),
    ("SERVICE_TOKEN", "Figma", "figd_{u:40}"),
    ("SERVICE_TOKEN", "Airtable", "pat{A:14}.{h:64}"),
    ("SERVICE_TOKEN", "Netlify", "nfp_{A:40}"),
    ("SERVICE_TOKEN", "Brevo", "xkeysib-{h:64}-{A:16}"),
    ("SERVICE_TOKEN", "Tailscale", "tskey-auth-{A:12}CNTRL-{A:32}"),
    ("SERVICE_TOKEN", "SonarQube", "squ_{h:40}"),
    ("SERVICE_TOKEN", "Discord bot", "M{A:25}.{u:6}.{u:38}"),
    ("SERVICE_TOKEN", "Facebook", "EAAC{A:170}"),
    ("SERVICE_TOKEN", "Dropbox", "sl.B{u:135}"),
    ("SERVICE_TOKEN", "age identity", "AGE-SECRET-KEY-1{U:58}"),
]
# form, address, hidden part
WEBHOOKS = [
    ("Slack", "https://hooks.slack.com/services/T{U:9}/B{U:10}/", "{A:24}"),
    ("Slack workflow", "https://hooks.slack.com/triggers/T{U:9}/{d:13}/", "{h:32}"),
    ("Discord", "https://discord.com/api/webhooks/{d:19}/", "{u:68}"),
    ("Discord old host", "https://discordapp.com/api/webhooks/{d:18}/", "{u:68}"),
    ("Teams", "https://acme.webhook.office.com/webhookb2/{h:8}-{h:4}-4{h:3}-a{h:3}-{h:12}@{h:8}-{h:4}-4{h:3}-a{h:3}"
     "-{h:12}/IncomingWebhook/", "{h:32}"),
    ("Google Chat", "https://chat.googleapis.com/v1/spaces/AAAA{u:7}/messages?token=", "{u:43}"),
    ("Feishu", "https://open.feishu.cn/open-apis/bot/v2/hook/", "{h:8}-{h:4}-4{h:3}-a{h:3}-{h:12}"),
    ("DingTalk", "https://oapi.dingtalk.com/robot/send?access_token=", "{h:64}"),
    ("WeCom", "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=", "{h:8}-{h:4}-4{h:3}-a{h:3}-{h:12}"),
    ("Zapier", "https://hooks.zapier.com/hooks/catch/{d:7}/", "{a:7}"),
]
JWT_HEADERS = [
    {"alg": alg, "typ": "JWT"}
    for alg in ("HS256", "HS384", "HS512", "RS256", "PS256", "ES256", "ES384", "EdDSA", "none")
]
SIGNATURE_BYTES = {"RS256": 256, "PS256": 256, "ES256": 64, "ES384": 96, "EdDSA": 64}


def fill(rng, template):
    return PIECE.sub(lambda piece: pick(rng, SETS[piece[1]], int(piece[2])), template)


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def checked(rng, prefix):
    """GitHub's and npm's form: 30 characters and their CRC-32 in base 62."""
    body = pick(rng, ALNUM, 30)
    return prefix + body + values.base62(zlib.crc32(body.encode()), 6)


def jwt(rng, header):
    header = dict(header)
    if rng.random() < 0.5:
        header["kid"] = pick(rng, HEX, 16)
    claims = {"sub": pick(rng, DIGITS, 10), "iss": "https://id.example.org", "exp": 1900000000 + rng.randrange(10**6)}
    spacing = (",", ":") if rng.random() < 0.7 else (", ", ": ")
    signed = ".".join(b64url(json.dumps(part, separators=spacing).encode()) for part in (header, claims))
    alg = header["alg"]
    if alg == "none":
        return signed + "."
    if alg.startswith("HS"):
        signature = hmac.new(rng.randbytes(32), signed.encode(), getattr(hashlib, "sha" + alg[2:])).digest()
    else:
        signature = rng.randbytes(SIGNATURE_BYTES[alg])
    return signed + "." + b64url(signature)


def jwe(rng, alg):
    header = b64url(json.dumps({"alg": alg, "enc": "A256GCM"}, separators=(",", ":")).encode())
    key = "" if alg == "dir" else b64url(rng.randbytes(256))
    return ".".join([header, key, *(b64url(rng.randbytes(size)) for size in (12, 120, 16))])


def aws_values(rng):
    key_id, secret = "AKIA" + pick(rng, BASE32, 16), pick(rng, BASE64, 40)
    named = Label(
        ("aws_secret_access_key", "AWS_SECRET_ACCESS_KEY", "awsSecretAccessKey", "SecretAccessKey"),
        ("AWS secret access key",), ("AWS 金鑰",),
    )
    session = Label(("aws_session_token", "AWS_SESSION_TOKEN", "SessionToken"), ("session token",), ("session token",))
    yield token("AWS_KEY", "secret access key", secret, label=named, needs_label=True)
    yield phrase("AWS_KEY", "id and secret", f"{key_id},{secret}", key_id, secret)
    yield phrase("AWS_KEY", "id colon secret", f"{key_id}:{secret}", key_id, secret)
    long = "FwoGZXIvYXdzE" + pick(rng, BASE64, 300) + "="
    yield token("AWS_KEY", "session token", long, label=session, needs_label=True)


def azure_values(rng):
    key = base64.b64encode(rng.randbytes(64)).decode()
    text = f"DefaultEndpointsProtocol=https;AccountName=shop;AccountKey={key};EndpointSuffix=core.windows.net"
    yield phrase("AZURE_KEY", "storage connection string", text, key)
    shared = base64.b64encode(rng.randbytes(32)).decode()
    bus = f"Endpoint=sb://shop.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey={shared}"
    yield phrase("AZURE_KEY", "service bus connection string", bus, shared)
    signature = base64.b64encode(rng.randbytes(32)).decode().replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    sas = f"https://shop.blob.core.windows.net/a/b.txt?sv=2024-08-04&se=2027-01-01&sr=b&sp=r&sig={signature}"
    yield phrase("AZURE_KEY", "shared access signature", sas, signature)


def make(rng):
    """One value of every form."""
    for cls, form, template in TEMPLATES:
        yield token(cls, form, fill(rng, template))
    for prefix in ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"):
        yield token("GITHUB_TOKEN", f"classic {prefix}", checked(rng, prefix))
    yield token("REGISTRY_TOKEN", "npm", checked(rng, "npm_"))
    for form, address, secret in WEBHOOKS:
        secret = fill(rng, secret)
        yield phrase("WEBHOOK", form, fill(rng, address) + secret, secret)
    for header in JWT_HEADERS:
        yield token("JWT", header["alg"], jwt(rng, header))
    for alg in ("RSA-OAEP-256", "dir"):
        yield token("JWT", f"encrypted {alg}", jwe(rng, alg))
    yield from aws_values(rng)
    yield from azure_values(rng)
