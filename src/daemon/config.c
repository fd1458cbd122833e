#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <confuse.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../server/networks.h"
#include "auth_file.h"
#include "keys.h"
#include "listen.h"
#include "people.h"
#include "source.h"

#define VALUE_SHOWN 100 /* bytes of a bad value that a message repeats */

/* A file being read.  The parser's callbacks carry no pointer of ours, hence the static one. */
struct load {
	const char *path;
	struct config *config;
	struct config_listener listener; /* the section being read */
	int key_line[KEYS_MAX];          /* where each was given; 0: not yet */
	int listen_line[KEYS_MAX];
	char *error; /* the first message stays */
	size_t error_size;
};
static struct load *load;

const char *config_key(size_t index)
{
	if (index < config_keys.count)
		return config_keys.keys[index].name;
	index -= config_keys.count;
	return index < listen_keys.count ? listen_keys.keys[index].name : NULL;
}

/* Keeps the first message; it names the cause, later ones are its consequences. */
__attribute__((format(printf, 2, 3))) static void complain(int line, const char *format, ...)
{
	va_list arguments;
	int used;

	if (load->error[0] != '\0')
		return;
	used = snprintf(load->error, load->error_size, "%s:%d: ", load->path, line);
	if (used < 0 || (size_t)used >= load->error_size)
		return;
	va_start(arguments, format);
	vsnprintf(load->error + used, load->error_size - (size_t)used, format, arguments);
	va_end(arguments);
}

static void listener_clear(struct config_listener *listener)
{
	free(listener->address);
	listener->address = NULL;
	key_clear(&listen_keys, listener);
}

/* One KEY = TEXT of the file, at the top or (SECTION) within a listen section. */
static int take(bool section, const char *name, const char *text, int line)
{
	const struct key_table *table = section ? &listen_keys : &config_keys;
	size_t place = key_find(table, name);
	int *given = &(section ? load->listen_line : load->key_line)[place];
	const char *wrong;

	if (*given != 0) {
		complain(line, "%s: it is given already in line %d; allowed: once", name, *given);
		return -1;
	}
	*given = line;
	wrong = key_set(&table->keys[place],
	                section ? (void *)&load->listener : (void *)load->config, text);
	if (!wrong)
		return 0;
	complain(line, "%s: \"%.*s\" %s; allowed: %s", name, VALUE_SHOWN, text, wrong,
	         table->keys[place].allowed);
	return -1;
}

/* cfg_callback_t: the parser hands over one value. */
static int on_value(cfg_t *cfg, cfg_opt_t *option, const char *value, void *result)
{
	*(const char **)result = value;
	return take(cfg->title != NULL, option->name, value, cfg->line);
}

/* A list that can have none of those who connect would refuse them all. */
static int check_proxies(const struct config_listener *listener, const char *address, bool local)
{
	struct networks proxies;

	/* The key was checked with the same function. */
	networks_read(listener->proxy_from, &proxies);
	if (networks_empty(&proxies) || (local ? proxies.local : proxies.count > 0))
		return 0;
	complain(load->listen_line[key_find(&listen_keys, "proxy_from")],
	         "proxy_from: \"%.*s\" has nobody who could connect to \"%.*s\"; allowed: %s",
	         VALUE_SHOWN, listener->proxy_from, VALUE_SHOWN, address,
	         local ? "unix" : "addresses and networks");
	return -1;
}

/* What TEXT, the value of key NAME, means.  Returns the number of IDS, or -1. */
static int read_people(const char *name, const char *text, enum people people, uint32_t *ids)
{
	char wrong[PEOPLE_WRONG_MAX];
	int count = people_read(text, people, ids, SERVED_MAX, wrong);

	if (count < 0)
		complain(load->listen_line[key_find(&listen_keys, name)],
		         "%s: \"%.*s\" %s; allowed: %s", name, VALUE_SHOWN, text, wrong,
		         listen_keys.keys[key_find(&listen_keys, name)].allowed);
	return count;
}

/* Whom LISTENER, which is of KIND, serves. */
static int find_served(struct config_listener *listener, enum listen_kind kind, const char *address)
{
	struct served *served = &listener->served;
	const char *name = listener->allow_users[0] != '\0' ? "allow_users" : "allow_groups";
	int users = read_people("allow_users", listener->allow_users, PEOPLE_USERS, served->user);
	int groups = users < 0 ? -1
	                       : read_people("allow_groups", listener->allow_groups, PEOPLE_GROUPS,
	                                     served->group);

	if (groups < 0)
		return -1;
	served->users = (size_t)users;
	served->groups = (size_t)groups;
	if (kind == LISTEN_UNIX || (users == 0 && groups == 0))
		return 0;
	complain(load->listen_line[key_find(&listen_keys, name)],
	         "%s: \"%.*s\" is not a unix socket, and who connects there is not known; allowed: "
	         "%s only with \"unix:/path\"",
	         name, VALUE_SHOWN, address, name);
	return -1;
}

static int listener_check(struct config_listener *listener, const char *address, int line)
{
	enum listen_kind kind = listen_kind(address);
	int mode_line = load->listen_line[key_find(&listen_keys, "mode")];

	if (kind == LISTEN_INVALID) {
		complain(line,
		         "listen: \"%.*s\" is not an address; allowed: \"127.0.0.1:7070\", "
		         "\"[::1]:7070\", \"*:7070\", \"unix:/path\" (numeric, at most 107 bytes "
		         "of path)",
		         VALUE_SHOWN, address);
		return -1;
	}
	if (kind != LISTEN_UNIX && mode_line != 0) {
		complain(mode_line,
		         "mode: \"%.*s\" is not a unix socket; allowed: mode only with "
		         "\"unix:/path\"",
		         VALUE_SHOWN, address);
		return -1;
	}
	if (check_proxies(listener, address, kind == LISTEN_UNIX) != 0)
		return -1;
	return find_served(listener, kind, address);
}

/* Starts the next section at its defaults. */
static int listener_begin(void)
{
	memset(&load->listener, 0, sizeof(load->listener));
	memset(load->listen_line, 0, sizeof(load->listen_line));
	return key_set_defaults(&listen_keys, &load->listener);
}

/* Adds LISTENER to CONFIG, with what it owns. */
static int listener_append(struct config *config, struct config_listener *listener,
                           const char *address)
{
	struct config_listener *grown =
	    reallocarray(config->listeners, config->listener_count + 1, sizeof(*config->listeners));

	if (!grown)
		return -1;
	config->listeners = grown;
	listener->address = strdup(address);
	if (!listener->address)
		return -1;
	grown[config->listener_count++] = *listener;
	return 0;
}

/* Completes the section being read under the name ADDRESS. */
static int listener_finish(const char *address, int line)
{
	if (load->config->listener_count == CONFIG_LISTENERS_MAX) {
		complain(line, "listen: one section too many; allowed: %d", CONFIG_LISTENERS_MAX);
		return -1;
	}
	load->listener.line = (uint32_t)line;
	if (listener_check(&load->listener, address, line) != 0)
		return -1;
	if (listener_append(load->config, &load->listener, address) == 0 && listener_begin() == 0)
		return 0;
	complain(line, "listen: out of memory; allowed: fewer listen sections");
	return -1;
}

/* cfg_validate_callback_t: a listen section has been closed. */
static int on_section(cfg_t *cfg, cfg_opt_t *option)
{
	cfg_t *section = cfg_opt_getnsec(option, cfg_opt_size(option) - 1);

	return listener_finish(cfg_title(section), cfg->line);
}

static const char line_form[] = "allowed: KEY = VALUE, or listen \"ADDRESS\" { ... }";

/*
 * cfg_errfunc_t: the parser's own complaints, in our words where we know its
 * format.  Its first argument, where it has one, is a string.
 */
static void on_error(cfg_t *cfg, const char *format, va_list arguments)
{
	static const struct {
		const char *format, *before, *after;
	} known[] = {
	    {"no such option '%s'", "",
	     ": there is no such key here; allowed: the keys of tallyd.conf(5)"},
	    {"missing equal sign after option '%s'", "",
	     ": no equal sign follows; allowed: KEY = VALUE"},
	    {"attempt to append to non-list option '%s'", "",
	     ": it cannot be added to; allowed: KEY = VALUE"},
	    {"missing opening brace for section '%s'", "",
	     ": no opening brace follows; allowed: listen \"ADDRESS\" { ... }"},
	    {"missing title for section '%s'", "",
	     ": no address follows; allowed: listen \"ADDRESS\" { ... }"},
	    {"found duplicate title '%s'", "listen: \"",
	     "\" is given already; allowed: each address once"},
	};
	char text[CONFIG_ERROR_MAX];

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(format, known[i].format) != 0)
			continue;
		complain(cfg->line, "%s%.*s%s", known[i].before, VALUE_SHOWN,
		         va_arg(arguments, char *), known[i].after);
		return;
	}
	vsnprintf(text, sizeof(text), format, arguments);
	complain(cfg->line, "syntax: %s; %s", text, line_form);
}

/* Fills OPTIONS with the keys of TABLE, all strings to the parser. */
static void name_keys(const struct key_table *table, cfg_opt_t *options)
{
	for (size_t i = 0; i < table->count; i++)
		options[i] =
		    (cfg_opt_t)CFG_STR_CB(table->keys[i].name, NULL, CFGF_NODEFAULT, on_value);
}

static cfg_t *make_parser(void)
{
	cfg_opt_t listen_options[KEYS_MAX + 1], options[KEYS_MAX + 2];
	const cfg_opt_t end = CFG_END();
	cfg_t *parser;

	name_keys(&listen_keys, listen_options);
	listen_options[listen_keys.count] = end;
	name_keys(&config_keys, options);
	options[config_keys.count] = (cfg_opt_t)CFG_SEC(
	    "listen", listen_options, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES);
	options[config_keys.count + 1] = end;
	parser = cfg_init(options, CFGF_NONE);
	if (!parser)
		return NULL;
	cfg_set_error_function(parser, on_error);
	cfg_set_validate_func(parser, "listen", on_section);
	return parser;
}

/* Every key at its default, no listener yet. */
static struct config *blank(void)
{
	struct config *config = calloc(1, sizeof(*config));

	if (config && key_set_defaults(&config_keys, config) != 0) {
		config_free(config);
		return NULL;
	}
	return config;
}

static int add_default_listener(struct config *config)
{
	struct config_listener listener = {0};

	if (key_set_defaults(&listen_keys, &listener) == 0 &&
	    listener_append(config, &listener, CONFIG_LISTEN) == 0)
		return 0;
	listener_clear(&listener);
	return -1;
}

struct config *config_default(void)
{
	struct config *config = blank();

	if (config && add_default_listener(config) != 0) {
		config_free(config);
		return NULL;
	}
	return config;
}

static int check_limits(const struct config *config)
{
	int floor_line = load->key_line[key_find(&config_keys, "default_floor")];
	int ceiling_line = load->key_line[key_find(&config_keys, "default_ceiling")];

	if (config->default_floor <= config->default_ceiling)
		return 0;
	complain(floor_line > ceiling_line ? floor_line : ceiling_line,
	         "default_floor: %" PRId64 " is above default_ceiling = %" PRId64
	         "; allowed: at most default_ceiling",
	         config->default_floor, config->default_ceiling);
	return -1;
}

/* Do connections of LISTENER say who they are? */
static bool asks_for_tokens(const struct config *config, const struct config_listener *listener)
{
	return config->auth_file[0] != '\0' && !listener->allow_anonymous &&
	       (strcmp(listener->protocol, "http") == 0 ||
	        strcmp(listener->protocol, "redis") == 0 ||
	        strcmp(listener->protocol, "chat") == 0);
}

/* May people of other machines come by LISTENER?  A proxy passes on whoever comes to it. */
static bool is_public(const struct config_listener *listener)
{
	return listen_kind(listener->address) == LISTEN_PUBLIC || listener->proxy_from[0] != '\0';
}

static int check_open(const struct config *config)
{
	for (size_t i = 0; i < config->listener_count; i++) {
		const struct config_listener *listener = &config->listeners[i];

		if (!is_public(listener) || listener->allow_anonymous ||
		    asks_for_tokens(config, listener))
			continue;
		complain((int)listener->line,
		         "listen: \"%.*s\" is open to other machines and asks nobody who they "
		         "are; allowed: a loopback or unix address without proxy_from, tokens "
		         "(auth_file, for http, redis and chat), or allow_anonymous = true",
		         VALUE_SHOWN, listener->address);
		return -1;
	}
	return 0;
}

/* What only the whole file shows. */
static int check_whole(const struct config *config)
{
	int line = load->key_line[key_find(&config_keys, "group")];
	int memory_line = load->key_line[key_find(&config_keys, "buffer_memory")];
	int body_line = load->key_line[key_find(&config_keys, "max_body")];

	/* A body stands in a buffer of a power of two while the next larger one is filled. */
	if (config->buffer_memory / 4 < config->max_body) {
		complain(
		    body_line > memory_line ? body_line : memory_line,
		    "buffer_memory: %" PRIu32 " bytes cannot hold one body of max_body = %" PRIu32
		    " bytes beside its copy and its echo; allowed: at least four times max_body",
		    config->buffer_memory, config->max_body);
		return -1;
	}
	if (config->group[0] != '\0' && config->user[0] == '\0') {
		complain(line,
		         "group: \"%.*s\" stands without user; allowed: user = \"NAME\" "
		         "beside it",
		         VALUE_SHOWN, config->group);
		return -1;
	}
	return check_open(config) == 0 ? check_limits(config) : -1;
}

/* Where the parser stopped, which in a section only the section knows. */
static int last_line(cfg_t *parser)
{
	unsigned count = cfg_size(parser, "listen");
	cfg_t *section = count > 0 ? cfg_getnsec(parser, "listen", count - 1) : NULL;

	return section && section->line > parser->line ? section->line : parser->line;
}

static int parse(const char *text)
{
	cfg_t *parser = make_parser();
	int result;

	if (!parser)
		return -1;
	errno = 0;
	result = cfg_parse_buf(parser, text);
	/* It says nothing of a name that is "". */
	if (result != CFG_SUCCESS && errno != ENOMEM)
		complain(last_line(parser), "syntax: this cannot be read; %s", line_form);
	cfg_free(parser);
	if (result != CFG_SUCCESS || check_whole(load->config) != 0)
		return -1;
	return load->config->listener_count > 0 ? 0 : add_default_listener(load->config);
}

struct config *config_load(const char *path, char *error, size_t error_size)
{
	struct load state = {.path = path, .error = error, .error_size = error_size};
	char *text = source_read(path, error, error_size);
	int result = -1;

	if (!text)
		return NULL;
	error[0] = '\0';
	load = &state;
	state.config = blank();
	if (state.config && listener_begin() == 0)
		result = parse(text);
	load = NULL;
	free(text);
	listener_clear(&state.listener);
	if (result == 0)
		return state.config;
	config_free(state.config);
	if (error[0] == '\0')
		snprintf(error, error_size, "%s: out of memory; free some and try again", path);
	return NULL;
}

int config_load_tokens(struct config *config, char *error, size_t error_size)
{
	if (config->auth_file[0] == '\0')
		return 0;
	config->tokens = auth_file_load(config->auth_file, error, error_size);
	return config->tokens ? 0 : -1;
}

void config_free(struct config *config)
{
	if (!config)
		return;
	for (size_t i = 0; i < config->listener_count; i++)
		listener_clear(&config->listeners[i]);
	free(config->listeners);
	free(config->tokens);
	key_clear(&config_keys, config);
	free(config);
}

int config_restart_only(const struct config *old, const struct config *new_,
                        void (*report)(const char *key))
{
	int changed = 0;

	for (size_t i = 0; i < config_keys.count; i++) {
		const struct key *key = &config_keys.keys[i];

		if (!key->restart_only || key_same(key, old, new_))
			continue;
		report(key->name);
		changed++;
	}
	return changed;
}

int config_keep(struct config *new_, const struct config *old)
{
	for (size_t i = 0; i < config_keys.count; i++) {
		const struct key *key = &config_keys.keys[i];

		if (key->restart_only && key_copy(key, new_, old) != 0)
			return -1;
	}
	return 0;
}

uint32_t config_workers(const struct config *config)
{
	cpu_set_t cpus;
	int count = 1;

	if (config->workers != 0)
		return config->workers;
	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
		count = CPU_COUNT(&cpus);
	if (count < 1)
		return 1;
	return count > CONFIG_WORKERS_MAX ? CONFIG_WORKERS_MAX : (uint32_t)count;
}
