/* Every way a configuration can be wrong: the exact place and sentence. */
#include "support.h"

#define WITH_LISTENER(keys)                                                                                                                \
    "version: 1\n"                                                                                                                         \
    "listeners:\n"                                                                                                                         \
    "  - address: 127.0.0.1:8443\n"                                                                                                        \
    "    certificates: [{chain: c.pem, key: k.pem}]\n"                                                                                     \
    "    " keys "\n" POOLS ROUTES
#define WITH_POOL(keys)   "version: 1\n" LISTENERS "pools:\n  p:\n    servers: [{url: \"http://127.0.0.1:8000\"}]\n    " keys "\n" ROUTES
#define WITH_SERVER(text) "version: 1\n" LISTENERS "pools:\n  p:\n    servers:\n      - " text "\n" ROUTES
#define WITH_ROUTE(text)  "version: 1\n" LISTENERS POOLS "routes:\n  - " text "\n"

static void unknown_keys_get_the_nearest_known_one(void **state) {
    ASSERT_ERRORS(BASE "usr: x\n", "t:9:1: unknown key `usr` (did you mean `user`?)");
    ASSERT_ERRORS(BASE "rediss: x\n", "t:9:1: unknown key `rediss` (did you mean `redis`?)");
    ASSERT_ERRORS(BASE "blockchain: x\n", "t:9:1: unknown key `blockchain`; remove it");
    ASSERT_ERRORS(WITH_LISTENER("idle_timout: 5s"), "t:5:5: unknown key `idle_timout` (did you mean `idle_timeout`?)");
    ASSERT_ERRORS(WITH_POOL("blaance: round_robin"), "t:8:5: unknown key `blaance` (did you mean `balance`?)");
    ASSERT_ERRORS(BASE "generation: 1\nslot: 2\napi_key_list: []\n", "t:9:1: unknown key `generation`; remove it",
                  "t:10:1: unknown key `slot`; remove it", "t:11:1: unknown key `api_key_list`; remove it");
}

static void everything_that_is_missing_is_named_where_it_should_stand(void **state) {
    ASSERT_ERRORS("user: x\n", "t:1:1: `version` is missing in this configuration: of this format: 1",
                  "t:1:1: `listeners` is missing in this configuration: where clients connect: TLS 1.3 only",
                  "t:1:1: `pools` is missing in this configuration: model servers",
                  "t:1:1: `routes` is missing in this configuration: which requests go where; the first that matches wins");
    ASSERT_ERRORS(
        WITH_ROUTE("{name: r}"), "t:8:5: `path` is missing in this route: what the path begins with; exactly the path with a leading =",
        "t:8:5: `authenticate` is missing in this route: which credentials are taken; none must be said, and alone; a token or API "
        "key that is sent decides, a client_certificate where none is sent or nothing else is taken",
        "t:8:5: `pool` is missing in this route: who answers where no model decides; or say `models: body`");
}

static void wrong_types_say_what_is_expected(void **state) {
    ASSERT_ERRORS(BASE "drain_timeout: 30\n", "t:9:16: `drain_timeout`: expected a duration such as 20ms, 5s, 10m, 2h or 7d, not 30");
    ASSERT_ERRORS(BASE "drain_timeout: [a]\n", "t:9:16: `drain_timeout`: expected a duration such as 20ms, 5s, 10m, 2h or 7d, not a list");
    ASSERT_ERRORS(BASE "workers: many\n", "t:9:10: `workers`: expected a whole number or auto, not 'many'");
    ASSERT_ERRORS(BASE "workers: 1.5\n", "t:9:10: `workers`: expected a whole number or auto, not the number 1.5");
    ASSERT_ERRORS(BASE "workers: \"2\"\n", "t:9:10: `workers`: expected a whole number or auto, not '2'");
    ASSERT_ERRORS(BASE "user: 1000\n", "t:9:7: `user`: expected text, not 1000; put it in quotes");
    ASSERT_ERRORS(BASE "user: true\n", "t:9:7: `user`: expected text, not true; put it in quotes");
    ASSERT_ERRORS(BASE "user:\n", "t:9:6: `user` has no value; give it one or remove it");
    ASSERT_ERRORS(BASE "memory:\n", "t:9:8: `memory` has no value; give it one or remove it");
    ASSERT_ERRORS(BASE "memory: 5\n", "t:9:9: `memory`: expected keys with values, not 5");
    ASSERT_ERRORS(BASE "memory: {bodies: 256MB}\n", "t:9:18: `bodies`: expected a size such as 64KiB or 8MiB, not '256MB'");
    ASSERT_ERRORS(BASE "limits: {a: {by: [address], requests: 10 per s}}\n",
                  "t:9:39: `requests`: expected a rate such as 10/s, 600/min or 1000/h, not '10 per s'");
    ASSERT_ERRORS(BASE "limits: [a]\n", "t:9:9: `limits`: expected keys with values, not a list");
    ASSERT_ERRORS(BASE "limits: {a: 5}\n", "t:9:13: `limits`: expected keys with values after each name, not 5");
    ASSERT_ERRORS(BASE "limits: {a: {by: address, requests: 1/s, shadow: yes}}\n",
                  "t:9:18: `by`: expected a list, such as [a, b], not 'address'", "t:9:50: `shadow`: expected true or false, not 'yes'");
    ASSERT_ERRORS("version: 1\nlisteners: {}\n" POOLS ROUTES,
                  "t:2:12: `listeners`: expected a list (entries that begin with -), not keys with values");
    ASSERT_ERRORS("version: 1\nlisteners: [a]\n" POOLS ROUTES, "t:2:13: `listeners`: expected keys with values in each entry, not 'a'");
    ASSERT_ERRORS(WITH_LISTENER("allow: [10.0.0.0/33, 10.0.0.1/8, \"::/0\", 192.0.2.7]"),
                  "t:5:13: `allow`: expected an address range such as 10.0.0.0/8 or 2001:db8::/32, with no bits set beyond its length, not "
                  "'10.0.0.0/33'",
                  "t:5:26: `allow`: expected an address range such as 10.0.0.0/8 or 2001:db8::/32, with no bits set beyond its length, not "
                  "'10.0.0.1/8'");
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: /, authenticate: [none], pool: p, methods: [1]}"),
                  "t:8:65: `methods`: expected text, not 1; put it in quotes");
}

static void numbers_out_of_range_say_the_range(void **state) {
    ASSERT_ERRORS("version: 2\n" LISTENERS POOLS ROUTES, "t:1:10: `version` must be 1");
    ASSERT_ERRORS(BASE "workers: 0\n", "t:9:10: `workers` is out of range; it must be from 1 to 64");
    ASSERT_ERRORS(BASE "workers: 65\n", "t:9:10: `workers` is out of range; it must be from 1 to 64");
    ASSERT_ERRORS(BASE "workers: -1\n", "t:9:10: `workers` is out of range; it must be from 1 to 64");
    ASSERT_ERRORS(BASE "drain_timeout: 2d\n", "t:9:16: `drain_timeout` is out of range; it must be from 0ms to 1d");
    ASSERT_ERRORS(BASE "memory: {bodies: 64KiB}\n", "t:9:18: `bodies` is out of range; it must be from 1MiB to 1TiB");
    ASSERT_ERRORS(BASE "memory: {bodies: 99999999999TiB}\n", "t:9:18: `bodies` is out of range; it must be from 1MiB to 1TiB");
    ASSERT_ERRORS(BASE "limits: {a: {by: [address], requests: 0/s, request_burst: 0}}\n",
                  "t:9:39: `requests` is out of range; it must be from 1 to 1000000000000",
                  "t:9:59: `request_burst` is out of range; it must be from 1 to 1000000000000");
    ASSERT_ERRORS(BASE "limits: {a: {by: [address], requests: 1/s, request_burst: 1000000000001}}\n",
                  "t:9:59: `request_burst` is out of range; it must be from 1 to 1000000000000");
    ASSERT_ERRORS(WITH_SERVER("{url: \"http://h:1\", weight: 1001}"), "t:8:37: `weight` is out of range; it must be from 1 to 1000");
}

static void lists_that_are_empty_too_long_or_repeat_are_refused(void **state) {
    ASSERT_ERRORS("version: 1\nlisteners: []\npools: {}\nroutes: []\n", "t:2:12: `listeners` is empty; give at least one",
                  "t:3:8: `pools` is empty; give at least one", "t:4:9: `routes` is empty; give at least one");
    ASSERT_ERRORS(BASE "limits: {a: {by: [], requests: 1/s}}\n", "t:9:18: `by` is empty; give at least one");
    ASSERT_ERRORS(BASE "limits: {a: {by: [address, route, address], requests: 1/s}}\n", "t:9:35: `by` says 'address' twice; remove one");
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: /, authenticate: [none], pool: p, limits: [a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q]}"),
                  "t:8:63: `limits` has 17 entries; at most 16 are possible", "t:8:64: `limits`: there is no 'a' in `limits`",
                  "t:8:66: `limits`: there is no 'b' in `limits`", "t:8:68: `limits`: there is no 'c' in `limits`",
                  "t:8:70: `limits`: there is no 'd' in `limits`", "t:8:72: `limits`: there is no 'e' in `limits`",
                  "t:8:74: `limits`: there is no 'f' in `limits`", "t:8:76: `limits`: there is no 'g' in `limits`",
                  "t:8:78: `limits`: there is no 'h' in `limits`", "t:8:80: `limits`: there is no 'i' in `limits`",
                  "t:8:82: `limits`: there is no 'j' in `limits`", "t:8:84: `limits`: there is no 'k' in `limits`",
                  "t:8:86: `limits`: there is no 'l' in `limits`", "t:8:88: `limits`: there is no 'm' in `limits`",
                  "t:8:90: `limits`: there is no 'n' in `limits`", "t:8:92: `limits`: there is no 'o' in `limits`",
                  "t:8:94: `limits`: there is no 'p' in `limits`", "t:8:96: `limits`: there is no 'q' in `limits`");
}

static void wrong_choices_list_the_right_ones(void **state) {
    ASSERT_ERRORS(BASE "logs: {level: inof}\n", "t:9:15: `level`: expected error, warn, info or debug, not 'inof' (did you mean `info`?)");
    ASSERT_ERRORS(WITH_POOL("balance: random"), "t:8:14: `balance`: expected least_loaded or round_robin, not 'random'");
    ASSERT_ERRORS(BASE "admin: {socket: s, groups: {ops: root}}\n", "t:9:34: `ops`: expected viewer or admin, not 'root'");
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: /, authenticate: [basic], pool: p}"),
                  "t:8:39: `authenticate`: expected none, jwt, api_key or client_certificate, not 'basic'");
}

static void dangling_names_are_refused_with_a_hint(void **state) {
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: /, authenticate: [none], pool: q}"), "t:8:52: `pool`: there is no 'q' in `pools`");
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: /, authenticate: [none], pool: other}"), "t:8:52: `pool`: there is no 'other' in `pools`");
    ASSERT_ERRORS(
        WITH_ROUTE("{name: r, path: /, authenticate: [none], pool: p, limits: [per-cller]}") "limits: {per-caller: {by: [address], "
                                                                                             "requests: 1/s}}\n",
        "t:8:64: `limits`: there is no 'per-cller' in `limits` (did you mean `per-caller`?)");
    ASSERT_ERRORS(BASE "roles: {chat: {limits: [x]}}\n", "t:9:25: `limits`: there is no 'x' in `limits`");
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: /, authenticate: [api_key], pool: p, roles: [chta]}") "roles: {chat: {}}\napi_keys: k.yaml\n",
                  "t:8:66: `roles`: there is no 'chta' in `roles` (did you mean `chat`?)");
}

static void names_have_a_form(void **state) {
    ASSERT_ERRORS(BASE "limits: {a b: {by: [address], requests: 1/s}}\n",
                  "t:9:10: `limits`: 'a b': a name is 1 to 64 letters, digits, - _ and .");
    ASSERT_ERRORS(BASE "roles: {\"a b\": {}}\n", "t:9:9: `roles`: 'a b': a role is 1 to 128 visible ASCII characters without blanks");
    ASSERT_ERRORS(WITH_ROUTE("{name: a/b, path: /, authenticate: [none], pool: p}"),
                  "t:8:12: `name`: a name is 1 to 64 letters, digits, - _ and .");
    ASSERT_ERRORS(BASE "roles: {\"urn:example:role/chat\": {}}\n", NULL);
}

static void addresses_and_urls_have_a_form(void **state) {
    static const char listen[] = "t:3:15: `address`: expected host:port, [v6]:port (an address or localhost) or systemd:NAME";
    ASSERT_ERRORS("version: 1\nlisteners:\n  - {address: localhost, certificates: [{chain: c, key: k}]}\n" POOLS ROUTES, listen);
    ASSERT_ERRORS("version: 1\nlisteners:\n  - {address: \"127.0.0.1:0\", certificates: [{chain: c, key: k}]}\n" POOLS ROUTES, listen);
    ASSERT_ERRORS("version: 1\nlisteners:\n  - {address: \"127.0.0.1:65536\", certificates: [{chain: c, key: k}]}\n" POOLS ROUTES, listen);
    ASSERT_ERRORS("version: 1\nlisteners:\n  - {address: \"::1:443\", certificates: [{chain: c, key: k}]}\n" POOLS ROUTES, listen);
    ASSERT_ERRORS("version: 1\nlisteners:\n  - {address: \"systemd:\", certificates: [{chain: c, key: k}]}\n" POOLS ROUTES, listen);
    ASSERT_ERRORS("version: 1\nlisteners:\n  - {address: \"example.com:443\", certificates: [{chain: c, key: k}]}\n" POOLS ROUTES, listen);
    ASSERT_ERRORS(WITH_SERVER("url: 10.0.0.1:8000"), "t:8:14: `url`: expected a URL such as http://10.0.0.11:8000");
    ASSERT_ERRORS(WITH_SERVER("url: ftp://h"), "t:8:14: `url`: expected a URL that begins with http:// or https://");
    ASSERT_ERRORS(WITH_SERVER("url: http://u:p@h"), "t:8:14: `url`: names and passwords do not belong in the URL; take them out");
    ASSERT_ERRORS(WITH_SERVER("url: http://h/a?b"), "t:8:14: `url`: take the query (?) or fragment (#) off the URL");
    ASSERT_ERRORS(WITH_SERVER("url: http://10.0.0.256:80"),
                  "t:8:14: `url`: expected a host name or an address after ://, and maybe a port from 1 "
                  "to 65535; IPv6 addresses stand in brackets");
    ASSERT_ERRORS(BASE "admin: {metrics: 0.0.0.0:9464}\n",
                  "t:9:18: `metrics`: metrics are plain HTTP and stay on this machine; use a loopback "
                  "address such as 127.0.0.1:9464");
    ASSERT_ERRORS(BASE "admin: {metrics: \"9464\"}\n", "t:9:18: `metrics`: expected host:port, such as 127.0.0.1:9464");
    ASSERT_ERRORS(BASE "redis: {url: \"redis://u:secret@h:1\"}\n",
                  "t:9:14: `url`: names and passwords do not belong in the URL; use username and password_file");
    ASSERT_ERRORS(BASE "redis: {url: \"redis://10.0.0.1\"}\n",
                  "t:9:14: `url`: expected redis://host:port, rediss://host:port, either with /database, or unix:///path");
    ASSERT_ERRORS(BASE "redis: {url: \"redis://10.0.0.1:6379/x\"}\n",
                  "t:9:14: `url`: the database after the slash must be a number from 0 to 65535");
    ASSERT_ERRORS(BASE "redis: {url: \"redis://cache:6379\"}\n",
                  "t:9:14: `url`: a host name is not yet supported here; use an address or localhost");
}

static void routes_have_a_form(void **state) {
    static const char path[] = "t:8:21: `path`: a path begins with / (or =/ for exactly that path) and holds no blank, ? or #";
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: v1, authenticate: [none], pool: p}"), path);
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: \"==/\", authenticate: [none], pool: p}"), path);
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: \"/a?b\", authenticate: [none], pool: p}"), path);
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: /, authenticate: [none], pool: p, methods: [get, TRACE, \"A B\"]}"),
                  "t:8:65: `methods`: methods are written in capitals, such as GET",
                  "t:8:70: `methods`: CONNECT and TRACE are never forwarded; remove it",
                  "t:8:77: `methods`: expected a method, such as GET");
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: /, authenticate: [none], pool: p, host: [\"a:80\", \"*\", \"*.a.com\"]}"),
                  "t:8:62: `host`: expected a host name without a port, such as api.example.com or *.example.com",
                  "t:8:70: `host`: expected a host name without a port, such as api.example.com or *.example.com");
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: /v1/, authenticate: [none], pool: p, strip_prefix: /v2}"),
                  "t:8:72: `strip_prefix` is not how `path` begins, and would never be found; make them agree");
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: /v1/, authenticate: [none], pool: p, strip_prefix: /v1/}"),
                  "t:8:72: `strip_prefix`: expected a path that begins with / and ends without, such as /llama");
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: /, authenticate: [none], pool: p, max_body: 300MiB}"),
                  "t:8:65: `max_body` is larger than `memory.bodies` (256MiB), so no such body could ever be taken");
}

static void headers_that_frame_or_identify_cannot_be_set(void **state) {
    ASSERT_ERRORS(
        WITH_ROUTE("{name: r, path: /, authenticate: [none], pool: p, request_headers: {allow: [Authorization, X-Forwarded-For, a b], "
                   "set: {Host: x, x-ok: \"\\u00e9\", x-num: 5}}}"),
        "t:8:81: `allow`: the client's credentials never get through; what the servers need belongs in the pool's `credential`",
        "t:8:96: `allow`: the gateway writes this header itself",
        "t:8:113: `allow`: expected the name of a header, 1 to 64 letters, digits and -",
        "t:8:125: `set`: 'Host': this header frames or routes messages; the gateway writes it itself",
        "t:8:140: `x-ok`: a header's value is ASCII without line breaks", "t:8:157: `x-num`: expected text, not 5; put it in quotes");
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: /, authenticate: [none], pool: p, response_headers: {set: {Transfer-Encoding: x}}}"),
                  "t:8:80: `set`: 'Transfer-Encoding': this header frames or routes messages; the gateway writes it itself");
    ASSERT_ERRORS(WITH_POOL("credential: {header: content-length, value_file: v}"),
                  "t:8:26: `header`: this header frames or routes messages; the gateway writes it itself");
}

static void authentication_must_be_possible(void **state) {
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: /, authenticate: [none, jwt], pool: p}"),
                  "t:8:38: `authenticate`: none stands alone; remove it, or all others",
                  "t:8:38: `authenticate` takes jwt, but there is no issuer; add one to `issuers`");
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: /, authenticate: [jwt, api_key], pool: p}"),
                  "t:8:38: `authenticate` takes jwt, but there is no issuer; add one to `issuers`",
                  "t:8:38: `authenticate` takes api_key, but `api_keys` names no file; make one with `sallyport key new`");
    ASSERT_ERRORS(
        WITH_ROUTE("{name: r, path: /, authenticate: [none], pool: p, limits: [a, b], roles: [c]}") "limits: {a: {by: [subject], requests: "
                                                                                                    "1/s}, b: {by: [address], requests: "
                                                                                                    "1/s}}\nroles: {c: {}}\n",
        "t:8:64: `limits`: 'a' is by subject, but this route takes no credential and could never tell callers apart; use a limit by "
        "address, route or global",
        "t:8:78: `roles` can never match where `authenticate` is [none]; remove one of them");
    ASSERT_ERRORS(
        WITH_ROUTE("{name: r, path: /, authenticate: [client_certificate], pool: p}"),
        "t:8:38: `authenticate` takes client_certificate, but no listener asks for one; set its `client_certificate` to optional or "
        "required");
}

static void issuers_must_be_able_to_verify(void **state) {
    ASSERT_ERRORS(BASE "issuers:\n  - {issuer: a, audience: [], jwks: j.json}\n", "t:10:27: `audience` is empty; give at least one");
    ASSERT_ERRORS(BASE "issuers:\n  - {issuer: a, jwks: j.json}\n",
                  "t:10:5: `audience` is missing in this issuer: one of these must be in the token's aud");
    ASSERT_ERRORS(
        BASE "issuers:\n  - {issuer: a, audience: [b]}\n",
        "t:10:14: `issuer`: without `jwks` the keys are found by discovery, which needs an https:// URL without a query; say where they "
        "are with `jwks`");
    ASSERT_ERRORS(
        BASE "issuers:\n  - {issuer: \"http://login.example.com\", audience: [b]}\n",
        "t:10:14: `issuer`: without `jwks` the keys are found by discovery, which needs an https:// URL without a query; say where they "
        "are with `jwks`");
    ASSERT_ERRORS(BASE "issuers:\n  - {issuer: a, audience: [b], jwks: \"http://10.0.0.1/jwks\"}\n",
                  "t:10:38: `jwks`: expected https://; http:// only to this machine (127.0.0.1, [::1] or localhost)");
    ASSERT_ERRORS(BASE "issuers:\n  - {issuer: a, audience: [b], jwks: \"https://u:p@a/jwks\"}\n",
                  "t:10:38: `jwks`: names and passwords do not belong in the URL; take them out");
    ASSERT_ERRORS(BASE "issuers:\n  - {issuer: a b, audience: [b], jwks: j.json}\n",
                  "t:10:14: `issuer`: an issuer is a URL, or other visible ASCII text without blanks");
    ASSERT_ERRORS(BASE "issuers:\n  - {issuer: a, audience: [b], jwks: j.json, ca: c.pem}\n",
                  "t:10:50: `ca` is not used: nothing is fetched from this issuer; remove it");
    ASSERT_ERRORS(BASE "issuers:\n  - {issuer: a, audience: [b], jwks: j.json, introspection: {url: \"http://a/i\", client_id: c}}\n",
                  "t:10:61: `client_secret_file` is missing in this introspection: file with our secret there, readable by its owner only",
                  "t:10:67: `url`: expected https://; http:// only to this machine (127.0.0.1, [::1] or localhost)");
    ASSERT_ERRORS(BASE "issuers:\n  - {issuer: a, audience: [b], algorithms: [HS256]}\n",
                  "t:10:44: HS256 needs `secret_file`; add it or take HS256 out");
    ASSERT_ERRORS(BASE "issuers:\n  - {issuer: a, audience: [b], jwks: j.json, secret_file: s}\n",
                  "t:10:59: `secret_file` is for HS256 only; add HS256 to `algorithms` or remove it");
    ASSERT_ERRORS(BASE "issuers:\n  - {issuer: a, audience: [b], jwks: j.json, secret_file: s, algorithms: [HS256]}\n",
                  "t:10:38: `jwks` is not used with HS256 alone; remove it or add an algorithm");
    ASSERT_ERRORS(BASE "issuers:\n  - {issuer: a, audience: [b], jwks: j.json}\n  - {issuer: a, audience: [c], jwks: j.json}\n",
                  "t:11:14: `issuer`: issuer 'a' is given twice, first in line 10; keep one");
    ASSERT_ERRORS(
        BASE "issuers:\n  - {issuer: a, audience: [b], jwks: j.json, algorithms: [none]}\n",
        "t:10:59: `algorithms`: expected RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA or HS256, not 'none'");
    ASSERT_ERRORS(BASE "issuers:\n  - {issuer: a, audience: [b], jwks: j.json, claims: {roles: a..b}}\n",
                  "t:10:62: `roles`: expected the name of a claim, with dots to reach into objects, such as realm_access.roles");
}

static void things_cannot_be_given_twice(void **state) {
    ASSERT_ERRORS("version: 1\n" LISTENERS "  - address: 127.0.0.1:8443\n    certificates: [{chain: c.pem, key: k.pem}]\n" POOLS ROUTES,
                  "t:5:14: `address`: address '127.0.0.1:8443' is given twice, first in line 3; keep one");
    ASSERT_ERRORS(BASE "  - {name: r, path: /b, authenticate: [none], pool: p}\n",
                  "t:9:12: `name`: route 'r' is given twice, first in line 8; keep one");
    ASSERT_ERRORS(WITH_SERVER("{url: \"http://a\"}\n      - {url: \"http://a\"}"),
                  "t:9:15: `url`: server 'http://a' is given twice, first in line 8; keep one");
}

#define LONG_PATH                                                                                                                          \
    "/run/"                                                                                                                                \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void keys_that_need_each_other_say_so(void **state) {
    ASSERT_ERRORS(BASE "redis: {url: \"redis://127.0.0.1:6379\", username: u}\n",
                  "t:9:50: `username` needs `password_file` or `credential`");
    ASSERT_ERRORS(BASE "admin: {groups: {ops: admin}}\n", "t:9:17: `groups` needs `socket`, which is what their members may use");
    ASSERT_ERRORS(BASE "admin: {socket: " LONG_PATH "}\n",
                  "t:9:17: `socket`: " LONG_PATH " is longer than the 107 bytes a Unix socket's path may have; shorten it");
    ASSERT_ERRORS(BASE "limits: {a: {by: [global, address], requests: 1/s}}\n",
                  "t:9:18: `by`: global stands alone; one bucket for all cannot also be one for each");
}

#define WITH_TLS(scheme, keys)                                                                                                             \
    "version: 1\n" LISTENERS "pools:\n  p:\n    servers: [{url: \"" scheme "://h\"}]\n    tls: {" keys "}\n" ROUTES

static void redis_over_tls_or_a_socket_is_said_by_its_url(void **state) {
    ASSERT_ERRORS(
        BASE "redis: {url: \"rediss://127.0.0.1:6379/3\", ca: a.pem, server_name: redis.internal, certificate: c.pem, key: k.pem}\n", NULL);
    ASSERT_ERRORS(BASE "redis: {url: \"unix:///run/redis/redis.sock\"}\n", NULL);
    ASSERT_ERRORS(BASE "redis: {url: \"redis://127.0.0.1:6379\", server_name: a}\n",
                  "t:9:53: `server_name` is for rediss:// URLs; use one, or remove it");
    ASSERT_ERRORS(BASE "redis: {url: \"rediss://127.0.0.1:6379\", ca: a.pem, key: k.pem}\n",
                  "t:9:57: `key` needs `certificate`, the certificate it belongs to");
    ASSERT_ERRORS(BASE "redis: {url: \"unix://redis.sock\"}\n",
                  "t:9:14: `url`: expected unix:///path, such as unix:///run/redis/redis.sock");
}

static void the_proxy_protocol_needs_proxies(void **state) {
    ASSERT_ERRORS("version: 1\n" LISTENERS "    proxy_protocol: true\n" POOLS ROUTES,
                  "t:5:21: `proxy_protocol` needs `trusted_proxies`, whose word is believed");
    ASSERT_ERRORS("version: 1\n" LISTENERS "    proxy_protocol: true\n    trusted_proxies: []\n" POOLS ROUTES,
                  "t:6:22: `trusted_proxies` is empty, so nobody could connect; name the proxies");
    ASSERT_ERRORS("version: 1\n" LISTENERS "    trusted_proxies: [10.0.0.0/8]\n" POOLS ROUTES,
                  "t:5:22: `trusted_proxies` is for `proxy_protocol: true`; set that or remove it");
    ASSERT_ERRORS("version: 1\n" LISTENERS "    proxy_protocol: true\n    trusted_proxies: [10.0.0.0/8]\n" POOLS ROUTES, NULL);
}

static void what_tls_is_made_of_belongs_together(void **state) {
    ASSERT_ERRORS("version: 1\n" LISTENERS "    client_certificate: optional\n    client_crl: crl.pem\n" POOLS ROUTES,
                  "t:5:25: `client_certificate: optional` needs `client_ca`, the file that says who signs them",
                  "t:6:17: `client_crl` needs `client_ca`, whose revocations it lists");
    ASSERT_ERRORS(
        "version: 1\n" LISTENERS "    client_certificate: required\n    client_ca: ca.pem\n    client_crl: crl.pem\n" POOLS ROUTES, NULL);
    ASSERT_ERRORS(WITH_TLS("https", "ca: a.pem, certificate: c.pem"), "t:8:35: `certificate` needs `key`, its private key");
    ASSERT_ERRORS(WITH_TLS("https", "key: k.pem, server_name: \"h:8443\""),
                  "t:8:16: `key` needs `certificate`, the certificate it belongs to",
                  "t:8:36: `server_name`: expected a host name or an address without a port, such as gpu.internal");
    ASSERT_ERRORS(WITH_TLS("http", "ca: a.pem"), "t:8:10: `tls` is for https:// servers, and this pool has none; remove it");
}

static void a_mistake_is_reported_once(void **state) {
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: /, authenticate: [jwt], pool: p}") "issuers: 5\n",
                  "t:9:10: `issuers`: expected a list (entries that begin with -), not 5");
    ASSERT_ERRORS(WITH_ROUTE("{name: r, path: /, authenticate: [api_key], pool: p}") "api_keys: 5\n",
                  "t:9:11: `api_keys`: expected a path, not 5");
}

static void all_errors_come_at_once_in_the_order_of_the_file(void **state) {
    ASSERT_ERRORS("version: 3\nworkers: 0\n" LISTENERS "    colour: red\n" POOLS ROUTES "    \nuser: 5\nuser: 6\nlgs: {}\n",
                  "t:1:10: `version` must be 1", "t:2:10: `workers` is out of range; it must be from 1 to 64",
                  "t:6:5: unknown key `colour`; remove it", "t:12:7: `user`: expected text, not 5; put it in quotes",
                  "t:13:1: duplicate key `user`, given first in line 12; keep one of them",
                  "t:14:1: unknown key `lgs` (did you mean `logs`?)");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_keys_get_the_nearest_known_one),
        cmocka_unit_test(everything_that_is_missing_is_named_where_it_should_stand),
        cmocka_unit_test(wrong_types_say_what_is_expected),
        cmocka_unit_test(numbers_out_of_range_say_the_range),
        cmocka_unit_test(lists_that_are_empty_too_long_or_repeat_are_refused),
        cmocka_unit_test(wrong_choices_list_the_right_ones),
        cmocka_unit_test(dangling_names_are_refused_with_a_hint),
        cmocka_unit_test(names_have_a_form),
        cmocka_unit_test(addresses_and_urls_have_a_form),
        cmocka_unit_test(routes_have_a_form),
        cmocka_unit_test(headers_that_frame_or_identify_cannot_be_set),
        cmocka_unit_test(authentication_must_be_possible),
        cmocka_unit_test(issuers_must_be_able_to_verify),
        cmocka_unit_test(things_cannot_be_given_twice),
        cmocka_unit_test(keys_that_need_each_other_say_so),
        cmocka_unit_test(redis_over_tls_or_a_socket_is_said_by_its_url),
        cmocka_unit_test(the_proxy_protocol_needs_proxies),
        cmocka_unit_test(what_tls_is_made_of_belongs_together),
        cmocka_unit_test(a_mistake_is_reported_once),
        cmocka_unit_test(all_errors_come_at_once_in_the_order_of_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
