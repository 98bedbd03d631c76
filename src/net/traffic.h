/* How the traffic segment is laid out. Private to net/. */
#ifndef SALLYPORT_NET_TRAFFIC_H
#define SALLYPORT_NET_TRAFFIC_H

#include <stdatomic.h>

#include <sallyport/net.h>

#define SP_TRAFFIC_ADDRESSES 65536 /* distinct client addresses at one time and worker; a power of two */
#define SP_TRAFFIC_TURNS     4096  /* a power of two */
#define SP_TRAFFIC_WINDOW    64    /* how far from its place an address may live: bounds the search */

/* hash 0: never used. count 0: free to be taken over by another address; the hash stays, so that a search goes on past it. */
struct sp_traffic_address {
    _Atomic uint64_t hash;
    _Atomic uint32_t count;
    uint32_t reserved;
};

enum { SP_TRAFFIC_NEVER_USED, SP_TRAFFIC_IN_USE, SP_TRAFFIC_GONE /* its worker has died; cleared by the next one */ };

/* What one worker writes, and nobody else (but that it is gone, which the supervisor writes). */
struct sp_traffic_part {
    _Atomic uint32_t in_use;
    _Atomic uint32_t connections[SP_LISTENERS_MAX];
    _Atomic uint32_t in_flight[SP_SERVERS_MAX];
    _Atomic uint32_t waiting[SP_POOLS_MAX];
    _Atomic uint64_t next[SP_POOLS_MAX]; /* rank of who waits and is next; 0: nobody */
    _Alignas(64) struct sp_traffic_address addresses[SP_TRAFFIC_ADDRESSES];
};

struct sp_traffic_segment {
    _Atomic uint32_t slots_used; /* highest slot ever opened, plus one: readers look no further */
    /* When somebody last had a turn, written by all: 16 bits of who, 48 of the time. Who shares a place may be forgotten. */
    _Alignas(64) _Atomic uint64_t turns[SP_TRAFFIC_TURNS];
    _Alignas(64) struct sp_traffic_part parts[SP_WORKERS_MAX];
};

#endif
