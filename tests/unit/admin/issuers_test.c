/* Key sets fetched from a real socket, and opaque tokens asked about. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/mman.h>

#include <sallyport/admin.h>
#include <sallyport/ipc.h>

#include "peer.h"

#define HEAD(more) "HTTP/1.1 200 OK\r\nConnection: close\r\n" more "\r\n"
/* The key of RFC 7517 appendix A.1. */
#define KEY                                                                                                                                \
    "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4\","                                             \
    "\"y\":\"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM\",\"kid\":\"1\"}"
#define SET    "{\"keys\":[" KEY "]}"
#define EMPTY  "{\"keys\":[]}"
#define BROKEN HEAD("") "<html>nothing here</html>"

#define HOUR_S UINT64_C(3600)
#define DAY_S  (24 * HOUR_S)

static uint64_t clock_steps_s;
uint64_t __real_sp_clock_ns(void);
uint64_t __wrap_sp_clock_ns(void);
uint64_t __wrap_sp_clock_ns(void) { return __real_sp_clock_ns() + clock_steps_s * 1000000000; }

struct fixture {
    struct sp_loop *loop;
    struct sp_issuers *issuers;
    struct sp_introspections *introspections;
    struct tiny_server server;
    struct sp_issuer_config issuer[2];
    struct sp_config config;
    char url[64];
    unsigned told, answers, good_answers;
    uint64_t ticket;
    int fd;
    uint32_t wait_ms;
    unsigned introspected, introspected_well;
    char said[64];
};

static void on_keys(void *owner, uint64_t issuer, int sealed_fd) {
    struct fixture *fixture = owner;
    assert_int_equal(issuer, 7);
    fixture->told++;
    fixture->fd = sealed_fd;
}

static void on_answered(void *owner, uint64_t ticket, bool answered, uint32_t wait_ms) {
    struct fixture *fixture = owner;
    fixture->answers++;
    fixture->good_answers += answered;
    fixture->ticket = ticket;
    fixture->wait_ms = wait_ms;
}

static void on_introspected(void *owner, uint64_t ticket, bool answered, struct sp_span answer) {
    struct fixture *fixture = owner;
    fixture->introspected++;
    fixture->introspected_well += answered;
    fixture->ticket = ticket;
    snprintf(fixture->said, sizeof fixture->said, SP_SPAN_FMT, SP_SPAN_ARG(answer));
}

static int set_up(void **state) {
    static struct fixture fixture;
    static const struct sp_issuer_events events = {.keys = on_keys, .answered = on_answered};
    fixture = (struct fixture){.fd = -1};
    sp_log_set_fd(-1);
    assert_int_equal(sp_loop_new(&fixture.loop), 0);
    tiny_start(&fixture.server, fixture.loop, HEAD("") SET);
    snprintf(fixture.url, sizeof fixture.url, "http://127.0.0.1:%u/keys", fixture.server.port);
    fixture.issuer[0] =
        (struct sp_issuer_config){.issuer.text = "https://issuer.test",
                                  .jwks.text = fixture.url,
                                  .fetches_keys = true,
                                  .algorithms = 1u << SP_ALG_ES256,
                                  .fingerprint = 7,
                                  .introspection = {.url = fixture.url, .client_id = "me & you", .client_secret = "100 %:", .cache_s = 1}};
    fixture.config = (struct sp_config){.refs = 1000, .issuers = fixture.issuer, .n_issuers = 1};
    assert_int_equal(sp_issuers_new(fixture.loop, &events, &fixture, &fixture.issuers), 0);
    assert_int_equal(sp_introspections_new(fixture.loop, on_introspected, &fixture, &fixture.introspections), 0);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    sp_issuers_free(fixture->issuers);
    sp_introspections_free(fixture->introspections);
    tiny_stop(&fixture->server);
    sp_loop_free(fixture->loop);
    return 0;
}

static void begin(struct fixture *fixture) {
    assert_int_equal(sp_issuers_configure(fixture->issuers, &fixture->config), 0);
    turn_until(fixture->loop, fixture->told == 1);
}

/* ---- Key sets ---- */

static void a_key_set_is_fetched_and_handed_over_sealed(void **state) {
    struct fixture *fixture = *state;
    struct sp_span bytes;
    begin(fixture);
    assert_memory_equal(fixture->server.last, "GET /keys HTTP/1.1\r\n", 20);
    assert_null(strcasestr(fixture->server.last, "authorization"));
    assert_int_equal(sp_sealed_map(fixture->fd, 1 << 20, &bytes), 0);
    assert_true(sp_span_eq(bytes, SP_SPAN(SET)));
    munmap((void *)(uintptr_t)bytes.at, bytes.len);
    assert_int_equal(sp_issuers_key_fd(fixture->issuers, 7), fixture->fd);
    assert_int_equal(sp_issuers_key_fd(fixture->issuers, 8), -1);
}

static void keys_are_where_discovery_says_in_either_form(void **state) {
    struct fixture *fixture = *state;
    static char metadata[256], name[64];
    snprintf(name, sizeof name, "http://127.0.0.1:%u/tenant/", fixture->server.port);
    snprintf(metadata, sizeof metadata, HEAD("") "{\"issuer\":\"%s\",\"jwks_uri\":\"%s\"}", name, fixture->url);
    fixture->issuer[0].issuer.text = name;
    fixture->issuer[0].jwks.text = NULL;
    fixture->server.answer = "HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_int_equal(sp_issuers_configure(fixture->issuers, &fixture->config), 0);
    turn_until(fixture->loop, fixture->server.requests == 1);
    assert_memory_equal(fixture->server.last, "GET /tenant/.well-known/openid-configuration ", 45);
    fixture->server.answer = metadata;
    turn_until(fixture->loop, fixture->server.requests == 2);
    assert_memory_equal(fixture->server.last, "GET /.well-known/oauth-authorization-server/tenant ", 51);
    fixture->server.answer = HEAD("") SET;
    turn_until(fixture->loop, fixture->told == 1);
    assert_memory_equal(fixture->server.last, "GET /keys ", 10);
}

static void metadata_that_is_wrong_is_not_looked_for_elsewhere(void **state) {
    struct fixture *fixture = *state;
    char name[64];
    snprintf(name, sizeof name, "http://127.0.0.1:%u", fixture->server.port);
    fixture->issuer[0].issuer.text = name;
    fixture->issuer[0].jwks.text = NULL;
    fixture->server.answer = HEAD("") "{\"issuer\":\"http://127.0.0.1:1\",\"jwks_uri\":\"http://127.0.0.1:1/keys\"}";
    assert_int_equal(sp_issuers_configure(fixture->issuers, &fixture->config), 0);
    turn_until(fixture->loop, fixture->server.requests == 1);
    assert_int_equal(sp_issuers_want(fixture->issuers, 7, &fixture->ticket, &fixture->wait_ms), 0);
    turn_until(fixture->loop, fixture->answers == 1);
    assert_int_equal(fixture->good_answers, 0);
    assert_int_equal(fixture->server.requests, 1);
    assert_int_equal(fixture->told, 0);
}

static void the_same_set_again_is_no_news(void **state) {
    struct fixture *fixture = *state;
    begin(fixture);
    assert_int_equal(sp_issuers_configure(fixture->issuers, &fixture->config), 0); /* a reload asks for fresh keys */
    turn_until(fixture->loop, fixture->server.requests == 2 && sp_issuers_key_fd(fixture->issuers, 7) >= 0);
    uint32_t wait_ms;
    assert_int_equal(sp_issuers_want(fixture->issuers, 7, &fixture->ticket, &wait_ms), 0);
    turn_until(fixture->loop, fixture->answers == 1);
    assert_int_equal(fixture->told, 1);
}

static void what_cannot_be_used_leaves_the_last_good_set_in_use(void **state) {
    static const char *const answers[] = {BROKEN, "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                                          "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                                          HEAD("") "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"}]}", HEAD("Content-Length: 300000\r\n") SET};
    struct fixture *fixture = *state;
    begin(fixture);
    for (size_t i = 0; i < SP_COUNT(answers); i++) {
        fixture->server.answer = answers[i];
        assert_int_equal(sp_issuers_configure(fixture->issuers, &fixture->config), 0);
        /* Joins the fetch that the reload began, or one that follows it. */
        (void)!sp_issuers_want(fixture->issuers, 7, &fixture->ticket, &fixture->wait_ms);
        unsigned before = fixture->server.requests;
        turn_until(fixture->loop, fixture->server.requests > before);
        turn_until(fixture->loop, fixture->answers > 0);
        assert_int_equal(fixture->good_answers, 0);
        assert_int_equal(fixture->told, 1);
        assert_true(sp_issuers_key_fd(fixture->issuers, 7) >= 0);
    }
}

/* One more fetch, later, until it has ended. */
static void fetch_after(struct fixture *fixture, uint64_t seconds) {
    unsigned before = fixture->answers;
    clock_steps_s += seconds;
    assert_int_equal(sp_issuers_configure(fixture->issuers, &fixture->config), 0);
    assert_int_equal(sp_issuers_want(fixture->issuers, 7, &fixture->ticket, &fixture->wait_ms), 0);
    turn_until(fixture->loop, fixture->answers > before);
}

static void keys_that_cannot_be_fetched_for_a_day_are_given_up_once(void **state) {
    struct fixture *fixture = *state;
    begin(fixture);
    fixture->server.answer = BROKEN;
    fetch_after(fixture, 20);
    fetch_after(fixture, DAY_S - 60);
    assert_int_equal(fixture->told, 1);
    assert_false(sp_issuers_given_up(fixture->issuers, 7));
    fetch_after(fixture, 60);
    fetch_after(fixture, DAY_S);
    assert_int_equal(fixture->told, 2);
    assert_int_equal(fixture->fd, -1);
    assert_true(sp_issuers_given_up(fixture->issuers, 7));
    assert_int_equal(sp_issuers_key_fd(fixture->issuers, 7), -1);
}

static void what_a_predecessor_told_is_given_up_a_day_after_we_began(void **state) {
    struct fixture *fixture = *state;
    fixture->server.answer = BROKEN;
    fetch_after(fixture, 0);
    fetch_after(fixture, HOUR_S);
    fetch_after(fixture, DAY_S - HOUR_S - 60); /* reloads are no new beginning */
    assert_int_equal(fixture->told, 0);
    assert_false(sp_issuers_given_up(fixture->issuers, 7));
    fetch_after(fixture, 60);
    assert_int_equal(fixture->told, 1);
    assert_int_equal(fixture->fd, -1);
    assert_true(sp_issuers_given_up(fixture->issuers, 7));
    assert_false(sp_issuers_given_up(fixture->issuers, 8));
    fetch_after(fixture, DAY_S);
    assert_int_equal(fixture->told, 1);
    fixture->server.answer = HEAD("") SET;
    fetch_after(fixture, 60);
    assert_int_equal(fixture->told, 2);
    assert_true(fixture->fd >= 0);
    assert_false(sp_issuers_given_up(fixture->issuers, 7));
}

static void an_empty_set_is_a_set_that_withdraws_every_key(void **state) {
    struct fixture *fixture = *state;
    begin(fixture);
    fixture->server.answer = HEAD("") EMPTY;
    assert_int_equal(sp_issuers_configure(fixture->issuers, &fixture->config), 0);
    turn_until(fixture->loop, fixture->told == 2);
    assert_true(fixture->fd >= 0);
}

static void who_wants_keys_together_is_answered_by_one_fetch(void **state) {
    struct fixture *fixture = *state;
    uint64_t ticket, again;
    uint32_t wait_ms = 0;
    begin(fixture);
    turn_until(fixture->loop, fixture->server.requests == 1);
    assert_int_equal(sp_issuers_want(fixture->issuers, 7, &ticket, &wait_ms), 0);
    assert_int_equal(sp_issuers_want(fixture->issuers, 7, &again, &wait_ms), 0); /* it has not even begun */
    assert_int_equal(ticket, again);
    turn_until(fixture->loop, fixture->answers == 1);
    assert_int_equal(fixture->ticket, ticket);
    assert_int_equal(fixture->good_answers, 1);
    assert_int_equal(fixture->server.requests, 2);
    assert_true(fixture->wait_ms > 9000 && fixture->wait_ms <= 10000);
    assert_int_equal(sp_issuers_want(fixture->issuers, 7, &ticket, &wait_ms), -EAGAIN);
    assert_true(wait_ms > 9000 && wait_ms <= 10000);
    assert_int_equal(sp_issuers_want(fixture->issuers, 8, &ticket, &wait_ms), -ENOENT);
}

static void a_fetch_that_began_before_the_question_is_not_its_answer_unless_it_brings_news(void **state) {
    struct fixture *fixture = *state;
    uint64_t ticket;
    uint32_t wait_ms;
    assert_int_equal(sp_issuers_configure(fixture->issuers, &fixture->config), 0);
    turn_until(fixture->loop, fixture->server.requests == 1);
    assert_int_equal(sp_issuers_want(fixture->issuers, 7, &ticket, &wait_ms), 0); /* it has been answered over there already */
    turn_until(fixture->loop, fixture->answers == 1);
    assert_int_equal(fixture->server.requests, 1);
    assert_int_equal(sp_issuers_configure(fixture->issuers, &fixture->config), 0);
    turn_until(fixture->loop, fixture->server.requests == 2);
    fixture->server.answer = HEAD("") EMPTY;
    assert_int_equal(sp_issuers_want(fixture->issuers, 7, &ticket, &wait_ms), 0);
    turn_until(fixture->loop, fixture->answers == 2);
    assert_int_equal(fixture->server.requests, 3);
    assert_int_equal(fixture->told, 2);
}

static void who_waits_for_an_issuer_that_is_gone_is_told(void **state) {
    struct fixture *fixture = *state;
    uint64_t ticket;
    uint32_t wait_ms;
    begin(fixture);
    assert_int_equal(sp_issuers_want(fixture->issuers, 7, &ticket, &wait_ms), 0);
    struct sp_config without = {.refs = 1000};
    assert_int_equal(sp_issuers_configure(fixture->issuers, &without), 0);
    assert_int_equal(fixture->answers, 1);
    assert_int_equal(fixture->good_answers, 0);
    assert_int_equal(sp_issuers_key_fd(fixture->issuers, 7), -1);
}

static void a_reload_that_moves_the_keys_begins_anew(void **state) {
    struct fixture *fixture = *state;
    char elsewhere[80];
    begin(fixture);
    snprintf(elsewhere, sizeof elsewhere, "%s?elsewhere", fixture->url);
    struct sp_issuer_config moved = fixture->issuer[0];
    moved.jwks.text = elsewhere;
    struct sp_config other = {.refs = 1000, .issuers = &moved, .n_issuers = 1};
    assert_int_equal(sp_issuers_configure(fixture->issuers, &other), 0);
    assert_int_equal(sp_issuers_key_fd(fixture->issuers, 7), -1);
    turn_until(fixture->loop, fixture->told == 2);
    assert_memory_equal(fixture->server.last, "GET /keys?elsewhere ", 20);
}

static void keys_are_refreshed_as_their_server_says_within_bounds(void **state) {
    static const struct {
        const char *said;
        uint64_t minutes;
    } cases[] = {{NULL, 60},
                 {"", 60},
                 {"public", 60},
                 {"max-age=3600", 60},
                 {"public, Max-Age=7200, immutable", 120},
                 {"max-age=1", 5},
                 {"max-age=0", 5},
                 {"max-age=99999999999999999", 24 * 60},
                 {"max-age=18446744073709551616", 60},
                 {"max-age=-1", 60},
                 {"max-age=x", 60},
                 {"no-store", 5},
                 {"private, no-cache", 5}};
    for (size_t i = 0; i < SP_COUNT(cases); i++)
        assert_int_equal(sp_refresh_after_ms(cases[i].said), cases[i].minutes * 60000);
}

/* ---- Introspection ---- */

static void a_token_is_posted_with_our_credentials(void **state) {
    struct fixture *fixture = *state;
    fixture->server.answer = HEAD("") "{\"active\":false}";
    assert_int_equal(sp_introspect(fixture->introspections, &fixture->config, 7, SP_SPAN("a+b&c"), 42), 0);
    assert_int_equal(fixture->introspected, 0);
    turn_until(fixture->loop, fixture->introspected == 1);
    assert_int_equal(fixture->introspected_well, 1);
    assert_int_equal(fixture->ticket, 42);
    assert_string_equal(fixture->said, "{\"active\":false}");
    assert_memory_equal(fixture->server.last, "POST /keys HTTP/1.1\r\n", 21);
    assert_non_null(strstr(fixture->server.last, "Content-Type: application/x-www-form-urlencoded\r\n"));
    /* me%20%26%20you:100%20%25%3A */
    assert_non_null(strstr(fixture->server.last, "Authorization: Basic bWUlMjAlMjYlMjB5b3U6MTAwJTIwJTI1JTNB\r\n"));
    assert_non_null(strstr(fixture->server.last, "token_type_hint=access_token&token=%61%2B%62%26%63"));
}

static void anything_but_200_is_no_answer(void **state) {
    struct fixture *fixture = *state;
    fixture->server.answer = "HTTP/1.1 401 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    assert_int_equal(sp_introspect(fixture->introspections, &fixture->config, 7, SP_SPAN("t"), 1), 0);
    turn_until(fixture->loop, fixture->introspected == 1);
    assert_int_equal(fixture->introspected_well, 0);
    assert_string_equal(fixture->said, "");
}

static void an_issuer_without_introspection_is_not_asked(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(sp_introspect(fixture->introspections, &fixture->config, 8, SP_SPAN("t"), 1), -ENOENT);
    fixture->issuer[0].introspection.url = NULL;
    assert_int_equal(sp_introspect(fixture->introspections, &fixture->config, 7, SP_SPAN("t"), 1), -ENOENT);
}

static void questions_at_one_time_are_bounded(void **state) {
    struct fixture *fixture = *state;
    fixture->server.answer = "";
    for (unsigned i = 0; i < 128; i++)
        assert_int_equal(sp_introspect(fixture->introspections, &fixture->config, 7, SP_SPAN("t"), i), 0);
    assert_int_equal(sp_introspect(fixture->introspections, &fixture->config, 7, SP_SPAN("t"), 128), -EBUSY);
}

int main(void) {
#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_key_set_is_fetched_and_handed_over_sealed),
        T(keys_are_where_discovery_says_in_either_form),
        T(metadata_that_is_wrong_is_not_looked_for_elsewhere),
        T(the_same_set_again_is_no_news),
        T(what_cannot_be_used_leaves_the_last_good_set_in_use),
        T(keys_that_cannot_be_fetched_for_a_day_are_given_up_once),
        T(what_a_predecessor_told_is_given_up_a_day_after_we_began),
        T(an_empty_set_is_a_set_that_withdraws_every_key),
        T(who_wants_keys_together_is_answered_by_one_fetch),
        T(a_fetch_that_began_before_the_question_is_not_its_answer_unless_it_brings_news),
        T(who_waits_for_an_issuer_that_is_gone_is_told),
        T(a_reload_that_moves_the_keys_begins_anew),
        T(keys_are_refreshed_as_their_server_says_within_bounds),
        T(a_token_is_posted_with_our_credentials),
        T(anything_but_200_is_no_answer),
        T(an_issuer_without_introspection_is_not_asked),
        T(questions_at_one_time_are_bounded),
    };
    return cmocka_run_group_tests_name("admin: issuers", tests, NULL, NULL);
}
