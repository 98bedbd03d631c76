/* What the tests of exchange/ share: a service without a network, a front that writes down what it is told, an exchange made by hand. */
#ifndef TESTS_UNIT_EXCHANGE_SCENE_H
#define TESTS_UNIT_EXCHANGE_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../../src/exchange/private.h"

struct scene {
    struct sp_loop *loop;
    struct sp_service *service;
    struct sp_config config;
    struct sp_pool_config pool;
    struct sp_route_config routes[4];
    struct sp_client_facts facts;
    struct sp_exchange *x;
    struct sp_buffer told; /* the answer, one line per field, then the body */
    int ends, broken, dones, read_more;
};

void scene_open(struct scene *scene);
/* A request head (text with CRLFs) parsed into a new exchange. */
struct sp_exchange *scene_request(struct scene *scene, const char *head);
void scene_close(struct scene *scene);
bool scene_told(const struct scene *scene, const char *text);

#endif
