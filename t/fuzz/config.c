/*
 * The configuration: the input is the file, and, cut at its first NUL, one value.
 */
#include "fuzz.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../src/daemon/config.h"
#include "../../src/daemon/keys.h"
#include "../../src/daemon/listen.h"
#include "../../src/daemon/value.h"

#define LENGTH_MAX 4096

/* A file in memory that holds BYTES; its name. */
static const char *put_file(const uint8_t *bytes, size_t length)
{
	static char name[64];
	static int fd = -1;

	if (fd < 0) {
		fd = memfd_create("tallyd.conf", MFD_CLOEXEC);
		snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	}
	FUZZ_HOLDS(fd >= 0 && ftruncate(fd, 0) == 0 &&
	               pwrite(fd, bytes, length, 0) == (ssize_t)length,
	           "the file cannot be written");
	return name;
}

/* "FILE:LINE: what is wrong; what is allowed", of a file with that line. */
static void check_error(const char *error, const char *name, const uint8_t *bytes, size_t length)
{
	unsigned long lines = 1;
	char *after;

	for (size_t i = 0; i < length; i++)
		lines += bytes[i] == '\n';
	FUZZ_HOLDS(strlen(error) < CONFIG_ERROR_MAX, "a message that does not end");
	FUZZ_HOLDS(strncmp(error, name, strlen(name)) == 0 && error[strlen(name)] == ':' &&
	               isdigit((unsigned char)error[strlen(name) + 1]),
	           "the message does not begin with file and line: %s", error);
	unsigned long line = strtoul(error + strlen(name) + 1, &after, 10);
	FUZZ_HOLDS(line >= 1 && line <= lines, "line %lu of %lu: %s", line, lines, error);
	FUZZ_HOLDS(strncmp(after, ": ", 2) == 0 && strstr(after, "; ") != NULL,
	           "the message does not say what is wrong and what is allowed: %s", error);
}

/* The number that KEY has in OBJECT; only of those whose range the table tells. */
static bool number_of(const struct key *key, const void *object, uint64_t *number)
{
	const char *place = (const char *)object + key->offset;
	uint32_t narrow;

	switch (key->kind) {
	case KIND_COUNT:
	case KIND_OCTAL:
	case KIND_SIZE:
	case KIND_SIZE_PAGES:
	case KIND_SIZE_POWER:
		break;
	default:
		return false;
	}
	if (key->size == sizeof narrow) {
		memcpy(&narrow, place, sizeof narrow);
		*number = narrow;
	} else {
		memcpy(number, place, sizeof *number);
	}
	return true;
}

/* Everything that was read is within what the table allows. */
static void check_object(const struct key_table *table, const void *object)
{
	uint64_t number;

	for (size_t i = 0; i < table->count; i++) {
		const struct key *key = &table->keys[i];
		const char *place = (const char *)object + key->offset;

		if (number_of(key, object, &number))
			FUZZ_HOLDS((key->or_zero && number == 0) ||
			               (number >= key->minimum && number <= key->maximum),
			           "%s is out of range", key->name);
		if (key->kind == KIND_SECONDS) {
			double seconds;
			memcpy(&seconds, place, sizeof seconds);
			FUZZ_HOLDS(seconds * 1e6 >= (double)key->minimum - 1 &&
			               seconds * 1e6 <= (double)key->maximum + 1,
			           "%s is out of range", key->name);
		}
		if (key->kind >= KIND_CHOICE_TEXT)
			FUZZ_HOLDS(*(char *const *)(const void *)place != NULL, "%s is not set",
			           key->name);
	}
}

static void check_listener(const struct config_listener *listener)
{
	enum listen_kind kind = listen_kind(listener->address);

	FUZZ_HOLDS(kind == LISTEN_LOOPBACK || kind == LISTEN_UNIX ||
	               (kind == LISTEN_PUBLIC && listener->allow_anonymous),
	           "%s is open to all", listener->address);
	check_object(&listen_keys, listener);
}

static void check_config(const struct config *config)
{
	FUZZ_HOLDS(config->listener_count >= 1 && config->listener_count <= CONFIG_LISTENERS_MAX,
	           "%zu listeners", config->listener_count);
	for (size_t i = 0; i < config->listener_count; i++)
		check_listener(&config->listeners[i]);
	check_object(&config_keys, config);
	FUZZ_HOLDS(config->default_floor <= config->default_ceiling, "the floor is too high");
	FUZZ_HOLDS(config->group[0] == '\0' || config->user[0] != '\0', "a group without user");
	FUZZ_HOLDS(config_workers(config) >= 1 && config_workers(config) <= CONFIG_WORKERS_MAX,
	           "workers");
}

static void report(const char *key)
{
	fuzz_broken(__FILE__, __LINE__, "read again, %s differs", key);
}

static void judge_file(const uint8_t *bytes, size_t length)
{
	char error[CONFIG_ERROR_MAX] = "";
	char small[16] = "";
	const char *name = put_file(bytes, length);
	struct config *config = config_load(name, error, sizeof error);
	struct config *again = config_load(name, small, sizeof small);

	FUZZ_HOLDS((config == NULL) == (again == NULL), "read again, it is read otherwise");
	if (config == NULL) {
		check_error(error, name, bytes, length);
		FUZZ_HOLDS(strncmp(small, error, sizeof small - 1) == 0, "cut, it says else");
		return;
	}
	check_config(config);
	config_restart_only(config, again, report);
	config_free(config);
	config_free(again);
}

/* ---- single values, against strtoull and its like */

static bool is_digits(const char *text, const char *digits)
{
	return text[0] != '\0' && text[strspn(text, digits)] == '\0';
}

static void judge_whole(const char *text, enum value_error error, uint64_t number, int base)
{
	errno = 0;
	unsigned long long known = strtoull(text, NULL, base);
	bool good = is_digits(text, base == 10 ? "0123456789" : "01234567");

	FUZZ_HOLDS(good == (error != VALUE_BAD), "\"%s\" is %sa number", text, good ? "" : "not ");
	FUZZ_HOLDS(!good || (error == VALUE_HUGE) == (errno == ERANGE), "\"%s\" fits, or not",
	           text);
	FUZZ_HOLDS(error != VALUE_OK || number == known, "\"%s\" is %llu", text, known);
}

static void judge_value(const char *text)
{
	uint64_t number = 0;
	int64_t with_sign = 0;
	bool flag;

	enum value_error error = value_count(text, &number);
	judge_whole(text, error, number, 10);
	error = value_octal(text, &number);
	judge_whole(text, error, number, 8);
	if (value_signed(text, &with_sign) == VALUE_OK) {
		errno = 0;
		FUZZ_HOLDS(strtoll(text, NULL, 10) == with_sign && errno == 0, "\"%s\"", text);
	}
	if (value_size(text, &number) == VALUE_OK && is_digits(text, "0123456789"))
		judge_whole(text, VALUE_OK, number, 10);
	if (value_time(text, 1, &number) == VALUE_OK && is_digits(text, "0123456789"))
		judge_whole(text, VALUE_OK, number, 10);
	value_flag(text, &flag);
	listen_kind(text);
}

static void judge(const uint8_t *bytes, size_t length)
{
	char *text = malloc(length + 1);

	FUZZ_HOLDS(text != NULL, "out of memory");
	memcpy(text, bytes, length);
	text[length] = '\0';
	judge_value(text);
	free(text);
	judge_file(bytes, length);
}

static void seeds(fuzz_take *take)
{
	static const char *const values[] = {
	    "0",
	    "64M",
	    "18446744073709551615",
	    "18446744073709551616",
	    "-9223372036854775808",
	    "0.25s",
	    "1.5h",
	    "0777",
	    "16777216T",
	    "5124095576030431h",
	    "yes",
	    "[::1]:1",
	    "unix:/a",
	    "1.2.3.4:65535",
	    "0.000001ms",
	};

	fuzz_directory("t/configs", ".conf", take);
	fuzz_directory("etc", "tallyd.conf.in", take);
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		take(values[i], strlen(values[i]));
}

const struct fuzz_target fuzz_config = {
    .name = "config", .length_max = LENGTH_MAX, .judge = judge, .seeds = seeds};
