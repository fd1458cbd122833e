/*
 * The master: binds, recovers, forks, reaps, signals.  Takes no lock in the region and serves
 * no request.  Signal handlers set flags; one loop acts on them in a fixed order.
 */
#ifndef TALLYD_DAEMON_MASTER_H
#define TALLYD_DAEMON_MASTER_H

#include "config.h"
#include "instance.h"
#include "listen.h"
#include "privileges.h"

#define MASTER_EXIT_FAILED  1
#define MASTER_EXIT_CORRUPT 3

/*
 * From now on signals wait until master_run acts on them.  To be called before anybody can know
 * whom to send them to.
 */
void master_hold_signals(void);

/*
 * Runs the daemon, whose signals are held, until it is stopped.  Takes over CONFIG and LISTENERS
 * (bound) and frees them; CONFIG_FILE is read again at each reload; INSTANCE is open.  Reports
 * readiness through daemonize_ready, or a failure to start through daemonize_failed.  Returns the
 * exit status.
 */
int master_run(struct config *config, const char *config_file, struct listen_set *listeners,
               const struct instance *instance, const struct privileges *privileges);

#endif
