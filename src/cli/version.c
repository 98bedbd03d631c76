/* sallyport version: ours, and that of every library that any of the four programs uses. */
#include <getopt.h>
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

struct library {
    const char *name, *version;
};

static void help(void) {
    puts("usage: sallyport version [--json]\n"
         "\n"
         "The version of Sallyport and of the libraries that its programs are running with (hiredis and libjwt: built with).\n"
         "\n"
         "  --json   one JSON object\n"
         "  --help   this text");
}

static void print_json(const struct library *libraries, size_t n) {
    json_t *object = json_object();
    for (size_t i = 0; i < n; i++)
        json_object_set_new(object, libraries[i].name, json_string(libraries[i].version));
    json_t *all = json_pack("{s:s, s:o}", "sallyport", SP_VERSION, "libraries", object);
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
        {"OpenSSL", OpenSSL_version(OPENSSL_VERSION_STRING)},
        {"libmicrohttpd", MHD_get_version()},
        {"libcurl", curl_version_info(CURLVERSION_NOW)->version},
        {"hiredis", DOTTED(HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH)},
        {"libjwt", SP_LIBJWT_VERSION}, /* it does not tell at run time */
        {"jansson", jansson_version_str()},
        {"libyaml", yaml_get_version_string()},
    };
    if (json) {
        print_json(libraries, SP_COUNT(libraries));
        return SP_EXIT_OK;
    }
    printf("%-13s  %s\n", "sallyport", SP_VERSION);
    for (size_t i = 0; i < SP_COUNT(libraries); i++)
        printf("%-13s  %s\n", libraries[i].name, libraries[i].version);
    return SP_EXIT_OK;
}
