/*
 * What each role may not do, tried by a process that has confined itself as that role does: it dies
 * of SIGSYS, or gets EPERM, as the setting says; and with the setting off the same attempt
 * succeeds, so that its failure was the filter's.  The same for the folders of Landlock, and the
 * reverse: what a role needs works under the strictest setting.
 */
#include "../src/daemon/confine.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "../shm/region.h"
#include "../src/base/log.h"
#include "../src/base/pass.h"
#include "../src/base/system_log.h"
#include "../src/ledger/disk.h"
#include "../src/ledger/segment.h"
#include "tap/tap.h"

#define BACKLOG      1024
#define SEGMENT      UINT64_C(0)
#define NEXT         SEGMENT_SIZE_MIN
#define SECRET       "thirteen pence for alice"
#define MEBIBYTE     (1 << 20)
#define READ_FLAGS   (O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
#define STEPS_FAILED 99 /* exit status, plus nothing: no errno is that */

static char top[] = "/tmp/confine-XXXXXX";
static const char *const role_name[] = {"master", "worker", "journal writer", "snapshotter"};

/* What stands there before each attempt, and is open in who makes it. */
struct place {
	int journal;
	int snapshots;
	int elsewhere; /* a folder of nobody's */
	int listener;  /* TCP, of 127.0.0.1 */
	int handover[2];
	int system_log;
	struct sockaddr_in address;  /* of the listener */
	struct sockaddr_un datagram; /* of a service to which datagrams are sent */
};

static void must(bool done, const char *what)
{
	if (!done)
		BAIL_OUT("%s: %s", what, strerror(errno));
}

static int folder(const char *name)
{
	char path[256];

	snprintf(path, sizeof path, "%s/%s", top, name);
	if (mkdir(path, 0700) != 0)
		must(errno == EEXIST, path);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(fd >= 0, path);
	return fd;
}

static void put_file(int directory, const char *name)
{
	int fd = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	must(fd >= 0 && write(fd, "text", 4) == 4 && close(fd) == 0, name);
}

static void put_segment(int directory, uint64_t base)
{
	const struct segment segment = {.base = base, .size = SEGMENT_SIZE_MIN, .key = 1};

	must(segment_create(directory, &segment, false, 1) == 0, "a segment");
}

static void make(struct place *place)
{
	socklen_t length = sizeof place->address;

	*place =
	    (struct place){.journal = folder("journal"),
	                   .snapshots = folder("snapshots"),
	                   .elsewhere = folder("elsewhere"),
	                   .listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
	                   .system_log = system_log_open(),
	                   .address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}},
	                   .datagram = {.sun_family = AF_UNIX}};
	put_segment(place->journal, SEGMENT);
	put_file(place->journal, "old");
	put_file(place->snapshots, "old");
	put_file(place->elsewhere, "old");
	snprintf(place->datagram.sun_path, sizeof place->datagram.sun_path, "%s/log", top);
	must(bind(place->listener, (struct sockaddr *)&place->address, length) == 0 &&
	         listen(place->listener, BACKLOG) == 0 &&
	         getsockname(place->listener, (struct sockaddr *)&place->address, &length) == 0,
	     "a listener");
	must(pass_pair(place->handover) == 0, "a pair");
}

static void leave(const struct place *place)
{
	close(place->journal);
	close(place->snapshots);
	close(place->elsewhere);
	close(place->listener);
	close(place->system_log);
	close(place->handover[0]);
	close(place->handover[1]);
}

/* ---- attempts: 0, or an errno */

typedef int attempt_kind(const struct place *place);

static int result_of(long result)
{
	return result < 0 ? errno : 0;
}

/* Of a call that gives a descriptor or a process. */
static int try_execve(const struct place *place)
{
	char *const arguments[] = {"true", NULL};

	(void)place;
	return result_of(execve("/bin/true", arguments, NULL));
}

static int try_execveat(const struct place *place)
{
	char *const arguments[] = {"true", NULL};

	(void)place;
	return result_of(syscall(SYS_execveat, AT_FDCWD, "/bin/true", arguments, NULL, 0));
}

static int try_child(pid_t pid)
{
	if (pid == 0)
		_exit(0);
	return result_of(pid < 0 ? -1 : waitpid(pid, NULL, 0));
}

static int try_fork(const struct place *place)
{
	(void)place;
	return try_child(fork());
}

static int try_clone(const struct place *place)
{
	(void)place;
	return try_child((pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL));
}

static int try_vfork(const struct place *place)
{
	(void)place;
	return try_child(vfork());
}

static int try_socket(const struct place *place)
{
	(void)place;
	return result_of(socket(AF_UNIX, SOCK_STREAM, 0));
}

static int try_socketpair(const struct place *place)
{
	int pair[2];

	(void)place;
	return result_of(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
}

static int try_connect(const struct place *place)
{
	return result_of(connect(place->system_log, (const struct sockaddr *)&place->datagram,
	                         sizeof place->datagram));
}

static int try_bind(const struct place *place)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof address.sun_path, "%s/bound", top);
	return result_of(bind(place->system_log, (struct sockaddr *)&address, sizeof address));
}

static int try_listen(const struct place *place)
{
	return result_of(listen(place->listener, BACKLOG));
}

/* What it does to a listening socket: it would listen no more, for the next attempt neither. */
static int try_shut_for_reading(const struct place *place)
{
	return result_of(shutdown(place->system_log, SHUT_RD));
}

static int try_shut(const struct place *place)
{
	return result_of(shutdown(place->system_log, SHUT_RDWR));
}

static int try_option(const struct place *place)
{
	const int size = 4096;

	return result_of(setsockopt(place->listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
}

static int try_send_to(const struct place *place)
{
	return result_of(sendto(place->system_log, "x", 1, 0,
	                        (const struct sockaddr *)&place->datagram, sizeof place->datagram));
}

static int try_open(const struct place *place)
{
	(void)place;
	return result_of(syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY));
}

#ifdef SYS_open
static int try_old_open(const struct place *place)
{
	(void)place;
	return result_of(syscall(SYS_open, "/etc/passwd", O_RDONLY));
}

static int try_creat(const struct place *place)
{
	char path[256];

	(void)place;
	snprintf(path, sizeof path, "%s/elsewhere/new", top);
	return result_of(syscall(SYS_creat, path, 0600));
}
#endif

static int try_openat2(const struct place *place)
{
	const uint64_t how[3] = {O_RDONLY | O_CLOEXEC | O_NOFOLLOW};

	return result_of(syscall(SYS_openat2, place->journal, "old", how, sizeof how));
}

static int try_read_elsewhere(const struct place *place)
{
	return result_of(openat(place->elsewhere, "old", READ_FLAGS));
}

static int try_write(const struct place *place)
{
	return result_of(openat(place->journal, "old", O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
}

static int try_write_elsewhere(const struct place *place)
{
	return result_of(openat(place->elsewhere, "old", O_RDWR | O_CLOEXEC | O_NOFOLLOW));
}

static int try_append(const struct place *place)
{
	return result_of(
	    openat(place->journal, "old", O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW));
}

static int try_create(const struct place *place)
{
	return result_of(openat(place->journal, "new", READ_FLAGS | O_CREAT, 0600));
}

static int try_truncate(const struct place *place)
{
	return result_of(openat(place->journal, "old", READ_FLAGS | O_TRUNC));
}

static int try_temporary(const struct place *place)
{
	return result_of(
	    openat(place->journal, ".", O_TMPFILE | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600));
}

static int try_unlink(const struct place *place)
{
	return result_of(unlinkat(place->journal, "old", 0));
}

static int try_unlink_elsewhere(const struct place *place)
{
	return result_of(unlinkat(place->elsewhere, "old", 0));
}

static int try_unlink_path(const struct place *place)
{
	char path[256];

	(void)place;
	snprintf(path, sizeof path, "%s/elsewhere/old", top);
	return result_of(unlinkat(AT_FDCWD, path, 0));
}

static int try_rename(const struct place *place)
{
	return result_of(renameat(place->journal, "old", place->journal, "new"));
}

static int try_rename_elsewhere(const struct place *place)
{
	return result_of(renameat(place->journal, "old", place->elsewhere, "new"));
}

static int try_mkdir(const struct place *place)
{
	return result_of(mkdirat(place->journal, "directory", 0700));
}

static int try_rmdir(const struct place *place)
{
	return result_of(unlinkat(place->elsewhere, "empty", AT_REMOVEDIR));
}

static int try_link(const struct place *place)
{
	return result_of(linkat(place->journal, "old", place->journal, "other", 0));
}

static int try_symlink(const struct place *place)
{
	return result_of(symlinkat("old", place->journal, "link"));
}

static int try_chmod(const struct place *place)
{
	return result_of(fchmod(place->journal, 0700));
}

static int try_list(const struct place *place)
{
	char names[1024];

	return result_of(syscall(SYS_getdents64, place->journal, names, sizeof names));
}

static int try_stat(const struct place *place)
{
	struct stat status;

	(void)place;
	return result_of(stat("/etc/passwd", &status));
}

static int try_chdir(const struct place *place)
{
	(void)place;
	return result_of(chdir("/"));
}

static int try_run_memory(const struct place *place)
{
	(void)place;
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	               MAP_FAILED
	           ? errno
	           : 0;
}

static int try_make_runnable(const struct place *place)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)place;
	return result_of(page == MAP_FAILED ? -1 : mprotect(page, 4096, PROT_READ | PROT_EXEC));
}

static int try_trace(const struct place *place)
{
	(void)place;
	return result_of(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static int try_read_memory(const struct place *place)
{
	char byte;
	const struct iovec here = {&byte, 1};
	const struct iovec there = {(void *)&role_name, 1};

	(void)place;
	return result_of(process_vm_readv(getpid(), &here, 1, &there, 1, 0));
}

static int try_kill(const struct place *place)
{
	(void)place;
	return result_of(kill(getpid(), 0));
}

static int try_signal_parent(const struct place *place)
{
	pid_t parent = (pid_t)syscall(SYS_getppid);

	(void)place;
	return result_of(kill(parent, 0));
}

static int try_tgkill_parent(const struct place *place)
{
	/* Thread 1 of process 1: only the filter is asked about. */
	(void)place;
	return result_of(syscall(SYS_tgkill, 1, 1, 0));
}

static int try_limit(const struct place *place)
{
	struct rlimit limit;

	(void)place;
	return result_of(getrlimit(RLIMIT_NOFILE, &limit));
}

static int try_prctl(const struct place *place)
{
	(void)place;
	return result_of(prctl(PR_GET_DUMPABLE));
}

static int try_ids(const struct place *place)
{
	(void)place;
	return result_of(setresuid((uid_t)-1, (uid_t)-1, (uid_t)-1));
}

static int try_unshare(const struct place *place)
{
	(void)place;
	return result_of(unshare(CLONE_FS));
}

static int try_chroot(const struct place *place)
{
	(void)place;
	return result_of(chroot("/"));
}

static int try_mount(const struct place *place)
{
	/* Nothing is mounted: with permission it is ENOENT. */
	(void)place;
	int result = result_of(mount("none", "/nonexistent", "tmpfs", 0, NULL));
	return result == ENOENT ? 0 : result;
}

/* Of Landlock, through calls that a filter lets pass. */
static int try_leave_folder(const struct place *place)
{
	return result_of(openat(place->journal, "../elsewhere/old", READ_FLAGS));
}

static int try_create_outside(const struct place *place)
{
	return result_of(openat(place->journal, "../elsewhere/new",
	                        O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
}

static int try_unlink_outside(const struct place *place)
{
	return result_of(unlinkat(place->journal, "../elsewhere/old", 0));
}

static int try_rename_outside(const struct place *place)
{
	return result_of(renameat(place->journal, "old", place->journal, "../elsewhere/new"));
}

static int try_write_journal(const struct place *place)
{
	return result_of(openat(place->journal, "new",
	                        O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
}

static int try_connect_tcp(const struct place *place)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	return result_of(
	    connect(fd, (const struct sockaddr *)&place->address, sizeof place->address));
}

static int try_bind_tcp(const struct place *place)
{
	const struct sockaddr_in any = {.sin_family = AF_INET,
	                                .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	(void)place;
	return result_of(bind(fd, (const struct sockaddr *)&any, sizeof any));
}

/* ---- what is forbidden to whom */

#define M 1u
#define W 2u
#define J 4u
#define S 8u
#define C (W | J | S) /* the children */

static const struct {
	const char *name;
	attempt_kind *attempt;
	unsigned roles;
} by_filter[] = {
    {"execve", try_execve, M | C},
    {"execveat", try_execveat, M | C},
    {"ptrace", try_trace, M | C},
    {"reading a process's memory", try_read_memory, M | C},
    {"unshare", try_unshare, M | C},
    {"chroot", try_chroot, M | C},
    {"mount", try_mount, M | C},
    {"fork", try_fork, C},
    {"clone", try_clone, C},
    {"vfork", try_vfork, C},
    {"socket", try_socket, C},
    {"socketpair", try_socketpair, C},
    {"connect", try_connect, C},
    {"bind", try_bind, C},
    {"listen", try_listen, C},
    {"shutting a socket for reading", try_shut_for_reading, C},
    {"shutting a socket", try_shut, C},
    {"an option of sockets in general", try_option, C},
    {"a datagram to somebody", try_send_to, C},
    {"reading a file by its path", try_open, W | J},
#ifdef SYS_open
    {"open(2)", try_old_open, C},
    {"creat(2)", try_creat, C},
#endif
    {"openat2", try_openat2, C},
    {"reading in another folder", try_read_elsewhere, W | J},
    {"opening for writing", try_write, C},
    {"opening for writing in another folder", try_write_elsewhere, C},
    {"opening for appending", try_append, C},
    {"creating a file", try_create, C},
    {"truncating a file", try_truncate, C},
    {"a file without a name", try_temporary, C},
    {"unlink", try_unlink, W},
    {"unlink in another folder", try_unlink_elsewhere, W | J},
    {"unlink of a path", try_unlink_path, W | J},
    {"rename", try_rename, W},
    {"rename into another folder", try_rename_elsewhere, W | J},
    {"mkdir", try_mkdir, C},
    {"rmdir", try_rmdir, W | J},
    {"link", try_link, C},
    {"symlink", try_symlink, C},
    {"chmod", try_chmod, C},
    {"listing a folder", try_list, W | J},
    {"stat of a path", try_stat, C},
    {"chdir", try_chdir, C},
    {"mmap with PROT_EXEC", try_run_memory, C},
    {"mprotect with PROT_EXEC", try_make_runnable, C},
    {"kill", try_kill, C},
    {"tgkill of another process", try_tgkill_parent, C},
    {"getrlimit", try_limit, C},
    {"prctl", try_prctl, C},
    {"setresuid", try_ids, C},
};

static const struct {
	const char *name;
	attempt_kind *attempt;
	unsigned roles;
	int abi;   /* of Landlock that forbids it */
	int error; /* that it then gives */
} by_landlock[] = {
    {"out of the folder, for reading", try_leave_folder, C, 1, EACCES},
    {"out of the folder, for creating", try_create_outside, C, 1, EACCES},
    {"out of the folder, for removing", try_unlink_outside, C, 1, EACCES},
    {"out of the folder, by renaming", try_rename_outside, C, 2, EACCES},
    {"creating a file in the journal", try_write_journal, W | S, 1, EACCES},
    {"removing a file of the journal", try_unlink, W, 1, EACCES},
    {"truncating a file of the journal", try_truncate, W | S, 3, EACCES},
    {"a directory in the journal", try_mkdir, C, 1, EACCES},
    {"a symbolic link in the journal", try_symlink, C, 1, EACCES},
    {"a program", try_execve, C, 1, EACCES},
    {"connecting over TCP", try_connect_tcp, C, 4, EACCES},
    {"binding a TCP port", try_bind_tcp, C, 4, EACCES},
    {"a signal to the parent", try_signal_parent, C, 6, EPERM},
};

/* ---- making an attempt */

static int confine_as(const struct place *place, enum confine_role role,
                      enum confine_seccomp seccomp, bool landlock, char *error, size_t size)
{
	const struct confine confined = {.role = role,
	                                 .seccomp = seccomp,
	                                 .landlock = landlock,
	                                 .journal = place->journal,
	                                 .snapshots = place->snapshots,
	                                 .handover = place->handover[1],
	                                 .syslog = -1};

	if (confine_process(error, size) != 0)
		return -1;
	return confine(&confined, error, size);
}

/* What waitpid says of a child that has confined itself and made ATTEMPT: 0 succeeded, or errno. */
static int outcome(const struct place *place, enum confine_role role, enum confine_seccomp seccomp,
                   bool landlock, attempt_kind *attempt)
{
	char error[512] = "";
	struct place own = *place;
	int status;

	own.system_log = system_log_open();
	pid_t pid = fork();
	must(pid >= 0 && own.system_log >= 0, "fork");
	if (pid == 0) {
		if (confine_as(&own, role, seccomp, landlock, error, sizeof error) == 0)
			_exit(attempt(&own));
		fprintf(stderr, "# %s\n", error);
		_exit(STEPS_FAILED);
	}
	must(waitpid(pid, &status, 0) == pid, "waitpid");
	close(own.system_log);
	return status;
}

static bool exited(int status, int code)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == code;
}

static void freshen(const struct place *place)
{
	static const char *const gone[] = {"new", "other", "link"};

	for (size_t i = 0; i < 3; i++) {
		unlinkat(place->journal, gone[i], 0);
		unlinkat(place->elsewhere, gone[i], 0);
	}
	unlinkat(place->journal, "directory", AT_REMOVEDIR);
	unlinkat(place->elsewhere, "../bound", 0);
	mkdirat(place->elsewhere, "empty", 0700);
	put_file(place->journal, "old");
	put_file(place->elsewhere, "old");
}

/* A service that takes datagrams, whoever sends them. */
static int serve_datagrams(const struct place *place)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	unlink(place->datagram.sun_path);
	must(bind(fd, (const struct sockaddr *)&place->datagram, sizeof place->datagram) == 0,
	     "a service");
	return fd;
}

static void test_filter(const struct place *place, enum confine_role role)
{
	for (size_t i = 0; i < sizeof by_filter / sizeof *by_filter; i++) {
		attempt_kind *attempt = by_filter[i].attempt;
		if ((by_filter[i].roles & 1u << role) == 0)
			continue;
		freshen(place);
		int off = outcome(place, role, CONFINE_OFF, false, attempt);
		freshen(place);
		int logged = outcome(place, role, CONFINE_LOG, false, attempt);
		freshen(place);
		int refused = outcome(place, role, CONFINE_ERRNO, false, attempt);
		int killed = outcome(place, role, CONFINE_KILL, false, attempt);
		/* Not everybody may do all of it even without a filter. */
		if (exited(off, EPERM) && geteuid() != 0)
			skip(1, "%s, %s: only root may anyhow", role_name[role], by_filter[i].name);
		else
			ok(exited(off, 0) && exited(logged, 0),
			   "%s, %s: without a filter it is done, and logged with one that logs "
			   "(%x, %x)",
			   role_name[role], by_filter[i].name, off, logged);
		ok(exited(refused, EPERM), "... EPERM with errno (%x)", refused);
		ok(WIFSIGNALED(killed) && WTERMSIG(killed) == SIGSYS, "... SIGSYS with kill (%x)",
		   killed);
	}
}

static void test_filters(const struct place *place)
{
	int service = serve_datagrams(place);

	for (enum confine_role role = CONFINE_MASTER; role <= CONFINE_SNAPSHOTTER; role++)
		test_filter(place, role);
	close(service);
}

static void test_landlock(const struct place *place)
{
	int abi = confine_landlock_abi();

	for (size_t i = 0; i < sizeof by_landlock / sizeof *by_landlock; i++) {
		attempt_kind *attempt = by_landlock[i].attempt;
		for (enum confine_role role = CONFINE_WORKER; role <= CONFINE_SNAPSHOTTER; role++) {
			if ((by_landlock[i].roles & 1u << role) == 0)
				continue;
			if (abi < by_landlock[i].abi) {
				skip(2, "this kernel's Landlock does not restrict that");
				continue;
			}
			freshen(place);
			int off = outcome(place, role, CONFINE_OFF, false, attempt);
			freshen(place);
			int on = outcome(place, role, CONFINE_OFF, true, attempt);
			ok(exited(off, 0), "%s, %s: without Landlock it is done (%x)",
			   role_name[role], by_landlock[i].name, off);
			ok(exited(on, by_landlock[i].error), "... and not with it (%x)", on);
		}
	}
}

/* A worker may shut a connection for writing; a listening socket does not mind that. */
static int shut_for_writing(const struct place *place)
{
	return shutdown(place->listener, SHUT_WR) == 0 || errno == ENOTCONN ? 0 : errno;
}

static void test_listener(const struct place *place)
{
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ok(exited(outcome(place, CONFINE_WORKER, CONFINE_KILL, false, shut_for_writing), 0) &&
	       connect(client, (const struct sockaddr *)&place->address, sizeof place->address) ==
	           0,
	   "a worker: no way of shutting down that it has ends a listening socket");
	close(client);
}

/* A call that nobody knows yet, and one by the entry of another architecture. */
static int try_future(const struct place *place)
{
	(void)place;
	return result_of(syscall(4000));
}

static void test_edges(const struct place *place)
{
	for (enum confine_role role = CONFINE_WORKER; role <= CONFINE_SNAPSHOTTER; role++)
		ok(exited(outcome(place, role, CONFINE_KILL, false, try_future), ENOSYS),
		   "%s: a call newer than all that are known is one that the kernel lacks",
		   role_name[role]);
}

#ifdef __x86_64__
static int try_other_entry(const struct place *place)
{
	long result;

	(void)place;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(20 /* getpid */) : "memory");
	return result > 0 ? 0 : (int)-result;
}

static void test_architecture(const struct place *place)
{
	if (!exited(outcome(place, CONFINE_WORKER, CONFINE_OFF, false, try_other_entry), 0)) {
		skip(4, "this kernel has one entry only");
		return;
	}
	for (enum confine_role role = CONFINE_MASTER; role <= CONFINE_SNAPSHOTTER; role++) {
		int status = outcome(place, role, CONFINE_KILL, false, try_other_entry);
		ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS,
		   "%s: the entry of 32-bit programs is no way around", role_name[role]);
	}
}
#endif

/* ---- what is needed works */

/* The place of the first step that failed, 0: none. */
#define STEP(condition)                                                                            \
	do {                                                                                       \
		if (!(condition))                                                                  \
			return __LINE__;                                                           \
	} while (0)

static int use_memory(void)
{
	char *block = malloc(4 * MEBIBYTE);

	STEP(block != NULL);
	memset(block, 1, 4 * MEBIBYTE);
	block = realloc(block, 64 * MEBIBYTE);
	STEP(block != NULL);
	free(block);
	return 0;
}

static int use_clocks(void)
{
	const struct timespec moment = {.tv_nsec = 1000};
	struct timespec now;
	time_t seconds = time(NULL);
	struct tm parts;

	STEP(clock_gettime(CLOCK_MONOTONIC, &now) == 0 && nanosleep(&moment, NULL) == 0);
	STEP(gmtime_r(&seconds, &parts) != NULL && localtime_r(&seconds, &parts) != NULL);
	return 0;
}

/* A log that somebody else has opened. */
static int use_handover(const struct place *place)
{
	char what = 0;
	int fd = pass_take(place->handover[1], &what);

	STEP(fd >= 0 && what == 'L' && write(fd, "line\n", 5) == 5 && close(fd) == 0);
	STEP(pass_take(place->handover[1], &what) == -1 && errno == EAGAIN);
	return 0;
}

static int use_connection(const struct place *place)
{
	const int on = 1;
	struct ucred peer;
	socklen_t size = sizeof peer;
	struct epoll_event event = {.events = EPOLLIN};
	int loop = place->elsewhere; /* put there before */
	char text[4];

	STEP(epoll_ctl(loop, EPOLL_CTL_ADD, place->listener, &event) == 0);
	STEP(epoll_wait(loop, &event, 1, 10000) == 1);
	int fd = accept4(place->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	STEP(fd >= 0 && setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof on) == 0);
	STEP(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0);
	STEP(send(fd, "text", 4, MSG_NOSIGNAL) == 4);
	STEP(recv(fd, text, sizeof text, 0) == -1 && errno == EAGAIN);
	STEP(shutdown(fd, SHUT_WR) == 0 && close(fd) == 0);
	return 0;
}

static int use_segment(const struct place *place)
{
	struct segment segment;
	const char *why;
	char text[16];
	struct iovec piece = {text, sizeof text};
	int fd = segment_open(place->journal, SEGMENT, O_RDONLY, &segment, &why);

	STEP(fd >= 0 && pread(fd, text, sizeof text, 0) == sizeof text);
	STEP(preadv2(fd, &piece, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN || errno == EOPNOTSUPP);
	STEP(posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED) == 0 && close(fd) == 0);
	STEP(faccessat(place->journal, "old", F_OK, 0) == 0);
	STEP(segment_open(place->journal, NEXT, O_RDONLY, &segment, &why) == -1 && errno == ENOENT);
	return 0;
}

/* The line of a step that failed does not fit into an exit status: it is told in words. */
static int tell(const char *what, int line)
{
	if (line != 0)
		fprintf(stderr, "# line %d: %s: %s\n", line, what, strerror(errno));
	return line != 0 ? STEPS_FAILED : 0;
}

static int do_common(const struct place *place)
{
	int line = use_memory();

	if (line == 0)
		line = use_clocks();
	return tell("as every child", line != 0 ? line : use_handover(place));
}

static int do_worker(const struct place *place)
{
	int line = do_common(place);

	if (line != 0)
		return line;
	line = use_segment(place);
	return tell("as a worker", line != 0 ? line : use_connection(place));
}

static int write_segment(const struct place *place)
{
	const struct segment next = {.base = NEXT, .size = SEGMENT_SIZE_MIN, .key = 1};
	struct iovec piece[2] = {{"one", 3}, {"two", 3}};
	struct segment found;
	const char *why;

	STEP(segment_sweep(place->journal) == 0);
	STEP(segment_create(place->journal, &next, true, 1) == 0);
	int fd = segment_open(place->journal, NEXT, O_RDWR, &found, &why);
	STEP(fd >= 0 && disk_write_pieces(fd, piece, 2, SEGMENT_HEAD) == 0);
	STEP(disk_fdatasync(fd) == 0 && disk_close(fd) == 0 && disk_fsync(place->journal) == 0);
	return 0;
}

static int do_journal(const struct place *place)
{
	int line = do_common(place);

	return line != 0 ? line : tell("as the journal writer", write_segment(place));
}

static int compare(const void *left, const void *right)
{
	return *(const int *)left - *(const int *)right;
}

/* So many that libc takes memory for it. */
static int sort_many(void)
{
	static int numbers[10000];

	for (int i = 0; i < 10000; i++)
		numbers[i] = -i;
	qsort(numbers, 10000, sizeof *numbers, compare);
	STEP(numbers[0] == -9999);
	return 0;
}

static int write_snapshot(void)
{
	char path[256], name[SEGMENT_NAME_SIZE];
	struct segment found;
	const char *why;

	snprintf(path, sizeof path, "%s/snapshots", top);
	int directory = disk_directory(path);
	DIR *listing = directory < 0 ? NULL : fdopendir(dup3(directory, 200, O_CLOEXEC));
	STEP(listing != NULL && readdir(listing) != NULL && closedir(listing) == 0);
	int fd = disk_create(directory, "snapshot.tmp");
	STEP(fd >= 0 && disk_write(fd, "text", 4, 0) == 0 && disk_fsync(fd) == 0);
	STEP(disk_close(fd) == 0 && disk_publish(directory, "snapshot.tmp", "new") == 0);
	STEP(unlinkat(directory, "old", 0) == 0);
	snprintf(path, sizeof path, "%s/journal", top);
	directory = disk_directory(path);
	STEP(directory >= 0 && segment_open(directory, SEGMENT, O_RDONLY, &found, &why) >= 0);
	segment_name(name, SEGMENT);
	STEP(unlinkat(directory, name, 0) == 0 && disk_fsync(directory) == 0);
	return 0;
}

static int do_snapshotter(const struct place *place)
{
	int line = use_memory();

	(void)place;
	if (line == 0)
		line = use_clocks();
	if (line == 0)
		line = sort_many();
	return tell("as the snapshotter", line != 0 ? line : write_snapshot());
}

static int do_master(const struct place *place)
{
	int line = try_fork(place) != 0 || try_socket(place) != 0 || try_bind_tcp(place) != 0 ||
	           try_open(place) != 0 || try_write_elsewhere(place) != 0 ||
	           try_kill(place) != 0 || try_signal_parent(place) != 0;

	return tell("as the master", line);
}

static int do_abort(const struct place *place)
{
	(void)place;
	abort();
}

/* Those that attempts have left. */
static void take_all(int listener)
{
	const int flags = fcntl(listener, F_GETFL);
	int fd;

	fcntl(listener, F_SETFL, flags | O_NONBLOCK);
	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		close(fd);
	fcntl(listener, F_SETFL, flags);
}

static void test_needs(struct place *place, enum confine_seccomp seccomp)
{
	const char *word = seccomp == CONFINE_KILL ? "kill" : "off";
	struct place loop = *place;
	char next[SEGMENT_NAME_SIZE];
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	freshen(place);
	put_file(place->snapshots, "old");
	take_all(place->listener);
	loop.elsewhere = epoll_create1(EPOLL_CLOEXEC);
	must(connect(client, (struct sockaddr *)&place->address, sizeof place->address) == 0 ||
	         errno == EINPROGRESS,
	     "a client");
	int log = openat(place->elsewhere, "log", O_WRONLY | O_CREAT | O_APPEND, 0600);
	must(pass_send(place->handover[0], 'L', log) == 0, "handing over");
	ok(exited(outcome(&loop, CONFINE_WORKER, seccomp, true, do_worker), 0),
	   "%s: a worker does its work", word);
	must(pass_send(place->handover[0], 'L', log) == 0, "handing over");
	ok(exited(outcome(place, CONFINE_JOURNAL, seccomp, true, do_journal), 0),
	   "%s: the journal writer does its work", word);
	ok(exited(outcome(place, CONFINE_SNAPSHOTTER, seccomp, true, do_snapshotter), 0),
	   "%s: the snapshotter does its work", word);
	put_segment(place->journal, SEGMENT);
	segment_name(next, NEXT);
	unlinkat(place->journal, next, 0);
	ok(exited(outcome(place, CONFINE_MASTER, seccomp, true, do_master), 0),
	   "%s: the master does its work", word);
	close(client);
	close(loop.elsewhere);
	close(log);
	for (enum confine_role role = CONFINE_WORKER; role <= CONFINE_SNAPSHOTTER; role++) {
		int status = outcome(place, role, seccomp, true, do_abort);
		ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s: %s: abort is SIGABRT",
		   word, role_name[role]);
	}
}

/* ---- syslog, which is started again while a worker is confined */

static bool has_line(int service, const char *text)
{
	char line[512];
	ssize_t got = recv(service, line, sizeof line - 1, 0);

	line[got > 0 ? got : 0] = '\0';
	if (strstr(line, text) != NULL && strncmp(line, "<30>", 4) == 0)
		return true;
	diag("got \"%s\"", line);
	return false;
}

static void await(int fd)
{
	struct pollfd polled = {.fd = fd, .events = POLLIN};

	must(poll(&polled, 1, 20000) == 1, "waiting");
}

static void test_syslog(const struct place *place)
{
	const struct confine confined = {.role = CONFINE_WORKER,
	                                 .seccomp = CONFINE_KILL,
	                                 .landlock = true,
	                                 .journal = place->journal,
	                                 .snapshots = -1,
	                                 .handover = -1,
	                                 .syslog = place->system_log};
	int service = serve_datagrams(place);
	int go_on[2], done[2];
	char error[512], byte;
	int status;

	must(pipe(go_on) == 0 && pipe(done) == 0, "pipe");
	pid_t pid = fork();
	if (pid == 0) {
		close(go_on[1]);
		if (confine_process(error, sizeof error) != 0 ||
		    confine(&confined, error, sizeof error) != 0)
			_exit(1);
		for (int i = 0; i < 3 && read(go_on[0], &byte, 1) == 1; i++) {
			system_log_send(place->system_log, place->datagram.sun_path, LOG_INFO,
			                i == 2 ? "the last" : "a line");
			if (write(done[1], "x", 1) != 1)
				_exit(2);
		}
		_exit(0);
	}
	must(write(go_on[1], "x", 1) == 1, "pipe");
	await(service);
	ok(has_line(service, "tallyd["), "a confined worker writes to syslog");
	close(service);
	must(read(done[0], &byte, 1) == 1 && write(go_on[1], "x", 1) == 1, "pipe");
	must(read(done[0], &byte, 1) == 1, "pipe"); /* a line to nobody */
	service = serve_datagrams(place);
	must(write(go_on[1], "x", 1) == 1, "pipe");
	must(waitpid(pid, &status, 0) == pid, "waitpid");
	ok(exited(status, 0), "whose service stops and starts again (%x)", status);
	ok(has_line(service, ": the last"), "and gets the next lines");
	close(service);
	for (int i = 0; i < 2; i++) {
		close(go_on[i]);
		close(done[i]);
	}
}

/* ---- the whole process */

static bool file_has(const char *path, const char *text)
{
	FILE *file = fopen(path, "r");
	size_t length = strlen(text), matched = 0;
	int c;

	if (file == NULL)
		return false;
	while (matched < length && (c = getc(file)) != EOF)
		matched = c == text[matched] ? matched + 1 : c == text[0] ? 1 : 0;
	fclose(file);
	return matched == length;
}

static bool process_is(const char *field)
{
	return file_has("/proc/self/status", field);
}

static int look_at_process(const struct place *place)
{
	struct rlimit limit;

	(void)place;
	STEP(process_is("NoNewPrivs:\t1"));
	STEP(file_has("/proc/self/coredump_filter", "00000000"));
	STEP(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur == 0 && limit.rlim_max == 0);
	return 0;
}

static int look(const struct place *place)
{
	return tell("the process", look_at_process(place));
}

/* Dies with a secret in its memory, and without the limit, as where dumps go to a pipe. */
static void die_with_secret(bool confined)
{
	const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
	char error[512];
	char *memory = strdup("-" SECRET);

	if ((confined && confine_process(error, sizeof error) != 0) || memory == NULL ||
	    chdir(top) != 0 || setrlimit(RLIMIT_CORE, &all) != 0)
		_exit(1);
	memory[0] = '+';
	abort();
}

static bool dumps_secret(bool confined, bool *dumped)
{
	char path[256];
	int status;
	pid_t pid = fork();

	if (pid == 0)
		die_with_secret(confined);
	must(waitpid(pid, &status, 0) == pid, "waitpid");
	*dumped = WIFSIGNALED(status) && WCOREDUMP(status);
	snprintf(path, sizeof path, "%s/core", top);
	if (access(path, F_OK) != 0)
		snprintf(path, sizeof path, "%s/core.%d", top, (int)pid);
	bool found = file_has(path, "+" SECRET);
	unlink(path);
	return found;
}

static void test_dumps(void)
{
	bool dumped = false;

	if (geteuid() != 0 || !file_has("/proc/sys/kernel/core_pattern", "core\n") ||
	    !dumps_secret(false, &dumped)) {
		skip(2, "no core file can be had here");
		return;
	}
	ok(dumped, "a core dump has the memory of a process");
	ok(!dumps_secret(true, &dumped), "but not of ours, whatever the limit (%d)", dumped);
}

static void test_region(void)
{
	const struct region_geometry geometry = {.max_accounts = 16,
	                                         .max_ids = 64,
	                                         .max_holds = 64,
	                                         .ring_size = REGION_RING_MIN,
	                                         .segment_size = SEGMENT_SIZE_MIN,
	                                         .processes = 1,
	                                         .epoch = 1,
	                                         .journal_key = 1};
	char name[64], line[512];
	bool ours = false, excluded = false;

	snprintf(name, sizeof name, "/confine-unit-%d", (int)getpid());
	struct region *region = region_create(name, &geometry);
	must(region != NULL, "a region");
	FILE *maps = fopen("/proc/self/smaps", "r");
	while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
		if (strstr(line, "-p ") != NULL || strstr(line, "-s ") != NULL ||
		    strchr(line, '-') == strpbrk(line, "- "))
			ours = strstr(line, name) != NULL;
		else if (ours && strncmp(line, "VmFlags:", 8) == 0)
			excluded = strstr(line, " dd") != NULL;
	}
	if (maps != NULL)
		fclose(maps);
	ok(excluded, "the region is in no core dump (VmFlags dd)");
	region_close(region);
	region_unlink(name);
}

int main(void)
{
	struct place place;

	plan(NO_PLAN);
	signal(SIGPIPE, SIG_IGN);
	tzset();
	must(mkdtemp(top) != NULL, "a directory");
	make(&place);
	ok(exited(outcome(&place, CONFINE_MASTER, CONFINE_OFF, false, look), 0),
	   "no new privileges, no core files, no memory in dumps");
	test_dumps();
	test_region();
	if (confine_is_sanitized()) {
		skip(1, "built with sanitizers, whose work a filter would stop: it only logs");
	} else {
		if (confine_has_seccomp()) {
			test_filters(&place);
			test_edges(&place);
			test_listener(&place);
#ifdef __x86_64__
			test_architecture(&place);
#endif
			test_needs(&place, CONFINE_KILL);
			test_syslog(&place);
		} else {
			skip(1, "built without libseccomp");
		}
		test_landlock(&place);
	}
	test_needs(&place, CONFINE_OFF);
	leave(&place);
	char command[64];
	snprintf(command, sizeof command, "rm -rf %s", top);
	must(system(command) == 0, command);
	return done_testing();
}
