/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "programs/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "platform/linux/short_text.h"

/* Where help texts begin. */
#define OPTIONS_HELP_COLUMN 30

__attribute__((format(printf, 3, 4))) static int options_fail(char *error, size_t error_bytes, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, error_bytes, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

static int options_parse_number(const char *text, uint64_t *ret_number, const char **ret_rest)
{
    uint64_t number = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (mul_overflows_u64(number, 10, &number) || add_overflows_u64(number, (uint64_t)(*at - '0'), &number))
            return -EINVAL;
    }
    if (at == text)
        return -EINVAL;
    *ret_number = number;
    *ret_rest = at;
    return 0;
}

int options_parse_bytes(const char *text, uint64_t *ret_bytes)
{
    static const char suffixes[] = "KMGT";
    uint64_t bytes;
    const char *rest;
    int r = options_parse_number(text, &bytes, &rest);
    if (r < 0)
        return r;
    if (*rest != '\0') {
        const char *suffix = strchr(suffixes, *rest >= 'a' && *rest <= 'z' ? *rest - 'a' + 'A' : *rest);
        if (!suffix || rest[1] != '\0')
            return -EINVAL;
        for (const char *step = suffixes; step <= suffix; step++) {
            if (mul_overflows_u64(bytes, 1024, &bytes))
                return -EINVAL;
        }
    }
    *ret_bytes = bytes;
    return 0;
}

static int options_set_number(struct option *option, const char *text, char *error, size_t error_bytes)
{
    uint64_t number;
    const char *rest = "";
    bool bytes = option->kind == OPTION_BYTES;
    int r = bytes ? options_parse_bytes(text, &number) : options_parse_number(text, &number, &rest);
    if (r == 0 && *rest == '\0' && number >= option->minimum && number <= option->maximum) {
        *option->value.number = number;
        return 0;
    }
    if (bytes)
        return options_fail(error, error_bytes,
                            "--%s=%s: give a number of bytes of at least %llu, with K, M, G or T if you like",
                            option->name, SHORTENED(text), (unsigned long long)option->minimum);
    if (option->maximum == UINT64_MAX)
        return options_fail(error, error_bytes, "--%s=%s: give a whole number of at least %llu", option->name,
                            SHORTENED(text), (unsigned long long)option->minimum);
    return options_fail(error, error_bytes, "--%s=%s: give a whole number from %llu to %llu", option->name,
                        SHORTENED(text), (unsigned long long)option->minimum, (unsigned long long)option->maximum);
}

static int options_set_choice(struct option *option, const char *text, char *error, size_t error_bytes)
{
    char list[128] = "";
    size_t used = 0;
    for (uint64_t i = 0; option->choices[i]; i++) {
        if (strcmp(option->choices[i], text) == 0) {
            *option->value.number = i;
            return 0;
        }
        int added = snprintf(list + used, sizeof(list) - used, "%s%s", i > 0 ? ", " : "", option->choices[i]);
        used = size_min(used + (size_t)added, sizeof(list) - 1);
    }
    return options_fail(error, error_bytes, "--%s=%s: choose one of %s", option->name, SHORTENED(text), list);
}

static int options_append(struct option *option, const char *text, char *error, size_t error_bytes)
{
    struct option_list *list = option->value.texts;
    if (*text == '\0')
        return options_fail(error, error_bytes, "--%s is empty; give it as --%s=%s", option->name, option->name,
                            option->argument);
    if (list->count == OPTION_LIST_MAX)
        return options_fail(error, error_bytes, "--%s is given more than %d times; that is the most", option->name,
                            OPTION_LIST_MAX);
    list->values[list->count++] = text;
    return 0;
}

static int options_set(struct option *option, const char *text, char *error, size_t error_bytes)
{
    switch (option->kind) {
    case OPTION_FLAG:
        *option->value.flag = true;
        return 0;
    case OPTION_TEXT:
        if (*text == '\0')
            return options_fail(error, error_bytes, "--%s is empty; give it as --%s=%s", option->name, option->name,
                                option->argument);
        *option->value.text = text;
        return 0;
    case OPTION_TEXTS:
        return options_append(option, text, error, error_bytes);
    case OPTION_CHOICE:
        return options_set_choice(option, text, error, error_bytes);
    default:
        return options_set_number(option, text, error, error_bytes);
    }
}

static struct option *options_find(struct option *options, size_t option_count, const char *name, size_t length)
{
    for (size_t i = 0; i < option_count; i++) {
        if (strlen(options[i].name) == length && memcmp(options[i].name, name, length) == 0)
            return &options[i];
    }
    return NULL;
}

/* Take the option at arguments[*index], and its value. */
static int options_take(struct option *options, size_t option_count, char **arguments, int count, int *index,
                        char *error, size_t error_bytes)
{
    const char *name = arguments[*index] + 2;
    const char *equals = strchr(name, '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    struct option *option = options_find(options, option_count, name, length);
    if (!option)
        return options_fail(error, error_bytes, "unknown option --%.*s; --help lists those there are",
                            (int)size_min(length, SHORT_TEXT_MAX), name);
    const char *text = equals ? equals + 1 : NULL;
    if (option->kind == OPTION_FLAG && text)
        return options_fail(error, error_bytes, "--%s takes no value; leave out \"=%s\"", option->name,
                            SHORTENED(text));
    if (option->kind != OPTION_FLAG && !text) {
        if (*index + 1 >= count)
            return options_fail(error, error_bytes, "--%s needs a value; give it as --%s=%s", option->name,
                                option->name, option->argument);
        text = arguments[++*index];
    }
    if (option->given && option->kind != OPTION_TEXTS)
        return options_fail(error, error_bytes, "--%s is given twice; choose one", option->name);
    option->given = true;
    return options_set(option, text, error, error_bytes);
}

int options_parse(struct option *options, size_t option_count, char **arguments, int count, const char **words,
                  int words_max, char *error, size_t error_bytes)
{
    int word_count = 0;
    bool only_words = false;
    for (int i = 0; i < count; i++) {
        const char *argument = arguments[i];
        if (!only_words && strcmp(argument, "--") == 0) {
            only_words = true;
            continue;
        }
        if (!only_words && strncmp(argument, "--", 2) == 0) {
            int r = options_take(options, option_count, arguments, count, &i, error, error_bytes);
            if (r < 0)
                return r;
            continue;
        }
        if (!only_words && argument[0] == '-' && argument[1] != '\0')
            return options_fail(error, error_bytes, "unknown option %s; --help lists those there are",
                                SHORTENED(argument));
        if (word_count == words_max)
            return options_fail(error, error_bytes, "\"%s\" is not understood; --help says what is",
                                SHORTENED(argument));
        words[word_count++] = argument;
    }
    return word_count;
}

bool options_ask(char **arguments, int count, const char *name)
{
    for (int i = 0; i < count; i++) {
        if (strncmp(arguments[i], "--", 2) == 0 && strcmp(arguments[i] + 2, name) == 0)
            return true;
        if (strcmp(arguments[i], "--") == 0)
            return false;
    }
    return false;
}

void options_print(const struct option *options, size_t option_count)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option *option = &options[i];
        int width =
            printf("  --%s%s%s", option->name, option->argument ? "=" : "", option->argument ? option->argument : "");
        if (width >= OPTIONS_HELP_COLUMN) {
            printf("\n");
            width = 0;
        }
        printf("%*s%s\n", OPTIONS_HELP_COLUMN - width, "", option->help);
    }
}
