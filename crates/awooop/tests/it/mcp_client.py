"""Drives an MCP server with the official SDK: lists the tools, makes the calls it is told to make, answers every question
of the server with the name Ada.

usage: mcp_client.py SERVER MODE CALLS
SERVER: a server's settings as MCP clients have them, {"url", "headers"} or {"command", "args", "env"}.
CALLS: JSON list of [tool, arguments].
Prints one JSON document: {"tools": [...], "instructions": ..., "calls": [{"result" | "error", "progress": [...]}]}.
"""

import asyncio
import contextlib
import json
import sys

import mcp
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client


@contextlib.asynccontextmanager
async def reach(server):
    if "command" in server:
        yield stdio_client(StdioServerParameters(**server))
    else:
        async with create_mcp_http_client(headers=server["headers"]) as http:
            yield streamable_http_client(server["url"], http_client=http)


async def accept(_context, _request):
    return mcp.types.ElicitResult(action="accept", content={"name": "Ada"})


async def main(server, mode, calls):
    async with reach(server) as transport, mcp.Client(transport, mode=mode, elicitation_callback=accept) as client:
        listed = await client.list_tools()
        answers = []
        for name, arguments in calls:
            progress = []

            async def note(done, _total, _message):
                progress.append(done)

            try:
                result = await client.call_tool(name, arguments, progress_callback=note)
                answers.append({"result": result.model_dump(mode="json", by_alias=True), "progress": progress})
            except mcp.MCPError as error:
                data = error.error
                error = {"code": data.code, "message": data.message, "data": data.data}
                answers.append({"error": error, "progress": progress})
        print(json.dumps({
            "protocol": client.protocol_version,
            "instructions": client.instructions,
            "tools": [tool.model_dump(mode="json", by_alias=True) for tool in listed.tools],
            "calls": answers,
        }))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])))
