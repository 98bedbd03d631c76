/* The one table of fields. Checking, defaults, decoding, the JSON Schema, the manual page and the hints are all driven by it: to support
 * a key that is refused so far, take SP_LATER from its row (or from its choice) and do what the key says. */
#ifndef SALLYPORT_CONFIG_TABLE_H
#define SALLYPORT_CONFIG_TABLE_H

#include <jansson.h>

#include <sallyport/config.h>

#include "vault.h"

/* What a value is in the file, in the document (the same JSON, defaults applied), and in the C struct. */
enum sp_kind {
    SP_KIND_TEXT,     /* text → const char *, or struct sp_text when SP_PLACED */
    SP_KIND_PATH,     /* text, a path relative to the file (or one of `choices`) → as TEXT, resolved */
    SP_KIND_FILE,     /* as PATH; the document gets the file's contents as member `contents` → const char * at `contents_at` */
    SP_KIND_NUMBER,   /* integer within min and max → unsigned or uint64_t, by size */
    SP_KIND_FRACTION, /* number from 0 to 1 → double */
    SP_KIND_BOOL,     /* → bool */
    SP_KIND_DURATION, /* "5s"; min and max in ms → uint64_t in ms, or in s when SP_SECONDS */
    SP_KIND_SIZE,     /* "8MiB"; min and max in bytes → uint64_t */
    SP_KIND_RATE,     /* "600/min" → struct sp_rate */
    SP_KIND_TIME,     /* RFC 3339 in UTC → uint64_t, Unix time */
    SP_KIND_HEX,      /* digits → as many bytes as the member has */
    SP_KIND_ID,       /* text of exactly size − 1 letters and digits → char[size] */
    SP_KIND_CHOICE,   /* one of `choices` → enum */
    SP_KIND_POOL,     /* name of a pool → pointer to it */
    /* Lists of the above, without duplicates, of at least min items: */
    SP_KIND_TEXTS,   /* → struct sp_texts */
    SP_KIND_CIDRS,   /* → struct sp_cidrs */
    SP_KIND_CHOICES, /* → uint32_t, the values or'ed; with SP_TEXTUAL struct sp_texts */
    SP_KIND_NODES,   /* host:port → struct sp_redis_nodes */
    SP_KIND_LIMITS,  /* names of limits → unsigned * indices, count at count_at */
    SP_KIND_MODELS,  /* names of models, likewise */
    SP_KIND_ROLES,   /* names of roles → uint64_t mask */
    /* Made of fields: */
    SP_KIND_RECORD,   /* mapping → struct in place; where it is left out: its defaults when SP_FILLED, else zero */
    SP_KIND_OPTIONAL, /* mapping → pointer, NULL where it is left out */
    SP_KIND_LIST,     /* list of mappings → pointer at `at`, count at count_at */
    SP_KIND_MAP,      /* name: mapping → as LIST; the name goes to the first member, a const char * */
    SP_KIND_PAIRS,    /* name: value → as MAP; the value is described by the record's only field */
};

enum sp_field_flag {
    SP_REQUIRED = 1,
    SP_PLACED = 2,       /* struct sp_text: the document gets member "name@" with where it stood */
    SP_LATER = 4,        /* not yet supported: refused by name wherever it is given */
    SP_DEFAULT_ONLY = 8, /* nothing but the default is supported so far */
    SP_HIDDEN = 16,      /* of the document, not of the file: written by the supervisor, unknown to admins */
    SP_FILLED = 32,      /* a RECORD that is left out has its defaults */
    SP_SECONDS = 64,
    SP_LOWER = 128, /* text is compared without regard to case, and kept in lower case */
    SP_TEXTUAL = 256,
    SP_SECRET = 512,    /* a FILE that no one but its owner may read, and whose contents only who needs them gets */
    SP_ONE_LINE = 1024, /* contents without the final newline, and no other control character in it */
    SP_AUTO = 2048,     /* a NUMBER that may be `auto`: one per CPU that this process may use */
    SP_OR_URL = 1 << 20,      /* a FILE that may be an http(s) URL instead: kept as it is, nothing is read */
    SP_FOR_CONTROL = 1 << 21, /* a SECRET that control needs, and workers do not get */
    SP_FOR_BOTH = 1 << 22,    /* a SECRET that control needs as well as the workers */
    SP_CREDENTIAL = 4096, /* a FILE of that name in $CREDENTIALS_DIRECTORY (systemd.exec(5)), not a path */
};

#define SP_AMOUNT_MAX UINT64_C(1000000000000) /* of a rate or a burst */
#define SP_NOWHERE UINT32_MAX /* no member: the value only has to be right */

struct sp_choice {
    const char *name;
    uint32_t value;
    bool later; /* not yet supported */
};

/* NULL, or what is wrong with this text, as the rest of a sentence that begins with the key and a colon. */
typedef const char *sp_check_text(struct sp_span text);

struct sp_field {
    const char *name;
    enum sp_kind kind;
    unsigned flags;
    const char *fallback; /* the default, as the file would say it; NULL: none */
    uint32_t at, size;    /* of the member */
    uint32_t count_at;
    int64_t min, max; /* both 0: any */
    const struct sp_choice *choices;
    const struct sp_record *record;
    sp_check_text *check; /* of text, of each item of TEXTS, of each name of MAP and PAIRS */
    const char *contents;
    uint32_t contents_at;
    sp_check_text *check_contents;
    const char *about; /* for the manual page and the schema: one line, no full stop at the end */
};

struct sp_record {
    const char *name;
    const struct sp_field *fields;
    size_t n_fields;
    size_t size; /* of the struct */
    /* Fills in what follows from other members; -EINVAL when they do not fit. NULL: nothing to do. */
    int (*finish)(struct sp_vault *vault, void *object);
};

extern const struct sp_record sp_config_record; /* the file: struct sp_config */
extern const struct sp_record sp_key_record;    /* one entry of `keys` in the file of API keys: struct sp_api_key_config */

const struct sp_field *sp_record_field(const struct sp_record *record, const char *name); /* NULL: none */
const struct sp_choice *sp_field_choice(const struct sp_field *field, struct sp_span name);
static inline bool sp_field_has(const struct sp_field *field, unsigned flags) { return (field->flags & flags) != 0; }
bool sp_kind_is_list(enum sp_kind kind); /* of scalars */
/* The default as a JSON value of its own; NULL: out of memory. */
json_t *sp_field_default(const struct sp_field *field);

/* derive.c: what follows from other members */
int sp_finish_config(struct sp_vault *vault, void *config);
int sp_finish_redis(struct sp_vault *vault, void *redis);
int sp_finish_limit(struct sp_vault *vault, void *limit);
int sp_finish_server(struct sp_vault *vault, void *server);
int sp_finish_model(struct sp_vault *vault, void *model);
int sp_finish_route(struct sp_vault *vault, void *route);
int sp_finish_key(struct sp_vault *vault, void *key);
int sp_finish_issuer(struct sp_vault *vault, void *issuer);

/* syntax.c: forms of text */
sp_check_text sp_check_name, sp_check_role_name, sp_check_not_empty, sp_check_listen_address, sp_check_metrics_address,
    sp_check_redis_url, sp_check_redis_node, sp_check_redis_prefix, sp_check_model_name, sp_check_model_alias, sp_check_model_pattern,
    sp_check_server_url, sp_check_server_name, sp_check_claim_path, sp_check_header_value, sp_check_request_allow, sp_check_request_set,
    sp_check_response_allow, sp_check_response_set, sp_check_credential_header, sp_check_host_pattern, sp_check_route_path,
    sp_check_strip_prefix, sp_check_method, sp_check_probe_path, sp_check_jwks, sp_check_issuer_name, sp_check_key_set,
    sp_check_shared_secret, sp_check_plain_name, sp_check_label, sp_check_credential_name; /* the last is for files.c: the document holds the path */

#endif
