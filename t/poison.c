/*
 * Damages the region of a running tallyd as no death of a process can, for the tests of poison:
 *
 *     poison NAME flag    says in the header that the region is inconsistent
 *     poison NAME owner   dies with the ring's lock held and nonsense in an operation area
 *     poison NAME marks LSN EVENTS
 *                         the marks as a journal writer leaves them that dies while it stores
 *                         them: released up to LSN and EVENTS.  It must be dead, and idle before.
 *
 * NAME is the region's ("/tallyd-...").
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../shm/layout.h"

static struct region_header *map(const char *name)
{
	struct stat status;
	int fd = shm_open(name, O_RDWR, 0);
	void *base = MAP_FAILED;

	if (fd >= 0 && fstat(fd, &status) == 0)
		base =
		    mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED) {
		fprintf(stderr, "poison: %s: %s\n", name, strerror(errno));
		exit(EXIT_FAILURE);
	}
	return base;
}

/* The last process slot is nobody's; its area looks committed, and is not what was checked. */
static int leave_nonsense(struct region_header *header)
{
	unsigned char *base = (unsigned char *)header;
	struct lock *lock =
	    (struct lock *)(void *)(base + header->shape.locks_at) + header->shape.locks - 1;
	struct process *process = (struct process *)(void *)(base + header->shape.processes_at) +
	                          header->geometry.processes - 1;
	uint64_t tail;

	if (pthread_mutex_lock(&lock->mutex) != 0)
		return EXIT_FAILURE;
	tail = atomic_load(&header->marks.tail);
	process->area.new_tail = tail + JOURNAL_RECORD_MIN;
	process->area.locks = 1;
	process->area.images = 1;
	process->area.check = 1;
	atomic_store(&process->area.commit, tail);
	_exit(EXIT_SUCCESS);
}

int main(int argc, char **argv)
{
	bool marks = argc == 5 && strcmp(argv[2], "marks") == 0;

	if (argc != 3 && !marks) {
		fprintf(stderr, "usage: poison NAME flag | owner | marks LSN EVENTS\n");
		return 2;
	}
	struct region_header *header = map(argv[1]);
	if (marks) {
		atomic_store(&header->marks.released, strtoull(argv[3], NULL, 10));
		atomic_store(&header->marks.released_events, strtoull(argv[4], NULL, 10));
	} else if (strcmp(argv[2], "owner") == 0) {
		return leave_nonsense(header);
	} else {
		atomic_store(&header->poisoned, 1);
	}
	return EXIT_SUCCESS;
}
