#include "support.h"

static const char sig[] = "\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a";
#define V4             "\xc0\x00\x02\x07\x7f\x00\x00\x01\xd4\x31\x01\xbb" /* 192.0.2.7:54321 to 127.0.0.1:443 */
#define CHECKSUM_OF_V4 "\x92\xb6\x1b\x0c"

struct header {
    char bytes[SP_PROXY_HEADER_MAX + 64];
    size_t len;
};

static void put(struct header *header, const char *bytes, size_t len) {
    assert_true(header->len + len <= sizeof header->bytes);
    memcpy(header->bytes + header->len, bytes, len);
    header->len += len;
}

static struct header header(unsigned command, unsigned family, const char *body, size_t len) {
    struct header made = {.len = 0};
    const char fixed[] = {(char)command, (char)family, (char)(len >> 8), (char)len};
    put(&made, sig, 12);
    put(&made, fixed, 4);
    put(&made, body, len);
    return made;
}
#define HEADER(command, family, body) header(command, family, body, sizeof(body) - 1)

static enum sp_proxy_verdict parse(const struct header *header, struct sp_address *ret, size_t *ret_len, const char **ret_why) {
    *ret_why = NULL;
    return sp_proxy_parse(sp_span(header->bytes, header->len), ret_len, ret, ret_why);
}

static void assert_client(struct header made, const char *address, uint16_t port) {
    struct sp_address client;
    const char *why;
    char text[SP_ADDRESS_TEXT_MAX];
    size_t len = 0, whole = made.len;
    put(&made, "\x16\x03\x01", 3); /* TLS begins behind it */
    assert_int_equal(parse(&made, &client, &len, &why), SP_PROXY_CLIENT);
    assert_int_equal(len, whole);
    sp_address_text(client.bytes, text);
    assert_string_equal(text, address);
    assert_int_equal(client.port, port);
}

static void assert_refused(struct header made, const char *sentence) {
    struct sp_address client;
    const char *why;
    size_t len;
    assert_int_equal(parse(&made, &client, &len, &why), SP_PROXY_REFUSED);
    assert_string_equal(why, sentence);
}

static void the_client_is_who_the_proxy_says(void **state) {
    assert_client(HEADER(0x21, 0x11, V4), "192.0.2.7", 54321);
    assert_client(HEADER(0x21, 0x21,
                         "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07"
                         "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01"
                         "\x00\x50\x01\xbb"),
                  "2001:db8::7", 80);
}

static void extensions_are_passed_over(void **state) {
    assert_client(HEADER(0x21, 0x11,
                         V4 "\x01\x00\x02h2\x02\x00\x03"
                            "api\xea\x00\x00"),
                  "192.0.2.7", 54321);
}

static void a_proxy_may_speak_for_itself(void **state) {
    struct sp_address client = {.port = 7};
    const char *why;
    size_t len = 0;
    struct header plain = HEADER(0x20, 0x00, ""), strange = HEADER(0x20, 0xff, "whatever");
    assert_int_equal(parse(&plain, &client, &len, &why), SP_PROXY_LOCAL);
    assert_int_equal(len, 16);
    assert_int_equal(parse(&strange, &client, &len, &why), SP_PROXY_LOCAL);
    assert_int_equal(len, 24);
    assert_int_equal(client.port, 7);
}

/* Computed with another implementation, which knows that of "123456789" is 0xe3069283. */
static void a_checksum_that_is_there_must_fit(void **state) {
    struct header right = HEADER(0x21, 0x11, V4 "\x03\x00\x04" CHECKSUM_OF_V4);
    assert_client(right, "192.0.2.7", 54321);
    for (size_t i = 12; i < right.len; i++) {
        struct header wrong = right;
        struct sp_address client;
        const char *why;
        size_t len;
        wrong.bytes[i] ^= 1;
        if (parse(&wrong, &client, &len, &why) == SP_PROXY_CLIENT && i != right.len - 7) /* there it is an extension of another type */
            fail_msg("byte %zu may change", i);
    }
    assert_refused(HEADER(0x21, 0x11,
                          V4 "\x03\x00\x03"
                             "abc"),
                   "the checksum of the PROXY header is wrong");
}

static void a_header_in_pieces_asks_for_no_byte_too_many(void **state) {
    struct header whole = HEADER(0x21, 0x11, V4);
    struct sp_address client;
    const char *why;
    for (size_t have = 0; have < whole.len; have++) {
        struct header part = {.len = have};
        size_t len = 0;
        memcpy(part.bytes, whole.bytes, have);
        assert_int_equal(parse(&part, &client, &len, &why), SP_PROXY_MORE);
        assert_int_equal(len, have < 16 ? 16 : whole.len);
    }
}

static void what_is_no_header_is_refused_at_its_first_wrong_byte(void **state) {
    const char sentence[] = "the connection does not begin with a PROXY header of version 2";
    struct header tls = {.bytes = "\x16", .len = 1}, text = {.bytes = "PROXY TCP4", .len = 10}, late = {.len = 12};
    memcpy(late.bytes, sig, 12);
    late.bytes[11] = 0;
    assert_refused(tls, sentence);
    assert_refused(text, sentence);
    assert_refused(late, sentence);
}

static void what_is_not_about_tcp_or_does_not_add_up_is_refused(void **state) {
    assert_refused(HEADER(0x11, 0x11, V4), "the PROXY header has an unknown version or command");
    assert_refused(HEADER(0x22, 0x11, V4), "the PROXY header has an unknown version or command");
    const char other[] = "the PROXY header is not about a TCP connection over IPv4 or IPv6";
    assert_refused(HEADER(0x21, 0x00, ""), other);
    assert_refused(HEADER(0x21, 0x12, V4), other);
    assert_refused(HEADER(0x21, 0x31, V4), other);
    assert_refused(header(0x21, 0x11, V4, 11), "the PROXY header is too short for its addresses");
    assert_refused(HEADER(0x21, 0x21, V4), "the PROXY header is too short for its addresses");
    const char longer[] = "an extension of the PROXY header is longer than the header";
    assert_refused(HEADER(0x21, 0x11, V4 "\x01\x00"), longer);
    assert_refused(HEADER(0x21, 0x11, V4 "\x01\x00\x02x"), longer);
}

static void no_header_is_longer_than_536_bytes(void **state) {
    char body[SP_PROXY_HEADER_MAX - 16 + 1] = V4 "\x04\x01\xf9";
    assert_client(header(0x21, 0x11, body, SP_PROXY_HEADER_MAX - 16), "192.0.2.7", 54321);
    assert_refused(header(0x21, 0x11, body, SP_PROXY_HEADER_MAX - 16 + 1), "the PROXY header is longer than 536 bytes");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_client_is_who_the_proxy_says),
        cmocka_unit_test(extensions_are_passed_over),
        cmocka_unit_test(a_proxy_may_speak_for_itself),
        cmocka_unit_test(a_checksum_that_is_there_must_fit),
        cmocka_unit_test(a_header_in_pieces_asks_for_no_byte_too_many),
        cmocka_unit_test(what_is_no_header_is_refused_at_its_first_wrong_byte),
        cmocka_unit_test(what_is_not_about_tcp_or_does_not_add_up_is_refused),
        cmocka_unit_test(no_header_is_longer_than_536_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
