#include <stdlib.h>

#include "book.h"

/* Wide enough for any sum of two balances. */
typedef __int128 wide;

void book_init(struct book *book, const struct options *options)
{
	*book = (struct book){.prefix = options->prefix, .accounts = options->accounts};
	book->sheet = calloc(book->accounts, sizeof *book->sheet);
	if (book->sheet == NULL) {
		perror("tallybench: memory");
		exit(EXIT_FAILURE);
	}
}

void book_free(struct book *book)
{
	free(book->sheet);
	book->sheet = NULL;
}

void book_accept(struct book *book, enum kind kind, const struct posting *leg, uint32_t legs)
{
	for (uint32_t i = 0; i < legs; i++) {
		struct sheet *sheet = &book->sheet[leg[i].account];
		int64_t effect = operation_effect(kind, &leg[i]);
		sheet->accepted += effect;
		sheet->changes += operation_change(kind, &leg[i]);
		book->accepted += effect;
	}
	book->operations += kind == KIND_EVENT ? legs : 1;
}

static void spread(int64_t effect, int64_t *low, int64_t *high)
{
	if (effect < 0)
		*low += effect;
	else
		*high += effect;
}

void book_doubt(struct book *book, enum kind kind, const struct posting *leg, uint32_t legs)
{
	int64_t sum = 0;

	for (uint32_t i = 0; i < legs; i++) {
		struct sheet *sheet = &book->sheet[leg[i].account];
		int64_t effect = operation_effect(kind, &leg[i]);
		spread(effect, &sheet->low, &sheet->high);
		sheet->perhaps += operation_change(kind, &leg[i]);
		if (kind == KIND_EVENT)
			spread(effect, &book->low, &book->high);
		else
			sum += effect;
	}
	spread(sum, &book->low, &book->high);
	book->perhaps += kind == KIND_EVENT ? legs : 1;
}

static bool is_right(const struct sheet *sheet)
{
	wide change = (wide)sheet->after.balance - sheet->before.balance - sheet->accepted;
	wide changes = (wide)sheet->after.version - sheet->before.version - sheet->changes;

	return change >= sheet->low && change <= sheet->high && changes >= 0 &&
	       changes <= sheet->perhaps;
}

static void show(const struct book *book, uint32_t number, FILE *stream)
{
	const struct sheet *sheet = &book->sheet[number];

	fprintf(stream, "tallybench: account %s%u: was %lld, accepted %+lld", book->prefix, number,
	        (long long)sheet->before.balance, (long long)sheet->accepted);
	if (sheet->perhaps > 0)
		fprintf(stream, " (unknown: %lld to %+lld)", (long long)sheet->low,
		        (long long)sheet->high);
	fprintf(stream, ", is %lld; changed %lld times, accepted %llu",
	        (long long)sheet->after.balance,
	        (long long)(sheet->after.version - sheet->before.version),
	        (unsigned long long)sheet->changes);
	if (sheet->perhaps > 0)
		fprintf(stream, " (unknown: %llu)", (unsigned long long)sheet->perhaps);
	fputc('\n', stream);
}

struct book_verdict book_check(const struct book *book, FILE *stream)
{
	struct book_verdict verdict = {.least = book->accepted + book->low,
	                               .most = book->accepted + book->high};
	wide sum = 0;

	for (uint32_t i = 0; i < book->accounts; i++) {
		const struct sheet *sheet = &book->sheet[i];
		sum += (wide)sheet->after.balance - sheet->before.balance;
		if (is_right(sheet))
			continue;
		if (++verdict.wrong <= BOOK_SHOWN)
			show(book, i, stream);
	}
	if (verdict.wrong > BOOK_SHOWN)
		fprintf(stream, "tallybench: and %u accounts more\n", verdict.wrong - BOOK_SHOWN);
	verdict.sum_good = sum >= verdict.least && sum <= verdict.most;
	verdict.sum = sum > INT64_MAX ? INT64_MAX : sum < INT64_MIN ? INT64_MIN : (int64_t)sum;
	verdict.good = verdict.wrong == 0 && verdict.sum_good;
	return verdict;
}
