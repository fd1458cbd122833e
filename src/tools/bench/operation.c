#include "operation.h"

const char *const kind_name[KINDS] = {"event",   "transfer", "transaction", "hold",
                                      "capture", "release",  "read"};

int64_t operation_effect(enum kind kind, const struct posting *leg)
{
	switch (kind) {
	case KIND_EVENT:
	case KIND_TRANSFER:
	case KIND_TRANSACTION:
		return leg->amount;
	case KIND_CAPTURE:
		return -(int64_t)leg->amount;
	default:
		return 0;
	}
}

uint32_t operation_change(enum kind kind, const struct posting *leg)
{
	return kind != KIND_READ && leg->amount != 0;
}
