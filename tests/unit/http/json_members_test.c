#include "scanning.h"

static void a_name_stands_once_in_an_object(void **state) {
    assert_refused_at("{\"a\":1,\"a\":1}", 7, "duplicate");
    assert_refused_at("{\"a\":1,\"b\":{},\"a\":1}", 14, "duplicate");
    assert_refused_at("{\"\":1,\"\":1}", 6, "duplicate");
    assert_refused_at("{\"model\":\"a\",\"model\":\"b\"}", 13, "duplicate");
    assert_refused_at("{\"a\":[{\"b\":{\"c\":1,\"d\":2,\"c\":3}}]}", 24, "duplicate");
}

static void names_are_compared_decoded(void **state) {
    assert_refused_at("{\"a\":1,\"\\u0061\":1}", 7, "duplicate");
    assert_refused_at("{\"\\u0061\":1,\"a\":1}", 12, "duplicate");
    assert_refused_at("{\"/\":1,\"\\/\":1}", 7, "duplicate");
    assert_refused_at("{\"\xc3\xa9\":1,\"\\u00E9\":1}", 8, "duplicate");
    assert_refused_at("{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\ude00\":1}", 10, "duplicate");
    assert_refused_at("{\"\\u0000\":1,\"\\u0000\":1}", 12, "duplicate");
    asked("{\"a\":1,\"A\":1,\"a\\u0000\":1,\"a \":1,\"\\\\u0061\":1,\"e\xcc\x81\":1,\"\xc3\xa9\":1}");
}

static void other_objects_may_have_the_same_names(void **state) {
    asked("{\"a\":{\"a\":{\"a\":1,\"b\":2},\"b\":3},\"b\":4}");
    asked("{\"a\":[{\"a\":1},{\"a\":2},[{\"a\":3}]],\"c\":{\"a\":4}}");
    assert_refused_at("{\"a\":{\"a\":{\"a\":1}},\"a\":2}", 19, "duplicate");
}

static void names_of_seven_and_eight_bytes_are_told_apart(void **state) {
    asked("{\"abcdefg\":1,\"abcdefg\\u0007\":2,\"abcdefg\\u0008\":3,\"abcdefgh\":4,\"abcdefg\\u0000\":5}");
    assert_refused_at("{\"messages\":1,\"messages\":2}", 14, "duplicate");
    assert_refused_at("{\"abcdefg\\u0007\":1,\"abcdefg\\u0007\":2}", 19, "duplicate");
}

/* Longer than any buffer, and different in one byte only. */
static void names_of_any_length_are_told_apart(void **state) {
    static const size_t lengths[] = {8, 63, 255, 256, 257, 258, 300, 512, 513, 5000, 100000};
    for (size_t i = 0; i < SP_COUNT(lengths); i++) {
        size_t len = lengths[i], size = 2 * len + 32;
        char *body = malloc(size);
        assert_non_null(body);
        for (size_t differs = 0; differs <= len; differs += sp_max(len / 7, (size_t)1)) { /* at the end: not at all */
            int n = snprintf(body, size, "{\"%0*d\":1,\"%0*d\":2}", (int)len, 0, (int)len, 0);
            if (differs < len)
                body[len + 7 + differs] = '1';
            struct scanned scanned = scan_in_steps(sp_span(body, (size_t)n), differs % 2 ? 1000 : SIZE_MAX);
            if (differs < len) {
                assert_int_equal(scanned.progress, SP_HTTP_COMPLETE);
            } else {
                assert_int_equal(scanned.progress, SP_HTTP_REFUSED);
                assert_int_equal(scanned.wrong_at, len + 6);
            }
        }
        body[0] = '{';
        int n = snprintf(body, size, "{\"%0*d\":1,\"%0*d\":2}", (int)len, 0, (int)len, 0);
        assert_refused_span(sp_span(body, (size_t)n), len + 6, "duplicate");
        free(body);
    }
}

/* An object of `count` members within `levels` objects of one; the name of the last is that of member `last`. */
static size_t many(char *out, size_t size, unsigned levels, unsigned count, unsigned last) {
    size_t len = 0;
    for (unsigned i = 0; i < levels; i++)
        len += (size_t)snprintf(out + len, size - len, "{\"outer\":");
    for (unsigned i = 0; i < count; i++)
        len += (size_t)snprintf(out + len, size - len, "%s\"%x\":%u", i ? "," : "{", i + 1 == count ? last : i, i);
    for (unsigned i = 0; i <= levels; i++)
        out[len++] = '}';
    assert_true(len < size);
    return len;
}

static void four_thousand_and_ninety_six_members_may_be_open(void **state) {
    enum { SIZE = 16 * (SP_JSON_MEMBERS_MAX + 2) };
    char *body = malloc(SIZE);
    assert_non_null(body);
    size_t len = many(body, SIZE, 0, SP_JSON_MEMBERS_MAX, SP_JSON_MEMBERS_MAX - 1);
    assert_int_equal(scan_span(sp_span(body, len)).progress, SP_HTTP_COMPLETE);
    len = many(body, SIZE, 0, SP_JSON_MEMBERS_MAX, 17);
    struct scanned scanned = scan_span(sp_span(body, len));
    assert_int_equal(scanned.progress, SP_HTTP_REFUSED);
    assert_non_null(strstr(scanned.wrong, "duplicate"));

    len = many(body, SIZE, 0, SP_JSON_MEMBERS_MAX + 1, SP_JSON_MEMBERS_MAX);
    scanned = scan_span(sp_span(body, len));
    assert_int_equal(scanned.progress, SP_HTTP_REFUSED);
    assert_non_null(strstr(scanned.wrong, "too many members"));
    len = many(body, SIZE, 3, SP_JSON_MEMBERS_MAX - 3, SP_JSON_MEMBERS_MAX - 4);
    assert_int_equal(scan_span(sp_span(body, len)).progress, SP_HTTP_COMPLETE);
    len = many(body, SIZE, 3, SP_JSON_MEMBERS_MAX - 2, SP_JSON_MEMBERS_MAX - 3);
    assert_int_equal(scan_span(sp_span(body, len)).progress, SP_HTTP_REFUSED);
    free(body);
}

/* However many there are, and whatever is open around them. */
static void each_of_any_number_of_members_is_remembered(void **state) {
    char body[4096];
    for (unsigned levels = 0; levels <= 3; levels++) {
        for (unsigned count = 2; count <= 40; count++) {
            for (unsigned last = 0; last < count; last++) {
                size_t len = many(body, sizeof body, levels, count, last);
                assert_int_equal(scan_span(sp_span(body, len)).progress, last + 1 == count ? SP_HTTP_COMPLETE : SP_HTTP_REFUSED);
            }
        }
    }
}

/* Few members, then an object with many, then the few again. */
static void an_object_with_many_members_changes_nothing_for_those_around_it(void **state) {
    char body[4096];
    static const char *const twice[] = {"1", "2", "x"};
    for (unsigned i = 0; i < SP_COUNT(twice); i++) {
        size_t len = (size_t)snprintf(body, sizeof body, "{\"1\":0,\"2\":");
        len += many(body + len, sizeof body - len, 1, 30, 29);
        len += (size_t)snprintf(body + len, sizeof body - len, ",\"3\":{\"1\":0,\"2\":0},\"%s\":0}", twice[i]);
        assert_int_equal(scan_span(sp_span(body, len)).progress, *twice[i] == 'x' ? SP_HTTP_COMPLETE : SP_HTTP_REFUSED);
    }
}

static void closed_objects_give_their_members_back(void **state) {
    enum { OBJECTS = 30, EACH = 1000, SIZE = OBJECTS * EACH * 16 };
    char *body = malloc(SIZE);
    assert_non_null(body);
    size_t len = (size_t)snprintf(body, SIZE, "{\"list\":[");
    for (unsigned i = 0; i < OBJECTS; i++) {
        body[len] = ',';
        len += i > 0;
        len += many(body + len, SIZE - len, 2, EACH, EACH - 1);
    }
    len += (size_t)snprintf(body + len, SIZE - len, "],\"0\":1,\"list2\":2}");
    assert_int_equal(scan_span(sp_span(body, len)).progress, SP_HTTP_COMPLETE);
    memcpy(body + len - 10, "\"list\" ", 7); /* the outermost ones are still known */
    assert_int_equal(scan_span(sp_span(body, len)).progress, SP_HTTP_REFUSED);
    free(body);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_stands_once_in_an_object),
        cmocka_unit_test(names_are_compared_decoded),
        cmocka_unit_test(other_objects_may_have_the_same_names),
        cmocka_unit_test(names_of_seven_and_eight_bytes_are_told_apart),
        cmocka_unit_test(names_of_any_length_are_told_apart),
        cmocka_unit_test(four_thousand_and_ninety_six_members_may_be_open),
        cmocka_unit_test(each_of_any_number_of_members_is_remembered),
        cmocka_unit_test(an_object_with_many_members_changes_nothing_for_those_around_it),
        cmocka_unit_test(closed_objects_give_their_members_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
