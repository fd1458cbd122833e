/*
 * HTTP/1.1 answers, read as they come (RFC 9112): a pure function over bytes that keeps the first
 * bytes of each document or line.  It knows nothing of JSON.
 */
#ifndef TALLYD_HTTP_ANSWER_H
#define TALLYD_HTTP_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ANSWER_HEAD_MAX  4096 /* bytes of a status line and its fields; more cannot be read */
#define ANSWER_CHUNK_MAX 64   /* bytes of a chunk's size line; more cannot be read */
/*
 * Bytes of a document or line that are kept; the rest is passed over.  A hold, and a statement of
 * one change, whose names and notes are as long as may be, are kept whole (import_send.c).
 */
#define ANSWER_KEEP 2560

enum answer_progress {
	ANSWER_MORE, /* all that could be used is used */
	ANSWER_LINE, /* kept[] is a line of an answer of lines */
	ANSWER_DONE, /* the answer is complete; without lines, kept[] is its document */
	ANSWER_BAD,  /* it cannot be read: fault says why, and where the next begins is not known */
};

struct answer {
	/* valid with ANSWER_LINE and ANSWER_DONE */
	uint16_t status;
	bool close; /* the server will close the connection behind this answer */
	bool lines; /* the document is application/x-ndjson */
	uint16_t kept_length;
	const char *fault; /* with ANSWER_BAD: a constant */

	/* the reader's own */
	uint8_t state;
	bool fresh; /* kept[] was handed out */
	bool chunked, has_length;
	uint64_t left; /* bytes of the body, or of the chunk */
	uint32_t trailer;
	char kept[ANSWER_KEEP];
};

/* Makes ANSWER ready for the first byte of a connection. */
void answer_init(struct answer *answer);

/*
 * Reads on in BYTES[0..LENGTH).  Sets *USED to the bytes that are done with; the others must stand
 * first at the next call, with more behind them: fewer than ANSWER_HEAD_MAX if ANSWER_MORE.  After
 * ANSWER_LINE and ANSWER_DONE call again at once with the rest; answers of 1xx are passed over.
 */
enum answer_progress answer_next(struct answer *answer, const char *bytes, size_t length,
                                 size_t *used);

/* Is ANSWER between two answers: would the end of the stream cut none? */
bool answer_between(const struct answer *answer);

#endif
