#include "json_scan.h"

#include <math.h>

#include "chars.h"

/* What has been read of a number (RFC 8259 §6). */
enum number { MINUS, ZERO, INTEGER, POINT, FRACTION, EXPONENT, EXPONENT_SIGN, EXPONENT_DIGITS, ENDED, BROKEN };

static bool is_digit(char byte) { return (uint8_t)(byte - '0') < 10; }

static enum number after_integer(char byte) {
    return byte == '.' ? POINT : (byte | 0x20) == 'e' ? EXPONENT : is_digit(byte) ? BROKEN : ENDED;
}

static enum number next(enum number number, char byte) {
    if (number == INTEGER && is_digit(byte)) /* nearly always */
        return INTEGER;
    switch (number) {
    case MINUS:
        return byte == '0' ? ZERO : is_digit(byte) ? INTEGER : BROKEN;
    case ZERO: /* a digit would make it a leading zero */
    case INTEGER:
        return after_integer(byte);
    case POINT:
        return is_digit(byte) ? FRACTION : BROKEN;
    case FRACTION:
        return is_digit(byte) ? FRACTION : (byte | 0x20) == 'e' ? EXPONENT : ENDED;
    case EXPONENT:
        if (byte == '+' || byte == '-')
            return EXPONENT_SIGN;
        return is_digit(byte) ? EXPONENT_DIGITS : BROKEN;
    case EXPONENT_SIGN:
    case EXPONENT_DIGITS:
        return is_digit(byte) ? EXPONENT_DIGITS : number == EXPONENT_SIGN ? BROKEN : ENDED;
    default:
        return BROKEN;
    }
}

/* Whether a number is too large for a double: with at most SP_JSON_NUMBER_MAX characters that takes an exponent of three digits. Only then
 * strtod(3) is asked. (No program here leaves the C locale, whose point is the dot.) */
static bool overflows(struct sp_json_scan *scan) {
    if (!scan->has_exponent)
        return false;
    scan->text[scan->text_len] = '\0';
    const char *exponent = strpbrk(scan->text, "eE");
    return exponent[1] != '-' && strlen(exponent) > 3 && isinf(strtod(scan->text, NULL));
}

static const char *number_ends(struct sp_json_scan *scan, const char *at) {
    scan->state = SP_JSON_COMMA_OR_END;
    if (overflows(scan))
        return sp_json_refuse_at(scan, at, scan->token_at, "A number is too large; send numbers that a double can hold.");
    const char *wrong = sp_json_ask_number(scan);
    return wrong ? sp_json_refuse_at(scan, at, scan->token_at, wrong) : at;
}

const char *sp_json_begin_number(struct sp_json_scan *scan, const char *at) {
    scan->state = SP_JSON_NUMBER;
    scan->number = (uint8_t)(*at == '-' ? MINUS : *at == '0' ? ZERO : INTEGER);
    scan->has_exponent = false;
    scan->text[0] = *at;
    scan->text_len = 1;
    return at + 1;
}

const char *sp_json_number(struct sp_json_scan *scan, const char *at, const char *end) {
    for (; at < end; at++) {
        enum number number = next(scan->number, *at);
        if (number == ENDED)
            return number_ends(scan, at);
        if (number == BROKEN)
            return sp_json_refuse(scan, at, NOT_JSON("this is not how a number is written."));
        scan->number = (uint8_t)number;
        scan->has_exponent |= number == EXPONENT;
        if (scan->text_len == SP_JSON_NUMBER_MAX)
            return sp_json_refuse_at(scan, at, scan->token_at, "A number is too long; send numbers of at most 64 characters.");
        scan->text[scan->text_len++] = *at;
    }
    return at;
}

const char *sp_json_begin_literal(struct sp_json_scan *scan, const char *at) {
    scan->state = SP_JSON_LITERAL;
    scan->literal_kind = *at == 'n' ? SP_JSON_IS_NULL : SP_JSON_IS_BOOLEAN;
    scan->literal = *at == 'n' ? "ull" : *at == 't' ? "rue" : "alse";
    scan->text[0] = *at; /* tells true from false */
    return at + 1;
}

const char *sp_json_literal(struct sp_json_scan *scan, const char *at, const char *end) {
    for (; at < end && *scan->literal; at++, scan->literal++)
        if (*at != *scan->literal)
            return sp_json_refuse(scan, at, NOT_JSON("only true, false and null are words of it."));
    if (!*scan->literal) {
        scan->state = SP_JSON_COMMA_OR_END;
        sp_json_ask_literal(scan, sp_json_offset(scan, at));
    }
    return at;
}
