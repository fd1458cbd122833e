/*
 * The configuration file, read whole and checked whole, tallyd.conf(5).  A
 * struct config is complete and never changes: a reload builds a second one.
 * Called from one thread at a time.
 */
#ifndef TALLYD_DAEMON_CONFIG_H
#define TALLYD_DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/log.h"
#include "../server/served.h"
#include "../wire/token.h"
#include "confine.h"

#define CONFIG_LISTENERS_MAX 64               /* listen sections; more is an error */
#define CONFIG_WORKERS_MAX   64               /* worker processes */
#define CONFIG_ERROR_MAX     1024             /* bytes of a message of config_load; more is cut */
#define CONFIG_PATH_MAX      1024             /* bytes of a path without its NUL */
#define CONFIG_LISTEN        "127.0.0.1:7070" /* where no listen section is given */

enum config_sync {
	CONFIG_SYNC_ALWAYS,   /* fdatasync before the answer */
	CONFIG_SYNC_INTERVAL, /* fdatasync every sync_interval */
};

/* What is kept of the journal besides what recovery and id_window need.  Both 0: all of it. */
struct config_keep {
	uint64_t bytes; /* its last so many bytes */
	uint64_t us;    /* or the records of so many microseconds */
};

/* One listen section. */
struct config_listener {
	char *address;  /* its title: "127.0.0.1:7070", "[::1]:7070", "*:7070", "unix:/path" */
	char *protocol; /* one of the words in keys.c: "http" */
	bool allow_anonymous; /* nobody needs a token; without one no address is open to others */
	char *allow_users;    /* of a unix socket: names or numbers; "": everybody */
	char *allow_groups;
	struct served served; /* what these two mean */
	uint32_t backlog;     /* of listen(2) */
	uint32_t mode;        /* permission bits of a unix socket, else 0660 */
	char *proxy_from;     /* who begins with a PROXY header (server/networks.h); "": nobody */
	uint32_t line;        /* of the file; 0: the listener that stands for none given */
};

/* Every string is set (perhaps empty), every number within its range. */
struct config {
	struct config_listener *listeners;
	size_t listener_count; /* at least 1 */
	uint32_t workers;      /* 0: one per CPU, see config_workers */
	char *data_directory;  /* absolute */
	char *pid_file;        /* absolute; "": none */
	char *user;            /* "": stay who we are */
	char *group;           /* "": the user's own */
	char *log;             /* "stderr", "syslog" or an absolute path */
	enum log_level log_level;
	enum log_format log_format;
	char *access_log;   /* absolute path; "": none */
	char *chat_history; /* likewise */
	enum config_sync sync;
	uint32_t sync_interval;   /* milliseconds */
	uint64_t journal_segment; /* bytes, a multiple of 4 KiB */
	uint32_t journal_delay;   /* milliseconds added to each group commit; 0: none */
	uint64_t snapshot_every;  /* bytes of journal; 0: never */
	struct config_keep journal_keep;
	uint64_t ring_size;    /* bytes, a power of two */
	uint64_t queue_events; /* undurable events at a time */
	uint64_t max_accounts;
	uint64_t max_ids;      /* operations' ids that are remembered */
	uint64_t max_holds;    /* open at a time */
	double id_window;      /* seconds that an id is to be remembered */
	bool auto_create;      /* events make accounts */
	int64_t default_floor; /* of accounts that events make; FLOOR_NONE, CEILING_NONE: none */
	int64_t default_ceiling;
	uint32_t max_connections;        /* per worker */
	uint32_t max_connections_per_ip; /* of a client, over all workers; 0: no limit */
	uint32_t max_addresses;          /* clients that each worker counts */
	uint32_t buffer_memory;          /* bytes per worker, a power of two */
	uint32_t max_body;               /* bytes */
	double header_timeout;           /* seconds, as all below */
	double body_timeout;
	uint32_t body_rate; /* bytes per second; 0: no rule */
	double idle_timeout;
	double write_timeout;
	double drain_timeout;
	double feed_heartbeat;
	double respawn_backoff; /* seconds before the first respawn; 0: none, respawn at once */
	char *auth_file;        /* absolute path; "": none, nobody is asked for a token */
	struct tokens *tokens;  /* what stands there, after config_load_tokens; NULL: none */
	enum confine_seccomp seccomp;
	bool landlock;
	char *cors_origin; /* "": none, "*": any, or origins with spaces between them */
	bool diagnostics;
};

/*
 * Reads the file PATH.  Returns a configuration that the caller frees with
 * config_free, or NULL with "FILE:LINE: KEY: what is wrong; what is allowed"
 * in ERROR (ERROR_SIZE bytes, at best CONFIG_ERROR_MAX, always terminated);
 * LINE and KEY are left out where there are none, as of a file that is missing.
 */
struct config *config_load(const char *path, char *error, size_t error_size);

/*
 * Reads the tokens of CONFIG's auth_file (auth_file.h) into CONFIG; nothing if it names none. Apart
 * from config_load, since who only looks at the configuration need not be let into that file.  0,
 * or -1 with what is wrong in ERROR (likewise).
 */
int config_load_tokens(struct config *config, char *error, size_t error_size);

/* What an empty file says.  Freed with config_free; NULL if memory ran out. */
struct config *config_default(void);

/* Frees CONFIG; NULL is nothing. */
void config_free(struct config *config);

/*
 * Compares what cannot change while the daemon runs: calls REPORT with the key
 * of each such difference, and returns their number.  What a reload should then
 * do is config_keep.
 */
int config_restart_only(const struct config *old, const struct config *new_,
                        void (*report)(const char *key));

/*
 * Gives NEW_ the values of OLD for every restart-only key, so that a reload
 * applies the rest.  0, or -1 if memory ran out (NEW_ is still whole, to be freed).
 */
int config_keep(struct config *new_, const struct config *old);

/* The number of worker processes that CONFIG asks for: 1 to CONFIG_WORKERS_MAX. */
uint32_t config_workers(const struct config *config);

/*
 * The INDEXth key of the file, keys of a listen section after all others;
 * NULL past the last.  For the test that holds manual and sample complete.
 */
const char *config_key(size_t index);

#endif
