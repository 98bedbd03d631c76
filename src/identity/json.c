#include "json.h"

/* jansson descends once per level of nesting; how deep is settled here, before it begins. */
static bool too_deep(struct sp_span text) {
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > SP_JSON_DEPTH_MAX)
                return true;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}

json_t *sp_json_object(struct sp_span text) {
    if (text.len == 0 || too_deep(text))
        return NULL;
    json_t *value = json_loadb(text.at, text.len, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(value))
        return value;
    json_decref(value);
    return NULL;
}

bool sp_json_text(const json_t *value, struct sp_span *ret) {
    if (!json_is_string(value))
        return false;
    *ret = sp_span(json_string_value(value), json_string_length(value));
    return true;
}

bool sp_plain_text(struct sp_span text, size_t max) {
    if (text.len == 0 || text.len > max)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t byte = (uint8_t)text.at[i];
        if (byte < 0x20 || byte == 0x7f)
            return false;
        if (byte == 0xc2 && i + 1 < text.len && (uint8_t)text.at[i + 1] < 0xa0) /* U+0080 to U+009F */
            return false;
    }
    return true;
}

void sp_json_release(json_t **value) { json_decref(*value); }
