#include "chars.h"

#define TOKEN  SP_CHAR_TOKEN
#define PATH   (SP_CHAR_PATH | SP_CHAR_PATHS)
#define PATHS  SP_CHAR_PATHS
#define QUERY  SP_CHAR_QUERY
#define HOST   SP_CHAR_HOST
#define HEX    SP_CHAR_HEX
#define QUOTED SP_CHAR_QUOTED

#define DELIM  (PATH | QUERY | QUOTED)              /* ( ) , : ; = @ */
#define COMMON (TOKEN | DELIM)                      /* ! $ & ' * + */
#define NAME   (COMMON | SP_CHAR_UNRESERVED | HOST) /* letters, digits, - . _ */

/* What is left out belongs nowhere: control bytes, and the double quote and the backslash, which only quoted strings know. */
const uint8_t sp_char_class[256] = {
    ['\t'] = QUOTED,
    [' '] = QUOTED,
    ['!'] = COMMON,
    ['#'] = TOKEN | QUOTED,
    ['$'] = COMMON,
    ['%'] = TOKEN | QUOTED | PATHS,
    ['&'] = COMMON,
    ['\''] = COMMON,
    ['('] = DELIM,
    [')'] = DELIM,
    ['*'] = COMMON,
    ['+'] = COMMON,
    [','] = DELIM,
    ['-'] = NAME,
    ['.'] = NAME,
    ['/'] = QUERY | QUOTED | PATHS,
    ['0' ... '9'] = NAME | HEX,
    [':'] = DELIM,
    [';'] = DELIM,
    ['<'] = QUOTED,
    ['='] = DELIM,
    ['>'] = QUOTED,
    ['?'] = QUERY | QUOTED,
    ['@'] = DELIM,
    ['A' ... 'F'] = NAME | HEX,
    ['G' ... 'Z'] = NAME,
    ['['] = QUERY | QUOTED,
    [']'] = QUERY | QUOTED,
    ['^'] = TOKEN | QUERY | QUOTED,
    ['_'] = NAME,
    ['`'] = TOKEN | QUERY | QUOTED,
    ['a' ... 'f'] = NAME | HEX,
    ['g' ... 'z'] = NAME,
    ['{'] = QUERY | QUOTED,
    ['|'] = TOKEN | QUERY | QUOTED,
    ['}'] = QUERY | QUOTED,
    ['~'] = COMMON | SP_CHAR_UNRESERVED,
    [0x80 ... 0xff] = QUOTED,
};
