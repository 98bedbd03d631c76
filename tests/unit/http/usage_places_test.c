/* Each member that means something is found by its name: none stands in another's way, and no name that is nearly one finds it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "usage_places.h"

static struct sp_span name_of(const struct sp_place_member *member) {
    return sp_span(member->name, strnlen(member->name, sizeof member->name));
}

static void each_member_is_found_by_its_name(void **state) {
    unsigned found = 0;
    for (unsigned object = 0; object < SP_PLACE_NUMBER; object++)
        for (unsigned i = 0; i < SP_PLACE_MEMBERS_MAX && sp_place_members[object].mark[i]; i++, found++) {
            const struct sp_place_member *member = &sp_place_members[object].member[i];
            assert_int_equal(sp_place_of_member((enum sp_place)object, name_of(member)), member->place);
        }
    assert_in_range(found, 40, 80);
}

static void a_name_with_one_other_byte_is_another(void **state) {
    for (unsigned object = 0; object < SP_PLACE_NUMBER; object++)
        for (unsigned i = 0; i < SP_PLACE_MEMBERS_MAX && sp_place_members[object].mark[i]; i++) {
            struct sp_span name = name_of(&sp_place_members[object].member[i]);
            char changed[SP_PLACE_NAME_MAX + 1];
            for (size_t at = 0; at < name.len; at++) {
                memcpy(changed, name.at, name.len);
                changed[at] ^= 1;
                assert_int_equal(sp_place_of_member((enum sp_place)object, sp_span(changed, name.len)), SP_PLACE_NONE);
            }
            memcpy(changed, name.at, name.len);
            changed[name.len] = 's';
            assert_int_equal(sp_place_of_member((enum sp_place)object, sp_span(changed, name.len + 1)), SP_PLACE_NONE);
            assert_int_equal(sp_place_of_member((enum sp_place)object, sp_span(changed, name.len - 1)), SP_PLACE_NONE);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_member_is_found_by_its_name),
        cmocka_unit_test(a_name_with_one_other_byte_is_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
