/* libcurl's transfers on our loop; none of them waits. Shared by what probes backends and what asks issuers. */
#ifndef SP_ADMIN_TRANSFER_H
#define SP_ADMIN_TRANSFER_H

#include <curl/curl.h>

#include <sallyport/loop.h>

struct sp_transfers;
int sp_transfers_new(struct sp_loop *loop, struct sp_transfers **ret) SP_MUST_USE; /* -ENOMEM */
void sp_transfers_free(struct sp_transfers *transfers);                            /* takes NULL; after the last transfer was stopped */

/* Embedded in its owner. `easy` is the owner's to make and set up (CURLOPT_PRIVATE apart), and NULL between transfers. */
struct sp_transfer {
    CURL *easy;
    void (*done)(struct sp_transfer *transfer, CURLcode result); /* `easy` can still be asked; the owner stops it */
};
int sp_transfer_start(struct sp_transfers *transfers, struct sp_transfer *transfer) SP_MUST_USE; /* -ENOMEM: `easy` is still there */
void sp_transfer_stop(struct sp_transfers *transfers, struct sp_transfer *transfer); /* harmless without one; `easy` is gone then */

#endif
