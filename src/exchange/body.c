/* The bytes of a request body between client and backend: a list of blocks that belong to one exchange and count against one budget. */
#include "private.h"

void sp_body_init(struct sp_body *body) {
    *body = (struct sp_body){.kept = true};
    sp_list_init(&body->waiter);
}

static void free_block(struct sp_exchange *x, struct sp_body_block *block) {
    if (!block->pooled)
        return;
    struct sp_service *service = x->service;
    service->body_bytes -= SP_BODY_BLOCK_SIZE;
    sp_pool_put(&service->blocks, block);
    if (!sp_list_empty(&service->body_waiters))
        sp_defer(service->parts.loop, &service->wake_waiters);
}

/* Small bodies, which most are, live in the exchange's own memory. */
static struct sp_body_block *small_block(struct sp_exchange *x, size_t size) {
    struct sp_body_block *block = sp_arena_alloc(&x->arena, sizeof *block + size);
    if (block)
        *block = (struct sp_body_block){.size = (uint32_t)size};
    return block;
}

static struct sp_body_block *pooled_block(struct sp_exchange *x) {
    struct sp_service *service = x->service;
    if (service->body_bytes + SP_BODY_BLOCK_SIZE > service->body_bytes_max && x->body.kept)
        sp_body_let_go(x); /* a second try is worth less than going on */
    if (service->body_bytes + SP_BODY_BLOCK_SIZE > service->body_bytes_max)
        return NULL;
    struct sp_body_block *block = sp_pool_get(&service->blocks);
    if (block) {
        *block = (struct sp_body_block){.size = SP_BODY_BLOCK_SIZE - sizeof *block, .pooled = true};
        service->body_bytes += SP_BODY_BLOCK_SIZE;
    }
    return block;
}

static struct sp_body_block *new_block(struct sp_exchange *x) {
    uint64_t length = x->request.framing == SP_FRAMING_LENGTH ? x->request.content_length : UINT64_MAX;
    if (length <= 1024 && !x->body.first)
        return small_block(x, (size_t)length);
    return pooled_block(x);
}

void sp_body_wait_for_memory(struct sp_exchange *x, size_t wanted) {
    if (x->body.waits_for_memory)
        return;
    x->body.waits_for_memory = true;
    x->body.wanted = wanted;
    sp_list_append(&x->service->body_waiters, &x->body.waiter);
}

void sp_body_wait_no_more(struct sp_exchange *x) {
    if (!x->body.waits_for_memory)
        return;
    x->body.waits_for_memory = false;
    sp_list_remove(&x->body.waiter);
}

/* Everything is sent and nothing need be kept: the one block that is left can take the next bytes. */
static bool all_is_spent(const struct sp_body *body) {
    return !body->kept && body->last && body->at == body->last && body->sent == body->received;
}

char *sp_body_room(struct sp_exchange *x, size_t want, size_t *ret_len) {
    struct sp_body *body = &x->body;
    struct sp_body_block *block = body->last;
    if (!block || block->used == block->size) {
        block = new_block(x);
        if (!block && !all_is_spent(body)) {
            sp_body_wait_for_memory(x, SP_BODY_BLOCK_SIZE);
            return NULL;
        }
        if (!block) {
            block = body->last;
            block->used = body->at_offset = 0;
        } else if (body->last) {
            body->last->next = block;
        } else {
            body->first = block;
        }
        body->last = block;
    }
    *ret_len = sp_min(want, (size_t)(block->size - block->used));
    return block->bytes + block->used;
}

void sp_body_added(struct sp_exchange *x, size_t n) {
    x->body.last->used += (uint32_t)n;
    x->body.received += n;
    /* What is kept for second tries may take half of the budget, so that bodies under way always find room. */
    bool scarce = x->service->body_bytes > x->service->body_bytes_max / 2;
    if (x->body.kept && (x->body.received > SP_BODY_REPLAY_MAX || (scarce && x->body.first->next)))
        sp_body_let_go(x);
}

size_t sp_body_add(struct sp_exchange *x, struct sp_span bytes) {
    size_t taken = 0;
    while (taken < bytes.len) {
        size_t room;
        char *to = sp_body_room(x, bytes.len - taken, &room);
        if (!to)
            break;
        memcpy(to, bytes.at + taken, room);
        sp_body_added(x, room);
        taken += room;
    }
    return taken;
}

/* One that is inspected is gathered whole; what bounds it is max_body and the budget. */
bool sp_body_wants(const struct sp_exchange *x) {
    if (x->body.complete || x->body.waits_for_memory)
        return false;
    return x->body.gathered ? x->body.received <= x->route->max_body : sp_body_waiting(&x->body) < SP_BODY_WINDOW;
}

struct sp_span sp_body_unread(const struct sp_exchange *x, struct sp_body_mark *mark) {
    const struct sp_body_block *block = mark->block ? mark->block : x->body.first;
    while (block && mark->offset == block->used && block->next) {
        block = block->next;
        mark->offset = 0;
    }
    mark->block = block;
    if (!block || mark->offset == block->used)
        return sp_span(NULL, 0);
    struct sp_span unread = sp_span(block->bytes + mark->offset, block->used - mark->offset);
    mark->offset = block->used;
    return unread;
}

bool sp_body_copy(const struct sp_exchange *x, uint64_t at, size_t len, char *out) {
    const struct sp_body_block *block = x->body.first;
    for (; block && at >= block->used; block = block->next)
        at -= block->used;
    for (; block && len > 0; block = block->next, at = 0) {
        size_t here = sp_min(len, (size_t)(block->used - at));
        memcpy(out, block->bytes + at, here);
        out += here;
        len -= here;
    }
    return len == 0;
}

/* Takes up to `len` bytes off the front of `block`. */
static size_t behead(struct sp_body_block *block, uint64_t len) {
    uint32_t here = (uint32_t)sp_min(len, (uint64_t)block->used);
    block->used -= here;
    memmove(block->bytes, block->bytes + here, block->used);
    return here;
}

/* There is no room in a block for `text` in the place of its bytes from `offset` on: a block of its own takes the text and whichever side
 * of it is shorter, for that memory is not of the budget. */
static bool split(struct sp_exchange *x, struct sp_body_block **link, uint32_t offset, uint32_t gone, struct sp_span text) {
    struct sp_body_block *block = *link;
    uint32_t tail = block->used - offset - gone;
    struct sp_body_block *more = small_block(x, text.len + sp_min(offset, tail));
    if (!more)
        return false;
    more->used = more->size;
    if (offset < tail) {
        memcpy(more->bytes, block->bytes, offset);
        memcpy(more->bytes + offset, text.at, text.len);
        (void)behead(block, offset + gone);
        more->next = block;
        *link = more;
        return true;
    }
    memcpy(more->bytes, text.at, text.len);
    memcpy(more->bytes + text.len, block->bytes + offset + gone, tail);
    block->used = offset;
    more->next = block->next;
    block->next = more;
    if (x->body.last == block)
        x->body.last = more;
    return true;
}

bool sp_body_splice(struct sp_exchange *x, uint64_t at, uint64_t len, struct sp_span text) {
    struct sp_body *body = &x->body;
    struct sp_body_block **link = &body->first;
    uint64_t offset = at, left = len;
    for (; *link && offset > (*link)->used; link = &(*link)->next)
        offset -= (*link)->used;
    struct sp_body_block *block = *link;
    if (!block || body->sent)
        return false;
    struct sp_body_block *next = block->next; /* where what goes goes on */
    uint32_t from = (uint32_t)offset, here = (uint32_t)sp_min(left, block->used - offset), tail = block->used - from - here;
    if (from + text.len + tail <= block->size) {
        memmove(block->bytes + from + text.len, block->bytes + from + here, tail);
        memcpy(block->bytes + from, text.at, text.len);
        block->used = from + (uint32_t)text.len + tail;
    } else if (!split(x, link, from, here, text)) {
        return false;
    }
    for (left -= here; next && left > 0; next = next->next)
        left -= behead(next, left);
    body->received = body->received - (len - left) + text.len;
    return left == 0;
}

int sp_body_unsent(const struct sp_exchange *x, struct iovec *pieces, int max) {
    const struct sp_body *body = &x->body;
    int n = 0;
    const struct sp_body_block *block = body->at ? body->at : body->first;
    uint32_t offset = body->at ? body->at_offset : 0;
    for (; block && n < max; block = block->next, offset = 0)
        if (block->used > offset)
            pieces[n++] = (struct iovec){(void *)(uintptr_t)(block->bytes + offset), block->used - offset};
    return n;
}

static void free_sent_blocks(struct sp_exchange *x) {
    struct sp_body *body = &x->body;
    while (body->first && body->first != body->at) {
        struct sp_body_block *block = body->first;
        body->first = block->next;
        free_block(x, block);
    }
}

void sp_body_sent(struct sp_exchange *x, size_t n) {
    struct sp_body *body = &x->body;
    body->sent += n;
    if (!body->at)
        body->at = body->first;
    while (n) {
        uint32_t here = (uint32_t)sp_min(n, (size_t)(body->at->used - body->at_offset));
        body->at_offset += here;
        n -= here;
        if (body->at_offset == body->at->used && body->at->next) {
            body->at = body->at->next;
            body->at_offset = 0;
        } else if (here == 0) {
            break;
        }
    }
    if (!body->kept)
        free_sent_blocks(x);
    if (all_is_spent(body)) /* it has its own again: exchanges that wait must not wait for each other */
        sp_body_wait_no_more(x);
}

void sp_body_rewind(struct sp_exchange *x) {
    x->body.at = NULL;
    x->body.at_offset = 0;
    x->body.sent = 0;
}

void sp_body_let_go(struct sp_exchange *x) {
    x->body.kept = false;
    if (x->body.at)
        free_sent_blocks(x);
}

void sp_body_free(struct sp_exchange *x) {
    struct sp_body *body = &x->body;
    sp_body_wait_no_more(x);
    for (struct sp_body_block *block = body->first, *next; block; block = next) {
        next = block->next;
        free_block(x, block);
    }
    body->first = body->last = body->at = NULL;
}
