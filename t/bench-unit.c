/*
 * What tallybench is made of: its histogram, its random numbers, what it reads, and its book.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/tools/http/answer.h"
#include "../src/tools/bench/book.h"
#include "../src/tools/bench/histogram.h"
#include "../src/tools/bench/meaning.h"
#include "../src/tools/bench/random.h"
#include "../src/tools/bench/result.h"
#include "../src/tools/bench/zipf.h"
#include "tap/tap.h"

static struct random source;

/* ---- the histogram */

static struct histogram histogram, other;

/* Every duration from 1 ns to over an hour is found again to within a thousandth. */
static void test_precision(void)
{
	double worst = 0;
	bool good = true;

	for (uint64_t value = 1; value < UINT64_C(1) << HISTOGRAM_TOP_BITS;
	     value += 1 + value / 777) {
		histogram_clear(&histogram);
		histogram_record(&histogram, value);
		histogram_record(&histogram, value * 2); /* so that value is not the maximum */
		uint64_t got = histogram_percentile(&histogram, 50);
		double error = ((double)got - (double)value) / (double)value;
		if (got < value || error > 0.001)
			good = false;
		if (error > worst)
			worst = error;
	}
	ok(good, "each value is kept to within 0.1 %% upwards (worst: %.4f %%)", worst * 100);
	histogram_clear(&histogram);
	histogram_record(&histogram, UINT64_MAX);
	histogram_record(&histogram, 5);
	ok(histogram_percentile(&histogram, 100) == UINT64_MAX,
	   "what is longer than the longest is counted, and is the maximum");
	cmp_ok((intmax_t)histogram_percentile(&histogram, 50), "==", 5, "beside the others");
	histogram_clear(&histogram);
	cmp_ok((intmax_t)histogram_percentile(&histogram, 99), "==", 0, "of nothing: 0");
	ok(histogram_mean(&histogram) == 0 && histogram_deviation(&histogram) == 0,
	   "and so are its mean and its deviation");
}

static int ascending(const void *one, const void *another)
{
	uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)another;

	return (a > b) - (a < b);
}

#define SAMPLES 20000

static void test_percentiles(void)
{
	static const double percent[] = {0, 1, 25, 50, 75, 90, 99, 99.9, 99.99, 100};
	static uint64_t value[SAMPLES];
	double sum = 0, squares = 0;
	bool good = true;

	histogram_clear(&histogram);
	histogram_clear(&other);
	for (int i = 0; i < SAMPLES; i++) {
		value[i] = (uint64_t)(1000 * exp(random_unit(&source) * 15));
		histogram_record(i % 2 == 0 ? &histogram : &other, value[i]);
		sum += (double)value[i];
	}
	histogram_add(&histogram, &other);
	for (int i = 0; i < SAMPLES; i++)
		squares += pow((double)value[i] - sum / SAMPLES, 2);
	qsort(value, SAMPLES, sizeof *value, ascending);
	for (size_t i = 0; i < sizeof percent / sizeof *percent; i++) {
		size_t rank = (size_t)ceil(percent[i] / 100 * SAMPLES);
		uint64_t exact = value[rank == 0 ? 0 : rank - 1];
		uint64_t got = histogram_percentile(&histogram, percent[i]);
		if (got < exact || (double)got > (double)exact * 1.001) {
			diag("%g: %llu, but exactly %llu", percent[i], (unsigned long long)got,
			     (unsigned long long)exact);
			good = false;
		}
	}
	ok(good, "percentiles are those of the sorted values, of two histograms together");
	ok(histogram.least == value[0] && histogram.most == value[SAMPLES - 1] &&
	       histogram.count == SAMPLES,
	   "the extremes and the count are exact");
	ok(fabs(histogram_mean(&histogram) - sum / SAMPLES) < 1, "the mean is exact");
	ok(fabs(histogram_deviation(&histogram) / sqrt(squares / SAMPLES) - 1) < 0.001,
	   "the deviation is as good as the cells");
}

/* The lines of a plot, read as its readers do. */
static void test_plot(void)
{
	static char text[65536];
	double value, percentile, last_value = 0, last_percentile = -1;
	unsigned long long below, last_below = 0;
	char inverse[32];
	int lines = 0;
	bool good = true;

	FILE *stream = fmemopen(text, sizeof text, "w");
	histogram_plot(&histogram, stream);
	fclose(stream);
	char *rest = text, *line = strsep(&rest, "\n");
	is(line, "       Value     Percentile TotalCount 1/(1-Percentile)",
	   "the plot has its title");
	is(strsep(&rest, "\n"), "", "and an empty line");
	while ((line = strsep(&rest, "\n")) != NULL && line[0] != '#') {
		if (sscanf(line, "%lf %lf %llu %31s", &value, &percentile, &below, inverse) != 4 ||
		    value < last_value || percentile <= last_percentile || below < last_below ||
		    (double)below < percentile * SAMPLES * 0.999999)
			good = false;
		if (percentile < 1 && fabs(atof(inverse) * (1 - percentile) - 1) > 0.01)
			good = false;
		last_value = value;
		last_percentile = percentile;
		last_below = below;
		lines++;
	}
	ok(good, "values, percentiles and counts rise, and 1/(1-percentile) is that");
	ok(lines > 5 * 10 && lines < 5 * 20, "five lines for each halving (%d)", lines);
	ok(last_percentile == 1 && last_below == SAMPLES && strcmp(inverse, "inf") == 0,
	   "the last one is the whole");
	ok(fabs(last_value * 1e6 - (double)histogram.most) < 1, "and the maximum, in milliseconds");
	ok(line != NULL && strncmp(line, "#[Mean    = ", 12) == 0, "then the mean");
	line = strsep(&rest, "\n");
	ok(line != NULL && strncmp(line, "#[Max     = ", 12) == 0 && strstr(line, "20000]") != NULL,
	   "the maximum and the count");
	line = strsep(&rest, "\n");
	ok(line != NULL && strncmp(line, "#[Buckets = ", 12) == 0, "and the buckets");
}

/* ---- random numbers */

static void test_random(void)
{
	/* The first numbers of the reference implementation from this state. */
	static const uint64_t expected[] = {11520, 0, 1509978240, UINT64_C(1215971899390074240)};
	struct random random = {{1, 2, 3, 4}};
	uint32_t count[10] = {0};
	double chi = 0;
	bool good = true;

	for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
		good = good && random_next(&random) == expected[i];
	ok(good, "xoshiro256** gives its known numbers");
	random_seed(&random, 0);
	ok(random.state[0] == UINT64_C(0xe220a8397b1dcdaf), "splitmix64 its known first");
	for (int i = 0; i < 100000; i++) {
		uint32_t drawn = random_below(&random, 10);
		if (drawn >= 10)
			BAIL_OUT("%u is not below 10", drawn);
		count[drawn]++;
	}
	for (int i = 0; i < 10; i++)
		chi += pow(count[i] - 10000.0, 2) / 10000;
	ok(chi < 27.88, "0 to 9 are as likely (chi-square %.1f, 9 degrees, 0.1 %%)", chi);
	for (int i = 0; i < 1000; i++)
		good = good && random_below(&random, 1) == 0 &&
		       random_below(&random, UINT32_MAX) < UINT32_MAX;
	ok(good, "a bound of 1 and the largest one hold");
}

/* ---- Zipf */

#define DRAWS 200000

/*
 * How far DRAWS from Zipf(RANKS, EXPONENT) are from Zipf(RANKS, EXPECTED): chi-square, less its
 * mean, in standard deviations.  Ranks of which fewer than 10 are expected are taken together.
 */
static double zipf_distance(uint32_t ranks, double exponent, double expected)
{
	uint32_t *count = calloc(ranks, sizeof *count);
	struct zipf zipf;
	double sum = 0, chi = 0, rare = 0, rare_count = 0;
	int degrees = -1;

	zipf_init(&zipf, ranks, exponent);
	for (int i = 0; i < DRAWS; i++) {
		uint32_t drawn = zipf_draw(&zipf, &source);
		if (drawn >= ranks)
			BAIL_OUT("rank %u of %u", drawn, ranks);
		count[drawn]++;
	}
	for (uint32_t k = 1; k <= ranks; k++)
		sum += pow(k, -expected);
	for (uint32_t k = 1; k <= ranks; k++) {
		double wanted = DRAWS * pow(k, -expected) / sum;
		if (wanted < 10) {
			rare += wanted;
			rare_count += count[k - 1];
			continue;
		}
		chi += pow(count[k - 1] - wanted, 2) / wanted;
		degrees++;
	}
	if (rare >= 1) {
		chi += pow(rare_count - rare, 2) / rare;
		degrees++;
	}
	free(count);
	return degrees > 0 ? (chi - degrees) / sqrt(2.0 * degrees) : rare_count > 10 ? 99 : 0;
}

static void test_zipf(void)
{
	static const struct {
		uint32_t ranks;
		double exponent;
	} cases[] = {{1, 1},      {2, 0.5},     {2, 1},    {10, 0.01},  {10, 1},        {100, 3},
	             {1000, 0.5}, {1000, 0.99}, {1000, 1}, {1000, 1.1}, {1000000, 1.2}, {50, 20}};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		double distance =
		    zipf_distance(cases[i].ranks, cases[i].exponent, cases[i].exponent);
		ok(fabs(distance) < 4, "zipf:%g of %u ranks: %.2f standard deviations",
		   cases[i].exponent, cases[i].ranks, distance);
	}
	ok(zipf_distance(1000, 1.1, 1.12) > 4 && zipf_distance(1000, 1, 0.98) > 4,
	   "that would be seen if the exponent were another by 0.02");
	ok(zipf_distance(1000, 1, 1) != zipf_distance(1000, 1, 1), "draws go on");
}

/* ---- answers */

/* Reads TEXT in pieces of PIECE bytes, and writes what was found into FOUND. */
static void read_pieces(const char *text, size_t length, size_t piece, char *found, size_t size)
{
	struct answer answer;
	size_t end = 0, at = 0, used, written = 0;
	enum answer_progress progress = ANSWER_MORE;

	answer_init(&answer);
	found[0] = '\0';
	while (progress != ANSWER_BAD && (end < length || progress != ANSWER_MORE)) {
		if (progress == ANSWER_MORE)
			end = length - end < piece ? length : end + piece;
		/* A copy of its own size: a read behind it is seen by the sanitizer. */
		char *copy = malloc(end - at + 1);
		memcpy(copy, text + at, end - at);
		progress = answer_next(&answer, copy, end - at, &used);
		free(copy);
		at += used;
		if (progress == ANSWER_LINE)
			written += (size_t)snprintf(found + written, size - written, "line %.*s\n",
			                            (int)answer.kept_length, answer.kept);
		else if (progress == ANSWER_DONE)
			written += (size_t)snprintf(found + written, size - written, "%u%s %.*s\n",
			                            answer.status, answer.close ? " close" : "",
			                            answer.lines ? 0 : (int)answer.kept_length,
			                            answer.kept);
		else if (progress == ANSWER_BAD)
			written += (size_t)snprintf(found + written, size - written, "bad: %s\n",
			                            answer.fault);
	}
	if (progress == ANSWER_MORE)
		snprintf(found + written, size - written, "%s",
		         at < end || !answer_between(&answer) ? "more\n" : "");
}

/* The same in every way that the bytes may arrive. */
static void reads(const char *text, const char *wanted, const char *name)
{
	static char found[16384];
	size_t length = strlen(text);

	for (size_t piece = 1; piece <= length; piece++) {
		read_pieces(text, length, piece, found, sizeof found);
		if (strcmp(found, wanted) == 0 && piece < length)
			continue;
		is(found, wanted, "%s (pieces of %zu)", name, piece);
		return;
	}
}

#define OK    "HTTP/1.1 200 OK\r\n"
#define LINES "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"

static void test_answers(void)
{
	reads(OK "Content-Length: 2\r\n\r\n{}", "200 {}\n", "an answer");
	reads(OK "content-length:2 \r\nX-a: b:c\r\n\r\n{}" OK "Content-Length: 0\r\n\r\n",
	      "200 {}\n200 \n", "two in a row");
	reads("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
	      "404 close x\n", "one that closes");
	reads("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", "200 close x\n", "HTTP/1.0 closes");
	reads("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", "200 x\n",
	      "unless it says that it does not");
	reads("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 \r\n\r\n" OK "Content-Length: 1\r\n\r\ny",
	      "204 \n200 y\n", "100 is passed over, 204 has no body");
	reads(OK LINES "4\r\na\nb\n\r\n3;x=y\r\nc\nd\r\n2\r\ne\n\r\n0\r\n\r\n",
	      "line a\nline b\nline c\nline de\n200 \n", "lines, over the ends of chunks");
	reads(OK LINES "3\r\na\nb\r\n0\r\nT: u\r\n\r\n", "line a\nline b\n200 \n",
	      "a last line without its end, and a trailer");
	reads(OK LINES "2\r\n\n\n\r\n0\r\n\r\n", "200 \n", "empty lines are none");
	reads(OK "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", "200 {}\n",
	      "a document in chunks");
	reads(OK "Content-Length: 5\r\n\r\n{}", "more\n", "an answer that is cut");

	reads("SSH-2.0-x\r\n", "bad: no status line\n", "another protocol");
	reads("HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", "bad: no status line\n",
	      "another version");
	reads("HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n", "bad: no status line\n",
	      "a bad status");
	reads("HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n", "bad: no status line\n",
	      "none of the five classes");
	reads("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "bad: no status line\n",
	      "no space behind the status");
	reads(OK "\r\n", "bad: an answer without a length\n", "no length");
	reads(OK "Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
	      "bad: a field that cannot be read\n", "two lengths");
	reads(OK "Content-Length: 1x\r\n\r\n", "bad: a field that cannot be read\n", "no number");
	reads(OK "Content-Length: -1\r\n\r\n", "bad: a field that cannot be read\n",
	      "a negative length");
	reads(OK "Content-Length: 1234567890123456789\r\n\r\n",
	      "bad: a field that cannot be read\n", "19 digits");
	reads(OK "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
	      "bad: both a length and chunks\n", "a length and chunks");
	reads(OK "Transfer-Encoding: gzip\r\n\r\n", "bad: a field that cannot be read\n",
	      "another coding");
	reads(OK "No colon\r\n\r\n", "bad: a field that cannot be read\n", "no colon");
	reads(OK "A : b\r\n\r\n", "bad: a field that cannot be read\n", "a space before the colon");
	reads(OK "A: b\r\n c\r\n\r\n", "bad: a field that cannot be read\n", "a folded field");
	reads(OK "A: b\nC: d\r\n\r\n", "bad: a field that cannot be read\n", "a bare LF");
	reads(OK LINES "x\r\n", "bad: no chunk size\n", "no chunk size");
	reads(OK LINES "1 \r\n", "bad: no chunk size\n", "something behind it");
	reads(OK LINES "1234567890abcdef\r\n", "bad: no chunk size\n", "a chunk of 16 digits");
	reads(OK LINES "1\r\nab\r\n", "bad: a chunk that is longer than it says\n", "a long chunk");
	reads(OK "Content-Length: 0\r\n\r\njunk", "200 \nbad: no status line\n",
	      "junk between two");
}

/* Each limit is reached, and passed by one. */
static void test_answer_limits(void)
{
	static char text[2 * ANSWER_HEAD_MAX], found[16384], wanted[ANSWER_KEEP + 16];
	static const char end[] = "\r\nContent-Length: 1\r\n\r\n";

	for (size_t head = ANSWER_HEAD_MAX - 1; head <= ANSWER_HEAD_MAX; head++) {
		size_t at = (size_t)sprintf(text, OK "X: ");
		memset(text + at, 'x', head - at - (sizeof end - 1));
		strcpy(text + head - (sizeof end - 1), end);
		strcat(text, "y");
		read_pieces(text, strlen(text), strlen(text), found, sizeof found);
		is(found, head < ANSWER_HEAD_MAX ? "200 y\n" : "bad: a head of over 4 KiB\n",
		   "a head of %zu bytes", head);
		read_pieces(text, strlen(text), 1, found, sizeof found);
		is(found, head < ANSWER_HEAD_MAX ? "200 y\n" : "bad: a head of over 4 KiB\n",
		   "and byte by byte");
	}
	for (int extra = 0; extra <= 1; extra++) {
		size_t at = (size_t)sprintf(text, OK LINES "1;");
		memset(text + at, 'e', ANSWER_CHUNK_MAX);
		strcpy(text + at + ANSWER_CHUNK_MAX - 4 + extra, "\r\na\r\n0\r\n\r\n");
		read_pieces(text, strlen(text), 1, found, sizeof found);
		is(found, extra == 0 ? "line a\n200 \n" : "bad: no chunk size\n",
		   "a size line of %d bytes", ANSWER_CHUNK_MAX + extra);
	}
	size_t at = (size_t)sprintf(text, OK "Content-Length: %d\r\n\r\n", ANSWER_KEEP + 100);
	memset(text + at, 'k', ANSWER_KEEP + 100);
	text[at + ANSWER_KEEP + 100] = '\0';
	sprintf(wanted, "200 %.*s\n", ANSWER_KEEP, text + at);
	read_pieces(text, strlen(text), 7, found, sizeof found);
	is(found, wanted, "%d bytes of a document are kept", ANSWER_KEEP);
}

/* ---- their meaning */

/* "accepted", "rejected REASON" or "none". */
static const char *meaning(enum kind kind, unsigned status, const char *document)
{
	static char text[128];
	struct words_of_reason reason;
	enum meaning found =
	    status == 0 ? meaning_of_line(document, strlen(document), &reason)
	                : meaning_of(kind, (uint16_t)status, document, strlen(document), &reason);

	if (found != MEANING_REJECTED)
		return found == MEANING_ACCEPTED ? "accepted" : "none";
	snprintf(text, sizeof text, "rejected %.*s", (int)reason.length, reason.name);
	return text;
}

#define ACCEPTED "{\"status\":\"accepted\",\"account\":\"a\"}"
#define REFUSED  "{\"status\":\"error\",\"reason\":\"overflow\",\"detail\":\"x\"}"

static void test_meaning(void)
{
	struct words_of_reason reason = {"busy", 4};
	struct hold hold;

	is(meaning(KIND_EVENT, 200, ACCEPTED), "accepted", "an event");
	is(meaning(KIND_HOLD, 201, ACCEPTED), "accepted", "a hold");
	is(meaning(KIND_EVENT, 422, REFUSED), "rejected overflow", "a refusal");
	is(meaning(KIND_EVENT, 502, "<html>"), "rejected http_502", "some other server's");
	is(meaning(KIND_EVENT, 400, "{\"reason\":\"a b\"}"), "rejected http_400",
	   "a strange reason");
	is(meaning(KIND_EVENT, 200, "{}"), "none", "200 alone is no proof");
	is(meaning(KIND_EVENT, 200, REFUSED), "none", "nor is it with an error");
	is(meaning(KIND_EVENT, 304, ""), "none", "a status that means something else");
	is(meaning(KIND_READ, 200, "{\"account\":\"a\",\"balance\":1}"), "accepted", "a balance");
	is(meaning(KIND_READ, 200, ACCEPTED), "none", "which is not an operation");
	is(meaning(KIND_EVENT, 0, ACCEPTED), "accepted", "a line");
	is(meaning(KIND_EVENT, 0, REFUSED), "rejected overflow", "a line that refuses");
	is(meaning(KIND_EVENT, 0, "{\"status\":\"rejected\",\"reason\":\"queue_full\"}"),
	   "rejected queue_full", "for now");
	is(meaning(KIND_EVENT, 0, "{\"status\":\"error\"}"), "none", "without a reason: no");
	is(meaning(KIND_EVENT, 0, "hello"), "none", "no line of ours");
	ok(meaning_ends_stream(&reason), "busy ends a stream");
	reason.length = 3;
	ok(!meaning_ends_stream(&reason), "bus does not");
	const char *held = "{\"status\":\"accepted\",\"hold\":\"abc-1\",";
	ok(meaning_hold(held, strlen(held), &hold) && hold.length == 5 &&
	       memcmp(hold.name, "abc-1", 5) == 0,
	   "the name of a hold");
	ok(!meaning_hold(ACCEPTED, strlen(ACCEPTED), &hold), "which not everything has");
	char longest[128];
	for (int length = HOLD_NAME_MAX; length <= HOLD_NAME_MAX + 1; length++) {
		sprintf(longest, "{\"hold\":\"%0*d\"}", length, 7);
		ok(meaning_hold(longest, strlen(longest), &hold) == (length == HOLD_NAME_MAX),
		   "a name of %d bytes", length);
	}
}

static void test_reasons(void)
{
	struct result *result = result_new();
	char name[REASON_MAX + 8];

	for (int i = 0; i < REASONS_MAX + 3; i++) {
		int length = sprintf(name, "reason_%d", i);
		result_reject(result, KIND_EVENT, name, (size_t)length, 2);
		result_reject(result, KIND_HOLD, name, (size_t)length, 1);
	}
	cmp_ok(result->reasons, "==", REASONS_MAX, "so many reasons are counted apart");
	is(result->reason[REASONS_MAX - 1].name, "reason_63", "the last of them");
	cmp_ok((intmax_t)result->reason[REASONS_MAX - 1].count, "==", 3, "with its count");
	is(result->reason[REASONS_MAX].name, "other", "more are another");
	cmp_ok((intmax_t)result->reason[REASONS_MAX].count, "==", 9, "of all the rest");
	cmp_ok((intmax_t)result_rejected(result), "==", 3 * (REASONS_MAX + 3), "none is lost");
	free(result);
	result = result_new();
	memset(name, 'r', sizeof name);
	result_reject(result, KIND_EVENT, name, sizeof name, 1);
	result_reject(result, KIND_EVENT, name, sizeof name, 1);
	cmp_ok((intmax_t)strlen(result->reason[0].name), "==", REASON_MAX - 1, "a long one is cut");
	cmp_ok((intmax_t)result->reason[0].count, "==", 2, "and found again");
	free(result);
}

/* ---- the book */

static const struct options two_accounts = {.accounts = 2, .prefix = "p"};

/* What book_check finds after ACCEPTED and DOUBTED operations of -3 on account 0, if the account
 * went from 100 to 100 + CHANGE in CHANGES steps. */
static struct book_verdict check(int accepted, int doubted, int64_t change, uint64_t changes,
                                 char *said, size_t size)
{
	static const struct posting entry = {0, -3};
	struct book book;
	FILE *stream = fmemopen(said, size, "w");

	said[0] = '\0';
	book_init(&book, &two_accounts);
	book.sheet[0].before = (struct balance){100, 7};
	book.sheet[0].after = (struct balance){100 + change, 7 + changes};
	for (int i = 0; i < accepted; i++)
		book_accept(&book, KIND_EVENT, &entry, 1);
	for (int i = 0; i < doubted; i++)
		book_doubt(&book, KIND_EVENT, &entry, 1);
	struct book_verdict verdict = book_check(&book, stream);
	book_free(&book);
	fclose(stream);
	return verdict;
}

static void test_check(void)
{
	char said[512];
	struct book_verdict verdict = check(2, 0, -6, 2, said, sizeof said);

	ok(verdict.good && verdict.wrong == 0 && verdict.sum == -6 && said[0] == '\0',
	   "what was accepted was applied");
	verdict = check(2, 0, -9, 3, said, sizeof said);
	ok(!verdict.good && verdict.wrong == 1 && !verdict.sum_good, "one too many is seen");
	is(said,
	   "tallybench: account p0: was 100, accepted -6, is 91; changed 3 times, accepted 2\n",
	   "and named");
	ok(!check(2, 0, -3, 1, said, sizeof said).good, "one too few is seen");
	ok(!check(2, 0, -6, 4, said, sizeof said).good, "two that cancel each other are seen");
	ok(!check(2, 0, -6, 1, said, sizeof said).good, "and a change that none was");
	for (int applied = -1; applied <= 4; applied++) {
		bool possible = applied >= 0 && applied <= 3;
		verdict = check(2, 3, -6 - 3 * applied, (uint64_t)(2 + applied), said, sizeof said);
		ok(verdict.good == possible && verdict.least == -15 && verdict.most == -6,
		   "of three unknown ones %d were applied: %s", applied,
		   possible ? "may be" : "cannot be");
	}
	is(said,
	   "tallybench: account p0: was 100, accepted -6 (unknown: -9 to +0), is 82; changed 6 "
	   "times, accepted 2 (unknown: 3)\n",
	   "that is said");
}

static void test_legs(void)
{
	static const struct posting transfer[] = {{0, -5}, {1, 5}}, hold = {0, 4}, none = {0, 0};
	char said[512];
	struct book book;
	FILE *stream = fmemopen(said, sizeof said, "w");

	book_init(&book, &two_accounts);
	book_accept(&book, KIND_TRANSFER, transfer, 2);
	book_doubt(&book, KIND_TRANSFER, transfer, 2);
	book_accept(&book, KIND_HOLD, &hold, 1);
	book_accept(&book, KIND_CAPTURE, &hold, 1);
	book_accept(&book, KIND_HOLD, &hold, 1);
	book_accept(&book, KIND_RELEASE, &hold, 1);
	book_accept(&book, KIND_EVENT, &none, 1);
	book_accept(&book, KIND_READ, &none, 1);
	cmp_ok(book.sheet[0].accepted, "==", -9, "a transfer takes, a capture takes what was held");
	cmp_ok((intmax_t)book.sheet[0].changes, "==", 5, "each is a change, but a 0 and a read");
	ok(book.low == 0 && book.high == 0 && book.sheet[0].low == -5 && book.sheet[1].high == 5,
	   "a transfer of which nothing is known leaves the sum");
	book.sheet[0].after = (struct balance){-14, 6};
	book.sheet[1].after = (struct balance){10, 2};
	ok(book_check(&book, stream).good, "both of its sides happened: good");
	book.sheet[1].after = (struct balance){5, 1};
	struct book_verdict verdict = book_check(&book, stream);
	ok(verdict.wrong == 0 && !verdict.good, "only one of them: the sum is wrong");
	book_free(&book);
	fclose(stream);
}

int main(void)
{
	plan(NO_PLAN);
	random_seed(&source, 20);
	test_precision();
	test_percentiles();
	test_plot();
	test_random();
	test_zipf();
	test_answers();
	test_answer_limits();
	test_meaning();
	test_reasons();
	test_check();
	test_legs();
	return done_testing();
}
