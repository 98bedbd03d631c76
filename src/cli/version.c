/* sallyport version: ours, and that of every library that any of our programs is linked with; and under which licence each is. */
#include <getopt.h>
#include <gnu/libc-version.h>
#include <stdio.h>

#include <curl/curl.h>
#include <hiredis/hiredis.h>
#include <jansson.h>
#include <microhttpd.h>
#include <openssl/crypto.h>
#include <yaml.h>

#include "commands.h"

#define TEXT_OF(number) #number
#define DOTTED(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

#define OUR_LICENSE "Apache-2.0"

struct library {
    const char *name, *version;
    const char *license; /* SPDX */
    const char *files;   /* what readelf -d calls it, without the version; more than one: parted by a blank */
};

static void help(void) {
    puts("usage: sallyport version [--json]\n"
         "\n"
         "The version of Sallyport and of the libraries that its programs are running with (hiredis and libjwt: built with),\n"
         "and the licence of each (SPDX).\n"
         "\n"
         "  --json   one JSON object\n"
         "  --help   this text");
}

static json_t *json_of_library(const struct library *library) {
    json_t *files = json_array();
    struct sp_span rest = sp_span_text(library->files), file;
    while (sp_span_split(&rest, ' ', &file))
        json_array_append_new(files, json_stringn(file.at, file.len));
    return json_pack("{s:s, s:s, s:o}", "version", library->version, "license", library->license, "files", files);
}

static void print_json(const struct library *libraries, size_t n) {
    json_t *object = json_object();
    for (size_t i = 0; i < n; i++)
        json_object_set_new(object, libraries[i].name, json_of_library(&libraries[i]));
    json_t *all = json_pack("{s:s, s:s, s:o}", "sallyport", SP_VERSION, "license", OUR_LICENSE, "libraries", object);
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
}

int sp_command_version(int argc, char **argv) {
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool json = false;
    for (int option; (option = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        switch (option) {
        case 'j': json = true; break;
        case 'h': help(); return SP_EXIT_OK;
        default: return sp_wrong_option("version", option, argv);
        }
    }
    if (optind < argc)
        return sp_wrong_usage("version", "%s is one word too many", argv[optind]);

    const struct library libraries[] = {
        {"OpenSSL", OpenSSL_version(OPENSSL_VERSION_STRING), "Apache-2.0", "libssl libcrypto"},
        {"libmicrohttpd", MHD_get_version(), "LGPL-2.1-or-later", "libmicrohttpd"},
        {"libcurl", curl_version_info(CURLVERSION_NOW)->version, "curl", "libcurl"},
        {"hiredis", DOTTED(HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH), "BSD-3-Clause", "libhiredis"},
        {"libjwt", SP_LIBJWT_VERSION, "MPL-2.0", "libjwt"}, /* it does not tell at run time */
        {"jansson", jansson_version_str(), "MIT", "libjansson"},
        {"libyaml", yaml_get_version_string(), "MIT", "libyaml-0"},
        {"glibc", gnu_get_libc_version(), "LGPL-2.1-or-later", "libc"},
    };
    if (json) {
        print_json(libraries, SP_COUNT(libraries));
        return SP_EXIT_OK;
    }
    printf("%-13s  %-8s  %s\n", "sallyport", SP_VERSION, OUR_LICENSE);
    for (size_t i = 0; i < SP_COUNT(libraries); i++)
        printf("%-13s  %-8s  %s\n", libraries[i].name, libraries[i].version, libraries[i].license);
    return SP_EXIT_OK;
}
