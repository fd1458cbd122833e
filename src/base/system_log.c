#include "system_log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define DATE_MAX 32        /* bytes of "Nov 28 00:00:00 " with NUL */
#define SENT_MAX (8 << 10) /* bytes of a datagram; more of a line is cut */

int system_log_open(void)
{
	return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

/* Local time, from the zone that the process has read at its start. */
static void write_date(char date[DATE_MAX])
{
	time_t now = time(NULL);
	struct tm local;

	if (localtime_r(&now, &local) == NULL || strftime(date, DATE_MAX, "%h %e %T ", &local) == 0)
		date[0] = '\0';
}

/*
 * Not connected: the path is looked up with each line, so that a service that was started again
 * gets the next one.
 */
void system_log_send(int socket, const char *path, int priority, const char *line)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char text[SENT_MAX];
	char date[DATE_MAX];

	write_date(date);
	int length = snprintf(text, sizeof text, "<%d>%stallyd[%d]: %s", LOG_DAEMON | priority,
	                      date, (int)getpid(), line);
	if (length < 0 || strlen(path) >= sizeof address.sun_path)
		return;
	size_t size = (size_t)length < sizeof text ? (size_t)length : sizeof text - 1;
	memcpy(address.sun_path, path, strlen(path) + 1);
	while (sendto(socket, text, size, MSG_NOSIGNAL, (const struct sockaddr *)&address,
	              sizeof address) < 0 &&
	       errno == EINTR)
		;
}
