/* Thousands of answers, each one of the folder that is given as the program's argument with a few bytes changed, through the fuzz target's
 * invariants: the same whatever the pieces they come in, and jansson is the second opinion. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <dirent.h>

#include "changing.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len); /* aborts where something does not hold */

enum { ANSWER_MAX = 8192, ANSWERS_MAX = 64 };

static const char *folder;
static struct answer {
    char bytes[ANSWER_MAX];
    size_t len;
} answers[ANSWERS_MAX];
static size_t answer_count;

static const char *const pieces[] = {
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\\\"",
    "\\u0022",
    " ",
    "\n",
    "\r\n",
    "\n\n",
    "data:",
    "data: ",
    "data: {}\n\n",
    ": comment\n",
    "0",
    "-1",
    "1.5",
    "1000000001",
    "99999999999999999999",
    "null",
    "true",
    "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}",
    "\"usage\":null,",
    "\"choices\":[],",
    "\"total_tokens\":12,",
    "\"output_tokens\":7,",
    "\"input_tokens_details\":{},",
    "\"content\":\"text\",",
    "\"content\":[\"a\",{\"b\":[1]}],",
    "\"content_of_a_name_that_is_longer_than_any_that_has_a_place\":1,",
    "[[[[",
    "]]]]",
    "{\"a\":{\"a\":",
};

static void read_answer(const char *name) {
    char path[4096];
    struct answer *answer = &answers[answer_count];
    FILE *file = snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path ? fopen(path, "rb") : NULL;
    if (!file)
        return;
    answer->len = fread(answer->bytes, 1, sizeof answer->bytes, file);
    answer_count += answer->len > 0;
    fclose(file);
}

/* In the order of their names, so that each run is the same. */
static int read_answers(void **state) {
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < count; free(entries[i++]))
        if (entries[i]->d_name[0] != '.' && answer_count < ANSWERS_MAX)
            read_answer(entries[i]->d_name);
    if (count >= 0)
        free(entries);
    return 0;
}

static void a_changed_answer_is_read_as_jansson_reads_it_in_whatever_pieces(void **state) {
    enum { ROUNDS = 3000 };
    random_state = 0x5a11;
    assert_in_range(answer_count, 10, ANSWERS_MAX);
    for (unsigned i = 0; i < ROUNDS; i++) {
        char body[ANSWER_MAX + 1024];
        const struct answer *answer = &answers[random_below(answer_count)];
        memcpy(body, answer->bytes, answer->len);
        size_t len = change(body, answer->len, sizeof body, pieces, SP_COUNT(pieces));
        LLVMFuzzerTestOneInput((const uint8_t *)body, len);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_changed_answer_is_read_as_jansson_reads_it_in_whatever_pieces),
    };
    folder = argc > 1 ? argv[1] : ".";
    return cmocka_run_group_tests(tests, read_answers, NULL);
}
