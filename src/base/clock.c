#include <sallyport/base.h>

#include <time.h>

static struct timespec read_clock(clockid_t which) {
    struct timespec now;
    if (clock_gettime(which, &now))
        sp_fatal("the system has no clock");
    return now;
}

uint64_t sp_clock_ns(void) {
    struct timespec now = read_clock(CLOCK_MONOTONIC);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t sp_clock_us(void) { return sp_clock_ns() / 1000; }

uint64_t sp_wall_ms(void) {
    struct timespec now = read_clock(CLOCK_REALTIME);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t sp_wall_s(void) { return sp_wall_ms() / 1000; }

static void two_digits(char *out, unsigned value) {
    out[0] = (char)('0' + value / 10 % 10);
    out[1] = (char)('0' + value % 10);
}

void sp_timestamp(uint64_t wall_ms, char out[SP_TIMESTAMP_LEN + 1]) {
    /* The date changes once a second at most: one gmtime per second and thread, not one per line. */
    static _Thread_local uint64_t cached_second = UINT64_MAX;
    static _Thread_local char cached[SP_TIMESTAMP_LEN + 1];
    uint64_t second = wall_ms / 1000;
    if (second != cached_second) {
        struct tm date;
        time_t when = (time_t)second;
        if (!gmtime_r(&when, &date))
            date = (struct tm){.tm_mday = 1, .tm_year = 70};
        unsigned year = (unsigned)(date.tm_year + 1900);
        memcpy(cached, "0000-00-00T00:00:00.000Z", sizeof cached);
        two_digits(cached, year / 100);
        two_digits(cached + 2, year % 100);
        two_digits(cached + 5, (unsigned)date.tm_mon + 1);
        two_digits(cached + 8, (unsigned)date.tm_mday);
        two_digits(cached + 11, (unsigned)date.tm_hour);
        two_digits(cached + 14, (unsigned)date.tm_min);
        two_digits(cached + 17, (unsigned)date.tm_sec);
        cached_second = second;
    }
    memcpy(out, cached, sizeof cached);
    unsigned ms = (unsigned)(wall_ms % 1000);
    out[20] = (char)('0' + ms / 100);
    two_digits(out + 21, ms % 100);
}
