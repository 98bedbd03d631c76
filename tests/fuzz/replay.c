/* Runs one fuzz target over every file of its corpus folders: what a fuzzer once found, the unit tests check from then on. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static int replay_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    static uint8_t bytes[1 << 20];
    size_t len = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    /* A copy of the exact size, so that a sanitizer sees every byte read past the end. */
    uint8_t *exact = malloc(len ? len : 1);
    if (!exact)
        return 0;
    for (size_t i = 0; i < len; i++)
        exact[i] = bytes[i];
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
    return 1;
}

int main(int argc, char **argv) {
    int replayed = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        if (!folder) {
            perror(argv[i]);
            return 1;
        }
        for (struct dirent *entry; (entry = readdir(folder));) {
            if (entry->d_name[0] == '.')
                continue;
            char path[4096];
            if (snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name) < (int)sizeof path)
                replayed += replay_file(path);
        }
        closedir(folder);
    }
    printf("%d inputs replayed\n", replayed);
    return replayed > 0 ? 0 : 1; /* an empty corpus proves nothing */
}
