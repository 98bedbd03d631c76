#include <sallyport/base.h>

#include <errno.h>
#include <sys/random.h>

void sp_random(void *out, size_t len) {
    for (size_t done = 0; done < len;) {
        ssize_t n = getrandom((char *)out + done, len - done, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            sp_fatal("the kernel gives no random bytes");
        done += (size_t)n;
    }
}

static inline uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

/* xoshiro256** (Blackman, Vigna 2018). */
uint64_t sp_random_u64_fast(void) {
    static _Thread_local uint64_t s[4];
    while (!(s[0] | s[1] | s[2] | s[3]))
        sp_random(s, sizeof s);
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

void sp_wipe(void *secret, size_t len) {
    if (secret)
        explicit_bzero(secret, len);
}

bool sp_secret_eq(const void *a, const void *b, size_t len) {
    uint64_t different = 0, x, y;
    const char *left = a, *right = b;
    for (; len >= sizeof x; len -= sizeof x, left += sizeof x, right += sizeof y) {
        memcpy(&x, left, sizeof x);
        memcpy(&y, right, sizeof y);
        different |= x ^ y;
        __asm__ volatile("" : "+r"(different)); /* no compiler may find out that it could stop here */
    }
    for (; len > 0; len--)
        different |= (uint64_t)(unsigned char)(*left++ ^ *right++);
    __asm__ volatile("" : "+r"(different));
    return different == 0;
}

void sp_free_secret(char *text) {
    if (text)
        sp_wipe(text, strlen(text));
    free(text);
}

#define SIPROUND                \
    do {                        \
        v0 += v1;               \
        v1 = rotate(v1, 13);    \
        v1 ^= v0;               \
        v0 = rotate(v0, 32);    \
        v2 += v3;               \
        v3 = rotate(v3, 16);    \
        v3 ^= v2;               \
        v0 += v3;               \
        v3 = rotate(v3, 21);    \
        v3 ^= v0;               \
        v2 += v1;               \
        v1 = rotate(v1, 17);    \
        v1 ^= v2;               \
        v2 = rotate(v2, 32);    \
    } while (0)

/* SipHash-1-3: one round per word, three at the end; enough for tables, where no hash is ever shown to anyone. */
uint64_t sp_hash(const struct sp_hash_key *key, const void *bytes, size_t len) {
    uint64_t v0 = key->k0 ^ UINT64_C(0x736f6d6570736575), v1 = key->k1 ^ UINT64_C(0x646f72616e646f6d);
    uint64_t v2 = key->k0 ^ UINT64_C(0x6c7967656e657261), v3 = key->k1 ^ UINT64_C(0x7465646279746573);
    const unsigned char *at = bytes;
    uint64_t word;
    size_t left = len;
    for (; left >= 8; left -= 8, at += 8) {
        memcpy(&word, at, 8);
        v3 ^= word;
        SIPROUND;
        v0 ^= word;
    }
    word = (uint64_t)len << 56;
    for (size_t i = 0; i < left; i++)
        word |= (uint64_t)at[i] << (8 * i);
    v3 ^= word;
    SIPROUND;
    v0 ^= word;
    v2 ^= 0xff;
    SIPROUND;
    SIPROUND;
    SIPROUND;
    return v0 ^ v1 ^ v2 ^ v3;
}

uint64_t sp_hash_span(const struct sp_hash_key *key, struct sp_span span) { return sp_hash(key, span.at, span.len); }
