#include "transfer.h"

#include <errno.h>
#include <sys/epoll.h>

struct sp_transfers {
    struct sp_loop *loop;
    CURLM *multi;
    struct sp_timer timer; /* curl's */
};

/* A socket of curl's, watched. */
struct curl_watch {
    struct sp_watch watch;
    struct sp_transfers *transfers;
};

/* One at a time: what `done` does may end other transfers. */
static void collect(struct sp_transfers *transfers) {
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(transfers->multi, &left))) {
        if (message->msg != CURLMSG_DONE)
            continue;
        char *private = NULL;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        struct sp_transfer *transfer = (struct sp_transfer *)(void *)private;
        transfer->done(transfer, message->data.result);
    }
}

static void on_socket_ready(struct sp_watch *watch, uint32_t events) {
    struct sp_transfers *transfers = SP_CONTAINER(watch, struct curl_watch, watch)->transfers;
    int what = (events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) | (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
               (events & EPOLLERR ? CURL_CSELECT_ERR : 0);
    int running;
    curl_multi_socket_action(transfers->multi, watch->fd, what, &running); /* may free the watch */
    collect(transfers);
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *owner, void *socket_owner) {
    struct sp_transfers *transfers = owner;
    struct curl_watch *watch = socket_owner;
    if (what == CURL_POLL_REMOVE) {
        if (watch)
            sp_watch_stop(transfers->loop, &watch->watch);
        free(watch);
        return 0;
    }
    uint32_t events = (what & CURL_POLL_IN ? (uint32_t)EPOLLIN : 0) | (what & CURL_POLL_OUT ? (uint32_t)EPOLLOUT : 0);
    if (watch)
        return sp_watch_change(transfers->loop, &watch->watch, events);
    watch = calloc(1, sizeof *watch);
    if (!watch)
        return -1;
    watch->transfers = transfers;
    watch->watch.ready = on_socket_ready;
    if (sp_watch_start(transfers->loop, &watch->watch, fd, events) < 0) {
        free(watch);
        return -1;
    }
    curl_multi_assign(transfers->multi, fd, watch);
    return 0;
}

static void on_curl_timer(struct sp_timer *timer) {
    struct sp_transfers *transfers = SP_CONTAINER(timer, struct sp_transfers, timer);
    int running;
    curl_multi_socket_action(transfers->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    collect(transfers);
}

static int set_curl_timer(CURLM *multi, long timeout_ms, void *owner) {
    struct sp_transfers *transfers = owner;
    if (timeout_ms < 0)
        sp_timer_stop(&transfers->timer);
    else
        sp_timer_start(transfers->loop, &transfers->timer, (uint64_t)timeout_ms);
    return 0;
}

int sp_transfers_new(struct sp_loop *loop, struct sp_transfers **ret) {
    struct sp_transfers *transfers = calloc(1, sizeof *transfers);
    if (!transfers)
        return -ENOMEM;
    *transfers = (struct sp_transfers){.loop = loop, .timer.fire = on_curl_timer};
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(transfers->multi = curl_multi_init())) {
        free(transfers);
        return -ENOMEM;
    }
    curl_multi_setopt(transfers->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    curl_multi_setopt(transfers->multi, CURLMOPT_SOCKETDATA, transfers);
    curl_multi_setopt(transfers->multi, CURLMOPT_TIMERFUNCTION, set_curl_timer);
    curl_multi_setopt(transfers->multi, CURLMOPT_TIMERDATA, transfers);
    *ret = transfers;
    return 0;
}

void sp_transfers_free(struct sp_transfers *transfers) {
    if (!transfers)
        return;
    curl_multi_cleanup(transfers->multi);
    sp_timer_stop(&transfers->timer);
    free(transfers);
    curl_global_cleanup();
}

int sp_transfer_start(struct sp_transfers *transfers, struct sp_transfer *transfer) {
    if (curl_easy_setopt(transfer->easy, CURLOPT_PRIVATE, (void *)transfer) != CURLE_OK)
        return -ENOMEM;
    return curl_multi_add_handle(transfers->multi, transfer->easy) == CURLM_OK ? 0 : -ENOMEM;
}

void sp_transfer_stop(struct sp_transfers *transfers, struct sp_transfer *transfer) {
    CURL *easy = sp_take(transfer->easy);
    if (!easy)
        return;
    curl_multi_remove_handle(transfers->multi, easy); /* harmless for one that was never added */
    curl_easy_cleanup(easy);
}
