#include "subject.h"

#include <errno.h>
#include <openssl/evp.h>

#define DIMENSIONS      5 /* those that are text */
#define ESCAPED_AT_ONCE 64

struct dimension {
    char letter;
    struct sp_span text;
};

static const uint8_t mapped_ipv4[12] = {[10] = 0xff, [11] = 0xff};
static bool is_ipv4(const uint8_t address[16]) { return memcmp(address, mapped_ipv4, sizeof mapped_ipv4) == 0; }
/* IPv6 is counted per /64: that is what one subscriber is given. */
static size_t counted_bytes(const uint8_t address[16]) { return is_ipv4(address) ? 16 : 8; }

/* The texts a limit counts by, in the order of the key. */
static size_t dimensions_of(uint32_t by, const struct sp_limit_facts *facts, struct dimension ret[DIMENSIONS]) {
    size_t n = 0;
    if (by & SP_BY_SUBJECT)
        ret[n++] = (struct dimension){'s', facts->subject};
    if (by & SP_BY_TENANT)
        ret[n++] = (struct dimension){'t', facts->tenant};
    if (by & SP_BY_KEY)
        ret[n++] = (struct dimension){'k', facts->key_id};
    if (by & SP_BY_MODEL)
        ret[n++] = (struct dimension){'m', facts->model};
    if (by & SP_BY_ROUTE)
        ret[n++] = (struct dimension){'r', facts->route};
    return n;
}

/* ---- Hash ---- */

/* Facts side by side, each after its length; what does not fit is hashed on its own and stands there as its hash. */
struct canon {
    uint8_t bytes[256];
    size_t len;
};

static void canon_word(struct canon *canon, uint64_t word) {
    memcpy(canon->bytes + canon->len, &word, sizeof word);
    canon->len += sizeof word;
}

static void canon_text(struct canon *canon, const struct sp_hash_key *hash_key, struct sp_span text, size_t room_after) {
    if (text.len + sizeof(uint64_t) + room_after <= sizeof canon->bytes - canon->len) {
        canon_word(canon, text.len);
        if (text.len)
            memcpy(canon->bytes + canon->len, text.at, text.len);
        canon->len += text.len;
    } else {
        canon_word(canon, UINT64_MAX - text.len);
        canon_word(canon, sp_hash(hash_key, text.at, text.len));
    }
}

uint64_t sp_subject_hash(const struct sp_hash_key *hash_key, uint32_t by, const struct sp_limit_facts *facts) {
    struct dimension dimensions[DIMENSIONS] SP_UNINITIALIZED;
    size_t n = dimensions_of(by, facts, dimensions);
    struct canon canon SP_UNINITIALIZED; /* hashed only as far as it is written */
    canon.len = 0;
    canon_word(&canon, by);
    if (by & SP_BY_ADDRESS) {
        memcpy(canon.bytes + canon.len, facts->address, counted_bytes(facts->address));
        canon.len += counted_bytes(facts->address);
    }
    for (size_t i = 0; i < n; i++)
        canon_text(&canon, hash_key, dimensions[i].text, (n - 1 - i) * 2 * sizeof(uint64_t));
    return sp_hash(hash_key, canon.bytes, canon.len);
}

/* ---- Key in Redis ---- */

/* Text up to a maximum; past it, `spilled` says so and only the digest goes on. */
struct key_text {
    char *at;
    size_t len, max;
    bool spilled;
    EVP_MD_CTX *digest;
};

/* Bytes that stand for themselves. */
static const bool literal[256] = {
    ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, ['.'] = true, ['_'] = true,
    ['@'] = true,         ['/'] = true,         ['+'] = true,         ['-'] = true,
};

static void put(struct key_text *text, const char *bytes, size_t len) {
    if (text->digest && EVP_DigestUpdate(text->digest, bytes, len) != 1) {
        EVP_MD_CTX_free(sp_take(text->digest));
        text->spilled = true;
    }
    if (text->spilled || len > text->max - text->len) {
        text->spilled = true;
        return;
    }
    memcpy(text->at + text->len, bytes, len);
    text->len += len;
}

static void put_escaped(struct key_text *text, struct sp_span raw) {
    static const char digits[] = "0123456789ABCDEF";
    char escaped[3 * ESCAPED_AT_ONCE] SP_UNINITIALIZED;
    while (raw.len > 0 && (!text->spilled || text->digest)) {
        size_t n = sp_min(raw.len, (size_t)ESCAPED_AT_ONCE);
        char *to = escaped;
        for (size_t i = 0; i < n; i++) {
            unsigned char c = (unsigned char)raw.at[i];
            if (literal[c]) {
                *to++ = (char)c;
                continue;
            }
            *to++ = '%';
            *to++ = digits[c >> 4];
            *to++ = digits[c & 15];
        }
        put(text, escaped, (size_t)(to - escaped));
        raw = sp_span(raw.at + n, raw.len - n);
    }
}

static void put_number(struct key_text *text, unsigned number, unsigned base) {
    char reversed[8];
    size_t n = sizeof reversed;
    do {
        reversed[--n] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number && n);
    put(text, reversed + n, sizeof reversed - n);
}

static void put_address(struct key_text *text, const uint8_t address[16]) {
    if (is_ipv4(address)) {
        for (size_t i = 12; i < 16; i++) {
            if (i > 12)
                put(text, ".", 1);
            put_number(text, address[i], 10);
        }
        return;
    }
    for (size_t i = 0; i < 8; i += 2) {
        put_number(text, (unsigned)address[i] << 8 | address[i + 1], 16);
        put(text, ":", 1);
    }
    put(text, ":/64", 4);
}

/* "s=", after a comma unless it is the first. */
static void put_label(struct key_text *text, char letter, bool *first) {
    if (!*first)
        put(text, ",", 1);
    *first = false;
    put(text, &letter, 1);
    if (letter != 'g')
        put(text, "=", 1);
}

static void put_subject(struct key_text *text, uint32_t by, const struct sp_limit_facts *facts) {
    struct dimension dimensions[DIMENSIONS];
    size_t n = dimensions_of(by, facts, dimensions);
    bool first = true;
    for (size_t i = 0; i < n; i++) {
        put_label(text, dimensions[i].letter, &first);
        put_escaped(text, dimensions[i].text);
    }
    if (by & SP_BY_ADDRESS) {
        put_label(text, 'a', &first);
        put_address(text, facts->address);
    }
    if (by & SP_BY_GLOBAL)
        put_label(text, 'g', &first);
}

static void free_digest(EVP_MD_CTX **digest) { EVP_MD_CTX_free(*digest); }

/* # and the SHA-256 of the subject as it would have been written. */
static ssize_t digest_of_subject(uint32_t by, const struct sp_limit_facts *facts, char out[SP_SUBJECT_TEXT_MAX]) {
    _cleanup_(free_digest) EVP_MD_CTX *digest = EVP_MD_CTX_new();
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (!digest || EVP_DigestInit_ex(digest, EVP_sha256(), NULL) != 1)
        return -EIO;
    struct key_text text = {.at = out, .max = 0, .digest = digest};
    put_subject(&text, by, facts);
    digest = text.digest; /* NULL when it failed */
    if (!digest || EVP_DigestFinal_ex(digest, hash, &len) != 1)
        return -EIO;
    out[0] = '#';
    return (ssize_t)(1 + sp_hex(hash, len, out + 1));
}

/* Between the subject's braces: what it is, or a digest of that. */
static ssize_t write_subject(uint32_t by, const struct sp_limit_facts *facts, char out[SP_SUBJECT_TEXT_MAX]) {
    struct key_text subject = {.at = out, .max = SP_SUBJECT_TEXT_MAX};
    put_subject(&subject, by, facts);
    return subject.spilled ? digest_of_subject(by, facts, out) : (ssize_t)subject.len;
}

static const char *const kind_ending[SP_LIMIT_KINDS] = {
    [SP_LIMIT_REQUESTS] = "}", [SP_LIMIT_TOKENS] = "}:t", [SP_LIMIT_CONCURRENCY] = "}:c"};
#define ENDING_MAX 3

ssize_t sp_subject_redis_key(const char *prefix, const struct sp_limit_config *limit, enum sp_limit_kind kind,
                             const struct sp_limit_facts *facts, char out[SP_REDIS_KEY_MAX]) {
    struct key_text text = {.at = out, .max = SP_REDIS_KEY_MAX - SP_SUBJECT_TEXT_MAX - ENDING_MAX}; /* of what comes before the subject */
    put(&text, prefix, strlen(prefix));
    put_escaped(&text, sp_span_text(limit->name));
    put(&text, ":{", 2);
    if (text.spilled)
        return -ENAMETOOLONG;
    ssize_t n = write_subject(limit->by, facts, out + text.len);
    if (n < 0)
        return n;
    text.len += (size_t)n;
    text.max = SP_REDIS_KEY_MAX;
    put(&text, kind_ending[kind], strlen(kind_ending[kind]));
    return (ssize_t)text.len;
}

size_t sp_subject_other_kind(char key[SP_REDIS_KEY_MAX], size_t len, enum sp_limit_kind kind, enum sp_limit_kind other) {
    size_t stem = len - strlen(kind_ending[kind]), ending = strlen(kind_ending[other]);
    memcpy(key + stem, kind_ending[other], ending);
    return stem + ending;
}

int sp_subject_key_kind(struct sp_span key, const struct sp_limit_config *limit, enum sp_limit_kind *ret_kind) {
    char begin[SP_REDIS_KEY_MAX];
    struct key_text text = {.at = begin, .max = sizeof begin};
    put_escaped(&text, sp_span_text(limit->name));
    put(&text, ":{", 2);
    if (text.spilled || !sp_span_starts(key, sp_span(begin, text.len)))
        return -ENOENT;
    for (unsigned kind = 0; kind < SP_LIMIT_KINDS; kind++) {
        size_t len = strlen(kind_ending[kind]);
        if (key.len >= text.len + len && memcmp(key.at + key.len - len, kind_ending[kind], len) == 0) {
            *ret_kind = (enum sp_limit_kind)kind;
            return 0;
        }
    }
    return -ENOENT;
}
