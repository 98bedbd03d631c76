/* Which statuses have a count of their own: what Sallyport answers itself and what model servers are known to answer. The label
 * stays exact for them, and no backend can make the table grow. */
#include "segment.h"

static const struct {
    uint16_t status; /* 0: not one status but a class */
    uint8_t class;
    const char *label;
} codes[] = {
    {0, 0, "none"},  {0, 1, "1xx"},   {0, 2, "2xx"},   {0, 3, "3xx"},   {0, 4, "4xx"},   {0, 5, "5xx"},   {101, 1, "101"}, {200, 2, "200"},
    {201, 2, "201"}, {202, 2, "202"}, {204, 2, "204"}, {206, 2, "206"}, {301, 3, "301"}, {302, 3, "302"}, {304, 3, "304"}, {307, 3, "307"},
    {308, 3, "308"}, {400, 4, "400"}, {401, 4, "401"}, {402, 4, "402"}, {403, 4, "403"}, {404, 4, "404"}, {405, 4, "405"}, {408, 4, "408"},
    {409, 4, "409"}, {413, 4, "413"}, {414, 4, "414"}, {415, 4, "415"}, {417, 4, "417"}, {422, 4, "422"}, {429, 4, "429"}, {431, 4, "431"},
    {500, 5, "500"}, {501, 5, "501"}, {502, 5, "502"}, {503, 5, "503"}, {504, 5, "504"}, {505, 5, "505"}, {529, 5, "529"},
};
_Static_assert(SP_COUNT(codes) <= SP_CODES_MAX, "the segment has room for every code");
#define FIRST_EXACT 6

unsigned sp_code_count(void) { return SP_COUNT(codes); }
const char *sp_code_label(unsigned code_slot) { return codes[code_slot].label; }
unsigned sp_code_class(unsigned code_slot) { return codes[code_slot].class; }

unsigned sp_code_slot(unsigned status) {
    unsigned low = FIRST_EXACT, high = SP_COUNT(codes);
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (codes[middle].status < status)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < SP_COUNT(codes) && codes[low].status == status)
        return low;
    unsigned class = status / 100;
    return class <= 5 ? class : 0;
}
