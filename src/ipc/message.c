/* Checking what hosts send. Nothing of a message is believed before its length and ranges hold. */
#include "ipc/message.h"

#include <string.h>

#include "base/json.h"
#include "base/log.h"

uint32_t message_kind(const void *data, size_t length)
{
	uint32_t kind = 0;

	if (length >= sizeof(kind))
		memcpy(&kind, data, sizeof(kind));
	return kind;
}

bool message_read_ready(const void *data, size_t length, uint32_t workers,
			struct message_ready *ret_message)
{
	struct message_ready message;

	if (length != sizeof(message))
		return false;
	memcpy(&message, data, sizeof(message));
	if (message.workers != workers || message.thread_start_ns < 0)
		return false;
	*ret_message = message;
	return true;
}

bool message_read_output(const void *data, size_t length, uint32_t cells,
			 struct message_output *ret_message, const char **ret_bytes)
{
	struct message_output message;

	if (length < sizeof(message))
		return false;
	memcpy(&message, data, sizeof(message));
	if (message.length != length - sizeof(message) || message.cell >= cells ||
	    (message.stream != 1 && message.stream != 2))
		return false;
	*ret_message = message;
	*ret_bytes = (const char *)data + sizeof(message);
	return true;
}

bool message_read_progress(const void *data, size_t length, uint32_t cells,
			   struct message_progress *ret_message, const char **ret_text)
{
	struct message_progress message;

	if (length < sizeof(message))
		return false;
	memcpy(&message, data, sizeof(message));
	if (message.length != length - sizeof(message) || message.length > MESSAGE_PROGRESS_MAX ||
	    message.cell >= cells || message.done < 0 || message.total < 0)
		return false;
	*ret_message = message;
	*ret_text = (const char *)data + sizeof(message);
	return true;
}

bool message_read_log(const void *data, size_t length, uint32_t cells,
		      struct message_log *ret_message, const char **ret_text)
{
	struct message_log message;

	if (length < sizeof(message))
		return false;
	memcpy(&message, data, sizeof(message));
	if (message.length != length - sizeof(message) || message.length == 0 ||
	    message.length > MESSAGE_ERROR_MAX || message.level > LOG_LEVEL_ERROR ||
	    (message.cell >= cells && message.cell != MESSAGE_LOG_NO_JOB))
		return false;
	*ret_message = message;
	*ret_text = (const char *)data + sizeof(message);
	return true;
}

bool message_read_done(const void *data, size_t length, uint32_t cells, uint32_t workers,
		       size_t fd_count, struct message_done *ret_message, const char **ret_result,
		       const char **ret_failure)
{
	struct message_done message;

	if (length < sizeof(message))
		return false;
	memcpy(&message, data, sizeof(message));
	size_t rest = length - sizeof(message);
	if (message.cell >= cells || message.worker >= workers || message.in_file > 1 ||
	    message.output_pending > 1 || message.outcome > DONE_RESULT_TOO_LARGE ||
	    fd_count != message.in_file || message.failure_length > MESSAGE_ERROR_MAX ||
	    message.failure_length > rest || message.tid < 1 ||
	    !metering_is_valid(&message.metering))
		return false;
	rest -= message.failure_length;
	if (message.in_file ? rest != 0 : rest != message.result_length)
		return false;
	const char *bytes = (const char *)data + sizeof(message);
	if (!message.in_file && rest > 0 && !json_is_wellformed(bytes, rest))
		return false;
	*ret_message = message;
	*ret_result = message.in_file || rest == 0 ? NULL : bytes;
	*ret_failure = bytes + rest;
	return true;
}
