/* What is written reaches the snapshot, and the bytes between the two can be trusted or are refused. */
#include <errno.h>
#include <jansson.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "support.h"

static void what_is_left_out_has_its_default(void **state) {
    struct sp_config *config = config_of(BASE "limits: {l: {by: [address], requests: 600/min}}\n");
    const struct sp_listener_config *listener = &config->listeners[0];
    assert_int_equal(config->generation, 1);
    assert_string_equal(config->path, "t");
    assert_null(config->user);
    assert_int_equal(config->drain_timeout_ms, 30000);
    assert_int_equal(config->memory_bodies, 256 << 20);
    assert_null(config->redis);
    assert_null(config->api_keys_file.text);
    assert_int_equal(listener->max_connections, 20000);
    assert_int_equal(listener->max_connections_per_address, 256);
    assert_int_equal(listener->handshake_timeout_ms, 5000);
    assert_int_equal(listener->header_timeout_ms, 10000);
    assert_int_equal(listener->idle_timeout_ms, 75000);
    assert_string_equal(listener->protocols.item[0], "http/1.1");
    assert_int_equal(config->limits[0].request_burst, 10); /* one second's worth */
    assert_int_equal(config->limits[0].mode, SP_LIMIT_LEASED);
    assert_int_equal(config->limits[0].tokens.amount, 0);
    assert_int_equal(config->limits[0].token_burst, 0);
    assert_int_equal(config->limits[0].concurrency, 0);
    assert_int_equal(config->limits[0].on_outage, SP_OUTAGE_SHARE);
    assert_int_equal(config->pools[0].retries, 1);
    assert_int_equal(config->pools[0].connections, 256);
    assert_int_equal(config->pools[0].connect_timeout_ms, 2000);
    assert_int_equal(config->pools[0].balance, SP_BALANCE_LEAST_LOADED);
    assert_int_equal(config->pools[0].outlier_failures, 0);
    assert_null(config->pools[0].credential.header);
    assert_null(config->pools[0].health.path);
    assert_int_equal(config->pools[0].servers[0].weight, 1);
    assert_int_equal(config->pools[0].servers[0].max_in_flight, 0);
    assert_int_equal(config->routes[0].max_body, 8 << 20);
    assert_int_equal(config->routes[0].first_byte_timeout_ms, 60000);
    assert_int_equal(config->routes[0].idle_timeout_ms, 60000);
    assert_int_equal(config->routes[0].total_timeout_ms, 3600000);
    assert_string_equal(config->routes[0].strip_prefix, "");
    assert_false(config->routes[0].models_in_body);
    assert_int_equal(config->routes[0].max_tokens_default, 1024);
    assert_int_equal(config->routes[0].max_tokens_cap, 0);
    assert_int_equal(config->n_models, 0);
    assert_int_equal(config->pools[0].queue_depth, 0);
    assert_int_equal(config->pools[0].queue_timeout_ms, 0);
    assert_null(config->admin.socket.text);
    assert_null(config->admin.metrics.text);
    assert_string_equal(config->logs.access.text, "stdout");
    assert_null(config->logs.audit.text);
    assert_int_equal(config->logs.level, SP_LOG_INFO);
    sp_config_unref(config);
}

static void what_is_written_reaches_the_snapshot(void **state) {
    struct sp_config *config = config_of(
        "version: 1\nuser: sally\nworkers: 3\ndrain_timeout: 2m\nmemory: {bodies: 64MiB}\n"
        "listeners:\n"
        "  - {address: \"[::1]:8443\", certificates: [{chain: a.pem, key: /abs/b.pem}, {chain: c.pem, key: d.pem}], max_connections: 7,\n"
        "     allow: [10.0.0.0/8, \"2001:db8::/32\"], deny: [10.1.2.3]}\n"
        "  - {address: \"systemd:https\", certificates: [{chain: a.pem, key: b.pem}]}\n"
        "redis: {url: \"redis://[::1]:6380/3\", deadline: 20ms, prefix: \"x:\", gateways: 4, allow_eviction: true}\n"
        "issuers:\n"
        "  - {issuer: \"https://i\", audience: [a, b], jwks: keys.json, algorithms: [RS512, EdDSA], claims: {roles: realm.roles}, leeway: "
        "5s}\n"
        "api_keys: keys.yaml\n"
        "limits:\n"
        "  one: {by: [subject, route], requests: 90/min, shadow: true, on_outage: closed}\n"
        "  two: {by: [global], requests: 5/s, request_burst: 70}\n"
        "roles: {admin: {limits: [two]}, chat: {limits: [two, one]}}\n"
        "pools:\n"
        "  a: {servers: [{url: \"http://10.0.0.1:8000/base/\", weight: 3, max_in_flight: 9}, {url: \"http://gpu:80\"}], balance: "
        "round_robin,\n"
        "      credential: {header: X-Key, prefix: \"p \", value_file: v}, health: {path: /h}, outlier: {eject_for: 1s}, retries: 0}\n"
        "  b: {servers: [{url: \"http://[2001:db8::1]:8000\"}]}\n"
        "routes:\n"
        "  - {name: x, host: [API.example.com], path: \"=/v1/models\", methods: [GET], authenticate: [jwt, api_key], roles: [chat], "
        "scopes: [s],\n"
        "     limits: [one], pool: b, max_body: 0B, timeouts: {idle: 5s},\n"
        "     request_headers: {allow: [X-Thing], set: {X-A: one, X-B: two}}}\n"
        "  - {name: y, path: /, authenticate: [none], pool: a}\n"
        "admin: {socket: admin.sock, groups: {ops: admin, look: viewer}, metrics: \"[::1]:9464\"}\n"
        "logs: {access: access.log, level: debug}\n");
    assert_string_equal(config->user, "sally");
    assert_int_equal(config->workers, 3);
    assert_int_equal(config->drain_timeout_ms, 120000);
    assert_int_equal(config->memory_bodies, 64 << 20);
    assert_int_equal(config->n_listeners, 2);
    assert_string_equal(config->listeners[0].address.text, "[::1]:8443");
    assert_string_equal(config->listeners[0].address.where, "t:7:15");
    assert_int_equal(config->listeners[0].n_certificates, 2);
    assert_string_equal(config->listeners[0].certificates[0].key.text, "/abs/b.pem");
    assert_int_equal(config->listeners[0].allow.count, 2);
    assert_int_equal(config->listeners[0].allow.item[0].prefix, 96 + 8);
    assert_int_equal(config->listeners[0].allow.item[1].prefix, 32);
    assert_int_equal(config->listeners[0].deny.item[0].prefix, 128);
    assert_string_equal(config->redis->host, "::1");
    assert_int_equal(config->redis->port, 6380);
    assert_int_equal(config->redis->database, 3);
    assert_int_equal(config->redis->deadline_ms, 20);
    assert_int_equal(config->redis->gateways, 4);
    assert_true(config->redis->allow_eviction);
    assert_int_equal(config->issuers[0].algorithms, (1u << SP_ALG_RS512) | (1u << SP_ALG_EDDSA));
    assert_int_equal(config->issuers[0].audience.count, 2);
    assert_string_equal(config->issuers[0].claims.roles, "realm.roles");
    assert_string_equal(config->issuers[0].claims.subject, "sub");
    assert_int_equal(config->issuers[0].leeway_s, 5);
    assert_int_equal(config->issuers[0].max_token_age_s, 86400);
    assert_string_equal(config->api_keys_file.text, "keys.yaml");
    assert_string_equal(config->limits[0].name, "one");
    assert_int_equal(config->limits[0].by, SP_BY_SUBJECT | SP_BY_ROUTE);
    assert_int_equal(config->limits[0].requests.amount, 90);
    assert_int_equal(config->limits[0].requests.period_us, 60000000);
    assert_int_equal(config->limits[0].request_burst, 1);
    assert_true(config->limits[0].shadow);
    assert_int_equal(config->limits[0].on_outage, SP_OUTAGE_CLOSED);
    assert_int_equal(config->limits[1].request_burst, 70);
    assert_string_equal(config->roles[1].name, "chat");
    assert_int_equal(config->roles[1].n_limits, 2);
    assert_int_equal(config->roles[1].limits[0], 1);
    assert_int_equal(config->roles[1].limits[1], 0);
    assert_string_equal(config->pools[0].servers[0].host, "10.0.0.1");
    assert_string_equal(config->pools[0].servers[0].authority, "10.0.0.1:8000");
    assert_string_equal(config->pools[0].servers[0].base_path, "/base");
    assert_int_equal(config->pools[0].servers[0].max_in_flight, 9);
    assert_string_equal(config->pools[0].servers[1].authority, "gpu");
    assert_int_equal(config->pools[0].servers[1].port, 80);
    assert_int_equal(config->pools[0].balance, SP_BALANCE_ROUND_ROBIN);
    assert_string_equal(config->pools[0].credential.header, "X-Key");
    assert_int_equal(config->pools[0].health.interval_ms, 5000);
    assert_int_equal(config->pools[0].outlier_failures, 5);
    assert_int_equal(config->pools[0].outlier_eject_ms, 1000);
    assert_string_equal(config->pools[1].servers[0].host, "2001:db8::1");
    assert_string_equal(config->pools[1].servers[0].authority, "[2001:db8::1]:8000");
    assert_string_equal(config->routes[0].host.item[0], "api.example.com");
    assert_string_equal(config->routes[0].path, "/v1/models");
    assert_true(config->routes[0].exact);
    assert_int_equal(config->routes[0].authenticate, SP_AUTHENTICATE_JWT | SP_AUTHENTICATE_API_KEY);
    assert_int_equal(config->routes[0].roles, 2);
    assert_ptr_equal(config->routes[0].pool, &config->pools[1]);
    assert_int_equal(config->routes[0].limits[0], 0);
    assert_int_equal(config->routes[0].max_body, 0);
    assert_int_equal(config->routes[0].idle_timeout_ms, 5000);
    assert_string_equal(config->routes[0].request_headers.allow.item[0], "x-thing");
    assert_int_equal(config->routes[0].request_headers.n_set, 2);
    assert_string_equal(config->routes[0].request_headers.set[1].name, "X-B");
    assert_string_equal(config->routes[0].request_headers.set[1].value, "two");
    assert_false(config->routes[1].exact);
    assert_ptr_equal(config->routes[1].pool, &config->pools[0]);
    assert_string_equal(config->admin.groups[0].group, "ops");
    assert_true(config->admin.groups[0].admin);
    assert_false(config->admin.groups[1].admin);
    assert_string_equal(config->admin.metrics.text, "[::1]:9464");
    assert_string_equal(config->logs.access.text, "access.log");
    assert_int_equal(config->logs.level, SP_LOG_DEBUG);
    assert_ptr_equal(sp_config_limit(config, SP_SPAN("two")), &config->limits[1]);
    assert_null(sp_config_limit(config, SP_SPAN("three")));
    sp_config_unref(config);
}

static void auto_is_one_worker_per_usable_cpu(void **state) {
    cpu_set_t cpus;
    assert_int_equal(sched_getaffinity(0, sizeof cpus, &cpus), 0);
    struct sp_config *config = config_of(BASE "workers: auto\n");
    assert_int_equal(config->workers, sp_min(CPU_COUNT(&cpus), SP_WORKERS_MAX));
    sp_config_unref(config);
}

static void paths_are_relative_to_the_file(void **state) {
    struct sp_config_errors errors = {0};
    struct sp_document *document = NULL;
    assert_int_equal(sp_config_load_text("t", SP_SPAN(BASE "logs: {access: a.log}\nadmin: {socket: /run/s}\n"), "/etc/gateway", false, NULL,
                                         7, &errors, &document),
                     0);
    struct sp_config *config = decode(document, SP_READER_SUPERVISOR);
    assert_string_equal(config->listeners[0].certificates[0].chain.text, "/etc/gateway/c.pem");
    assert_string_equal(config->logs.access.text, "/etc/gateway/a.log");
    assert_string_equal(config->admin.socket.text, "/run/s");
    assert_int_equal(config->generation, 7);
    sp_config_unref(config);
    sp_document_free(document);
}

static void a_snapshot_lives_until_its_last_reference(void **state) {
    struct sp_config *config = config_of(BASE);
    assert_ptr_equal(sp_config_ref(config), config);
    sp_config_unref(config);
    assert_string_equal(config->routes[0].name, "r");
    sp_config_unref(config);
    sp_config_unref(NULL);
}

static uint64_t loaded(const struct sp_document *document) {
    struct sp_config *config = decode(document, SP_READER_WORKER);
    uint64_t at = config->loaded_wall_ms;
    sp_config_unref(config);
    return at;
}

/* It orders the policies of several gateways: by time, and never the same twice. */
static void a_document_says_when_it_was_loaded(void **state) {
    uint64_t before = sp_wall_ms();
    struct sp_document *first = load_right(BASE, NULL), *second = load_right(BASE, first), *third = load_right(BASE, second);
    assert_true(loaded(first) >= before);
    assert_true(loaded(second) > loaded(first));
    assert_true(loaded(third) > loaded(second));
    sp_document_free(first);
    sp_document_free(second);
    sp_document_free(third);
}

static int decode_text(const char *text, struct sp_config **ret) { return sp_config_decode(sp_span_text(text), ret); }

static void bytes_that_are_no_document_are_refused(void **state) {
    static const char *const texts[] = {"", "x", "{}", "[]", "null", "{\"version\":1}", "{\"version\":1,\"version\":1}", "[[[[[[[[[["};
    for (size_t i = 0; i < SP_COUNT(texts); i++) {
        struct sp_config *config = NULL;
        assert_int_equal(decode_text(texts[i], &config), -EINVAL);
        assert_null(config);
    }
}

/* Replaces what a path of keys leads to in a right document, one at a time, by something wrong. */
static void a_document_with_one_wrong_value_is_refused(void **state) {
    static const struct {
        const char *section, *key, *value;
    } wrong[] = {
        {"routes", "slot", "256"},
        {"routes", "slot", "-1"},
        {"routes", "slot", "\"0\""},
        {"routes", "slot", NULL},
        {"routes", "pool", "\"q\""},
        {"routes", "pool", "5"},
        {"routes", "authenticate", "[]"},
        {"routes", "authenticate", "[\"x\"]"},
        {"routes", "limits", "[5]"},
        {"routes", "limits", "[\"x\"]"},
        {"routes", "roles", "[\"x\"]"},
        {"routes", "max_body", "5"},
        {"routes", "path", "\"x\""},
        {"routes", "path", "null"},
        {"routes", "timeouts", "[]"},
        {"routes", "timeouts", NULL},
        {"routes", "name", NULL},
        {"listeners", "slot", "16"},
        {"listeners", "address", "\"x\""},
        {"listeners", "certificates", "[]"},
        {"listeners", "allow", "[1]"},
        {"listeners", "protocols", "[\"h2\"]"},
        {"listeners", "max_connections", "0"},
        {"listeners", "idle_timeout", "\"99999d\""},
    };
    struct sp_document *document = load_right(BASE, NULL);
    char *text;
    size_t len;
    assert_int_equal(sp_document_encode(document, SP_READER_WORKER, &text, &len), 0);
    for (size_t i = 0; i < SP_COUNT(wrong); i++) {
        json_t *root = json_loadb(text, len, 0, NULL);
        json_t *record = json_array_get(json_object_get(root, wrong[i].section), 0);
        if (wrong[i].value)
            json_object_set_new(record, wrong[i].key, json_loads(wrong[i].value, JSON_DECODE_ANY, NULL));
        else
            json_object_del(record, wrong[i].key);
        char *changed = json_dumps(root, 0);
        struct sp_config *config = NULL;
        assert_int_equal(decode_text(changed, &config), -EINVAL);
        assert_null(config);
        free(changed);
        json_decref(root);
    }
    free(text);
    sp_document_free(document);
}

static void a_document_cut_short_is_refused(void **state) {
    struct sp_document *document = load_right(BASE, NULL);
    char *text;
    size_t len;
    assert_int_equal(sp_document_encode(document, SP_READER_WORKER, &text, &len), 0);
    for (size_t cut = 0; cut < len; cut++) {
        struct sp_config *config = NULL;
        assert_int_equal(sp_config_decode(sp_span(text, cut), &config), -EINVAL);
    }
    free(text);
    sp_document_free(document);
}

/* Two snapshots of the same rules agree, wherever these stand in the file; other rules, other fingerprint. */
static void an_issuers_fingerprint_is_that_of_its_rules(void **state) {
    struct sp_config *one = config_of(BASE "issuers:\n  - {issuer: a, audience: [b], jwks: j.json}\n");
    struct sp_config *moved = config_of(BASE "\n\n# moved\nissuers:\n  - {issuer: a, audience: [b], jwks: j.json}\n");
    struct sp_config *other = config_of(BASE "issuers:\n  - {issuer: a, audience: [c], jwks: j.json}\n");
    assert_true(one->issuers[0].fingerprint == moved->issuers[0].fingerprint);
    assert_true(one->issuers[0].fingerprint != other->issuers[0].fingerprint);
    sp_config_unref(one);
    sp_config_unref(moved);
    sp_config_unref(other);
}

static void assert_user(const char *yaml, const char *line) {
    struct sp_config_errors errors = {0};
    struct sp_document *document = load_right(yaml, NULL);
    assert_int_equal(sp_config_user_required(document, &errors), line ? -EINVAL : 0);
    assert_int_equal(errors.count, line ? 1 : 0);
    if (line)
        assert_string_equal(errors.line[0], line);
    sp_config_errors_free(&errors);
    sp_document_free(document);
}

static void a_user_must_be_named_when_started_as_root(void **state) {
    if (geteuid() == 0) {
        assert_user(BASE, "t:1:1: `user` is missing: started as root, it must say who the processes become; add `user: sallyport`");
        assert_user(BASE "user: root\n", "t:9:7: `user`: root has root's rights, which naming a user is to avoid; name another");
        assert_user(BASE "user: no-such-user\n",
                    "t:9:7: `user`: there is no user no-such-user on this machine; make it with `useradd --system` or name another");
        assert_user(BASE "user: nobody\n", NULL);
        assert_int_equal(seteuid(65534), 0);
    }
    assert_user(BASE, NULL);
    if (getuid() == 0)
        assert_int_equal(seteuid(0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_user_must_be_named_when_started_as_root),
        cmocka_unit_test(what_is_left_out_has_its_default),
        cmocka_unit_test(what_is_written_reaches_the_snapshot),
        cmocka_unit_test(auto_is_one_worker_per_usable_cpu),
        cmocka_unit_test(paths_are_relative_to_the_file),
        cmocka_unit_test(a_snapshot_lives_until_its_last_reference),
        cmocka_unit_test(a_document_says_when_it_was_loaded),
        cmocka_unit_test(bytes_that_are_no_document_are_refused),
        cmocka_unit_test(a_document_with_one_wrong_value_is_refused),
        cmocka_unit_test(a_document_cut_short_is_refused),
        cmocka_unit_test(an_issuers_fingerprint_is_that_of_its_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
