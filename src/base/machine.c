/* See machine.h. */
#include "base/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define TEXT_MAX   4096
#define GROUP_MAX  1024
#define STAT_TIMES 8 /* user nice system idle iowait irq softirq steal */

/* --- reading ---------------------------------------------------------------------------------- */

static bool read_file(void *context, const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t got = 1;

	(void)context;
	if (fd < 0)
		return false;
	while (length + 1 < size && got > 0) {
		got = read(fd, buffer + length, size - 1 - length);
		if (got < 0 && errno == EINTR)
			got = 1;
		else if (got > 0)
			length += (size_t)got;
	}
	fd_close(&fd);
	buffer[length] = '\0';
	return got >= 0 && length > 0;
}

const struct machine_files machine_files = {.read = read_file};

static bool read_text(const struct machine_files *files, const char *path,
		      char text[static TEXT_MAX])
{
	return files->read(files->context, path, text, TEXT_MAX);
}

/* The number behind a word that begins a line; MACHINE_UNKNOWN if there is none. */
static int64_t number_of(const char *text, const char *word)
{
	size_t length = strlen(word);
	char *end;

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, word, length) != 0)
			continue;
		int64_t number = strtoll(line + length, &end, 10);
		return end != line + length && number >= 0 ? number : MACHINE_UNKNOWN;
	}
	return MACHINE_UNKNOWN;
}

static int64_t scaled(int64_t number, int64_t scale)
{
	return number == MACHINE_UNKNOWN || number > INT64_MAX / scale ? MACHINE_UNKNOWN
								       : number * scale;
}

/* --- /proc/stat ------------------------------------------------------------------------------- */

/* Guest time is in user time already, so what follows steal is left out. */
static void take_cpu(const struct machine_files *files, struct machine_sample *sample)
{
	char text[TEXT_MAX];
	int64_t times[STAT_TIMES];
	int64_t tick_ns = NS_PER_S / sysconf(_SC_CLK_TCK);

	if (!read_text(files, "/proc/stat", text) || strncmp(text, "cpu ", 4) != 0)
		return;
	char *at = text + 4;
	for (int i = 0; i < STAT_TIMES; i++) {
		char *end;
		times[i] = strtoll(at, &end, 10) * tick_ns;
		if (end == at || times[i] < 0)
			return;
		at = end;
	}
	sample->busy_ns = times[0] + times[1] + times[2] + times[5] + times[6];
	sample->steal_ns = times[7];
	sample->total_ns = sample->busy_ns + sample->steal_ns + times[3] + times[4];
}

/* --- pressure --------------------------------------------------------------------------------- */

/* "some avg10=0.00 avg60=0.00 avg300=0.00 total=12345": microseconds. */
static int64_t take_pressure(const struct machine_files *files, const char *path)
{
	char text[TEXT_MAX];

	if (!read_text(files, path, text) || strncmp(text, "some ", 5) != 0)
		return MACHINE_UNKNOWN;
	text[strcspn(text, "\n")] = '\0';
	const char *total = strstr(text, "total=");
	return total ? scaled(number_of(total, "total="), NS_PER_US) : MACHINE_UNKNOWN;
}

/* --- the control group ------------------------------------------------------------------------ */

/* Whether a list with commas, which ends at a colon, has the name. */
static bool list_has(const char *list, const char *name)
{
	size_t length = strlen(name);

	while (*list != ':' && *list != '\0') {
		size_t item = strcspn(list, ",:");
		if (item == length && strncmp(list, name, length) == 0)
			return true;
		list += item + (list[item] == ',');
	}
	return false;
}

/* From lines "ID:CONTROLLERS:PATH" the path of the version 2 group (controller ""), or of the
 * version 1 group of the controller; "" stands for the root. */
static bool find_group(const char *lines, const char *controller, char group[static GROUP_MAX])
{
	for (const char *line = lines; *line != '\0'; line += strcspn(line, "\n")) {
		line += *line == '\n';
		const char *list = strchr(line, ':');
		const char *path = list ? strchr(list + 1, ':') : NULL;
		if (!path)
			return false;
		if (controller[0] == '\0' ? list[1] != ':' : !list_has(list + 1, controller))
			continue;
		size_t length = strcspn(path + 1, "\n");
		if (length >= GROUP_MAX)
			return false;
		snprintf(group, GROUP_MAX, "%.*s", length > 1 ? (int)length : 0, path + 1);
		return true;
	}
	return false;
}

/* The path may be the host's, of which a container sees only the root: then that is its own. */
static bool read_group(const struct machine_files *files, const char *base, const char *group,
		       char text[static TEXT_MAX])
{
	char path[GROUP_MAX + 64];

	snprintf(path, sizeof(path), "%s%s/cpu.stat", base, group);
	if (read_text(files, path, text))
		return true;
	snprintf(path, sizeof(path), "%s/cpu.stat", base);
	return read_text(files, path, text);
}

static void take_throttling(const struct machine_files *files, struct machine_sample *sample)
{
	char lines[TEXT_MAX];
	char text[TEXT_MAX];
	char group[GROUP_MAX];

	if (!read_text(files, "/proc/self/cgroup", lines))
		return;
	if (find_group(lines, "", group) && read_group(files, "/sys/fs/cgroup", group, text))
		sample->throttled_ns = scaled(number_of(text, "throttled_usec "), NS_PER_US);
	else if (find_group(lines, "cpu", group) &&
		 read_group(files, "/sys/fs/cgroup/cpu", group, text))
		sample->throttled_ns = number_of(text, "throttled_time ");
	else
		return;
	sample->throttled_periods = number_of(text, "nr_throttled ");
}

void machine_sample_take(const struct machine_files *files, struct machine_sample *ret_sample)
{
	struct machine_sample sample = {.taken_ns = clock_monotonic_ns(),
					.busy_ns = MACHINE_UNKNOWN,
					.total_ns = MACHINE_UNKNOWN,
					.steal_ns = MACHINE_UNKNOWN,
					.throttled_periods = MACHINE_UNKNOWN,
					.throttled_ns = MACHINE_UNKNOWN};

	take_cpu(files, &sample);
	sample.pressure_ns[MACHINE_CPU] = take_pressure(files, "/proc/pressure/cpu");
	sample.pressure_ns[MACHINE_MEMORY] = take_pressure(files, "/proc/pressure/memory");
	sample.pressure_ns[MACHINE_IO] = take_pressure(files, "/proc/pressure/io");
	take_throttling(files, &sample);
	*ret_sample = sample;
}

static int64_t between(int64_t before, int64_t after)
{
	return before == MACHINE_UNKNOWN || after == MACHINE_UNKNOWN || after < before
		       ? MACHINE_UNKNOWN
		       : after - before;
}

struct machine_sample machine_between(const struct machine_sample *before,
				      const struct machine_sample *after)
{
	struct machine_sample difference = {
		.taken_ns = after->taken_ns - before->taken_ns,
		.busy_ns = between(before->busy_ns, after->busy_ns),
		.total_ns = between(before->total_ns, after->total_ns),
		.steal_ns = between(before->steal_ns, after->steal_ns),
		.throttled_periods = between(before->throttled_periods, after->throttled_periods),
		.throttled_ns = between(before->throttled_ns, after->throttled_ns),
	};

	for (int i = 0; i < MACHINE_PRESSURES; i++)
		difference.pressure_ns[i] = between(before->pressure_ns[i], after->pressure_ns[i]);
	return difference;
}

/* --- smaps_rollup ----------------------------------------------------------------------------- */

void machine_memory_take(const struct machine_files *files, pid_t pid,
			 struct machine_memory *ret_memory)
{
	char path[64];
	char text[TEXT_MAX];

	*ret_memory = (struct machine_memory){MACHINE_UNKNOWN, MACHINE_UNKNOWN, MACHINE_UNKNOWN};
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	if (!read_text(files, path, text))
		return;
	int64_t clean = scaled(number_of(text, "Private_Clean:"), 1024);
	int64_t dirty = scaled(number_of(text, "Private_Dirty:"), 1024);
	ret_memory->rss_bytes = scaled(number_of(text, "Rss:"), 1024);
	ret_memory->pss_bytes = scaled(number_of(text, "Pss:"), 1024);
	if (clean != MACHINE_UNKNOWN && dirty != MACHINE_UNKNOWN)
		ret_memory->private_bytes = clean + dirty;
}
