#include <sallyport/base.h>

struct sp_arena_chunk {
    struct sp_arena_chunk *next;
    size_t size, used;
    _Alignas(16) char bytes[];
};

enum { CHUNK_SIZE = 4096 - (int)sizeof(struct sp_arena_chunk) };

void sp_arena_init(struct sp_arena *arena, void *first, size_t first_size, size_t max) {
    *arena = (struct sp_arena){.first = first, .first_size = first_size, .max = max};
}

void *sp_arena_alloc(struct sp_arena *arena, size_t size) {
    if (size > arena->max - arena->total)
        return NULL;
    size = (size + 15) & ~(size_t)15;
    if (size > arena->max - arena->total)
        return NULL;
    void *at;
    struct sp_arena_chunk *chunk = arena->chunks;
    if (!chunk && size <= arena->first_size - arena->used) {
        at = arena->first + arena->used;
        arena->used += size;
    } else {
        if (!chunk || size > chunk->size - chunk->used) {
            size_t room = sp_max(size, (size_t)CHUNK_SIZE);
            chunk = malloc(sizeof *chunk + room);
            if (!chunk)
                return NULL;
            *chunk = (struct sp_arena_chunk){.next = arena->chunks, .size = room};
            arena->chunks = chunk;
        }
        at = chunk->bytes + chunk->used;
        chunk->used += size;
    }
    arena->total += size;
    return at;
}

bool sp_arena_copy(struct sp_arena *arena, struct sp_span from, struct sp_span *ret) {
    char *at = sp_arena_alloc(arena, from.len);
    if (!at)
        return false;
    if (from.len)
        memcpy(at, from.at, from.len);
    *ret = sp_span(at, from.len);
    return true;
}

void sp_arena_reset(struct sp_arena *arena) {
    for (struct sp_arena_chunk *chunk = arena->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    arena->chunks = NULL;
    arena->used = arena->total = 0;
}

void sp_pool_init(struct sp_pool *pool, size_t object_size, size_t keep) {
    *pool = (struct sp_pool){.size = sp_max(object_size, sizeof(void *)), .keep = keep};
}

void *sp_pool_get(struct sp_pool *pool) {
    void *object = pool->free_list;
    if (object) {
        memcpy(&pool->free_list, object, sizeof pool->free_list);
        pool->kept--;
    } else if (!(object = malloc(pool->size))) {
        return NULL;
    }
    pool->live++;
    return object;
}

void sp_pool_put(struct sp_pool *pool, void *object) {
    if (!object)
        return;
    pool->live--;
    if (pool->kept >= pool->keep) {
        free(object);
        return;
    }
    memcpy(object, &pool->free_list, sizeof pool->free_list);
    pool->free_list = object;
    pool->kept++;
}

void sp_pool_drain(struct sp_pool *pool) {
    while (pool->free_list) {
        void *object = pool->free_list;
        memcpy(&pool->free_list, object, sizeof pool->free_list);
        free(object);
    }
    pool->kept = 0;
}
