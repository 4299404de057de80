/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Lines of JSON for control sockets. */
#ifndef PROGRAMS_CONTROL_JSON_H
#define PROGRAMS_CONTROL_JSON_H

#include <jansson.h>

/* {"ok": false, "error": @text}, whatever bytes are in @text. A new object, or NULL without memory. */
json_t *control_json_refuse(const char *text);

/* The object that @line is (NULL: it was too long); else NULL, with a refusal. */
json_t *control_json_command(const char *line, size_t length, json_t **ret_refusal);

/* @answer, which is taken over, as a line from malloc with its newline; NULL without memory, or when @answer is NULL.
 */
char *control_json_line(json_t *answer);

#endif
