/* The forms of text in a configuration, as pure functions. */
#ifndef SALLYPORT_CONFIG_SYNTAX_H
#define SALLYPORT_CONFIG_SYNTAX_H

#include <sallyport/config.h>

struct sp_url {
    struct sp_span scheme; /* without "://" */
    struct sp_span host;   /* without brackets */
    bool bracketed;        /* an IPv6 address */
    uint16_t port;         /* 0: not said */
    struct sp_span path;   /* from the first slash after the host; empty: none */
};
/* scheme://host[:port][/path]. NULL, or what is wrong as the rest of a sentence that begins with the key and a colon. */
const char *sp_url_parse(struct sp_span text, struct sp_url *ret) SP_MUST_USE;

bool sp_is_http_url(struct sp_span text); /* begins like one */
bool sp_is_host(struct sp_span host, bool bracketed); /* a name, an IPv4 address; an IPv6 address when bracketed */
#define SP_SOCKET_PATH_MAX 107 /* sun_path less its NUL, unix(7) */
bool sp_is_literal_or_localhost(struct sp_span host); /* needs no resolver */
bool sp_is_loopback(struct sp_span host);
/* "host:port" or "[v6]:port", borrowed. -EINVAL. */
int sp_split_host_port(struct sp_span text, struct sp_span *ret_host, bool *ret_bracketed, uint16_t *ret_port) SP_MUST_USE;
/* "10.0.0.0/8", "2001:db8::/32", or one address. -EINVAL, also when bits are set beyond the prefix. */
int sp_parse_cidr(struct sp_span text, struct sp_cidr *ret) SP_MUST_USE;
/* "2027-01-31T00:00:00Z" → Unix time. -EINVAL, also before 1970. */
int sp_parse_time(struct sp_span text, uint64_t *ret_s) SP_MUST_USE;

#define SP_AMOUNT_TEXT 32
void sp_duration_text(uint64_t ms, char out[SP_AMOUNT_TEXT]); /* "10m" */
void sp_size_text(uint64_t bytes, char out[SP_AMOUNT_TEXT]);  /* "8MiB" */

#endif
