/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "programs/control_json.h"

#include <stdlib.h>

#include "base/base.h"
#include "programs/options.h"

json_t *control_json_refuse(const char *text)
{
    char plain[OPTIONS_ERROR_BYTES];
    json_t *answer = json_pack("{s:b, s:s}", "ok", 0, "error", text);
    if (answer)
        return answer;
    /* JSON is UTF-8; a path in @text may be any bytes, and may have been cut within a character. */
    size_t length = size_min(strlen(text), sizeof(plain) - 1);
    for (size_t i = 0; i < length; i++)
        plain[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    plain[length] = '\0';
    return json_pack("{s:b, s:s}", "ok", 0, "error", plain);
}

json_t *control_json_command(const char *line, size_t length, json_t **ret_refusal)
{
    json_error_t error;
    if (!line) {
        *ret_refusal = control_json_refuse("the line is too long");
        return NULL;
    }
    json_t *command = json_loadb(line, length, JSON_REJECT_DUPLICATES, &error);
    if (json_is_object(command))
        return command;
    json_decref(command);
    *ret_refusal = control_json_refuse("not a JSON object on one line");
    return NULL;
}

char *control_json_line(json_t *answer)
{
    char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
    json_decref(answer);
    if (!text)
        return NULL;
    size_t bytes = strlen(text);
    char *ended = realloc(text, bytes + 2);
    if (!ended) {
        free(text);
        return NULL;
    }
    memcpy(ended + bytes, "\n", 2);
    return ended;
}
