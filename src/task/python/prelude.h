/* prelude.py as it was when the program was built. The build writes the definitions. */
#ifndef TASK_PYTHON_PRELUDE_H
#define TASK_PYTHON_PRELUDE_H

#include <stddef.h>

extern const char python_prelude[]; /* python_prelude_size bytes and a NUL */
extern const size_t python_prelude_size;

#endif
