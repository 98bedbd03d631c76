#include "redis_wire.h"

#include <errno.h>

#include "bucket.h"
#include "lease.h"
#include "script.h"

#define EXACT        (INT64_C(1) << 53)
#define NUMBER_MAX   SP_DECIMAL_MAX
#define ARGUMENT_MAX 256 /* of one bucket: ten numbers at most */
#define HEADERS_MAX  96  /* the command, the script's name, the number of keys */
#define REST_MAX     32  /* lengths and line ends of a key and an argument */

_Static_assert(4 * NUMBER_MAX + 3 < SP_REDIS_POLICY_MAX, "a policy in writing fits");
_Static_assert(2 + SP_REDIS_PARTS_MAX <= SP_RESP_ITEMS_MAX, "the reply for the most buckets fits");

/* ---- Policies as the script wants them ---- */

struct sp_redis_ratio sp_redis_ratio_of(const struct sp_rate *rate) {
    uint64_t num = rate->amount > UINT64_MAX / SP_MICRO ? UINT64_MAX : rate->amount * SP_MICRO;
    uint64_t den = rate->period_us;
    uint64_t a = num, b = den;
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    num /= sp_max(a, 1u);
    den /= sp_max(a, 1u);
    uint64_t product;
    while (__builtin_mul_overflow(den, num + 1, &product) || product >= (uint64_t)EXACT || num == UINT64_MAX) {
        if (num == 1)
            break; /* den alone is beyond: the caller's period is longer than 285 years */
        num /= 2;
        den = den / 2 + den % 2;
    }
    return (struct sp_redis_ratio){.num = num, .den = sp_min(den, (uint64_t)EXACT / 2 - 1)};
}

/* ---- Out ---- */

static char *put(char *at, const void *bytes, size_t len) {
    memcpy(at, bytes, len);
    return at + len;
}
#define PUT_TEXT(at, literal) put(at, "" literal, sizeof(literal) - 1)

static char *put_number(char *at, uint64_t number) { return at + sp_decimal(number, at); }

/* A number after the character that says which. */
static char *put_next(char *at, char before, uint64_t number) {
    *at = before;
    return put_number(at + 1, number);
}

static char *put_line(char *at, char type, uint64_t number) { return PUT_TEXT(put_next(at, type, number), "\r\n"); }

static char *put_word(char *at, struct sp_span word) {
    at = put_line(at, '$', word.len);
    return PUT_TEXT(put(at, word.at, word.len), "\r\n");
}

static char *put_payment(char *at, const struct sp_redis_payment *payment, uint32_t source) {
    const uint8_t name[] = {(uint8_t)(source >> 24), (uint8_t)(source >> 16), (uint8_t)(source >> 8), (uint8_t)source};
    at = payment->delta < 0 ? PUT_TEXT(at, " p-") : PUT_TEXT(at, " p");
    at = put_number(at, payment->delta < 0 ? 0 - (uint64_t)payment->delta : (uint64_t)payment->delta);
    *at++ = ':';
    at += sp_hex(name, sizeof name, at);
    at = put_next(at, ':', payment->sequence);
    at = put_next(at, ':', payment->at_us);
    return put_next(at, ':', payment->again);
}

/* As token_bucket.lua describes it. */
size_t sp_redis_wire_policy(const struct sp_redis_policy *policy, char out[SP_REDIS_POLICY_MAX]) {
    char *at = put_number(out, policy->ratio.num);
    at = put_next(at, ' ', policy->ratio.den);
    at = put_next(at, ' ', policy->burst);
    at = put_next(at, ' ', policy->revision);
    return (size_t)(at - out);
}

static size_t write_argument(const struct sp_redis_asked *asked, uint32_t source, char out[ARGUMENT_MAX]) {
    struct sp_span policy = asked->in_writing;
    char *at = policy.len ? put(out, policy.at, policy.len) : out + sp_redis_wire_policy(&asked->policy, out);
    at = put_next(at, ' ', asked->cost);
    if (asked->shadow)
        at = PUT_TEXT(at, " s");
    if (asked->lease) {
        at = put_next(PUT_TEXT(at, " "), 'l', asked->lease);
        at = put_next(at, ':', SP_LEASE_MS * UINT64_C(1000));
    }
    if (asked->pays)
        at = put_payment(at, &asked->payment, source);
    return (size_t)(at - out);
}

size_t sp_redis_wire_size(const struct sp_redis_asked *asked, size_t n) {
    size_t size = HEADERS_MAX + n * (ARGUMENT_MAX + REST_MAX);
    for (size_t i = 0; i < n; i++)
        size += asked[i].key.len;
    return size;
}

size_t sp_redis_wire_format(struct sp_redis_asked *asked, size_t n, bool peek, uint32_t source, char *out) {
    char *at = put_line(out, '*', 3 + 2 * n + peek);
    at = put_word(PUT_TEXT(at, "$7\r\nEVALSHA\r\n"), sp_span_text(sp_token_bucket_sha1));
    at = put_line(at, '$', n < 10 ? 1 : 2);
    at = PUT_TEXT(put_number(at, n), "\r\n");
    for (size_t i = 0; i < n; i++) {
        at = put_word(at, asked[i].key);
        asked[i].key.at = at - 2 - asked[i].key.len;
    }
    for (size_t i = 0; i < n; i++) {
        char argument[ARGUMENT_MAX] SP_UNINITIALIZED;
        at = put_word(at, sp_span(argument, write_argument(&asked[i], source, argument)));
    }
    return (size_t)((peek ? PUT_TEXT(at, "$1\r\n1\r\n") : at) - out);
}

/* ---- In ---- */

static bool within(int64_t number, int64_t least, int64_t most) { return number >= least && number <= most; }

/* The next of numbers parted by single spaces. */
static bool next_number(struct sp_span *rest, int64_t *ret) {
    const char *at = rest->at, *end = at + rest->len;
    bool negative = at < end && *at == '-';
    int64_t number = 0;
    const char *digits = at += negative;
    for (; at < end && (unsigned char)(*at - '0') <= 9 && number < EXACT; at++)
        number = number * 10 + (*at - '0');
    bool more = at < end;
    if (at == digits || number >= EXACT || (more && (*at != ' ' || at + 1 == end)))
        return false;
    *ret = negative ? -number : number;
    *rest = sp_span(at + more, (size_t)(end - at) - more);
    return true;
}

/* One bucket's words, checked: it is what a bucket can be. */
struct words {
    int64_t verdict, level, remainder, lag, leased;
    int64_t num, den, burst;
};
static bool read_words(struct sp_span text, const struct sp_redis_asked *asked, struct words *ret) {
    *ret = (struct words){.num = (int64_t)asked->policy.ratio.num, .den = (int64_t)asked->policy.ratio.den, .burst = (int64_t)asked->policy.burst};
    int64_t *const state[] = {&ret->verdict, &ret->level, &ret->remainder, &ret->lag, &ret->leased};
    int64_t *const policy[] = {&ret->num, &ret->den, &ret->burst};
    for (size_t i = 0; i < SP_COUNT(state); i++)
        if (!next_number(&text, state[i]))
            return false;
    bool other_policy = text.len > 0;
    for (size_t i = 0; i < SP_COUNT(policy) && other_policy; i++)
        if (!next_number(&text, policy[i]))
            return false;
    return text.len == 0 && within(ret->verdict, 0, 2) && within(ret->num, 1, EXACT - 1) && within(ret->den, 1, EXACT - 1) &&
           within(ret->remainder, 0, ret->den - 1) && within(ret->burst, 1, (int64_t)SP_REDIS_BURST_MAX) &&
           within(ret->level, -EXACT, ret->burst * (int64_t)SP_MICRO) && within(ret->lag, 0, EXACT) &&
           within(ret->leased, 0, (int64_t)asked->lease);
}

/* Said to be taken or leased, it must have been there; refused, it must not. */
static bool is_consistent(const struct words *words, const struct sp_redis_asked *asked, bool admitted, bool peek) {
    bool never = asked->cost > (uint64_t)words->burst, fits = words->verdict == 0, took = admitted && !peek;
    if ((words->verdict == 2) != never || (words->leased > 0 && (!took || words->level < 0)))
        return false;
    if (words->verdict == 1)
        return asked->cost > 0 && words->level < (int64_t)(asked->cost * SP_MICRO);
    return !fits || asked->cost == 0 || words->level >= (took ? 0 : (int64_t)(asked->cost * SP_MICRO));
}

static int decode_bucket(struct sp_span text, const struct sp_redis_asked *asked, bool admitted, bool peek, int64_t now,
                         struct sp_redis_told *ret) {
    struct words words;
    if (!read_words(text, asked, &words) || !is_consistent(&words, asked, admitted, peek))
        return -EPROTO;
    /* num / den micro-tokens per µs is num tokens per den seconds; the remainder's parts become as much smaller. */
    const struct sp_bucket_policy policy = {
        .rate = {.amount = (uint64_t)words.num, .period_us = (uint64_t)words.den * SP_MICRO}, .burst = (uint64_t)words.burst};
    const struct sp_bucket bucket = {
        .level_micro = words.level, .time_us = (uint64_t)words.lag, .remainder = (uint64_t)words.remainder * SP_MICRO};
    *ret = (struct sp_redis_told){.answer = {.asked = true, .burst = (uint64_t)words.burst},
                                  .leased = (uint64_t)words.leased,
                                  .taken_us = (uint64_t)(now + words.lag)};
    ret->answer.bucket = sp_bucket_describe(&policy, 0, asked->cost, words.verdict == 0, &bucket);
    return 0;
}

int sp_redis_wire_decode(const struct sp_resp_reply *reply, const struct sp_redis_asked *asked, size_t n, bool peek, bool *ret_admitted,
                         struct sp_redis_told ret[SP_REDIS_PARTS_MAX]) {
    const struct sp_resp_value *item = reply->item;
    if (reply->value.type != SP_RESP_ARRAY || reply->n != 2 + n || item[0].type != SP_RESP_INTEGER || !within(item[0].integer, 0, 1) ||
        item[1].type != SP_RESP_INTEGER || !within(item[1].integer, 1, EXACT))
        return -EPROTO;
    bool admitted = item[0].integer == 1, amounts_to = true;
    for (size_t i = 0; i < n; i++) {
        if (item[2 + i].type != SP_RESP_STRING)
            return -EPROTO;
        ret[i] = (struct sp_redis_told){0};
        if (asked[i].policy.ratio.num == 0)
            continue; /* only to settle: there is nothing to tell */
        int r = decode_bucket(item[2 + i].text, &asked[i], admitted, peek, item[1].integer, &ret[i]);
        if (r < 0)
            return r;
        amounts_to = amounts_to && (ret[i].answer.bucket.admitted || asked[i].shadow);
    }
    if (admitted != amounts_to)
        return -EPROTO;
    *ret_admitted = admitted;
    return 0;
}
