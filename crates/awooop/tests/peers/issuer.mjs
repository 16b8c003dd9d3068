// The oauth2-mock-server with what a real issuer would add: an audience, a client, a subject and groups in its access
// tokens. Prints its address once it listens; groups come from the first argument, parted by commas.
import { OAuth2Server } from "oauth2-mock-server";

const groups = (process.argv[2] ?? "").split(",").filter(Boolean);
const server = new OAuth2Server();
await server.issuer.keys.generate("RS256");
server.service.on("beforeTokenSigning", (token) => {
  const { payload } = token;
  payload.sub = "ana-at-the-mock";
  if (payload.aud === "awooop-cli") return; // the ID token
  payload.aud = "awooop";
  payload.azp = "awooop-cli";
  payload.groups = groups;
});
await server.start(0, "127.0.0.1");
server.issuer.url = `http://127.0.0.1:${server.address().port}`;
console.log(server.issuer.url);
