/* Facts from a peer that may have been subverted: the fixed part, then the texts. What is read is written back as the same bytes. */
#include <errno.h>

#include <sallyport/ipc.h>

#include "../require.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct sp_msg_facts message, again;
    struct sp_facts facts;
    if (len < sizeof message)
        return 0;
    memcpy(&message, bytes, sizeof message);
    struct sp_span texts = sp_span((const char *)bytes + sizeof message, len - sizeof message);
    int r = sp_facts_read(&message, texts, &facts);
    REQUIRE(r == 0 || r == -EBADMSG);
    if (r < 0)
        return 0;
    struct sp_buffer written;
    sp_buffer_init(&written, SP_FACT_TEXTS * SP_FACT_MAX);
    REQUIRE(sp_facts_write(&facts, &again, &written) == 0);
    REQUIRE(sp_span_eq(sp_buffer_span(&written), texts));
    REQUIRE(again.given == message.given && memcmp(again.address, message.address, sizeof again.address) == 0);
    REQUIRE(memcmp(again.len, message.len, SP_FACT_TEXTS * sizeof again.len[0]) == 0);
    sp_buffer_free(&written);
    return 0;
}
