/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "programs/options.h"

static const char *const colours[] = {"red", "green", NULL};

struct values {
    bool flag;
    const char *text;
    uint64_t number, bytes, colour;
    const char *words[2];
    char error[OPTIONS_ERROR_BYTES];
    struct option table[5];
};

static void fill(struct values *values)
{
    *values = (struct values){.number = 77};
    values->table[0] = option_flag("flag", &values->flag, "a flag");
    values->table[1] = option_text("text", &values->text, "TEXT", "a text");
    values->table[2] = option_number("number", &values->number, 1, 64, "a number");
    values->table[3] = option_bytes("bytes", &values->bytes, 1, INT64_MAX, "bytes");
    values->table[4] = option_choice("colour", &values->colour, colours, "COLOUR", "a colour");
}

/* Parse up to four arguments, NULL ending them. */
static int parse(struct values *values, const char *first, const char *second, const char *third)
{
    char copies[3][64];
    char *arguments[3];
    const char *given[] = {first, second, third};
    int count = 0;
    fill(values);
    for (; count < 3 && given[count]; count++) {
        strcpy(copies[count], given[count]);
        arguments[count] = copies[count];
    }
    int r = options_parse(values->table, ARRAY_SIZE(values->table), arguments, count, values->words, 2, values->error,
                          sizeof(values->error));
    /* The copies end here: what was kept of them is compared before. */
    values->text = values->text && strcmp(values->text, "value") == 0 ? "value" : NULL;
    for (int i = 0; i < r; i++)
        values->words[i] = strcmp(values->words[i], "--flag") == 0 ? "--flag" : "word";
    return r;
}

static void takes_values_behind_an_equals_sign_or_as_the_next_argument(void **state)
{
    (void)state;
    struct values values;
    assert_int_equal(parse(&values, "--text=value", NULL, NULL), 0);
    assert_string_equal(values.text, "value");
    assert_int_equal(parse(&values, "--text", "value", "--flag"), 0);
    assert_string_equal(values.text, "value");
    assert_true(values.flag);
    assert_true(values.table[1].given);
    assert_false(values.table[2].given);
    assert_int_equal(values.number, 77);
}

static void the_value_of_an_option_may_look_like_an_option(void **state)
{
    (void)state;
    struct values values;
    assert_int_equal(parse(&values, "--text", "--flag", NULL), 0);
    assert_false(values.flag);
}

static void refuses_an_option_that_is_given_twice(void **state)
{
    (void)state;
    struct values values;
    assert_int_equal(parse(&values, "--number=1", "--number=64", NULL), -EINVAL);
    assert_string_equal(values.error, "--number is given twice; choose one");
    assert_int_equal(parse(&values, "--flag", "--flag", NULL), -EINVAL);
}

static void what_is_long_is_shown_by_its_beginning_and_its_end(void **state)
{
    (void)state;
    struct values values;
    char text[5000];
    memset(text, 'x', sizeof(text));
    memcpy(text, "--colour=begin", 14);
    strcpy(text + sizeof(text) - 4, "end");
    char *arguments[] = {text};
    fill(&values);
    assert_int_equal(options_parse(values.table, ARRAY_SIZE(values.table), arguments, 1, values.words, 2, values.error,
                                   sizeof(values.error)),
                     -EINVAL);
    assert_non_null(strstr(values.error, "--colour=begin"));
    assert_non_null(strstr(values.error, "end: choose one of red, green"));
    assert_true(strlen(values.error) < 200);
}

static void gives_back_the_words_and_takes_all_for_words_after_two_dashes(void **state)
{
    (void)state;
    struct values values;
    assert_int_equal(parse(&values, "word", "--flag", "word"), 2);
    assert_true(values.flag);
    assert_int_equal(parse(&values, "--", "--flag", NULL), 1);
    assert_string_equal(values.words[0], "--flag");
    assert_false(values.flag);
    assert_int_equal(parse(&values, "a", "b", "c"), -EINVAL);
    assert_non_null(strstr(values.error, "\"c\""));
}

static void refuses_numbers_out_of_range_and_leaves_the_value_alone(void **state)
{
    (void)state;
    static const char *const wrong[] = {"--number=0",  "--number=65", "--number=",    "--number=1x",
                                        "--number=+1", "--number= 1", "--number=0x1", "--number=18446744073709551617"};
    struct values values;
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        assert_int_equal(parse(&values, wrong[i], NULL, NULL), -EINVAL);
        assert_non_null(strstr(values.error, "from 1 to 64"));
        assert_int_equal(values.number, 77);
    }
}

static void refuses_what_is_no_option_and_says_its_name_alone(void **state)
{
    (void)state;
    struct values values;
    assert_int_equal(parse(&values, "--fla=1", NULL, NULL), -EINVAL);
    assert_non_null(strstr(values.error, "--fla;"));
    assert_int_equal(parse(&values, "--flags", NULL, NULL), -EINVAL);
    assert_int_equal(parse(&values, "-flag", NULL, NULL), -EINVAL);
    assert_int_equal(parse(&values, "--flag=1", NULL, NULL), -EINVAL);
    assert_int_equal(parse(&values, "--text", NULL, NULL), -EINVAL);
    assert_int_equal(parse(&values, "--text=", NULL, NULL), -EINVAL);
}

static void a_choice_is_a_number_and_a_wrong_one_lists_them(void **state)
{
    (void)state;
    struct values values;
    assert_int_equal(parse(&values, "--colour=green", NULL, NULL), 0);
    assert_int_equal(values.colour, 1);
    assert_int_equal(parse(&values, "--colour=blue", NULL, NULL), -EINVAL);
    assert_non_null(strstr(values.error, "red, green"));
}

static void bytes_have_suffixes_for_powers_of_1024_and_never_wrap(void **state)
{
    (void)state;
    uint64_t bytes;
    static const struct {
        const char *text;
        uint64_t bytes;
    } right[] = {{"0", 0},
                 {"512", 512},
                 {"1K", 1024},
                 {"3m", UINT64_C(3) << 20},
                 {"10G", UINT64_C(10) << 30},
                 {"2T", UINT64_C(2) << 40},
                 {"18446744073709551615", UINT64_MAX},
                 {"16777215T", UINT64_C(16777215) << 40}};
    static const char *const wrong[] = {"",
                                        "K",
                                        "1KK",
                                        "1 K",
                                        "1X",
                                        "-1",
                                        "0x10",
                                        "1.5G",
                                        "16777216T",
                                        "18446744073709551616",
                                        "99999999999999999999999"};
    for (size_t i = 0; i < ARRAY_SIZE(right); i++) {
        assert_int_equal(options_parse_bytes(right[i].text, &bytes), 0);
        assert_true(bytes == right[i].bytes);
    }
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_int_equal(options_parse_bytes(wrong[i], &bytes), -EINVAL);
}

static void keeps_the_values_of_an_option_that_may_be_repeated_in_their_order(void **state)
{
    (void)state;
    struct option_list list = {0};
    struct option table[] = {option_texts("disk", &list, "PATH", "a disk")};
    char error[OPTIONS_ERROR_BYTES], *arguments[OPTION_LIST_MAX + 1];
    char *two[] = {"--disk=a", "--disk", "b"}, *empty[] = {"--disk="};
    assert_int_equal(options_parse(table, 1, two, 3, NULL, 0, error, sizeof(error)), 0);
    assert_int_equal(list.count, 2);
    assert_string_equal(list.values[0], "a");
    assert_string_equal(list.values[1], "b");
    assert_int_equal(options_parse(table, 1, empty, 1, NULL, 0, error, sizeof(error)), -EINVAL);
    list.count = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(arguments); i++)
        arguments[i] = "--disk=c";
    assert_int_equal(options_parse(table, 1, arguments, OPTION_LIST_MAX, NULL, 0, error, sizeof(error)), 0);
    list.count = 0;
    assert_int_equal(options_parse(table, 1, arguments, OPTION_LIST_MAX + 1, NULL, 0, error, sizeof(error)), -EINVAL);
    assert_non_null(strstr(error, "more than 32 times"));
}

static void asks_for_an_option_whatever_else_is_wrong(void **state)
{
    (void)state;
    char broken[] = "--frobnicate", help[] = "--help", dashes[] = "--", helper[] = "--helper";
    char *arguments[] = {broken, help};
    char *words[] = {dashes, help};
    char *longer[] = {helper};
    assert_true(options_ask(arguments, 2, "help"));
    assert_false(options_ask(words, 2, "help"));
    assert_false(options_ask(longer, 1, "help"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_values_behind_an_equals_sign_or_as_the_next_argument),
        cmocka_unit_test(the_value_of_an_option_may_look_like_an_option),
        cmocka_unit_test(refuses_an_option_that_is_given_twice),
        cmocka_unit_test(what_is_long_is_shown_by_its_beginning_and_its_end),
        cmocka_unit_test(gives_back_the_words_and_takes_all_for_words_after_two_dashes),
        cmocka_unit_test(refuses_numbers_out_of_range_and_leaves_the_value_alone),
        cmocka_unit_test(refuses_what_is_no_option_and_says_its_name_alone),
        cmocka_unit_test(a_choice_is_a_number_and_a_wrong_one_lists_them),
        cmocka_unit_test(bytes_have_suffixes_for_powers_of_1024_and_never_wrap),
        cmocka_unit_test(keeps_the_values_of_an_option_that_may_be_repeated_in_their_order),
        cmocka_unit_test(asks_for_an_option_whatever_else_is_wrong),
    };
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
