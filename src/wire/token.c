#include "token.h"

#include <sha256.h>
#include <stdio.h>
#include <string.h>

#include "http.h"
#include "json.h"
#include "moment.h"
#include "reply.h"

#define BLANKS " \t\r"

#define LONG_AGO 1 /* microseconds since 1970: a time that is over */

_Static_assert(TOKEN_DIGEST_SIZE == SHA256_DIGEST_LENGTH, "the library's size");
_Static_assert(ACCOUNT_NAME_MAX <= UINT8_MAX, "the length of a prefix");

static const char *const scope_names[TOKEN_SCOPES] = {"read", "write", "admin"};

const char *token_scope_name(unsigned index)
{
	return scope_names[index];
}

static uint8_t scope_of(const char *word, size_t length)
{
	for (unsigned i = 0; i < TOKEN_SCOPES; i++)
		if (strlen(scope_names[i]) == length && memcmp(scope_names[i], word, length) == 0)
			return (uint8_t)(1u << i);
	return 0;
}

bool token_scopes_read(const char *text, size_t length, uint8_t *scopes)
{
	uint8_t found = 0;

	for (size_t at = 0; at <= length;) {
		const char *comma = memchr(text + at, ',', length - at);
		size_t end = comma ? (size_t)(comma - text) : length;
		uint8_t scope = scope_of(text + at, end - at);
		if (scope == 0 || (found & scope))
			return false;
		found |= scope;
		at = end + 1;
	}
	*scopes = found;
	return true;
}

static bool is_alphanumeric(char byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
	       (byte >= '0' && byte <= '9');
}

bool token_name_valid(const char *name, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (!is_alphanumeric(name[i]) && !memchr("._-", name[i], 3))
			return false;
	return length > 0 && length <= TOKEN_NAME_MAX;
}

bool token_text_valid(const char *text, size_t length)
{
	size_t padding = 0;

	while (padding < length && text[length - padding - 1] == '=')
		padding++;
	for (size_t i = 0; i < length - padding; i++)
		if (!is_alphanumeric(text[i]) && !memchr("-._~+/", text[i], 6))
			return false;
	return length > padding && length <= TOKEN_TEXT_MAX;
}

void token_digest(const char *text, size_t length, uint8_t digest[TOKEN_DIGEST_SIZE])
{
	SHA2_CTX context;

	SHA256Init(&context);
	SHA256Update(&context, (const uint8_t *)text, length);
	SHA256Final(digest, &context);
}

/* --- a line --- */

static int hex_of(char byte)
{
	if (byte >= '0' && byte <= '9')
		return byte - '0';
	if (byte >= 'a' && byte <= 'f')
		return byte - 'a' + 10;
	return -1;
}

static bool read_digest(struct words word, uint8_t digest[TOKEN_DIGEST_SIZE])
{
	if (word.length != 2 * TOKEN_DIGEST_SIZE)
		return false;
	for (size_t i = 0; i < TOKEN_DIGEST_SIZE; i++) {
		int high = hex_of(word.bytes[2 * i]), low = hex_of(word.bytes[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		digest[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

/* The next word of *LINE, which then is what follows; length 0: there is none. */
static struct words next_word(struct words *line)
{
	uint32_t at = 0, end;

	while (at < line->length && strchr(BLANKS, line->bytes[at]))
		at++;
	for (end = at; end < line->length && !strchr(BLANKS, line->bytes[end]);)
		end++;
	struct words word = {line->bytes + at, end - at};
	*line = (struct words){line->bytes + end, line->length - end};
	return word;
}

static bool is_option(struct words *word, const char *name)
{
	uint32_t length = (uint32_t)strlen(name);

	if (word->length < length || memcmp(word->bytes, name, length) != 0)
		return false;
	*word = (struct words){word->bytes + length, word->length - length};
	return true;
}

static const char *read_prefix(struct words value, struct token *token)
{
	long length =
	    http_percent_decode(token->prefix, sizeof(token->prefix), value.bytes, value.length);

	if (token->prefix_length != 0)
		return "prefix= stands twice";
	if (length < 1 || !json_account_name_valid(token->prefix, (size_t)length))
		return "prefix= is 1 to 100 bytes of a name's beginning, percent-encoded";
	token->prefix_length = (uint8_t)length;
	return NULL;
}

static const char *read_expiry(struct words value, struct token *token)
{
	if (token->expires_us != 0)
		return "expires= stands twice";
	if (!moment_read(value.bytes, value.length, &token->expires_us) || token->expires_us == 0)
		return "expires= is a time as 2027-01-31T12:00:00Z";
	return NULL;
}

/* NULL, or what is wrong. */
static const char *read_line(struct words line, struct token *token)
{
	struct words name = next_word(&line), digest = next_word(&line), scopes = next_word(&line);
	struct words option;
	const char *wrong = NULL;

	*token = (struct token){0};
	if (!token_name_valid(name.bytes, name.length))
		return "it begins with a name of 1 to 64 letters, digits, '.', '_' and '-'";
	memcpy(token->name, name.bytes, name.length);
	if (!read_digest(digest, token->digest))
		return "its second word is a SHA-256: 64 digits of 0-9 and a-f";
	if (!token_scopes_read(scopes.bytes, scopes.length, &token->scopes))
		return "its third word is one or more of read, write and admin, with commas "
		       "between them";
	while (!wrong && (option = next_word(&line)).length > 0) {
		if (is_option(&option, "prefix="))
			wrong = read_prefix(option, token);
		else if (is_option(&option, "expires="))
			wrong = read_expiry(option, token);
		else
			wrong = "what follows the scopes is prefix=PREFIX or expires=TIME";
	}
	return wrong;
}

/* --- the file --- */

/* NULL, or why TOKEN cannot join TOKENS. */
static const char *check_new(const struct tokens *tokens, const struct token *token)
{
	unsigned same = 0;

	if (tokens->count == TOKENS_MAX)
		return "there are more than 256 tokens";
	for (size_t i = 0; i < tokens->count; i++) {
		if (memcmp(tokens->token[i].digest, token->digest, TOKEN_DIGEST_SIZE) == 0)
			return "this SHA-256 stands in an earlier line";
		same += strcmp(tokens->token[i].name, token->name) == 0;
	}
	return same == TOKENS_OF_NAME ? "this name has two lines already" : NULL;
}

static const char *add_line(struct tokens *tokens, struct words line)
{
	struct words rest = line, first = next_word(&rest);
	struct token token;

	if (memchr(line.bytes, '\0', line.length))
		return "it holds a NUL";
	if (first.length == 0 || first.bytes[0] == '#')
		return NULL;
	const char *wrong = read_line(line, &token);
	if (!wrong)
		wrong = check_new(tokens, &token);
	if (!wrong)
		tokens->token[tokens->count++] = token;
	return wrong;
}

bool tokens_read(struct tokens *tokens, const char *text, size_t length, unsigned *line,
                 char *wrong)
{
	tokens->count = 0;
	*line = 0;
	for (size_t at = 0; at < length;) {
		const char *feed = memchr(text + at, '\n', length - at);
		size_t end = feed ? (size_t)(feed - text) : length;
		++*line;
		const char *what =
		    end - at > TOKEN_LINE_MAX
		        ? "it is longer than 1024 bytes"
		        : add_line(tokens, (struct words){text + at, (uint32_t)(end - at)});
		if (what) {
			snprintf(wrong, TOKEN_WRONG_MAX, "%s", what);
			return false;
		}
		at = end + 1;
	}
	return true;
}

static void write_hex(struct text *out, unsigned char byte)
{
	static const char digits[] = "0123456789abcdef";
	const char pair[2] = {digits[byte >> 4], digits[byte & 15]};

	text_bytes(out, pair, sizeof(pair));
}

/* Only what can be mistaken for nothing else stands as it is. */
static void write_prefix(struct text *out, const struct token *token)
{
	for (uint8_t i = 0; i < token->prefix_length; i++) {
		char byte = token->prefix[i];
		if (is_alphanumeric(byte) || memchr("-._~:/@", byte, 7)) {
			text_bytes(out, &byte, 1);
		} else {
			text_literal(out, "%");
			write_hex(out, (unsigned char)byte);
		}
	}
}

void token_write(struct text *out, const struct token *token)
{
	bool first = true;

	text_string(out, token->name);
	text_literal(out, " ");
	for (size_t i = 0; i < TOKEN_DIGEST_SIZE; i++)
		write_hex(out, token->digest[i]);
	for (unsigned i = 0; i < TOKEN_SCOPES; i++) {
		if (!(token->scopes & (1u << i)))
			continue;
		text_string(out, first ? " " : ",");
		text_string(out, scope_names[i]);
		first = false;
	}
	if (token->prefix_length) {
		text_literal(out, " prefix=");
		write_prefix(out, token);
	}
	if (token->expires_us) {
		text_literal(out, " expires=");
		reply_time(out, token->expires_us);
	}
	text_literal(out, "\n");
}

/* --- whose it is --- */

const struct token *tokens_find(const struct tokens *tokens,
                                const uint8_t digest[TOKEN_DIGEST_SIZE])
{
	uintptr_t found = 0;

	for (size_t i = 0; i < tokens->count; i++) {
		unsigned difference = 0;
		for (size_t byte = 0; byte < TOKEN_DIGEST_SIZE; byte++)
			difference |= tokens->token[i].digest[byte] ^ digest[byte];
		/* All ones where nothing differs: no branch tells how far it was alike. */
		uintptr_t same = (uintptr_t)0 - ((difference - 1u) >> 31);
		found |= (uintptr_t)&tokens->token[i] & same;
	}
	return (const struct token *)found;
}

const struct token *tokens_of_text(const struct tokens *tokens, const char *text, size_t length)
{
	uint8_t digest[TOKEN_DIGEST_SIZE];

	if (!token_text_valid(text, length))
		return NULL;
	token_digest(text, length, digest);
	return tokens_find(tokens, digest);
}

static bool permits_as_much(const struct token *one, const struct token *other)
{
	return one->scopes == other->scopes && one->prefix_length == other->prefix_length &&
	       memcmp(one->prefix, other->prefix, one->prefix_length) == 0;
}

void tokens_renew(struct tokens *tokens, const struct tokens *now)
{
	for (size_t i = 0; i < tokens->count; i++) {
		struct token *token = &tokens->token[i];
		const struct token *same = tokens_find(now, token->digest);
		bool goes_on = same && permits_as_much(token, same);
		token->expires_us = goes_on ? same->expires_us : LONG_AGO;
		/* Nobody presents it any more: what it permits now is another entry. */
		if (same && !goes_on)
			memset(token->digest, 0, sizeof(token->digest));
	}
	for (size_t i = 0; i < now->count && tokens->count < TOKENS_KEPT; i++)
		if (!tokens_find(tokens, now->token[i].digest))
			tokens->token[tokens->count++] = now->token[i];
}

static bool begins_with(struct words name, const char *prefix, size_t length)
{
	return length == 0 || (name.length >= length && memcmp(name.bytes, prefix, length) == 0);
}

bool token_covers(const struct token *token, struct words name)
{
	return !token || begins_with(name, token->prefix, token->prefix_length);
}

bool token_narrows(const struct token *token, struct words prefix, struct words *narrowed)
{
	*narrowed = prefix;
	if (!token || begins_with(prefix, token->prefix, token->prefix_length))
		return true;
	*narrowed = (struct words){token->prefix, token->prefix_length};
	return prefix.length == 0 || begins_with(*narrowed, prefix.bytes, prefix.length);
}
