#include <string.h>

#include "chat_protocol.h"
#include "echo_protocol.h"
#include "http_protocol.h"
#include "protocol.h"
#include "redis_protocol.h"

static const struct protocol *const protocols[] = {&http_protocol, &redis_protocol, &echo_protocol,
                                                   &chat_protocol};

const struct protocol *protocol_find(const char *name)
{
	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
		if (strcmp(protocols[i]->name, name) == 0)
			return protocols[i];
	}
	return NULL;
}
