#include "vault.h"

#define CHUNK_SIZE 16384
#define ALIGNMENT  16

struct sp_vault_chunk {
    struct sp_vault_chunk *next;
    size_t size, used;
    _Alignas(ALIGNMENT) char bytes[];
};

void *sp_vault_alloc(struct sp_vault *vault, size_t size) {
    if (size > SIZE_MAX / 2)
        return NULL;
    size_t rounded = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    struct sp_vault_chunk *chunk = vault->chunks;
    if (!chunk || chunk->size - chunk->used < rounded) {
        size_t room = sp_max(rounded, (size_t)CHUNK_SIZE);
        chunk = calloc(1, sizeof *chunk + room);
        if (!chunk)
            return NULL;
        chunk->size = room;
        chunk->next = vault->chunks;
        vault->chunks = chunk;
    }
    void *at = chunk->bytes + chunk->used;
    chunk->used += rounded;
    return at;
}

void *sp_vault_array(struct sp_vault *vault, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    return sp_vault_alloc(vault, bytes);
}

char *sp_vault_text(struct sp_vault *vault, struct sp_span text) {
    char *copy = sp_vault_alloc(vault, text.len + 1);
    if (copy && text.len > 0)
        memcpy(copy, text.at, text.len);
    return copy;
}

void sp_vault_free(struct sp_vault *vault) {
    struct sp_vault_chunk *chunk = vault->chunks;
    while (chunk) {
        struct sp_vault_chunk *next = chunk->next;
        sp_wipe(chunk->bytes, chunk->used);
        free(chunk);
        chunk = next;
    }
    vault->chunks = NULL;
}
