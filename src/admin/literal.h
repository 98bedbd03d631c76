#ifndef SP_ADMIN_LITERAL_H
#define SP_ADMIN_LITERAL_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>

/* An address, not a name: there is nothing to resolve. */
static inline bool sp_host_is_literal(const char *host) {
    uint8_t address[16];
    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

#endif
