/* Every key of the configuration contract is known: supported, or refused by name as not yet supported. */
#include <errno.h>
#include <stdio.h>

#include "support.h"

/* All keys of the contract, in its order, with what it shows for them. Sections whose keys are ours to name are given one name. */
static const char contract[] = "version: 1\n"                                                                                   /* 1 */
                               "user: sallyport\n"                                                                              /* 2 */
                               "listeners:\n"                                                                                   /* 3 */
                               "  - address: 0.0.0.0:443\n"                                                                     /* 4 */
                               "    certificates:\n"                                                                            /* 5 */
                               "      - chain: tls/fullchain.pem\n"                                                             /* 6 */
                               "        key: tls/privkey.pem\n"                                                                 /* 7 */
                               "        credential: NAME\n"                                                                     /* 8 */
                               "    client_certificate: optional\n"                                                             /* 9 */
                               "    client_ca: tls/clients-ca.pem\n"                                                            /* 10 */
                               "    protocols: [h2, http/1.1]\n"                                                                /* 11 */
                               "    max_connections: 20000\n"                                                                   /* 12 */
                               "    max_connections_per_address: 256\n"                                                         /* 13 */
                               "    handshake_timeout: 5s\n"                                                                    /* 14 */
                               "    header_timeout: 10s\n"                                                                      /* 15 */
                               "    idle_timeout: 75s\n"                                                                        /* 16 */
                               "    proxy_protocol: false\n"                                                                    /* 17 */
                               "    trusted_proxies: []\n"                                                                      /* 18 */
                               "    allow: []\n"                                                                                /* 19 */
                               "    deny: []\n"                                                                                 /* 20 */
                               "workers: auto\n"                                                                                /* 21 */
                               "drain_timeout: 30s\n"                                                                           /* 22 */
                               "memory:\n"                                                                                      /* 23 */
                               "  bodies: 256MiB\n"                                                                             /* 24 */
                               "redis:\n"                                                                                       /* 25 */
                               "  url: redis://127.0.0.1:6379/0\n"                                                              /* 26 */
                               "  sentinel: {master: limits, nodes: [10.0.0.1:26379, 10.0.0.2:26379]}\n"                        /* 27 */
                               "  cluster: [10.0.0.1:6379, 10.0.0.2:6379]\n"                                                    /* 28 */
                               "  username: sallyport\n"                                                                        /* 29 */
                               "  password_file: redis.password\n"                                                              /* 30 */
                               "  credential: NAME\n"                                                                           /* 31 */
                               "  ca: tls/redis-ca.pem\n"                                                                       /* 32 */
                               "  certificate: c.pem\n"                                                                         /* 33 */
                               "  key: k.pem\n"                                                                                 /* 34 */
                               "  deadline: 5ms\n"                                                                              /* 35 */
                               "  prefix: \"sallyport:\"\n"                                                                     /* 36 */
                               "  gateways: 1\n"                                                                                /* 37 */
                               "  allow_eviction: false\n"                                                                      /* 38 */
                               "issuers:\n"                                                                                     /* 39 */
                               "  - issuer: https://login.example.com\n"                                                        /* 40 */
                               "    audience: [inference]\n"                                                                    /* 41 */
                               "    jwks: https://login.example.com/.well-known/jwks.json\n"                                    /* 42 */
                               "    ca: tls/idp-ca.pem\n"                                                                       /* 43 */
                               "    algorithms: [RS256, PS256, ES256, EdDSA, HS256]\n"                                          /* 44 */
                               "    secret_file: hs.secret\n"                                                                   /* 45 */
                               "    claims: {subject: sub, tenant: org_id, roles: roles, scopes: scope}\n"                      /* 46 */
                               "    leeway: 60s\n"                                                                              /* 47 */
                               "    max_token_age: 24h\n"                                                                       /* 48 */
                               "    types: [at+jwt, JWT]\n"                                                                     /* 49 */
                               "    introspection:\n"                                                                           /* 50 */
                               "      url: https://login.example.com/introspect\n"                                              /* 51 */
                               "      client_id: sallyport\n"                                                                   /* 52 */
                               "      client_secret_file: idp.secret\n"                                                         /* 53 */
                               "      cache: 30s\n"                                                                             /* 54 */
                               "api_keys: keys.yaml\n"                                                                          /* 55 */
                               "roles:\n"                                                                                       /* 56 */
                               "  chat: {models: [\"llama-3*\", \"qwen*\"], limits: [per-caller]}\n"                            /* 57 */
                               "  batch: {models: [\"*\"], limits: [per-caller-batch], priority: low}\n"                        /* 58 */
                               "limits:\n"                                                                                      /* 59 */
                               "  per-caller:\n"                                                                                /* 60 */
                               "    by: [subject]\n"                                                                            /* 61 */
                               "    requests: 600/min\n"                                                                        /* 62 */
                               "    request_burst: 60\n"                                                                        /* 63 */
                               "    tokens: 200000/min\n"                                                                       /* 64 */
                               "    token_burst: 200000\n"                                                                      /* 65 */
                               "    concurrency: 16\n"                                                                          /* 66 */
                               "    mode: leased\n"                                                                             /* 67 */
                               "    on_outage: share\n"                                                                         /* 68 */
                               "    shadow: false\n"                                                                            /* 69 */
                               "  per-caller-batch: {by: [subject, tenant, key, route], requests: 60/min, tokens: 2000000/h}\n" /* 70 */
                               "  failed-logins: {by: [address], requests: 30/min, count: unauthorized}\n"                      /* 71 */
                               "  by-model: {by: [model], requests: 1/s}\n"                                                     /* 72 */
                               "pools:\n"                                                                                       /* 73 */
                               "  llama:\n"                                                                                     /* 74 */
                               "    servers:\n"                                                                                 /* 75 */
                               "      - url: http://10.0.0.11:8000\n"                                                           /* 76 */
                               "        weight: 1\n"                                                                            /* 77 */
                               "        max_in_flight: 64\n"                                                                    /* 78 */
                               "      - url: https://gpu-2.internal:8443\n"                                                     /* 79 */
                               "      - url: h2c://gpu-3.internal:8443\n"                                                       /* 80 */
                               "    balance: least_loaded\n"                                                                    /* 81 */
                               "    protocol: auto\n"                                                                           /* 82 */
                               "    tls: {ca: a.pem, server_name: gpu.internal, certificate: tls/gw.pem, key: tls/gw.key}\n"    /* 83 */
                               "    credential: {header: Authorization, prefix: \"Bearer \", value_file: openai.key}\n"         /* 84 */
                               "    identity: false\n"                                                                          /* 85 */
                               "    health: {path: /health, interval: 5s, timeout: 2s, healthy_after: 2, unhealthy_after: 3}\n" /* 86 */
                               "    outlier: {consecutive_failures: 5, eject_for: 30s}\n"                                       /* 87 */
                               "    retries: 1\n"                                                                               /* 88 */
                               "    queue: {depth: 256, timeout: 10s}\n"                                                        /* 89 */
                               "    connect_timeout: 2s\n"                                                                      /* 90 */
                               "    connections: 256\n"                                                                         /* 91 */
                               "models:\n"                                                                                      /* 92 */
                               "  llama-3: {pool: llama, as: meta-llama/Llama-3.1-8B-Instruct, fallback: [qwen-7b]}\n"          /* 93 */
                               "  qwen-7b: {pool: llama}\n"                                                                     /* 94 */
                               "routes:\n"                                                                                      /* 95 */
                               "  - name: chat\n"                                                                               /* 96 */
                               "    host: [api.example.com]\n"                                                                  /* 97 */
                               "    path: /v1/\n"                                                                               /* 98 */
                               "    methods: [GET, POST]\n"                                                                     /* 99 */
                               "    authenticate: [jwt, api_key, client_certificate]\n"                                         /* 100 */
                               "    roles: []\n"                                                                                /* 101 */
                               "    scopes: []\n"                                                                               /* 102 */
                               "    limits: [per-caller]\n"                                                                     /* 103 */
                               "    models: body\n"                                                                             /* 104 */
                               "    pool: llama\n"                                                                              /* 105 */
                               "    max_body: 8MiB\n"                                                                           /* 106 */
                               "    strip_prefix: \"\"\n"                                                                       /* 107 */
                               "    websocket: false\n"                                                                         /* 108 */
                               "    timeouts: {first_byte: 60s, idle: 60s, total: 1h}\n"                                        /* 109 */
                               "    max_tokens: {default: 1024, cap: 8192}\n"                                                   /* 110 */
                               "    request_headers: {allow: [], set: {}}\n"                                                    /* 111 */
                               "    response_headers: {allow: [], set: {}}\n"                                                   /* 112 */
                               "admin:\n"                                                                                       /* 113 */
                               "  socket: /run/sallyport/admin.sock\n"                                                          /* 114 */
                               "  groups: {sallyport-view: viewer, sallyport-admin: admin}\n"                                   /* 115 */
                               "  metrics: 127.0.0.1:9464\n"                                                                    /* 116 */
                               "logs:\n"                                                                                        /* 117 */
                               "  access: stdout\n"                                                                             /* 118 */
                               "  audit: audit.log\n"                                                                           /* 119 */
                               "  level: info\n"                                                                                /* 120 */
                               "tracing: {otlp: http://127.0.0.1:4318/v1/traces, sample: 0.01}\n";                              /* 121 */

static void every_key_of_the_contract_is_known_or_refused_by_name(void **state) {
    ASSERT_ERRORS(contract, "t:8:21: `credential` stands instead of `key`; keep one of them",
                  "t:11:17: `protocols: h2` is not yet supported; remove it (possible now: http/1.1)",
                  "t:27:3: `sentinel` stands instead of `url`: one of `url`, `sentinel` and `cluster` says where Redis is; keep one of them",
                  "t:28:3: `cluster` stands instead of `url`: one of `url`, `sentinel` and `cluster` says where Redis is; keep one of them",
                  "t:31:15: `credential` stands instead of `password_file`; keep one of them",
                  "t:80:14: `url`: `h2c://` is not yet supported; use http:// or https://",
                  "t:119:3: `audit` is not yet supported; remove it", "t:121:1: `tracing` is not yet supported; remove it");
}

static void other_values_that_are_not_yet_supported_are_refused_by_name(void **state) {
    ASSERT_ERRORS("version: 1\n" LISTENERS
                  "pools:\n  p:\n    servers: [{url: \"http://h\"}]\n    balance: session\n    protocol: h2\n    identity: true\n"
                  "routes:\n  - {name: r, path: /, authenticate: [none], pool: p, websocket: true}\n",
                  "t:8:14: `balance: session` is not yet supported; remove it (possible now: least_loaded or round_robin)",
                  "t:9:15: `protocol: h2` is not yet supported; remove it (possible now: auto or http/1.1)",
                  "t:10:15: `identity` other than false is not yet supported; remove it",
                  "t:12:66: `websocket` other than false is not yet supported; remove it");
}

/* What is said to be harmless may be written down. */
static void the_defaults_of_what_is_not_yet_supported_may_be_written(void **state) {
    struct sp_config *config =
        config_of("version: 1\n" LISTENERS "    client_certificate: none\n    proxy_protocol: false\n    trusted_proxies: []\n"
                  "    protocols: [http/1.1]\n"
                  "pools:\n  p:\n    servers: [{url: \"http://h\"}]\n    identity: false\n    protocol: http/1.1\n"
                  "routes:\n  - {name: r, path: /, authenticate: [none], pool: p, websocket: false}\n");
    assert_int_equal(config->listeners[0].client_certificate, SP_CLIENT_CERT_NONE);
    assert_int_equal(config->listeners[0].protocols.count, 1);
    sp_config_unref(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_of_the_contract_is_known_or_refused_by_name),
        cmocka_unit_test(other_values_that_are_not_yet_supported_are_refused_by_name),
        cmocka_unit_test(the_defaults_of_what_is_not_yet_supported_may_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
