/*
 * TAP for the compiled tests, with libtap's names.  Used where the system has
 * no libtap; where it has one (HAVE_LIBTAP, set by configure) that one is used,
 * and only what it lacks is added: cmp_ok on intmax_t, skip, done_testing as a value.
 *
 * A test is
 *
 *     int main(void)
 *     {
 *             plan(NO_PLAN);
 *             cmp_ok(1 + 1, "==", 2, "arithmetic");
 *             return done_testing();
 *     }
 *
 * Every line leaves in one write(2), so a process that dies loses none and
 * several processes never mix theirs.  After fork the count is shared: a child may
 * report too; only the process that called plan() prints the plan and ends with
 * the verdict.  That process exits non-zero if anything failed, even if main forgets
 * to return the verdict.
 */
#ifndef TALLYD_TAP_H
#define TALLYD_TAP_H

#include <stdbool.h>
#include <stdint.h>

#define TAP_PRINTF(at, first) __attribute__((format(printf, at, first)))

#ifdef HAVE_LIBTAP

#include <tap.h>

#undef ok
#undef cmp_ok
#undef skip
#undef done_testing
#define ok(condition, ...) ok_at_loc(__FILE__, __LINE__, (condition) ? 1 : 0, __VA_ARGS__, NULL)
#define done_testing()     exit_status()

#else

#define NO_PLAN   (-1)
#define SKIP_ALL  (-2)

/*
 * Call first.  COUNT tests are to come; or NO_PLAN: done_testing counts them; or
 * SKIP_ALL, then a format that says why: prints the plan 1..0 and exits 0.
 */
#define plan(...) tap_plan(__VA_ARGS__, NULL)

/* OK(condition, format, ...): passes if CONDITION is true.  Returns the condition, as all do. */
#define ok(...)   tap_ok(__FILE__, __LINE__, __VA_ARGS__)

/* IS(got, expected, format, ...): passes if the two strings are equal; NULL equals NULL only. */
#define is(...)   tap_is(__FILE__, __LINE__, true, __VA_ARGS__)
#define isnt(...) tap_is(__FILE__, __LINE__, false, __VA_ARGS__)

#define pass(...)     ok(true, __VA_ARGS__)
#define fail(...)     ok(false, __VA_ARGS__)

/* The plan, if it was NO_PLAN; returns the exit status for main. */
int done_testing(void);

/* The exit status: 0 if all passed and as many ran as planned, else 1. */
int exit_status(void);

/* A remark on stderr; every line of it is marked as a comment.  Returns 0. */
int diag(const char *format, ...) TAP_PRINTF(1, 2);

/* Stops the whole run of tests: "Bail out!" and exit 255. */
#define BAIL_OUT(...) tap_bail_out(__VA_ARGS__)

void tap_plan(int count, ...);
bool tap_ok(const char *file, int line, bool passed, const char *format, ...) TAP_PRINTF(4, 5);
bool tap_is(const char *file, int line, bool equal, const char *got, const char *expected,
            const char *format, ...) TAP_PRINTF(6, 7);
_Noreturn void tap_bail_out(const char *format, ...) TAP_PRINTF(1, 2);

#endif

/*
 * CMP_OK(a, operator, b, format, ...): passes if A operator B.  Both are intmax_t; the
 * operator is "==", "!=", "<", "<=", ">" or ">=", any other bails out.
 */
#define cmp_ok(...) tap_cmp_ok(__FILE__, __LINE__, __VA_ARGS__)

/*
 * Reports COUNT tests as skipped, for the reason given: call it in the place of those tests
 * (if (geteuid() != 0) skip(3, "needs root"); else { ... }).
 */
#define skip(...) tap_skip_tests(__VA_ARGS__)

bool tap_cmp_ok(const char *file, int line, intmax_t a, const char *operator, intmax_t b,
                const char *format, ...) TAP_PRINTF(6, 7);
void tap_skip_tests(unsigned count, const char *format, ...) TAP_PRINTF(2, 3);

#endif
