#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include <sallyport/base.h>

static void a_buffer_never_holds_more_than_its_maximum(void **state) {
    struct sp_buffer buffer;
    sp_buffer_init(&buffer, 1500);
    char bytes[1000] = {0};
    assert_int_equal(sp_buffer_append(&buffer, bytes, sizeof bytes), 0);
    assert_int_equal(sp_buffer_append(&buffer, bytes, 501), -ENOSPC);
    assert_int_equal(sp_buffer_len(&buffer), 1000); /* what does not fit changes nothing */
    assert_int_equal(sp_buffer_append(&buffer, bytes, 500), 0);
    assert_true(buffer.capacity <= 1500);
    sp_buffer_free(&buffer);
}

static void consumed_room_is_used_again_without_growing(void **state) {
    struct sp_buffer buffer;
    sp_buffer_init(&buffer, 1024);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(sp_buffer_append(&buffer, "0123456789", 10), 0);
        if (i % 2)
            sp_buffer_consume(&buffer, 19);
    }
    assert_true(buffer.capacity == 1024);
    assert_int_equal(sp_buffer_len(&buffer), 100 * 10 - 50 * 19);
    sp_buffer_free(&buffer);
}

static void bytes_come_out_in_the_order_they_went_in(void **state) {
    struct sp_buffer buffer;
    sp_buffer_init(&buffer, 64 * 1024);
    unsigned in = 0, out = 0;
    while (out < 20000) {
        unsigned char chunk[97];
        for (size_t i = 0; i < sizeof chunk; i++)
            chunk[i] = (unsigned char)(in++ * 31);
        assert_int_equal(sp_buffer_append(&buffer, chunk, sizeof chunk), 0);
        size_t n = sp_min((size_t)89, sp_buffer_len(&buffer));
        for (size_t i = 0; i < n; i++)
            assert_int_equal((unsigned char)sp_buffer_span(&buffer).at[i], (unsigned char)((out + i) * 31));
        sp_buffer_consume(&buffer, n);
        out += (unsigned)n;
    }
    sp_buffer_free(&buffer);
}

static void numbers_are_written_in_decimal(void **state) {
    struct sp_buffer buffer;
    sp_buffer_init(&buffer, 1024);
    assert_int_equal(sp_buffer_append_u64(&buffer, 0), 0);
    assert_int_equal(sp_buffer_append(&buffer, " ", 1), 0);
    assert_int_equal(sp_buffer_append_u64(&buffer, UINT64_MAX), 0);
    assert_true(sp_span_eq(sp_buffer_span(&buffer), SP_SPAN("0 18446744073709551615")));
    sp_buffer_free(&buffer);
}

static void a_json_string_is_valid_whatever_bytes_it_is_made_of(void **state) {
    struct {
        struct sp_span bytes;
        const char *json;
    } cases[] = {
        {SP_SPAN("plain"), "\"plain\""},
        {SP_SPAN("q\"b\\n\n\x01\x7f"), "\"q\\\"b\\\\n\\u000a\\u0001\\u007f\""},
        {SP_SPAN("\xc3\xa9"), "\"\xc3\xa9\""},
        {SP_SPAN("\xff\xc3"), "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {SP_SPAN("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* a surrogate */
        {SP_SPAN("\xc0\xaf"), "\"\xef\xbf\xbd\xef\xbf\xbd\""},                 /* an overlong slash */
        {SP_SPAN(""), "\"\""},
    };
    for (size_t i = 0; i < SP_COUNT(cases); i++) {
        struct sp_buffer buffer;
        sp_buffer_init(&buffer, 4096);
        assert_int_equal(sp_buffer_append_json(&buffer, cases[i].bytes), 0);
        assert_true(sp_span_eq(sp_buffer_span(&buffer), sp_span_text(cases[i].json)));
        sp_buffer_free(&buffer);
    }
}

static void long_formatted_text_grows_the_buffer_as_needed(void **state) {
    struct sp_buffer buffer;
    sp_buffer_init(&buffer, 8192);
    char long_text[3000];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    assert_int_equal(sp_buffer_printf(&buffer, "<%s>", long_text), 0);
    assert_int_equal(sp_buffer_len(&buffer), 3001);
    assert_int_equal(sp_buffer_printf(&buffer, "%s%s", long_text, long_text), -ENOSPC);
    sp_buffer_free(&buffer);
}

static void an_arena_gives_aligned_memory_up_to_its_maximum(void **state) {
    char first[64];
    struct sp_arena arena;
    sp_arena_init(&arena, first, sizeof first, 10000);
    size_t given = 0;
    for (void *at; (at = sp_arena_alloc(&arena, 100)); given += 100) {
        assert_int_equal((uintptr_t)at % 16 == 0 || (char *)at == first, 1);
        memset(at, 0xaa, 100);
    }
    assert_true(given >= 8500 && given <= 10000);
    assert_null(sp_arena_alloc(&arena, SIZE_MAX));
    assert_null(sp_arena_alloc(&arena, SIZE_MAX - 7));
    sp_arena_reset(&arena);
    assert_non_null(sp_arena_alloc(&arena, 100));
    sp_arena_reset(&arena);
}

static void a_pool_keeps_no_more_than_it_was_told(void **state) {
    struct sp_pool pool;
    void *objects[10];
    sp_pool_init(&pool, 48, 4);
    for (int i = 0; i < 10; i++)
        assert_non_null(objects[i] = sp_pool_get(&pool));
    assert_int_equal(pool.live, 10);
    for (int i = 0; i < 10; i++)
        sp_pool_put(&pool, objects[i]);
    assert_int_equal(pool.kept, 4);
    assert_int_equal(pool.live, 0);
    sp_pool_drain(&pool);
    assert_int_equal(pool.kept, 0);
}

struct entry {
    struct sp_map_node node;
    uint64_t value;
};

static void a_map_finds_what_it_holds_and_nothing_else(void **state) {
    enum { N = 1000 };
    static struct entry entries[N];
    struct sp_map map;
    sp_map_init(&map);
    for (uint64_t i = 0; i < N; i++) {
        entries[i].value = i;
        assert_int_equal(sp_map_add(&map, &entries[i].node, i / 2), 0); /* two share each hash */
    }
    for (uint64_t i = 0; i < N; i += 3)
        sp_map_remove(&map, &entries[i].node);
    for (uint64_t i = 0; i < N; i++) {
        bool found = false;
        for (struct sp_map_node *node = sp_map_first(&map, i / 2); node; node = sp_map_next(node))
            found |= SP_CONTAINER(node, struct entry, node)->value == i;
        assert_int_equal(found, i % 3 != 0);
    }
    assert_null(sp_map_first(&map, N));
    sp_map_free(&map);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_never_holds_more_than_its_maximum),
        cmocka_unit_test(consumed_room_is_used_again_without_growing),
        cmocka_unit_test(bytes_come_out_in_the_order_they_went_in),
        cmocka_unit_test(numbers_are_written_in_decimal),
        cmocka_unit_test(a_json_string_is_valid_whatever_bytes_it_is_made_of),
        cmocka_unit_test(long_formatted_text_grows_the_buffer_as_needed),
        cmocka_unit_test(an_arena_gives_aligned_memory_up_to_its_maximum),
        cmocka_unit_test(a_pool_keeps_no_more_than_it_was_told),
        cmocka_unit_test(a_map_finds_what_it_holds_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
