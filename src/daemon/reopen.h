/*
 * The log and the access logs opened anew, for children that may open no file.
 */
#ifndef TALLYD_DAEMON_REOPEN_H
#define TALLYD_DAEMON_REOPEN_H

struct family;

/*
 * Opens the master's log anew and hands it to the workers and the journal writer.  Access logs are
 * opened by a process of its own, in the name of the service's user, as a worker opens its first
 * one: who may write the folder decides where its names lead, and that may not be root's.  What
 * cannot be opened is logged, and the old file stays in use.
 */
void reopen_logs(const struct family *family);

#endif
