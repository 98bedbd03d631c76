#ifndef SALLYPORT_CONFIG_DOCUMENT_H
#define SALLYPORT_CONFIG_DOCUMENT_H

#include <jansson.h>

#include <sallyport/config.h>

struct sp_document {
    json_t *root;        /* the file with defaults, contents, slots and where things stood */
    json_t *slots_taken; /* see slots.h */
};

#endif
