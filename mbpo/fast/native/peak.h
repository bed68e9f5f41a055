/* The most arithmetic that a core does: chains of multiply-adds in registers, which read and store nothing on their way.

   A chain waits for itself and for no other, so that all units are busy once there are more chains than a unit has steps,
   times the units. Where chains begin and what they add is known at run time alone: none can be left out or joined. */

#pragma once

#include "pairs.h"

#if NATIVE_PAIRS && !defined(__AMX_BF16__) /* units for whole matrices do far more */
#define PAIRS 1
#else
#define PAIRS 0
#endif

enum { CHAINS = WIDTH == 16 ? 16 : 12 }; /* with two vectors more they fit the registers; UNROLL goes no further */

typedef struct {
    long threads, rounds;
    float one;   /* 1: every sum then counts its multiply-adds, exactly as long as they are fewer than 2^24 */
    float *sums; /* (threads, CHAINS, VL), from which the chains go on */
} Chains;

long chain_sums(void) { return CHAINS * VL; }

/* Two bf16 numbers for each of single precision. */
INLINE vec add_pairs(vec sum, ivec pairs)
{
#if PAIRS
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)pairs, (__m512bh)pairs);
#else
    return sum + (vec)pairs;
#endif
}

INLINE void go_on(const Chains *k, float *sums, const int in_pairs)
{
    const vec one = (vec){0} + k->one;
    const ivec pairs = (ivec)one | ((ivec)one >> 16);
    vec sum[CHAINS];
    UNROLL for (long i = 0; i < CHAINS; i++) sum[i] = get(sums + i * VL, VL);
    for (long round = 0; round < k->rounds; round++)
        UNROLL for (long i = 0; i < CHAINS; i++) {
            if (in_pairs)
                sum[i] = add_pairs(sum[i], pairs);
            else
                sum[i] = sum[i] * one + one;
        }
    UNROLL for (long i = 0; i < CHAINS; i++) put(sums + i * VL, sum[i], VL);
}

APART void chains_core_fp32(const Chains *k, float *sums) { go_on(k, sums, 0); }

void chains_fp32(const Chains *k)
{
#pragma omp parallel for num_threads(k->threads) if (k->threads > 1)
    for (long thread = 0; thread < k->threads; thread++) chains_core_fp32(k, k->sums + thread * CHAINS * VL);
}

#if PAIRS
APART void chains_core_bf16(const Chains *k, float *sums) { go_on(k, sums, 1); }

void chains_bf16(const Chains *k)
{
#pragma omp parallel for num_threads(k->threads) if (k->threads > 1)
    for (long thread = 0; thread < k->threads; thread++) chains_core_bf16(k, k->sums + thread * CHAINS * VL);
}
#endif
