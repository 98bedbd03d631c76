/* Two 64-bit words that change together or not at all. A compare-and-swap of 16 bytes is what makes the bucket table lock-free.
 * By instruction, not through libatomic: its locks are private to a process and would not exclude the others. */
#ifndef SP_LIMIT_CELL_H
#define SP_LIMIT_CELL_H

#include <stdbool.h>
#include <stdint.h>

struct sp_cell {
    _Alignas(16) uint64_t key;
    uint64_t word;
};

#if defined(__x86_64__)
static inline bool sp_cell_swap(struct sp_cell *cell, struct sp_cell from, struct sp_cell to) {
    __extension__ typedef unsigned __int128 pair;
    /* __sync and not __atomic: gcc expands it to cmpxchg16b in place. */
    return __sync_bool_compare_and_swap((pair *)(void *)cell, (pair)from.word << 64 | from.key, (pair)to.word << 64 | to.key);
}
#elif defined(__aarch64__)
static inline bool sp_cell_swap(struct sp_cell *cell, struct sp_cell from, struct sp_cell to) {
    uint64_t key, word;
    uint32_t failed;
    do {
        /* A pair that differs is stored back as it was: only a store that succeeds proves that both halves were read together. */
        __asm__ volatile("ldaxp %[key], %[word], %[cell]\n\t"
                         "cmp %[key], %[from_key]\n\t"
                         "ccmp %[word], %[from_word], #0, eq\n\t"
                         "csel x9, %[to_key], %[key], eq\n\t"
                         "csel x10, %[to_word], %[word], eq\n\t"
                         "stlxp %w[failed], x9, x10, %[cell]\n\t"
                         : [key] "=&r"(key), [word] "=&r"(word), [failed] "=&r"(failed), [cell] "+Q"(*cell)
                         : [from_key] "r"(from.key), [from_word] "r"(from.word), [to_key] "r"(to.key), [to_word] "r"(to.word)
                         : "x9", "x10", "cc", "memory");
    } while (failed);
    __sync_synchronize();
    return key == from.key && word == from.word;
}
#else
#error "no 16-byte compare-and-swap is known for this processor"
#endif

static inline uint64_t sp_cell_key(const struct sp_cell *cell) { return __atomic_load_n(&cell->key, __ATOMIC_SEQ_CST); }
static inline uint64_t sp_cell_word(const struct sp_cell *cell) { return __atomic_load_n(&cell->word, __ATOMIC_SEQ_CST); }

/* Both halves as they were at one moment, for cells whose key never returns to an earlier value. */
static inline struct sp_cell sp_cell_read(const struct sp_cell *cell) {
    for (;;) {
        struct sp_cell seen = {.key = sp_cell_key(cell), .word = sp_cell_word(cell)};
        if (sp_cell_key(cell) == seen.key)
            return seen;
    }
}

#endif
