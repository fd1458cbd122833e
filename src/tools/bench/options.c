#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "zipf.h"

const char *const mix_name[MIXES] = {"event",        "transfer",     "transaction",
                                     "hold+capture", "hold+release", "read"};

static const char help[] =
    "usage: tallybench [options] URL\n"
    "       tallybench compare [options] [--rounds N] URL URL...\n"
    "URL is http://HOST:PORT or unix:/PATH.\n"
    "\n"
    "  -c, --connections N       connections (64)\n"
    "  -p, --pipeline N          requests sent ahead on each (1)\n"
    "  -b, --batch N             events in a request, one per line (1)\n"
    "  -a, --accounts N          accounts (10000)\n"
    "  -s, --skew HOW            uniform, or zipf:EXPONENT (uniform)\n"
    "  -m, --mix OP[=WEIGHT],... event, transfer, transaction, hold+capture,\n"
    "                            hold+release, read (event)\n"
    "  -A, --amount N[:N]        what an event adds, or between which two (1)\n"
    "  -l, --legs N              accounts of a transaction (3)\n"
    "  -i, --ids                 an id for each operation\n"
    "  -r, --rate N              operations per second; latency counts from when each\n"
    "                            was due (without it: as fast as it goes)\n"
    "  -d, --duration SECONDS    how long (10)\n"
    "  -n, --operations N        how many, instead\n"
    "  -t, --timeout SECONDS     for an answer (10)\n"
    "  -T, --token TOKEN         Authorization: Bearer TOKEN\n"
    "      --token-file FILE     the same, from the first line of FILE\n"
    "      --prefix TEXT         what the accounts' names begin with (bench)\n"
    "      --seed N              of everything random (1)\n"
    "      --sources N           connect from 127.0.0.1 to 127.0.0.N\n"
    "      --preset stress       10000 connections\n"
    "  -v, --verify              prove by all balances that accepted = applied\n"
    "  -j, --json                the result as JSON\n"
    "      --plot FILE           latencies in HdrHistogram's format\n"
    "      --rounds N            of compare (3)\n"
    "  -q, --quiet               no line of progress\n"
    "  -h, --help   -V, --version\n";

enum { TOKEN_FILE = 256, PREFIX, SEED, SOURCES, PRESET, PLOT, ROUNDS };

static const char letters[] = "c:p:b:a:s:m:A:l:ir:d:n:t:T:vjqhV";
static const struct option names[] = {
    {"connections", required_argument, NULL, 'c'},
    {"pipeline", required_argument, NULL, 'p'},
    {"batch", required_argument, NULL, 'b'},
    {"accounts", required_argument, NULL, 'a'},
    {"skew", required_argument, NULL, 's'},
    {"mix", required_argument, NULL, 'm'},
    {"amount", required_argument, NULL, 'A'},
    {"legs", required_argument, NULL, 'l'},
    {"ids", no_argument, NULL, 'i'},
    {"rate", required_argument, NULL, 'r'},
    {"duration", required_argument, NULL, 'd'},
    {"operations", required_argument, NULL, 'n'},
    {"timeout", required_argument, NULL, 't'},
    {"token", required_argument, NULL, 'T'},
    {"token-file", required_argument, NULL, TOKEN_FILE},
    {"prefix", required_argument, NULL, PREFIX},
    {"seed", required_argument, NULL, SEED},
    {"sources", required_argument, NULL, SOURCES},
    {"preset", required_argument, NULL, PRESET},
    {"verify", no_argument, NULL, 'v'},
    {"json", no_argument, NULL, 'j'},
    {"plot", required_argument, NULL, PLOT},
    {"rounds", required_argument, NULL, ROUNDS},
    {"quiet", no_argument, NULL, 'q'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

__attribute__((format(printf, 1, 2))) static bool wrong(const char *format, ...)
{
	va_list arguments;

	fputs("tallybench: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputs("; see tallybench --help\n", stderr);
	return false;
}

/* ---- values */

/* Digits only: no sign, no space.  NAME is the option's. */
static bool whole(const char *name, const char *text, uint64_t least, uint64_t most,
                  uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *value >= least &&
	    *value <= most)
		return true;
	return wrong("%s: \"%s\" is not a number from %llu to %llu", name, text,
	             (unsigned long long)least, (unsigned long long)most);
}

static bool count(const char *name, const char *text, uint32_t least, uint32_t most,
                  uint32_t *value)
{
	uint64_t number;

	if (!whole(name, text, least, most, &number))
		return false;
	*value = (uint32_t)number;
	return true;
}

/* Above 0, with or without a fraction. */
static bool positive(const char *name, const char *text, double most, double *value)
{
	char *end;

	*value = strtod(text, &end);
	if (((text[0] >= '0' && text[0] <= '9') || text[0] == '.') && *end == '\0' &&
	    strpbrk(text, "xX") == NULL && isfinite(*value) && *value > 0 && *value <= most)
		return true;
	return wrong("%s: \"%s\" is not a number above 0 and up to %g", name, text, most);
}

static bool read_skew(struct options *options, const char *text)
{
	options->zipf = 0;
	if (strcmp(text, "uniform") == 0)
		return true;
	if (strncmp(text, "zipf:", 5) == 0)
		return positive("--skew zipf", text + 5, ZIPF_EXPONENT_MAX, &options->zipf);
	return wrong("--skew: \"%s\" is neither uniform nor zipf:EXPONENT", text);
}

static bool read_weight(struct options *options, char *part)
{
	char *equals = strchr(part, '=');

	if (equals != NULL)
		*equals++ = '\0';
	for (int i = 0; i < MIXES; i++) {
		if (strcmp(part, mix_name[i]) != 0)
			continue;
		if (options->weight[i] != 0)
			return wrong("--mix: %s comes twice", part);
		options->weight[i] = 1;
		return equals == NULL || count("--mix", equals, 1, WEIGHT_MAX, &options->weight[i]);
	}
	return wrong("--mix: there is no operation \"%s\"", part);
}

static bool read_mix(struct options *options, const char *text)
{
	char copy[256];
	char *rest = copy, *part;

	if (strlen(text) >= sizeof copy)
		return wrong("--mix: the text is too long");
	strcpy(copy, text);
	memset(options->weight, 0, sizeof options->weight);
	while ((part = strsep(&rest, ",")) != NULL)
		if (!read_weight(options, part))
			return false;
	return true;
}

static bool read_signed(const char *text, char **end, int32_t *value)
{
	long number;

	errno = 0;
	number = strtol(text, end, 10);
	*value = (int32_t)number;
	return *end != text && (text[0] == '-' || (text[0] >= '0' && text[0] <= '9')) &&
	       errno == 0 && number >= -AMOUNT_MOST && number <= AMOUNT_MOST;
}

static bool read_amount(struct options *options, const char *text)
{
	char *end;
	bool good = read_signed(text, &end, &options->amount_least);

	options->amount_most = options->amount_least;
	if (good && *end == ':')
		good = read_signed(end + 1, &end, &options->amount_most);
	if (good && *end == '\0' && options->amount_least <= options->amount_most)
		return true;
	return wrong("--amount: \"%s\" is neither an amount nor LEAST:MOST, from -%d to %d", text,
	             AMOUNT_MOST, AMOUNT_MOST);
}

/* Names that are the same in JSON and in a path. */
static bool read_prefix(struct options *options, const char *text)
{
	static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	                           "0123456789._~-";
	size_t length = strlen(text);

	options->prefix = text;
	if (length > 0 && length <= PREFIX_MAX && strspn(text, good) == length)
		return true;
	return wrong("--prefix: \"%s\" is not 1 to %d letters, digits and ._~-", text, PREFIX_MAX);
}

/* RFC 6750 2.1.  The token itself is never shown. */
static bool read_token(struct options *options, const char *text)
{
	static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	                           "0123456789-._~+/";
	size_t length = strlen(text), body = strspn(text, good);

	if (body == 0 || length > TOKEN_MAX || body + strspn(text + body, "=") != length)
		return wrong("--token: not 1 to %d characters of a bearer token", TOKEN_MAX);
	strcpy(options->token, text);
	return true;
}

static bool read_token_file(struct options *options, const char *path)
{
	char line[TOKEN_MAX + 3] = "";
	FILE *file = fopen(path, "re");

	if (file == NULL || fgets(line, sizeof line, file) == NULL) {
		const char *why = file == NULL || ferror(file) ? strerror(errno) : "it is empty";
		wrong("--token-file: cannot read %s: %s", path, why);
		if (file != NULL)
			fclose(file);
		return false;
	}
	fclose(file);
	line[strcspn(line, "\r\n")] = '\0';
	return read_token(options, line);
}

/* ---- the whole */

static const struct options defaults = {
    .rounds = 3,
    .connections = 64,
    .depth = 1,
    .batch = 1,
    .accounts = 10000,
    .weight = {[MIX_EVENT] = 1},
    .amount_least = 1,
    .amount_most = 1,
    .legs = 3,
    .timeout = 10,
    .prefix = "bench",
    .seed = 1,
};

#define DEFAULT_DURATION   10.0
#define STRESS_CONNECTIONS 10000

static bool read_option(struct options *options, int option, const char *value)
{
	switch (option) {
	case 'c':
		return count("--connections", value, 1, CONNECTIONS_MAX, &options->connections);
	case 'p':
		return count("--pipeline", value, 1, DEPTH_MAX, &options->depth);
	case 'b':
		return count("--batch", value, 1, BATCH_MAX, &options->batch);
	case 'a':
		return count("--accounts", value, 1, ACCOUNTS_MAX, &options->accounts);
	case 's':
		return read_skew(options, value);
	case 'm':
		return read_mix(options, value);
	case 'A':
		return read_amount(options, value);
	case 'l':
		return count("--legs", value, LEGS_LEAST, LEGS_MOST, &options->legs);
	case 'i':
		return options->ids = true;
	case 'r':
		return positive("--rate", value, RATE_MAX, &options->rate);
	case 'd':
		return positive("--duration", value, DURATION_MAX, &options->duration);
	case 'n':
		return whole("--operations", value, 1, OPERATIONS_MAX, &options->operations);
	case 't':
		return positive("--timeout", value, TIMEOUT_MAX, &options->timeout);
	case 'T':
		return read_token(options, value);
	case TOKEN_FILE:
		return read_token_file(options, value);
	case PREFIX:
		return read_prefix(options, value);
	case SEED:
		return whole("--seed", value, 0, UINT64_MAX, &options->seed);
	case SOURCES:
		return count("--sources", value, 1, SOURCES_MAX, &options->sources);
	case PRESET:
		return strcmp(value, "stress") == 0 ||
		       wrong("--preset: there is none called \"%s\", but stress", value);
	case 'v':
		return options->verify = true;
	case 'j':
		return options->json = true;
	case PLOT:
		options->plot = value;
		return true;
	case ROUNDS:
		if (!options->compare)
			return wrong("--rounds is for compare");
		return count("--rounds", value, 1, ROUNDS_MAX, &options->rounds);
	case 'q':
		return options->quiet = true;
	default:
		return false; /* getopt has said why */
	}
}

static bool agree(struct options *options)
{
	uint32_t others = 0, needed = 1;

	if (options->duration > 0 && options->operations > 0)
		return wrong("--duration and --operations: one of them says when to end");
	if (options->duration == 0 && options->operations == 0)
		options->duration = DEFAULT_DURATION;
	for (int i = 0; i < MIXES; i++)
		others += i == MIX_EVENT ? 0 : options->weight[i];
	if (options->batch > 1 && others > 0)
		return wrong("--batch takes events only, no other operation of --mix");
	if (options->weight[MIX_TRANSFER] > 0)
		needed = 2;
	if (options->weight[MIX_TRANSACTION] > 0)
		needed = options->legs;
	if (options->accounts < needed)
		return wrong("--accounts: this mix needs %u", needed);
	if (options->compare && options->plot != NULL)
		return wrong("--plot is for one run, not for compare");
	return true;
}

static bool read_urls(struct options *options, int argc, char **argv)
{
	if (argc == 0)
		return wrong("no URL");
	if (!options->compare && argc > 1)
		return wrong("one URL; to measure several: tallybench compare");
	if (options->compare && argc < 2)
		return wrong("compare needs two URLs or more");
	if (argc > URLS_MAX)
		return wrong("compare takes up to %d URLs", URLS_MAX);
	for (int i = 0; i < argc; i++)
		options->url[options->urls++] = argv[i];
	return true;
}

/* A preset is what the other options change, wherever it stands. */
static void read_preset(struct options *options, int argc, char **argv)
{
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, letters, names, NULL)) != -1)
		if (option == PRESET)
			options->connections = STRESS_CONNECTIONS;
	opterr = 1;
	optind = 0; /* glibc's: from the beginning */
}

enum options_result options_read(struct options *options, int argc, char **argv)
{
	int option;

	*options = defaults;
	if (argc > 1 && strcmp(argv[1], "compare") == 0) {
		options->compare = true;
		argv[1] = argv[0];
		argc--;
		argv++;
	}
	read_preset(options, argc, argv);
	while ((option = getopt_long(argc, argv, letters, names, NULL)) != -1) {
		if (option == 'h' || option == 'V') {
			fputs(option == 'h' ? help : "tallybench " PACKAGE_VERSION "\n", stdout);
			return OPTIONS_DONE;
		}
		if (!read_option(options, option, optarg))
			return OPTIONS_WRONG;
	}
	if (!read_urls(options, argc - optind, argv + optind) || !agree(options))
		return OPTIONS_WRONG;
	return OPTIONS_RUN;
}
