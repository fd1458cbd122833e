/* tallyctl journal check */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../ledger/audit.h"
#include "command.h"

#define MAX_IDS   100000 /* the configuration's own */
#define ID_WINDOW 86400  /* seconds, likewise */
#define IDS_LIMIT 1000000000
#define WINDOW_S  (30 * 86400)

/* The whole of TEXT as a number from 1 to MAX; 0: it is not one. */
static uint64_t number(const char *text, uint64_t max)
{
	char *end;
	unsigned long long value;

	if (*text < '0' || *text > '9')
		return 0;
	errno = 0;
	value = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0' && value <= max ? value : 0;
}

/* The process that wrote its number into the data directory's lock; 0: none can be read. */
static long writer_of(int fd)
{
	char text[24] = "";

	return pread(fd, text, sizeof text - 1, 0) > 0 ? strtol(text, NULL, 10) : 0;
}

/*
 * Is the lock behind FD held?  Asked of the kernel's list: to try for the lock would take it for a
 * moment, in which a daemon that starts would find it taken.
 */
static bool is_held(int fd, long pid)
{
	struct stat status;
	char line[256];
	bool held = false;
	FILE *locks = fopen("/proc/locks", "re");

	if (locks == NULL || fstat(fd, &status) != 0) {
		if (locks != NULL)
			fclose(locks);
		return false;
	}
	while (!held && fgets(line, sizeof line, locks) != NULL) {
		unsigned long long inode;
		long holder;
		held = sscanf(line, "%*s FLOCK %*s %*s %ld %*x:%*x:%llu", &holder, &inode) == 2 &&
		       inode == status.st_ino && holder == pid;
	}
	fclose(locks);
	return held;
}

/* The daemon that runs on DATA; 0: none does. */
static long find_daemon(const char *data)
{
	char path[PATH_MAX];
	long pid;

	snprintf(path, sizeof path, "%s/lock", data);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	pid = writer_of(fd);
	if (!is_held(fd, pid))
		pid = 0;
	close(fd);
	return pid;
}

static int read_options(int argc, char **argv, struct audit_limits *limits)
{
	int option;

	*limits =
	    (struct audit_limits){.max_ids = MAX_IDS, .window_us = ID_WINDOW * UINT64_C(1000000)};
	while ((option = getopt(argc, argv, "+i:w:")) != -1) {
		switch (option) {
		case 'i':
			limits->max_ids = number(optarg, IDS_LIMIT);
			break;
		case 'w':
			limits->window_us = number(optarg, WINDOW_S) * UINT64_C(1000000);
			break;
		default:
			return -1;
		}
	}
	return limits->max_ids != 0 && limits->window_us != 0 && optind == argc ? 0 : -1;
}

static void report(const char *path, const struct audit *audit)
{
	printf("%s: sound from position %" PRIu64 " to %" PRIu64 "%s: %" PRIu64 " records, %" PRIu64
	       " operations, %" PRIu64 " refusals, %" PRIu64 " ids, %" PRIu64 " seals; %" PRIu64
	       " accounts, %" PRIu64 " open holds\n",
	       path, audit->first, audit->end, audit->pruned ? " (the beginning is not kept)" : "",
	       audit->records, audit->operations, audit->refusals, audit->ids, audit->seals,
	       audit->accounts, audit->holds);
}

int command_journal_check(const char *data, int argc, char **argv)
{
	char error[STORE_ERROR_SIZE] = "";
	struct audit_limits limits;
	struct audit audit;
	char path[PATH_MAX];

	if (read_options(argc, argv, &limits) != 0)
		return COMMAND_USAGE;
	int length = snprintf(path, sizeof path, "%s/journal", data);
	if (length < 0 || (size_t)length >= sizeof path) {
		fprintf(stderr, "tallyctl: %.80s...: %s\n", data, strerror(ENAMETOOLONG));
		return COMMAND_FAILED;
	}
	long pid = find_daemon(data);
	limits.running = pid != 0;
	if (pid != 0)
		fprintf(stderr,
		        "tallyctl: process %ld is writing this journal: its newest records are not "
		        "looked at\n",
		        pid);
	if (audit_journal(path, &limits, &audit, error) != STORE_OK) {
		fprintf(stderr, "tallyctl: %s\n", error);
		return COMMAND_FAILED;
	}
	report(path, &audit);
	return COMMAND_DONE;
}
