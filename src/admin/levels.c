/* What the limits leave one subject: the question out of a query, and a worker's answer as JSON. */
#include <arpa/inet.h>
#include <errno.h>

#include <sallyport/limit.h>

#include "endpoints.h"
#include "names.h"

#define REFUSALS_TOLD 10

/* ---- The question ---- */

/* 1: there; 0: not; -EINVAL. Escapes were left alone by libmicrohttpd (see endpoints.c) and are undone here. */
static int argument(struct MHD_Connection *connection, const char *name, char *out, size_t size) {
    const char *value = NULL;
    size_t len = 0;
    if (MHD_lookup_connection_value_n(connection, MHD_GET_ARGUMENT_KIND, name, strlen(name), &value, &len) != MHD_YES)
        return 0;
    if (len >= size)
        return -EINVAL;
    if (len)
        memcpy(out, value, len);
    out[len] = '\0';
    len = MHD_http_unescape(out);
    return strlen(out) == len && len <= SP_FACT_MAX ? 1 : -EINVAL;
}

/* IPv4 as mapped IPv6, as limits know it. */
static bool parse_address(const char *text, uint8_t out[16]) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (inet_pton(AF_INET6, text, out) == 1)
        return true;
    memcpy(out, mapped, sizeof mapped);
    return inet_pton(AF_INET, text, out + sizeof mapped) == 1;
}

int sp_levels_facts(struct MHD_Connection *connection, char store[SP_FACT_TEXTS][3 * SP_FACT_MAX + 1], struct sp_facts *ret,
                    const char **ret_wrong) {
    static const struct {
        const char *name, *wrong;
        uint32_t bit;
        bool may_be_empty; /* who has no tenant is counted among those who have none */
    } texts[SP_FACT_TEXTS] = {
        [SP_FACT_SUBJECT] = {"subject", "subject: empty or too long", SP_BY_SUBJECT, false},
        [SP_FACT_TENANT] = {"tenant", "tenant: too long", SP_BY_TENANT, true},
        [SP_FACT_KEY] = {"key", "key: too long", SP_BY_KEY, true},
        [SP_FACT_MODEL] = {"model", "model: too long", SP_BY_MODEL, true},
        [SP_FACT_ROUTE] = {"route", "route: empty or too long", SP_BY_ROUTE, false},
    };
    char address[64];
    struct sp_facts facts = {0};
    for (size_t i = 0; i < SP_FACT_TEXTS; i++) {
        int there = argument(connection, texts[i].name, store[i], 3 * SP_FACT_MAX + 1);
        *ret_wrong = texts[i].wrong;
        if (there < 0 || (there > 0 && !store[i][0] && !texts[i].may_be_empty))
            return -EINVAL;
        if (there > 0) {
            facts.given |= texts[i].bit;
            facts.text[i] = sp_span_text(store[i]);
        }
    }
    int there = argument(connection, "address", address, sizeof address);
    *ret_wrong = "address: expected an IPv4 or IPv6 address";
    if (there < 0 || (there > 0 && !parse_address(address, facts.address)))
        return -EINVAL;
    facts.given |= there > 0 ? SP_BY_ADDRESS : 0;
    *ret = facts;
    return facts.given ? 0 : -ENOENT;
}

/* ---- The answer ---- */

/* An account without what tells it apart: as the access log has it (src/identity/principal.c). */
static struct sp_span subject_of(struct sp_span account) {
    static const struct sp_span kinds[] = {{"key:", 4}, {"cert:", 5}};
    for (size_t i = 0; i < SP_COUNT(kinds); i++)
        if (sp_span_starts(account, kinds[i]))
            return sp_span_from(account, kinds[i].len);
    const char *blank = sp_span_starts(account, SP_SPAN("jwt:")) ? memchr(account.at, ' ', account.len) : NULL;
    return blank ? sp_span_from(account, (size_t)(blank - account.at) + 1) : account;
}

static json_t *bucket_json(const struct sp_msg_level_bucket *bucket, bool bounded) {
    if (!bounded)
        return json_null();
    if (bucket->burst == 0)
        return json_pack("{s:n,s:n,s:n,s:n,s:I,s:I}", "level", "burst", "debt", "full_after_ms", "leased", (json_int_t)bucket->leased,
                         "refused_for_ms", (json_int_t)bucket->refused_ms);
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "level", (json_int_t)bucket->level, "burst", (json_int_t)bucket->burst, "debt",
                     (json_int_t)(bucket->level < 0 ? -bucket->level : 0), "full_after_ms", (json_int_t)bucket->full_after_ms, "leased",
                     (json_int_t)bucket->leased, "refused_for_ms", (json_int_t)bucket->refused_ms);
}

static json_t *places_json(const struct sp_limit_config *limit, const struct sp_msg_level *level) {
    if (limit->concurrency == 0)
        return json_null();
    return json_pack("{s:I,s:I,s:I}", "used", (json_int_t)level->places_used, "had", (json_int_t)level->places_had, "most",
                     (json_int_t)limit->concurrency);
}

static json_t *level_json(const struct sp_limit_config *limit, const struct sp_msg_level *level) {
    return json_pack("{s:s,s:o,s:b,s:b,s:b,s:o,s:o,s:o}", "name", limit->name, "by", sp_by_json(limit->by), "shadow", limit->shadow ? 1 : 0,
                     "shared", level->flags & SP_LEVEL_SHARED ? 1 : 0, "degraded", level->flags & SP_LEVEL_DEGRADED ? 1 : 0, "requests",
                     bucket_json(&level->bucket[SP_LIMIT_REQUESTS], limit->requests.amount > 0), "tokens",
                     bucket_json(&level->bucket[SP_LIMIT_TOKENS], limit->tokens.amount > 0), "concurrency", places_json(limit, level));
}

/* In the order of the configuration; a limit that the worker's generation does not have is left out. */
static json_t *levels_json(const struct sp_config *config, struct sp_span rows, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < config->n_limits; i++)
        for (size_t j = 0; j < n; j++) {
            struct sp_msg_level level;
            memcpy(&level, rows.at + j * sizeof level, sizeof level);
            if (level.limit_slot == config->limits[i].slot)
                json_array_append_new(list, level_json(&config->limits[i], &level));
        }
    return list;
}

/* Limits whose subject was not named well enough. */
static json_t *unseen_json(const struct sp_config *config, uint32_t given) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < config->n_limits; i++) {
        uint32_t missing = config->limits[i].by & ~(given | SP_BY_GLOBAL);
        if (missing)
            json_array_append_new(list, json_pack("{s:s,s:o}", "name", config->limits[i].name, "needs", sp_by_json(missing)));
    }
    return list;
}

static json_t *text_json(const struct sp_facts *facts, uint32_t bit, unsigned text) {
    return facts->given & bit ? sp_string_json(facts->text[text]) : json_null();
}

static int put_refusals(const struct sp_admin_view *view, struct sp_span subject, json_t *into) {
    struct sp_refusal_record found[REFUSALS_TOLD];
    size_t n = subject.len > 0 ? sp_refusals_latest(view->counters, subject, found, REFUSALS_TOLD) : 0;
    json_t *refusals = sp_refusals_json(view, found, n);
    int r = refusals ? json_object_update(into, refusals) : -1;
    json_decref(refusals);
    return r;
}

static json_t *told_json(const struct sp_admin_view *view, const struct sp_facts *facts, struct sp_span rows, size_t n) {
    struct sp_span subject = subject_of(facts->text[SP_FACT_SUBJECT]);
    json_t *answer =
        json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "subject", facts->given & SP_BY_SUBJECT ? sp_string_json(subject) : json_null(),
                  "account", text_json(facts, SP_BY_SUBJECT, SP_FACT_SUBJECT), "tenant", text_json(facts, SP_BY_TENANT, SP_FACT_TENANT),
                  "key_id", text_json(facts, SP_BY_KEY, SP_FACT_KEY), "model", text_json(facts, SP_BY_MODEL, SP_FACT_MODEL), "route",
                  text_json(facts, SP_BY_ROUTE, SP_FACT_ROUTE), "limits", levels_json(view->config, rows, n), "not_shown",
                  unseen_json(view->config, facts->given));
    if (answer && put_refusals(view, subject, answer) < 0) {
        json_decref(answer);
        answer = NULL;
    }
    return answer;
}

int sp_levels_json(const struct sp_admin_view *view, struct sp_span answer, uint64_t *ret_id, unsigned *ret_status, const char **ret_why,
                   json_t **ret) {
    static const char *const whys[SP_LEVELS_VERDICTS] = {
        [SP_LEVELS_AMBIGUOUS] = "no API key has this name, and others could in more than one way: say jwt:ISSUER NAME or cert:NAME",
        [SP_LEVELS_BUSY] = "too many such questions are under way; ask again"};
    struct sp_msg_levels message;
    struct sp_facts facts;
    if (answer.len < sizeof message)
        return -EBADMSG;
    memcpy(&message, answer.at, sizeof message);
    struct sp_span rows = sp_span_from(answer, sizeof message);
    size_t len = message.count * sizeof(struct sp_msg_level);
    if (message.count > SP_LEVELS_MAX || message.verdict >= SP_LEVELS_VERDICTS || len > rows.len ||
        sp_facts_read(&message.facts, sp_span_from(rows, len), &facts) < 0)
        return -EBADMSG;
    *ret_id = message.id;
    *ret_why = whys[message.verdict];
    *ret_status = message.verdict == SP_LEVELS_AMBIGUOUS ? MHD_HTTP_UNPROCESSABLE_CONTENT : MHD_HTTP_SERVICE_UNAVAILABLE;
    *ret = *ret_why ? NULL : told_json(view, &facts, rows, message.count);
    return 0;
}
