/* Prints what the table of fields says: `describe schema` or `describe manual`. Run while building, and by the test that keeps the page
 * in doc/ true. */
#include <stdio.h>

#include <sallyport/config.h>

int main(int argc, char **argv) {
    struct sp_buffer text;
    sp_buffer_init(&text, (size_t)1 << 20);
    int failed = 1;
    if (argc == 2 && strcmp(argv[1], "schema") == 0)
        failed = sp_config_schema(&text);
    else if (argc == 2 && strcmp(argv[1], "manual") == 0)
        failed = sp_config_manual(&text);
    else
        fprintf(stderr, "usage: %s schema|manual\n", argv[0]);
    struct sp_span all = sp_buffer_span(&text);
    if (!failed && fwrite(all.at, 1, all.len, stdout) != all.len)
        failed = 1;
    sp_buffer_free(&text);
    return failed || fflush(stdout) ? 1 : 0;
}
