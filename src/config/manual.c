/* The table as sallyport.yaml(5), in man(7)'s macros. */
#include <errno.h>

#include "syntax.h"
#include "table.h"

/* Text for roff: a backslash is not an escape, a leading dot not a request. */
static int put(struct sp_buffer *out, const char *text) {
    for (; *text; text++) {
        int failed = *text == '\\'  ? sp_buffer_append(out, "\\e", 2)
                     : *text == '-' ? sp_buffer_append(out, "\\-", 2)
                                    : sp_buffer_append(out, text, 1);
        if (failed)
            return failed;
    }
    return 0;
}

static const char *kind_text(const struct sp_field *field) {
    switch (field->kind) {
    case SP_KIND_PATH:
    case SP_KIND_FILE:
        return sp_field_has(field, SP_CREDENTIAL) ? "name" : "path";
    case SP_KIND_NUMBER:
        return sp_field_has(field, SP_AUTO) ? "number or auto" : "number";
    case SP_KIND_FRACTION:
        return "number from 0 to 1";
    case SP_KIND_BOOL:
        return "true or false";
    case SP_KIND_DURATION:
        return "duration";
    case SP_KIND_SIZE:
        return "size";
    case SP_KIND_RATE:
        return "rate";
    case SP_KIND_CHOICE:
        return "one of";
    case SP_KIND_CHOICES:
        return "list of";
    case SP_KIND_TEXTS:
        return "list of text";
    case SP_KIND_CIDRS:
        return "list of address ranges";
    case SP_KIND_NODES:
        return "list of host:port";
    case SP_KIND_LIMITS:
        return "names of limits";
    case SP_KIND_MODELS:
        return "names of models";
    case SP_KIND_ROLES:
        return "names of roles";
    case SP_KIND_POOL:
        return "name of a pool";
    case SP_KIND_RECORD:
    case SP_KIND_OPTIONAL:
        return "keys";
    case SP_KIND_LIST:
        return "list, each with keys";
    case SP_KIND_MAP:
        return "name: keys";
    case SP_KIND_PAIRS:
        return field->record->fields[0].choices ? "name: one of" : "name: text";
    default:
        return "text";
    }
}

static int put_choices(struct sp_buffer *out, const struct sp_choice *choices) {
    const char *separator = " ";
    int failed = 0;
    for (const struct sp_choice *choice = choices; !failed && choice && choice->name; choice++) {
        failed = put(out, separator);
        if (!failed)
            failed = put(out, choice->name);
        if (!failed && choice->later)
            failed = put(out, " (not yet supported)");
        separator = ", ";
    }
    return failed;
}

static int put_range(struct sp_buffer *out, const struct sp_field *field) {
    char min[SP_AMOUNT_TEXT], max[SP_AMOUNT_TEXT];
    if (field->kind == SP_KIND_DURATION && field->max) {
        sp_duration_text((uint64_t)field->min, min);
        sp_duration_text((uint64_t)field->max, max);
        return sp_buffer_printf(out, " from %s to %s", min, max);
    }
    if (field->kind == SP_KIND_SIZE && field->max) {
        sp_size_text((uint64_t)field->min, min);
        sp_size_text((uint64_t)field->max, max);
        return sp_buffer_printf(out, " from %s to %s", min, max);
    }
    if (field->kind == SP_KIND_NUMBER && field->max)
        return sp_buffer_printf(out, " from %lld to %lld", (long long)field->min, (long long)field->max);
    return 0;
}

static int put_fallback(struct sp_buffer *out, const struct sp_field *field) {
    if (sp_field_has(field, SP_REQUIRED))
        return put(out, "; required");
    if (!field->fallback)
        return 0;
    int failed = put(out, "; default ");
    return failed ? failed : put(out, field->fallback[0] ? field->fallback : "empty");
}

static int put_field(struct sp_buffer *out, const struct sp_field *field) {
    const struct sp_choice *choices = field->kind == SP_KIND_PAIRS ? field->record->fields[0].choices : field->choices;
    int failed = sp_buffer_printf(out, ".TP\n\\fB%s\\fR (", field->name);
    if (!failed)
        failed = put(out, kind_text(field));
    if (!failed)
        failed = field->kind == SP_KIND_PATH || !choices ? put_range(out, field) : put_choices(out, choices);
    if (!failed)
        failed = put_fallback(out, field);
    if (!failed)
        failed = sp_buffer_printf(out, ")\n\\&");
    if (!failed && sp_field_has(field, SP_LATER))
        failed = put(out, "Not yet supported: ");
    if (!failed)
        failed = put(out, field->about);
    if (!failed && sp_field_has(field, SP_DEFAULT_ONLY))
        failed = put(out, ". Other than the default is not yet supported");
    return failed ? failed : sp_buffer_printf(out, ".\n");
}

/* Goes down the table. */
static int put_record(struct sp_buffer *out, const struct sp_record *record) {
    for (size_t i = 0; i < record->n_fields; i++) {
        const struct sp_field *field = &record->fields[i];
        if (sp_field_has(field, SP_HIDDEN))
            continue;
        int failed = put_field(out, field);
        if (failed)
            return failed;
        if (!field->record || field->kind == SP_KIND_PAIRS)
            continue;
        if ((failed = sp_buffer_printf(out, ".RS\n")) || (failed = put_record(out, field->record)) ||
            (failed = sp_buffer_printf(out, ".RE\n")))
            return failed;
    }
    return 0;
}

int sp_config_manual(struct sp_buffer *out) {
    static const char head[] =
        ".TH SALLYPORT.YAML 5 \"\" \"Sallyport\" \"File Formats\"\n"
        ".SH NAME\nsallyport.yaml \\- configuration of the Sallyport gateway\n"
        ".SH DESCRIPTION\n"
        "One YAML file; JSON is accepted too. Unknown keys, duplicate keys, wrong types and names of nothing are errors, all reported at "
        "once as\n"
        "\\fIfile\\fR:\\fIline\\fR:\\fIcolumn\\fR: \\fImessage\\fR by\n.BR sallyport (8)\n\\fBcheck\\fR.\n"
        "Anchors, aliases, tags, merge keys and more than one document are refused, and so is a file larger than 1 MiB.\n"
        ".PP\nPaths are relative to the file. A file that holds a secret must not be open to others: mode 0600.\n"
        ".PP\nDurations are written 20ms, 5s, 10m, 2h, 7d; sizes 64KiB, 8MiB; rates 10/s, 600/min, 1000/h;\n"
        "address ranges 10.0.0.0/8, 2001:db8::/32.\n"
        ".SH KEYS\n";
    static const char tail[] = ".SH EXAMPLE\n.nf\n"
                               "version: 1\n"
                               "listeners:\n"
                               "  \\- address: 0.0.0.0:443\n"
                               "    certificates:\n"
                               "      \\- {chain: tls/fullchain.pem, key: tls/privkey.pem}\n"
                               "api_keys: keys.yaml\n"
                               "limits:\n"
                               "  per\\-caller: {by: [subject], requests: 600/min, request_burst: 60}\n"
                               "pools:\n"
                               "  llama:\n"
                               "    servers: [{url: \"http://127.0.0.1:8000\"}]\n"
                               "routes:\n"
                               "  \\- {name: api, path: /v1/, authenticate: [api_key], limits: [per\\-caller], pool: llama}\n"
                               ".fi\n"
                               ".SH SEE ALSO\n.BR sallyport (8),\n.BR sallyport\\-key (1)\n";
    int failed = sp_buffer_append_span(out, sp_span_text(head));
    if (!failed)
        failed = put_record(out, &sp_config_record);
    return failed ? failed : sp_buffer_append_span(out, sp_span_text(tail));
}
