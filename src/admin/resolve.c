/* Names of servers. getaddrinfo(3) waits, so one thread calls it: questions go to it through a locked list, each answer comes back as a
 * pointer through a pipe. The thread touches nothing but its questions and may outlive the resolver while a lookup is under way. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <sallyport/admin.h>

#include "literal.h"

enum { AGAIN_MS = 30000, BACKOFF_MIN_MS = 1000 };

struct lookup {
    struct sp_list node;
    char *host;
    int error; /* of getaddrinfo */
    uint8_t addresses[SP_ADDRESSES_MAX][16];
    size_t n_addresses;
};

/* What both threads hold; the last one frees it. */
struct desk {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    struct sp_list questions;
    bool closed;
    unsigned holders;
    int answer_fd; /* the writing end */
};

struct name {
    struct sp_resolver *resolver;
    char *host;
    struct sp_timer timer; /* until the next lookup */
    bool asked, known;     /* a lookup is under way; there has been an answer */
    uint64_t backoff_ms;
    uint8_t addresses[SP_ADDRESSES_MAX][16];
    size_t n_addresses;
};

struct sp_resolver {
    struct sp_loop *loop;
    sp_resolved *resolved;
    void *owner;
    struct sp_config *config;
    struct name *names;
    size_t n_names;
    struct desk *desk;
    struct sp_watch answers;
};

/* ---- The thread ---- */

static void lookup_free(struct lookup *lookup) {
    if (lookup)
        free(lookup->host);
    free(lookup);
}

static void desk_leave(struct desk *desk) {
    pthread_mutex_lock(&desk->lock);
    bool last = --desk->holders == 0;
    pthread_mutex_unlock(&desk->lock);
    if (!last)
        return;
    sp_list_each_safe (node, &desk->questions)
        lookup_free(sp_list_entry(node, struct lookup, node));
    close(desk->answer_fd);
    pthread_cond_destroy(&desk->arrived);
    pthread_mutex_destroy(&desk->lock);
    free(desk);
}

static void add_address(struct lookup *lookup, const struct addrinfo *info) {
    if (lookup->n_addresses == SP_ADDRESSES_MAX)
        return;
    uint8_t *to = lookup->addresses[lookup->n_addresses];
    if (info->ai_family == AF_INET) {
        static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
        memcpy(to, mapped, sizeof mapped);
        memcpy(to + 12, &((const struct sockaddr_in *)(const void *)info->ai_addr)->sin_addr, 4);
    } else if (info->ai_family == AF_INET6) {
        memcpy(to, &((const struct sockaddr_in6 *)(const void *)info->ai_addr)->sin6_addr, 16);
    } else {
        return;
    }
    lookup->n_addresses++;
}

static void look_up(struct lookup *lookup) {
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    lookup->error = getaddrinfo(lookup->host, NULL, &hints, &found);
    if (lookup->error != 0)
        return;
    for (const struct addrinfo *info = found; info; info = info->ai_next) /* in the order of RFC 6724 */
        add_address(lookup, info);
    freeaddrinfo(found);
}

/* NULL when the desk is closed. */
static struct lookup *next_question(struct desk *desk) {
    struct lookup *lookup = NULL;
    pthread_mutex_lock(&desk->lock);
    while (!desk->closed && sp_list_empty(&desk->questions))
        pthread_cond_wait(&desk->arrived, &desk->lock);
    if (!desk->closed) {
        lookup = sp_list_entry(desk->questions.next, struct lookup, node);
        sp_list_remove(&lookup->node);
    }
    pthread_mutex_unlock(&desk->lock);
    return lookup;
}

static void *thread_main(void *argument) {
    struct desk *desk = argument;
    struct lookup *lookup;
    while ((lookup = next_question(desk))) {
        look_up(lookup);
        if (write(desk->answer_fd, &lookup, sizeof lookup) != (ssize_t)sizeof lookup) {
            lookup_free(lookup); /* nobody reads any more */
            break;
        }
    }
    desk_leave(desk);
    return NULL;
}

static int start_thread(struct desk *desk) {
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the loop's */
    int error = pthread_create(&thread, NULL, thread_main, desk);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        pthread_detach(thread);
    return -error;
}

/* ---- Asking ---- */

static void ask(struct sp_timer *timer) {
    struct name *name = SP_CONTAINER(timer, struct name, timer);
    struct desk *desk = name->resolver->desk;
    struct lookup *lookup = calloc(1, sizeof *lookup);
    if (lookup)
        lookup->host = strdup(name->host);
    if (!lookup || !lookup->host) {
        lookup_free(lookup);
        sp_timer_start(name->resolver->loop, &name->timer, BACKOFF_MIN_MS);
        return;
    }
    name->asked = true;
    pthread_mutex_lock(&desk->lock);
    sp_list_append(&desk->questions, &lookup->node);
    pthread_cond_signal(&desk->arrived);
    pthread_mutex_unlock(&desk->lock);
}

/* ---- Answers ---- */

static struct name *name_of(const struct sp_resolver *resolver, const char *host) {
    for (size_t i = 0; i < resolver->n_names; i++)
        if (strcmp(resolver->names[i].host, host) == 0)
            return &resolver->names[i];
    return NULL;
}

static void tell(struct sp_resolver *resolver, const struct name *name) {
    for (size_t i = 0; i < resolver->config->n_pools; i++) {
        const struct sp_pool_config *pool = &resolver->config->pools[i];
        for (size_t j = 0; j < pool->n_servers; j++)
            if (strcmp(pool->servers[j].host, name->host) == 0)
                resolver->resolved(resolver->owner, pool->servers[j].slot, (const uint8_t(*)[16])name->addresses, name->n_addresses);
    }
}

static bool has_address(const struct name *name, const uint8_t address[16]) {
    for (size_t i = 0; i < name->n_addresses; i++)
        if (memcmp(name->addresses[i], address, 16) == 0)
            return true;
    return false;
}

/* Name servers rotate their answers: the same addresses in another order are no change. */
static bool same_addresses(const struct name *name, const struct lookup *lookup) {
    if (name->n_addresses != lookup->n_addresses)
        return false;
    for (size_t i = 0; i < lookup->n_addresses; i++)
        if (!has_address(name, lookup->addresses[i]))
            return false;
    return true;
}

static void adopt_answer(struct sp_resolver *resolver, struct name *name, const struct lookup *lookup) {
    bool failed = lookup->error != 0 || lookup->n_addresses == 0;
    bool first = !name->known;
    name->asked = false;
    name->known = true;
    if (failed) {
        if (name->backoff_ms == 0)
            sp_warn("backend host %s: %s%s", name->host, lookup->error ? gai_strerror(lookup->error) : "it has no address",
                    name->n_addresses > 0 ? "; the addresses it had stay in use" : "");
        name->backoff_ms = sp_min(sp_max(name->backoff_ms * 2, (uint64_t)BACKOFF_MIN_MS), (uint64_t)AGAIN_MS);
    } else {
        name->backoff_ms = 0;
    }
    sp_timer_start(resolver->loop, &name->timer, name->backoff_ms > 0 ? name->backoff_ms : AGAIN_MS);
    bool changed = !failed && !same_addresses(name, lookup);
    if (changed) {
        memcpy(name->addresses, lookup->addresses, sizeof name->addresses);
        name->n_addresses = lookup->n_addresses;
    }
    if (changed || first)
        tell(resolver, name);
}

static void on_answers(struct sp_watch *watch, uint32_t events) {
    struct sp_resolver *resolver = SP_CONTAINER(watch, struct sp_resolver, answers);
    struct lookup *lookup;
    while (read(watch->fd, &lookup, sizeof lookup) == (ssize_t)sizeof lookup) {
        struct name *name = name_of(resolver, lookup->host);
        if (name) /* else a reload has forgotten it */
            adopt_answer(resolver, name, lookup);
        lookup_free(lookup);
    }
}

/* ---- Configurations ---- */

static void names_free(struct name *names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        sp_timer_stop(&names[i].timer);
        free(names[i].host);
    }
    free(names);
}

static bool listed(const struct name *names, size_t count, const char *host) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i].host, host) == 0)
            return true;
    return false;
}

static int build_names(struct sp_resolver *resolver, const struct sp_config *config, struct name **ret, size_t *ret_count) {
    size_t room = 0, count = 0;
    for (size_t i = 0; i < config->n_pools; i++)
        room += config->pools[i].n_servers;
    struct name *names = calloc(room + 1, sizeof *names);
    if (!names)
        return -ENOMEM;
    for (size_t i = 0; i < config->n_pools; i++) {
        for (size_t j = 0; j < config->pools[i].n_servers; j++) {
            const char *host = config->pools[i].servers[j].host;
            if (sp_host_is_literal(host) || listed(names, count, host))
                continue;
            names[count] = (struct name){.resolver = resolver, .timer.fire = ask, .host = strdup(host)};
            if (!names[count].host) {
                names_free(names, count);
                return -ENOMEM;
            }
            count++;
        }
    }
    *ret = names;
    *ret_count = count;
    return 0;
}

int sp_resolver_configure(struct sp_resolver *resolver, struct sp_config *config) {
    struct name *names;
    size_t n_names;
    int r = build_names(resolver, config, &names, &n_names);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n_names; i++) {
        const struct name *old = name_of(resolver, names[i].host);
        if (!old)
            continue;
        names[i].asked = old->asked;
        names[i].known = old->known;
        names[i].backoff_ms = old->backoff_ms;
        names[i].n_addresses = old->n_addresses;
        memcpy(names[i].addresses, old->addresses, sizeof names[i].addresses);
    }
    names_free(resolver->names, resolver->n_names);
    sp_config_unref(resolver->config);
    resolver->config = sp_config_ref(config);
    resolver->names = names;
    resolver->n_names = n_names;
    for (size_t i = 0; i < n_names; i++) {
        if (names[i].known)
            tell(resolver, &names[i]);
        if (!names[i].asked)
            sp_timer_start(resolver->loop, &names[i].timer, 0);
    }
    return 0;
}

bool sp_resolver_addresses(const struct sp_resolver *resolver, unsigned server_slot, uint8_t ret[SP_ADDRESSES_MAX][16], size_t *ret_count) {
    for (size_t i = 0; resolver->config && i < resolver->config->n_pools; i++) {
        const struct sp_pool_config *pool = &resolver->config->pools[i];
        for (size_t j = 0; j < pool->n_servers; j++) {
            if (pool->servers[j].slot != server_slot)
                continue;
            const struct name *name = name_of(resolver, pool->servers[j].host);
            if (!name || !name->known)
                return false;
            memcpy(ret, name->addresses, sizeof name->addresses);
            *ret_count = name->n_addresses;
            return true;
        }
    }
    return false;
}

/* ---- Life ---- */

static int desk_new(struct desk **ret_desk, int *ret_fd) {
    int pipe_fds[2];
    struct desk *desk = calloc(1, sizeof *desk);
    if (!desk)
        return -ENOMEM;
    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        int r = -errno;
        free(desk);
        return r;
    }
    (void)fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
    *desk = (struct desk){.lock = PTHREAD_MUTEX_INITIALIZER, .arrived = PTHREAD_COND_INITIALIZER, .holders = 2, .answer_fd = pipe_fds[1]};
    sp_list_init(&desk->questions);
    int r = start_thread(desk);
    if (r < 0) {
        desk->holders = 1;
        desk_leave(desk);
        close(pipe_fds[0]);
        return r;
    }
    *ret_desk = desk;
    *ret_fd = pipe_fds[0];
    return 0;
}

int sp_resolver_new(struct sp_loop *loop, sp_resolved *resolved, void *owner, struct sp_resolver **ret) {
    struct sp_resolver *resolver = calloc(1, sizeof *resolver);
    if (!resolver)
        return -ENOMEM;
    *resolver = (struct sp_resolver){.loop = loop, .resolved = resolved, .owner = owner, .answers = {.fd = -1, .ready = on_answers}};
    int fd = -1;
    int r = desk_new(&resolver->desk, &fd);
    if (r >= 0)
        r = sp_watch_start(loop, &resolver->answers, fd, EPOLLIN);
    if (r < 0) {
        resolver->answers.fd = fd;
        sp_resolver_free(resolver);
        return r;
    }
    *ret = resolver;
    return 0;
}

void sp_resolver_free(struct sp_resolver *resolver) {
    if (!resolver)
        return;
    if (resolver->desk) {
        pthread_mutex_lock(&resolver->desk->lock);
        resolver->desk->closed = true;
        pthread_cond_signal(&resolver->desk->arrived);
        pthread_mutex_unlock(&resolver->desk->lock);
        desk_leave(resolver->desk);
    }
    sp_watch_stop(resolver->loop, &resolver->answers);
    struct lookup *unread;
    while (resolver->answers.fd >= 0 && read(resolver->answers.fd, &unread, sizeof unread) == (ssize_t)sizeof unread)
        lookup_free(unread);
    sp_close_fd(&resolver->answers.fd);
    names_free(resolver->names, resolver->n_names);
    sp_config_unref(resolver->config);
    free(resolver);
}
