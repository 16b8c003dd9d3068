// Drives an MCP server with an official TypeScript SDK: lists the tools, makes the calls it is told to make, answers
// every question of the server with the name Ada.
//
// usage: client.mjs LINE SERVER MODE CALLS
// LINE: "v1" (@modelcontextprotocol/sdk) or "v2" (@modelcontextprotocol/client).
// SERVER: {"url", "headers"}. MODE: "legacy" or "auto", only v2 knows. CALLS: JSON list of [tool, arguments].
// Prints one JSON document: {"protocol", "tools": [...], "calls": [{"result" | "error", "progress": [...]}]}.
const [line, server, mode, calls] = process.argv.slice(2);
const { url, headers } = JSON.parse(server);
const about = { name: "awooop-tests", version: "1" };
const capabilities = { elicitation: {} };
const accept = async () => ({ action: "accept", content: { name: "Ada" } });

async function connect() {
  if (line === "v2") {
    const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
    const client = new Client(about, { capabilities, versionNegotiation: { mode } });
    client.setRequestHandler("elicitation/create", accept);
    await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }));
    const call = (name, args, options) => client.callTool({ name, arguments: args }, options);
    return { client, call, protocol: client.getNegotiatedProtocolVersion() };
  }
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
  const { ElicitRequestSchema } = await import("@modelcontextprotocol/sdk/types.js");
  const client = new Client(about, { capabilities });
  client.setRequestHandler(ElicitRequestSchema, accept);
  const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
  await client.connect(transport);
  const call = (name, args, options) => client.callTool({ name, arguments: args }, undefined, options);
  return { client, call, protocol: transport.protocolVersion };
}

const { client, call, protocol } = await connect();
const { tools } = await client.listTools();
const answers = [];
for (const [name, args] of JSON.parse(calls)) {
  const progress = [];
  const onprogress = (report) => progress.push(report.progress);
  try {
    answers.push({ result: await call(name, args, { onprogress }), progress });
  } catch (error) {
    answers.push({ error: { code: error.code, message: error.message, data: error.data }, progress });
  }
}
await client.close();
console.log(JSON.stringify({ protocol, tools: tools.map((tool) => tool.name), calls: answers }));
