/*
 * The system calls of each role.  libseccomp makes the filter of them; what is put before it and
 * how it is loaded is ours.
 *
 * A call that is newer than the libseccomp of the build fails with ENOSYS, whatever the setting: to
 * a libc that tries it first this kernel looks older, and it takes the older way.
 */
#include "confine.h"

#ifndef HAVE_LIBSECCOMP

bool confine_has_seccomp(void)
{
	return false;
}

int confine_calls(const struct confine *confine, char *error, size_t size)
{
	(void)confine;
	(void)error;
	(void)size;
	return 0;
}

#else

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CALLS_MAX                                                                                  \
	8192          /* the highest number of a call that is asked for, and more than there are   \
	               */
#define PREFIX      3 /* instructions before libseccomp's */
#define PROGRAM_MAX BPF_MAXINSNS

#define COUNT_OF(list) (sizeof(list) / sizeof((list)[0]))

/* What every child does: memory, clocks, locks, its open files, its end. */
static const int of_children[] = {
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(close),
    SCMP_SYS(dup3),
    SCMP_SYS(lseek),
    SCMP_SYS(pread64),
    SCMP_SYS(fstat),
    SCMP_SYS(fstat64),
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(futex),
    SCMP_SYS(futex_time64),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_gettime64),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(clock_nanosleep_time64),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(getrandom),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigreturn),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(rseq),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

/*
 * Its connections, its loop (which libev begins anew when the kernel tells it of a connection that
 * is closed already), and looking at the journal without waiting for the disk.
 */
static const int of_worker[] = {
    SCMP_SYS(accept4),          SCMP_SYS(recvfrom),  SCMP_SYS(recv),       SCMP_SYS(send),
    SCMP_SYS(epoll_create1),    SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),     SCMP_SYS(preadv2),   SCMP_SYS(fadvise64),  SCMP_SYS(fadvise64_64),
    SCMP_SYS(arm_fadvise64_64),
};

/* Writing files and making them durable; who is root gives them to the folder's owner. */
static const int of_writers[] = {
    SCMP_SYS(pwrite64), SCMP_SYS(pwritev),   SCMP_SYS(fallocate),
    SCMP_SYS(fsync),    SCMP_SYS(fdatasync), SCMP_SYS(fchown),
    SCMP_SYS(fchown32), SCMP_SYS(geteuid),   SCMP_SYS(geteuid32),
};

/* Folders; and qsort(3), which asks how much memory there is. */
static const int of_snapshotter[] = {
    SCMP_SYS(getdents64), SCMP_SYS(unlinkat), SCMP_SYS(renameat),
    SCMP_SYS(renameat2),  SCMP_SYS(sysinfo),
};

/*
 * What the master never does, nor anybody whom it forks: it runs no program, looks into no other
 * process, and asks nothing of the kernel that is not a service's business.
 */
static const int not_of_master[] = {
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(process_madvise),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(kcmp),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(mount),
    SCMP_SYS(umount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(open_tree),
    SCMP_SYS(move_mount),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount),
    SCMP_SYS(fspick),
    SCMP_SYS(setns),
    SCMP_SYS(unshare),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(mknod),
    SCMP_SYS(mknodat),
    SCMP_SYS(add_key),
    SCMP_SYS(keyctl),
    SCMP_SYS(request_key),
    SCMP_SYS(quotactl),
    SCMP_SYS(acct),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(reboot),
    SCMP_SYS(syslog),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(clock_settime64),
    SCMP_SYS(adjtimex),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(personality),
    SCMP_SYS(vhangup),
};

/* A filter in the making.  The first failure counts. */
struct filter {
	scmp_filter_ctx context;
	int error; /* an errno, 0: none */
};

/* Argument NUMBER is an int, whatever stands in the half of the register that is not looked at. */
static struct scmp_arg_cmp is_int(unsigned number, int value)
{
	return SCMP_CMP(number, SCMP_CMP_MASKED_EQ, UINT32_MAX, (uint32_t)value);
}

/* None of the bits UNWANTED is set in it. */
static struct scmp_arg_cmp is_without(unsigned number, uint64_t unwanted)
{
	return SCMP_CMP(number, SCMP_CMP_MASKED_EQ, unwanted, 0);
}

/* Flags of open(2): exactly these.  libc adds O_LARGEFILE where there is such a thing. */
static struct scmp_arg_cmp is_opened(unsigned number, int flags)
{
	return SCMP_CMP(number, SCMP_CMP_MASKED_EQ, UINT32_MAX & ~(uint32_t)O_LARGEFILE,
	                (uint32_t)(flags & ~O_LARGEFILE));
}

static void rule(struct filter *filter, uint32_t action, int call, unsigned count,
                 const struct scmp_arg_cmp *conditions)
{
	int result = seccomp_rule_add_array(filter->context, action, call, count, conditions);

	/* A call that this architecture does not have is none that could be made. */
	if (result != 0 && result != -EDOM && filter->error == 0)
		filter->error = -result;
}

static void allow_all(struct filter *filter, const int *calls, size_t count)
{
	for (size_t i = 0; i < count; i++)
		rule(filter, SCMP_ACT_ALLOW, calls[i], 0, NULL);
}

/* If all of its conditions hold.  Several rules of a call: if those of one hold. */
#define ALLOW_IF(filter, call, ...)                                                                \
	do {                                                                                       \
		const struct scmp_arg_cmp conditions_[] = {__VA_ARGS__};                           \
		rule(filter, SCMP_ACT_ALLOW, call, COUNT_OF(conditions_), conditions_);            \
	} while (0)

/* No memory that can be run, no signal to anybody else, and looking only at what is open. */
static void allow_children(struct filter *filter)
{
	allow_all(filter, of_children, COUNT_OF(of_children));
	ALLOW_IF(filter, SCMP_SYS(mmap), is_without(2, PROT_EXEC));
	ALLOW_IF(filter, SCMP_SYS(mmap2), is_without(2, PROT_EXEC));
	ALLOW_IF(filter, SCMP_SYS(mprotect), is_without(2, PROT_EXEC));
	ALLOW_IF(filter, SCMP_SYS(tgkill), is_int(0, getpid()));
	ALLOW_IF(filter, SCMP_SYS(newfstatat), is_int(3, AT_EMPTY_PATH));
	ALLOW_IF(filter, SCMP_SYS(fstatat64), is_int(3, AT_EMPTY_PATH));
	ALLOW_IF(filter, SCMP_SYS(statx), is_int(2, AT_EMPTY_PATH));
}

/* Lines to syslog, which is found by its path each time. */
static void allow_syslog(struct filter *filter, int socket)
{
	if (socket >= 0)
		ALLOW_IF(filter, SCMP_SYS(sendto), is_int(0, socket));
}

static void allow_handover(struct filter *filter, int socket)
{
	if (socket >= 0)
		ALLOW_IF(filter, SCMP_SYS(recvmsg), is_int(0, socket));
}

static void allow_worker(struct filter *filter, const struct confine *confine)
{
	const struct scmp_arg_cmp folder = is_int(0, confine->journal);

	allow_all(filter, of_worker, COUNT_OF(of_worker));
	/* To who is connected already, and to nobody else. */
	ALLOW_IF(filter, SCMP_SYS(sendto), SCMP_A4(SCMP_CMP_EQ, 0));
	/* Shut for reading, a listening socket listens no more, for nobody: it is everybody's. */
	ALLOW_IF(filter, SCMP_SYS(shutdown), is_int(1, SHUT_WR));
	ALLOW_IF(filter, SCMP_SYS(setsockopt), is_int(1, IPPROTO_TCP), is_int(2, TCP_NODELAY));
	ALLOW_IF(filter, SCMP_SYS(setsockopt), is_int(1, IPPROTO_TCP),
	         is_int(2, TCP_NOTSENT_LOWAT));
	/* Whoever only listens has to be there (src/server/chat_protocol.c). */
	ALLOW_IF(filter, SCMP_SYS(setsockopt), is_int(1, SOL_SOCKET), is_int(2, SO_KEEPALIVE));
	ALLOW_IF(filter, SCMP_SYS(setsockopt), is_int(1, IPPROTO_TCP), is_int(2, TCP_KEEPIDLE));
	ALLOW_IF(filter, SCMP_SYS(setsockopt), is_int(1, IPPROTO_TCP), is_int(2, TCP_KEEPINTVL));
	ALLOW_IF(filter, SCMP_SYS(setsockopt), is_int(1, IPPROTO_TCP), is_int(2, TCP_KEEPCNT));
	ALLOW_IF(filter, SCMP_SYS(setsockopt), is_int(1, IPPROTO_TCP), is_int(2, TCP_USER_TIMEOUT));
	/* Who has connected (src/server/served.h)? */
	ALLOW_IF(filter, SCMP_SYS(getsockopt), is_int(1, SOL_SOCKET), is_int(2, SO_PEERCRED));
	ALLOW_IF(filter, SCMP_SYS(getsockopt), is_int(1, SOL_SOCKET), is_int(2, SO_PEERGROUPS));
	if (confine->journal < 0)
		return;
	ALLOW_IF(filter, SCMP_SYS(openat), folder, is_opened(2, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
	ALLOW_IF(filter, SCMP_SYS(faccessat), folder);
	ALLOW_IF(filter, SCMP_SYS(faccessat2), folder);
}

static void allow_journal(struct filter *filter, const struct confine *confine)
{
	const struct scmp_arg_cmp folder = is_int(0, confine->journal);

	allow_all(filter, of_writers, COUNT_OF(of_writers));
	if (confine->journal < 0)
		return;
	ALLOW_IF(filter, SCMP_SYS(openat), folder, is_opened(2, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
	ALLOW_IF(filter, SCMP_SYS(openat), folder, is_opened(2, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
	ALLOW_IF(filter, SCMP_SYS(openat), folder,
	         is_opened(2, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW));
	ALLOW_IF(filter, SCMP_SYS(unlinkat), folder, is_int(2, 0));
	ALLOW_IF(filter, SCMP_SYS(renameat), folder, is_int(2, confine->journal));
	ALLOW_IF(filter, SCMP_SYS(renameat2), folder, is_int(2, confine->journal));
}

/* Which folders it opens is Landlock's to say. */
static void allow_snapshotter(struct filter *filter)
{
	allow_all(filter, of_writers, COUNT_OF(of_writers));
	allow_all(filter, of_snapshotter, COUNT_OF(of_snapshotter));
	/* fdopendir(3) looks whether it can be read, and sees to FD_CLOEXEC. */
	ALLOW_IF(filter, SCMP_SYS(fcntl), is_int(1, F_GETFL));
	ALLOW_IF(filter, SCMP_SYS(fcntl), is_int(1, F_SETFD));
	ALLOW_IF(filter, SCMP_SYS(fcntl64), is_int(1, F_GETFL));
	ALLOW_IF(filter, SCMP_SYS(fcntl64), is_int(1, F_SETFD));
	ALLOW_IF(filter, SCMP_SYS(openat), is_opened(2, O_RDONLY | O_CLOEXEC | O_DIRECTORY));
	ALLOW_IF(filter, SCMP_SYS(openat), is_opened(2, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
	ALLOW_IF(filter, SCMP_SYS(openat),
	         is_opened(2, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW));
}

static void add_rules(struct filter *filter, const struct confine *confine, uint32_t refusal)
{
	if (confine->role == CONFINE_MASTER) {
		for (size_t i = 0; i < COUNT_OF(not_of_master); i++)
			rule(filter, refusal, not_of_master[i], 0, NULL);
		return;
	}
	allow_children(filter);
	allow_handover(filter, confine->handover);
	allow_syslog(filter, confine->syslog);
	if (confine->role == CONFINE_WORKER)
		allow_worker(filter, confine);
	else if (confine->role == CONFINE_JOURNAL)
		allow_journal(filter, confine);
	else
		allow_snapshotter(filter);
}

/* ---- from rules to the kernel */

/* The highest number of a call that libseccomp knows here. */
static uint32_t newest_call(void)
{
	for (int call = CALLS_MAX; call > 0; call--) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, call);
		free(name);
		if (name != NULL)
			return (uint32_t)call;
	}
	return 0;
}

/*
 * Calls with higher numbers: ENOSYS.  (Also what has no number at all, -1, which is what a tracer
 * makes of a call that it answers itself.)  Three instructions; nothing that follows jumps back.
 */
static size_t put_prefix(struct sock_filter *program)
{
	const struct sock_filter prefix[PREFIX] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, newest_call(), 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
	};

	memcpy(program, prefix, sizeof prefix);
	return PREFIX;
}

/* The filter's instructions into PROGRAM, at most ROOM; their number, or -1 with errno. */
static ssize_t export(const struct filter *filter, struct sock_filter *program, size_t room)
{
	int fd = memfd_create("filter", MFD_CLOEXEC);
	ssize_t got = -1;
	struct stat status;

	if (fd < 0)
		return -1;
	int result = seccomp_export_bpf(filter->context, fd);
	if (result != 0)
		errno = -result;
	else if (fstat(fd, &status) == 0 && (size_t)status.st_size > room * sizeof *program)
		errno = E2BIG;
	else
		got = pread(fd, program, room * sizeof *program, 0);
	int reason = errno;
	close(fd);
	errno = reason;
	return got < 0 ? -1 : got / (ssize_t)sizeof *program;
}

static int load(const struct filter *filter, bool prefixed)
{
	struct sock_filter *program = calloc(PROGRAM_MAX, sizeof *program);
	size_t length = program != NULL && prefixed ? put_prefix(program) : 0;
	ssize_t more = -1;
	long result = -1;

	if (program != NULL)
		more = export(filter, program + length, PROGRAM_MAX - length);
	if (more > 0) {
		const struct sock_fprog whole = {.len = (unsigned short)(length + (size_t)more),
		                                 .filter = program};
		result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		                 SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG, &whole);
		if (result > 0) /* the thread that could not be reached */
			errno = ESRCH;
	}
	int reason = errno;
	free(program);
	errno = reason;
	return result == 0 ? 0 : -1;
}

static uint32_t action_of(enum confine_seccomp seccomp)
{
	switch (seccomp) {
	case CONFINE_KILL:
		return SCMP_ACT_KILL_PROCESS;
	case CONFINE_ERRNO:
		return SCMP_ACT_ERRNO(EPERM);
	case CONFINE_LOG:
	case CONFINE_OFF:
		break;
	}
	return SCMP_ACT_LOG;
}

/* 0, or -1 with errno. */
static int make_and_load(const struct confine *confine, enum confine_seccomp seccomp)
{
	uint32_t refusal = action_of(seccomp);
	bool master = confine->role == CONFINE_MASTER;
	struct filter filter = {.context = seccomp_init(master ? SCMP_ACT_ALLOW : refusal)};

	if (filter.context == NULL) {
		errno = ENOSYS; /* the action is not to be had */
		return -1;
	}
	/* Calls by way of another architecture's entry are none of these. */
	filter.error = -seccomp_attr_set(filter.context, SCMP_FLTATR_ACT_BADARCH, refusal);
	/* By number in a tree, not one after the other. */
	if (filter.error == 0)
		filter.error = -seccomp_attr_set(filter.context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (filter.error == 0)
		add_rules(&filter, confine, refusal);
	if (filter.error == 0 && load(&filter, !master && seccomp != CONFINE_LOG) != 0)
		filter.error = errno;
	seccomp_release(filter.context);
	errno = filter.error;
	return filter.error == 0 ? 0 : -1;
}

bool confine_has_seccomp(void)
{
	return true;
}

int confine_calls(const struct confine *confine, char *error, size_t size)
{
	enum confine_seccomp seccomp = confine->seccomp;

	if (seccomp == CONFINE_OFF)
		return 0;
	if (confine_is_sanitized())
		seccomp = CONFINE_LOG;
	if (make_and_load(confine, seccomp) == 0)
		return 0;
	snprintf(error, size,
	         "seccomp: system calls cannot be confined: %s; with seccomp = off it goes on "
	         "without",
	         strerror(errno));
	return -1;
}

#endif
