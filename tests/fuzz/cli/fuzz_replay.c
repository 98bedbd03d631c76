/* A whole access log, hostile in every line, through a replay: it ends, and its numbers fit each other. */
#include <stdio.h>

#include "replay.h"
#include "../require.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static const char policies[] =
    "[{\"name\":\"a\",\"by\":[\"subject\",\"tenant\"],\"requests\":{\"amount\":2,\"period_us\":1000000,\"burst\":%d},\"tokens\":null,"
    "\"concurrency\":2,\"shadow\":false,\"count\":\"all\",\"roles\":[],\"routes\":[\"api\"]},"
    "{\"name\":\"b\",\"by\":[\"address\",\"model\"],\"requests\":null,\"tokens\":{\"amount\":100,\"period_us\":60000000,\"burst\":1000},"
    "\"concurrency\":null,\"shadow\":%s,\"count\":\"all\",\"roles\":[\"r\"],\"routes\":[]},"
    "{\"name\":\"c\",\"by\":[\"address\"],\"requests\":{\"amount\":1,\"period_us\":1000000,\"burst\":3},\"count\":\"unauthorized\"}]";

static json_t *limits(int burst, const char *shadow) {
    char text[sizeof policies + 32];
    snprintf(text, sizeof text, policies, burst, shadow);
    return json_loads(text, 0, NULL);
}

static json_int_t number(json_t *object, const char *member) {
    REQUIRE(json_is_integer(json_object_get(object, member)));
    return json_integer_value(json_object_get(object, member));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    static struct sp_route_config routes[] = {{.name = "api"}, {.name = "other"}};
    static struct sp_api_key_config keys[] = {{.id = "AbCd1234", .name = "alice"}};
    static const char *const roles[] = {"r"};
    const struct sp_config config = {.routes = routes, .n_routes = SP_COUNT(routes), .api_keys = keys, .n_api_keys = SP_COUNT(keys)};
    json_t *now = limits(3, "false"), *new = limits(1, "true");
    struct sp_replay *replay = NULL;
    REQUIRE(sp_replay_new(now, new, &config, roles, SP_COUNT(roles), &replay) == 0);
    struct sp_span rest = sp_span((const char *)bytes, len), line;
    json_int_t lines = 0;
    while (sp_span_split(&rest, '\n', &line)) {
        sp_replay_line(replay, line);
        lines++;
    }
    json_t *answer = sp_replay_end(replay);
    REQUIRE(answer);
    REQUIRE(number(answer, "lines") == lines);
    json_int_t asked = number(answer, "requests"), before = number(answer, "refused_now"), after = number(answer, "refused_new");
    REQUIRE(asked + number(answer, "skipped") <= lines);
    REQUIRE(before <= asked && after <= asked && number(answer, "refused_in_log") <= asked);
    REQUIRE(after - number(answer, "newly_refused") == before - number(answer, "no_longer_refused")); /* refused by both */
    json_t *limit;
    size_t i;
    json_int_t newly = 0;
    json_array_foreach(json_object_get(answer, "limits"), i, limit) newly += number(limit, "newly");
    REQUIRE(newly == number(answer, "newly_refused"));
    json_decref(answer);
    sp_replay_free(replay);
    json_decref(now);
    json_decref(new);
    return 0;
}
