// A real OpenID Connect provider (npm oidc-provider) for the tests: the device
// flow, a groups claim, auth_time and acr. Who signs in, and how, says the
// header x-login of whoever drives the sign-in pages: NAME or NAME ACR.
//
//   node provider.mjs NODE_MODULES '{"ann": ["leads"]}'
//
// It prints {"issuer": URL} once it serves, takes {"name": [groups]} lines on
// standard input to change groups, and ends when that does.
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

console.info = console.error; // what it says of itself is not for who reads our lines
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

const [, , modules, people] = process.argv;
const load = (file) => import(pathToFileURL(path.join(modules, file)));
const { default: Provider } = await load('oidc-provider/lib/index.js');
const { generateKeyPair, exportJWK } = await load('jose/dist/webapi/index.js');

const groups = JSON.parse(people);
const { privateKey } = await generateKeyPair('RS256', { extractable: true });
const key = { ...(await exportJWK(privateKey)), alg: 'RS256', use: 'sig', kid: 'test' };

const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'exeat', token_endpoint_auth_method: 'none', application_type: 'native', redirect_uris: [], response_types: [],
    grant_types: ['urn:ietf:params:oauth:grant-type:device_code'], require_auth_time: true,
  }, {
    client_id: 'other', token_endpoint_auth_method: 'none', application_type: 'native', redirect_uris: [], response_types: [],
    grant_types: ['urn:ietf:params:oauth:grant-type:device_code'],
  }],
  jwks: { keys: [key] },
  acrValues: ['pwd', 'mfa'],
  claims: { openid: ['sub', 'groups', 'preferred_username'], acr: null, auth_time: null },
  conformIdTokenClaims: false,
  cookies: { keys: ['for the tests alone'] },
  features: { deviceFlow: { enabled: true }, devInteractions: { enabled: false }, claimsParameter: { enabled: true } },
  findAccount: (ctx, id) => ({
    accountId: id, claims: () => ({ sub: id, groups: groups[id] ?? [], preferred_username: `${id}@example.org` }),
  }),
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  // Whoever signs in agrees to all of it: consent is not what is tested.
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
    grant.addOIDCScope('openid groups');
    await grant.save();
    return grant;
  },
});

const serve = provider.callback();
server.on('request', async (req, res) => {
  if (!req.url.startsWith('/interaction/')) {
    serve(req, res);
    return;
  }
  const [name, acr] = (req.headers['x-login'] ?? '').split(' ');
  try {
    const { prompt } = await provider.interactionDetails(req, res);
    const result = prompt.name === 'login' ? { login: { accountId: name, acr: acr ?? 'pwd' } } : { consent: {} };
    await provider.interactionFinished(req, res, result);
  } catch (err) {
    res.writeHead(500).end(String(err));
  }
});

createInterface({ input: process.stdin })
  .on('line', (line) => { Object.assign(groups, JSON.parse(line)); say({ changed: true }); })
  .on('close', () => process.exit(0));
say({ issuer });
