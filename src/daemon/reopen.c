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
#include "../server/chat/history.h"
#include "../server/server.h"
#include "family.h"

#define OPENING_S  10 /* seconds that opening all files of the workers may take */
#define ERROR_SIZE 512

static void hand_over(const struct child *child, char what, int fd)
{
	char name[32];

	if (pass_send(child->handover_fd, what, fd) == 0)
		return;
	family_name(child, name, sizeof name);
	log_warning("%s cannot be given a new %s: %s; the old file stays in use", name,
	            what == SERVER_LOG          ? "log"
	            : what == SERVER_ACCESS_LOG ? "access log"
	                                        : "chat history",
	            strerror(errno));
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

/* Each worker has an open file of its own, as it would have opened it: by OPENER. */
static void reopen_file(const struct child *child, char what, const char *name, const char *path,
                        int (*opener)(const char *path))
{
	int fd = opener(path);

	if (fd < 0) {
		log_warning("%s %s of worker %u cannot be reopened: %s; the old file stays in use",
		            name, path, child->number, strerror(errno));
		return;
	}
	hand_over(child, what, fd);
	close(fd);
}

static void reopen_files(const struct child *child)
{
	if (child->access_log != NULL)
		reopen_file(child, SERVER_ACCESS_LOG, "access log", child->access_log,
		            access_log_file);
	if (child->chat_history != NULL)
		reopen_file(child, SERVER_CHAT_HISTORY, "chat history", child->chat_history,
		            chat_history_file);
}

/* Ends with the master, and does not wait for a file for ever, as for a FIFO that nobody reads. */
__attribute__((noreturn)) static void open_files(const struct family *family, pid_t master)
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
		reopen_files(&family->child[i]);
	_exit(EXIT_SUCCESS);
}

static bool has_files(const struct family *family)
{
	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++)
		if (family->child[i].access_log != NULL || family->child[i].chat_history != NULL)
			return true;
	return false;
}

void reopen_logs(const struct family *family)
{
	pid_t master = getpid();

	reopen_log(family);
	if (!has_files(family))
		return;
	pid_t pid = fork(); /* reaped with all others */
	if (pid == 0)
		open_files(family, master);
	if (pid < 0)
		log_error("cannot reopen the files of the workers: %s", strerror(errno));
}
