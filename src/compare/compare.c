/*
 * Invariants
 * 1. A comparison is on compare->all, oldest first, from its submission until it is forgotten.
 * 2. compare->running is the one whose trial has begun and has not ended; NULL if there is none.
 * 3. An ended one has its document and no trial. One that is watched or waited for is not forgotten.
 */
#include "compare/compare.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/schema.h"
#include "base/table.h"
#include "compare/experiments.h"
#include "compare/gauge.h"
#include "compare/result.h"
#include "compare/trial.h"

enum state { QUEUED, RUNNING, STOPPING, SUCCEEDED, FAILED, CANCELLED };

struct comparison {
	struct list node; /* of compare->all */
	struct compare *compare;
	struct id id;
	enum state state;
	const struct experiment *experiment; /* NULL: a comparison */
	json_t *request;		     /* owned; NULL of an experiment */
	struct trial *trial;		     /* owned; NULL once it has ended, or if it never ran */
	struct judgement *judgement;	     /* owned; NULL until it has been judged */
	char *verdict; /* owned; NULL before and of those that did not succeed */
	enum trial_error error;
	char message[240];
	struct buffer document; /* once it has ended */
	struct list waiters;
	struct list watchers;
	int64_t submitted_real_ns;
	int64_t started_ns; /* monotonic, as the next; 0: not */
	int64_t finished_ns;
	int64_t submitted_ns;
	bool has_news;
};

struct compare {
	struct server *server;
	struct loop *loop;
	struct gauge *gauge;
	struct schema *schema; /* of a request */
	struct list all;
	struct comparison *running;
	struct loop_timer start_timer; /* the next one is to begin */
	struct loop_timer news_timer;
	int64_t told_ns;
};

static const char *state_name(enum state state)
{
	switch (state) {
	case QUEUED:
		return "queued";
	case RUNNING:
		return "running";
	case STOPPING:
		return "stopping";
	case SUCCEEDED:
		return "succeeded";
	case FAILED:
		return "failed";
	case CANCELLED:
		return "cancelled";
	}
	return "";
}

static struct comparison *of_node(struct list *node)
{
	return container_of(node, struct comparison, node);
}

bool comparison_has_ended(const struct comparison *comparison)
{
	return comparison->state >= SUCCEEDED;
}

const struct id *comparison_id(const struct comparison *comparison)
{
	return &comparison->id;
}

/* --- the document ----------------------------------------------------------------------------- */

static void write_time(struct json_writer *writer, const char *key, int64_t realtime_ns)
{
	char text[CLOCK_RFC3339_SIZE];

	json_write_string(writer, key, realtime_ns > 0 ? clock_rfc3339(realtime_ns, text) : NULL);
}

/* When it was, by the clock of its submission, so that times of one document agree. */
static int64_t real_time(const struct comparison *comparison, int64_t at_ns)
{
	return at_ns ? comparison->submitted_real_ns + (at_ns - comparison->submitted_ns) : 0;
}

static void write_id(struct json_writer *writer, const struct comparison *comparison)
{
	char text[ID_TEXT_SIZE];

	json_write_string(writer, "id", id_format(&comparison->id, text));
}

static void write_borne_out(struct json_writer *writer, const struct judgement *judgement)
{
	if (!judgement || judgement->borne_out == BORNE_OUT_UNKNOWN)
		json_write_null(writer, "borne_out");
	else
		json_write_bool(writer, "borne_out", judgement->borne_out == BORNE_OUT_YES);
}

static void write_experiment(const struct comparison *comparison, struct json_writer *writer)
{
	const struct judgement *judgement = comparison->judgement;

	if (!comparison->experiment) {
		json_write_null(writer, "experiment");
		return;
	}
	json_write_begin_object(writer, "experiment");
	json_write_string(writer, "name", comparison->experiment->name);
	json_write_string(writer, "claim", comparison->experiment->claim);
	write_borne_out(writer, judgement);
	json_write_string(writer, "why", judgement ? judgement->why : NULL);
	json_write_begin_array(writer, "findings");
	for (size_t i = 0; judgement && i < judgement->finding_count; i++) {
		json_write_begin_object(writer, NULL);
		json_write_string(writer, "name", judgement->findings[i].name);
		result_write_number(writer, "value", judgement->findings[i].value);
		json_write_string(writer, "unit", judgement->findings[i].unit);
		json_write_end_object(writer);
	}
	json_write_end_array(writer);
	json_write_end_object(writer);
}

static void write_request(const struct comparison *comparison, struct json_writer *writer)
{
	size_t length = 0;
	char *text = comparison->request ? json_encode(comparison->request, &length) : NULL;

	json_write_raw(writer, "request", text, length);
	free(text);
}

/* done, total and message. */
static void write_progress_members(const struct comparison *comparison, struct json_writer *writer)
{
	const struct trial *trial = comparison->trial;
	char text[200];

	json_write_uint(writer, "done", trial ? trial->done : 0);
	json_write_uint(writer, "total", trial ? trial->total : 0);
	if (comparison->state == RUNNING || comparison->state == STOPPING) {
		trial_describe(trial, text, sizeof(text));
		json_write_string(writer, "message", text);
	} else {
		json_write_null(writer, "message");
	}
}

void compare_write_progress(const struct comparison *comparison, struct json_writer *writer)
{
	json_write_begin_object(writer, NULL);
	json_write_string(writer, "state", state_name(comparison->state));
	write_progress_members(comparison, writer);
	json_write_end_object(writer);
}

static void write_queue_position(const struct comparison *comparison, struct json_writer *writer)
{
	uint64_t position = 1;

	if (comparison->state != QUEUED) {
		json_write_null(writer, "queue_position");
		return;
	}
	list_for_each (node, &comparison->compare->all) {
		if (of_node(node) == comparison)
			break;
		position += of_node(node)->state == QUEUED;
	}
	json_write_uint(writer, "queue_position", position);
}

static void write_error(const struct comparison *comparison, struct json_writer *writer)
{
	if (comparison->error == TRIAL_FINE) {
		json_write_null(writer, "error");
		return;
	}
	json_write_begin_object(writer, "error");
	json_write_string(writer, "code", trial_error_name(comparison->error));
	json_write_string(writer, "message", comparison->message);
	json_write_end_object(writer);
}

static void write_times(const struct comparison *comparison, struct json_writer *writer)
{
	int64_t until_ns = comparison->finished_ns ? comparison->finished_ns : clock_monotonic_ns();

	write_time(writer, "submitted_at", comparison->submitted_real_ns);
	write_time(writer, "started_at", real_time(comparison, comparison->started_ns));
	write_time(writer, "finished_at", real_time(comparison, comparison->finished_ns));
	if (comparison->started_ns)
		json_write_ms(writer, "elapsed_ms", until_ns - comparison->started_ns);
	else
		json_write_null(writer, "elapsed_ms");
}

static void render(const struct comparison *comparison, struct json_writer *writer)
{
	const struct trial *trial = comparison->trial;
	bool is_result = comparison->state == SUCCEEDED && trial && !comparison->experiment;

	json_write_begin_object(writer, NULL);
	write_id(writer, comparison);
	json_write_string(writer, "state", state_name(comparison->state));
	write_experiment(comparison, writer);
	write_request(comparison, writer);
	json_write_begin_object(writer, "progress");
	write_progress_members(comparison, writer);
	json_write_end_object(writer);
	write_queue_position(comparison, writer);
	result_write_contenders(trial, writer);
	result_write_differences(is_result ? trial : NULL, writer);
	if (is_result)
		result_write_verdict(trial, comparison->verdict, writer);
	else if (comparison->verdict) {
		json_write_begin_object(writer, "verdict");
		json_write_string(writer, "text", comparison->verdict);
		json_write_begin_array(writer, "pairs");
		json_write_end_array(writer);
		json_write_end_object(writer);
	} else {
		json_write_null(writer, "verdict");
	}
	if (trial)
		result_write_noise(&trial->noise, writer);
	else
		json_write_null(writer, "noise");
	write_error(comparison, writer);
	write_times(comparison, writer);
	json_write_end_object(writer);
}

void compare_write(const struct comparison *comparison, struct json_writer *writer)
{
	const struct buffer *document = &comparison->document;

	if (document->length > 0)
		json_write_raw(writer, NULL, document->data, document->length);
	else
		render(comparison, writer);
}

/* --- the lists -------------------------------------------------------------------------------- */

static void write_pools(const json_t *pools, struct json_writer *writer)
{
	json_write_begin_array(writer, "pools");
	for (size_t i = 0; i < json_array_size(pools); i++)
		json_write_string(writer, NULL, json_string_value(json_array_get(pools, i)));
	json_write_end_array(writer);
}

static void write_short(const struct comparison *comparison, struct json_writer *writer)
{
	const struct experiment *experiment = comparison->experiment;

	json_write_begin_object(writer, NULL);
	write_id(writer, comparison);
	json_write_string(writer, "state", state_name(comparison->state));
	json_write_string(writer, "experiment", experiment ? experiment->name : NULL);
	json_write_string(writer, "task",
			  json_string_value(json_object_get(comparison->request, "task")));
	write_pools(json_object_get(comparison->request, "pools"), writer);
	json_write_string(writer, "verdict", comparison->verdict);
	write_borne_out(writer, comparison->judgement);
	write_time(writer, "submitted_at", comparison->submitted_real_ns);
	write_time(writer, "finished_at", real_time(comparison, comparison->finished_ns));
	json_write_end_object(writer);
}

void compare_write_list(const struct compare *compare, struct json_writer *writer)
{
	json_write_begin_object(writer, NULL);
	json_write_begin_array(writer, "comparisons");
	for (struct list *node = compare->all.previous; node != &compare->all;
	     node = node->previous)
		write_short(of_node(node), writer);
	json_write_end_array(writer);
	json_write_end_object(writer);
}

static const struct comparison *newest_of(const struct compare *compare,
					  const struct experiment *experiment)
{
	const struct comparison *newest = NULL;

	list_for_each (node, &compare->all)
		if (of_node(node)->experiment == experiment)
			newest = of_node(node);
	return newest;
}

void compare_write_experiments(const struct compare *compare, struct json_writer *writer)
{
	char id[ID_TEXT_SIZE];

	json_write_begin_object(writer, NULL);
	json_write_begin_array(writer, "experiments");
	for (size_t i = 0; i < experiment_count; i++) {
		const struct experiment *experiment = &experiments[i];
		const struct comparison *last = newest_of(compare, experiment);
		const char *reason =
			experiment->unavailable ? experiment->unavailable(compare->server) : NULL;
		json_write_begin_object(writer, NULL);
		json_write_string(writer, "name", experiment->name);
		json_write_string(writer, "claim", experiment->claim);
		json_write_bool(writer, "available", reason == NULL);
		json_write_string(writer, "reason", reason);
		json_write_string(writer, "last", last ? id_format(&last->id, id) : NULL);
		json_write_end_object(writer);
	}
	json_write_end_array(writer);
	json_write_end_object(writer);
}

/* --- telling ---------------------------------------------------------------------------------- */

static void tell(struct comparison *comparison)
{
	comparison->has_news = false;
	list_for_each_safe (node, &comparison->watchers) {
		struct compare_watcher *watcher = container_of(node, struct compare_watcher, node);
		watcher->changed(watcher);
	}
}

static void tell_news(struct loop_timer *timer)
{
	struct compare *compare = container_of(timer, struct compare, news_timer);

	compare->told_ns = clock_monotonic_ns();
	list_for_each (node, &compare->all)
		if (of_node(node)->has_news)
			tell(of_node(node));
}

static void has_news(struct comparison *comparison)
{
	struct compare *compare = comparison->compare;

	if (comparison->has_news || list_empty(&comparison->watchers))
		return;
	comparison->has_news = true;
	if (!heap_contains(&compare->news_timer.node))
		loop_timer_set(compare->loop, &compare->news_timer,
			       compare->told_ns + COMPARE_PROGRESS_NS);
}

void compare_watch(struct comparison *comparison, struct compare_watcher *watcher,
		   void (*changed)(struct compare_watcher *watcher))
{
	watcher->comparison = comparison;
	watcher->changed = changed;
	list_append(&comparison->watchers, &watcher->node);
}

void compare_unwatch(struct compare_watcher *watcher)
{
	list_remove(&watcher->node);
	watcher->comparison = NULL;
}

int compare_wait(struct comparison *comparison, struct waiter *waiter, int64_t deadline_ns,
		 void (*wake)(struct waiter *waiter, bool ended))
{
	return waiter_wait(comparison->compare->server, waiter, &comparison->waiters, deadline_ns,
			   wake);
}

/* --- making and forgetting -------------------------------------------------------------------- */

static void free_comparison(struct comparison *comparison)
{
	list_remove(&comparison->node);
	trial_free(comparison->trial);
	json_decref(comparison->request);
	buffer_release(&comparison->document);
	free(comparison->judgement);
	free(comparison->verdict);
	free(comparison);
}

static void forget_old(struct compare *compare)
{
	size_t ended = 0;

	list_for_each (node, &compare->all)
		ended += comparison_has_ended(of_node(node));
	list_for_each_safe (node, &compare->all) {
		struct comparison *comparison = of_node(node);
		if (ended <= COMPARE_KEPT)
			return;
		if (!comparison_has_ended(comparison) || !list_empty(&comparison->waiters) ||
		    !list_empty(&comparison->watchers))
			continue;
		free_comparison(comparison);
		ended--;
	}
}

/* --- life of one ------------------------------------------------------------------------------ */

/* The document is made while the trial is there; then the trial goes. */
static void end(struct comparison *comparison, enum state state)
{
	struct compare *compare = comparison->compare;
	struct json_writer writer = {.buffer = &comparison->document};
	char id[ID_TEXT_SIZE];

	if (comparison->trial && comparison->trial->error == TRIAL_FINE)
		comparison->trial->done = comparison->trial->total;
	comparison->state = state;
	comparison->finished_ns = clock_monotonic_ns();
	render(comparison, &writer);
	trial_free(comparison->trial);
	comparison->trial = NULL;
	log_info("comparison_ended", log_str("comparison", id_format(&comparison->id, id)),
		 log_str("state", state_name(state)),
		 log_str("error", comparison->error ? comparison->message : NULL));
	waiters_wake(&comparison->waiters, true);
	comparison->has_news = true; /* told from the loop, not from whoever has ended it */
	loop_timer_set(compare->loop, &compare->news_timer, comparison->finished_ns);
	loop_timer_set(compare->loop, &compare->start_timer, comparison->finished_ns);
}

static enum state state_of_error(enum trial_error error)
{
	if (error == TRIAL_FINE)
		return SUCCEEDED;
	return error == TRIAL_CANCELLED || error == TRIAL_SHUTDOWN ? CANCELLED : FAILED;
}

static void judge(struct comparison *comparison)
{
	static const char *const words[] = {[BORNE_OUT_UNKNOWN] = "Cannot be told",
					    [BORNE_OUT_NO] = "Not borne out",
					    [BORNE_OUT_YES] = "Borne out"};

	comparison->judgement = calloc(1, sizeof(*comparison->judgement));
	if (!comparison->judgement)
		return;
	comparison->experiment->judge(comparison->trial, comparison->judgement);
	if (asprintf(&comparison->verdict, "%s: %s.%s", words[comparison->judgement->borne_out],
		     comparison->judgement->why,
		     result_is_quiet(&comparison->trial->noise) ? "" : RESULT_NOT_QUIET) < 0)
		comparison->verdict = NULL;
}

static void trial_ended(struct trial *trial)
{
	struct comparison *comparison = trial->data;

	comparison->compare->running = NULL;
	comparison->error = trial->error;
	snprintf(comparison->message, sizeof(comparison->message), "%s", trial->message);
	if (trial->error == TRIAL_FINE && comparison->experiment)
		judge(comparison);
	else if (trial->error == TRIAL_FINE)
		comparison->verdict = result_verdict(trial);
	end(comparison, state_of_error(trial->error));
}

static void trial_progressed(struct trial *trial)
{
	has_news(trial->data);
}

static void begin(struct comparison *comparison)
{
	comparison->compare->running = comparison;
	comparison->state = RUNNING;
	comparison->started_ns = clock_monotonic_ns();
	has_news(comparison);
	trial_begin(comparison->trial);
}

static void begin_next(struct loop_timer *timer)
{
	struct compare *compare = container_of(timer, struct compare, start_timer);

	forget_old(compare);
	list_for_each (node, &compare->all) {
		if (compare->running)
			return;
		if (of_node(node)->state == QUEUED)
			begin(of_node(node));
	}
}

static void stop(struct comparison *comparison, enum trial_error error, const char *message)
{
	if (comparison->state == QUEUED) {
		comparison->error = error;
		snprintf(comparison->message, sizeof(comparison->message), "%s", message);
		end(comparison, state_of_error(error));
	} else if (comparison->state == RUNNING) {
		comparison->state = STOPPING;
		trial_stop(comparison->trial, error, message);
		has_news(comparison);
	}
}

enum cancel_answer compare_cancel(struct comparison *comparison)
{
	if (comparison_has_ended(comparison))
		return CANCEL_HAD_ENDED;
	bool had_begun = comparison->state != QUEUED;
	stop(comparison, TRIAL_CANCELLED, "it was cancelled");
	return had_begun ? CANCEL_STOPPING : CANCEL_DONE;
}

static void stop_all(struct compare *compare, enum trial_error error, const char *message)
{
	list_for_each (node, &compare->all)
		stop(of_node(node), error, message);
}

void compare_shut_down(struct compare *compare)
{
	stop_all(compare, TRIAL_SHUTDOWN, "the service was shutting down");
}

void compare_reload(struct compare *compare)
{
	stop_all(compare, TRIAL_RELOADED,
		 "another configuration was put in force, and its hosts were of the old one");
}

/* --- submitting ------------------------------------------------------------------------------- */

struct comparison *compare_find(const struct compare *compare, const struct id *id)
{
	list_for_each (node, &compare->all)
		if (id_compare(&of_node(node)->id, id) == 0)
			return of_node(node);
	return NULL;
}

static int no_memory(struct error *error)
{
	return error_set(error, ERROR_INTERNAL, NULL, "memory is short");
}

static int check_room(const struct compare *compare, unsigned int *ret_retry_after,
		      struct error *error)
{
	size_t waiting = 0;

	*ret_retry_after = 1;
	if (server_is_stopping(compare->server))
		return error_set(error, ERROR_UNAVAILABLE, NULL, "the service is shutting down");
	list_for_each (node, &compare->all)
		waiting += of_node(node)->state == QUEUED;
	if (waiting < COMPARE_QUEUE_MAX)
		return 0;
	*ret_retry_after = 10;
	return error_set(
		error, ERROR_OVERLOADED, NULL,
		"comparisons and experiments run one at a time, so that they do not measure "
		"each other; one runs and %zu wait, which is as many as may",
		waiting);
}

static struct comparison *make(struct compare *compare)
{
	struct comparison *comparison = calloc(1, sizeof(*comparison));

	if (!comparison)
		return NULL;
	list_init(&comparison->node);
	list_init(&comparison->waiters);
	list_init(&comparison->watchers);
	comparison->compare = compare;
	comparison->id = id_new();
	comparison->submitted_ns = clock_monotonic_ns();
	comparison->submitted_real_ns = clock_realtime_ns();
	comparison->trial = trial_new(compare->server, compare->gauge);
	if (!comparison->trial) {
		free(comparison);
		return NULL;
	}
	comparison->trial->data = comparison;
	comparison->trial->ended = trial_ended;
	comparison->trial->progressed = trial_progressed;
	return comparison;
}

static void enqueue(struct comparison *comparison)
{
	struct compare *compare = comparison->compare;

	list_append(&compare->all, &comparison->node);
	loop_timer_set(compare->loop, &compare->start_timer, clock_monotonic_ns());
}

/* --- a comparison ----------------------------------------------------------------------------- */

static const char request_schema[] =
	"{\"type\": \"object\", \"required\": [\"task\", \"pools\"], \"properties\": {"
	"\"task\": {\"type\": \"string\"}, \"args\": {},"
	"\"pools\": {\"type\": \"array\", \"minItems\": 1, \"maxItems\": 4,"
	" \"items\": {\"type\": \"string\"}},"
	"\"jobs\": {\"type\": \"integer\", \"minimum\": 1, \"maximum\": 2000, \"default\": 40},"
	"\"concurrency\": {\"type\": \"integer\", \"minimum\": 1, \"maximum\": 256, \"default\": "
	"4},"
	"\"warmup\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 1000, \"default\": 5},"
	"\"repeats\": {\"type\": \"integer\", \"minimum\": 1, \"maximum\": 30, \"default\": 5}}}";
_Static_assert(COMPARE_POOLS_MAX == 4 && COMPARE_JOBS_MAX == 2000 && COMPARE_CONCURRENCY == 256 &&
		       COMPARE_WARMUP_MAX == 1000 && COMPARE_REPEATS_MAX == 30,
	       "the schema says the same");

static uint32_t number(const json_t *request, const char *name)
{
	return (uint32_t)json_integer_value(json_object_get(request, name));
}

/* Jobs of all passes together. */
static uint64_t all_jobs(const json_t *request)
{
	uint64_t jobs = number(request, "jobs");
	uint64_t concurrency = number(request, "concurrency");
	uint64_t serial = concurrency > 1 ? (jobs + concurrency - 1) / concurrency : 0;

	return json_array_size(json_object_get(request, "pools")) *
	       (number(request, "warmup") + number(request, "repeats") * (jobs + serial));
}

static int check_pools_differ(const json_t *pools, struct error *error)
{
	char field[32];

	for (size_t i = 1; i < json_array_size(pools); i++)
		for (size_t j = 0; j < i; j++) {
			if (!json_equal(json_array_get(pools, i), json_array_get(pools, j)))
				continue;
			snprintf(field, sizeof(field), "pools[%zu]", i);
			return error_set(error, ERROR_INVALID, field,
					 "found \"%.60s\" twice; expected each pool once",
					 json_string_value(json_array_get(pools, i)));
		}
	return 0;
}

static int check_request(const json_t *request, struct error *error)
{
	uint64_t jobs = all_jobs(request);
	int status = check_pools_differ(json_object_get(request, "pools"), error);

	if (status == 0 && jobs > COMPARE_ALL_JOBS_MAX)
		status = error_set(error, ERROR_INVALID, "jobs",
				   "all rounds of all pools would have %llu jobs, warming up and "
				   "those one at a time included; expected at most %d",
				   (unsigned long long)jobs, COMPARE_ALL_JOBS_MAX);
	return status;
}

static int add_pool(struct comparison *comparison, size_t index, struct error *error)
{
	const json_t *request = comparison->request;
	const char *pool =
		json_string_value(json_array_get(json_object_get(request, "pools"), index));
	struct server *server = comparison->compare->server;
	struct lab_shape shape;
	struct terms *terms = NULL;
	uint32_t contender;
	char field[32];
	int status = lab_shape_of_pool(server, pool, &shape, error);

	if (status == 0)
		status =
			terms_new(server, json_string_value(json_object_get(request, "task")),
				  json_object_get(request, "args"), pool, false, -1, &terms, error);
	if (status < 0) {
		snprintf(field, sizeof(field), "pools[%zu]", index);
		if (strcmp(error->field, "pools") == 0 || strcmp(error->field, "pool") == 0)
			snprintf(error->field, sizeof(error->field), "%s", field);
		return status;
	}
	if (trial_add_contender(comparison->trial, pool, &shape, terms,
				number(request, "concurrency"), &contender) < 0)
		return no_memory(error);
	return 0;
}

static int plan(struct comparison *comparison, struct error *error)
{
	const json_t *request = comparison->request;
	const struct trial_plan rounds = {.jobs = number(request, "jobs"),
					  .warmup = number(request, "warmup"),
					  .repeats = number(request, "repeats"),
					  .serial = true,
					  .crash = true};
	int status = check_request(request, error);

	for (size_t i = 0; status == 0 && i < json_array_size(json_object_get(request, "pools"));
	     i++)
		status = add_pool(comparison, i, error);
	if (status == 0 && trial_plan(comparison->trial, &rounds) < 0)
		status = no_memory(error);
	return status;
}

int compare_submit(struct compare *compare, const char *body, size_t length,
		   struct comparison **ret_comparison, unsigned int *ret_retry_after,
		   struct error *error)
{
	json_t *request = NULL;
	int status = check_room(compare, ret_retry_after, error);

	if (status == 0)
		status = json_parse(body, length, &request, error);
	if (status == 0)
		status = schema_check(compare->schema, request, true, "", error);
	struct comparison *comparison = status == 0 ? make(compare) : NULL;
	if (!comparison) {
		json_decref(request);
		return status < 0 ? status : no_memory(error);
	}
	comparison->request = request;
	status = plan(comparison, error);
	if (status < 0) {
		free_comparison(comparison);
		return status;
	}
	enqueue(comparison);
	*ret_comparison = comparison;
	return 0;
}

/* --- an experiment ---------------------------------------------------------------------------- */

static int unknown_experiment(const char *name, struct error *error)
{
	char names[300] = "";
	size_t used = 0;

	for (size_t i = 0; i < experiment_count && used < sizeof(names); i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? ", " : "",
					 experiments[i].name);
	return error_set(error, ERROR_NOT_FOUND, NULL,
			 "there is no experiment \"%.64s\"; those that exist: %s", name, names);
}

/* What cannot be measured here is answered at once. */
static void end_unavailable(struct comparison *comparison, const char *reason)
{
	comparison->judgement = calloc(1, sizeof(*comparison->judgement));
	if (comparison->judgement)
		snprintf(comparison->judgement->why, sizeof(comparison->judgement->why),
			 "not measured: %s", reason);
	if (asprintf(&comparison->verdict, "Not measured: %s.", reason) < 0)
		comparison->verdict = NULL;
	end(comparison, SUCCEEDED);
}

int compare_submit_experiment(struct compare *compare, const char *name,
			      struct comparison **ret_comparison, unsigned int *ret_retry_after,
			      struct error *error)
{
	const struct experiment *experiment = experiment_find(name);
	int status = experiment ? check_room(compare, ret_retry_after, error)
				: unknown_experiment(name, error);

	if (status < 0)
		return status;
	struct comparison *comparison = make(compare);
	if (!comparison)
		return no_memory(error);
	comparison->experiment = experiment;
	comparison->trial->is_needed = experiment->is_needed;
	const char *reason =
		experiment->unavailable ? experiment->unavailable(compare->server) : NULL;
	status = reason ? 0 : experiment->plan(comparison->trial, error);
	if (status < 0) {
		free_comparison(comparison);
		return status;
	}
	enqueue(comparison);
	if (reason)
		end_unavailable(comparison, reason);
	*ret_comparison = comparison;
	return 0;
}

/* --- all of them ------------------------------------------------------------------------------ */

static void take_reading(const struct gauge_reading *reading, void *data)
{
	trial_take_reading(data, reading);
}

static int compile_schema(struct schema **ret_schema)
{
	json_t *document = NULL;
	struct error error;
	int status = json_parse(request_schema, sizeof(request_schema) - 1, &document, &error);

	if (status == 0)
		status = schema_compile(document, ret_schema, &error);
	json_decref(document);
	return status;
}

int compare_new(struct server *server, struct compare **ret_compare)
{
	struct compare *compare = calloc(1, sizeof(*compare));

	if (!compare)
		return -ENOMEM;
	compare->server = server;
	compare->loop = server_loop(server);
	list_init(&compare->all);
	loop_timer_init(&compare->start_timer, begin_next);
	loop_timer_init(&compare->news_timer, tell_news);
	int status = compile_schema(&compare->schema);
	if (status == 0)
		status = gauge_new(compare->loop, take_reading, &compare->gauge);
	if (status < 0) {
		compare_free(compare);
		return status;
	}
	*ret_compare = compare;
	return 0;
}

void compare_free(struct compare *compare)
{
	if (!compare)
		return;
	gauge_free(compare->gauge);
	list_for_each_safe (node, &compare->all)
		free_comparison(of_node(node));
	loop_timer_cancel(compare->loop, &compare->start_timer);
	loop_timer_cancel(compare->loop, &compare->news_timer);
	schema_free(compare->schema);
	free(compare);
}
