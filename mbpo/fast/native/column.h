/* Products with a single column, as the last layer of a critic has it: bound by what they read, not worth packing. */

#pragma once

#include "product.h"

static float sum_of(vec x)
{
    float sum = 0.0f;
    for (int i = 0; i < VL; i++) sum += x[i];
    return sum;
}

/* Rows i0 .. i1 of left times w (depth), plus a bias. */
static void column_forward(const Left *left, const float *w, float bias, float *out, long i0, long i1)
{
    const long whole = left->depth / (4 * VL) * (4 * VL);
    for (long i = i0; i < i1; i++) {
        const float *row = left->at + i * left->ld;
        vec sum[4] = {{0}};
        for (long p = 0; p < whole; p += 4 * VL)
            UNROLL for (int v = 0; v < 4; v++) sum[v] += *(const loose *)(row + p + v * VL) * *(const loose *)(w + p + v * VL);
        for (long p = whole; p < left->depth; p += VL)
            sum[0] += get(row + p, left->depth - p) * get(w + p, left->depth - p);
        out[i] = sum_of((sum[0] + sum[1]) + (sum[2] + sum[3])) + bias;
    }
}

/* Rows i0 .. i1 of grad (rows) times the transpose of w (columns). */
static void column_backward(const float *grad, const float *w, const Finish *f, long i0, long i1, long columns)
{
    for (long i = i0; i < i1; i++)
        for (long j = 0; j < columns; j += VL) {
            const long at = i * f->ld + j, n = columns - j;
            vec z = grad[i] * get(w + j, n);
            if (f->act == RELU_BACK) z = choose(get(f->factor + at, n) <= 0.0f, (vec){0}, z);
            if (f->act == SILU_BACK) z *= get(f->factor + at, n);
            put(f->out + at, z, n);
        }
}

INLINE void column_weights(const int vectors, const Left *from, const float *grad, float *out, long j, long n)
{
    vec sum[4] = {{0}};
    for (long p = 0; p < from->depth; p++)
        UNROLL for (int v = 0; v < vectors; v++) sum[v] += grad[p] * get(from->at + p * from->ld + j + v * VL, part(n, v, vectors));
    UNROLL for (int v = 0; v < vectors; v++) put(out + j + v * VL, sum[v], part(n, v, vectors));
}

/* Numbers i0 .. i1 of the transpose of from (depth, ...) times grad (depth), and the sum of grad unless NULL. */
static void column_weight(const Left *from, const float *grad, float *out, float *sum, long i0, long i1)
{
    long j = i0;
    for (; j + 4 * VL <= i1; j += 4 * VL) column_weights(4, from, grad, out, j, 4 * VL);
    for (; j < i1; j += VL) column_weights(1, from, grad, out, j, i1 - j);
    if (!sum) return;
    *sum = 0.0f;
    for (long p = 0; p < from->depth; p++) *sum += grad[p];
}
