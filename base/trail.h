/* Statuses and the trail: how a failing call says what went wrong. See cuelight/error.h for the contract. */
#ifndef BASE_TRAIL_H
#define BASE_TRAIL_H

#include <cuelight/error.h>

/* Starts this thread's trail with a text and returns `status`. */
int trail(int status, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* The same with errno's text behind it; ENOSPC, EACCES, … choose the status. */
int trail_errno(const char *format, ...) __attribute__((format(printf, 1, 2), cold));

/* Adds "in <call>" to the trail; returns `status`. For callers that know more than the place where it failed. */
int trail_in(int status, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

#endif
