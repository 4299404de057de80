/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Command lines: --name=value or --name value, from a table. What is wrong is said in one line that says what to do. */
#ifndef PROGRAMS_OPTIONS_H
#define PROGRAMS_OPTIONS_H

#include "base/base.h"

/* Exit statuses of every command. */
#define EXIT_DONE 0
#define EXIT_FAILED 1
#define EXIT_WRONG_USE 2

/* One line is enough for each problem. */
#define OPTIONS_ERROR_BYTES 512

enum option_kind {
    OPTION_FLAG,   /* no value */
    OPTION_TEXT,   /* not empty */
    OPTION_TEXTS,  /* the same, as often as it is wanted */
    OPTION_NUMBER, /* decimal */
    OPTION_BYTES,  /* decimal, and K, M, G or T for powers of 1024 */
    OPTION_CHOICE, /* one of a few words */
};

/* Values of an option that may be repeated. */
#define OPTION_LIST_MAX 32
struct option_list {
    unsigned count;
    const char *values[OPTION_LIST_MAX]; /* borrowed from the arguments */
};

struct option {
    const char *name; /* without dashes */
    enum option_kind kind;
    union {
        bool *flag;
        const char **text;
        struct option_list *texts;
        uint64_t *number; /* also BYTES, and CHOICE: which one */
    } value;
    const char *argument; /* what help calls the value: "PATH" */
    const char *help;     /* one line */
    uint64_t minimum, maximum;
    const char *const *choices; /* ends with NULL */
    bool given;                 /* set by parse */
};

/* Rows of a table: see the fields above. */
static inline struct option option_flag(const char *name, bool *flag, const char *help)
{
    return (struct option){.name = name, .kind = OPTION_FLAG, .value.flag = flag, .help = help};
}

static inline struct option option_text(const char *name, const char **text, const char *argument, const char *help)
{
    return (struct option){.name = name, .kind = OPTION_TEXT, .value.text = text, .argument = argument, .help = help};
}

static inline struct option option_texts(const char *name, struct option_list *texts, const char *argument,
                                         const char *help)
{
    return (struct option){
        .name = name, .kind = OPTION_TEXTS, .value.texts = texts, .argument = argument, .help = help};
}

static inline struct option option_number(const char *name, uint64_t *number, uint64_t minimum, uint64_t maximum,
                                          const char *help)
{
    return (struct option){.name = name,
                           .kind = OPTION_NUMBER,
                           .value.number = number,
                           .argument = "N",
                           .help = help,
                           .minimum = minimum,
                           .maximum = maximum};
}

static inline struct option option_bytes(const char *name, uint64_t *bytes, uint64_t minimum, uint64_t maximum,
                                         const char *help)
{
    return (struct option){.name = name,
                           .kind = OPTION_BYTES,
                           .value.number = bytes,
                           .argument = "BYTES",
                           .help = help,
                           .minimum = minimum,
                           .maximum = maximum};
}

static inline struct option option_choice(const char *name, uint64_t *choice, const char *const *choices,
                                          const char *argument, const char *help)
{
    return (struct option){.name = name,
                           .kind = OPTION_CHOICE,
                           .value.number = choice,
                           .argument = argument,
                           .help = help,
                           .choices = choices};
}

/*
 * Parse @arguments[0 .. @count). What is no option goes to @words (borrowed), at most @words_max. After "--"
 * everything is a word. Returns the number of words, or -EINVAL with @error filled.
 */
int options_parse(struct option *options, size_t option_count, char **arguments, int count, const char **words,
                  int words_max, char *error, size_t error_bytes);

/* Is "--@name" among the arguments, whatever else is wrong with them? */
bool options_ask(char **arguments, int count, const char *name);

/* A number as BYTES has it. -EINVAL: it is none, or more than 64 bits hold. */
int options_parse_bytes(const char *text, uint64_t *ret_bytes);

/* Print the table for people on standard output. */
void options_print(const struct option *options, size_t option_count);

#endif
