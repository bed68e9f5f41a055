/* Vectors of single precision, as long as the processor's, and functions of them. */

#pragma once

#include <stdlib.h>
#include <string.h>

#ifndef WIDTH /* numbers of a vector: the processor's, unless a test asks for another */
#if defined(__AVX512F__)
#define WIDTH 16
#elif defined(__AVX__)
#define WIDTH 8
#else
#define WIDTH 4
#endif
#endif
enum { VL = WIDTH };

typedef float vec __attribute__((vector_size(4 * VL), may_alias));
typedef int ivec __attribute__((vector_size(4 * VL), may_alias));
typedef float loose __attribute__((vector_size(4 * VL), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))
#define APART static __attribute__((noinline))
#define UNROLL _Pragma("GCC unroll 16")

INLINE long least(long a, long b) { return a < b ? a : b; }

INLINE vec choose(ivec which, vec yes, vec no) { return (vec)(((ivec)yes & which) | ((ivec)no & ~which)); }

/* x within bounds; what is no number stays. */
#if WIDTH == 8 && defined(__AVX__)
INLINE vec within(vec x, float low, float high)
{
    return __builtin_ia32_maxps256((vec){0} + low, __builtin_ia32_minps256((vec){0} + high, x));
}
#else
INLINE vec within(vec x, float low, float high)
{
    x = choose(x > high, (vec){0} + high, x);
    return choose(x < low, (vec){0} + low, x);
}
#endif

/* The first n numbers, if there are fewer than a vector's; the rest is zero, or left alone. */
INLINE vec get(const float *p, long n)
{
    vec x = {0};
    if (n >= VL) return *(const loose *)p;
    memcpy(&x, p, 4 * n);
    return x;
}

INLINE void put(float *p, vec x, long n)
{
    if (n >= VL)
        *(loose *)p = x;
    else
        memcpy(p, &x, 4 * n);
}

/* exp(x) for |x| below 87 and that bound beyond: 2^n e^r, n whole and |r| <= log(2) / 2, by a polynomial that errs by
   less than it rounds. Every product has one use, so the compiler joins it with the same sum wherever this is inlined. */
INLINE vec exponential(vec x)
{
    const float magic = 12582912.0f, per_nat = 1.44269504088896341f, nat = 0.693147180559945309f;
    x = within(x, -87.0f, 87.0f);
    const vec shifted = x * per_nat + magic; /* which rounds to whole numbers */
    const vec r = x - (shifted - magic) * nat;
    vec y = r * 1.384364441e-03f + 8.374162950e-03f;
    y = y * r + 4.166800156e-02f;
    y = y * r + 1.666643173e-01f;
    y = y * r + 4.999999404e-01f;
    y = y * r + 1.000000000e+00f;
    y = y * r + 1.0f;
    return (vec)((ivec)y + ((ivec)shifted << 23));
}

INLINE vec size(vec x) { return (vec)((ivec)x & 0x7fffffff); }

/* tanh(x), to 1e-7 of itself: near zero by its series. */
INLINE vec hyperbolic_tangent(vec x)
{
    const vec square = x * x, e = exponential(-2.0f * size(x)), far = (1.0f - e) / (1.0f + e);
    vec near = square * (62.0f / 2835.0f) - 17.0f / 315.0f;
    near = near * square + 2.0f / 15.0f;
    near = near * square - 1.0f / 3.0f;
    near = near * square * x + x;
    const vec y = (vec)((ivec)far | ((ivec)x & (int)0x80000000));
    return choose(x == x, choose(square < 0.04f, near, y), x);
}

/* log(1 + x) for x from 0 to 1: twice the area tangent of x / (2 + x), by its series. */
INLINE vec log_1_plus(vec x)
{
    const vec t = x / (2.0f + x), square = t * t;
    vec y = square * (1.0f / 15.0f) + 1.0f / 13.0f;
    y = y * square + 1.0f / 11.0f;
    y = y * square + 1.0f / 9.0f;
    y = y * square + 1.0f / 7.0f;
    y = y * square + 1.0f / 5.0f;
    y = y * square + 1.0f / 3.0f;
    return 2.0f * t * (y * square + 1.0f);
}
