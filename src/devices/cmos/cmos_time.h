/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Seconds since 1970 as the date and time of the proleptic Gregorian calendar, and as a clock chip writes them. */
#ifndef DEVICES_CMOS_CMOS_TIME_H
#define DEVICES_CMOS_CMOS_TIME_H

#include "base/base.h"

struct cmos_time {
    unsigned second, minute, hour; /* from 0 */
    unsigned weekday;              /* from 1, which is Sunday */
    unsigned day, month;           /* from 1 */
    unsigned year;
};

/* A second before the year 0 is given as if 400 years, in which all repeats, had been added often enough. */
struct cmos_time cmos_time_from_seconds(int64_t seconds);
/* The weekday is not looked at. What no calendar has (32 January, 60 o'clock) is taken as near to it as there is. */
int64_t cmos_time_to_seconds(const struct cmos_time *time);

/* BCD or binary. What is no BCD is decoded digit by digit, whatever that gives. */
uint8_t cmos_time_encode(unsigned value, bool binary);
unsigned cmos_time_decode(uint8_t byte, bool binary);
/* With 12 hours: 1 to 12, and bit 7 after noon. */
uint8_t cmos_time_encode_hour(unsigned hour, bool binary, bool has_24_hours);
unsigned cmos_time_decode_hour(uint8_t byte, bool binary, bool has_24_hours);

struct cmos_alarm {
    unsigned hour, minute, second;
    bool any_hour, any_minute, any_second;
};

/* Is a byte of the alarm set to "any" (both upper bits)? */
static inline bool cmos_time_is_any(uint8_t byte)
{
    return byte >= 0xc0;
}

/* The first second after @after that @alarm names. False: there is none. */
bool cmos_time_next_alarm(const struct cmos_alarm *alarm, int64_t after, int64_t *ret_second);

#endif
