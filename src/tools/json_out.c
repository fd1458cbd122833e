#include "json_out.h"

#include <inttypes.h>
#include <string.h>

#include "../wire/utf8.h"
#include "words.h"

static void put_bytes(FILE *stream, const char *bytes, size_t length)
{
	const unsigned char *at = (const unsigned char *)bytes;

	putc('"', stream);
	while (length > 0) {
		size_t size = utf8_length(at, length);
		if (size == 0)
			fputs("\\ufffd", stream);
		else if (*at == '"' || *at == '\\')
			fprintf(stream, "\\%c", *at);
		else if (*at < 0x20 || *at == 0x7f)
			fprintf(stream, "\\u%04x", *at);
		else
			fwrite(at, 1, size, stream);
		size = size == 0 ? 1 : size;
		at += size;
		length -= size;
	}
	putc('"', stream);
}

static void begin(struct json_out *out, const char *name)
{
	if (out->more)
		putc(',', out->stream);
	out->more = true;
	if (name != NULL)
		fprintf(out->stream, "\"%s\":", name);
}

void json_out_open(struct json_out *out, const char *name, char open)
{
	begin(out, name);
	putc(open, out->stream);
	out->more = false;
}

void json_out_close(struct json_out *out, char close)
{
	putc(close, out->stream);
	out->more = true;
}

void json_out_bytes(struct json_out *out, const char *name, const char *bytes, size_t length)
{
	begin(out, name);
	put_bytes(out->stream, bytes, length);
}

void json_out_text(struct json_out *out, const char *name, const char *text)
{
	json_out_bytes(out, name, text, strlen(text));
}

void json_out_count(struct json_out *out, const char *name, uint64_t count)
{
	begin(out, name);
	fprintf(out->stream, "%" PRIu64, count);
}

void json_out_signed(struct json_out *out, const char *name, int64_t number)
{
	begin(out, name);
	fprintf(out->stream, "%" PRId64, number);
}

void json_out_real(struct json_out *out, const char *name, double number)
{
	begin(out, name);
	fprintf(out->stream, "%.3f", number);
}

void json_out_flag(struct json_out *out, const char *name, bool flag)
{
	begin(out, name);
	fputs(flag ? "true" : "false", out->stream);
}

void json_out_null(struct json_out *out, const char *name)
{
	begin(out, name);
	fputs("null", out->stream);
}

void json_out_time(struct json_out *out, const char *name, uint64_t us)
{
	char text[WORDS_TIME_SIZE];

	if (us == 0)
		json_out_null(out, name);
	else
		json_out_text(out, name, words_time_exact(us, text));
}

void json_out_end(struct json_out *out)
{
	putc('\n', out->stream);
	out->more = false;
}
