/*
 * The configuration file: each file of t/configs/ holds one error and, in its
 * first line, the message that it must give ("# expect: LINE: KEY: ...").
 */
#include "../src/daemon/config.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../src/daemon/source.h"
#include "../src/ledger/event.h"
#include "../src/daemon/value.h"
#include "tap/tap.h"

#define TEXT_MAX 65536

static char directory[] = "/tmp/tallyd-config-XXXXXX";
static char scratch[256];

static const char *source_directory(void)
{
	const char *given = getenv("TALLYD_SRC");

	return given ? given : ".";
}

/* The file PATH under the source directory, or "". */
static const char *read_source(const char *path)
{
	static char text[TEXT_MAX];
	char name[1024];
	FILE *file;

	snprintf(name, sizeof(name), "%s/%s", source_directory(), path);
	file = fopen(name, "r");
	text[file ? fread(text, 1, sizeof(text) - 1, file) : 0] = '\0';
	if (file)
		fclose(file);
	return text;
}

/* Loads a file that holds TEXT; ERROR is "" unless NULL is returned. */
static struct config *load_text(const char *text, char *error, size_t error_size)
{
	FILE *file = fopen(scratch, "w");

	if (!file || fputs(text, file) < 0 || fclose(file) != 0)
		BAIL_OUT("cannot write %s", scratch);
	error[0] = '\0';
	return config_load(scratch, error, error_size);
}

static int is_conf(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return dot && strcmp(dot, ".conf") == 0;
}

static void check_bad_file(const char *name)
{
	static const char mark[] = "# expect: ";
	char path[1024], file[1400], error[CONFIG_ERROR_MAX], expected[2 * CONFIG_ERROR_MAX];
	const char *text;
	struct config *config;

	snprintf(path, sizeof(path), "t/configs/%s", name);
	text = read_source(path);
	if (strncmp(text, mark, strlen(mark)) != 0) {
		fail("%s says what to expect", name);
		return;
	}
	text += strlen(mark);
	snprintf(file, sizeof(file), "%s/%s", source_directory(), path);
	snprintf(expected, sizeof(expected), "%.900s:%.*s", file, (int)strcspn(text, "\n"), text);
	config = config_load(file, error, sizeof(error));
	is(config ? "it was read" : error, expected, "%s", name);
	config_free(config);
}

static void test_bad_files(void)
{
	char path[1024];
	struct dirent **entries;
	int count;

	snprintf(path, sizeof(path), "%s/t/configs", source_directory());
	count = scandir(path, &entries, is_conf, alphasort);
	cmp_ok(count, ">", 80, "t/configs holds the bad files");
	for (int i = 0; i < count; i++) {
		check_bad_file(entries[i]->d_name);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}

static void test_missing_files(void)
{
	char error[CONFIG_ERROR_MAX], expected[CONFIG_ERROR_MAX];

	ok(!config_load("/nonexistent/tallyd.conf", error, sizeof(error)), "no file, no config");
	is(error,
	   "/nonexistent/tallyd.conf: cannot read the configuration file: No such file or "
	   "directory; create it, or name another with -c FILE",
	   "a missing file is named");
	ok(!config_load(directory, error, sizeof(error)), "a directory is no file");
	snprintf(expected, sizeof(expected),
	         "%s: cannot read the configuration file: Is a directory; create it, or name "
	         "another with -c FILE",
	         directory);
	is(error, expected, "a directory is named");
	if (access(TALLYD_CONFIG_FILE, F_OK) != 0) {
		ok(!config_load(TALLYD_CONFIG_FILE, error, sizeof(error)), "no default file");
		ok(strstr(error, ": cannot read the default configuration file: No such file"),
		   "a missing default file is called the default: %s", error);
	}
}

/* A file of SIZE bytes, all spaces but the last, which is LAST. */
static struct config *load_blanks(size_t size, char last, char *error, size_t error_size)
{
	FILE *file = fopen(scratch, "w");

	if (!file)
		BAIL_OUT("cannot write %s", scratch);
	for (size_t i = 0; i + 1 < size; i++)
		putc(' ', file);
	putc(last, file);
	fclose(file);
	return config_load(scratch, error, error_size);
}

static void test_sizes(void)
{
	char error[CONFIG_ERROR_MAX];
	struct config *config = load_blanks(SOURCE_MAX, ' ', error, sizeof(error));

	ok(config, "a file of SOURCE_MAX bytes");
	config_free(config);
	ok(!load_blanks(SOURCE_MAX + 1, ' ', error, sizeof(error)), "a byte more");
	ok(strstr(error, ": cannot read the configuration file: File too large; "), "%s", error);
	ok(!load_blanks(100, '\0', error, sizeof(error)), "a NUL");
	ok(strstr(error, ":1: syntax: the file holds a NUL; allowed: text"), "%s", error);
}

static void test_small_error_buffer(void)
{
	char error[8];

	memset(error, 'x', sizeof(error));
	ok(!load_text("workers = 65", error, sizeof(error)), "refused with a small buffer");
	cmp_ok((intmax_t)strlen(error), "==", 7, "the message is cut and terminated");
}

/* Is each key of the table a word of TEXT that BEFORE stands in front of, and AFTER behind? */
static void check_keys(const char *text, const char *before, const char *after, const char *where)
{
	char needle[128];
	size_t count = 0;

	for (const char *key; (key = config_key(count)) != NULL; count++) {
		snprintf(needle, sizeof(needle), "%s%s%s", before, key, after);
		ok(strstr(text, needle), "%s has %s", where, key);
	}
	cmp_ok((intmax_t)count, "==", 50, "the table's keys were all looked for");
}

/* Replaces FROM by TO in TEXT (TEXT_MAX bytes). */
static void substitute(char *text, const char *from, const char *to)
{
	char *at = strstr(text, from);
	size_t rest;

	if (!at || strlen(text) + strlen(to) >= TEXT_MAX)
		return;
	rest = strlen(at + strlen(from)) + 1;
	memmove(at + strlen(to), at + strlen(from), rest);
	memcpy(at, to, strlen(to));
}

static int reported;

static void count_report(const char *key)
{
	diag("differs: %s", key);
	reported++;
}

static void same_strings(const struct config *a, const struct config *b)
{
	is(a->data_directory, b->data_directory, "data_directory");
	is(a->pid_file, b->pid_file, "pid_file");
	is(a->user, b->user, "user");
	is(a->group, b->group, "group");
	is(a->log, b->log, "log");
	is(a->access_log, b->access_log, "access_log");
	is(a->chat_history, b->chat_history, "chat_history");
	is(a->cors_origin, b->cors_origin, "cors_origin");
	is(a->listeners[0].address, b->listeners[0].address, "listener's address");
	is(a->listeners[0].protocol, b->listeners[0].protocol, "listener's protocol");
	is(a->listeners[0].proxy_from, b->listeners[0].proxy_from, "listener's proxy_from");
}

#define SAME(member) cmp_ok((intmax_t)a->member, "==", (intmax_t)b->member, #member)

static void same_numbers(const struct config *a, const struct config *b)
{
	SAME(workers);
	SAME(log_level);
	SAME(log_format);
	SAME(sync);
	SAME(sync_interval);
	SAME(journal_segment);
	SAME(journal_delay);
	SAME(snapshot_every);
	SAME(journal_keep.bytes);
	SAME(journal_keep.us);
	SAME(ring_size);
	SAME(queue_events);
	SAME(max_accounts);
	SAME(max_ids);
	SAME(max_holds);
	SAME(auto_create);
	SAME(default_floor);
	SAME(default_ceiling);
	SAME(max_connections);
	SAME(max_connections_per_ip);
	SAME(max_addresses);
	SAME(buffer_memory);
	SAME(max_body);
	SAME(body_rate);
	SAME(seccomp);
	SAME(landlock);
	SAME(diagnostics);
	SAME(listener_count);
	SAME(listeners[0].allow_anonymous);
	SAME(listeners[0].backlog);
	SAME(listeners[0].mode);
}

#define SAME_TIME(member)                                                                          \
	cmp_ok((intmax_t)(a->member * 1e6), "==", (intmax_t)(b->member * 1e6), #member)

static void same_times(const struct config *a, const struct config *b)
{
	SAME_TIME(id_window);
	SAME_TIME(header_timeout);
	SAME_TIME(body_timeout);
	SAME_TIME(idle_timeout);
	SAME_TIME(write_timeout);
	SAME_TIME(drain_timeout);
	SAME_TIME(feed_heartbeat);
	SAME_TIME(respawn_backoff);
}

static void test_sample(void)
{
	char *text = malloc(TEXT_MAX), error[CONFIG_ERROR_MAX];
	struct config *sample, *defaults = config_default();

	snprintf(text, TEXT_MAX, "%s", read_source("etc/tallyd.conf.in"));
	/* "mode" is for unix sockets only, so it stands in a comment: "# mode = ". */
	check_keys(text, "", " = ", "the sample");
	substitute(text, "@localstatedir@/lib/tallyd", TALLYD_DATA_DIRECTORY);
	substitute(text, "@runstatedir@/tallyd.pid", TALLYD_PID_FILE);
	ok(!strchr(text, '@'), "no other placeholder is in the sample");
	sample = load_text(text, error, sizeof(error));
	is(error, "", "the sample is read");
	if (sample && defaults) {
		same_strings(sample, defaults);
		same_numbers(sample, defaults);
		same_times(sample, defaults);
	}
	config_free(sample);
	config_free(defaults);
	free(text);
}

static void test_manual(void)
{
	const char *text = read_source("man/tallyd.conf.5");

	check_keys(text, "\n.It Ic ", " ", "tallyd.conf(5)");
}

static void test_defaults(void)
{
	struct config *config = config_default();

	is(config->listeners[0].address, "127.0.0.1:7070", "loopback by default");
	cmp_ok(config->workers, "==", 0, "workers");
	is(config->data_directory, TALLYD_DATA_DIRECTORY, "data_directory");
	is(config->log, "stderr", "log");
	cmp_ok(config->log_level, "==", LOG_LEVEL_INFO, "log_level");
	cmp_ok(config->log_format, "==", LOG_FORMAT_TEXT, "log_format");
	cmp_ok(config->sync, "==", CONFIG_SYNC_ALWAYS, "sync");
	cmp_ok(config->sync_interval, "==", 1000, "sync_interval in ms");
	cmp_ok((intmax_t)config->journal_segment, "==", 64 << 20, "journal_segment");
	cmp_ok((intmax_t)config->snapshot_every, "==", 256 << 20, "snapshot_every");
	cmp_ok((intmax_t)config->ring_size, "==", 8 << 20, "ring_size");
	cmp_ok((intmax_t)config->queue_events, "==", 1000000, "queue_events");
	cmp_ok((intmax_t)config->max_accounts, "==", 200000, "max_accounts");
	cmp_ok((intmax_t)config->max_ids, "==", 100000, "max_ids");
	cmp_ok((intmax_t)config->max_holds, "==", 10000, "max_holds");
	ok(config->id_window == 86400, "id_window in seconds");
	ok(config->auto_create, "auto_create");
	ok(config->default_floor == FLOOR_NONE && config->default_ceiling == CEILING_NONE,
	   "no limits");
	ok(config->journal_keep.bytes == 0 && config->journal_keep.us == 0, "all is kept");
	cmp_ok(config->seccomp, "==", CONFINE_ERRNO, "seccomp");
	ok(config->landlock, "landlock");
	is(config->cors_origin, "", "cors_origin");
	cmp_ok(config->max_connections, "==", 4096, "max_connections");
	cmp_ok(config->max_connections_per_ip, "==", 0, "max_connections_per_ip");
	cmp_ok(config->max_addresses, "==", 4096, "max_addresses");
	is(config->listeners[0].proxy_from, "", "proxy_from");
	cmp_ok(config->buffer_memory, "==", 64 << 20, "buffer_memory");
	cmp_ok(config->max_body, "==", 1 << 20, "max_body");
	ok(config->idle_timeout == 75 && config->drain_timeout == 30, "timeouts in seconds");
	ok(config->respawn_backoff == 0.1, "respawn_backoff");
	cmp_ok(config->listeners[0].mode, "==", 0660, "mode");
	config_free(config);
}

/* TEXT is read, and MEMBER is EXPECTED then. */
#define READS(text, member, expected)                                                              \
	do {                                                                                       \
		char error_[CONFIG_ERROR_MAX];                                                     \
		struct config *config_ = load_text(text, error_, sizeof(error_));                  \
		ok(config_ && config_->member == (expected), "%s%s", text, error_);                \
		config_free(config_);                                                              \
	} while (0)

static void test_edges(void)
{
	READS("workers = 64", workers, 64);
	READS("sync = interval", sync, CONFIG_SYNC_INTERVAL);
	READS("sync_interval = 1", sync_interval, 1);
	READS("sync_interval = 60000", sync_interval, 60000);
	READS("sync_interval = 0.5s", sync_interval, 500);
	READS("journal_segment = 64K", journal_segment, 65536);
	READS("journal_segment = 1g", journal_segment, 1 << 30);
	READS("journal_delay = 10000", journal_delay, 10000);
	READS("snapshot_every = 0", snapshot_every, 0);
	READS("snapshot_every = 64K", snapshot_every, 65536);
	READS("snapshot_every = 1T", snapshot_every, UINT64_C(1) << 40);
	READS("ring_size = 65536", ring_size, 65536);
	READS("ring_size = 1G", ring_size, 1 << 30);
	READS("queue_events = 1", queue_events, 1);
	READS("queue_events = 1000000000", queue_events, 1000000000);
	READS("max_accounts = 16", max_accounts, 16);
	READS("max_accounts = 100000000", max_accounts, 100000000);
	READS("max_ids = 64", max_ids, 64);
	READS("max_ids = 1000000000", max_ids, 1000000000);
	READS("max_holds = 64", max_holds, 64);
	READS("max_holds = 100000000", max_holds, 100000000);
	READS("id_window = 1", id_window, 1);
	READS("id_window = 30d", id_window, 2592000);
	READS("auto_create = no", auto_create, false);
	READS("default_floor = 0", default_floor, 0);
	READS("default_floor = -500", default_floor, -500);
	READS("default_floor = -9223372036854775808", default_floor, INT64_MIN);
	READS("default_floor = \"none\"", default_floor, FLOOR_NONE);
	READS("default_ceiling = 9223372036854775807", default_ceiling, INT64_MAX);
	READS("default_ceiling = -1", default_ceiling, -1);
	READS("default_ceiling = none", default_ceiling, CEILING_NONE);
	READS("default_floor = 5\ndefault_ceiling = 5", default_floor, 5);
	READS("journal_keep = 64K", journal_keep.bytes, 65536);
	READS("journal_keep = 1024T", journal_keep.bytes, UINT64_C(1) << 50);
	READS("journal_keep = 1d", journal_keep.us, UINT64_C(86400000000));
	READS("journal_keep = 36500d", journal_keep.us, UINT64_C(3153600000000000));
	READS("cors_origin = \"*\"", cors_origin[0], '*');
	READS("cors_origin = \" https://a.org  http://[::1]:8080 \"", cors_origin[1], 'h');
	READS("max_connections = 1", max_connections, 1);
	READS("max_connections = 1000000", max_connections, 1000000);
	READS("buffer_memory = 1M\nmax_body = 256K", buffer_memory, 1 << 20);
	READS("buffer_memory = 2G", buffer_memory, UINT32_C(1) << 31);
	READS("max_body = 1K", max_body, 1024);
	READS("max_body = 16M", max_body, 16 << 20);
	READS("header_timeout = 0.1", header_timeout, 0.1);
	READS("body_timeout = 100ms", body_timeout, 0.1);
	READS("idle_timeout = 24h", idle_timeout, 86400);
	READS("write_timeout = 2.5m", write_timeout, 150);
	READS("body_rate = 0", body_rate, 0);
	READS("body_rate = 1G", body_rate, 1 << 30);
	READS("drain_timeout = 0", drain_timeout, 0);
	READS("drain_timeout = 1h", drain_timeout, 3600);
	READS("respawn_backoff = 0", respawn_backoff, 0);
	READS("respawn_backoff = 10", respawn_backoff, 10);
	READS("diagnostics = on", diagnostics, true);
	READS("diagnostics = yes # why", diagnostics, true);
	READS("pid_file = \"\"", pid_file[0], '\0');
	READS("log_level = debug", log_level, LOG_LEVEL_DEBUG);
	READS("log_format = json", log_format, LOG_FORMAT_JSON);
	READS("user = tallyd\ngroup = adm", group[0], 'a');
	READS("# nothing\n", listener_count, 1);
	READS("", listener_count, 1);
}

static void test_longest(void)
{
	char text[2 * CONFIG_PATH_MAX], error[CONFIG_ERROR_MAX];
	struct config *config;

	snprintf(text, sizeof(text), "log = /%0*d", CONFIG_PATH_MAX - 1, 0);
	config = load_text(text, error, sizeof(error));
	ok(config && strlen(config->log) == CONFIG_PATH_MAX, "the longest path %s", error);
	config_free(config);
	snprintf(text, sizeof(text), "user = u%0*d", 254, 0);
	config = load_text(text, error, sizeof(error));
	ok(config && strlen(config->user) == 255, "the longest name %s", error);
	config_free(config);
	snprintf(text, sizeof(text), "listen \"unix:/%0*d\" {}", 106, 0);
	config = load_text(text, error, sizeof(error));
	ok(config && strlen(config->listeners[0].address) == 112, "the longest socket %s", error);
	config_free(config);
}

static void test_listeners(void)
{
	static const char text[] = "listen \"127.0.0.1:0\" { backlog = 1 }\n"
	                           "listen \"*:7071\" {\n allow_anonymous = true\n}\n"
	                           "listen \"[::1]:65535\" {}\n"
	                           "listen \"unix:/run/t.sock\" { mode = 0600\nbacklog = 65535 }\n";
	char error[CONFIG_ERROR_MAX];
	struct config *config = load_text(text, error, sizeof(error));

	is(error, "", "four listeners are read");
	if (!config)
		return;
	cmp_ok((intmax_t)config->listener_count, "==", 4, "four listeners");
	is(config->listeners[0].address, "127.0.0.1:0", "in their order");
	cmp_ok(config->listeners[0].backlog, "==", 1, "with their own keys");
	ok(!config->listeners[0].allow_anonymous, "not anonymous");
	ok(config->listeners[1].allow_anonymous, "anonymous where it says so");
	cmp_ok(config->listeners[1].backlog, "==", 511, "the next begins at the defaults");
	is(config->listeners[2].protocol, "http", "protocol by default");
	cmp_ok(config->listeners[3].mode, "==", 0600, "mode is octal");
	cmp_ok(config->listeners[3].backlog, "==", 65535, "the largest backlog");
	config_free(config);
}

static void test_most_listeners(void)
{
	char text[CONFIG_LISTENERS_MAX * 64] = "", error[CONFIG_ERROR_MAX];
	struct config *config;

	for (size_t i = 0, used = 0; i < CONFIG_LISTENERS_MAX; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
		                         "listen \"127.0.0.1:%zu\" {}\n", i + 1);
	config = load_text(text, error, sizeof(error));
	ok(config && config->listener_count == CONFIG_LISTENERS_MAX, "64 listeners %s", error);
	config_free(config);
}

static void test_restart_only(void)
{
	static const char changed[] =
	    "data_directory = /d\nring_size = 1M\nmax_accounts = 20\njournal_segment = 1M\n"
	    "max_ids = 100\nmax_holds = 100\n"
	    "pid_file = /p\nuser = u\ngroup = g\n";
	char error[CONFIG_ERROR_MAX];
	struct config *old = config_default();
	struct config *live = load_text("workers = 3\nsync = interval\nqueue_events = 7\n"
	                                "journal_delay = 5\nsnapshot_every = 1M\nid_window = 5\n"
	                                "auto_create = no\ndefault_floor = 0\njournal_keep = 1d\n",
	                                error, sizeof(error));
	struct config *other = load_text(changed, error, sizeof(error));

	reported = 0;
	cmp_ok(config_restart_only(old, old, count_report), "==", 0, "the same differs in nothing");
	cmp_ok(config_restart_only(old, live, count_report), "==", 0, "live keys are not reported");
	cmp_ok(config_restart_only(old, other, count_report), "==", 9, "nine keys are");
	cmp_ok(reported, "==", 9, "each is reported");
	cmp_ok(config_keep(other, old), "==", 0, "the old values are kept");
	cmp_ok(config_restart_only(old, other, count_report), "==", 0, "nothing differs then");
	is(other->data_directory, TALLYD_DATA_DIRECTORY, "the text is the old one");
	cmp_ok(config_keep(live, old), "==", 0, "kept beside live keys");
	cmp_ok(live->workers, "==", 3, "live keys stay new");
	config_free(old);
	config_free(live);
	config_free(other);
}

static void test_workers(void)
{
	struct config *config = config_default();

	cmp_ok(config_workers(config), ">=", 1, "a worker per CPU");
	cmp_ok(config_workers(config), "<=", CONFIG_WORKERS_MAX, "not more than the most");
	config->workers = 7;
	cmp_ok(config_workers(config), "==", 7, "as many as configured");
	config_free(config);
}

static void test_values(void)
{
	uint64_t number = 1;
	int64_t amount;
	bool flag = true;

	ok(value_count("18446744073709551615", &number) == VALUE_OK && number == UINT64_MAX,
	   "the largest count");
	cmp_ok(value_count("18446744073709551616", &number), "==", VALUE_HUGE, "one more");
	cmp_ok(value_count("99999999999999999999x", &number), "==", VALUE_BAD, "bad before huge");
	cmp_ok(value_size("K", &number), "==", VALUE_BAD, "a unit alone");
	cmp_ok(value_size("18014398509481984K", &number), "==", VALUE_HUGE, "2^64 bytes");
	ok(value_size("18014398509481983K", &number) == VALUE_OK && number == UINT64_MAX - 1023,
	   "the largest in K");
	ok(value_time("0.000001", 1000000, &number) == VALUE_OK && number == 1, "a microsecond");
	cmp_ok(value_time("0.0001ms", 1000000, &number), "==", VALUE_BAD, "a tenth of one");
	ok(value_time("0.5h", 1, &number) == VALUE_OK && number == UINT64_C(1800000000), "0.5h");
	cmp_ok(value_time(".5", 1, &number), "==", VALUE_BAD, "no digit before the point");
	cmp_ok(value_time("18446744073709.551616", 1000000, &number), "==", VALUE_HUGE, "2^64 us");
	ok(value_time("2d", 1, &number) == VALUE_OK && number == UINT64_C(172800000000), "2d");
	ok(value_signed("-9223372036854775808", &amount) == VALUE_OK && amount == INT64_MIN,
	   "the least amount");
	cmp_ok(value_signed("-9223372036854775809", &amount), "==", VALUE_HUGE, "one less");
	cmp_ok(value_signed("9223372036854775808", &amount), "==", VALUE_HUGE, "one too many");
	cmp_ok(value_signed("--1", &amount), "==", VALUE_BAD, "one sign");
	cmp_ok(value_signed("-", &amount), "==", VALUE_BAD, "digits");
	ok(value_flag("off", &flag) == VALUE_OK && !flag, "off");
	cmp_ok(value_flag("True", &flag), "==", VALUE_BAD, "lower case only");
	ok(value_octal("0777", &number) == VALUE_OK && number == 0777, "octal");
}

int main(void)
{
	plan(NO_PLAN);
	if (!mkdtemp(directory))
		BAIL_OUT("cannot make a directory in /tmp");
	snprintf(scratch, sizeof(scratch), "%s/tallyd.conf", directory);
	test_bad_files();
	test_missing_files();
	test_sizes();
	test_small_error_buffer();
	test_defaults();
	test_sample();
	test_manual();
	test_edges();
	test_longest();
	test_listeners();
	test_most_listeners();
	test_restart_only();
	test_workers();
	test_values();
	unlink(scratch);
	rmdir(directory);
	return done_testing();
}
