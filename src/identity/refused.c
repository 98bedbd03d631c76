#include "refused.h"

#define PLACES 4096

struct sp_refused {
    struct place {
        uint8_t key[16]; /* half a SHA-256 is enough to tell two apart */
        uint64_t until_s;
    } place[PLACES];
};

struct sp_refused *sp_refused_new(void) {
    return calloc(1, sizeof(struct sp_refused));
}

/* Keys are hashes already. */
static size_t place_of(const uint8_t key[32]) {
    uint32_t bits;
    memcpy(&bits, key + 16, sizeof bits);
    return bits % PLACES;
}

bool sp_refused_has(const struct sp_refused *refused, const uint8_t key[32], uint64_t now_s) {
    const struct place *place = &refused->place[place_of(key)];
    return place->until_s > now_s && memcmp(place->key, key, sizeof place->key) == 0;
}

void sp_refused_add(struct sp_refused *refused, const uint8_t key[32], uint64_t until_s) {
    struct place *place = &refused->place[place_of(key)];
    memcpy(place->key, key, sizeof place->key);
    place->until_s = until_s;
}
