/*
 * A journal for tests of feeds, linked in the place of the real reader (include it once): a change
 * of one account every 8 bytes, as far as the test says, in memory shared by fork.
 */
#ifndef TALLYD_T_FAKE_TAIL_H
#define TALLYD_T_FAKE_TAIL_H

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "../src/ledger/tail.h"

#define FAKE_ENDLESS (UINT64_C(1) << 60)

struct tail {
	_Atomic uint64_t durable;
	_Atomic uint64_t first; /* what is before is pruned */
	_Atomic uint64_t calls; /* of tail_next */
	_Atomic int later;      /* so many times the next record is not in memory */
	_Atomic int failure;    /* an errno: of the next record */
};

static struct tail *fake_tail;

static void fake_tail_make(void)
{
	fake_tail = mmap(NULL, sizeof(*fake_tail), PROT_READ | PROT_WRITE,
	                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static void fake_tail_reset(uint64_t durable)
{
	memset(fake_tail, 0, sizeof(*fake_tail));
	fake_tail->first = 8;
	fake_tail->durable = durable;
}

struct tail *tail_open(struct journal_reader *history)
{
	(void)history;
	return fake_tail;
}

void tail_close(struct tail *tail)
{
	(void)tail;
}

uint64_t tail_durable(const struct tail *tail)
{
	return tail->durable;
}

uint64_t tail_first(struct tail *tail)
{
	return tail->first;
}

enum tail_status tail_seek(struct tail *tail, uint64_t after, uint64_t *position)
{
	*position = after == 0 ? tail->first : after / 8 * 8 + 8;
	return *position < tail->first ? TAIL_PRUNED : TAIL_NOTHING;
}

enum tail_status tail_next(struct tail *tail, uint64_t *position, uint64_t end,
                           struct change *change)
{
	tail->calls++;
	if (*position >= end)
		return TAIL_END;
	if (*position < tail->first)
		return TAIL_PRUNED;
	if (tail->later > 0) {
		tail->later--;
		return TAIL_LATER;
	}
	if (tail->failure) {
		errno = tail->failure;
		return TAIL_IO;
	}
	*change = (struct change){.lsn = *position, .kind = REQUEST_EVENT, .legs = 1};
	change->leg[0] = (struct change_leg){.account = {"alice", 5}, .amount = 1};
	*position += 8;
	return TAIL_CHANGE;
}

#endif
