/* Criterion up to 2.4.1 takes gt(TAG, a, b) for a >= b in C, so such an assertion could not fail where it matters most. This goes
 * before every suite (tests/CMakeLists.txt). */
#ifndef TESTS_CRITERION_GREATER_H
#define TESTS_CRITERION_GREATER_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#undef CRI_BINOP_T_GT
#define CRI_BINOP_T_GT(Tag, Actual, Ref) (CRI_BINOP_LT_TAG(Tag, , Ref, Actual))

#endif
