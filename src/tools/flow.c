#include "flow.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "http/answer.h"

#define INPUT_SIZE 65536
#define TICK_MS    100
#define LOOK_WAIT  2000 /* ms for the position of the journal */

struct flow {
	const struct target *target;
	char fields[FLOW_FIELDS_SIZE];
	uint64_t patience;
	struct flow_calls calls;
	struct burst burst[FLOW_DEPTH];
	uint32_t first, count;
	int fd;
	uint64_t pause, retry, progress; /* us */
	uint64_t highest;                /* LSN that was answered, or was there before */
	uint64_t reconnects;
	bool late;
	char error[256];
	struct answer answer;
	size_t carried;
	char input[ANSWER_HEAD_MAX + INPUT_SIZE];
};

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static struct burst *burst_at(struct flow *flow, uint32_t index)
{
	return &flow->burst[(flow->first + index) % FLOW_DEPTH];
}

/* ---- bursts */

bool burst_has_room(const struct burst *burst, size_t length)
{
	return burst->count < FLOW_OPERATIONS &&
	       burst->at[burst->count] + length + FLOW_REQUEST_MAX <= FLOW_TEXT_MAX;
}

static void end_operation(struct burst *burst, uint64_t tag, size_t length)
{
	burst->tag[burst->count] = tag;
	burst->at[burst->count + 1] = burst->at[burst->count] + (uint32_t)length;
	burst->count++;
}

void burst_line(struct burst *burst, uint64_t tag, const char *line, size_t length)
{
	char *at = burst->text + burst->at[burst->count];

	burst->lines = true;
	memcpy(at, line, length);
	at[length] = '\n';
	end_operation(burst, tag, length + 1);
}

void burst_request(struct burst *burst, uint64_t tag, const char *method, const char *path,
                   uint64_t version, const char *body, size_t length)
{
	char *at = burst->text + burst->at[burst->count];
	char condition[48] = "";

	if (version != 0)
		snprintf(condition, sizeof condition, "If-Match: \"%" PRIu64 "\"\r\n", version);
	int head = snprintf(at, FLOW_REQUEST_MAX, "%s %s HTTP/1.1\r\nHost: tallyd\r\n%s%s", method,
	                    path, burst->fields, condition);
	if (length != 0)
		head +=
		    snprintf(at + head, FLOW_REQUEST_MAX - (size_t)head,
		             "Content-Type: application/json\r\nContent-Length: %zu\r\n", length);
	head += snprintf(at + head, FLOW_REQUEST_MAX - (size_t)head, "\r\n");
	burst->looks = length == 0;
	memcpy(at + head, body, length);
	end_operation(burst, tag, (size_t)head + length);
}

static void empty(struct burst *burst)
{
	char *text = burst->text;

	memset(burst, 0, offsetof(struct burst, tag));
	burst->at[0] = 0;
	burst->text = text;
	burst->begun = burst->resent = false;
	burst->sent = burst->head_length = 0;
	burst->from = 0;
}

/* ---- the connection */

static void prepare(struct flow *flow, struct burst *burst)
{
	burst->from = burst->answered;
	burst->sent = burst->head_length = 0;
	if (!burst->lines)
		return;
	burst->head_length = (size_t)snprintf(
	    burst->head, sizeof burst->head,
	    "POST /events HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/x-ndjson\r\n"
	    "Content-Length: %" PRIu32 "\r\n\r\n",
	    flow->target->host, flow->fields, burst->at[burst->count] - burst->at[burst->from]);
}

static void say(struct flow *flow, const struct burst *burst, uint32_t index,
                const struct flow_answer *answer)
{
	flow->calls.take(flow->calls.context, burst->tag[index], answer);
}

/* What may have been applied, and must not be a second time. */
static void give_up_unsafe(struct flow *flow)
{
	const struct flow_answer lost = {.verdict = FLOW_UNKNOWN};

	for (uint32_t i = 0; i < flow->count; i++) {
		struct burst *burst = burst_at(flow, i);
		if (!burst->unsafe || burst->sent == 0)
			continue;
		for (; burst->answered < burst->count; burst->answered++)
			say(flow, burst, burst->answered, &lost);
	}
	while (flow->count > 0 && burst_at(flow, 0)->answered == burst_at(flow, 0)->count) {
		flow->first = (flow->first + 1) % FLOW_DEPTH;
		flow->count--;
	}
}

static void try_later(struct flow *flow)
{
	if (flow->fd >= 0)
		close(flow->fd);
	flow->fd = -1;
	flow->pause = flow->pause == 0 ? FLOW_PAUSE_LEAST : flow->pause * 2;
	if (flow->pause > FLOW_PAUSE_MOST)
		flow->pause = FLOW_PAUSE_MOST;
	flow->retry = now_us() + flow->pause;
	give_up_unsafe(flow);
	for (uint32_t i = 0; i < flow->count; i++)
		prepare(flow, burst_at(flow, i));
}

static int connect_now(struct flow *flow)
{
	flow->fd = target_connect(flow->target, 0);
	int error = flow->fd < 0 ? errno : target_wait(flow->fd, FLOW_CONNECT_WAIT);

	if (error != 0) {
		if (flow->fd >= 0)
			close(flow->fd);
		flow->fd = -1;
		errno = error;
		return -1;
	}
	answer_init(&flow->answer);
	flow->carried = 0;
	return 0;
}

/*
 * How far the journal is: the first id of a feed that begins now.  0, at which nothing counts as
 * there before, if it cannot be learned.
 */
static uint64_t look_up_position(const struct target *target, const char *fields)
{
	char request[FLOW_FIELDS_SIZE + 64];
	char text[2048];
	size_t length = 0;
	uint64_t position = 0;
	int fd = target_connect(target, 0);
	ssize_t asked = snprintf(request, sizeof request,
	                         "GET /feed HTTP/1.1\r\nHost: tallyd\r\n%s\r\n", fields);

	if (fd < 0)
		return 0;
	struct pollfd readable = {.fd = fd, .events = POLLIN};
	bool sent = target_wait(fd, FLOW_CONNECT_WAIT) == 0 &&
	            send(fd, request, (size_t)asked, MSG_NOSIGNAL) == asked;
	while (sent && length < sizeof text - 1 && poll(&readable, 1, LOOK_WAIT) > 0) {
		ssize_t got = recv(fd, text + length, sizeof text - 1 - length, 0);
		if (got <= 0)
			break;
		length += (size_t)got;
		text[length] = '\0';
		const char *id = strstr(text, "\nid: ");
		if (id != NULL && strchr(id + 1, '\n') != NULL) {
			position = strtoull(id + 5, NULL, 10);
			break;
		}
	}
	close(fd);
	return position;
}

static bool read_all(int fd, char *text, size_t size)
{
	struct pollfd readable = {.fd = fd, .events = POLLIN};
	size_t length = 0;

	while (length < size - 1 && poll(&readable, 1, LOOK_WAIT) > 0) {
		ssize_t got = recv(fd, text + length, size - 1 - length, 0);
		if (got < 0)
			return false;
		length += (size_t)got;
		text[length] = '\0';
		if (got == 0)
			return length > 0;
	}
	return false;
}

bool flow_fetch(const struct flow *flow, const char *path, char *text, size_t size)
{
	char request[FLOW_FIELDS_SIZE + 256];
	int fd = target_connect(flow->target, 0);
	ssize_t asked =
	    snprintf(request, sizeof request,
	             "GET %.100s HTTP/1.1\r\nHost: tallyd\r\n%sConnection: close\r\n\r\n", path,
	             flow->fields);

	if (fd < 0)
		return false;
	bool good = target_wait(fd, FLOW_CONNECT_WAIT) == 0 &&
	            send(fd, request, (size_t)asked, MSG_NOSIGNAL) == asked &&
	            read_all(fd, text, size);
	close(fd);
	return good && strncmp(text, "HTTP/1.1 200 ", 13) == 0;
}

/* ---- answers */

/* The value of the string member whose comma, name and colon are KEY. */
static bool find_word(const struct flow_answer *answer, const char *key, char *word, size_t size)
{
	const char *end = answer->document + answer->length;
	const char *at = memmem(answer->document, answer->length, key, strlen(key));

	if (at == NULL)
		return false;
	at += strlen(key);
	const char *quote = memchr(at, '"', (size_t)(end - at));
	if (quote == NULL || (size_t)(quote - at) >= size)
		return false;
	memcpy(word, at, (size_t)(quote - at));
	word[quote - at] = '\0';
	return true;
}

/* Not applied, and the same operation may succeed in a moment. */
static bool is_passing(const char *reason)
{
	static const char *const all[] = {
	    "queue_full",      "busy",         "draining",  "journal_failed", "disk_full",
	    "incomplete_body", "body_timeout", "bad_chunk", "read_failed",
	};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (strcmp(reason, all[i]) == 0)
			return true;
	return false;
}

void flow_disown(struct flow *flow, unsigned status)
{
	snprintf(flow->error, sizeof flow->error,
	         "%.120s: the answer is not tallyd's: it has status %u, and does not say what was "
	         "done",
	         flow->target->url, status);
}

static bool is_accepted(const struct flow_answer *answer)
{
	static const char accepted[] = "\"status\":\"accepted\"";

	return memmem(answer->document, answer->length, accepted, sizeof accepted - 1) != NULL;
}

static void judge(struct flow *flow, const struct burst *burst, struct flow_answer *answer)
{
	bool good = answer->status >= 200 && answer->status < 300;
	char lsn[24];

	if (find_word(answer, "\"reason\":\"", answer->reason, sizeof answer->reason)) {
		answer->verdict = FLOW_REJECTED;
	} else if (good && burst->looks) {
		answer->verdict = FLOW_SHOWN;
	} else if (good && is_accepted(answer)) {
		uint64_t known = burst->resent ? burst->mark : flow->highest;
		uint64_t number =
		    find_word(answer, ",\"lsn\":\"", lsn, sizeof lsn) ? strtoull(lsn, NULL, 10) : 0;
		bool before = number != 0 && number <= known;
		answer->verdict = before ? FLOW_DUPLICATE : FLOW_ACCEPTED;
		if (number > flow->highest)
			flow->highest = number;
	} else {
		answer->verdict = FLOW_REJECTED;
		snprintf(answer->reason, sizeof answer->reason, "http_%u", answer->status);
		/* Who says yes to everything must not be believed. */
		if (good)
			flow_disown(flow, answer->status);
	}
}

/* The answer to the next operation.  False: the connection is to be made again. */
static bool take_one(struct flow *flow)
{
	struct burst *burst = burst_at(flow, 0);
	struct flow_answer answer = {.status = flow->answer.status,
	                             .document = flow->answer.kept,
	                             .length = flow->answer.kept_length};

	if (flow->count == 0 || burst->answered == burst->count)
		return false;
	judge(flow, burst, &answer);
	if (flow->error[0] != '\0')
		return false;
	bool passing = is_passing(answer.reason) ||
	               (answer.status >= 500 && strncmp(answer.reason, "http_", 5) == 0);
	if (answer.verdict == FLOW_REJECTED && passing && !burst->unsafe)
		return false;
	say(flow, burst, burst->answered++, &answer);
	flow->progress = now_us();
	flow->pause = 0;
	return true;
}

static bool end_answer(struct flow *flow)
{
	struct burst *burst = burst_at(flow, 0);

	if (flow->count == 0)
		return false;
	if (!burst->lines && !take_one(flow))
		return false;
	/* To lines a document only says why there are none. */
	if (burst->lines && !flow->answer.lines) {
		if (flow->answer.status < 500)
			snprintf(flow->error, sizeof flow->error,
			         "the events were answered with status %u: %.*s",
			         flow->answer.status, flow->answer.kept_length, flow->answer.kept);
		return false;
	}
	if (burst->lines && burst->answered < burst->count)
		return false;
	if (burst->answered == burst->count) {
		flow->first = (flow->first + 1) % FLOW_DEPTH;
		flow->count--;
	}
	return !flow->answer.close;
}

/* False: the connection is no good any more. */
static bool take_answers(struct flow *flow, size_t length)
{
	const char *bytes = flow->input;

	for (;;) {
		size_t used;
		enum answer_progress progress = answer_next(&flow->answer, bytes, length, &used);
		bytes += used;
		length -= used;
		if (progress == ANSWER_MORE)
			break;
		if (progress == ANSWER_BAD)
			return false;
		if (!(progress == ANSWER_LINE ? take_one(flow) : end_answer(flow)))
			return false;
	}
	memmove(flow->input, bytes, length);
	flow->carried = length;
	return true;
}

static bool receive(struct flow *flow)
{
	ssize_t got = recv(flow->fd, flow->input + flow->carried, INPUT_SIZE, 0);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	return got > 0 && take_answers(flow, flow->carried + (size_t)got);
}

/* ---- sending */

/* The first bytes of BURST that are still to be sent. */
static const char *unsent(const struct burst *burst, size_t *length)
{
	if (burst->sent < burst->head_length) {
		*length = burst->head_length - burst->sent;
		return burst->head + burst->sent;
	}
	size_t at = burst->at[burst->from] + burst->sent - burst->head_length;
	*length = burst->at[burst->count] - at;
	return burst->text + at;
}

static struct burst *next_unsent(struct flow *flow)
{
	size_t length;

	for (uint32_t i = 0; i < flow->count; i++) {
		unsent(burst_at(flow, i), &length);
		if (length > 0)
			return burst_at(flow, i);
	}
	return NULL;
}

static void note_sending(struct flow *flow, struct burst *burst)
{
	if (burst->sent != 0)
		return;
	if (burst->begun)
		burst->resent = true;
	else
		burst->mark = flow->highest;
	burst->begun = true;
}

static bool transmit(struct flow *flow)
{
	struct burst *burst;

	while ((burst = next_unsent(flow)) != NULL) {
		size_t length;
		const char *bytes = unsent(burst, &length);
		note_sending(flow, burst);
		ssize_t sent = send(flow->fd, bytes, length, MSG_NOSIGNAL);
		if (sent < 0)
			return errno == EAGAIN || errno == EINTR;
		burst->sent += (size_t)sent;
	}
	return true;
}

/* ---- one step */

static void wait_to_retry(struct flow *flow)
{
	uint64_t now = now_us();

	if (now < flow->retry) {
		uint64_t ms = (flow->retry - now) / 1000 + 1;
		poll(NULL, 0, ms < TICK_MS ? (int)ms : TICK_MS);
		return;
	}
	if (connect_now(flow) == 0)
		flow->reconnects++;
	else
		try_later(flow);
}

static void exchange(struct flow *flow)
{
	struct pollfd ready = {.fd = flow->fd, .events = POLLIN};

	if (!transmit(flow)) {
		/* What was answered before the end is still there to be read. */
		while (receive(flow) && poll(&ready, 1, 0) > 0)
			;
		try_later(flow);
		return;
	}
	if (next_unsent(flow) != NULL)
		ready.events |= POLLOUT;
	if (poll(&ready, 1, TICK_MS) <= 0)
		return;
	if ((ready.revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !receive(flow))
		try_later(flow);
}

static bool step(struct flow *flow)
{
	if (flow->error[0] != '\0')
		return false;
	if (now_us() - flow->progress > flow->patience) {
		flow->late = true;
		snprintf(flow->error, sizeof flow->error, "%.120s: nothing was answered for %g s",
		         flow->target->url, (double)flow->patience / 1e6);
		return false;
	}
	if (flow->fd < 0)
		wait_to_retry(flow);
	else
		exchange(flow);
	if (flow->calls.tick != NULL)
		flow->calls.tick(flow->calls.context);
	return true;
}

/* ---- the whole */

struct flow *flow_open(const struct target *target, const char *token, uint64_t patience,
                       const struct flow_calls *calls)
{
	struct flow *flow = calloc(1, sizeof *flow);
	bool room = flow != NULL;

	for (uint32_t i = 0; room && i < FLOW_DEPTH; i++)
		room = (flow->burst[i].text = malloc(FLOW_TEXT_MAX)) != NULL;
	if (!room) {
		flow_close(flow);
		errno = ENOMEM;
		return NULL;
	}
	if (token[0] != '\0')
		snprintf(flow->fields, sizeof flow->fields, "Authorization: Bearer %.*s\r\n",
		         FLOW_TOKEN_MAX, token);
	for (uint32_t i = 0; i < FLOW_DEPTH; i++)
		flow->burst[i].fields = flow->fields;
	flow->target = target;
	flow->patience = patience;
	flow->calls = *calls;
	flow->progress = now_us();
	flow->highest = look_up_position(target, flow->fields);
	if (connect_now(flow) != 0) {
		int error = errno;
		flow_close(flow);
		errno = error;
		return NULL;
	}
	return flow;
}

struct burst *flow_begin(struct flow *flow)
{
	/* The caller may have been away for long: its own time does not count. */
	flow->progress = now_us();
	while (flow->count == FLOW_DEPTH)
		if (!step(flow))
			return NULL;
	if (flow->error[0] != '\0')
		return NULL;
	struct burst *burst = burst_at(flow, flow->count);
	empty(burst);
	return burst;
}

void flow_send(struct flow *flow, struct burst *burst)
{
	if (burst->count == 0)
		return;
	prepare(flow, burst);
	flow->count++;
	if (flow->fd >= 0 && !transmit(flow))
		try_later(flow);
}

bool flow_drain(struct flow *flow)
{
	flow->progress = now_us();
	while (flow->count > 0)
		if (!step(flow))
			return false;
	return flow->error[0] == '\0';
}

const char *flow_error(const struct flow *flow, bool *late)
{
	*late = flow->late;
	return flow->error;
}

uint64_t flow_reconnects(const struct flow *flow)
{
	return flow->reconnects;
}

void flow_close(struct flow *flow)
{
	if (flow == NULL)
		return;
	if (flow->fd > 0)
		close(flow->fd);
	for (uint32_t i = 0; i < FLOW_DEPTH; i++)
		free(flow->burst[i].text);
	free(flow);
}
