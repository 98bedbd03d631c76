/* TLS session-ticket keys: made here so that every worker, and the one that replaces it, can resume what another one issued. */
#include "supervisor.h"

void sp_ticket_keys_make(struct sp_msg_ticket_keys *keys) {
    *keys = (struct sp_msg_ticket_keys){.count = SP_COUNT(keys->key)};
    sp_random(keys->key, sizeof keys->key);
}

void sp_ticket_keys_rotate(struct sp_msg_ticket_keys *keys) {
    memmove(keys->key[1], keys->key[0], sizeof keys->key - sizeof keys->key[0]);
    sp_random(keys->key[0], sizeof keys->key[0]);
}
