#include "reopen.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../base/log.h"
#include "../base/pass.h"
#include "../server/access_log.h"
#include "../server/server.h"
#include "family.h"

#define OPENING_S  10 /* seconds that opening all access logs may take */
#define ERROR_SIZE 512

static void hand_over(const struct child *child, char what, int fd)
{
	char name[32];

	if (pass_send(child->handover_fd, what, fd) == 0)
		return;
	family_name(child, name, sizeof name);
	log_warning("%s cannot be given a new %s: %s; the old file stays in use", name,
	            what == SERVER_LOG ? "log" : "access log", strerror(errno));
}

static void reopen_log(const struct family *family)
{
	if (log_reopen() != 0) {
		log_error("cannot reopen the log: %s", strerror(errno));
		return;
	}
	if (log_file() < 0)
		return;
	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++)
		if (family->child[i].handover_fd >= 0)
			hand_over(&family->child[i], SERVER_LOG, log_file());
	/* Its writer does not wait for descriptors. */
	family_signal(family, ROLE_JOURNAL, SIGUSR1);
}

/* Each worker has an open file of its own, as it would have opened it. */
static void reopen_access_log(const struct child *child)
{
	int fd = access_log_file(child->access_log);

	if (fd < 0) {
		log_warning("access log %s of worker %u cannot be reopened: %s; the old file stays "
		            "in use",
		            child->access_log, child->number, strerror(errno));
		return;
	}
	hand_over(child, SERVER_ACCESS_LOG, fd);
	close(fd);
}

/* Ends with the master, and does not wait for a file for ever, as for a FIFO that nobody reads. */
__attribute__((noreturn)) static void open_access_logs(const struct family *family, pid_t master)
{
	char error[ERROR_SIZE];

	log_set_role("opener");
	if (privileges_drop(family->privileges, error, sizeof error) != 0) {
		log_error("%s", error);
		_exit(EXIT_FAILURE);
	}
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != master)
		_exit(EXIT_FAILURE);
	alarm(OPENING_S);
	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++)
		if (family->child[i].access_log != NULL)
			reopen_access_log(&family->child[i]);
	_exit(EXIT_SUCCESS);
}

static bool has_access_log(const struct family *family)
{
	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++)
		if (family->child[i].access_log != NULL)
			return true;
	return false;
}

void reopen_logs(const struct family *family)
{
	pid_t master = getpid();

	reopen_log(family);
	if (!has_access_log(family))
		return;
	pid_t pid = fork(); /* reaped with all others */
	if (pid == 0)
		open_access_logs(family, master);
	if (pid < 0)
		log_error("cannot reopen the access log: %s", strerror(errno));
}
