// A real authorization server for the black-box tests: npm oidc-provider on https://localhost:PORT.
//
//   node oidc_provider.mjs PORT CERTIFICATE KEY
//
// Says one JSON object per line on stdout: {"ready": true}, then an answer to each line on stdin:
//   rotate      sign with a new key from now on; the old one stays published
//   withdraw    publish and sign with a new key only
//   down / up   stop listening and cut connections / listen again
//   counts      how often each path was asked for
import { createServer } from 'node:https';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { generateKeyPairSync, randomUUID, X509Certificate } from 'node:crypto';
import { Provider } from 'oidc-provider';

const [port, certificate, key] = process.argv.slice(2);
const issuer = `https://localhost:${port}`;
const counts = {};

function newKey() {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'ES256' };
}

const client = (id, more = {}) => ({
  client_id: id, client_secret: `${id} secret: 100 % & +`, grant_types: ['client_credentials'], redirect_uris: [], response_types: [], ...more,
});

function configuration(keys) {
  return {
    jwks: { keys },
    clients: [client('app'), client('other'), client('sallyport'), client('bound', { tls_client_certificate_bound_access_tokens: true })],
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
    scopes: ['chat', 'admin'],
    ttl: { ClientCredentials: 600 },
    extraTokenClaims: (ctx, token) => ({ realm_access: { roles: ['user'] }, org: { id: `tenant-of-${token.clientId}` } }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: (ctx, asker) => asker.clientId === 'sallyport' },
      revocation: { enabled: true },
      mTLS: {
        enabled: true, certificateBoundAccessTokens: true,
        getCertificate: (ctx) => { const peer = ctx.req.socket.getPeerCertificate(); return peer.raw && new X509Certificate(peer.raw); },
      },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (ctx, resource) => ({
          scope: 'chat admin', audience: resource.includes('elsewhere') ? 'elsewhere' : 'inference',
          accessTokenFormat: resource.includes('opaque') ? 'opaque' : 'jwt', jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  };
}

let keys = [newKey()];
let handle = new Provider(issuer, configuration(keys)).callback();
const server = createServer(
  { cert: readFileSync(certificate), key: readFileSync(key), requestCert: true, rejectUnauthorized: false },
  (request, response) => {
    const { pathname } = new URL(request.url, issuer);
    counts[pathname] = (counts[pathname] ?? 0) + 1;
    handle(request, response);
  },
);
const say = (object) => process.stdout.write(`${JSON.stringify(object)}\n`);
const listen = () => new Promise((resolve) => { server.listen(Number(port), '127.0.0.1', resolve); });

const commands = {
  async rotate() { keys = [newKey(), ...keys]; handle = new Provider(issuer, configuration(keys)).callback(); },
  async withdraw() { keys = [newKey()]; handle = new Provider(issuer, configuration(keys)).callback(); },
  async down() { await new Promise((resolve) => { server.close(resolve); server.closeAllConnections(); }); },
  async up() { await listen(); },
  async counts() { return counts; },
};

await listen();
say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) say((await commands[line]()) ?? {});
process.exit(0);
