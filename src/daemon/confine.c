#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "../base/log.h"

#define LANDLOCK_TRUNCATE 3 /* the versions from which it restricts what its name says */
#define LANDLOCK_TCP      4
#define LANDLOCK_SIGNALS  6

#ifdef __has_feature
#define HAS_ASAN_FEATURE __has_feature(address_sanitizer)
#else
#define HAS_ASAN_FEATURE 0
#endif

bool confine_is_sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__) || HAS_ASAN_FEATURE
	return true;
#else
	return false;
#endif
}

/*
 * No kind of memory (core(5), "Controlling which mappings are written"): unlike the limit it holds
 * for a core_pattern that is a pipe, and unlike PR_SET_DUMPABLE it leaves /proc and debuggers as
 * they are.  Children inherit it.
 */
static int leave_memory_out(void)
{
	int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
	ssize_t put = fd < 0 ? -1 : write(fd, "0", 1);
	int reason = errno;

	if (fd >= 0)
		close(fd);
	errno = reason;
	return put == 1 ? 0 : -1;
}

int confine_process(char *error, size_t size)
{
	const struct rlimit none = {0, 0};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
		snprintf(error, size, "cannot give up new privileges: %s", strerror(errno));
		return -1;
	}
	if (setrlimit(RLIMIT_CORE, &none) != 0) {
		snprintf(error, size, "cannot do without core files: %s", strerror(errno));
		return -1;
	}
	if (leave_memory_out() != 0)
		log_warning("/proc/self/coredump_filter: %s; where core_pattern is a pipe, core "
		            "dumps may hold account names",
		            strerror(errno));
	return 0;
}

int confine(const struct confine *confine, char *error, size_t size)
{
	if (confine_files(confine, error, size) != 0)
		return -1;
	return confine_calls(confine, error, size);
}

static void describe_landlock(char *text, size_t size, bool landlock)
{
	int abi = confine_landlock_abi();

	if (!landlock)
		snprintf(text, size, "Landlock off");
	else if (abi == 0)
		snprintf(text, size, "the kernel has no Landlock");
	else
		snprintf(text, size, "Landlock %d (files%s%s%s)", abi,
		         abi >= LANDLOCK_TRUNCATE ? ", truncation" : "",
		         abi >= LANDLOCK_TCP ? ", TCP" : "",
		         abi >= LANDLOCK_SIGNALS ? ", signals" : "");
}

void confine_report(enum confine_seccomp seccomp, bool landlock)
{
	static const char *const word[] = {"off", "log", "errno", "kill"};
	char text[128];

	describe_landlock(text, sizeof text, landlock);
	if (confine_is_sanitized())
		log_info("confined: built with sanitizers: seccomp log, Landlock off");
	else
		log_info("confined: seccomp %s, %s", confine_has_seccomp() ? word[seccomp] : "off",
		         text);
	if (seccomp != CONFINE_OFF && !confine_has_seccomp())
		log_warning(
		    "seccomp: this tallyd was built without libseccomp: system calls are not "
		    "confined");
}
