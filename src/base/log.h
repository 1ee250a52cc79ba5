/*
 * Structured log: one line an event on stderr. Text for a terminal, JSON otherwise.
 *
 *	log_info("host_up", log_str("pool", name), log_int("pid", pid));
 *
 * text: 2026-01-02T03:04:05.678Z info  host_up pool=process pid=4711
 * json: {"time":"2026-01-02T03:04:05.678901Z","level":"info","event":"host_up","process":"server",
 *        "pool":"process","pid":4711}
 *
 * Every line leaves in one write(2) of at most LOG_LINE_MAX bytes, so lines of several processes do
 * not mix (a pipe keeps writes of up to PIPE_BUF = 4096 bytes whole: pipe(7)). Strings are escaped
 * so that a value can never break the line, nor a terminal: control characters and bytes that are
 * no UTF-8 are escaped or replaced. A line that would be longer is cut inside its longest string
 * value, with "…" and stays well-formed.
 *
 * Thread: any, after log_init(); it keeps no lock and no buffer beyond the stack. A failed write is
 * dropped: the log never stops the service.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdint.h>

#define LOG_LINE_MAX 4096

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_AUTO, LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

enum log_type {
	LOG_TYPE_END,
	LOG_TYPE_STR,
	LOG_TYPE_INT,
	LOG_TYPE_UINT,
	LOG_TYPE_FLOAT,
	LOG_TYPE_BOOL
};

struct log_field {
	enum log_type type;
	const char *key; /* a literal of [a-z_] */
	union {
		const char *str; /* NULL is left out of the line */
		int64_t i;
		uint64_t u;
		double f;
		int b;
	} value;
};

#define log_str(k, v)	((struct log_field){.type = LOG_TYPE_STR, .key = (k), .value.str = (v)})
#define log_int(k, v)	((struct log_field){.type = LOG_TYPE_INT, .key = (k), .value.i = (v)})
#define log_uint(k, v)	((struct log_field){.type = LOG_TYPE_UINT, .key = (k), .value.u = (v)})
#define log_float(k, v) ((struct log_field){.type = LOG_TYPE_FLOAT, .key = (k), .value.f = (v)})
#define log_bool(k, v)	((struct log_field){.type = LOG_TYPE_BOOL, .key = (k), .value.b = (v)})
#define log_end()	((struct log_field){.type = LOG_TYPE_END, .key = "", .value.u = 0})

/* log_event(level, event, fields...); the end is added to the fields before they are told from the
 * event, so that an event without fields needs no GNU extension. */
#define log_event(level, ...) log_event_ended(level, __VA_ARGS__, log_end())
#define log_event_ended(level, event, ...)                                                         \
	log_write((level), (event), (const struct log_field[]){__VA_ARGS__})
#define log_debug(...)	 log_event(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...)	 log_event(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warning(...) log_event(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_error(...)	 log_event(LOG_LEVEL_ERROR, __VA_ARGS__)

/*
 * Sets what every later line bears. AUTO means text if stderr is a terminal, JSON otherwise.
 * process ("master", "server", "process/0") is copied, up to 63 bytes. Call it before other threads
 * run.
 */
void log_init(enum log_level level, enum log_format format, const char *process);
void log_set_process(const char *process);
void log_set_level(enum log_level level);

/* Whether an event of this level is written at all: lets a caller skip costly fields. */
int log_enabled(enum log_level level);

/* fields ends with log_end(). Use the macros. */
void log_write(enum log_level level, const char *event, const struct log_field *fields);

#endif
