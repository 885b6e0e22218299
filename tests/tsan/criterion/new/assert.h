/* The comparisons of Criterion's new assertions; see ../criterion.h. */
#ifndef TESTS_TSAN_ASSERT_H
#define TESTS_TSAN_ASSERT_H

#include "../criterion.h"

#define eq(tag, a, b) TSAN_##tag(a, ==, b)
#define ne(tag, a, b) TSAN_##tag(a, !=, b)
#define lt(tag, a, b) TSAN_##tag(a, <, b)
#define le(tag, a, b) TSAN_##tag(a, <=, b)
#define gt(tag, a, b) TSAN_##tag(a, >, b)
#define ge(tag, a, b) TSAN_##tag(a, >=, b)
#define zero(tag, a) TSAN_##tag(a, ==, 0)
#define not(...) (!(__VA_ARGS__))

#define TSAN_AS(type, a, op, b) ((type)(a)op(type)(b))
#define TSAN_int(a, op, b) TSAN_AS(int, a, op, b)
#define TSAN_uint(a, op, b) TSAN_AS(unsigned, a, op, b)
#define TSAN_chr(a, op, b) TSAN_AS(char, a, op, b)
#define TSAN_long(a, op, b) TSAN_AS(long, a, op, b)
#define TSAN_ulong(a, op, b) TSAN_AS(unsigned long, a, op, b)
#define TSAN_llong(a, op, b) TSAN_AS(long long, a, op, b)
#define TSAN_ullong(a, op, b) TSAN_AS(unsigned long long, a, op, b)
#define TSAN_i8(a, op, b) TSAN_AS(int8_t, a, op, b)
#define TSAN_i16(a, op, b) TSAN_AS(int16_t, a, op, b)
#define TSAN_i32(a, op, b) TSAN_AS(int32_t, a, op, b)
#define TSAN_i64(a, op, b) TSAN_AS(int64_t, a, op, b)
#define TSAN_u8(a, op, b) TSAN_AS(uint8_t, a, op, b)
#define TSAN_u16(a, op, b) TSAN_AS(uint16_t, a, op, b)
#define TSAN_u32(a, op, b) TSAN_AS(uint32_t, a, op, b)
#define TSAN_u64(a, op, b) TSAN_AS(uint64_t, a, op, b)
#define TSAN_sz(a, op, b) TSAN_AS(size_t, a, op, b)
#define TSAN_ptr(a, op, b) TSAN_AS(const void *, a, op, b)
#define TSAN_flt(a, op, b) TSAN_AS(float, a, op, b)
#define TSAN_dbl(a, op, b) TSAN_AS(double, a, op, b)
#define TSAN_str(a, op, b) (strcmp((a), (b)) op 0)

#endif
