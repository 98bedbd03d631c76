#include "support.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static void assert_text(const char *literal, const char *expected) {
    uint8_t bytes[16];
    char out[SP_ADDRESS_TEXT_MAX];
    assert_true(sp_address_parse(sp_span_text(literal), bytes));
    assert_int_equal(sp_address_text(bytes, out), strlen(expected));
    assert_string_equal(out, expected);
}

static void literals_are_read_and_written_in_their_shortest_form(void **state) {
    assert_text("192.0.2.1", "192.0.2.1");
    assert_text("::1", "::1");
    assert_text("2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1");
    assert_text("::ffff:192.0.2.1", "192.0.2.1"); /* the same host by another name */
    assert_text("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
}

static void what_is_not_a_literal_is_refused_and_changes_nothing(void **state) {
    const char *const wrong[] = {"",
                                 "localhost",
                                 "192.0.2",
                                 "192.0.2.1 ",
                                 "192.0.2.256",
                                 "[::1]",
                                 "::1%eth0",
                                 "1.2.3.4:80",
                                 "0x7f.1",
                                 ":::",
                                 "1::2::3",
                                 "2001:db8::12345",
                                 "192.0.2.01.1",
                                 "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.2555"};
    for (size_t i = 0; i < SP_COUNT(wrong); i++) {
        uint8_t bytes[16], before[16];
        memset(bytes, 0x5a, sizeof bytes);
        memcpy(before, bytes, sizeof bytes);
        if (sp_address_parse(sp_span_text(wrong[i]), bytes))
            fail_msg("\"%s\" was taken", wrong[i]);
        assert_memory_equal(bytes, before, sizeof bytes);
    }
    uint8_t bytes[16];
    assert_false(sp_address_parse(SP_SPAN("127.0.0.1\0.evil"), bytes));
}

static void a_socket_address_survives_the_way_there_and_back(void **state) {
    const struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(443), .sin_addr = {htonl(0xc0000201)}};
    struct sp_address address;
    struct sockaddr_storage back;
    sp_address_from_sockaddr((const struct sockaddr *)&v4, &address);
    assert_int_equal(address.port, 443);
    assert_int_equal(sp_address_to_sockaddr(&address, &back), sizeof v4);
    assert_memory_equal(&back, &v4, sizeof v4);

    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(8443)};
    assert_int_equal(inet_pton(AF_INET6, "2001:db8::7", &v6.sin6_addr), 1);
    sp_address_from_sockaddr((const struct sockaddr *)&v6, &address);
    assert_int_equal(sp_address_to_sockaddr(&address, &back), sizeof v6);
    assert_memory_equal(&back, &v6, sizeof v6);
}

static void a_peer_without_an_address_is_all_zeros(void **state) {
    const struct sockaddr local = {.sa_family = AF_UNIX};
    struct sp_address address;
    sp_address_from_sockaddr(&local, &address);
    assert_memory_equal(&address, &(struct sp_address){0}, sizeof address);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals_are_read_and_written_in_their_shortest_form),
        cmocka_unit_test(what_is_not_a_literal_is_refused_and_changes_nothing),
        cmocka_unit_test(a_socket_address_survives_the_way_there_and_back),
        cmocka_unit_test(a_peer_without_an_address_is_all_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
