/* Requests that two readers could understand differently, and the answer each gets. The same bytes lie in tests/e2e/ambiguous/ for the
 * black-box tests; @KEY@ stands for a valid API key there, so that nothing but the ambiguity can be the reason for a refusal. */
#ifndef SALLYPORT_TEST_AMBIGUOUS_H
#define SALLYPORT_TEST_AMBIGUOUS_H

#include <sallyport/base.h>

struct ambiguous {
    const char *name;
    enum { IN_HEAD, IN_BODY } in; /* where it can be seen */
    unsigned status;
    struct sp_span bytes;
    struct sp_span filler; /* between bytes and tail, `times` times; for what is too long to be written out */
    unsigned times;
    struct sp_span tail;
};

#define LINE        "POST /v1/chat/completions HTTP/1.1\r\n"
#define HOST        "Host: localhost\r\n"
#define KEY         "x-api-key: @KEY@\r\n"
#define TYPE        "Content-Type: application/json\r\n"
#define START       LINE HOST KEY TYPE
#define CHUNKED     START "Transfer-Encoding: chunked\r\n\r\n"
#define END         "\r\n"
#define SMUGGLED    "GET /smuggled HTTP/1.1\r\n" HOST KEY END
#define GET(target) "GET " target " HTTP/1.1\r\n" HOST KEY END

#define HEAD_CASE(name_, status_, bytes_)                                                                                                  \
    { .name = name_, .in = IN_HEAD, .status = status_, .bytes = SP_SPAN(bytes_) }
#define BODY_CASE(name_, bytes_)                                                                                                           \
    { .name = name_, .in = IN_BODY, .status = 400, .bytes = SP_SPAN(CHUNKED bytes_) }

/* clang-format off */
static const struct ambiguous ambiguous[] = {
    /* Lines */
    HEAD_CASE("bare-lf-everywhere", 400, "POST /v1/chat/completions HTTP/1.1\nHost: localhost\nx-api-key: @KEY@\nContent-Length: 0\n\n"),
    HEAD_CASE("bare-lf-after-request-line", 400, "POST /v1/chat/completions HTTP/1.1\n" HOST KEY END),
    HEAD_CASE("bare-lf-after-field", 400, LINE HOST "x-api-key: @KEY@\nContent-Length: 0\r\n\r\n"),
    HEAD_CASE("bare-lf-ends-head", 400, START "Content-Length: 0\r\n\n"),
    HEAD_CASE("bare-lf-hides-transfer-encoding", 400,
              START "X-A: b\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" SMUGGLED),
    HEAD_CASE("bare-cr-in-request-line", 400, "POST /v1/chat/completions\r HTTP/1.1\r\n" HOST KEY END),
    HEAD_CASE("bare-cr-in-value", 400, START "X-A: b\rContent-Length: 5\r\n\r\n"),
    HEAD_CASE("bare-cr-in-name", 400, START "X\r-A: b\r\n\r\n"),
    HEAD_CASE("bare-cr-ends-line", 400, START "X-A: b\rX-B: c\r\n\r\n"),
    HEAD_CASE("double-cr", 400, START "X-A: b\r\r\n\r\n"),
    HEAD_CASE("leading-empty-line", 400, END START "Content-Length: 0\r\n\r\n"),
    HEAD_CASE("leading-bare-lf", 400, "\n" START "Content-Length: 0\r\n\r\n"),
    HEAD_CASE("nul-in-value", 400, START "X-A: b\0c\r\n\r\n"),
    HEAD_CASE("nul-in-name", 400, START "X\0A: b\r\n\r\n"),
    HEAD_CASE("nul-in-target", 400, "POST /v1/chat\0/completions HTTP/1.1\r\n" HOST KEY END),
    HEAD_CASE("escape-byte-in-value", 400, START "X-A: \x1b[31m\r\n\r\n"),
    HEAD_CASE("del-byte-in-value", 400, START "X-A: b\x7f\r\n\r\n"),
    HEAD_CASE("folded-field-by-space", 400, START "X-A: b\r\n c\r\nContent-Length: 0\r\n\r\n"),
    HEAD_CASE("folded-field-by-tab", 400, START "Transfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n"),
    HEAD_CASE("folded-first-field", 400, LINE " " HOST KEY END),
    HEAD_CASE("field-without-colon", 400, START "Content-Length 5\r\n\r\n12345"),
    HEAD_CASE("field-without-name", 400, START ": b\r\n\r\n"),
    HEAD_CASE("space-before-colon", 400, START "Content-Length : 5\r\n\r\n12345"),
    HEAD_CASE("tab-before-colon", 400, START "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"),
    HEAD_CASE("space-in-name", 400, START "Content Length: 5\r\n\r\n12345"),
    HEAD_CASE("non-ascii-name", 400, START "X-\xc3\xa4: b\r\n\r\n"),
    HEAD_CASE("quote-in-name", 400, START "X\"A: b\r\n\r\n"),
    HEAD_CASE("underscore-content-length", 400, START "Content_Length: 5\r\n\r\n"),
    HEAD_CASE("underscore-forwarded-for", 400, START "X_Forwarded_For: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"),
    {"too-many-fields", IN_HEAD, 431, SP_SPAN(START), SP_SPAN("X-A: b\r\n"), 100, SP_SPAN(END)},
    {"head-too-large", IN_HEAD, 431, SP_SPAN(START "X-A: "), SP_SPAN("0123456789abcdef"), 2100, SP_SPAN("\r\n\r\n")},

    /* Request lines */
    HEAD_CASE("two-spaces-after-method", 400, "POST  /v1/chat/completions HTTP/1.1\r\n" HOST KEY END),
    HEAD_CASE("two-spaces-after-target", 400, "POST /v1/chat/completions  HTTP/1.1\r\n" HOST KEY END),
    HEAD_CASE("tab-after-method", 400, "POST\t/v1/chat/completions HTTP/1.1\r\n" HOST KEY END),
    HEAD_CASE("space-before-method", 400, " POST /v1/chat/completions HTTP/1.1\r\n" HOST KEY END),
    HEAD_CASE("space-after-version", 400, "POST /v1/chat/completions HTTP/1.1 \r\n" HOST KEY END),
    HEAD_CASE("space-in-target", 400, "POST /v1/chat completions HTTP/1.1\r\n" HOST KEY END),
    HEAD_CASE("http-0.9", 400, "GET /v1/models\r\n" HOST KEY END),
    HEAD_CASE("http-1.10", 400, "POST /v1/chat/completions HTTP/1.10\r\n" HOST KEY END),
    HEAD_CASE("http-01.1", 400, "POST /v1/chat/completions HTTP/01.1\r\n" HOST KEY END),
    HEAD_CASE("http-lower-case", 400, "POST /v1/chat/completions http/1.1\r\n" HOST KEY END),
    HEAD_CASE("http-without-minor", 400, "POST /v1/chat/completions HTTP/1\r\n" HOST KEY END),
    HEAD_CASE("http-1.2", 505, "POST /v1/chat/completions HTTP/1.2\r\n" HOST KEY END),
    HEAD_CASE("http-2.0", 505, "POST /v1/chat/completions HTTP/2.0\r\n" HOST KEY END),
    HEAD_CASE("http-2-preface", 400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    HEAD_CASE("method-not-a-token", 400, "PO(ST /v1/chat/completions HTTP/1.1\r\n" HOST KEY END),
    HEAD_CASE("connect-authority", 501, "CONNECT backend.test:443 HTTP/1.1\r\nHost: backend.test:443\r\n" KEY END),
    HEAD_CASE("connect-path", 400, "CONNECT /v1/models HTTP/1.1\r\n" HOST KEY END),
    {"method-too-long", IN_HEAD, 501, SP_SPAN(""), SP_SPAN("POST"), 20, SP_SPAN(" /v1/models HTTP/1.1\r\n" HOST KEY END)},
    {"target-too-long", IN_HEAD, 414, SP_SPAN("GET /v1/models?q="),
     SP_SPAN("0123456789abcdef"), 600, SP_SPAN(" HTTP/1.1\r\n" HOST KEY END)},

    /* Targets */
    HEAD_CASE("asterisk-with-get", 400, GET("*")),
    HEAD_CASE("relative-target", 400, GET("v1/models")),
    HEAD_CASE("fragment-in-target", 400, GET("/v1/models#x")),
    HEAD_CASE("non-ascii-target", 400, GET("/v1/m\xc3\xb6" "dels")),
    HEAD_CASE("percent-not-hex", 400, GET("/v1/models/%zz")),
    HEAD_CASE("percent-cut-off", 400, GET("/v1/models/%2")),
    HEAD_CASE("percent-in-query-not-hex", 400, GET("/v1/models?a=%g0")),
    HEAD_CASE("dot-segment", 400, GET("/v1/../admin")),
    HEAD_CASE("single-dot-segment", 400, GET("/v1/./models")),
    HEAD_CASE("final-dot-segment", 400, GET("/v1/..")),
    HEAD_CASE("dot-segment-with-parameter", 400, GET("/v1/..;x=y/admin")),
    HEAD_CASE("encoded-dot-segment", 400, GET("/v1/%2e%2E/admin")),
    HEAD_CASE("half-encoded-dot-segment", 400, GET("/v1/.%2e/admin")),
    HEAD_CASE("encoded-slash", 400, GET("/v1/models%2Fadmin")),
    HEAD_CASE("encoded-backslash", 400, GET("/v1/models%5Cadmin")),
    HEAD_CASE("encoded-nul", 400, GET("/v1/models%00")),
    HEAD_CASE("encoded-crlf", 400, GET("/v1/models%0d%0aX-A:b")),
    HEAD_CASE("encoded-letter", 400, GET("/v1/%6dodels")),
    HEAD_CASE("backslash", 400, GET("/v1\\..\\admin")),
    HEAD_CASE("empty-segment", 400, GET("/v1//models")),
    HEAD_CASE("leading-empty-segment", 400, GET("//evil.test/v1/models")),
    HEAD_CASE("absolute-other-scheme", 400, GET("ftp://localhost/v1/models")),
    HEAD_CASE("absolute-user-info", 400, GET("http://user@localhost/v1/models")),
    HEAD_CASE("absolute-empty-host", 400, GET("http:///v1/models")),
    HEAD_CASE("absolute-differs-from-host", 400, GET("http://evil.test/v1/models")),
    HEAD_CASE("absolute-port-differs-from-host", 400, GET("https://localhost:444/v1/models")),

    /* Host */
    HEAD_CASE("no-host", 400, LINE KEY END),
    HEAD_CASE("two-hosts", 400, LINE HOST "Host: evil.test\r\n" KEY END),
    HEAD_CASE("two-equal-hosts", 400, LINE HOST HOST KEY END),
    HEAD_CASE("empty-host", 400, LINE "Host:\r\n" KEY END),
    HEAD_CASE("host-with-user-info", 400, LINE "Host: evil.test@localhost\r\n" KEY END),
    HEAD_CASE("host-with-path", 400, LINE "Host: localhost/admin\r\n" KEY END),
    HEAD_CASE("host-list", 400, LINE "Host: localhost, evil.test\r\n" KEY END),
    HEAD_CASE("host-with-space", 400, LINE "Host: local host\r\n" KEY END),
    HEAD_CASE("host-with-percent", 400, LINE "Host: local%68ost\r\n" KEY END),
    HEAD_CASE("host-port-not-a-number", 400, LINE "Host: localhost:44x\r\n" KEY END),
    HEAD_CASE("host-port-too-large", 400, LINE "Host: localhost:65536\r\n" KEY END),
    HEAD_CASE("host-port-empty", 400, LINE "Host: localhost:\r\n" KEY END),
    HEAD_CASE("host-bad-ipv6", 400, LINE "Host: [::1\r\n" KEY END),

    /* Lengths */
    HEAD_CASE("content-length-and-transfer-encoding", 400,
              START "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" SMUGGLED),
    HEAD_CASE("transfer-encoding-and-content-length", 400,
              START "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" SMUGGLED),
    HEAD_CASE("two-content-lengths", 400, START "Content-Length: 0\r\nContent-Length: 5\r\n\r\n" SMUGGLED),
    HEAD_CASE("two-equal-content-lengths", 400, START "Content-Length: 5\r\nContent-Length: 5\r\n\r\n12345"),
    HEAD_CASE("content-length-list", 400, START "Content-Length: 5, 5\r\n\r\n12345"),
    HEAD_CASE("content-length-plus", 400, START "Content-Length: +5\r\n\r\n12345"),
    HEAD_CASE("content-length-minus", 400, START "Content-Length: -5\r\n\r\n12345"),
    HEAD_CASE("content-length-hex", 400, START "Content-Length: 0x5\r\n\r\n12345"),
    HEAD_CASE("content-length-empty", 400, START "Content-Length:\r\n\r\n"),
    HEAD_CASE("content-length-with-space", 400, START "Content-Length: 5 0\r\n\r\n12345"),
    HEAD_CASE("content-length-fraction", 400, START "Content-Length: 5.0\r\n\r\n12345"),
    HEAD_CASE("content-length-overflow", 400, START "Content-Length: 18446744073709551621\r\n\r\n12345"),
    HEAD_CASE("content-length-above-int64", 400, START "Content-Length: 9223372036854775808\r\n\r\n12345"),
    HEAD_CASE("content-length-too-many-digits", 400, START "Content-Length: 00000000000000000005\r\n\r\n12345"),
    HEAD_CASE("transfer-encoding-in-http-1.0", 400,
              "POST /v1/chat/completions HTTP/1.0\r\n" HOST KEY "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    HEAD_CASE("two-transfer-encodings", 400, START "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    HEAD_CASE("two-different-transfer-encodings", 400, START "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    HEAD_CASE("transfer-encoding-chunked-twice", 400, START "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    HEAD_CASE("transfer-encoding-chunked-not-last", 400, START "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    HEAD_CASE("transfer-encoding-quoted", 400, START "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    HEAD_CASE("transfer-encoding-parameter", 400, START "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
    HEAD_CASE("transfer-encoding-empty", 400, START "Transfer-Encoding:\r\n\r\n"),
    HEAD_CASE("transfer-encoding-vertical-tab", 400, START "Transfer-Encoding: \x0b" "chunked\r\n\r\n0\r\n\r\n"),
    HEAD_CASE("transfer-encoding-identity", 501, START "Transfer-Encoding: identity\r\n\r\n"),
    HEAD_CASE("transfer-encoding-gzip-chunked", 501, START "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    HEAD_CASE("transfer-encoding-misspelt", 501, START "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),

    /* Other fields */
    HEAD_CASE("connection-names-content-length", 400, START "Content-Length: 5\r\nConnection: content-length\r\n\r\n12345"),
    HEAD_CASE("connection-names-host", 400, START "Connection: close, Host\r\n\r\n"),
    HEAD_CASE("connection-names-authorization", 400, START "Connection: Authorization\r\n\r\n"),
    HEAD_CASE("connection-names-x-api-key", 400, START "Connection: x-api-key\r\n\r\n"),
    HEAD_CASE("connection-names-x-forwarded-for", 400, START "Connection: close, X-Forwarded-For\r\n\r\n"),
    HEAD_CASE("connection-option-not-a-token", 400, START "Connection: clo se\r\n\r\n"),
    HEAD_CASE("connection-empty-option", 400, START "Connection: close,,te\r\n\r\n"),
    HEAD_CASE("two-authorizations", 400, START "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n"),
    HEAD_CASE("two-api-keys", 400, START KEY END),
    HEAD_CASE("two-content-types", 400, START TYPE END),
    HEAD_CASE("two-request-ids", 400, START "X-Request-Id: a\r\nX-Request-Id: b\r\n\r\n"),
    HEAD_CASE("two-expects", 400, START "Expect: 100-continue\r\nExpect: 100-continue\r\n\r\n"),
    HEAD_CASE("unknown-expectation", 417, START "Expect: 200-maybe\r\n\r\n"),

    /* Chunks */
    BODY_CASE("chunk-bare-lf-after-size", "5\nhello\r\n0\r\n\r\n"),
    BODY_CASE("chunk-bare-cr-after-size", "5\rhello\r\n0\r\n\r\n"),
    BODY_CASE("chunk-bare-lf-after-payload", "5\r\nhello\n0\r\n\r\n"),
    BODY_CASE("chunk-nothing-after-payload", "5\r\nhello0\r\n\r\n"),
    BODY_CASE("chunk-longer-than-said", "3\r\nhello\r\n0\r\n\r\n"),
    BODY_CASE("chunk-size-0x", "0x5\r\nhello\r\n0\r\n\r\n"),
    BODY_CASE("chunk-size-negative", "-5\r\nhello\r\n0\r\n\r\n"),
    BODY_CASE("chunk-size-plus", "+5\r\nhello\r\n0\r\n\r\n"),
    BODY_CASE("chunk-size-leading-space", " 5\r\nhello\r\n0\r\n\r\n"),
    BODY_CASE("chunk-size-trailing-space", "5 \r\nhello\r\n0\r\n\r\n"),
    BODY_CASE("chunk-size-empty", "\r\nhello\r\n0\r\n\r\n"),
    BODY_CASE("chunk-size-not-hex", "g\r\nhello\r\n0\r\n\r\n"),
    BODY_CASE("chunk-size-overflow", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    BODY_CASE("chunk-size-too-many-digits", "00000000000000005\r\nhello\r\n0\r\n\r\n"),
    BODY_CASE("chunk-extension-without-name", "5;\r\nhello\r\n0\r\n\r\n"),
    BODY_CASE("chunk-extension-with-space", "5; a=b\r\nhello\r\n0\r\n\r\n"),
    BODY_CASE("chunk-extension-bare-lf", "5;a\n" "hello\r\n0\r\n\r\n"),
    BODY_CASE("chunk-extension-bare-cr-in-quotes", "5;a=\"b\rc\"\r\nhello\r\n0\r\n\r\n"),
    BODY_CASE("chunk-trailer-content-length", "0\r\nContent-Length: 5\r\n\r\n12345"),
    BODY_CASE("chunk-trailer-transfer-encoding", "0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    BODY_CASE("chunk-trailer-host", "0\r\nHost: evil.test\r\n\r\n"),
    BODY_CASE("chunk-trailer-authorization", "0\r\nAuthorization: Bearer x\r\n\r\n"),
    BODY_CASE("chunk-trailer-folded", "0\r\nX-A: b\r\n c\r\n\r\n"),
    BODY_CASE("chunk-trailer-without-colon", "0\r\n" SMUGGLED),
    BODY_CASE("chunk-trailer-bare-lf", "0\r\n\n" SMUGGLED),
    {"chunk-extensions-without-end", IN_BODY, 400, SP_SPAN(CHUNKED "5;a="),
     SP_SPAN("0123456789abcdef"), 1100, SP_SPAN("\r\nhello\r\n0\r\n\r\n")},
    {"chunk-trailers-without-end", IN_BODY, 400, SP_SPAN(CHUNKED "0\r\n"), SP_SPAN("X-A: 0123456789abcdef\r\n"), 800, SP_SPAN(END)},
};
/* clang-format on */

#endif
