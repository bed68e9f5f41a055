/* The actor's distribution: actions drawn from it, their log densities, and the way back to what the actor gives. */

#pragma once

#include "vectors.h"

typedef struct {
    long runs, rows, obs, action, threads;
    const float *data;         /* packed rows: obs | action | next_obs | reward | mask, `ld` apart, runs `run` apart */
    long run, ld;
    const float *noise;        /* (runs, rows, action), likewise */
    long noise_run, noise_ld;
    const float *alpha;        /* temperatures (runs) */
    float low, high;           /* bounds of log std */
    long clips;                /* it is cut off there; else it is a tanh of what the actor gives */
    float discount, scale;     /* of rewards to come, and of each critic's squared errors */
    float *first, *second;     /* what is told of each run (runs) */
} Soft;

/* The actor's distribution at a vector of actions, `n` of them: u = mean + std noise, of which the action is the tanh. */
typedef struct {
    vec log_std, share, std, u, action; /* share: derivative of log std with respect to what the actor gives */
} Drawn;

INLINE Drawn drawn(const Soft *k, const float *mean, const float *raw, vec noise, long n)
{
    const vec given = get(raw, n);
    Drawn d;
    if (k->clips) {
        d.log_std = within(given, k->low, k->high);
        d.share = choose((given < k->low) | (given > k->high), (vec){0}, (vec){0} + 1.0f);
    } else {
        const vec t = hyperbolic_tangent(given);
        d.log_std = k->low + (k->high - k->low) * 0.5f * (t + 1.0f);
        d.share = (k->high - k->low) * 0.5f * (1.0f - t) * (1.0f + t);
    }
    d.std = exponential(d.log_std);
    d.u = get(mean, n) + d.std * noise;
    d.action = hyperbolic_tangent(d.u);
    return d;
}

/* Actions of rows `out` (rows, 2 action) of one run into columns of `to`, and their log densities. */
static void draw(const Soft *k, const float *out, const float *noise, float *to, long ld, float *log_prob)
{
    const float half_log_tau = 0.91893853320467274f, log_2 = 0.69314718055994531f;
    for (long i = 0; i < k->rows; i++, out += 2 * k->action, noise += k->noise_ld, to += ld) {
        float sum = 0.0f;
        for (long j = 0; j < k->action; j += VL) {
            const long n = k->action - j;
            const vec z = get(noise + j, n);
            const Drawn d = drawn(k, out + j, out + k->action + j, z, n);
            /* log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)) */
            const vec bent = choose(d.u < 0.0f, -2.0f * d.u, (vec){0}) + log_1_plus(exponential(-2.0f * size(d.u)));
            const vec density = -0.5f * z * z - d.log_std - half_log_tau - 2.0f * (log_2 - d.u - bent);
            put(to + j, d.action, n);
            for (long v = 0; v < least(n, VL); v++) sum += density[v];
        }
        log_prob[i] = sum;
    }
}

/* In place of `out` (rows, 2 action) the gradient of a loss whose gradient is `pull` (rows, action) for the actions and
   `weight` for each log density. */
static void draw_backward(const Soft *k, float *out, const float *noise, const float *pull, float weight)
{
    for (long i = 0; i < k->rows; i++, out += 2 * k->action, noise += k->noise_ld, pull += k->action)
        for (long j = 0; j < k->action; j += VL) {
            const long n = k->action - j;
            const vec z = get(noise + j, n);
            const Drawn d = drawn(k, out + j, out + k->action + j, z, n);
            const vec of_u = get(pull + j, n) * (1.0f - d.action) * (1.0f + d.action) + 2.0f * weight * d.action;
            put(out + k->action + j, (of_u * d.std * z - weight) * d.share, n);
            put(out + j, of_u, n);
        }
}
