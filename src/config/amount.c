/* Durations, sizes, rates, times: "5s", "8MiB", "600/min", "2027-01-31T00:00:00Z". */
#include <errno.h>
#include <stdio.h>

#include "syntax.h"

struct unit {
    const char *name;
    uint64_t factor;
};

/* Largest first, so that the first one that divides an amount is the one a person would write. */
static const struct unit durations[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
static const struct unit sizes[] = {{"TiB", UINT64_C(1) << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}};
static const struct unit periods[] = {{"h", UINT64_C(3600000000)}, {"min", 60000000}, {"s", 1000000}};

static const struct unit *find_unit(const struct unit *units, size_t n, struct sp_span name) {
    for (size_t i = 0; i < n; i++)
        if (sp_span_eq(name, sp_span_text(units[i].name)))
            return &units[i];
    return NULL;
}

static int parse_amount(struct sp_span text, const struct unit *units, size_t n, uint64_t *ret) {
    size_t digits = 0;
    while (digits < text.len && text.at[digits] >= '0' && text.at[digits] <= '9')
        digits++;
    const struct unit *unit = find_unit(units, n, sp_span_from(text, digits));
    if (digits == 0 || !unit)
        return -EINVAL;
    uint64_t number, amount;
    /* Also within int64_t, which is what JSON can carry. */
    if (!sp_span_u64(sp_span(text.at, digits), &number) || __builtin_mul_overflow(number, unit->factor, &amount) || amount > INT64_MAX)
        return -ERANGE;
    *ret = amount;
    return 0;
}

int sp_parse_duration(struct sp_span text, uint64_t *ret_ms) { return parse_amount(text, durations, SP_COUNT(durations), ret_ms); }

int sp_parse_size(struct sp_span text, uint64_t *ret_bytes) { return parse_amount(text, sizes, SP_COUNT(sizes), ret_bytes); }

int sp_parse_rate(struct sp_span text, struct sp_rate *ret) {
    const char *slash = text.len ? memchr(text.at, '/', text.len) : NULL;
    if (!slash || slash == text.at)
        return -EINVAL;
    struct sp_span digits = sp_span(text.at, (size_t)(slash - text.at));
    const struct unit *period = find_unit(periods, SP_COUNT(periods), sp_span_from(text, digits.len + 1));
    for (size_t i = 0; i < digits.len; i++)
        if (digits.at[i] < '0' || digits.at[i] > '9')
            return -EINVAL;
    if (!period)
        return -EINVAL;
    uint64_t amount;
    if (!sp_span_u64(digits, &amount) || amount > INT64_MAX)
        return -ERANGE;
    *ret = (struct sp_rate){amount, period->factor};
    return 0;
}

static void amount_text(uint64_t amount, const struct unit *units, size_t n, char out[SP_AMOUNT_TEXT]) {
    const struct unit *unit = &units[n - 1];
    for (size_t i = n; i-- > 0 && amount > 0;)
        if (amount % units[i].factor == 0)
            unit = &units[i];
    snprintf(out, SP_AMOUNT_TEXT, "%llu%s", (unsigned long long)(amount / unit->factor), unit->name);
}

void sp_duration_text(uint64_t ms, char out[SP_AMOUNT_TEXT]) { amount_text(ms, durations, SP_COUNT(durations), out); }

void sp_size_text(uint64_t bytes, char out[SP_AMOUNT_TEXT]) { amount_text(bytes, sizes, SP_COUNT(sizes), out); }

/* ---- Times ---- */

static bool is_leap(uint64_t year) { return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0; }

/* Days from 1970-01-01 to the given day of the Gregorian calendar. */
static uint64_t days_since_1970(uint64_t year, uint64_t month, uint64_t day) {
    static const uint16_t before_month[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    uint64_t past = year - 1;
    uint64_t days = past * 365 + past / 4 - past / 100 + past / 400; /* since 0001-01-01 */
    days += before_month[month - 1] + (month > 2 && is_leap(year)) + day - 1;
    return days - 719162;
}

int sp_parse_time(struct sp_span text, uint64_t *ret_s) {
    static const char form[] = "dddd-dd-ddTdd:dd:ddZ";
    static const uint8_t month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (text.len != sizeof form - 1)
        return -EINVAL;
    for (size_t i = 0; i < text.len; i++)
        if (form[i] == 'd' ? text.at[i] < '0' || text.at[i] > '9' : text.at[i] != form[i])
            return -EINVAL;
    static const struct { uint8_t at, len; } parts[6] = {{0, 4}, {5, 2}, {8, 2}, {11, 2}, {14, 2}, {17, 2}};
    uint64_t part[6];
    for (size_t i = 0; i < SP_COUNT(parts); i++)
        if (!sp_span_u64(sp_span(text.at + parts[i].at, parts[i].len), &part[i]))
            return -EINVAL;
    uint64_t year = part[0], month = part[1], day = part[2], hour = part[3], minute = part[4], second = part[5];
    if (year < 1970 || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59)
        return -EINVAL;
    if (day > month_days[month - 1] + (unsigned)(month == 2 && is_leap(year)))
        return -EINVAL;
    *ret_s = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    return 0;
}
