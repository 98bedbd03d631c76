/* The name that an operator types → the account that limits count (see src/identity/principal.c). */
#include <stdio.h>

#include "levels.h"

static bool has(const struct sp_facts *facts, uint32_t bit) { return (facts->given & bit) != 0; }

static void put(struct sp_facts *facts, uint32_t bit, unsigned text, const char *value) {
    if (has(facts, bit))
        return;
    facts->given |= bit;
    facts->text[text] = sp_span_text(value);
}

static bool name_account(struct sp_facts *facts, char account[SP_ACCOUNT_MAX + 1], const char *kind, const char *issuer,
                         struct sp_span name) {
    int n = snprintf(account, SP_ACCOUNT_MAX + 1, "%s%s%s" SP_SPAN_FMT, kind, issuer, *issuer ? " " : "", SP_SPAN_ARG(name));
    facts->given |= SP_BY_SUBJECT;
    facts->text[SP_FACT_SUBJECT] = sp_span(account, (size_t)n);
    return n <= SP_ACCOUNT_MAX;
}

static const struct sp_api_key_config *key_with_id(const struct sp_config *config, struct sp_span id) {
    for (size_t i = 0; i < config->n_api_keys; i++)
        if (sp_span_eq(id, sp_span(config->api_keys[i].id, sizeof config->api_keys[i].id - 1)))
            return &config->api_keys[i];
    return NULL;
}

/* Of several keys with one name (a rotation) the tenant counts where they agree, and none's ID. */
static bool keys_named(const struct sp_config *config, struct sp_span name, struct sp_facts *facts) {
    const struct sp_api_key_config *only = NULL;
    size_t found = 0, in_use = 0;
    bool one_tenant = true;
    for (size_t i = 0; i < config->n_api_keys; i++) {
        const struct sp_api_key_config *key = &config->api_keys[i];
        if (!sp_span_eq(name, sp_span_text(key->name)))
            continue;
        found++;
        if (key->revoked)
            continue;
        in_use++;
        one_tenant = one_tenant && (!only || sp_span_eq(sp_span_text(only->tenant), sp_span_text(key->tenant)));
        only = key;
    }
    if (in_use > 0 && one_tenant)
        put(facts, SP_BY_TENANT, SP_FACT_TENANT, only->tenant);
    if (in_use == 1)
        put(facts, SP_BY_KEY, SP_FACT_KEY, only->id);
    return found > 0;
}

static bool certificates_are_taken(const struct sp_config *config) {
    for (size_t i = 0; i < config->n_listeners; i++)
        if (config->listeners[i].client_certificate != SP_CLIENT_CERT_NONE)
            return true;
    return false;
}

bool sp_levels_complete(const struct sp_config *config, struct sp_facts *facts, char account[SP_ACCOUNT_MAX + 1]) {
    const struct sp_api_key_config *key = has(facts, SP_BY_KEY) ? key_with_id(config, facts->text[SP_FACT_KEY]) : NULL;
    struct sp_span name = facts->text[SP_FACT_SUBJECT];
    if (key && (!has(facts, SP_BY_SUBJECT) || sp_span_eq(name, sp_span_text(key->name)))) {
        put(facts, SP_BY_TENANT, SP_FACT_TENANT, key->tenant);
        return name_account(facts, account, "key:", "", sp_span_text(key->name));
    }
    if (!has(facts, SP_BY_SUBJECT))
        return true;
    if (sp_span_starts(name, SP_SPAN("key:"))) {
        (void)keys_named(config, sp_span_from(name, 4), facts);
        return true;
    }
    if (sp_span_starts(name, SP_SPAN("jwt:")) || sp_span_starts(name, SP_SPAN("cert:")))
        return true;
    if (keys_named(config, name, facts))
        return name_account(facts, account, "key:", "", name);
    bool certificates = certificates_are_taken(config);
    if (config->n_issuers == 1 && !certificates)
        return name_account(facts, account, "jwt:", config->issuers[0].issuer.text, name);
    if (config->n_issuers == 0 && certificates)
        return name_account(facts, account, "cert:", "", name);
    return false;
}
