#include "replay.h"

#include <errno.h>
#include <math.h>
#include <time.h>

#define DURATION_MAX_MS (7.0 * 86400 * 1000)

/* ---- Time ---- */

int sp_logged_time(struct sp_span text, uint64_t *ret_us) {
    static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ";
    static const struct {
        uint8_t at, len, least, most;
    } parts[] = {{5, 2, 1, 12}, {8, 2, 1, 31}, {11, 2, 0, 23}, {14, 2, 0, 59}, {17, 2, 0, 60}};
    uint64_t year = 0, ms = 0, part[SP_COUNT(parts)];
    if (text.len != sizeof form - 1)
        return -EINVAL;
    for (size_t i = 0; i < text.len; i++)
        if (form[i] == 'd' ? text.at[i] < '0' || text.at[i] > '9' : text.at[i] != form[i])
            return -EINVAL;
    if (!sp_span_u64(sp_span(text.at, 4), &year) || !sp_span_u64(sp_span(text.at + 20, 3), &ms) || year < 1970)
        return -EINVAL;
    for (size_t i = 0; i < SP_COUNT(parts); i++)
        if (!sp_span_u64(sp_span(text.at + parts[i].at, parts[i].len), &part[i]) || part[i] < parts[i].least || part[i] > parts[i].most)
            return -EINVAL;
    struct tm broken = {.tm_year = (int)year - 1900,
                        .tm_mon = (int)part[0] - 1,
                        .tm_mday = (int)part[1],
                        .tm_hour = (int)part[2],
                        .tm_min = (int)part[3],
                        .tm_sec = (int)part[4]};
    time_t seconds = timegm(&broken);
    if (seconds < 0)
        return -EINVAL;
    *ret_us = ((uint64_t)seconds * 1000 + ms) * 1000;
    return 0;
}

/* ---- What a line says ---- */

static struct sp_span text_of(const json_t *line, const char *member) {
    const json_t *value = json_object_get(line, member);
    return sp_span(json_string_value(value), json_string_length(value));
}

/* Ours, after it was admitted: it had its turn at the limits. */
static bool refused_later(struct sp_span reason) {
    static const char *const reasons[] = {"queue full", "queue timed out", "backends busy", "no healthy backend"};
    for (size_t i = 0; i < SP_COUNT(reasons); i++)
        if (sp_span_eq(reason, sp_span_text(reasons[i])))
            return true;
    return false;
}

static int64_t tokens_of(const json_t *line) {
    const json_t *in = json_object_get(line, "tokens_in"), *out = json_object_get(line, "tokens_out");
    json_int_t used = 0;
    if (!json_is_integer(in) && !json_is_integer(out))
        return -1;
    if (json_integer_value(in) < 0 || json_integer_value(out) < 0 ||
        __builtin_add_overflow(json_integer_value(in), json_integer_value(out), &used))
        return -1;
    return sp_min(used, (json_int_t)1000000000000);
}

static int read_numbers(const json_t *line, struct sp_logged *ret) {
    const json_t *total = json_object_get(line, "total_ms"), *status = json_object_get(line, "status");
    double ms = json_number_value(total);
    if (!json_is_number(total) || !isfinite(ms) || ms < 0 || !(json_is_integer(status) || json_is_null(status)))
        return -EINVAL;
    if (sp_logged_time(text_of(line, "time"), &ret->begin_us) < 0)
        return -EINVAL;
    ret->duration_us = (uint64_t)(sp_min(ms, DURATION_MAX_MS) * 1000);
    ret->tokens = tokens_of(line);
    struct sp_span reason = text_of(line, "reason");
    json_int_t answered = json_integer_value(status);
    bool login_limit = sp_span_eq(reason, SP_SPAN("login limit")), limited = json_is_string(json_object_get(line, "limit"));
    ret->login = answered == 401 || login_limit;
    ret->refused = limited && (answered == 429 || answered == 400);
    ret->asked = !ret->login && ((limited && ret->refused) || (answered >= 200 && answered < 400) || refused_later(reason) ||
                                 json_is_string(json_object_get(line, "pool")));
    return 0;
}

static int read_object(const json_t *line, struct sp_logged **ret) {
    static const char *const members[SP_LOGGED_TEXTS] = {"subject", "tenant", "key_id", "model", "route", "client", "limit"};
    struct sp_logged numbers = {0};
    size_t len = 0;
    if (!json_is_object(line) || text_of(line, "request_id").len == 0 || read_numbers(line, &numbers) < 0)
        return -EINVAL;
    for (size_t i = 0; i < SP_LOGGED_TEXTS; i++)
        len += text_of(line, members[i]).len;
    struct sp_logged *logged = malloc(sizeof *logged + len);
    if (!logged)
        return -ENOMEM;
    *logged = numbers;
    char *at = logged->bytes;
    for (size_t i = 0; i < SP_LOGGED_TEXTS; i++) {
        struct sp_span text = text_of(line, members[i]);
        if (text.len)
            memcpy(at, text.at, text.len);
        logged->text[i] = sp_span(at, text.len);
        at += text.len;
    }
    *ret = logged;
    return 0;
}

int sp_logged_read(struct sp_span line, struct sp_logged **ret) {
    if (line.len == 0 || line.len > SP_LOGGED_LINE_MAX)
        return -EINVAL;
    json_error_t error;
    json_t *object = json_loadb(line.at, line.len, JSON_REJECT_DUPLICATES, &error);
    if (!object)
        return json_error_code(&error) == json_error_out_of_memory ? -ENOMEM : -EINVAL;
    int r = read_object(object, ret);
    json_decref(object);
    return r;
}
