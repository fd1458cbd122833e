#include "source.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A walk through the text. */
struct walk {
	char *at;
	int line;
	int depth;      /* open braces */
	int brace_line; /* of the outermost open one */
};

static char *complain(const char *path, int line, const char *message, char *error,
                      size_t error_size)
{
	snprintf(error, error_size, "%s:%d: syntax: %s", path, line, message);
	return NULL;
}

static void step(struct walk *walk)
{
	if (*walk->at == '\n')
		walk->line++;
	walk->at++;
}

static void blank(struct walk *walk)
{
	if (*walk->at != '\n')
		*walk->at = ' ';
	step(walk);
}

static void blank_line(struct walk *walk)
{
	while (*walk->at != '\0' && *walk->at != '\n')
		blank(walk);
}

/* From slash-star on.  Returns whether it ends. */
static bool blank_block(struct walk *walk)
{
	const char *end = strstr(walk->at + 2, "*/");

	if (!end)
		return false;
	while (walk->at < end + 2)
		blank(walk);
	return true;
}

/* From a quote to behind its fellow; a backslash takes the next byte's meaning.  Returns whether it
 * ends. */
static bool pass_string(struct walk *walk)
{
	char quote = *walk->at;

	step(walk);
	while (*walk->at != '\0' && *walk->at != quote) {
		if (*walk->at == '\\' && walk->at[1] != '\0')
			step(walk);
		step(walk);
	}
	if (*walk->at == '\0')
		return false;
	step(walk);
	return true;
}

static void pass_byte(struct walk *walk)
{
	if (*walk->at == '{' && walk->depth++ == 0)
		walk->brace_line = walk->line;
	if (*walk->at == '}')
		walk->depth--;
	step(walk);
}

/* Could a word begin at AT, so that a slash here is not the middle of a path? */
static bool is_word_start(const char *text, const char *at)
{
	return at == text || strchr(" \t\r\n={}()+,\"'", at[-1]);
}

/* Blanks the comments of TEXT.  NULL with ERROR, or TEXT. */
static char *clean(const char *path, char *text, char *error, size_t error_size)
{
	struct walk walk = {.at = text, .line = 1};

	while (*walk.at != '\0') {
		int line = walk.line;
		bool slash = *walk.at == '/' && is_word_start(text, walk.at);

		if (*walk.at == '#' || (slash && walk.at[1] == '/')) {
			blank_line(&walk);
		} else if (slash && walk.at[1] == '*') {
			if (!blank_block(&walk))
				return complain(path, line,
				                "this comment is not closed; allowed: "
				                "/* ... */",
				                error, error_size);
		} else if (*walk.at == '"' || *walk.at == '\'') {
			if (!pass_string(&walk))
				return complain(path, line,
				                "this quote is not closed; allowed: "
				                "\"...\"",
				                error, error_size);
		} else {
			pass_byte(&walk);
		}
	}
	if (walk.depth > 0)
		return complain(path, walk.brace_line,
		                "this brace is not closed; allowed: listen \"ADDRESS\" { ... }",
		                error, error_size);
	return text;
}

static char *cannot_read(const char *path, char *error, size_t error_size)
{
	snprintf(error, error_size,
	         "%s: cannot read the %sconfiguration file: %s; create it, or name another with -c "
	         "FILE",
	         path, strcmp(path, TALLYD_CONFIG_FILE) == 0 ? "default " : "", strerror(errno));
	return NULL;
}

/* The whole of PATH and a NUL into TEXT of SOURCE_MAX + 2 bytes; the length, or -1 with errno. */
static long read_file(const char *path, char *text)
{
	FILE *file = fopen(path, "re");
	size_t length;
	int reason;

	if (!file)
		return -1;
	length = fread(text, 1, SOURCE_MAX + 1, file);
	reason = ferror(file) ? errno : length > SOURCE_MAX ? EFBIG : 0;
	fclose(file);
	text[length] = '\0';
	errno = reason;
	return reason == 0 ? (long)length : -1;
}

char *source_read(const char *path, char *error, size_t error_size)
{
	char *text = malloc(SOURCE_MAX + 2), *result;
	long length = text ? read_file(path, text) : -1;

	if (length == -1)
		result = cannot_read(path, error, error_size);
	else if (strlen(text) != (size_t)length)
		result =
		    complain(path, 1, "the file holds a NUL; allowed: text", error, error_size);
	else
		result = clean(path, text, error, error_size);
	if (!result)
		free(text);
	return result;
}
