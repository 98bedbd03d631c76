/* JSON read without a tree: what it holds, what is refused, and that jansson would say the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "json.h"

#define TEXT_MAX 512

static char text[TEXT_MAX + 1];
static struct sp_json_value *values;

/* Room for exactly what is promised, so that a byte or value more is found by who looks for such things. NULL: refused. */
static const struct sp_json_value *read_span(struct sp_span from) {
    assert_true(from.len <= TEXT_MAX);
    memcpy(text, from.at, from.len);
    free(values);
    values = malloc(SP_JSON_VALUES_MAX(from.len) * sizeof *values);
    assert_non_null(values);
    return sp_json_value_read(text, from.len, values) ? values : NULL;
}

static const struct sp_json_value *read_text(const char *from) { return read_span(sp_span_text(from)); }

static int end_test(void **state) {
    free(values);
    values = NULL;
    return 0;
}

static void a_container_stands_before_what_is_in_it(void **state) {
    const struct sp_json_value *object = read_text(" {\"a\":[1,[],{\"b\":null}],\"c\":true,\"d\":-2.5e1,\"e\":\"x\"}\r\n\t");
    assert_non_null(object);
    assert_int_equal(object->size, 9);
    const struct sp_json_value *a = sp_json_value_member(object, SP_SPAN("a"));
    assert_ptr_equal(a, object + 1);
    assert_int_equal(a->kind, SP_JSON_ARRAY);
    assert_int_equal(a->size, 5);
    assert_int_equal(a[1].integer, 1);
    assert_int_equal(a[2].size, 1);
    assert_int_equal(sp_json_value_member(a + 3, SP_SPAN("b"))->kind, SP_JSON_NULL);
    assert_int_equal(sp_json_value_member(object, SP_SPAN("c"))->kind, SP_JSON_TRUE);
    assert_true(sp_json_value_member(object, SP_SPAN("d"))->real == -25);
    struct sp_span e;
    assert_true(sp_json_value_text(sp_json_value_member(object, SP_SPAN("e")), &e) && sp_span_eq(e, SP_SPAN("x")));
}

static void what_is_not_there_is_null_and_no_text(void **state) {
    const struct sp_json_value *object = read_text("{\"a\":[\"b\"],\"c\":1}");
    struct sp_span ignored;
    assert_null(sp_json_value_member(object, SP_SPAN("b")));
    assert_null(sp_json_value_member(object, SP_SPAN("")));
    assert_null(sp_json_value_member(sp_json_value_member(object, SP_SPAN("a")), SP_SPAN("")));
    assert_null(sp_json_value_member(NULL, SP_SPAN("a")));
    assert_false(sp_json_value_text(NULL, &ignored));
    assert_false(sp_json_value_text(sp_json_value_member(object, SP_SPAN("c")), &ignored));
}

static void escapes_are_decoded(void **state) {
    const struct sp_json_value *object =
        read_text("{\"\\u0061\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\\u20AC\\ud83d\\ude00\\u007f\xc3\xa4 end\"}");
    struct sp_span found;
    assert_non_null(object);
    assert_true(sp_json_value_text(sp_json_value_member(object, SP_SPAN("a")), &found));
    assert_true(sp_span_eq(found, SP_SPAN("\"\\/\b\f\n\r\t\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\x7f\xc3\xa4 end")));
}

static void only_one_object_to_the_letter_is_read(void **state) {
    static const char *const refused[] = {
        "",
        " ",
        "[]",
        "1",
        "\"a\"",
        "null",
        "{",
        "}",
        "{}{}",
        "{} x",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":[1,]}",
        "{\"a\":[,1]}",
        "{\"a\":[1 2]}",
        "{\"a\":[}",
        "{\"a\":{]}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":tru}",
        "{\"a\":nullx}",
        "{\"a\":True}",
        "{\"a\":01}",
        "{\"a\":-}",
        "{\"a\":+1}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":1e}",
        "{\"a\":1e+}",
        "{\"a\":0x1}",
        "{\"a\":-01}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":1e999}",
        "{\"a\":-1e999}",
        "{\"a\":9223372036854775808}",
        "{\"a\":-9223372036854775809}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\t\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\\u0000\"}",
        "{\"\\u0000\":1}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\ud800\\u0061\"}",
        "{\"a\":\"\\udc00\"}",
        "{\"a\":\"\\ud800\\ud800\"}",
        "{\"a\":\"",
        "{\"a\":\"\\",
        "{\"a\":\"\\u",
        "{\"a\":\"\\u00",
        "{\"a\":\"\\ud800\\u",
        "{\"a\":\"\xff\"}",
        "{\"a\":\"\xc0\x80\"}",
        "{\"a\":\"\xed\xa0\x80\"}",
        "{\"a\":\"\xc3\"}",
        "\xef\xbb\xbf{}",
        "{}\xc2\xa0",
        "{\"a\":1,\"a\":1}",
        "{\"a\":1,\"\\u0061\":1}",
        "{\"x\":[{\"a\":{},\"b\":{},\"a\":{}}]}",
        "{\"\":1,\"\":2}",
        "{//\n}",
        "{\"a\":1/**/}",
    };
    for (size_t i = 0; i < SP_COUNT(refused); i++)
        assert_null(read_text(refused[i]));
    assert_null(read_span(sp_span("{}\0", 3)));
    assert_null(read_span(sp_span("{\"a\":\"\0\"}", 9)));
    assert_null(read_span(sp_span("{\"a\0\":1}", 8)));
    static const char *const taken[] = {"{}",
                                        "{\"a\":-0}",
                                        "{\"a\":9223372036854775807}",
                                        "{\"a\":-9223372036854775808}",
                                        "{\"a\":1e-999}",
                                        "{\"a\":0.0E+00}",
                                        "{\"a\":{\"a\":{\"a\":1}}}",
                                        "{\"\":1}"};
    for (size_t i = 0; i < SP_COUNT(taken); i++)
        assert_non_null(read_text(taken[i]));
}

static void depth_is_bounded(void **state) {
    char nested[4 * SP_JSON_DEPTH_MAX + 16];
    for (size_t depth = 1; depth <= SP_JSON_DEPTH_MAX + 1; depth++) {
        size_t n = 0;
        memcpy(nested, "{\"\":", 4);
        for (n = 4; n < 4 + depth - 1; n++)
            nested[n] = '[';
        assert_null(read_span(sp_span(nested, n))); /* not closed: no more values than there is room for */
        if (depth == 1)
            nested[n++] = '0';
        for (size_t i = 1; i < depth; i++)
            nested[n++] = ']';
        nested[n++] = '}';
        assert_int_equal(read_span(sp_span(nested, n)) != NULL, depth <= SP_JSON_DEPTH_MAX);
    }
}

static void twins_are_found_among_many_names(void **state) {
    for (size_t count = 2; count <= 40; count++)
        for (size_t twin = 0; twin < count; twin++) { /* of the last; that itself: none */
            char many[TEXT_MAX];
            size_t n = 0;
            many[n++] = '{';
            for (size_t i = 0; i < count; i++) {
                size_t name = i == count - 1 ? twin : i;
                const char member[] = {i ? ',' : ' ', '"', (char)('a' + name % 10), (char)('a' + name / 10), '"', ':', '0'};
                memcpy(many + n, member, sizeof member);
                n += sizeof member;
            }
            many[n++] = '}';
            assert_int_equal(read_span(sp_span(many, n)) != NULL, twin == count - 1);
        }
}

/* ---- A second opinion ---- */

static void assert_same(const struct sp_json_value *ours, const json_t *theirs) {
    const char *name;
    json_t *item;
    size_t i, count = 0;
    switch (json_typeof(theirs)) {
    case JSON_OBJECT:
        assert_int_equal(ours->kind, SP_JSON_OBJECT);
        json_object_foreach((json_t *)(uintptr_t)theirs, name, item) {
            const struct sp_json_value *member = sp_json_value_member(ours, sp_span_text(name));
            assert_non_null(member);
            assert_same(member, item);
        }
        sp_json_value_each(member, ours) count++;
        assert_int_equal(count, json_object_size(theirs));
        break;
    case JSON_ARRAY:
        assert_int_equal(ours->kind, SP_JSON_ARRAY);
        sp_json_value_each(element, ours) count++;
        assert_int_equal(count, json_array_size(theirs));
        ours++;
        json_array_foreach(theirs, i, item) {
            assert_same(ours, item);
            ours += ours->size;
        }
        break;
    case JSON_STRING:
        assert_int_equal(ours->kind, SP_JSON_STRING);
        assert_true(sp_span_eq(ours->text, sp_span(json_string_value(theirs), json_string_length(theirs))));
        break;
    case JSON_INTEGER:
        assert_int_equal(ours->kind, SP_JSON_INTEGER);
        assert_true(ours->integer == json_integer_value(theirs));
        break;
    case JSON_REAL:
        assert_int_equal(ours->kind, SP_JSON_REAL);
        assert_memory_equal(&ours->real, &(double){json_real_value(theirs)}, sizeof ours->real);
        break;
    default:
        assert_int_equal(ours->kind, json_is_true(theirs) ? SP_JSON_TRUE : json_is_false(theirs) ? SP_JSON_FALSE : SP_JSON_NULL);
    }
}

static uint64_t state_of_chance = 1;

static size_t chance(size_t below) {
    state_of_chance = state_of_chance * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (size_t)(state_of_chance >> 33) % below;
}

static size_t mutate(char *at, size_t len) {
    static const char pieces[][8] = {"{",       "}",    "[", "]",  ":",        ",",        "\"",   "\\",   "\\u",    "\\ud83d",
                                     "\\ude00", "0061", "1", "0",  "-",        ".",        "e9",   "E+",   "\"a\":", "\"a\"",
                                     "true",    "null", " ", "\n", "\xc3\xa4", "\xf0\x9f", "\xff", "\x7f", "\x1f"};
    size_t where = chance(len + 1), out = chance(4);
    out = sp_min(out, len - where);
    const char *piece = pieces[chance(SP_COUNT(pieces))];
    size_t in = chance(3) ? strlen(piece) : 0;
    if (len - out + in > TEXT_MAX)
        in = 0;
    memmove(at + where + in, at + where + out, len - where - out);
    memcpy(at + where, piece, in);
    return len - out + in;
}

static void jansson_reads_the_same(void **state) {
    static const char *const seeds[] = {
        "{\"iss\":\"https://login.example\",\"aud\":[\"a\",\"b\"],\"exp\":1800000600,\"iat\":1800000000.5,\"roles\":[\"chat\"]}",
        "{\"a\":{\"b\":[1,-2,3e4,0.5E-3,true,false,null,{}]},\"c\":\"\\u00e4\\ud83d\\ude00\\n\",\"d\":[[],[[]]],\"\":\"\"}",
        ("{\"a\":0,\"b\":0,\"c\":0,\"d\":0,\"e\":0,\"f\":0,\"g\":0,\"h\":0,\"i\":0,\"j\":0,\"k\":0,\"l\":0,\"m\":0,\"n\":0,\"o\":0,\"p\":0,"
         "\"q\":0}"),
    };
    size_t taken = 0;
    for (size_t i = 0; i < 300000; i++) {
        char mutated[TEXT_MAX];
        size_t len = strlen(seeds[i % SP_COUNT(seeds)]);
        memcpy(mutated, seeds[i % SP_COUNT(seeds)], len);
        for (size_t n = chance(4); n < 4; n++)
            len = mutate(mutated, len);
        json_t *theirs = sp_json_object(sp_span(mutated, len));
        const struct sp_json_value *ours = read_span(sp_span(mutated, len));
        if ((theirs == NULL) != (ours == NULL))
            fail_msg("%s by us alone: " SP_SPAN_FMT, ours ? "taken" : "refused", (int)len, mutated);
        if (ours)
            assert_same(ours, theirs);
        taken += ours != NULL;
        json_decref(theirs);
    }
    assert_true(taken > 10000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_container_stands_before_what_is_in_it, end_test),
        cmocka_unit_test_teardown(what_is_not_there_is_null_and_no_text, end_test),
        cmocka_unit_test_teardown(escapes_are_decoded, end_test),
        cmocka_unit_test_teardown(only_one_object_to_the_letter_is_read, end_test),
        cmocka_unit_test_teardown(depth_is_bounded, end_test),
        cmocka_unit_test_teardown(twins_are_found_among_many_names, end_test),
        cmocka_unit_test_teardown(jansson_reads_the_same, end_test),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
