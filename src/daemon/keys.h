/*
 * The keys of the configuration file, one table for each kind of object that
 * they fill: what a key may be, where its value goes, what it is if not given.
 */
#ifndef TALLYD_DAEMON_KEYS_H
#define TALLYD_DAEMON_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum key_kind {
	KIND_COUNT,
	KIND_OCTAL,
	KIND_SIZE,
	KIND_SIZE_PAGES, /* a multiple of SEGMENT_UNIT */
	KIND_SIZE_POWER, /* a power of two */
	KIND_SECONDS,    /* double, of seconds */
	KIND_MS,         /* uint32_t, of milliseconds */
	KIND_FLOOR,      /* int64_t; "none" is FLOOR_NONE */
	KIND_CEILING,    /* int64_t; "none" is CEILING_NONE */
	KIND_KEEP,       /* struct config_keep */
	KIND_FLAG,
	KIND_CHOICE,      /* an enum: the place of the word among the choices */
	KIND_CHOICE_TEXT, /* the word itself */
	KIND_TEXT,
	KIND_PATH,       /* absolute */
	KIND_PATH_EMPTY, /* absolute or "" */
	KIND_LOG,        /* "stderr", "syslog" or absolute */
	KIND_ORIGINS,    /* what cors_read takes */
	KIND_PEOPLE,     /* what people_read takes; its meaning is found with the whole section */
	KIND_NETWORKS,   /* what networks_read takes */
};

/* One key of the file: where its value goes, what it may be, what it is if not given. */
struct key {
	const char *name;
	enum key_kind kind;
	bool restart_only;
	bool or_zero; /* 0 is allowed below the minimum */
	size_t offset;
	size_t size;
	uint64_t minimum; /* of times: microseconds */
	uint64_t maximum;
	const char *fallback;
	const char *allowed;
	const char *const *choices;
};

/* COUNT keys, in the order of tallyd.conf(5). */
struct key_table {
	const struct key *keys;
	size_t count;
};

#define KEYS_MAX 48 /* of any table */

extern const struct key_table config_keys; /* of a struct config */
extern const struct key_table listen_keys; /* of a struct config_listener */

/* The place of NAME in TABLE, or TABLE's count. */
size_t key_find(const struct key_table *table, const char *name);

/*
 * Reads TEXT as the value of KEY into OBJECT, a struct of the table's kind whose
 * texts are NULL or allocated.  Returns NULL, or what is wrong with TEXT as the
 * end of a sentence that begins with it: OBJECT is unchanged then.
 */
const char *key_set(const struct key *key, void *object, const char *text);

/* Every key of TABLE at its default in OBJECT (as key_set).  0, or -1 if memory ran out. */
int key_set_defaults(const struct key_table *table, void *object);

/* Frees every text of OBJECT and forgets it. */
void key_clear(const struct key_table *table, void *object);

/* Have LEFT and RIGHT the same value of KEY? */
bool key_same(const struct key *key, const void *left, const void *right);

/* Copies the value of KEY.  0, or -1 if memory ran out: TO is unchanged then. */
int key_copy(const struct key *key, void *to, const void *from);

#endif
