/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "devices/gicv2m/gicv2m.h"

static uint32_t raised;
static unsigned raised_count;

static void note(struct gicv2m_port *port, uint32_t interrupt)
{
    (void)port;
    raised = interrupt;
    raised_count++;
}

static const struct gicv2m_port_class port_class = {.raise = note};
static struct gicv2m_port port = {.class = &port_class};

static struct gicv2m given_a_frame(void)
{
    struct gicv2m frame;
    gicv2m_init(&frame, &port, 96, 128);
    raised_count = 0;
    return frame;
}

static void write_at(struct gicv2m *frame, uint64_t offset, unsigned size, uint64_t value)
{
    assert_int_equal(frame->device.class->write(&frame->device, offset, size, value), BUS_DONE);
}

static void says_which_interrupts_it_raises(void **state)
{
    (void)state;
    struct gicv2m frame = given_a_frame();
    uint64_t value = 0;
    frame.device.class->read(&frame.device, GICV2M_TYPER, 4, &value);
    assert_int_equal(value, 96 << 16 | 128);
}

static void raises_what_is_written(void **state)
{
    (void)state;
    struct gicv2m frame = given_a_frame();
    write_at(&frame, GICV2M_SETSPI, 4, 96);
    assert_int_equal(raised, 96);
    write_at(&frame, GICV2M_SETSPI, 4, 223);
    assert_int_equal(raised, 223);
    assert_int_equal(raised_count, 2);
}

static void raises_nothing_that_is_not_its_own(void **state)
{
    (void)state;
    struct gicv2m frame = given_a_frame();
    static const uint64_t others[] = {0, 95, 224, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        write_at(&frame, GICV2M_SETSPI, 4, others[i]);
    write_at(&frame, GICV2M_SETSPI, 2, 96);
    write_at(&frame, GICV2M_TYPER, 4, 96);
    assert_int_equal(raised_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_which_interrupts_it_raises),
        cmocka_unit_test(raises_what_is_written),
        cmocka_unit_test(raises_nothing_that_is_not_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
