#include "wake.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "layout.h"

static long futex(_Atomic uint32_t *word, int operation, uint32_t value,
                  const struct timespec *timeout)
{
	return syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

void wake_writer(struct region *region)
{
	struct region_marks *marks = &region->header->marks;

	/* Pairs with the fence below: either we see that it sleeps, or it sees the new tail. */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&marks->writer_sleeps, memory_order_relaxed) == 0)
		return;
	if (atomic_exchange(&marks->writer_sleeps, 0) != 0)
		futex(&marks->writer_sleeps, FUTEX_WAKE, 1, NULL);
}

void wake_writer_sleep(struct region *region, uint64_t seen_tail, uint32_t timeout_ms)
{
	struct region_marks *marks = &region->header->marks;
	struct timespec timeout = {.tv_sec = timeout_ms / 1000,
	                           .tv_nsec = (long)(timeout_ms % 1000) * 1000000};

	atomic_store_explicit(&marks->writer_sleeps, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load(&marks->tail) == seen_tail)
		futex(&marks->writer_sleeps, FUTEX_WAIT, 1, &timeout);
	atomic_store_explicit(&marks->writer_sleeps, 0, memory_order_relaxed);
}

bool wake_want(struct region *region, uint64_t lsn)
{
	_Atomic uint64_t *want = &region->processes[region->slot].want;

	atomic_store_explicit(want, lsn, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load(&region->header->marks.released) <= lsn)
		return true;
	/* If the writer has taken the wish already, its wake-up is one too many: harmless. */
	atomic_store_explicit(want, 0, memory_order_relaxed);
	return false;
}

bool wake_due(struct region *region, uint32_t slot, uint64_t released)
{
	_Atomic uint64_t *want = &region->processes[slot].want;
	uint64_t lsn;

	atomic_thread_fence(memory_order_seq_cst);
	lsn = atomic_load_explicit(want, memory_order_relaxed);
	if (lsn == 0 || lsn >= released)
		return false;
	return atomic_exchange(want, 0) != 0;
}
