/* Numbers that things keep across reloads. */
#ifndef SALLYPORT_CONFIG_SLOTS_H
#define SALLYPORT_CONFIG_SLOTS_H

#include <jansson.h>

#include <sallyport/base.h>

/* Gives every listener, limit, pool, server, model and route in `root` its member "slot": the one it had in `previous` (NULL: none), else
 * the lowest number never used, else a freed one. *taken, an object, counts per kind how many numbers were ever used; it is carried from
 * one document to the next. -ENOMEM. */
int sp_slots_assign(json_t *root, const json_t *previous, json_t *taken) SP_MUST_USE;

#endif
