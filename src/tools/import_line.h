/*
 * Lines of an import, read: a flat object of JSON as its members, each as it was written, and the
 * operations that are made of them.
 */
#ifndef TALLYD_TOOLS_IMPORT_LINE_H
#define TALLYD_TOOLS_IMPORT_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../wire/json.h"

#define IMPORT_LINE_MAX    4096 /* bytes of a line; what the service takes of an event, too */
#define IMPORT_MEMBERS_MAX 24   /* of a line */
#define IMPORT_BODY_MAX    2048 /* bytes of an operation that is made of a line */
#define IMPORT_PATH_MAX    512  /* bytes of a path with a name in it */
#define IMPORT_JOURNAL_MAX 32   /* hexadecimal digits of a journal's key */
#define IMPORT_FORMAT      "1"  /* of an export */

/* Bytes of a line, a string with its quotes. */
struct slice {
	const char *bytes;
	size_t length; /* 0: not there */
};

struct import_member {
	struct slice key, value;
};

enum import_type {
	IMPORT_EVENT,
	IMPORT_EXPORT,
	IMPORT_ACCOUNT,
	IMPORT_HOLD,
	IMPORT_ID,
	IMPORT_END
};

struct import_line {
	enum import_type type;
	unsigned count;
	struct import_member member[IMPORT_MEMBERS_MAX];
};

/* Of which export a line is: what the ids of its operations are made of. */
struct import_origin {
	char journal[IMPORT_JOURNAL_MAX + 1];
	uint64_t lsn;
};

/* Reads TEXT, which must stay.  True, or false with *ERROR set. */
bool import_line_read(const char *text, size_t length, struct import_line *line,
                      struct json_error *error);

/* The same of any object, which has no type. */
bool import_members_read(const char *text, size_t length, struct import_line *line,
                         struct json_error *error);

/* The value of KEY; null is "not there". */
struct slice import_get(const struct import_line *line, const char *key);

/* VALUE as a number, written as one or as a string of digits. */
bool import_number(struct slice value, int64_t *number);

/* VALUE, "2026-11-27T17:00:00.000000Z" with its quotes, as microseconds since 1970. */
bool import_time(struct slice value, uint64_t *us);

/* The first line of an export. */
bool import_read_origin(const struct import_line *line, struct import_origin *origin,
                        struct json_error *error);

/*
 * The event of LINE with the id BATCH:NUMBER into BODY (IMPORT_LINE_MAX + ID_MAX + 16 bytes); its
 * length.
 */
size_t import_write_event(const struct import_line *line, const char *batch, uint64_t number,
                          char *body);

/* What an account needs so that it becomes as LINE has it. */
struct import_account {
	struct slice name; /* with its quotes */
	int64_t balance;
	bool held;   /* there are holds of it */
	bool opened; /* it is made without limits, and gets them at last */
};
bool import_read_account(const struct import_line *line, struct import_account *account,
                         struct json_error *error);

/*
 * Its operations into BODY (IMPORT_BODY_MAX bytes); their length.  To make it, to give it its
 * balance, and to give one that was opened its limits.
 */
size_t import_write_create(const struct import_line *line, const struct import_account *account,
                           const struct import_origin *origin, char *body);
size_t import_write_balance(const struct import_account *account,
                            const struct import_origin *origin, char *body);
size_t import_write_limits(const struct import_line *line, const struct import_account *account,
                           const struct import_origin *origin, char *body);

/* The steps of an account, in the ids of its operations. */
#define IMPORT_CREATE  "a"
#define IMPORT_BALANCE "b"
#define IMPORT_LIMITS  "l"

/* Is VALUE, a string with its quotes, the id of that step of the account? */
bool import_is_id(struct slice value, const struct import_origin *origin, const char *step,
                  const struct import_account *account);

/* "/accounts/NAME" of the account, percent-encoded, into PATH (IMPORT_PATH_MAX bytes). */
void import_write_account_path(const struct import_account *account, char *path);

/* The same of its statement: its newest change before the LSN BEFORE; 0: its newest. */
void import_write_statement_path(const struct import_account *account, uint64_t before, char *path);

/*
 * The hold of LINE with what is left of its time at NOW_US into BODY, and "/holds/ID" into PATH
 * (IMPORT_PATH_MAX bytes); the body's length, or 0 with *ERROR set.  *EXPIRED: nothing is left, or
 * it is settled.
 */
size_t import_write_hold(const struct import_line *line, uint64_t now_us, char *body, char *path,
                         bool *expired, struct json_error *error);

#endif
