#include "revoke.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../base/log.h"
#include "../base/pass.h"
#include "../server/server.h"
#include "../wire/token.h"
#include "family.h"

/* One memory for all of them: none may change what the others read. */
#define SEALS (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

/* TOKENS in memory that has a descriptor; -1 with errno. */
static int keep(const struct tokens *tokens)
{
	int fd = memfd_create("tokens", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -1;
	errno = EIO; /* of a short write, which leaves errno alone */
	if (write(fd, tokens, sizeof *tokens) == (ssize_t)sizeof *tokens &&
	    fcntl(fd, F_ADD_SEALS, SEALS) == 0)
		return fd;
	int reason = errno;
	close(fd);
	errno = reason;
	return -1;
}

void revoke_tokens(const struct tokens *tokens, const struct family *family)
{
	int fd = keep(tokens);

	for (uint32_t i = 0; i < REGION_PROCESSES_MAX; i++) {
		const struct child *child = &family->child[i];
		if (child->role != ROLE_WORKER || !child->leaving)
			continue;
		if (fd >= 0 && pass_send(child->handover_fd, SERVER_TOKENS, fd) == 0)
			continue;
		log_warning("worker %u, process %d, cannot be told of tokens that are gone: %s; "
		            "its connections end now",
		            child->number, (int)child->pid, strerror(errno));
		kill(child->pid, SIGQUIT);
	}
	if (fd >= 0)
		close(fd);
}
