/* Factors of products in bf16: two neighbouring numbers of a sum, rounded, lie in the place of one of single precision.

   An instruction adds both products of a pair to a sum in single precision, the second first. Where there is none the
   same is done in single precision: a product of two rounded numbers is exact there, so no bit differs. */

#pragma once

#include "vectors.h"

#if WIDTH == 16 && defined(__AVX512BF16__)
#include <immintrin.h>
#define NATIVE_PAIRS 1
#else
#define NATIVE_PAIRS 0
#endif

typedef unsigned uvec __attribute__((vector_size(4 * VL), may_alias));
typedef int word __attribute__((may_alias)); /* of memory, whatever it holds */

/* x rounded to bf16, ties to even, in the upper halves; what is no number stays none. */
INLINE ivec rounded(vec x)
{
    const uvec bits = (uvec)x;
    const ivec near = (ivec)(bits + 0x7fff + (bits >> 16 & 1)), none = (ivec)(bits | 0x400000);
    return (ivec)choose(x == x, (vec)near, (vec)none);
}

/* In each lane a pair: lower half and upper half. */
INLINE vec pair(vec first, vec second)
{
#if NATIVE_PAIRS
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)first));
    const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)second));
    return (vec)_mm512_or_si512(low, _mm512_slli_epi32(high, 16));
#else
    return (vec)((ivec)((uvec)rounded(first) >> 16) | (rounded(second) & (int)0xffff0000));
#endif
}

/* sum + both products of a pair at `a` and of the pairs b. */
INLINE vec add_pair(vec sum, const float *a, vec b)
{
    const ivec same = (ivec){0} + *(const word *)a;
#if NATIVE_PAIRS
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)same, (__m512bh)b);
#else
    sum += (vec)(same & (int)0xffff0000) * (vec)((ivec)b & (int)0xffff0000);
    return sum + (vec)(same << 16) * (vec)((ivec)b << 16);
#endif
}

/* Numbers of a sum, or pairs of them. */
static long steps(long depth, int pairs) { return pairs ? (depth + 1) / 2 : depth; }

/* Even and odd numbers of the 2 VL from p on, of which there are n; beyond them are zeros. */
INLINE vec pairs_of_row(const float *p, long n)
{
#if NATIVE_PAIRS
    const __m512 low = (__m512)get(p, n), high = n > VL ? (__m512)get(p + VL, n - VL) : _mm512_setzero_ps();
    return (vec)(__m512i)_mm512_cvtne2ps_pbh(high, low);
#else
    float near[2 * VL] = {0};
    memcpy(near, p, 4 * least(n, 2 * VL));
    vec even, odd;
    UNROLL for (int i = 0; i < VL; i++) even[i] = near[2 * i], odd[i] = near[2 * i + 1];
    return pair(even, odd);
#endif
}

/* Neighbours of each row of from (rows, depth) as pairs: to (rows, steps). */
static void pair_rows(const float *from, long ld, long rows, long depth, float *to)
{
    const long all = steps(depth, 1);
    for (long i = 0; i < rows; i++, from += ld, to += all)
        for (long p = 0; p < all; p += VL) put(to + p, pairs_of_row(from + 2 * p, depth - 2 * p), all - p);
}

/* Rows 2 p and 2 p + 1 of from (depth, columns) as pairs: to (steps, columns). */
static void pair_columns(const float *from, long ld, long depth, long columns, float *to)
{
    for (long p = 0; p < depth; p += 2, from += 2 * ld, to += columns)
        for (long j = 0; j < columns; j += VL) {
            const vec first = get(from + j, columns - j);
            put(to + j, pair(first, p + 1 < depth ? get(from + ld + j, columns - j) : (vec){0}), columns - j);
        }
}
