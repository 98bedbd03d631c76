#include "arrival.h"

#include <stdio.h>

static struct sp_http_request request;

static unsigned parse(const char *fields) {
    static char head[1024]; /* the request points into it */
    const char *reason;
    assert_true(snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", fields) < (int)sizeof head);
    return sp_http_parse_request(sp_span_text(head), &request, &reason);
}

static const struct {
    const char *name;
    enum sp_http_field_id id;
} known[] = {
    {"host", SP_FIELD_HOST},
    {"content-length", SP_FIELD_CONTENT_LENGTH},
    {"transfer-encoding", SP_FIELD_TRANSFER_ENCODING},
    {"connection", SP_FIELD_CONNECTION},
    {"keep-alive", SP_FIELD_KEEP_ALIVE},
    {"expect", SP_FIELD_EXPECT},
    {"upgrade", SP_FIELD_UPGRADE},
    {"te", SP_FIELD_TE},
    {"trailer", SP_FIELD_TRAILER},
    {"proxy-connection", SP_FIELD_PROXY_CONNECTION},
    {"proxy-authorization", SP_FIELD_PROXY_AUTHORIZATION},
    {"proxy-authenticate", SP_FIELD_PROXY_AUTHENTICATE},
    {"authorization", SP_FIELD_AUTHORIZATION},
    {"x-api-key", SP_FIELD_X_API_KEY},
    {"api-key", SP_FIELD_API_KEY},
    {"cookie", SP_FIELD_COOKIE},
    {"forwarded", SP_FIELD_FORWARDED},
    {"x-forwarded-for", SP_FIELD_X_FORWARDED},
    {"x-forwarded-host", SP_FIELD_X_FORWARDED},
    {"x-sallyport-identity", SP_FIELD_X_SALLYPORT},
    {"x-real-ip", SP_FIELD_X_REAL_IP},
    {"x-request-id", SP_FIELD_X_REQUEST_ID},
    {"traceparent", SP_FIELD_TRACEPARENT},
    {"tracestate", SP_FIELD_TRACESTATE},
    {"content-type", SP_FIELD_CONTENT_TYPE},
    {"content-encoding", SP_FIELD_CONTENT_ENCODING},
    {"accept", SP_FIELD_ACCEPT},
    {"accept-encoding", SP_FIELD_ACCEPT_ENCODING},
    {"accept-language", SP_FIELD_ACCEPT_LANGUAGE},
    {"user-agent", SP_FIELD_USER_AGENT},
    {"idempotency-key", SP_FIELD_IDEMPOTENCY_KEY},
    {"date", SP_FIELD_DATE},
    {"server", SP_FIELD_SERVER},
    {"set-cookie", SP_FIELD_SET_COOKIE},
    {"retry-after", SP_FIELD_RETRY_AFTER},
    {"x-ratelimit-remaining-requests", SP_FIELD_RATE_LIMIT},
    {"ratelimit", SP_FIELD_RATE_LIMIT},
    {"ratelimit-policy", SP_FIELD_RATE_LIMIT},
    {"strict-transport-security", SP_FIELD_STRICT_TRANSPORT_SECURITY},
    {"cache-control", SP_FIELD_CACHE_CONTROL},
    {"allow", SP_FIELD_ALLOW},
    {"content-disposition", SP_FIELD_CONTENT_DISPOSITION},
    {"content-language", SP_FIELD_CONTENT_LANGUAGE},
    {"content-range", SP_FIELD_CONTENT_RANGE},
    {"etag", SP_FIELD_ETAG},
    {"last-modified", SP_FIELD_LAST_MODIFIED},
    {"location", SP_FIELD_LOCATION},
    {"origin", SP_FIELD_ORIGIN},
    {"range", SP_FIELD_RANGE},
    {"vary", SP_FIELD_VARY},
    {"via", SP_FIELD_VIA},
    {"www-authenticate", SP_FIELD_WWW_AUTHENTICATE},
    {"openai-organization", SP_FIELD_OPENAI},
    {"anthropic-version", SP_FIELD_ANTHROPIC},
    {"x-stainless-lang", SP_FIELD_X_STAINLESS},
};

static void every_known_name_is_found_in_any_case(void **state) {
    uint64_t found = 0;
    for (size_t i = 0; i < SP_COUNT(known); i++) {
        char upper[64];
        struct sp_span name = sp_span_text(known[i].name);
        for (size_t j = 0; j < name.len; j++)
            upper[j] = name.at[j] >= 'a' && name.at[j] <= 'z' ? (char)(name.at[j] - 32) : name.at[j];
        assert_int_equal(sp_http_field_find(name), known[i].id);
        assert_int_equal(sp_http_field_find(sp_span(upper, name.len)), known[i].id);
        found |= UINT64_C(1) << known[i].id;
    }
    assert_true(found == ((UINT64_C(1) << SP_FIELD_COUNT) - 2)); /* every id but OTHER was asked for */
}

static void a_name_that_differs_in_one_byte_is_another_name(void **state) {
    for (size_t i = 0; i < SP_COUNT(known); i++) {
        char name[64];
        size_t len = strlen(known[i].name);
        memcpy(name, known[i].name, len);
        size_t family = known[i].id == SP_FIELD_OPENAI ? 7 : known[i].id == SP_FIELD_ANTHROPIC ? 10 : len > 12 && name[0] == 'x' ? 12 : len;
        for (size_t j = 0; j < family; j++) {
            char was = name[j];
            name[j] = '#';
            assert_int_equal(sp_http_field_find(sp_span(name, len)), SP_FIELD_OTHER);
            name[j] = (char)(was ^ 0x20); /* '-' becomes CR, a letter changes its case */
            assert_int_equal(sp_http_field_find(sp_span(name, len)), was == '-' ? SP_FIELD_OTHER : known[i].id);
            name[j] = was;
        }
    }
    assert_int_equal(sp_http_field_find(SP_SPAN("")), SP_FIELD_OTHER);
    assert_int_equal(sp_http_field_find(SP_SPAN("x-forwarded-")), SP_FIELD_OTHER);
}

static void a_name_of_any_length_is_told_from_a_short_one(void **state) {
    static char name[UINT16_MAX + 1 + 4];
    memset(name, 't', sizeof name);
    memcpy(name, "hos", 3);
    assert_int_equal(sp_http_field_find(sp_span(name, 4)), SP_FIELD_HOST);
    assert_int_equal(sp_http_field_find(sp_span(name, sizeof name)), SP_FIELD_OTHER);
}

static void values_are_trimmed_and_otherwise_as_sent(void **state) {
    assert_int_equal(parse("A: \t b\tc  d \t\r\nEmpty:\r\nBlank: \t \r\nBytes:\xc3\xa4\xff\r\n"), 0);
    assert_span(request.fields.item[1].name, "A");
    assert_span(request.fields.item[1].value, "b\tc  d");
    assert_span(request.fields.item[2].value, "");
    assert_span(request.fields.item[3].value, "");
    assert_span(request.fields.item[4].value, "\xc3\xa4\xff");
}

static void repeated_fields_are_all_kept_and_the_first_is_found(void **state) {
    assert_int_equal(parse("Accept: a\r\nX-A: b\r\nAccept: c\r\n"), 0);
    assert_int_equal(request.fields.count, 4);
    assert_span(sp_http_field(&request.fields, SP_FIELD_ACCEPT)->value, "a");
    assert_true(request.fields.repeated & UINT64_C(1) << SP_FIELD_ACCEPT);
    assert_false(request.fields.repeated & UINT64_C(1) << SP_FIELD_HOST);
}

static void fields_that_connection_names_are_hop_by_hop(void **state) {
    assert_int_equal(parse("X-Secret: a\r\nX-Secret: b\r\nConnection: close, x-secret\r\nConnection: HTTP2-Settings,TE\r\nHTTP2-Settings: "
                           "c\r\nTE: d\r\nX-Open: e\r\n"),
                     0);
    static const bool expected[] = {false, true, true, true, true, true, true, false};
    assert_int_equal(request.fields.count, SP_COUNT(expected));
    for (size_t i = 0; i < SP_COUNT(expected); i++)
        assert_int_equal(request.fields.item[i].hop_by_hop, expected[i]);
}

static void connection_specific_fields_are_hop_by_hop_by_their_name(void **state) {
    assert_int_equal(parse("Keep-Alive: a\r\nProxy-Connection: b\r\nTE: c\r\nUpgrade: d\r\nTrailer: e\r\nProxy-Authorization: f\r\n"), 0);
    for (unsigned i = 1; i < request.fields.count; i++)
        assert_true(request.fields.item[i].hop_by_hop);
}

static void too_many_connection_options_are_refused(void **state) {
    assert_int_equal(parse("Connection: a,b,c,d,e,f,g,h\r\nConnection: i,j,k,l,m,n,o,p\r\n"), 0);
    assert_int_equal(parse("Connection: a,b,c,d,e,f,g,h\r\nConnection: i,j,k,l,m,n,o,p,q\r\n"), 400);
}

static void every_byte_is_refused_in_a_name_unless_a_token_may_have_it(void **state) {
    for (unsigned byte = 1; byte < 256; byte++) {
        char field[] = "X?A: b\r\n";
        field[1] = (char)byte;
        bool allowed = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') || byte == ':' ||
                       strchr("!#$%&'*+-.^_`|~", (int)byte);
        assert_int_equal(parse(field), allowed ? 0 : 400);
        assert_int_equal(sp_http_is_token(sp_span(field, 3)), allowed && byte != ':');
    }
    assert_false(sp_http_is_token(SP_SPAN("")));
}

/* Names that nobody knows and one that everybody knows, of lengths around those that are looked at in one step. */
static void a_name_ends_at_its_colon_wherever_that_stands(void **state) {
    (void)state;
    for (size_t len = 1; len < 40; len++) {
        char field[64];
        memset(field, 'q', len);
        memcpy(field + len, ": v\r\n", sizeof ": v\r\n");
        assert_int_equal(parse(field), 0);
        assert_int_equal(request.fields.item[1].name.len, len);
        for (size_t at = 0; at < len; at++)
            for (const char *bad = " \t(\"\x7f\x80"; *bad; bad++) {
                field[at] = *bad;
                assert_int_equal(parse(field), 400);
                field[at] = 'q';
            }
    }
    assert_int_equal(parse("Accept :b\r\n"), 400);
    assert_int_equal(parse("Accept\r\nB: c\r\n"), 400);
    assert_int_equal(parse(":b\r\n"), 400);
    assert_int_equal(parse("Te:b:c\r\nA:\r\n"), 0);
    assert_int_equal(request.fields.item[1].id, SP_FIELD_TE);
    assert_span(request.fields.item[1].value, "b:c");
}

static void every_byte_is_refused_in_a_long_name_too(void **state) {
    (void)state;
    for (unsigned byte = 1; byte < 256; byte++)
        for (size_t at = 0; at < 35; at++) {
            char field[] = "Aqz09-Aqz09-Aqz09-Aqz09-Aqz09-Aqz09: b\r\n";
            field[at] = (char)byte;
            bool colon = byte == ':' && at > 0;
            assert_int_equal(parse(field), sp_http_is_token(sp_span(field + at, 1)) || colon ? 0 : 400);
        }
}

static void a_line_is_plain_when_it_stands_as_it_would_be_written(void **state) {
    (void)state;
    static const struct {
        const char *line;
        bool plain;
    } lines[] = {
        {"A: b", true}, {"a: b c\td", true}, {"A: \xc3\xa4", true}, {"Content-Type: text/plain; charset=utf-8", true}, {"A: :", true},
        {"A:b", false}, {"A:  b", false},    {"A:\tb", false},      {"A: \tb", false}, {"A: b ", false}, {"A: b\t", false},
        {"A:b ", false}, {"A:", false},      {"A:\t", false},       {"A:  ", false},
    };
    for (size_t i = 0; i < SP_COUNT(lines); i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "%s\r\n", lines[i].line);
        assert_int_equal(parse(text), 0);
        const struct sp_http_field *field = &request.fields.item[1];
        assert_int_equal(field->plain, lines[i].plain);
        struct sp_buffer checked, passed;
        sp_buffer_init(&checked, 128);
        sp_buffer_init(&passed, 128);
        assert_int_equal(sp_http_write_field(&checked, field->name, field->value), 0);
        assert_int_equal(sp_http_write_parsed(&passed, field), 0);
        assert_true(sp_span_eq(sp_buffer_span(&checked), sp_buffer_span(&passed)));
        if (field->plain)
            assert_true(sp_span_eq(sp_buffer_span(&passed), sp_span_text(text)));
        sp_buffer_free(&checked);
        sp_buffer_free(&passed);
    }
}

static void every_control_byte_but_tab_is_refused_in_a_value(void **state) {
    for (unsigned byte = 0; byte < 256; byte++)
        for (size_t at = 0; at < 75; at++) { /* some steps of every width */
            char value[75];
            memset(value, 'a', sizeof value);
            value[at] = (char)byte;
            assert_int_equal(sp_http_is_field_value(sp_span(value, sizeof value)), (byte >= 0x20 && byte != 0x7f) || byte == '\t');
        }
    assert_true(sp_http_is_field_value(SP_SPAN("")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_known_name_is_found_in_any_case),
        cmocka_unit_test(a_name_that_differs_in_one_byte_is_another_name),
        cmocka_unit_test(a_name_of_any_length_is_told_from_a_short_one),
        cmocka_unit_test(values_are_trimmed_and_otherwise_as_sent),
        cmocka_unit_test(repeated_fields_are_all_kept_and_the_first_is_found),
        cmocka_unit_test(fields_that_connection_names_are_hop_by_hop),
        cmocka_unit_test(connection_specific_fields_are_hop_by_hop_by_their_name),
        cmocka_unit_test(too_many_connection_options_are_refused),
        cmocka_unit_test(every_byte_is_refused_in_a_name_unless_a_token_may_have_it),
        cmocka_unit_test(a_name_ends_at_its_colon_wherever_that_stands),
        cmocka_unit_test(every_byte_is_refused_in_a_long_name_too),
        cmocka_unit_test(a_line_is_plain_when_it_stands_as_it_would_be_written),
        cmocka_unit_test(every_control_byte_but_tab_is_refused_in_a_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
