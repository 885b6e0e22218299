/* What the tool prints: tables for people, an object a line for programs, remarks on stderr. */
#include "tool.h"

#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { COLUMNS_MAX = 24, CELL_MAX = 200 };

struct rows {
    const char *headings[COLUMNS_MAX];
    size_t widths[COLUMNS_MAX];
    bool left[COLUMNS_MAX];
    int columns, at; /* of the row that is being made */
    bool first_field;
    char (*cells)[CELL_MAX]; /* rows * columns */
    size_t ncells, room;
    unsigned count;
};

int say(int code, const char *format, ...)
{
    if (options.quiet)
        return code;
    va_list args;
    va_start(args, format);
    fflush(stdout);
    fputs("cuelight: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return code;
}

int code_of(int status)
{
    switch (status) {
    case CUE_ENOENT:
    case CUE_ESTALE:
    case CUE_EGONE:
        return EXIT_NO_SUCH;
    case CUE_EPERM:
    case CUE_EBUSY:
    case CUE_ENOTOWNER:
        return EXIT_NOT_ALLOWED;
    case CUE_ETIMEDOUT:
        return EXIT_TIME_OUT;
    case CUE_ECORRUPT:
    case CUE_EVERSION:
        return EXIT_CORRUPT;
    case CUE_EINVAL:
        return EXIT_USAGE;
    default:
        return status >= 0 ? EXIT_FINE : EXIT_FOUND;
    }
}

int say_status(int status, const char *what)
{
    const char *trail = cue_trail(), *text = status == CUE_ENOENT || !*trail ? cue_status_text(status) : trail;
    return say(code_of(status), "%s: %s: %s", what, cue_status_name(status), text);
}

void unopened_text(int status, const struct place *place, char *text, size_t room)
{
    const char *why = *cue_trail() ? cue_trail() : cue_status_text(status);
    struct stat info;
    char user[40];
    switch (status) {
    case CUE_ENOENT:
        if (place->file)
            snprintf(text, room, "there is no such file");
        else
            snprintf(text, room, "there is no such pool (no %s); `cuelight ls` shows those that there are", place->path);
        break;
    case CUE_EPERM:
        if (stat(place->path, &info)) {
            snprintf(text, room, "%s", why);
            break;
        }
        show_user(user, info.st_uid);
        snprintf(text, room, "%s; it belongs to %s, mode %04o: run this as %s%s", why, user, info.st_mode & 07777, user,
                 info.st_uid ? " or as root" : "");
        break;
    case CUE_ECORRUPT:
        snprintf(text, room, "%s%s", why, place->file ? "" : "; `cuelight rm` removes it");
        break;
    case CUE_EVERSION:
        snprintf(text, room, "%s; use the cuelight of that version, or remove it with `cuelight rm`", why);
        break;
    case CUE_EBUSY:
        snprintf(text, room, "whoever had it open last ended while it took its name away; `cuelight doctor --fix` finishes that");
        break;
    default:
        snprintf(text, room, "%s", why);
    }
}

int say_unopened(int status, const struct place *place)
{
    char text[600];
    unopened_text(status, place, text, sizeof text);
    return say(code_of(status), "%s: %s: %s", place->shown, cue_status_name(status), text);
}

int worse(int a, int b)
{
    return a > b ? a : b;
}

void show_bytes(char text[16], uint64_t bytes)
{
    static const char units[] = "BkMGTPE";
    double value = (double)bytes;
    int unit = 0;
    for (; value >= 1023.95 && unit < 6; unit++)
        value /= 1024;
    snprintf(text, 16, unit && value < 99.95 ? "%.1f%c" : "%.0f%c", value, units[unit]);
    if (!unit)
        snprintf(text, 16, "%d", (int)bytes);
}

void show_age(char text[16], double seconds)
{
    static const struct {
        double most, divide;
        char unit;
    } steps[] = { { 100, 1, 's' }, { 6000, 60, 'm' }, { 48 * 3600, 3600, 'h' }, { 1e12, 86400, 'd' } };
    size_t step = 0;
    while (step < 3 && seconds >= steps[step].most)
        step++;
    snprintf(text, 16, "%.0f%c", seconds / steps[step].divide, steps[step].unit);
}

/* Today's as a time of day, older ones with their date. */
static void show_time(char text[24], double unix_seconds)
{
    time_t then = (time_t)unix_seconds, now = time(NULL);
    struct tm at, today;
    bool known = localtime_r(&then, &at) && localtime_r(&now, &today);
    bool same_day = known && at.tm_year == today.tm_year && at.tm_yday == today.tm_yday;
    if (!known || strftime(text, 24, same_day ? "%H:%M:%S" : "%Y-%m-%d %H:%M", &at) == 0)
        snprintf(text, 24, "-");
}

void show_user(char text[40], uid_t uid)
{
    const struct passwd *known = getpwuid(uid);
    if (known)
        snprintf(text, 40, "%s", known->pw_name);
    else
        snprintf(text, 40, "%u", (unsigned)uid);
}

struct rows *rows_begin(void)
{
    struct rows *rows = calloc(1, sizeof *rows);
    if (!rows)
        abort();
    rows->first_field = true;
    return rows;
}

static void json_text(const char *text)
{
    if (!text) {
        fputs("null", stdout);
        return;
    }
    putchar('"');
    for (const unsigned char *at = (const unsigned char *)text; *at; at++)
        if (*at == '"' || *at == '\\')
            printf("\\%c", *at);
        else if (*at < 0x20 || *at >= 0x7f) /* what a damaged pool calls a name is not always UTF-8 */
            printf("\\u%04x", *at);
        else
            putchar(*at);
    putchar('"');
}

static bool json_key(struct rows *rows, const char *key)
{
    if (!options.json || options.quiet || !key)
        return false;
    printf("%s\"%s\": ", rows->first_field ? "{" : ", ", key);
    rows->first_field = false;
    return true;
}

static void cell(struct rows *rows, const char *heading, const char *text, bool left)
{
    if (!heading || options.json || options.quiet || rows->at >= COLUMNS_MAX)
        return;
    if (rows->ncells == rows->room) {
        rows->room = rows->room ? 2 * rows->room : 64;
        if (!(rows->cells = realloc(rows->cells, rows->room * CELL_MAX)))
            abort();
    }
    char *to = rows->cells[rows->ncells++];
    snprintf(to, CELL_MAX, "%s", text);
    for (char *c = to; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    size_t wide = strlen(to) > strlen(heading) ? strlen(to) : strlen(heading);
    rows->headings[rows->at] = heading;
    rows->left[rows->at] = left;
    if (wide > rows->widths[rows->at])
        rows->widths[rows->at] = wide;
    if (++rows->at > rows->columns)
        rows->columns = rows->at;
}

void row_text(struct rows *rows, const char *key, const char *heading, const char *text)
{
    if (json_key(rows, key))
        json_text(text);
    cell(rows, heading, text && *text ? text : "-", true);
}

void row_both(struct rows *rows, const char *key, const char *heading, uint64_t count, const char *shown)
{
    if (json_key(rows, key))
        printf("%llu", (unsigned long long)count);
    cell(rows, heading, shown, false);
}

void row_count(struct rows *rows, const char *key, const char *heading, uint64_t count)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)count);
    row_both(rows, key, heading, count, text);
}

void row_bytes(struct rows *rows, const char *key, const char *heading, uint64_t bytes)
{
    char text[16];
    show_bytes(text, bytes);
    row_both(rows, key, heading, bytes, text);
}

void row_flag(struct rows *rows, const char *key, bool flag)
{
    if (json_key(rows, key))
        fputs(flag ? "true" : "false", stdout);
}

void row_age(struct rows *rows, const char *key, const char *heading, double seconds)
{
    char text[16] = "-";
    if (json_key(rows, key)) {
        if (seconds < 0)
            fputs("null", stdout);
        else
            printf("%.3f", seconds);
    }
    if (seconds >= 0)
        show_age(text, seconds);
    cell(rows, heading, text, false);
}

void row_time(struct rows *rows, const char *key, const char *heading, double unix_seconds)
{
    char text[24] = "-";
    if (json_key(rows, key)) {
        if (unix_seconds < 0)
            fputs("null", stdout);
        else
            printf("%.2f", unix_seconds); /* the kernel counts hundredths */
    }
    if (unix_seconds >= 0)
        show_time(text, unix_seconds);
    cell(rows, heading, text, true);
}

void row_end(struct rows *rows)
{
    if (!rows->first_field)
        puts("}");
    rows->first_field = true;
    rows->at = 0;
    rows->count++;
}

static void print_line(const struct rows *rows, const char *(*text)(const struct rows *, size_t, int), size_t row)
{
    for (int c = 0; c < rows->columns; c++) {
        const char *t = text(rows, row, c);
        int wide = (int)rows->widths[c];
        if (rows->left[c])
            printf("%-*s%s", c + 1 == rows->columns ? 0 : wide, t, c + 1 == rows->columns ? "" : "  ");
        else
            printf("%*s%s", wide, t, c + 1 == rows->columns ? "" : "  ");
    }
    putchar('\n');
}

static const char *heading_at(const struct rows *rows, size_t row, int column)
{
    (void)row;
    return rows->headings[column];
}

static const char *cell_at(const struct rows *rows, size_t row, int column)
{
    return rows->cells[row * (size_t)rows->columns + (size_t)column];
}

unsigned rows_end(struct rows *rows)
{
    unsigned count = rows->count;
    if (rows->ncells) {
        print_line(rows, heading_at, 0);
        for (size_t r = 0; r < rows->ncells / (size_t)rows->columns; r++)
            print_line(rows, cell_at, r);
    }
    free(rows->cells);
    free(rows);
    return count;
}
