/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "devices/cmos/cmos_time.h"

#define SECONDS_PER_DAY 86400
#define YEAR_MAX 9999u /* a century byte and a year */
#define DAYS_PER_400_YEARS 146097
#define DAYS_BEFORE_1970 719468 /* from 1 March of the year 0: counted from March, a leap day comes last */

static unsigned unsigned_min(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* The rest of a division, never negative. */
static int64_t remainder_of(int64_t value, int64_t by)
{
    int64_t rest = value % by;

    return rest < 0 ? rest + by : rest;
}

static bool is_leap_year(unsigned year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static unsigned days_of_month(unsigned month, unsigned year)
{
    static const uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return days[month - 1] + (month == 2 && is_leap_year(year) ? 1u : 0u);
}

/* Days from 1 March to the first of @month, which is counted from March as 0: 153 days in every five months. */
static unsigned days_before_month(unsigned month)
{
    return (153 * month + 2) / 5;
}

struct cmos_time cmos_time_from_seconds(int64_t seconds)
{
    unsigned second_of_day = (unsigned)remainder_of(seconds, SECONDS_PER_DAY);
    int64_t days = (seconds - second_of_day) / SECONDS_PER_DAY + DAYS_BEFORE_1970;
    unsigned day_of_era = (unsigned)remainder_of(days, DAYS_PER_400_YEARS);
    int64_t era = (days - day_of_era) / DAYS_PER_400_YEARS;
    /* Leap days that have passed are taken out; the last day of 4 and of 400 years is itself one. */
    unsigned year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / (DAYS_PER_400_YEARS - 1)) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned month = (5 * day_of_year + 2) / 153;
    bool next_year = month >= 10; /* January and February */
    int64_t year = era * 400 + year_of_era + (next_year ? 1 : 0);

    return (struct cmos_time){
        .second = second_of_day % 60,
        .minute = second_of_day / 60 % 60,
        .hour = second_of_day / 3600,
        .weekday = (unsigned)remainder_of(days + 3, 7) + 1, /* 1 March of the year 0 was a Wednesday */
        .day = day_of_year - days_before_month(month) + 1,
        .month = next_year ? month - 9 : month + 3,
        .year = (unsigned)(year < 0 ? remainder_of(year, 400) : year),
    };
}

int64_t cmos_time_to_seconds(const struct cmos_time *time)
{
    unsigned month = time->month < 1 ? 1 : unsigned_min(time->month, 12);
    unsigned day =
        time->day < 1 ? 1 : unsigned_min(time->day, days_of_month(month, unsigned_min(time->year, YEAR_MAX)));
    unsigned since_march = month >= 3 ? month - 3 : month + 9;
    int64_t year = (int64_t)unsigned_min(time->year, YEAR_MAX) - (month < 3 ? 1 : 0);
    int64_t year_of_era = remainder_of(year, 400);
    int64_t era = (year - year_of_era) / 400;
    int64_t day_of_era =
        year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + days_before_month(since_march) + day - 1;
    int64_t days = era * DAYS_PER_400_YEARS + day_of_era - DAYS_BEFORE_1970;

    return days * SECONDS_PER_DAY + (int64_t)unsigned_min(time->hour, 23) * 3600 +
           (int64_t)unsigned_min(time->minute, 59) * 60 + unsigned_min(time->second, 59);
}

uint8_t cmos_time_encode(unsigned value, bool binary)
{
    return (uint8_t)(binary ? value : value / 10 << 4 | value % 10);
}

unsigned cmos_time_decode(uint8_t byte, bool binary)
{
    return binary ? byte : (byte >> 4) * 10u + (byte & 0xf);
}

uint8_t cmos_time_encode_hour(unsigned hour, bool binary, bool has_24_hours)
{
    if (has_24_hours)
        return cmos_time_encode(hour, binary);
    return cmos_time_encode(hour % 12 == 0 ? 12 : hour % 12, binary) | (hour >= 12 ? 0x80 : 0);
}

unsigned cmos_time_decode_hour(uint8_t byte, bool binary, bool has_24_hours)
{
    if (has_24_hours)
        return cmos_time_decode(byte, binary);
    return cmos_time_decode(byte & 0x7f, binary) % 12 + (byte & 0x80 ? 12 : 0);
}

bool cmos_time_next_alarm(const struct cmos_alarm *alarm, int64_t after, int64_t *ret_second)
{
    if ((!alarm->any_hour && alarm->hour > 23) || (!alarm->any_minute && alarm->minute > 59) ||
        (!alarm->any_second && alarm->second > 59))
        return false;

    /* Each step goes to the next hour, minute or second, so there are fewer than 24 + 60 + 60 of them. */
    for (int64_t at = after + 1;;) {
        unsigned of_day = (unsigned)remainder_of(at, SECONDS_PER_DAY);

        if (!alarm->any_hour && of_day / 3600 != alarm->hour)
            at += 3600 - of_day % 3600;
        else if (!alarm->any_minute && of_day / 60 % 60 != alarm->minute)
            at += 60 - of_day % 60;
        else if (!alarm->any_second && of_day % 60 != alarm->second)
            at++;
        else {
            *ret_second = at;
            return true;
        }
    }
}
