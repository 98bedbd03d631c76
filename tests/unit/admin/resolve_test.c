/* Names of servers, resolved beside the loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <sallyport/admin.h>

#include "peer.h"

static const uint8_t loopback4[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};
static const uint8_t loopback6[16] = {[15] = 1};

struct told {
    unsigned times;
    size_t count;
    bool loopback_only;
};

struct fixture {
    struct sp_loop *loop;
    struct sp_resolver *resolver;
    struct sp_server_config servers[4];
    struct sp_pool_config pools[1];
    struct sp_config config;
    struct told told[SP_SERVERS_MAX];
};

static void resolved(void *owner, unsigned server_slot, const uint8_t (*addresses)[16], size_t count) {
    struct told *told = &((struct fixture *)owner)->told[server_slot];
    told->times++;
    told->count = count;
    told->loopback_only = true;
    for (size_t i = 0; i < count; i++)
        told->loopback_only = told->loopback_only && (memcmp(addresses[i], loopback4, 16) == 0 || memcmp(addresses[i], loopback6, 16) == 0);
}

static int set_up(void **state) {
    static struct fixture fixture;
    fixture = (struct fixture){.servers = {{.host = "localhost", .slot = 1},
                                           {.host = "127.0.0.1", .slot = 2},
                                           {.host = "localhost", .slot = 3},
                                           {.host = "::1", .slot = 4}}};
    fixture.pools[0] = (struct sp_pool_config){.name = "llama", .servers = fixture.servers, .n_servers = 4};
    fixture.config = (struct sp_config){.refs = 1000, .pools = fixture.pools, .n_pools = 1};
    sp_log_set_fd(-1);
    assert_int_equal(sp_loop_new(&fixture.loop), 0);
    assert_int_equal(sp_resolver_new(fixture.loop, resolved, &fixture, &fixture.resolver), 0);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    sp_resolver_free(fixture->resolver);
    sp_loop_free(fixture->loop);
    return 0;
}

static void a_name_is_told_once_to_every_server_that_has_it_and_literals_are_never_asked(void **state) {
    struct fixture *fixture = *state;
    uint8_t addresses[SP_ADDRESSES_MAX][16];
    size_t count = 0;
    assert_false(sp_resolver_addresses(fixture->resolver, 1, addresses, &count));
    assert_int_equal(sp_resolver_configure(fixture->resolver, &fixture->config), 0);
    turn_until(fixture->loop, fixture->told[1].times > 0);
    assert_int_equal(fixture->told[1].times, 1);
    assert_int_equal(fixture->told[3].times, 1);
    assert_true(fixture->told[1].count > 0 && fixture->told[1].loopback_only);
    assert_int_equal(fixture->told[2].times + fixture->told[4].times, 0);
    assert_true(sp_resolver_addresses(fixture->resolver, 3, addresses, &count));
    assert_int_equal(count, fixture->told[1].count);
    assert_false(sp_resolver_addresses(fixture->resolver, 2, addresses, &count));
}

static void a_name_that_does_not_exist_is_told_as_having_no_address(void **state) {
    struct fixture *fixture = *state;
    fixture->servers[0].host = "no such host"; /* no resolver is asked for a name with spaces */
    fixture->pools[0].n_servers = 1;
    assert_int_equal(sp_resolver_configure(fixture->resolver, &fixture->config), 0);
    turn_until(fixture->loop, fixture->told[1].times > 0);
    assert_int_equal(fixture->told[1].count, 0);
}

static void a_reload_tells_known_names_at_once_for_their_new_slots(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(sp_resolver_configure(fixture->resolver, &fixture->config), 0);
    turn_until(fixture->loop, fixture->told[1].times > 0);
    struct sp_server_config moved[] = {{.host = "localhost", .slot = 9}};
    struct sp_pool_config pool = {.name = "llama", .servers = moved, .n_servers = 1};
    struct sp_config config = {.refs = 1000, .pools = &pool, .n_pools = 1};
    assert_int_equal(sp_resolver_configure(fixture->resolver, &config), 0);
    assert_int_equal(fixture->told[9].times, 1);
    assert_int_equal(fixture->told[9].count, fixture->told[1].count);
    assert_int_equal(fixture->told[1].times, 1);
}

static void ending_while_a_lookup_is_under_way_waits_for_nothing(void **state) {
    struct fixture *fixture = *state;
    struct sp_resolver *other;
    assert_int_equal(sp_resolver_new(fixture->loop, resolved, fixture, &other), 0);
    assert_int_equal(sp_resolver_configure(other, &fixture->config), 0);
    assert_int_equal(sp_loop_turn(fixture->loop, 5), 0);
    sp_resolver_free(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_name_is_told_once_to_every_server_that_has_it_and_literals_are_never_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_name_that_does_not_exist_is_told_as_having_no_address, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reload_tells_known_names_at_once_for_their_new_slots, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ending_while_a_lookup_is_under_way_waits_for_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
