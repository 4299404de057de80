/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "platform/linux/terminal_escape.h"

/* Type @text; what is for the guest goes to @guest, and keys as letters to @keys. */
static void type(int key, const char *text, size_t length, char *guest, char *keys)
{
    static const char letters[] = {
        [TERMINAL_NO_KEY] = '-', [TERMINAL_QUIT] = 'Q',  [TERMINAL_PAUSE] = 'S',
        [TERMINAL_POWER] = 'P',  [TERMINAL_BREAK] = 'B', [TERMINAL_HELP] = 'H',
    };
    struct terminal_escape escape = {.key = key};
    for (size_t i = 0; i < length; i++) {
        enum terminal_key asked;
        uint8_t byte;
        if (terminal_escape_typed(&escape, (uint8_t)text[i], &byte, &asked))
            *guest++ = (char)byte;
        else
            *keys++ = letters[asked];
    }
    *guest = *keys = '\0';
}

static void expect(int key, const char *text, const char *guest, const char *keys)
{
    char got_guest[64], got_keys[64];
    type(key, text, strlen(text), got_guest, got_keys);
    assert_string_equal(got_guest, guest);
    assert_string_equal(got_keys, keys);
}

static void what_is_typed_is_for_the_guest(void **state)
{
    (void)state;
    expect(TERMINAL_ESCAPE_DEFAULT, "axshpb?\x03\x1a\xff", "axshpb?\x03\x1a\xff", "");
}

static void keys_after_the_escape_are_for_who_runs_it(void **state)
{
    (void)state;
    expect(TERMINAL_ESCAPE_DEFAULT,
           "\x01x\x01s\x01p\x01"
           "b\x01h\x01?",
           "", "-Q-S-P-B-H-H");
}

static void the_escape_itself_can_be_typed_in_two_ways(void **state)
{
    (void)state;
    expect(TERMINAL_ESCAPE_DEFAULT,
           "1\x01\x01"
           "2\x01"
           "a3",
           "1\x01"
           "2\x01"
           "3",
           "--");
}

static void any_other_key_is_forgotten_with_the_escape(void **state)
{
    (void)state;
    expect(TERMINAL_ESCAPE_DEFAULT, "1\x01z2\x01X3", "123", "----");
}

static void the_escape_key_can_be_another_one(void **state)
{
    (void)state;
    expect(0x1d,
           "\x01x\x1dx\x1d\x1d\x1d"
           "a",
           "\x01x\x1d\x1d", "-Q--");
}

static void without_an_escape_key_every_byte_is_for_the_guest(void **state)
{
    char guest[300], keys[300], all[256];
    (void)state;
    for (unsigned i = 0; i < sizeof(all); i++)
        all[i] = (char)i;
    type(TERMINAL_ESCAPE_NONE, all, sizeof(all), guest, keys);
    assert_memory_equal(guest, all, sizeof(all));
    assert_string_equal(keys, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_typed_is_for_the_guest),
        cmocka_unit_test(keys_after_the_escape_are_for_who_runs_it),
        cmocka_unit_test(the_escape_itself_can_be_typed_in_two_ways),
        cmocka_unit_test(any_other_key_is_forgotten_with_the_escape),
        cmocka_unit_test(the_escape_key_can_be_another_one),
        cmocka_unit_test(without_an_escape_key_every_byte_is_for_the_guest),
    };
    return cmocka_run_group_tests_name("terminal_escape", tests, NULL, NULL);
}
