/*
 * What went wrong, in a form that a user can read.
 *
 * A function that can fail because of what a user sent fills a struct error and answers a negative
 * errno value; the HTTP layer turns the same struct into application/problem+json in one place, and
 * the command line prints it. Functions that can fail only because of the system answer -errno and
 * need no struct error.
 *
 * Thread: any; an error belongs to its caller. Nothing is allocated.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

enum error_code {
	ERROR_NONE = 0,
	ERROR_SYNTAX,	   /* not well-formed (HTTP 400) */
	ERROR_INVALID,	   /* well-formed, but a field is wrong or unknown (422) */
	ERROR_NOT_FOUND,   /* no such thing (404) */
	ERROR_CONFLICT,	   /* not in the state that this needs (409) */
	ERROR_TOO_LARGE,   /* over a size limit (413) */
	ERROR_OVERLOADED,  /* a queue or a table is full; trying later helps (503) */
	ERROR_UNAVAILABLE, /* shutting down, or a part is not up (503) */
	ERROR_INTERNAL	   /* our fault, or the system's (500) */
};

struct error {
	enum error_code code;
	char field[160];   /* path of the field at fault, such as "args.n"; "" if none is */
	char message[800]; /* one sentence, without a final newline */
};

/*
 * Fills *error and answers the errno value, negated, that fits the code: a caller can write
 * `return error_set(error, ERROR_INVALID, "task", "...")`. field may be NULL or "". A text that is
 * too long is cut, never at the cost of its end mark.
 */
int error_set(struct error *error, enum error_code code, const char *field, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Puts "prefix" or "prefix." in front of error->field, for callers that know the outer path; a
 * field that begins with '[' gets no full stop before it. */
void error_prefix_field(struct error *error, const char *prefix);

#endif
