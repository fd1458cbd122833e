/*
 * A lie in a journal, for the tests of those who check it: adds one to the balance that the Nth
 * event tells, with a right checksum, and says where.
 *
 *     t/journal-change JOURNAL N
 */
#include "journal-change.h"

static bool change(struct record_head *record, unsigned which)
{
	static unsigned seen;

	if (record->type != RECORD_EVENT || !record_has_effect(record) || ++seen != which)
		return false;
	((struct record_leg *)(uintptr_t)record_next_leg(record, NULL))->balance++;
	return true;
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: journal-change JOURNAL N\n");
		return 2;
	}
	uint64_t lsn = journal_change(argv[1], change, (unsigned)strtoul(argv[2], NULL, 10));
	printf("%" PRIu64 "\n", lsn);
	return lsn != 0 ? 0 : 1;
}
