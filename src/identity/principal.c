#include "principal.h"

#include <errno.h>

#define ACCOUNT_WORDS_MAX 8 /* the kind and a blank */

struct record {
    struct sp_principal principal;
    struct sp_span role_names;
    char text[];
};

static struct record *record_of(const struct sp_principal *principal) { return SP_CONTAINER(principal, struct record, principal); }

static struct sp_span keep(char **at, struct sp_span text) {
    if (text.len == 0)
        return (struct sp_span){"", 0};
    memcpy(*at, text.at, text.len);
    struct sp_span kept = sp_span(*at, text.len);
    *at += text.len;
    return kept;
}

/* An issuer's name holds no blank: what stands before the first one is the issuer, all after it the subject. */
static struct sp_span write_account(char **at, const struct sp_principal *like) {
    static const char *const kinds[] = {[SP_CREDENTIAL_NONE] = "",
                                        [SP_CREDENTIAL_API_KEY] = "key:",
                                        [SP_CREDENTIAL_JWT] = "jwt:",
                                        [SP_CREDENTIAL_OPAQUE] = "jwt:",
                                        [SP_CREDENTIAL_CERTIFICATE] = "cert:"};
    struct sp_span kind = sp_span_text(kinds[like->kind]), blank = like->issuer.len ? SP_SPAN(" ") : SP_SPAN("");
    char *begin = *at;
    if (kind.len == 0)
        return (struct sp_span){"", 0};
    (void)keep(at, kind);
    (void)keep(at, like->issuer);
    (void)keep(at, blank);
    (void)keep(at, like->subject);
    return sp_span(begin, (size_t)(*at - begin));
}

int sp_principal_new(const struct sp_principal *like, struct sp_span role_names, struct sp_principal **ret) {
    size_t len = 2 * (like->subject.len + like->issuer.len) + like->tenant.len + like->key_id.len + like->scopes.len + role_names.len;
    len += ACCOUNT_WORDS_MAX;
    struct record *record = malloc(sizeof *record + len);
    if (!record)
        return -ENOMEM;
    char *at = record->text;
    record->principal = *like;
    record->principal.refs = 1;
    record->principal.subject = keep(&at, like->subject);
    record->principal.account = write_account(&at, like);
    record->principal.tenant = keep(&at, like->tenant);
    record->principal.key_id = keep(&at, like->key_id);
    record->principal.issuer = keep(&at, like->issuer);
    record->principal.scopes = keep(&at, like->scopes);
    record->role_names = keep(&at, role_names);
    *ret = &record->principal;
    return 0;
}

struct sp_principal *sp_principal_ref(struct sp_principal *principal) {
    principal->refs++;
    return principal;
}

void sp_principal_unref(struct sp_principal *principal) {
    if (principal && --principal->refs == 0)
        free(record_of(principal));
}

struct sp_span sp_principal_role_names(const struct sp_principal *principal) {
    return record_of(principal)->role_names;
}

bool sp_principal_has_scope(const struct sp_principal *principal, struct sp_span scope) {
    struct sp_span rest = principal->scopes, item;
    while (sp_span_split(&rest, ' ', &item))
        if (item.len && sp_span_eq(item, scope))
            return true;
    return false;
}

/* The next name as it is: blanks at its ends are a part of it (RFC 7519 §2, StringOrURI), so that sp_span_split() will not do. */
static bool next_name(struct sp_span *rest, struct sp_span *ret) {
    if (rest->len == 0)
        return false;
    const char *end = memchr(rest->at, '\n', rest->len);
    *ret = sp_span(rest->at, end ? (size_t)(end - rest->at) : rest->len);
    *rest = sp_span_from(*rest, sp_min(ret->len + 1, rest->len));
    return true;
}

uint64_t sp_roles_mask(const struct sp_config *config, struct sp_span role_names) {
    uint64_t mask = 0;
    struct sp_span rest = role_names, name;
    while (next_name(&rest, &name))
        for (size_t i = 0; i < config->n_roles && i < SP_ROLES_MAX; i++)
            if (name.len && sp_span_eq(name, sp_span_text(config->roles[i].name)))
                mask |= UINT64_C(1) << i;
    return mask;
}
