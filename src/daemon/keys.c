#include "keys.h"

#include <stdlib.h>
#include <string.h>

#include "../ledger/event.h"
#include "../server/cors.h"
#include "../server/networks.h"
#include "../server/served.h"
#include "config.h"
#include "value.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)

#define MS UINT64_C(1000) /* microseconds */
#define S  (1000 * MS)
#define H  (3600 * S)
#define D  (24 * H)

#define KEEP_DAYS_MAX 36500

#define SEGMENT_UNIT (4 * KIB) /* journal segments are written in whole pages */

static const char *const level_words[] = {"error", "warning", "notice", "info", "debug", NULL};
static const char *const format_words[] = {"text", "json", NULL};
static const char *const seccomp_words[] = {"off", "log", "errno", "kill", NULL};
static const char *const sync_words[] = {"always", "interval", NULL};
static const char *const protocol_words[] = {"http", "redis", "echo", "chat", NULL};

#define IN(type, member)  .offset = offsetof(type, member), .size = sizeof(((type *)0)->member)
#define OF(member)        .name = #member, IN(struct config, member)
#define OF_LISTEN(member) .name = #member, IN(struct config_listener, member)
#define RANGE(low, high)  .minimum = (low), .maximum = (high)
#define PATH_ALLOWED      "an absolute path of at most 1024 bytes"
#define AMOUNT_ALLOWED    "none, or a whole number of 64 bits"
#define PEOPLE_ALLOWED    "\"\" for all, or at most 16 names or numbers with spaces between them"
#define ORIGINS_ALLOWED                                                                            \
	"\"\" for none, \"*\" for any, or at most 16 origins as \"https://example.org\" with "     \
	"spaces "                                                                                  \
	"between them"
#define NETWORKS_ALLOWED                                                                           \
	"\"\" for none, or at most 32 addresses and networks as \"127.0.0.1 10.0.0.0/8 ::1\" "     \
	"with one space between them, unix for Unix sockets"
#define TIMEOUT(member, text)                                                                      \
	{                                                                                          \
		OF(member), .kind = KIND_SECONDS, RANGE(100 * MS, 24 * H), .fallback = (text),     \
		            .allowed = "0.1s to 24h"                                               \
	}

static const struct key config_table[] = {
    {OF(workers), .kind = KIND_COUNT, RANGE(0, CONFIG_WORKERS_MAX), .fallback = "0",
     .allowed = "0 (one per CPU) to 64"},
    {OF(data_directory), .kind = KIND_PATH, .restart_only = true, .fallback = TALLYD_DATA_DIRECTORY,
     .allowed = PATH_ALLOWED},
    {OF(pid_file), .kind = KIND_PATH_EMPTY, .restart_only = true, .fallback = TALLYD_PID_FILE,
     .allowed = PATH_ALLOWED ", or \"\" for none"},
    {OF(user), .kind = KIND_TEXT, RANGE(0, 255), .restart_only = true, .fallback = "",
     .allowed = "a name of at most 255 bytes"},
    {OF(group), .kind = KIND_TEXT, RANGE(0, 255), .restart_only = true, .fallback = "",
     .allowed = "a name of at most 255 bytes, and only beside user"},
    {OF(log), .kind = KIND_LOG, .fallback = "stderr",
     .allowed = "stderr, syslog, or " PATH_ALLOWED},
    {OF(log_level), .kind = KIND_CHOICE, .choices = level_words, .fallback = "info",
     .allowed = "error, warning, notice, info, debug"},
    {OF(log_format), .kind = KIND_CHOICE, .choices = format_words, .fallback = "text",
     .allowed = "text, json"},
    {OF(access_log), .kind = KIND_PATH_EMPTY, .fallback = "",
     .allowed = PATH_ALLOWED ", or \"\" for none"},
    {OF(chat_history), .kind = KIND_PATH_EMPTY, .fallback = "",
     .allowed = PATH_ALLOWED ", or \"\" for none"},
    {OF(sync), .kind = KIND_CHOICE, .choices = sync_words, .fallback = "always",
     .allowed = "always, interval"},
    {OF(sync_interval), .kind = KIND_MS, RANGE(1 * MS, 60 * S), .fallback = "1000",
     .allowed = "1ms to 60s (without a unit: milliseconds)"},
    {OF(journal_segment), .kind = KIND_SIZE_PAGES, .restart_only = true, RANGE(64 * KIB, 1 * GIB),
     .fallback = "64M", .allowed = "64K to 1G, a multiple of 4K"},
    {OF(journal_delay), .kind = KIND_MS, RANGE(0, 10 * S), .fallback = "0",
     .allowed = "0 to 10s (without a unit: milliseconds)"},
    {OF(snapshot_every), .kind = KIND_SIZE, .or_zero = true, RANGE(64 * KIB, 1 * TIB),
     .fallback = "256M", .allowed = "0 (never), or 64K to 1T"},
    {OF(journal_keep), .kind = KIND_KEEP, RANGE(64 * KIB, 1024 * TIB), .fallback = "all",
     .allowed = "all, days from 1d to 36500d, or a size from 64K to 1024T"},
    {OF(ring_size), .kind = KIND_SIZE_POWER, .restart_only = true, RANGE(64 * KIB, 1 * GIB),
     .fallback = "8M", .allowed = "a power of two from 64K to 1G"},
    {OF(queue_events), .kind = KIND_COUNT, RANGE(1, 1000000000), .fallback = "1000000",
     .allowed = "1 to 1000000000"},
    {OF(max_accounts), .kind = KIND_COUNT, .restart_only = true, RANGE(16, 100000000),
     .fallback = "200000", .allowed = "16 to 100000000"},
    {OF(max_ids), .kind = KIND_COUNT, .restart_only = true, RANGE(64, 1000000000),
     .fallback = "100000", .allowed = "64 to 1000000000"},
    {OF(max_holds), .kind = KIND_COUNT, .restart_only = true, RANGE(64, 100000000),
     .fallback = "10000", .allowed = "64 to 100000000"},
    {OF(id_window), .kind = KIND_SECONDS, RANGE(1 * S, 30 * D), .fallback = "24h",
     .allowed = "1s to 30d"},
    {OF(auto_create), .kind = KIND_FLAG, .fallback = "true", .allowed = "true, false"},
    {OF(default_floor), .kind = KIND_FLOOR, .fallback = "none", .allowed = AMOUNT_ALLOWED},
    {OF(default_ceiling), .kind = KIND_CEILING, .fallback = "none", .allowed = AMOUNT_ALLOWED},
    {OF(max_connections), .kind = KIND_COUNT, RANGE(1, 1000000), .fallback = "4096",
     .allowed = "1 to 1000000"},
    {OF(max_connections_per_ip), .kind = KIND_COUNT, RANGE(0, 1000000), .fallback = "0",
     .allowed = "0 (no limit) to 1000000"},
    {OF(max_addresses), .kind = KIND_COUNT, .restart_only = true, RANGE(16, 1000000),
     .fallback = "4096", .allowed = "16 to 1000000"},
    {OF(buffer_memory), .kind = KIND_SIZE_POWER, RANGE(1 * MIB, 2 * GIB), .fallback = "64M",
     .allowed = "a power of two from 1M to 2G"},
    {OF(max_body), .kind = KIND_SIZE, RANGE(1 * KIB, 16 * MIB), .fallback = "1M",
     .allowed = "1K to 16M"},
    TIMEOUT(header_timeout, "10"),
    TIMEOUT(body_timeout, "10"),
    {OF(body_rate), .kind = KIND_SIZE, RANGE(0, 1 * GIB), .fallback = "1024",
     .allowed = "0 (no rule) to 1G"},
    TIMEOUT(idle_timeout, "75"),
    TIMEOUT(write_timeout, "30"),
    {OF(drain_timeout), .kind = KIND_SECONDS, RANGE(0, 1 * H), .fallback = "30",
     .allowed = "0 to 1h"},
    TIMEOUT(feed_heartbeat, "15"),
    {OF(respawn_backoff), .kind = KIND_SECONDS, RANGE(0, 10 * S), .fallback = "0.1",
     .allowed = "0 (at once) to 10s"},
    {OF(auth_file), .kind = KIND_PATH_EMPTY, .fallback = "",
     .allowed = PATH_ALLOWED ", or \"\" for none"},
    {OF(seccomp), .kind = KIND_CHOICE, .choices = seccomp_words, .fallback = "errno",
     .allowed = "off, log, errno, kill"},
    {OF(landlock), .kind = KIND_FLAG, .fallback = "true", .allowed = "true, false"},
    {OF(cors_origin), .kind = KIND_ORIGINS, .fallback = "", .allowed = ORIGINS_ALLOWED},
    {OF(diagnostics), .kind = KIND_FLAG, .fallback = "false", .allowed = "true, false"},
};

static const struct key listen_table[] = {
    {OF_LISTEN(protocol), .kind = KIND_CHOICE_TEXT, .choices = protocol_words, .fallback = "http",
     .allowed = "http, redis, echo, chat"},
    {OF_LISTEN(allow_anonymous), .kind = KIND_FLAG, .fallback = "false", .allowed = "true, false"},
    {OF_LISTEN(backlog), .kind = KIND_COUNT, RANGE(1, 65535), .fallback = "511",
     .allowed = "1 to 65535"},
    {OF_LISTEN(mode), .kind = KIND_OCTAL, RANGE(0, 0777), .fallback = "0660",
     .allowed = "octal 0 to 0777"},
    {OF_LISTEN(allow_users), .kind = KIND_PEOPLE, .fallback = "", .allowed = PEOPLE_ALLOWED},
    {OF_LISTEN(allow_groups), .kind = KIND_PEOPLE, .fallback = "", .allowed = PEOPLE_ALLOWED},
    {OF_LISTEN(proxy_from), .kind = KIND_NETWORKS, .fallback = "", .allowed = NETWORKS_ALLOWED},
};

#define COUNT_OF(table) (sizeof(table) / sizeof((table)[0]))

const struct key_table config_keys = {config_table, COUNT_OF(config_table)};
const struct key_table listen_keys = {listen_table, COUNT_OF(listen_table)};

_Static_assert(COUNT_OF(config_table) <= KEYS_MAX, "load keeps a line for each");
_Static_assert(COUNT_OF(listen_table) <= KEYS_MAX, "load keeps a line for each");

static const char *store_text(char **place, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		return "does not fit into memory";
	free(*place);
	*place = copy;
	return NULL;
}

static void store_number(const struct key *key, void *place, uint64_t number)
{
	if (key->size == sizeof(uint32_t)) {
		uint32_t narrow = (uint32_t)number; /* the maximum of every such key fits */
		memcpy(place, &narrow, sizeof(narrow));
	} else {
		memcpy(place, &number, sizeof(number));
	}
}

static const char *check_range(const struct key *key, enum value_error error, uint64_t number)
{
	if (error == VALUE_HUGE)
		return "is out of range";
	if (key->or_zero && number == 0)
		return NULL;
	return number < key->minimum || number > key->maximum ? "is out of range" : NULL;
}

/* Numbers of every kind; returns NULL or what is wrong, as do all set_ functions. */
static const char *set_number(const struct key *key, void *place, const char *text)
{
	uint64_t number = 0;
	enum value_error error = key->kind == KIND_COUNT   ? value_count(text, &number)
	                         : key->kind == KIND_OCTAL ? value_octal(text, &number)
	                                                   : value_size(text, &number);
	const char *wrong;

	if (error == VALUE_BAD)
		return key->kind == KIND_COUNT   ? "is not a whole number"
		       : key->kind == KIND_OCTAL ? "is not an octal number"
		                                 : "is not a size (as 4096, 64K, 8M, 1G)";
	wrong = check_range(key, error, number);
	if (wrong)
		return wrong;
	if (key->kind == KIND_SIZE_PAGES && number % SEGMENT_UNIT != 0)
		return "is not a multiple of 4K";
	if (key->kind == KIND_SIZE_POWER && (number & (number - 1)) != 0)
		return "is not a power of two";
	store_number(key, place, number);
	return NULL;
}

static const char *set_time(const struct key *key, void *place, const char *text)
{
	uint64_t us = 0;
	enum value_error error = value_time(text, key->kind == KIND_MS ? MS : S, &us);
	const char *wrong;

	if (error == VALUE_BAD)
		return "is not a time (as 10, 0.5, 500ms, 10s, 5m, 1h, 2d)";
	wrong = check_range(key, error, us);
	if (wrong)
		return wrong;
	if (key->kind == KIND_MS && us % MS != 0)
		return "is not a whole number of milliseconds";
	if (key->kind == KIND_MS)
		store_number(key, place, us / MS);
	else
		*(double *)place = (double)us / (double)S;
	return NULL;
}

static const char *set_amount(const struct key *key, void *place, const char *text)
{
	int64_t amount = key->kind == KIND_FLOOR ? FLOOR_NONE : CEILING_NONE;

	switch (strcmp(text, "none") == 0 ? VALUE_OK : value_signed(text, &amount)) {
	case VALUE_OK:
		memcpy(place, &amount, sizeof(amount));
		return NULL;
	case VALUE_HUGE:
		return "is out of range";
	case VALUE_BAD:
		break;
	}
	return "is neither none nor a whole number";
}

/* "30d" is days; what else has digits is a size. */
static const char *set_keep(const struct key *key, void *place, const char *text)
{
	struct config_keep keep = {0};
	size_t length = strlen(text);
	bool days = length > 1 && text[length - 1] == 'd';
	enum value_error error =
	    days ? value_time(text, 0, &keep.us) : value_size(text, &keep.bytes);

	if (strcmp(text, "all") == 0)
		memset(&keep, 0, sizeof(keep));
	else if (error == VALUE_BAD)
		return "is neither all, nor days (as 30d), nor a size (as 10G)";
	else if (error == VALUE_HUGE || (days && (keep.us < D || keep.us > KEEP_DAYS_MAX * D)) ||
	         (!days && (keep.bytes < key->minimum || keep.bytes > key->maximum)))
		return "is out of range";
	memcpy(place, &keep, sizeof(keep));
	return NULL;
}

static const char *set_origins(void *place, const char *text)
{
	struct cors_origins origins;
	const char *wrong = cors_read(text, &origins);

	return wrong ? wrong : store_text(place, text);
}

static const char *set_networks(void *place, const char *text)
{
	struct networks networks;
	const char *wrong = networks_read(text, &networks);

	return wrong ? wrong : store_text(place, text);
}

static const char *set_choice(const struct key *key, void *place, const char *text)
{
	for (uint32_t i = 0; key->choices[i]; i++) {
		if (strcmp(key->choices[i], text) != 0)
			continue;
		if (key->kind == KIND_CHOICE_TEXT)
			return store_text(place, text);
		memcpy(place, &i, sizeof(i));
		return NULL;
	}
	return "is not one of the words";
}

static const char *set_text(const struct key *key, void *place, const char *text)
{
	if (key->kind == KIND_TEXT)
		return strlen(text) > key->maximum ? "is too long" : store_text(place, text);
	if (strlen(text) > CONFIG_PATH_MAX)
		return "is too long";
	bool word = key->kind == KIND_PATH_EMPTY ? text[0] == '\0'
	            : key->kind == KIND_LOG
	                ? strcmp(text, "stderr") == 0 || strcmp(text, "syslog") == 0
	                : false;
	return word || text[0] == '/' ? store_text(place, text) : "is not an absolute path";
}

static const char *set_flag(void *place, const char *text)
{
	return value_flag(text, place) == VALUE_OK ? NULL : "is neither true nor false";
}

_Static_assert(sizeof(enum config_sync) == sizeof(uint32_t), "set_choice stores enums as 32 bits");
_Static_assert(sizeof(enum confine_seccomp) == sizeof(uint32_t), "likewise");
_Static_assert(sizeof(enum log_level) == sizeof(uint32_t), "set_choice stores enums as 32 bits");
_Static_assert(sizeof(enum log_format) == sizeof(uint32_t), "likewise");
_Static_assert(CORS_ORIGINS_MAX == 16, "ORIGINS_ALLOWED names it");
_Static_assert(SERVED_MAX == 16, "PEOPLE_ALLOWED names it");
_Static_assert(NETWORKS_MAX == 32, "NETWORKS_ALLOWED names it");
_Static_assert(CONFIG_PATH_MAX == 1024, "PATH_ALLOWED names it");
_Static_assert(CONFIG_WORKERS_MAX == 64, "the text of workers names it");

const char *key_set(const struct key *key, void *object, const char *text)
{
	void *place = (char *)object + key->offset;

	switch (key->kind) {
	case KIND_COUNT:
	case KIND_OCTAL:
	case KIND_SIZE:
	case KIND_SIZE_PAGES:
	case KIND_SIZE_POWER:
		return set_number(key, place, text);
	case KIND_SECONDS:
	case KIND_MS:
		return set_time(key, place, text);
	case KIND_FLOOR:
	case KIND_CEILING:
		return set_amount(key, place, text);
	case KIND_KEEP:
		return set_keep(key, place, text);
	case KIND_FLAG:
		return set_flag(place, text);
	case KIND_CHOICE:
	case KIND_CHOICE_TEXT:
		return set_choice(key, place, text);
	case KIND_TEXT:
	case KIND_PATH:
	case KIND_PATH_EMPTY:
	case KIND_LOG:
		return set_text(key, place, text);
	case KIND_ORIGINS:
		return set_origins(place, text);
	case KIND_PEOPLE:
		return strlen(text) > CONFIG_PATH_MAX ? "is too long" : store_text(place, text);
	case KIND_NETWORKS:
		return set_networks(place, text);
	}
	return "has no kind";
}

static bool is_text(const struct key *key)
{
	return key->kind >= KIND_CHOICE_TEXT;
}

int key_set_defaults(const struct key_table *table, void *object)
{
	for (size_t i = 0; i < table->count; i++)
		if (key_set(&table->keys[i], object, table->keys[i].fallback) != NULL)
			return -1;
	return 0;
}

void key_clear(const struct key_table *table, void *object)
{
	for (size_t i = 0; i < table->count; i++) {
		char **place = (char **)((char *)object + table->keys[i].offset);

		if (!is_text(&table->keys[i]))
			continue;
		free(*place);
		*place = NULL;
	}
}

bool key_same(const struct key *key, const void *left, const void *right)
{
	const char *a = (const char *)left + key->offset;
	const char *b = (const char *)right + key->offset;

	if (is_text(key))
		return strcmp(*(char *const *)a, *(char *const *)b) == 0;
	return memcmp(a, b, key->size) == 0;
}

int key_copy(const struct key *key, void *to, const void *from)
{
	char *place = (char *)to + key->offset;
	const char *source = (const char *)from + key->offset;

	if (is_text(key))
		return store_text((char **)place, *(char *const *)source) == NULL ? 0 : -1;
	memcpy(place, source, key->size);
	return 0;
}

size_t key_find(const struct key_table *table, const char *name)
{
	size_t i = 0;

	while (i < table->count && strcmp(table->keys[i].name, name) != 0)
		i++;
	return i;
}
