#include "asking.h"
#include "histogram.h"
#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>

enum { TOKEN_MAX = 4096 };

char *asking_file(const char *path, size_t *ret_len) {
    FILE *file = fopen(path, "rb");
    char *text = NULL;
    long len = 0;
    if (file && !fseek(file, 0, SEEK_END) && (len = ftell(file)) >= 0 && !fseek(file, 0, SEEK_SET) && (text = malloc((size_t)len + 1)) &&
        fread(text, 1, (size_t)len, file) == (size_t)len) {
        fclose(file);
        text[len] = '\0';
        *ret_len = (size_t)len;
        return text;
    }
    perror(path);
    exit(1);
}

static size_t base64url(char *out, const unsigned char *bytes, size_t len) {
    size_t n = (size_t)EVP_EncodeBlock((unsigned char *)out, bytes, (int)len);
    while (n > 0 && out[n - 1] == '=')
        n--;
    for (size_t i = 0; i < n; i++)
        out[i] = out[i] == '+' ? '-' : out[i] == '/' ? '_' : out[i];
    return n;
}

static size_t make_token(struct asking *asking, char *out) {
    static const char header[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
    char claims[1024];
    unsigned char mac[32];
    unsigned mac_len = sizeof mac;
    int claims_len = snprintf(claims, sizeof claims, "%s\"sub\":\"caller-%" PRIu64 "\",\"jti\":\"%" PRIu64 "\"}", asking->claims,
                              asking->made % asking->callers, asking->made);
    if (claims_len < 0 || (size_t)claims_len >= sizeof claims)
        exit(1);
    asking->made++;
    size_t n = base64url(out, (const unsigned char *)header, sizeof header - 1);
    out[n++] = '.';
    n += base64url(out + n, (const unsigned char *)claims, (size_t)claims_len);
    HMAC(EVP_sha256(), asking->secret, (int)asking->secret_len, (const unsigned char *)out, n, mac, &mac_len);
    out[n++] = '.';
    return n + base64url(out + n, mac, mac_len);
}

/* The next token's length; `out` has TOKEN_MAX bytes. */
static size_t next_token(struct asking *asking, char *out) {
    if (asking->secret)
        return make_token(asking, out);
    size_t len = strcspn(asking->tokens, "\n");
    if (len == 0 || len >= TOKEN_MAX)
        return 0;
    memcpy(out, asking->tokens, len);
    asking->tokens += len + (asking->tokens[len] == '\n');
    return len;
}

size_t asking_space(const struct asking *asking) {
    return asking->body_len + strlen(asking->path) + strlen(asking->headers) + TOKEN_MAX + 256;
}

size_t asking_compose(struct asking *asking, char *space) {
    size_t room = asking_space(asking), n = 0;
    n += (size_t)snprintf(space, room, "POST %s HTTP/1.1\r\nhost: localhost\r\n%scontent-length: %zu\r\n", asking->path, asking->headers, asking->body_len);
    if (asking->stamped)
        n += (size_t)snprintf(space + n, room - n, "x-sent: %" PRIu64 "\r\n", now_ns());
    if (asking->tokens || asking->secret) {
        n += (size_t)snprintf(space + n, room - n, "authorization: Bearer ");
        size_t len = next_token(asking, space + n);
        if (len == 0)
            return 0;
        n += len;
        n += (size_t)snprintf(space + n, room - n, "\r\n");
    }
    n += (size_t)snprintf(space + n, room - n, "\r\n");
    memcpy(space + n, asking->body, asking->body_len);
    return n + asking->body_len;
}
