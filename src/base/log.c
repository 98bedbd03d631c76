#include <sallyport/base.h>

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { MESSAGE_MAX = 4096, LINE_MAX_BYTES = 6 * MESSAGE_MAX + 256 };

static int log_fd = STDERR_FILENO;
static enum sp_log_level log_level = SP_LOG_INFO;
static char log_process[32] = "sallyport"; /* a copy: callers make the name up */
static const char *const level_names[] = {"error", "warn", "info", "debug"};

void sp_log_open(int fd, const char *process_name, enum sp_log_level level) {
    log_fd = fd;
    snprintf(log_process, sizeof log_process, "%s", process_name);
    log_level = level;
}

void sp_log_set_level(enum sp_log_level level) { log_level = level; }

void sp_log_set_fd(int fd) { log_fd = fd; }

bool sp_log_level_parse(struct sp_span name, enum sp_log_level *ret) {
    for (unsigned i = 0; i < SP_COUNT(level_names); i++)
        if (sp_span_eq(name, sp_span_text(level_names[i]))) {
            *ret = (enum sp_log_level)i;
            return true;
        }
    return false;
}

static SP_PRINTF(2, 0) void write_line(enum sp_log_level level, const char *format, va_list arguments) {
    char message[MESSAGE_MAX], time[SP_TIMESTAMP_LEN + 1], line[LINE_MAX_BYTES];
    int n = vsnprintf(message, sizeof message, format, arguments);
    size_t len = n < 0 ? 0 : sp_min((size_t)n, sizeof message - 1);
    sp_timestamp(sp_wall_ms(), time);
    struct sp_buffer out = {.bytes = line, .capacity = sizeof line, .max = sizeof line};
    /* One line, one write: lines of several processes in one file do not mix. A log that cannot be written stops nothing. */
    if (sp_buffer_printf(&out, "{\"time\":\"%s\",\"level\":\"%s\",\"process\":\"%s\",\"pid\":%d,\"message\":", time, level_names[level],
                         log_process, (int)getpid()) == 0 &&
        sp_buffer_append_json(&out, sp_span(message, len)) == 0 && sp_buffer_append(&out, "}\n", 2) == 0) {
        int saved = errno;
        ssize_t written = write(log_fd, out.bytes, out.end);
        (void)written;
        errno = saved;
    }
}

void sp_log(enum sp_log_level level, const char *format, ...) {
    if (level > log_level)
        return;
    va_list arguments;
    va_start(arguments, format);
    write_line(level, format, arguments);
    va_end(arguments);
}

void sp_fatal(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line(SP_LOG_ERROR, format, arguments);
    va_end(arguments);
    _exit(1);
}

int sp_explain(char **ret_error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *sentence = NULL;
    int n = vasprintf(&sentence, format, arguments);
    va_end(arguments);
    if (n < 0)
        return -ENOMEM;
    *ret_error = sentence;
    return -EINVAL;
}
