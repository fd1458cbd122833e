#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "limits.h"

#define PORTS_FILE    "/proc/sys/net/ipv4/ip_local_port_range"
#define PORTS_DEFAULT 28232 /* Linux's own range */

bool limits_raise_files(uint64_t files, uint64_t spare)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
		fprintf(stderr, "tallybench: getrlimit: %s\n", strerror(errno));
		return false;
	}
	if (limit.rlim_cur >= files)
		return true;
	struct rlimit wanted = {files, limit.rlim_max < files ? files : limit.rlim_max};
	if (setrlimit(RLIMIT_NOFILE, &wanted) == 0)
		return true;
	uint64_t most = limit.rlim_max > spare ? limit.rlim_max - spare : 0;
	fprintf(stderr,
	        "tallybench: %llu connections need %llu open files, and at most %llu may be open; "
	        "raise that (ulimit -n %llu, as root, or LimitNOFILE= of a unit), or use "
	        "--connections %llu\n",
	        (unsigned long long)(files - spare), (unsigned long long)files,
	        (unsigned long long)limit.rlim_max, (unsigned long long)files,
	        (unsigned long long)most);
	return false;
}

static uint32_t ports(void)
{
	unsigned first = 0, last = 0;
	FILE *file = fopen(PORTS_FILE, "re");

	if (file == NULL)
		return PORTS_DEFAULT;
	bool known = fscanf(file, "%u %u", &first, &last) == 2 && first <= last;
	fclose(file);
	return known ? last - first + 1 : PORTS_DEFAULT;
}

/* Three quarters of the ports: others want some, and those of earlier connections rest a while. */
uint32_t limits_sources(const struct options *options, const struct target *target)
{
	uint32_t each = ports() / 4 * 3 + 1;

	if (options->sources > 0)
		return options->sources;
	if (!target_is_loopback(target) || options->connections <= each)
		return 0;
	uint32_t sources = (options->connections + each - 1) / each;
	return sources < SOURCES_MAX ? sources : SOURCES_MAX;
}
