/*
 * Copies of a daemon's files while it may be writing and pruning them.
 */
#ifndef TALLYD_TOOLS_COPY_H
#define TALLYD_TOOLS_COPY_H

#include <stdbool.h>
#include <stdint.h>

#define COPY_ERROR_SIZE 512
#define COPY_PIECE      (UINT64_C(4) << 20) /* bytes between two looks at `go_on` */

struct copy {
	bool running; /* a daemon may be writing */
	/* Is told what is done of all, in bytes; false: give up (errno ECANCELED).  NULL: nobody.
	 */
	bool (*go_on)(void *context, uint64_t done, uint64_t all);
	void *context;

	uint64_t end; /* set: the position up to which the journal was copied */
	uint64_t segments;
	uint64_t bytes;
	char error[COPY_ERROR_SIZE]; /* what went wrong */
};

/*
 * Copies the journal and the snapshots of the data directory FROM into the directory TO, which is
 * empty, as they are at one position: everything before COPY->end, nothing behind it.  All of it is
 * made durable.  0; or -1 with errno (0: it is not sound), and COPY->error; what is there then is
 * not good.
 */
int copy_data(struct copy *copy, const char *from, const char *to);

/*
 * Copies the file NAME of the directory FROM to the directory TO (descriptors), durably but for TO
 * itself. 0, or -1 with errno.
 */
int copy_file(int from, int to, const char *name);

/* Removes what copy_data makes in TO, and TO.  0, or -1 with errno. */
int copy_remove(const char *to);

#endif
