/* Where Redis is: at a URL, behind sentinels, or a cluster. */
#include <stdio.h>

#include "support.h"

#define REDIS(keys) BASE "redis: {" keys "}\n"
#define NODE        "expected host:port or [v6]:port, such as 10.0.0.1:6379"

static void sentinels_name_the_master(void **state) {
    struct sp_config *config =
        config_of(REDIS("sentinel: {master: limits, nodes: [\"10.0.0.1:26379\", \"[::1]:26380\", \"localhost:1\"]}"));
    const struct sp_redis_config *redis = config->redis;
    assert_null(redis->url.text);
    assert_null(redis->host);
    assert_null(redis->unix_path);
    assert_int_equal(redis->database, 0);
    assert_false(redis->tls);
    assert_string_equal(redis->sentinel.master, "limits");
    assert_int_equal(redis->sentinel.nodes.count, 3);
    assert_string_equal(redis->sentinel.nodes.item[0].host, "10.0.0.1");
    assert_int_equal(redis->sentinel.nodes.item[0].port, 26379);
    assert_string_equal(redis->sentinel.nodes.item[1].host, "::1");
    assert_string_equal(redis->sentinel.nodes.item[2].host, "localhost");
    assert_int_equal(redis->cluster.count, 0);
    sp_config_unref(config);
}

static void some_members_stand_for_a_cluster(void **state) {
    struct sp_config *config = config_of(REDIS("cluster: [\"10.0.0.1:6379\", \"10.0.0.2:6380\"], prefix: \"x:\""));
    assert_null(config->redis->url.text);
    assert_null(config->redis->sentinel.master);
    assert_int_equal(config->redis->cluster.count, 2);
    assert_string_equal(config->redis->cluster.item[1].host, "10.0.0.2");
    assert_int_equal(config->redis->cluster.item[1].port, 6380);
    assert_false(config->redis->tls);
    sp_config_unref(config);
}

static void it_is_in_one_place(void **state) {
    ASSERT_ERRORS(REDIS("deadline: 5ms"), "t:9:8: nothing says where Redis is; give one of `url`, `sentinel` and `cluster`");
    ASSERT_ERRORS(
        REDIS("url: \"redis://127.0.0.1:6379\", cluster: [\"10.0.0.1:6379\"]"),
        "t:9:40: `cluster` stands instead of `url`: one of `url`, `sentinel` and `cluster` says where Redis is; keep one of them");
    ASSERT_ERRORS(
        REDIS("cluster: [\"10.0.0.1:6379\"], sentinel: {master: a, nodes: [\"10.0.0.1:26379\"]}"),
        "t:9:9: `cluster` stands instead of `sentinel`: one of `url`, `sentinel` and `cluster` says where Redis is; keep one of them");
}

static void nodes_have_a_form(void **state) {
    ASSERT_ERRORS(REDIS("cluster: [\"10.0.0.1\", \"cache:6379\", 6379, \"redis://10.0.0.1:6379\", \"10.0.0.1:0\", \"::1:6379\"]"),
                  "t:9:19: `cluster`: " NODE, "t:9:31: `cluster`: a host name is not yet supported here; use an address or localhost",
                  "t:9:45: `cluster`: expected host:port, such as 10.0.0.1:6379, not 6379", "t:9:51: `cluster`: " NODE,
                  "t:9:76: `cluster`: " NODE, "t:9:90: `cluster`: " NODE);
    ASSERT_ERRORS(REDIS("cluster: []"), "t:9:18: `cluster` is empty; give at least one");
    ASSERT_ERRORS(REDIS("cluster: [\"10.0.0.1:1\", \"10.0.0.1:1\"]"), "t:9:33: `cluster` says '10.0.0.1:1' twice; remove one");
    ASSERT_ERRORS(REDIS("sentinel: {nodes: [\"sentinel-1:26379\"]}"),
                  "t:9:19: `master` is missing in this sentinel: the name the sentinels know the master by",
                  "t:9:28: `nodes`: a host name is not yet supported here; use an address or localhost");
    ASSERT_ERRORS(REDIS("sentinel: {master: a b, nodes: [\"10.0.0.1:1\"]}"), "t:9:28: `master`: it must not contain a blank");
}

static void more_nodes_than_are_kept_are_refused(void **state) {
    struct sp_buffer yaml;
    sp_buffer_init(&yaml, 16 * 1024);
    assert_int_equal(sp_buffer_printf(&yaml, "%sredis:\n  cluster:\n", BASE), 0);
    for (int i = 0; i <= SP_REDIS_NODES_MAX; i++)
        assert_int_equal(sp_buffer_printf(&yaml, "    - 10.0.0.1:%d\n", i + 1), 0);
    assert_int_equal(sp_buffer_append(&yaml, "", 1), 0);
    ASSERT_ERRORS(sp_buffer_span(&yaml).at, "t:11:5: `cluster` has 33 entries; at most 32 are possible");
    sp_buffer_free(&yaml);
}

/* A list of nodes has no scheme: whoever says whom to trust, or what name, asks for TLS. */
static void tls_is_spoken_where_something_is_said_of_it(void **state) {
    static const struct {
        const char *keys, *where; /* of the authorities: those given, else the machine's, for what needs them */
    } asking[] = {
        {"cluster: [\"10.0.0.1:1\"], ca: a.pem", "t:9:38"},
        {"cluster: [\"10.0.0.1:1\"], server_name: redis.internal", "t:9:18"},
        {"cluster: [\"10.0.0.1:1\"], certificate: c.pem, key: k.pem", "t:9:18"},
        {"sentinel: {master: a, nodes: [\"10.0.0.1:1\"]}, ca: a.pem", "t:9:59"},
        {"sentinel: {master: a, nodes: [\"10.0.0.1:1\"]}, server_name: redis.internal", "t:9:19"},
    };
    for (size_t i = 0; i < SP_COUNT(asking); i++) {
        char yaml[1024];
        snprintf(yaml, sizeof yaml, "%sredis: {%s}\n", BASE, asking[i].keys);
        struct sp_config *config = config_of(yaml);
        assert_true(config->redis->tls);
        assert_non_null(config->redis->tls_client.ca.text);
        assert_string_equal(config->redis->tls_client.ca.where, asking[i].where);
        sp_config_unref(config);
    }
    ASSERT_ERRORS(REDIS("cluster: [\"10.0.0.1:1\"], certificate: c.pem"), "t:9:47: `certificate` needs `key`, its private key");
}

static void a_prefix_leaves_braces_to_the_keys(void **state) {
    static const char refused[] = "it must not contain { or }, which say where a cluster keeps a key";
    static const char *const prefixes[] = {"{a}:", "a}", "{"};
    for (size_t i = 0; i < SP_COUNT(prefixes); i++) {
        char yaml[1024], line[256];
        snprintf(yaml, sizeof yaml, "%sredis: {prefix: \"%s\", url: \"redis://127.0.0.1:6379\"}\n", BASE, prefixes[i]);
        snprintf(line, sizeof line, "t:9:17: `prefix`: %s", refused);
        ASSERT_ERRORS(yaml, line);
    }
    ASSERT_ERRORS(REDIS("prefix: \"\", url: \"redis://127.0.0.1:6379\""), NULL);
}

static void the_document_carries_the_nodes(void **state) {
    struct sp_document *document = load_right(REDIS("sentinel: {master: m, nodes: [\"10.0.0.1:1\"]}, gateways: 3"), NULL);
    for (enum sp_config_reader reader = SP_READER_WORKER; reader <= SP_READER_SUPERVISOR; reader++) {
        struct sp_config *config = decode(document, reader);
        assert_string_equal(config->redis->sentinel.master, "m");
        assert_int_equal(config->redis->sentinel.nodes.count, 1);
        assert_int_equal(config->redis->gateways, 3);
        sp_config_unref(config);
    }
    sp_document_free(document);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sentinels_name_the_master),
        cmocka_unit_test(some_members_stand_for_a_cluster),
        cmocka_unit_test(it_is_in_one_place),
        cmocka_unit_test(nodes_have_a_form),
        cmocka_unit_test(more_nodes_than_are_kept_are_refused),
        cmocka_unit_test(tls_is_spoken_where_something_is_said_of_it),
        cmocka_unit_test(a_prefix_leaves_braces_to_the_keys),
        cmocka_unit_test(the_document_carries_the_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
