/* Tokens: their lines, whose a token is, and what it covers. */
#include "../src/wire/token.h"

#include <stdio.h>
#include <string.h>

#include "tap/tap.h"

/* SHA-256 of "abc" (FIPS 180-4's own example) and of "". */
#define ABC   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static struct tokens tokens;
static char wrong[TOKEN_WRONG_MAX];
static unsigned line;

static bool reads(const char *text)
{
	return tokens_read(&tokens, text, strlen(text), &line, wrong);
}

static void refuses(const char *text, unsigned at, const char *why)
{
	if (!ok(!reads(text) && line == at && strstr(wrong, why) != NULL, "line %u: %s", at, why))
		diag("%.60s: line %u: %s", text, line, wrong);
}

static struct words words(const char *text)
{
	return (struct words){text, (uint32_t)strlen(text)};
}

static void test_lines(void)
{
	ok(reads("") && tokens.count == 0, "an empty file");
	ok(reads("\n# nobody\n \t\r\n   # nor here") && tokens.count == 0, "and one of remarks");
	ok(reads("a " ABC " read\n") && tokens.count == 1, "a token");
	is(tokens.token[0].name, "a", "its name");
	cmp_ok(tokens.token[0].scopes, "==", SCOPE_READ, "its scope");
	ok(reads("\ta.B_c-9 \t" ABC "  admin,read,write\r\nb " EMPTY " write prefix=x%2fy%20 "
	         "expires=2027-01-31T12:00:00+01:00"),
	   "two, with all there is, the last without an end");
	cmp_ok(tokens.token[0].scopes, "==", SCOPE_READ | SCOPE_WRITE | SCOPE_ADMIN, "all scopes");
	cmp_ok(tokens.token[1].prefix_length, "==", 4, "a prefix");
	ok(memcmp(tokens.token[1].prefix, "x/y ", 4) == 0, "decoded");
	cmp_ok((intmax_t)tokens.token[1].expires_us, "==", INTMAX_C(1801393200000000), "its end");
	refuses("a b " ABC " read\n", 1, "SHA-256");
	refuses("a/b " ABC " read\n", 1, "begins with a name");
	refuses("# x\n\na " ABC "\n", 3, "third word");
	refuses("a " ABC " reads\n", 1, "third word");
	refuses("a " ABC " read,\n", 1, "third word");
	refuses("a " ABC " ,read\n", 1, "third word");
	refuses("a " ABC " read,write,read\n", 1, "third word");
	refuses("a " ABC "0 read\n", 1, "SHA-256");
	refuses("a BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD read\n", 1,
	        "SHA-256");
	refuses("a " ABC " read x\n", 1, "prefix=PREFIX or expires=TIME");
	refuses("a " ABC " read prefix=\n", 1, "prefix= is");
	refuses("a " ABC " read prefix=%ff\n", 1, "prefix= is");
	refuses("a " ABC " read prefix=%0a\n", 1, "prefix= is");
	refuses("a " ABC " read prefix=%2\n", 1, "prefix= is");
	refuses("a " ABC " read prefix=a prefix=b\n", 1, "twice");
	refuses("a " ABC " read expires=tomorrow\n", 1, "expires= is");
	refuses("a " ABC " read expires=2027-01-31T12:00:00Z expires=2027-01-31T12:00:00Z\n", 1,
	        "twice");
	refuses("a " ABC " read\nb " ABC " read\n", 2, "an earlier line");
	ok(!tokens_read(&tokens, "a\0b", 3, &line, wrong), "a NUL");
}

/* COUNT lines of different tokens, NAMES of them with one name each. */
static char *many(size_t count, size_t of_one_name)
{
	static char text[(TOKENS_MAX + 1) * 80];
	size_t length = 0;

	for (size_t i = 0; i < count; i++)
		length += (size_t)snprintf(text + length, sizeof(text) - length,
		                           "n%zu %064zx read\n", i / of_one_name, i);
	return text;
}

static void test_bounds(void)
{
	static char text[2 * TOKEN_LINE_MAX];

	ok(reads(many(TOKENS_MAX, 1)) && tokens.count == TOKENS_MAX, "as many as there may be");
	refuses(many(TOKENS_MAX + 1, 1), TOKENS_MAX + 1, "more than 256");
	ok(reads(many(4, TOKENS_OF_NAME)), "two of each name");
	refuses(many(3, 3), 3, "two lines already");
	memset(text, '#', TOKEN_LINE_MAX);
	ok(reads(text), "a long line");
	text[TOKEN_LINE_MAX] = '#';
	refuses(text, 1, "longer than 1024");
	memset(text, 'a', sizeof(text) - 1);
	ok(token_name_valid(text, TOKEN_NAME_MAX) && !token_name_valid(text, TOKEN_NAME_MAX + 1) &&
	       !token_name_valid("", 0),
	   "the length of a name");
	ok(token_text_valid(text, TOKEN_TEXT_MAX) && !token_text_valid(text, TOKEN_TEXT_MAX + 1) &&
	       !token_text_valid("", 0),
	   "of a token");
	ok(token_text_valid("aZ09-._~+/==", 12), "what it may be made of");
	ok(!token_text_valid("==", 2) && !token_text_valid("a=b", 3) &&
	       !token_text_valid("a b", 3) && !token_text_valid("a\xc3\xa4", 3),
	   "and what not");
}

static void test_find(void)
{
	uint8_t digest[TOKEN_DIGEST_SIZE];

	ok(reads("x " EMPTY " read\nabc " ABC " write\n"), "two tokens");
	const struct token *found = tokens_of_text(&tokens, "abc", 3);
	ok(found == &tokens.token[1], "by the token itself");
	ok(tokens_of_text(&tokens, "abd", 3) == NULL, "another one is nobody's");
	ok(tokens_of_text(&tokens, ABC, 64) == NULL, "nor is its SHA-256");
	for (unsigned bit = 0; bit < TOKEN_DIGEST_SIZE * 8; bit++) {
		memcpy(digest, tokens.token[1].digest, sizeof(digest));
		digest[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (tokens_find(&tokens, digest) != NULL)
			fail("bit %u does not matter", bit);
	}
	pass("each bit matters");
	ok(reads(many(TOKENS_MAX, 1)), "many");
	ok(tokens_find(&tokens, tokens.token[TOKENS_MAX - 1].digest) ==
	       &tokens.token[TOKENS_MAX - 1],
	   "the last");
	ok(tokens_find(&tokens, tokens.token[0].digest) == &tokens.token[0], "the first");
}

static void test_renewal(void)
{
	static struct tokens before;

	ok(reads("a " ABC " read prefix=x expires=2027-01-01T00:00:00Z\nb " EMPTY " read,write\n"),
	   "as it was read before");
	before = tokens;
	tokens_renew(&before, &tokens);
	ok(memcmp(&before, &tokens, sizeof(before)) == 0, "what is as it was stays");
	ok(reads("a " ABC " read prefix=x expires=2026-01-01T00:00:00Z\n"),
	   "one earlier, one gone");
	tokens_renew(&before, &tokens);
	ok(before.token[0].expires_us == tokens.token[0].expires_us, "another end");
	ok(token_is_over(&before.token[1], 2), "gone is over");
	ok(reads("a " ABC " read prefix=y\nb " EMPTY " read,write\n"), "another prefix");
	tokens_renew(&before, &tokens);
	ok(token_is_over(&before.token[0], 2), "permits something else: over");
	const struct token *other = tokens_find(&before, tokens.token[0].digest);
	ok(other == &before.token[2] && other->expires_us == 0 && other->prefix[0] == 'y',
	   "and who presents it may do that");
	ok(before.token[1].expires_us == 0, "back again");
	ok(reads("a " ABC " write prefix=x\nb " EMPTY " read\n"), "other scopes");
	tokens_renew(&before, &tokens);
	ok(token_is_over(&before.token[0], 2) && token_is_over(&before.token[1], 2), "likewise");
}

static bool narrows_to(const struct token *token, const char *prefix, const char *wanted)
{
	struct words narrowed;

	if (!token_narrows(token, words(prefix), &narrowed))
		return wanted == NULL;
	return wanted != NULL && narrowed.length == strlen(wanted) &&
	       memcmp(narrowed.bytes, wanted, narrowed.length) == 0;
}

static void test_prefix(void)
{
	ok(reads("a " ABC " read prefix=shop/\nb " EMPTY " read\n"), "one with a prefix");
	const struct token *shop = &tokens.token[0], *all = &tokens.token[1];

	ok(token_covers(shop, words("shop/1")) && token_covers(shop, words("shop/")), "covers");
	ok(!token_covers(shop, words("shop")) && !token_covers(shop, words("Shop/1")) &&
	       !token_covers(shop, words("a/shop/1")),
	   "and does not");
	ok(token_covers(all, words("x")) && token_covers(NULL, words("x")), "others cover all");
	/* A parameter that was not given has no bytes: nothing may be asked of them. */
	struct words narrowed = {0}, absent = {0};
	ok(token_narrows(all, absent, &narrowed) && narrowed.length == 0 &&
	       token_narrows(shop, absent, &narrowed) && narrowed.length == 5,
	   "what is not there is narrowed, too");
	ok(narrows_to(shop, "", "shop/") && narrows_to(shop, "sh", "shop/") &&
	       narrows_to(shop, "shop/", "shop/") && narrows_to(shop, "shop/1", "shop/1") &&
	       narrows_to(shop, "other", NULL) && narrows_to(shop, "shoq", NULL) &&
	       narrows_to(all, "x", "x") && narrows_to(NULL, "", ""),
	   "what it narrows");
	ok(!token_is_over(all, UINT64_MAX), "without an end it lasts");
}

static void test_write(void)
{
	static const char text[] = "a.b " ABC " read,admin prefix=s%20%25%c3%a4/ "
	                           "expires=2027-01-31T12:00:00.000000Z\n";
	char bytes[TOKEN_LINE_MAX];
	struct text out;

	ok(reads(text), "a line");
	text_init(&out, bytes, sizeof(bytes));
	token_write(&out, &tokens.token[0]);
	if (!ok(!out.full && out.length == strlen(text) && memcmp(bytes, text, out.length) == 0,
	        "is written as it was read"))
		diag("%.*s", (int)out.length, bytes);
	ok(token_is_over(&tokens.token[0], tokens.token[0].expires_us) &&
	       !token_is_over(&tokens.token[0], tokens.token[0].expires_us - 1),
	   "it is over at its end");
}

int main(void)
{
	test_lines();
	test_bounds();
	test_find();
	test_renewal();
	test_prefix();
	test_write();
	done_testing();
	return exit_status();
}
