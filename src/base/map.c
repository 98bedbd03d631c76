#include <sallyport/base.h>

#include <errno.h>

enum { FIRST_CHAINS = 16 };

void sp_map_init(struct sp_map *map) { *map = (struct sp_map){0}; }

void sp_map_free(struct sp_map *map) {
    free(map->chains);
    sp_map_init(map);
}

static void link_node(struct sp_map *map, struct sp_map_node *node) {
    struct sp_map_node **chain = &map->chains[node->hash & (map->n_chains - 1)];
    node->next = *chain;
    *chain = node;
}

static int grow(struct sp_map *map) {
    struct sp_map larger = {.n_chains = map->n_chains ? map->n_chains * 2 : FIRST_CHAINS, .count = map->count};
    larger.chains = calloc(larger.n_chains, sizeof *larger.chains);
    if (!larger.chains)
        return -ENOMEM;
    for (size_t i = 0; i < map->n_chains; i++)
        for (struct sp_map_node *node = map->chains[i], *next; node; node = next) {
            next = node->next;
            link_node(&larger, node);
        }
    free(map->chains);
    *map = larger;
    return 0;
}

int sp_map_add(struct sp_map *map, struct sp_map_node *node, uint64_t hash) {
    /* A map that cannot grow gets slower, not wrong; only one without any chain must fail. */
    if (map->count >= map->n_chains && grow(map) && map->n_chains == 0)
        return -ENOMEM;
    node->hash = hash;
    link_node(map, node);
    map->count++;
    return 0;
}

void sp_map_remove(struct sp_map *map, struct sp_map_node *node) {
    struct sp_map_node **at = &map->chains[node->hash & (map->n_chains - 1)];
    while (*at != node)
        at = &(*at)->next;
    *at = node->next;
    node->next = NULL;
    map->count--;
}

struct sp_map_node *sp_map_first(const struct sp_map *map, uint64_t hash) {
    struct sp_map_node *node = map->n_chains ? map->chains[hash & (map->n_chains - 1)] : NULL;
    while (node && node->hash != hash)
        node = node->next;
    return node;
}

struct sp_map_node *sp_map_next(const struct sp_map_node *node) {
    uint64_t hash = node->hash;
    struct sp_map_node *next = node->next;
    while (next && next->hash != hash)
        next = next->next;
    return next;
}
