#include "terminal.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define COLUMNS 80
#define ROWS    24

/* The other screen, without a cursor; and back. */
static const char enter[] = "\033[?1049h\033[?25l\033[2J";
static const char leave[] = "\033[?25h\033[?1049l";

static struct termios before;
static volatile sig_atomic_t taken;  /* the terminal is ours */
static volatile sig_atomic_t ending; /* the signal that asks for the end */
static volatile sig_atomic_t resized;
static volatile sig_atomic_t suspend;

/* Signals at which the program ends, in its own time or at once. */
static const int polite[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGALRM, SIGUSR1, SIGUSR2};
static const int sudden[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGSYS};

bool terminal_there(void)
{
	const char *kind = getenv("TERM");

	return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && kind != NULL &&
	       strcmp(kind, "dumb") != 0 && *kind != '\0';
}

bool terminal_unicode(void)
{
	return setlocale(LC_CTYPE, "") != NULL && strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

/* Only what a signal handler may do. */
static void put(const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t written = write(STDOUT_FILENO, bytes, length);
		if (written < 0 && errno != EINTR)
			return;
		bytes += written > 0 ? written : 0;
		length -= written > 0 ? (size_t)written : 0;
	}
}

static void restore(void)
{
	if (!taken)
		return;
	taken = 0;
	put(leave, sizeof leave - 1);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
}

static int take(void)
{
	struct termios keys = before;

	keys.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	keys.c_cc[VMIN] = 0;
	keys.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &keys) != 0)
		return -1;
	taken = 1;
	put(enter, sizeof enter - 1);
	return 0;
}

static void on_polite(int number)
{
	ending = number;
}

static void on_sudden(int number)
{
	restore();
	signal(number, SIG_DFL);
	raise(number);
}

static void on_resize(int number)
{
	(void)number;
	resized = 1;
}

static void on_suspend(int number)
{
	(void)number;
	suspend = 1;
}

static void catch_with(int number, void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler};
	struct sigaction old;

	/* What nohup(1) has ignored stays so. */
	if (sigaction(number, NULL, &old) == 0 && old.sa_handler == SIG_IGN)
		return;
	sigaction(number, &action, NULL);
}

int terminal_open(void)
{
	if (tcgetattr(STDIN_FILENO, &before) != 0)
		return -1;
	for (size_t i = 0; i < sizeof polite / sizeof *polite; i++)
		catch_with(polite[i], on_polite);
	for (size_t i = 0; i < sizeof sudden / sizeof *sudden; i++)
		catch_with(sudden[i], on_sudden);
	catch_with(SIGWINCH, on_resize);
	catch_with(SIGTSTP, on_suspend);
	atexit(restore);
	return take();
}

void terminal_close(void)
{
	restore();
}

void terminal_die(void)
{
	if (ending == 0)
		return;
	signal(ending, SIG_DFL);
	raise(ending);
}

void terminal_size(int *columns, int *rows)
{
	struct winsize size;
	bool told = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;

	*columns = told && size.ws_col > 0 ? size.ws_col : COLUMNS;
	*rows = told && size.ws_row > 0 ? size.ws_row : ROWS;
}

/* ^Z: as a program is expected to, with the terminal as it was meanwhile. */
static void stop(void)
{
	suspend = 0;
	restore();
	raise(SIGSTOP);
	take();
}

int terminal_key(int ms)
{
	struct pollfd keys = {.fd = STDIN_FILENO, .events = POLLIN};
	unsigned char key;

	if (ending != 0)
		return -1;
	int ready = poll(&keys, 1, ms);
	if (ending != 0)
		return -1;
	if (suspend) {
		stop();
		return 0;
	}
	if (resized) {
		resized = 0;
		return 0;
	}
	if (ready <= 0)
		return ready < 0 && errno != EINTR ? -1 : 0;
	/* A terminal that hung up is readable, and at its end. */
	ssize_t got = read(STDIN_FILENO, &key, 1);
	if (got == 1)
		return key;
	return got < 0 && (errno == EINTR || errno == EAGAIN) ? 0 : -1;
}

/* Line by line, so that nothing flickers: each is written over, and what was behind it goes. */
bool terminal_show(const char *page, size_t length)
{
	static char frame[512 * 1024];
	size_t at = 0;

	memcpy(frame, "\033[H", 3);
	at = 3;
	for (size_t i = 0; i < length && at + 16 < sizeof frame; i++) {
		if (page[i] != '\n') {
			frame[at++] = page[i];
			continue;
		}
		memcpy(frame + at, "\033[K", 3);
		at += 3;
		/* After the last line nothing must scroll. */
		if (i + 1 < length) {
			memcpy(frame + at, "\r\n", 2);
			at += 2;
		}
	}
	memcpy(frame + at, "\033[J", 3);
	put(frame, at + 3);
	return ending == 0;
}
