/* What the tests of upstream/ share: one worker's upstreams and another worker's share of the traffic segment, servers that listen on
 * loopback, configurations as the supervisor would hand them over, requests that note what they are told, and a clock that can be moved. */
#ifndef SALLYPORT_TEST_UPSTREAM_SCENE_H
#define SALLYPORT_TEST_UPSTREAM_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sallyport/upstream.h>

#define check(call) assert_int_equal((call), 0)

enum { SCENE_SERVERS = 4, SCENE_PEERS_MAX = 64 };

struct scene {
    struct sp_loop *loop;
    void *segment;
    struct sp_traffic *traffic, *other; /* this worker's and another's */
    struct sp_upstreams *upstreams;
    struct sp_document *document; /* of the newest configuration, which the next one takes its slots from */
    struct sp_config *config;
    char pool;                    /* its name in the next configuration */
    int listener[SCENE_SERVERS];
    uint16_t port[SCENE_SERVERS];
    int peer[SCENE_PEERS_MAX]; /* accepted by the servers */
    unsigned n_peers;
    int lowest_fd; /* that was free before the scene */
};

void scene_open(struct scene *scene);
void scene_close(struct scene *scene); /* and nothing may be left: no request in flight, no descriptor */

/* One pool of these servers and with these keys, taken into use. "$0" to "$3" stand for the servers' ports. */
void scene_configure(struct scene *scene, const char *servers, const char *pool_keys);
#define AT(n)            "{url: \"http://127.0.0.1:$" #n "\"}"
#define AT_WITH(n, keys) "{url: \"http://127.0.0.1:$" #n "\", " keys "}"
const struct sp_pool_config *scene_pool(const struct scene *scene);
unsigned scene_slot(const struct scene *scene, size_t index); /* of the pool's server */

/* Moves the clock and fires what is due then. */
void scene_later(struct scene *scene, uint64_t ms);
/* After this worker's next choice and before it counts its request, the other worker counts one of its own at the same server. */
void scene_rival_arrives(struct scene *scene);
/* Turns of the loop until `condition`, at most 2,000. */
#define turn_until(scene, condition)                                                                                                       \
    do {                                                                                                                                   \
        for (int turns_ = 0; turns_ < 2000 && !(condition); turns_++)                                                                      \
            check(sp_loop_turn((scene)->loop, 1));                                                                                         \
        assert_true(condition);                                                                                                            \
    } while (0)

/* What reached a server: the next connection in its queue. The scene closes it. */
int scene_accept(struct scene *scene, unsigned server);
void scene_turn_away(struct scene *scene, unsigned server); /* the same, closed at once */
bool scene_nobody_came(const struct scene *scene, unsigned server); /* its queue is empty */
/* How the connection ended for the server, turning the loop until it did: 0 in order, -ECONNRESET. */
int scene_ended(struct scene *scene, int peer);
bool scene_is_alive(int peer); /* neither bytes nor an end have come */

/* ---- Requests ---- */
struct request {
    struct sp_backend *backend;
    struct sp_upstream_tried tried;
    unsigned seen, calls; /* bits that `ready` said, and how often it was called */
    int error;
};
/* Takes a connection for it; false: none, and request->error says why. What it tried before still counts. */
bool request_take(struct scene *scene, struct request *request);
bool request_take_from(struct sp_upstreams *upstreams, const struct sp_pool_config *pool, struct request *request);
bool request_take_with(struct sp_upstreams *upstreams, const struct sp_pool_config *pool, struct sp_queue_ticket *ticket,
                       struct request *request); /* which may wait its turn */
unsigned request_server(const struct scene *scene, const struct request *request); /* which of the scene's it went to */
void request_open(struct scene *scene, struct request *request);                   /* takes one and waits until it is open */
int request_begin(struct scene *scene, struct request *request, unsigned server);  /* the same, to this server; returns the server's end */
void request_keep(struct request *request);
void request_close(struct request *request);
/* A request of its own: takes, reports and closes. Returns the server it went to. */
unsigned scene_request(struct scene *scene);
/* Requests to the index-th server of the pool alone, that end so. */
void scene_reports(struct scene *scene, unsigned index, unsigned times, bool good);

#endif
