"""The tools of this project: an MCP server (Streamable HTTP) that needs nothing but Python 3.9.

To add a tool, write a function under `@tool`. Its docstring tells the model what it is for, its type hints say
which arguments it takes (str, int, float, bool, a list of those, or Literal[...] for listed values; Annotated
adds a description), and it returns the answer: text, or text and a dict of data. An exception's text goes back
to the model as an error. Then name the tool in provider-tools.yaml and grant it in agent.yaml.
"""
import inspect
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

TOOLS = {}
TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def tool(function):
    """Offers a function as a tool."""
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    TOOLS[function.__name__] = function, {
        "name": function.__name__,
        "description": inspect.getdoc(function) or "",
        "inputSchema": {
            "type": "object",
            "properties": {p.name: schema(hints.get(p.name, str)) for p in parameters},
            "required": [p.name for p in parameters if p.default is p.empty],
            "additionalProperties": False,
        },
    }
    return function


def schema(hint):
    """The JSON Schema of a type hint."""
    if get_origin(hint) is Annotated:
        inner, description = get_args(hint)[:2]
        return {**schema(inner), "description": description}
    if get_origin(hint) is Literal:
        return {"type": TYPES[type(get_args(hint)[0])], "enum": list(get_args(hint))}
    if get_origin(hint) is list:
        return {"type": "array", "items": schema(get_args(hint)[0])}
    if hint not in TYPES:
        raise TypeError(f"{hint} is no type that an argument of a tool may have")
    return {"type": TYPES[hint]}


# ---- Your tools ----------------------------------------------------------------------------------------------

HOURS = {
    "monday": None, "tuesday": ("10:00", "18:00"), "wednesday": ("10:00", "18:00"), "thursday": ("10:00", "18:00"),
    "friday": ("10:00", "21:00"), "saturday": ("09:30", "21:00"), "sunday": ("12:00", "17:00"),
}
Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
DAYS = (
    "The day: monday (星期一, 週一, 禮拜一), tuesday (星期二, 週二, 禮拜二), wednesday (星期三, 週三, 禮拜三), "
    "thursday (星期四, 週四, 禮拜四), friday (星期五, 週五, 禮拜五), saturday (星期六, 週六, 禮拜六), "
    "sunday (星期日, 星期天, 週日, 禮拜天)"
)


@tool
def opening_hours(day: Annotated[Day, DAYS]):
    """Opening hours of the shop on a day of the week: when it opens and closes.

    營業時間：幾點開門（開店）、幾點關門（打烊）、有沒有開。
    """
    if HOURS[day] is None:
        return f"The shop is closed on {day.capitalize()}.", {"day": day, "is_open": False}
    opens, closes = HOURS[day]
    text = f"On {day.capitalize()} the shop is open from {opens} to {closes}."
    return text, {"day": day, "opens": opens, "closes": closes}


# ---- The protocol: nothing below has to be changed -----------------------------------------------------------

VERSIONS = ["2025-11-25", "2025-06-18", "2025-03-26"]


def call(name, arguments):
    try:
        answer = TOOLS[name][0](**arguments)
    except Exception as error:  # the model is told and may try again
        return {"content": [{"type": "text", "text": f"{type(error).__name__}: {error}"}], "isError": True}
    text, data = answer if isinstance(answer, tuple) else (answer, None)
    result = {"content": [{"type": "text", "text": str(text)}]}
    return result if data is None else {**result, "structuredContent": data}


def answer(method, params):
    """The result of a request, or an error's code and message."""
    if method == "initialize":
        wanted = params.get("protocolVersion")
        return {
            "protocolVersion": wanted if wanted in VERSIONS else VERSIONS[0],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "tools.py", "version": "1"},
        }
    if method == "ping":
        return {}
    if method == "tools/list":
        return {"tools": [definition for _, definition in TOOLS.values()]}
    if method == "tools/call":
        known = params.get("name") in TOOLS
        return call(params["name"], params.get("arguments") or {}) if known else (-32602, "there is no such tool")
    return -32601, "there is no such method"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 4_000_000))
        if self.headers.get("Origin"):  # a web page has no business here
            return self.reply(403)
        try:
            message = json.loads(body)
            params = message.get("params") or {}
            if "method" not in message or "id" not in message:  # a notification or a reply
                return self.reply(202)
        except (ValueError, AttributeError):
            return self.reply(400)
        result = answer(message["method"], params)
        outcome = {"result": result}
        if isinstance(result, tuple):
            outcome = {"error": {"code": result[0], "message": result[1]}}
        self.reply(200, {"jsonrpc": "2.0", "id": message["id"], **outcome})

    def do_GET(self):
        self.reply(405)

    def reply(self, status, document=None):
        body = b"" if document is None else json.dumps(document, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "7801"))), Handler)
    print(f"{', '.join(TOOLS)} at http://127.0.0.1:{server.server_port}/mcp", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
