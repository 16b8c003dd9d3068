"""Drives an MCP endpoint with the official SDK: lists the tools, makes the calls it is told to make.

usage: mcp_client.py URL KEY MODE CALLS    (CALLS: JSON list of [tool, arguments])
Prints one JSON document: {"tools": [...], "instructions": ..., "calls": [{"result"} | {"error"}]}.
"""

import asyncio
import json
import sys

import mcp
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client


async def main(url, key, mode, calls):
    http = create_mcp_http_client(headers={"Authorization": f"Bearer {key}"})
    async with http, mcp.Client(streamable_http_client(url, http_client=http), mode=mode) as client:
        listed = await client.list_tools()
        answers = []
        for name, arguments in calls:
            try:
                result = await client.call_tool(name, arguments)
                answers.append({"result": result.model_dump(mode="json", by_alias=True)})
            except mcp.MCPError as error:
                data = error.error
                answers.append({"error": {"code": data.code, "message": data.message, "data": data.data}})
        print(json.dumps({
            "protocol": client.protocol_version,
            "instructions": client.instructions,
            "tools": [tool.model_dump(mode="json", by_alias=True) for tool in listed.tools],
            "calls": answers,
        }))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])))
